//! Dependencies between the crates of the workspace point downward only, and what is heavy is named in one place:
//! read from `cargo metadata`, normal and build dependencies.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// What each crate may depend on; all other crates of the workspace it must not.
const ARROWS: [(&str, &[&str]); 8] = [
    ("walytis-core", &[]),
    ("walytis-crypto", &["walytis-core"]),
    ("walytis-identities", &["walytis-core", "walytis-crypto"]),
    ("walytis-offchain", &["walytis-core", "walytis-identities"]),
    ("walytis-mutability", &["walytis-core"]),
    ("walytis-ipfs", &["walytis-core"]),
    ("walytis", &["walytis-core", "walytis-identities", "walytis-offchain", "walytis-mutability", "walytis-ipfs"]),
    ("test-harness", &["walytis-core", "walytis-identities", "walytis-offchain", "walytis-mutability", "walytis-ipfs"]),
];

#[derive(Debug)]
struct Dependency {
    name: String,
    optional: bool,
    dev: bool,
    features: Vec<String>,
}

#[derive(Debug)]
struct Package {
    dependencies: Vec<Dependency>,
    features: BTreeMap<String, Vec<String>>,
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn workspace() -> BTreeMap<String, Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version=1", "--manifest-path", manifest])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let dependency = |value: &Value| Dependency {
        name: value["name"].as_str().unwrap().to_owned(),
        optional: value["optional"].as_bool().unwrap(),
        dev: value["kind"] == "dev",
        features: texts(&value["features"]),
    };
    let package = |value: &Value| {
        let features = value["features"].as_object().unwrap().iter();
        let package = Package {
            dependencies: value["dependencies"].as_array().unwrap().iter().map(dependency).collect(),
            features: features.map(|(name, enables)| (name.clone(), texts(enables))).collect(),
        };
        (value["name"].as_str().unwrap().to_owned(), package)
    };
    metadata["packages"].as_array().unwrap().iter().map(package).collect()
}

/// Returns the crates that name one beginning with `prefix` as a normal or build dependency.
fn naming(prefix: &str) -> BTreeSet<String> {
    let names = |package: &Package| package.dependencies.iter().any(|d| !d.dev && d.name.starts_with(prefix));
    workspace().into_iter().filter(|(_, package)| names(package)).map(|(name, _)| name).collect()
}

#[test]
fn crates_depend_downward_only() {
    let workspace = workspace();
    assert!(workspace.len() >= 6, "{:?}", workspace.keys());
    let arrows = BTreeMap::from(ARROWS);
    for (name, package) in &workspace {
        let Some(allowed) = arrows.get(name.as_str()) else { panic!("{name} has no place among the layers") };
        for dependency in package.dependencies.iter().filter(|d| !d.dev && arrows.contains_key(d.name.as_str())) {
            assert!(allowed.contains(&dependency.name.as_str()), "{name} must not depend on {}", dependency.name);
        }
    }
}

#[test]
fn only_the_network_crate_names_libp2p() {
    assert_eq!(naming("libp2p"), BTreeSet::from(["walytis-ipfs".to_owned()]));
}

#[test]
fn identities_reach_primitives_through_the_provider_only() {
    for prefix in ["argon2", "hpke", "ml-dsa", "ml-kem", "x-wing", "x25519"] {
        let expected: &[&str] = if ["ml-kem", "x25519"].contains(&prefix) { &[] } else { &["walytis-crypto"] };
        assert_eq!(naming(prefix), expected.iter().map(|&name| name.to_owned()).collect(), "{prefix}");
    }
    for prefix in ["chacha20poly1305", "ed25519", "hkdf", "hmac", "sha2"] {
        assert!(!naming(prefix).contains("walytis-identities"), "{prefix}");
    }
}

#[test]
fn only_core_names_rocksdb_and_not_by_default() {
    assert_eq!(naming("rocksdb"), BTreeSet::from(["walytis-core".to_owned()]));
    let workspace = workspace();
    let core = &workspace["walytis-core"];
    assert!(core.dependencies.iter().filter(|d| d.name == "rocksdb").all(|d| d.optional));
    // What the default features enable, however many steps away.
    let mut enabled = vec!["default".to_owned()];
    let mut seen = BTreeSet::new();
    while let Some(feature) = enabled.pop() {
        assert!(!["rocksdb", "dep:rocksdb"].contains(&feature.as_str()), "a default feature enables RocksDB");
        if seen.insert(feature.clone()) {
            enabled.extend(core.features.get(&feature).cloned().unwrap_or_default());
        }
    }
    // Of the layers only the program turns it on.
    let turns_on = |package: &Package| {
        let by_dependency = package.dependencies.iter().any(|d| !d.dev && d.features.contains(&"rocksdb".to_owned()));
        by_dependency || package.features.values().flatten().any(|enables| enables == "walytis-core/rocksdb")
    };
    for (name, package) in &workspace {
        let may = ["walytis", "test-harness"].contains(&name.as_str());
        assert!(may || !turns_on(package), "{name} turns RocksDB on");
    }
    assert!(!workspace["test-harness"].features["default"].contains(&"rocksdb".to_owned()));
}

#[test]
fn the_harness_is_a_dev_dependency_only() {
    assert_eq!(naming("test-harness"), BTreeSet::new());
}
