//! Chains as files, through the program.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test helpers")]

mod support;

use support::{Node, text};

#[test]
fn a_chain_goes_out_as_a_file_and_comes_back_elsewhere() {
    let (a, b) = (Node::started(), Node::new());
    a.value(&["chain", "create", "notes"]);
    let content: Vec<u8> = (0..300_000u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let id = text(&a.value_with(&content, &["chain", "add", "notes", "--topic", "t"]), "id");
    let path = a.dir().join("notes.car");
    let file = path.to_str().unwrap();
    let done = a.value(&["chain", "export", "notes", file]);
    assert_eq!((&done["blocks"], &done["contents"], &done["missing_contents"]), (&2.into(), &1.into(), &0.into()));
    assert_eq!(done["size"], path.metadata().unwrap().len());
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions()) & 0o777, 0o600);
    // An existing file is not touched, unless that is asked for.
    let (kind, message, hint) = a.error(4, &["chain", "export", "notes", file]);
    assert!(kind == "refused" && message.contains("exists") && hint.contains("--force"));
    a.value(&["chain", "export", "notes", file, "--force"]);
    let raw = a.run(&["chain", "export", "notes", "-"]);
    assert_eq!(raw.stdout, std::fs::read(&path).unwrap());
    let leftovers: Vec<_> = a.files().into_iter().filter(|path| path.to_string_lossy().contains(".part")).collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");

    // Without a daemon, from standard input, for reading.
    let done = b.value_with(&raw.stdout, &["chain", "import", "-", "--name", "copy"]);
    assert_eq!((&done["blocks"], &done["new_blocks"], &done["access"]), (&2.into(), &2.into(), &false.into()));
    assert_eq!(b.run(&["chain", "cat", "copy", &id]).stdout, content);
    let (kind, message, _) = b.error_with(4, b"x", &["chain", "add", "copy"]);
    assert!(kind == "refused" && message.contains("reading"), "{message}");
    let (kind, ..) = b.error(4, &["chain", "export", "copy", file, "--with-access", "--force"]);
    assert_eq!(kind, "refused");

    // With access it is a chain like any other.
    a.value(&["chain", "export", "notes", file, "--force", "--with-access"]);
    let done = b.value(&["chain", "import", file]);
    assert_eq!((&done["merged"], &done["name"], &done["access"]), (&true.into(), &"copy".into(), &true.into()));
    b.value_with(b"x", &["chain", "add", "copy"]);
}

#[test]
fn damaged_foreign_and_missing_files_are_refused_and_leave_nothing() {
    let a = Node::new();
    a.value(&["chain", "create", "notes"]);
    a.value_with(b"one", &["chain", "add", "notes"]);
    let file = a.run(&["chain", "export", "notes", "-"]).stdout;
    a.value(&["chain", "delete", "notes"]);
    let (kind, message, _) = a.error_with(4, &file[..file.len() - 5], &["chain", "import", "-"]);
    assert!(kind == "refused" && message.contains("cut off"), "{message}");
    let mut flipped = file.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    let (_, message, _) = a.error_with(4, &flipped, &["chain", "import", "-"]);
    assert!(message.contains("section 3") && message.contains("digest"), "{message}");
    let (_, message, _) = a.error_with(4, b"hello", &["chain", "import", "-"]);
    assert!(message.contains("no export of a chain"), "{message}");
    a.error(3, &["chain", "import", "/nowhere/at/all"]);
    a.error(3, &["chain", "export", "nothing", "/nowhere"]);
    assert!(a.lines(&["chain", "list"]).is_empty());
    let (kind, ..) = a.error(2, &["chain", "export", "notes", "-"]);
    assert_eq!(kind, "usage");
}
