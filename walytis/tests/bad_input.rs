//! Bad input: a clear error that says what to do, the right exit code, nothing lost.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::io::{Read as _, Write as _};
use std::process::Stdio;

use support::{Node, text};

#[test]
fn unknown_and_ambiguous_names_are_said_so() {
    let node = Node::started();
    let (kind, message, hint) = node.error(3, &["chain", "show", "nowhere"]);
    assert_eq!(kind, "not_found");
    assert!(message.contains("nowhere") && !hint.is_empty(), "{message} {hint}");
    node.value(&["chain", "create", "notes-a"]);
    node.value(&["chain", "create", "notes-b"]);
    let (kind, message, _) = node.error(2, &["chain", "show", "notes"]);
    assert_eq!(kind, "usage");
    assert!(message.contains("ambiguous"), "{message}");
    assert_eq!(text(&node.value(&["chain", "show", "notes-a"]), "name"), "notes-a");
    node.error(3, &["identity", "show", "nobody"]);
    node.error(3, &["offchain", "log", "nobody"]);
}

#[test]
fn names_and_topics_that_cannot_be_are_refused_and_leave_nothing() {
    let node = Node::started();
    node.value(&["chain", "create", "notes"]);
    node.error(2, &["chain", "create", "notes"]);
    node.error(2, &["chain", "create", ""]);
    for topic in ["walytis.identity", "", "a\u{1}b"] {
        node.error_with(2, b"x", &["chain", "add", "notes", "--topic", topic]);
    }
    node.error_with(2, b"x", &["chain", "add", "notes", "--topic", "a", "--topic", "a"]);
    assert_eq!(node.lines(&["chain", "log", "notes"]).len(), 1, "only the genesis block");
    node.value_with(b"", &["chain", "add", "notes", "--topic", "日本 ☃"]);
    assert_eq!(node.lines(&["chain", "log", "notes", "--topic", "日本 ☃"]).len(), 1);
}

#[test]
fn bad_invitations_are_refused_with_the_reason() {
    let node = Node::started();
    for bad in ["walytis", "hello", "walytis1", "walytis1abcdef", "walytis9abc"] {
        let (kind, _, hint) = node.error(2, &["chain", "join", bad]);
        assert_eq!(kind, "usage", "{bad}");
        assert!(!hint.is_empty());
        node.error(2, &["identity", "join", bad]);
    }
    node.value(&["chain", "create", "notes"]);
    let token = text(&node.value(&["chain", "invite", "notes"]), "invitation");
    let typo = if token.ends_with('z') {
        format!("{}y", &token[..token.len() - 1])
    } else {
        format!("{}z", &token[..token.len() - 1])
    };
    node.error(2, &["chain", "join", &typo]);
    assert_eq!(node.lines(&["chain", "list"]).len(), 1, "nothing was left behind");
    node.error(2, &["chain", "invite", "notes", "--expires", "0s"]);
    node.error(2, &["chain", "invite", "notes", "--uses", "0"]);
}

#[test]
fn second_daemon_on_one_folder_names_the_first() {
    let node = Node::started();
    let (_, message, hint) = node.error(1, &["daemon", "--offline"]);
    assert!(message.contains(&node.dir().display().to_string()), "{message}");
    assert!(message.contains("process"), "{message}");
    assert!(hint.contains("--data-dir"), "{hint}");
    assert_eq!(node.value(&["status"])["locked"], false, "the first one still works");
}

#[test]
fn port_in_use_is_said_so() {
    let node = Node::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (_, message, hint) = node.error(1, &["daemon", "--offline", "--api", &address]);
    assert!(message.contains(&address) && hint.contains("--api"), "{message} {hint}");
    let listen = format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().unwrap().port());
    let (_, message, hint) = node.error(1, &["daemon", "--no-mdns", "--listen", &listen]);
    assert!(message.contains("in use") && hint.contains("--listen"), "{message} {hint}");
    node.error(2, &["daemon", "--offline", "--api", "192.0.2.1:80"]);
    assert!(!node.dir().join("api.json").exists());
}

#[test]
fn wrong_passphrase_says_no_more_than_that() {
    let mut node = Node::new();
    let right = node.dir().join("right");
    let wrong = node.dir().join("wrong");
    std::fs::write(&right, "correct horse\nsecond line").unwrap();
    std::fs::write(&wrong, "battery staple\n").unwrap();
    node.start(&["--passphrase-file", right.to_str().unwrap()]);
    node.value(&["chain", "create", "notes"]);
    assert_eq!(node.stop(), Some(0));
    let (kind, message, _) = node.error(4, &["--passphrase-file", wrong.to_str().unwrap(), "status"]);
    assert_eq!(kind, "locked");
    assert!(!message.contains("horse") && !message.contains("staple"), "{message}");
    // Without the passphrase the node runs, locked: only what needs keys is refused.
    let status = node.value(&["status"]);
    assert_eq!(status["locked"], true);
    node.error_with(4, b"x", &["chain", "add", "notes"]);
    node.start(&["--passphrase-file", right.to_str().unwrap()]);
    assert_eq!(node.value(&["status"])["locked"], false);
    node.value_with(b"x", &["chain", "add", "notes"]);
}

