//! Commands that handle the events of a log: retried, with their descendants waiting, over kills.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::process::{Child, Stdio};

use support::{Node, text};

/// Notes each call; fails for the block that stands in the file `bad`.
const HANDLER: &str = r#"read -r event
printf '%s %s\n' "$WALYTIS_BLOCK" "$WALYTIS_ATTEMPT" >>"$0/seen"
case $event in *"$WALYTIS_BLOCK"*) ;; *) echo "not the event: $event" >>"$0/seen" ;; esac
[ "$WALYTIS_BLOCK" != "$(cat "$0/bad")" ] || exit 7"#;

fn follow(node: &Node, folder: &Path) -> Child {
    let folder = folder.to_str().unwrap();
    let args = ["chain", "log", "notes", "--follow", "--as", "mail", "--", "sh", "-c", HANDLER, folder];
    node.command(&args).stderr(Stdio::null()).spawn().unwrap()
}

/// Blocks for which the handler was called, with the attempts.
fn seen(folder: &Path) -> Vec<(String, u32)> {
    let seen = std::fs::read_to_string(folder.join("seen")).unwrap_or_default();
    let call = |line: &str| line.split_once(' ').map(|(id, attempt)| (id.to_owned(), attempt.parse().unwrap()));
    seen.lines().map(|line| call(line).unwrap()).collect()
}

#[test]
fn a_failing_command_is_called_again_and_descendants_wait_over_kills() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut node = Node::new();
    node.start(&["--offline"]);
    node.value(&["chain", "create", "notes"]);
    let added: Vec<String> =
        ["1", "2", "3"].map(|n| text(&node.value_with(n.as_bytes(), &["chain", "add", "notes"]), "id")).into();
    std::fs::write(folder.join("bad"), &added[1]).unwrap();
    let mut follower = follow(&node, folder);
    let attempts = || seen(folder).iter().filter(|(id, _)| *id == added[1]).map(|(_, attempt)| *attempt).max();
    node.until("it is tried again", |_| attempts().filter(|attempts| *attempts >= 2));
    let found = node.until("it is said to fail", |node| {
        let found = node.lines(&["chain", "subscribers", "notes"]).remove(0);
        found["failing"].is_array().then_some(found)
    });
    assert_eq!((&found["acknowledged"], &found["left"]), (&2.into(), &2.into()), "{found}");
    assert_eq!(found["failing"][0]["id"], added[1].as_str());
    assert!(text(&found["failing"][0], "reason").contains('7'), "{found}");
    assert!(!seen(folder).iter().any(|(id, _)| *id == added[2]), "a descendant did not wait");
    // Over a kill the count goes on, and what was handled does not come again.
    node.kill();
    follower.wait().unwrap();
    let before = attempts().unwrap();
    node.start(&["--offline"]);
    assert!(node.lines(&["chain", "subscribers", "notes"])[0]["failing"].is_null(), "nobody follows");
    let mut follower = follow(&node, folder);
    node.until("it is tried again after a restart", |_| attempts().filter(|attempts| *attempts > before));
    assert!(!seen(folder).iter().any(|(id, _)| *id == added[2]), "a descendant did not wait");
    std::fs::write(folder.join("bad"), "").unwrap();
    node.until("all is handled", |node| (node.lines(&["chain", "subscribers", "notes"])[0]["left"] == 0).then_some(()));
    let seen = seen(folder);
    for id in [&added[0], &added[2]] {
        assert_eq!(seen.iter().filter(|(one, _)| one == id).count(), 1, "{seen:?}");
    }
    assert_eq!(seen.last(), Some(&(added[2].clone(), 1)));
    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[test]
fn handlers_that_cannot_be_are_refused() {
    let mut node = Node::new();
    node.start(&["--offline"]);
    node.value(&["chain", "create", "notes"]);
    node.error(2, &["chain", "log", "notes", "--follow", "--", "true"]);
    let (_, message, hint) =
        node.error(1, &["chain", "log", "notes", "--follow", "--as", "x", "--", "/nonexistent/program"]);
    assert!(hint.contains("/nonexistent/program"), "{message}: {hint}");
    node.error(4, &["chain", "log", "notes", "--follow", "--as", "walytis/own", "--", "true"]);
    // Of an event that nobody has been handed nobody can say that it failed.
    let ack = "/v1/chains/notes/subscribers/x/ack";
    let (status, problem) = node.api("POST", ack, r#"{"position": 1, "failed": "no"}"#);
    assert_eq!((status, &problem["kind"]), (400, &"usage".into()), "{problem}");
    let (status, problem) = node.api("GET", "/v1/chains/notes/blocks?follow=true&retry=true", "");
    assert_eq!((status, &problem["kind"]), (400, &"usage".into()), "{problem}");
    // What was handed to a program that could not be run is handed out again.
    let seen = node.lines(&["chain", "subscribers", "notes"]);
    assert_eq!((&seen[0]["name"], &seen[0]["left"]), (&"x".into(), &1.into()));
}
