//! Logs through the program: filters, pages, cursors, durable subscribers. Nodes without network.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};

use serde_json::Value;
use support::{Node, text};

fn ids(lines: &[Value]) -> Vec<String> {
    lines.iter().map(|one| text(one, "id")).collect()
}

fn log(node: &Node, more: &[&str]) -> Vec<Value> {
    node.lines(&[&["chain", "log", "notes"], more].concat())
}

#[test]
fn filters_windows_and_cursors_pick_what_they_say() {
    let mut node = Node::new();
    node.start(&["--offline"]);
    node.value(&["chain", "create", "notes"]);
    let sets: [&[&str]; 4] = [&["--topic", "a"], &["--topic", "b"], &["--topic", "a", "--topic", "b"], &[]];
    let mut added = vec![text(&log(&node, &[])[0], "id")];
    for set in sets {
        added.push(text(&node.value_with(b"x", &[&["chain", "add", "notes"], set].concat()), "id"));
    }
    let whole = log(&node, &[]);
    assert_eq!(ids(&whole), added);
    let picks: [(&[&str], &[usize]); 8] = [
        (&["--topic", "a"], &[1, 3]),
        (&["--topic", "a", "--topic", "b"], &[3]),
        (&["--any-topic", "a", "--any-topic", "b"], &[1, 2, 3]),
        (&["--from-generation", "1", "--to-generation", "3", "--reverse"], &[2, 1]),
        (&["--since", "1h", "--limit", "2"], &[0, 1]),
        (&["--until", "1h"], &[]),
        (&["--arrival", "--topic", "b"], &[2, 3]),
        (&["--creator", &text(&whole[0], "creator"), "--any-topic", "b"], &[2, 3]),
    ];
    for (args, expected) in picks {
        let expected: Vec<_> = expected.iter().map(|at| added[*at].clone()).collect();
        assert_eq!(ids(&log(&node, args)), expected, "{args:?}");
    }
    // Page by page, with an addition in between.
    let first = log(&node, &["--limit", "2"]);
    let late = text(&node.value_with(b"late", &["chain", "add", "notes"]), "id");
    let rest = log(&node, &["--after", &text(&first[1], "cursor")]);
    assert_eq!(ids(&rest), [&added[2..], &[late]].concat());
    let cursor = text(&first[1], "cursor");
    node.value(&["chain", "create", "other"]);
    for args in [
        &["chain", "log", "other", "--after", &cursor][..],
        &["chain", "log", "notes", "--reverse", "--after", &cursor],
        &["chain", "log", "notes", "--topic", "a", "--after", &cursor],
    ] {
        let (kind, message, _) = node.error(2, args);
        assert!(kind == "usage" && message.contains("cursor"), "{kind}: {message}");
    }
    for args in [
        &["--after", "u123"][..],
        &["--until", "soon"],
        &["--from-generation", "2", "--to-generation", "2"],
        &["--since", "1h", "--until", "2h"],
        &["--limit", "-1"],
        &["--as", "x"],
        &["--new"],
        &["--follow", "--as", "x", "--new"],
        &["--follow", "--after", &cursor],
        &["--creator", "me"],
    ] {
        node.error(2, &[&["chain", "log", "notes"], args].concat());
    }
}

#[test]
fn a_block_is_shown_by_id_prefix_and_place_from_either_end() {
    let node = Node::new();
    node.value(&["chain", "create", "notes"]);
    let mut blocks = log(&node, &[]);
    for n in ["one", "two"] {
        blocks.push(node.value_with(n.as_bytes(), &["chain", "add", "notes", "--topic", n]));
    }
    for (place, block) in blocks.iter().enumerate() {
        let id = text(block, "id");
        let from_end = format!("@-{}", blocks.len() - place);
        for name in [&id, &id[..20], &format!("@{place}"), &from_end] {
            let shown = node.value(&["chain", "show", "notes", name]);
            assert_eq!((&shown["id"], &shown["topics"]), (&block["id"], &block["topics"]), "{name}");
        }
    }
    assert_eq!(node.run(&["chain", "cat", "notes", "@-1"]).stdout, b"two");
    node.error(3, &["chain", "show", "notes", "@3"]);
    node.error(3, &["chain", "cat", "notes", "@-4", "-o", "unused"]);
    node.error(2, &["chain", "show", "notes", "@last"]);
}