#[test]
fn cat_refuses_json_without_a_file_and_writes_whole_files_only() {
    let node = Node::started();
    node.value(&["chain", "create", "notes"]);
    let block = text(&node.value_with(b"hello", &["chain", "add", "notes"]), "id");
    node.error(2, &["chain", "cat", "notes", &block]);
    let out = node.dir().join("out");
    let shown = node.value(&["chain", "cat", "notes", &block, "-o", out.to_str().unwrap()]);
    assert_eq!(shown["size"], 5);
    assert_eq!(std::fs::read(&out).unwrap(), b"hello");
    assert_eq!(node.run(&["chain", "cat", "notes", &block]).stdout, b"hello");
    node.error(3, &["chain", "cat", "notes", "bafkreizzzzzzz", "-o", out.to_str().unwrap()]);
    assert_eq!(std::fs::read(&out).unwrap(), b"hello", "a failed cat leaves the file alone");
}

#[test]
fn commands_work_without_a_daemon_and_say_what_needs_one() {
    let node = Node::new();
    node.value(&["chain", "create", "notes"]);
    node.value_with(b"offline", &["chain", "add", "notes"]);
    assert_eq!(node.lines(&["chain", "log", "notes"]).len(), 2);
    let (_, _, hint) = node.error(1, &["peers", "connect", "/ip4/127.0.0.1/tcp/1"]);
    assert!(hint.contains("daemon"), "{hint}");
    let (_, _, hint) = node.error(1, &["chain", "invite", "notes"]);
    assert!(hint.contains("daemon"), "{hint}");
}

#[test]
fn damaged_store_is_refused_and_left_alone() {
    let node = Node::new();
    node.value(&["chain", "create", "notes"]);
    let manifest = node.files().into_iter().find(|path| path.to_string_lossy().contains("MANIFEST")).unwrap();
    let whole = std::fs::read(&manifest).unwrap();
    std::fs::write(&manifest, &whole[..whole.len() / 2]).unwrap();
    let (_, message, hint) = node.error(1, &["chain", "list"]);
    assert!(message.contains("damaged"), "{message}");
    assert!(hint.contains("copy"), "{hint}");
    std::fs::write(&manifest, whole).unwrap();
    assert_eq!(node.lines(&["chain", "list"]).len(), 1);
}

#[test]
fn store_of_a_newer_version_is_refused_and_left_alone() {
    use walytis::core::store::keys::Space;
    use walytis::core::store::{Batch, Durability, KvStore as _, RocksStore};
    let node = Node::new();
    node.value(&["chain", "create", "notes"]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let set_schema = |version: u32| {
        runtime.block_on(async {
            // Written behind the back of the store that checks it at opening.
            let store = RocksStore::open(node.dir().join("store")).await.unwrap();
            let mut batch = Batch::new();
            batch.put(Space::Schema.key(&[]), version.to_be_bytes().to_vec());
            store.commit(batch, Durability::Flushed).await.unwrap();
            store.close().await.unwrap();
        });
    };
    set_schema(2);
    let (kind, message, hint) = node.error(1, &["chain", "list"]);
    assert_eq!(kind, "failed");
    assert!(message.contains("schema 2"), "{message}");
    assert!(hint.contains("version"), "{hint}");
}

/// Speaks HTTP by hand, as a page in a browser or a stray program would.
fn http(node: &Node, request: &str) -> String {
    let api = text(&node.ready, "api");
    let mut stream = std::net::TcpStream::connect(api.trim_start_matches("http://")).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn api_refuses_strangers_web_pages_and_oversized_bodies() {
    let node = Node::started();
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(node.dir().join("api.json")).unwrap()).unwrap();
    let (token, url) = (text(&file, "token"), text(&file, "url"));
    let host = url.trim_start_matches("http://");
    let get = |more: &str| format!("GET /v1/status HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n");
    let bearer = format!("Authorization: Bearer {token}\r\n");
    assert!(http(&node, &get(&bearer)).starts_with("HTTP/1.1 200"));
    assert!(http(&node, &get("")).starts_with("HTTP/1.1 403"));
    assert!(http(&node, &get("Authorization: Bearer 00\r\n")).starts_with("HTTP/1.1 403"));
    let page = http(&node, &get(&format!("{bearer}Origin: http://evil.example\r\n")));
    assert!(page.starts_with("HTTP/1.1 403") && page.contains("application/problem+json"), "{page}");
    let rebound = get(&bearer).replace(host, "evil.example");
    assert!(http(&node, &rebound).starts_with("HTTP/1.1 403"));
    let body = format!("{{\"name\":\"{}\"}}", "x".repeat(100_000));
    let post = format!(
        "POST /v1/chains HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{bearer}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = http(&node, &post);
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(node.lines(&["chain", "list"]).is_empty());
    let missing = http(&node, &get(&bearer).replace("/v1/status", "/v2"));
    assert!(missing.starts_with("HTTP/1.1 404"), "{missing}");
}

#[test]
fn usage_errors_have_exit_code_2_and_json() {
    let node = Node::new();
    for args in [&["chain"][..], &["frobnicate"], &["chain", "log"], &["chain", "invite", "x", "--uses", "many"]] {
        let output = node.command(args).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
    let (kind, _, _) = node.error(2, &["frobnicate"]);
    assert_eq!(kind, "usage");
    node.value(&["chain", "create", "notes"]);
    node.error(2, &["chain", "log", "notes", "--since", "the day before"]);
    node.error(2, &["chain", "log", "notes", "--creator", "me"]);
}
