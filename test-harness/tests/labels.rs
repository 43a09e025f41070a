//! Labels separate the uses of hashes, signatures and keys: each stands in one place of the whole workspace.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const CRATES: [&str; 7] = [
    "walytis-core",
    "walytis-crypto",
    "walytis-identities",
    "walytis-offchain",
    "walytis-mutability",
    "walytis-ipfs",
    "walytis",
];

fn sources(folder: PathBuf) -> Vec<PathBuf> {
    let (mut found, mut folders) = (vec![], vec![folder]);
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// Returns every text literal of the form `walytis/…/v<digits>`.
fn labels(source: &str) -> Vec<String> {
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let literals = code.flat_map(|line| line.split('"').skip(1).step_by(2));
    let versioned = |text: &str| {
        let version = text.trim_end_matches("\\0").rsplit("/v").next().unwrap_or_default();
        !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit())
    };
    literals.filter(|text| text.starts_with("walytis/") && versioned(text)).map(str::to_owned).collect()
}

#[test]
fn no_label_stands_in_two_places_and_none_begins_another() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in CRATES.iter().flat_map(|name| sources(root.join(name).join("src"))) {
        for label in labels(&fs::read_to_string(&path).unwrap()) {
            found.entry(label).or_default().push(path.display().to_string());
        }
    }
    assert!(found.len() > 50, "only {} labels found", found.len());
    let twice: Vec<_> = found.iter().filter(|(_, places)| places.len() > 1).collect();
    assert!(twice.is_empty(), "{twice:#?}");
    for (one, other) in found.keys().zip(found.keys().skip(1)) {
        assert!(!other.starts_with(one), "{one} begins {other}");
    }
}