/// A follower, and the lines that it prints.
fn follow(node: &Node, args: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let args = [&["--json", "chain", "log", "notes", "--follow"], args].concat();
    let mut child = node.command(&args).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> Value {
    serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap()
}

fn end(mut follower: Child) {
    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[test]
fn a_named_follower_goes_on_where_it_was_over_kills_of_both_sides() {
    let mut node = Node::new();
    node.start(&["--offline"]);
    node.value(&["chain", "create", "notes"]);
    let (follower, mut lines) = follow(&node, &["--as", "mail"]);
    let genesis = next(&mut lines);
    assert_eq!((&genesis["generation"], &genesis["attempt"], &genesis["position"]), (&0.into(), &1.into(), &1.into()));
    let one = text(&node.value_with(b"1", &["chain", "add", "notes"]), "id");
    assert_eq!(text(&next(&mut lines), "id"), one);
    node.until("both are acknowledged", |node| {
        let found = node.lines(&["chain", "subscribers", "notes"]);
        assert_eq!(text(&found[0], "name"), "mail");
        (found[0]["left"] == 0).then_some(())
    });
    end(follower);
    let two = text(&node.value_with(b"2", &["chain", "add", "notes"]), "id");
    node.kill();
    node.start(&["--offline"]);
    let (follower, mut lines) = follow(&node, &["--as", "mail"]);
    assert_eq!(text(&next(&mut lines), "id"), two);
    node.until("it is acknowledged", |node| {
        (node.lines(&["chain", "subscribers", "notes"])[0]["left"] == 0).then_some(())
    });
    end(follower);
    // A follower of what is new says nothing of what was.
    let (follower, mut lines) = follow(&node, &["--from-position", "2"]);
    assert_eq!(text(&next(&mut lines), "id"), two);
    end(follower);
    node.value(&["chain", "unsubscribe", "notes", "mail"]);
    assert!(node.lines(&["chain", "subscribers", "notes"]).is_empty());
    let (kind, message, _) = node.error(3, &["chain", "unsubscribe", "notes", "mail"]);
    assert!(kind == "not_found" && message.contains("mail"), "{kind}: {message}");
    node.error(4, &["chain", "unsubscribe", "notes", "walytis/layers"]);
}

#[test]
fn the_api_hands_out_pages_and_takes_acknowledgements() {
    let mut node = Node::new();
    node.start(&["--offline"]);
    node.value(&["chain", "create", "notes"]);
    for n in 0..4 {
        node.value_with(n.to_string().as_bytes(), &["chain", "add", "notes"]);
    }
    let whole = ids(&log(&node, &[]));
    let (mut found, mut after) = (Vec::new(), String::new());
    for _ in 0..3 {
        let (status, page) = node.api("GET", &format!("/v1/chains/notes/pages?limit=2{after}"), "");
        assert_eq!(status, 200, "{page}");
        found.extend(ids(page["blocks"].as_array().unwrap()));
        after = page["next"].as_str().map_or_else(String::new, |next| format!("&after={next}"));
    }
    assert_eq!((found, after.as_str()), (whole, ""));
    let (status, problem) = node.api("GET", "/v1/chains/notes/pages?limit=0", "");
    assert_eq!((status, &problem["kind"]), (400, &"usage".into()));
    // A subscriber that takes three events and acknowledges the second alone, then all up to the first.
    let mut events = node.events("/v1/chains/notes/blocks?follow=true&as=api");
    (0..5).for_each(|_| drop(events.next().unwrap()));
    drop(events);
    let ack = "/v1/chains/notes/subscribers/api/ack";
    let (status, problem) = node.api("POST", ack, r#"{"position": 99, "only": true}"#);
    assert_eq!((status, &problem["kind"]), (400, &"usage".into()));
    assert_eq!(node.api("POST", ack, r#"{"position": 2, "only": true}"#).0, 200);
    let (_, found) = node.api("GET", "/v1/chains/notes/subscribers", "");
    let of = |field: &str| found[0][field].as_u64().unwrap();
    assert_eq!((of("acknowledged"), of("ahead"), of("left"), of("begun")), (0, 1, 4, 4), "{found}");
    assert_eq!(node.api("POST", ack, r#"{"position": 1}"#).0, 200);
    let (_, found) = node.api("GET", "/v1/chains/notes/subscribers", "");
    assert_eq!((&found[0]["acknowledged"], &found[0]["left"]), (&2.into(), &3.into()));
    assert_eq!(node.api("POST", ack, r#"{"position": 5}"#).0, 200);
    assert_eq!(node.api("POST", "/v1/chains/notes/subscribers/none/ack", r#"{"position": 1}"#).0, 404);
    assert_eq!(node.api("POST", ack, r#"{"place": 1}"#).0, 400);
    let (_, found) = node.api("GET", "/v1/chains/notes/subscribers", "");
    assert_eq!((&found[0]["acknowledged"], &found[0]["left"]), (&5.into(), &0.into()));
}

#[test]
fn private_logs_have_the_same_filters_and_followers() {
    let node = Node::new();
    node.value(&["identity", "create", "family"]);
    let sets: [&[&str]; 3] = [&["--topic", "a"], &["--topic", "a", "--topic", "b"], &["--topic", "c"]];
    let added: Vec<String> = sets
        .iter()
        .map(|set| text(&node.value_with(b"x", &[&["offchain", "add", "family"], *set].concat()), "id"))
        .collect();
    let log = |more: &[&str]| node.lines(&[&["offchain", "log", "family"], more].concat());
    assert_eq!(ids(&log(&[])), added);
    assert_eq!(ids(&log(&["--topic", "a", "--topic", "b"])), added[1..2]);
    assert_eq!(ids(&log(&["--any-topic", "b", "--any-topic", "c", "--reverse"])), [&added[2..], &added[1..2]].concat());
    let first = log(&["--topic", "a", "--limit", "1"]);
    assert_eq!(ids(&log(&["--topic", "a", "--after", &text(&first[0], "cursor")])), added[1..2]);
    node.error(2, &["offchain", "log", "family", "--after", &text(&first[0], "cursor")]);
    assert!(node.lines(&["offchain", "subscribers", "family"]).is_empty());
    node.error(3, &["offchain", "unsubscribe", "family", "mail"]);
}
