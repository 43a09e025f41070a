//! Only the provider names crates that compute cryptography.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

const PRIMITIVES: [&str; 9] =
    ["argon2::", "chacha20poly1305::", "ed25519_dalek", "hkdf::", "hpke::", "ml_dsa::", "ml_kem", "sha2::", "x_wing"];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

fn names_a_primitive(source: &str) -> Option<&str> {
    source.lines().map(str::trim_start).filter(|line| !line.starts_with("//")).find(|line| {
        let used = line.strip_prefix("use ").or_else(|| line.strip_prefix("pub use ")).unwrap_or(line);
        let inline = |name: &&str| line.contains(&format!(" {name}")) || line.contains(&format!("({name}"));
        PRIMITIVES.iter().any(|name| used.starts_with(name) || (name.ends_with("::") && inline(name)))
    })
}

#[test]
fn only_the_provider_names_a_crate_of_primitives() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let provider = root.join("crypto/provider");
    let (mut inside, mut outside) = (0, vec![]);
    for path in sources(&root) {
        let source = fs::read_to_string(&path).unwrap();
        match names_a_primitive(&source) {
            Some(_) if path.starts_with(&provider) => inside += 1,
            Some(line) => outside.push(format!("{}: {line}", path.display())),
            None => {}
        }
    }
    assert!(inside > 0, "the search finds nothing at all");
    assert!(outside.is_empty(), "{outside:#?}");
}
