//! The key vault of a real node: made, locked, unlocked, changed.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use support::{Node, text};

fn methods(value: &serde_json::Value) -> Vec<&str> {
    value["methods"].as_array().unwrap().iter().map(|method| method.as_str().unwrap()).collect()
}

#[test]
fn init_makes_a_vault_under_a_passphrase_once() {
    let node = Node::new();
    let (kind, message, _) = node.error_with(2, b"\n", &["init", "--passphrase"]);
    assert_eq!((kind.as_str(), message.as_str()), ("usage", "no secret was given"));
    assert!(!node.dir().join("vault.key").exists());

    let made = node.value_with(b"correct horse\n", &["init", "--passphrase"]);
    assert_eq!(methods(&made), ["passphrase"]);
    assert!(!text(&made, "peer_id").is_empty());
    assert!(!node.dir().join("vault.key").exists());
    assert!(node.files_with(b"correct horse").is_empty());
    assert_eq!(node.value(&["status"])["locked"], true);

    let (kind, message, hint) = node.error_with(4, b"other\n", &["init", "--passphrase"]);
    assert_eq!(kind, "refused");
    assert!(message.contains(&node.dir().display().to_string()) && hint.contains("passphrase change"), "{message}");
}

#[test]
fn locked_daemon_syncs_and_refuses_only_what_needs_keys() {
    let mut node = Node::new();
    node.value_with(b"correct horse\n", &["init", "--passphrase"]);
    let (_, _, hint) = node.error_with(1, b"correct horse\n", &["unlock"]);
    assert!(hint.contains("walytis daemon"), "{hint}");

    node.start(&[]);
    assert_eq!(node.value(&["status"])["locked"], true);
    let (kind, _, hint) = node.error(4, &["chain", "create", "notes"]);
    assert_eq!(kind, "locked");
    assert!(hint.contains("walytis unlock"), "{hint}");
    let (kind, message, _) = node.error_with(4, b"battery staple\n", &["unlock"]);
    assert_eq!((kind.as_str(), message.as_str()), ("locked", "this does not unlock the vault"));

    assert_eq!(node.value_with(b"correct horse\n", &["unlock"])["locked"], false);
    node.value(&["chain", "create", "notes"]);
    let block = node.value_with(b"first", &["chain", "add", "notes"]);
    node.value(&["identity", "create", "team"]);
    let private = node.value_with(b"private", &["offchain", "add", "team"]);

    assert_eq!(node.value(&["lock"])["locked"], true);
    node.error_with(4, b"second", &["chain", "add", "notes"]);
    node.error_with(4, b"second", &["offchain", "add", "team"]);
    node.error(4, &["identity", "create", "other"]);
    // What needs no keys goes on.
    assert_eq!(node.value(&["chain", "log", "notes"])["id"], block["id"]);
    assert_eq!(node.run(&["chain", "cat", "notes", &text(&block, "id")]).stdout, b"first");

    node.value_with(b"correct horse\n", &["unlock"]);
    node.value_with(b"second", &["chain", "add", "notes"]);
    node.value_with(b"second", &["offchain", "add", "team"]);
    assert_eq!(node.lines(&["offchain", "log", "team"]).len(), 2);
    assert_eq!(node.stop(), Some(0));

    // A daemon that starts locked: nothing private is read until it is unlocked, and then all of it.
    node.start(&[]);
    node.error_with(4, b"third", &["offchain", "add", "team"]);
    let refused = node.run(&["offchain", "cat", "team", &text(&private, "id")]);
    assert_eq!((refused.status.code(), refused.stdout), (Some(4), vec![]));
    node.value_with(b"correct horse\n", &["unlock"]);
    node.value_with(b"third", &["offchain", "add", "team"]);
    node.value_with(b"third", &["chain", "add", "notes"]);
    let blocks = node.until("all private blocks are readable", |node| {
        let blocks = node.lines(&["offchain", "log", "team"]);
        (blocks.len() == 3 && blocks.iter().all(|block| block["state"] == "available")).then_some(blocks)
    });
    assert_eq!(node.run(&["offchain", "cat", "team", &text(&blocks[0], "id")]).stdout, b"private");
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn passphrase_takes_the_place_of_the_key_file_and_a_code_opens_when_it_is_forgotten() {
    let mut node = Node::started();
    node.value(&["chain", "create", "notes"]);
    let code = text(&node.value(&["passphrase", "recovery-code"]), "recovery_code");
    assert!(code.starts_with("walytisvault1"));
    assert!(node.files_with(code.as_bytes()).is_empty());

    let kept = node.value_with(b"one\n", &["passphrase", "change", "--keep-key-file"]);
    assert_eq!(methods(&kept), ["key_file", "passphrase", "recovery_code"]);
    assert!(node.dir().join("vault.key").exists());
    let changed = node.value_with(b"two\n", &["passphrase", "change"]);
    assert_eq!(methods(&changed), ["passphrase", "recovery_code"]);
    assert!(!node.dir().join("vault.key").exists());
    assert_eq!(changed["locked"], false, "a change does not lock");
    assert_eq!(node.stop(), Some(0));

    // Without a daemon: the old passphrase first, then the new one.
    let (kind, _, _) = node.error_with(4, b"one\nthree\n", &["passphrase", "change"]);
    assert_eq!(kind, "locked");
    node.value_with(b"two\nthree\n", &["passphrase", "change"]);
    let (_, message, _) = node.error_with(2, b"walytisvault1abc\nfour\n", &["passphrase", "change", "--recovery-code"]);
    assert_eq!(message, "this is no recovery code of a vault");
    let proof = format!("{code}\nfour\n");
    node.value_with(proof.as_bytes(), &["passphrase", "change", "--recovery-code"]);

    node.start(&[]);
    assert_eq!(node.value_with(code.as_bytes(), &["unlock", "--recovery-code"])["locked"], false);
    node.value(&["lock"]);
    node.error_with(4, b"three\n", &["unlock"]);
    node.value_with(b"four\n", &["unlock"]);
    node.value_with(b"still here", &["chain", "add", "notes"]);
}
