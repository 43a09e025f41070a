//! A whole node in one sealed file, and back: between real processes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use support::{Node, text};

const PASSPHRASE: &[u8] = b"correct horse battery\n";

fn backup(node: &Node, file: &Path) -> serde_json::Value {
    node.value_with(PASSPHRASE, &["backup", file.to_str().unwrap()])
}

#[test]
fn a_node_is_restored_with_keys_chains_identities_and_contents() {
    let (mut a, b) = (Node::started(), Node::started());
    a.value(&["chain", "create", "notes"]);
    let note = text(&a.value_with(b"a note", &["chain", "add", "notes"]), "id");
    a.value(&["identity", "create", "family", "--device", "laptop"]);
    let secret = text(&a.value_with(b"under the third stone", &["offchain", "add", "family"]), "id");
    let large: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let file = text(&a.value_with(&large, &["offchain", "add", "family"]), "id");
    let token = text(&a.value(&["identity", "invite", "family"]), "invitation");
    b.value(&["identity", "join", &token, "--name", "family"]);
    let peer = a.ready["peer_id"].clone();

    // While it runs; nothing readable is in the file.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.backup");
    let made = backup(&a, &path);
    assert_eq!(made["size"], std::fs::metadata(&path).unwrap().len());
    assert!(made["entries"].as_u64().unwrap() > 10 && made["contents"].as_u64().unwrap() >= 1);
    let bytes = std::fs::read(&path).unwrap();
    for plain in [&b"a note"[..], b"third stone", b"family", b"walytis-key1", b"laptop"] {
        assert!(!bytes.windows(plain.len()).any(|at| at == plain), "{}", String::from_utf8_lossy(plain));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
    }
    a.error_with(4, PASSPHRASE, &["backup", path.to_str().unwrap()]);
    a.value_with(PASSPHRASE, &["backup", "--force", path.to_str().unwrap()]);
    // What comes later is not in it, and others keep it.
    let later = text(&a.value_with(b"after the backup", &["offchain", "add", "family"]), "id");
    b.until("the later one is at b", |b| {
        b.lines(&["offchain", "log", "family"])
            .iter()
            .any(|one| one["id"] == *later && one["state"] == "available")
            .then_some(())
    });
    assert_eq!(a.stop(), Some(0));

    let mut again = Node::at(&folder.path().join("restored"));
    let restored = again.value_with(PASSPHRASE, &["restore", path.to_str().unwrap()]);
    assert_eq!((&restored["entries"], &restored["contents"]), (&made["entries"], &made["contents"]));
    again.start(&[]);
    assert_eq!(again.ready["peer_id"], peer, "it is the same node");
    assert_eq!(again.run(&["chain", "cat", "notes", &note]).stdout, b"a note");
    assert_eq!(again.run(&["offchain", "cat", "family", &secret]).stdout, b"under the third stone");
    assert_eq!(again.run(&["offchain", "cat", "family", &file]).stdout, large);
    assert_eq!(again.value(&["identity", "show", "family"])["role"], "admin");
    // It goes on, and gets back what it had done after the backup.
    again.value(&["peers", "connect", b.ready["listen"][0].as_str().unwrap()]);
    again.until("the later one comes back", |node| {
        node.lines(&["offchain", "log", "family"])
            .iter()
            .any(|one| one["id"] == *later && one["state"] == "available")
            .then_some(())
    });
    let new = text(&again.value_with(b"new", &["offchain", "add", "family"]), "id");
    b.until("b has what the restored node wrote", |b| {
        b.lines(&["offchain", "log", "family"])
            .iter()
            .any(|one| one["id"] == *new && one["state"] == "available")
            .then_some(())
    });
}

#[test]
fn wrong_passphrases_and_damaged_files_are_refused_and_leave_nothing() {
    let a = Node::new();
    a.value(&["chain", "create", "notes"]);
    a.value_with(b"a note", &["chain", "add", "notes"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.backup");
    backup(&a, &path);
    let good = std::fs::read(&path).unwrap();
    let target = folder.path().join("restored");
    let node = Node::at(&target);
    let restore = |code: i32, input: &[u8]| {
        let error = node.error_with(code, input, &["restore", path.to_str().unwrap()]);
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["node.backup"], "nothing is left behind");
        error
    };
    let (kind, message, _) = restore(4, b"wrong\n");
    assert_eq!((kind.as_str(), message.contains("does not open")), ("refused", true), "{message}");
    restore(2, b"\n");
    // Cut off anywhere, one byte changed anywhere, something behind the end.
    let mut bad: Vec<Vec<u8>> = [0, 50, 92, 95, good.len() / 2, good.len() - 1].map(|end| good[..end].to_vec()).into();
    bad.push([&good[..], b"x"].concat());
    bad.push([&good[..], &good[92..]].concat());
    for at in [93, 200, good.len() / 2, good.len() - 1] {
        let mut changed = good.clone();
        changed[at] ^= 1;
        bad.push(changed);
    }
    for bytes in bad {
        std::fs::write(&path, &bytes).unwrap();
        let code = if bytes.len() < 92 { 2 } else { 4 };
        let (_, message, _) = restore(code, PASSPHRASE);
        assert!(message.contains("damaged") || code == 2, "{message}");
    }
    std::fs::write(
        &path,
        b"walytis-backup1\n nothing of the kind, but long enough to be a header of one, as far as that goes",
    )
    .unwrap();
    restore(4, PASSPHRASE);
    std::fs::write(&path, &good).unwrap();
    let seen = node.value_with(PASSPHRASE, &["restore", "--check", path.to_str().unwrap()]);
    assert!(seen.get("data_dir").is_none() && !target.exists(), "only looked at");
    node.error_with(3, PASSPHRASE, &["restore", folder.path().join("none").to_str().unwrap()]);
    // A folder that holds anything is not touched.
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("mine"), b"mine").unwrap();
    let (_, message, hint) = node.error_with(4, PASSPHRASE, &["restore", path.to_str().unwrap()]);
    assert!(message.contains("not empty") && hint.contains("--data-dir"), "{message}");
    assert_eq!(std::fs::read(target.join("mine")).unwrap(), b"mine");
    std::fs::remove_file(target.join("mine")).unwrap();
    node.value_with(PASSPHRASE, &["restore", path.to_str().unwrap()]);
    assert_eq!(node.lines(&["chain", "log", "notes"]).len(), 2);
    // A running or existing node is none of a restore's business.
    node.error_with(4, PASSPHRASE, &["restore", path.to_str().unwrap()]);
}

/// A vault with a passphrase stays what it was: the backup's passphrase does not open it.
#[test]
fn a_locked_node_is_saved_and_comes_back_locked() {
    let a = Node::new();
    a.value_with(b"vault passphrase\n", &["init", "--passphrase"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.backup");
    backup(&a, &path);
    let mut again = Node::at(&folder.path().join("restored"));
    again.value_with(PASSPHRASE, &["restore", path.to_str().unwrap()]);
    again.start(&[]);
    assert_eq!(again.value(&["status"])["locked"], true);
    again.error_with(4, PASSPHRASE, &["unlock"]);
    assert_eq!(again.value_with(b"vault passphrase\n", &["unlock"])["locked"], false);
}
