//! `doctor`: what is well, what is not, and that nothing is changed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test helpers")]

mod support;

use support::{Node, text};

fn bad(report: &serde_json::Value) -> Vec<String> {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().filter(|check| check["ok"] == false).map(|check| text(check, "what")).collect()
}

fn doctor(node: &Node, code: i32) -> serde_json::Value {
    #[cfg(unix)]
    {
        // The folder of a test is made by the test, and may be open to others.
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(node.dir(), std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    let output = node.run(&["--json", "doctor"]);
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_healthy_folder_is_healthy_with_and_without_a_daemon() {
    let mut a = Node::started();
    a.value(&["chain", "create", "notes"]);
    assert_eq!(doctor(&a, 0)["healthy"], true);
    assert_eq!(a.stop(), Some(0));
    let report = doctor(&a, 0);
    let whats: Vec<String> = report["checks"].as_array().unwrap().iter().map(|check| text(check, "what")).collect();
    for what in ["disk", "daemon", "store", "chain notes"] {
        assert!(whats.iter().any(|found| found == what), "{what} in {whats:?}");
    }
    let output = a.run(&["doctor"]);
    assert!(String::from_utf8(output.stdout).unwrap().contains("ok   chain notes: 1 blocks"));
}

#[cfg(unix)]
#[test]
fn open_key_files_and_broken_stores_are_named_with_what_to_do() {
    use std::os::unix::fs::PermissionsExt as _;
    let a = Node::new();
    a.value(&["chain", "create", "notes"]);
    let key = a.dir().join("node.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let report = doctor(&a, 1);
    assert_eq!(bad(&report), [key.display().to_string()]);
    let hint = report["checks"].as_array().unwrap().iter().find(|check| check["ok"] == false).unwrap()["hint"].clone();
    assert!(hint.as_str().unwrap().starts_with("chmod 600"), "{hint}");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(a.dir().join("store").join("CURRENT"), "MANIFEST-999999\n").unwrap();
    assert_eq!(bad(&doctor(&a, 1)), ["store"]);
}
