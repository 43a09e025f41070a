//! Blocks that are edited, deleted and restored, through the program: one node and several, chains and private ledgers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};

use serde_json::Value;
use support::{Node, text};

fn ids(lines: &[Value]) -> Vec<String> {
    lines.iter().map(|one| text(one, "id")).collect()
}

/// Runs the same on a chain and on a private ledger.
fn on_both(check: impl Fn(&Node, &[&str])) {
    let mut node = Node::new();
    node.start(&["--offline"]);
    node.value(&["chain", "create", "notes"]);
    node.value(&["identity", "create", "family"]);
    check(&node, &["chain", "notes"]);
    check(&node, &["offchain", "family"]);
}

/// `walytis chain CMD notes MORE…`.
fn of<'a>(ledger: &[&'a str], command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&[ledger[0], command, ledger[1]], more].concat()
}

fn log(node: &Node, ledger: &[&str], more: &[&str]) -> Vec<Value> {
    let mut found = node.lines(&of(ledger, "log", more));
    // A chain has a first block that nobody added.
    found.retain(|one| one["parents"].as_array().is_some_and(|parents| !parents.is_empty()));
    found
}

fn cat(node: &Node, ledger: &[&str], more: &[&str]) -> String {
    let output = node.run(&of(ledger, "cat", more));
    assert!(output.status.success(), "{more:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn add(node: &Node, ledger: &[&str], content: &str, topic: &str) -> String {
    text(&node.value_with(content.as_bytes(), &of(ledger, "add", &["--topic", topic])), "id")
}

fn edit(node: &Node, ledger: &[&str], block: &str, content: &str) -> Value {
    node.value_with(content.as_bytes(), &of(ledger, "edit", &[block]))
}

#[test]
fn edits_deletion_and_restore_show_in_the_log_and_keep_the_history() {
    on_both(|node, ledger| {
        let first = add(node, ledger, "one", "a");
        let second = add(node, ledger, "zwei", "b");
        let before = log(node, ledger, &[]);
        assert_eq!(ids(&before), [first.clone(), second.clone()]);
        assert!(before.iter().all(|one| one.get("version").is_none() && one.get("deleted").is_none()), "{before:?}");
        let cursor = text(&before[0], "cursor");

        let edited = edit(node, ledger, &first, "one, corrected");
        assert_eq!((text(&edited, "id"), &edited["size"]), (first.clone(), &14.into()));
        assert_eq!(
            (&edited["versions"], &edited["conflicts"], &edited["deleted"]),
            (&2.into(), &0.into(), &false.into())
        );
        assert_eq!(edited["topics"], serde_json::json!(["a"]), "topics stay unless others are given");
        let now = log(node, ledger, &[]);
        assert_eq!(ids(&now), [first.clone(), second.clone()], "current versions in the order of the first ones");
        assert_eq!((&now[0]["size"], &now[1]["size"]), (&14.into(), &4.into()));
        assert_eq!(cat(node, ledger, &[&first]), "one, corrected");
        assert_eq!(cat(node, ledger, &[&first, "--range", "5-8"]), "corr");
        // A cursor from before the first change is good behind it.
        assert_eq!(ids(&log(node, ledger, &["--after", &cursor])), std::slice::from_ref(&second));

        let retagged = node.value_with(b"3", &of(ledger, "edit", &[&first, "--topic", "c"]));
        assert_eq!(retagged["topics"], serde_json::json!(["c"]));
        assert!(log(node, ledger, &["--topic", "a"]).is_empty());
        assert_eq!(ids(&log(node, ledger, &["--any-topic", "c", "--any-topic", "b"])), [first.clone(), second.clone()]);
        let bare = node.value_with(b"4", &of(ledger, "edit", &[&first, "--no-topics"]));
        assert_eq!(bare["topics"], serde_json::json!([]));

        let deleted = node.value(&of(ledger, "delete-block", &[&first]));
        assert_eq!(deleted["deleted"], true);
        assert_eq!(ids(&log(node, ledger, &[])), std::slice::from_ref(&second));
        let all = log(node, ledger, &["--deleted"]);
        assert_eq!((ids(&all), &all[0]["deleted"]), (vec![first.clone(), second.clone()], &true.into()));
        assert_eq!(ids(&log(node, ledger, &["--deleted", "--after", &text(&all[0], "cursor")])), [second]);
        let (kind, message, hint) = node.error(4, &of(ledger, "cat", &[&first, "-o", "/dev/null"]));
        assert!(kind == "refused" && message.contains("deleted") && hint.contains("restore"), "{message} {hint}");

        let versions = node.lines(&of(ledger, "versions", &[&first]));
        let acts: Vec<_> = versions.iter().map(|one| text(one, "act")).collect();
        assert_eq!(acts, ["create", "edit", "edit", "edit", "delete"]);
        assert_eq!(
            (&versions[4]["current"], &versions[4]["head"], &versions[0]["head"]),
            (&true.into(), &true.into(), &false.into())
        );
        assert_eq!(text(&versions[0], "id"), first);
        assert_eq!(versions[1]["supersedes"], serde_json::json!([first]));
        assert_eq!(cat(node, ledger, &[&first, "--at", &first]), "one");
        let corrected = text(&versions[1], "id");
        assert_eq!(cat(node, ledger, &[&first, "--at", &corrected]), "one, corrected");
        assert_eq!(cat(node, ledger, &[&corrected]), "one, corrected", "a version is found by its own id");

        let restored = node.value(&of(ledger, "restore", &[&first, &corrected]));
        assert_eq!((&restored["deleted"], &restored["versions"]), (&false.into(), &6.into()));
        assert_eq!(cat(node, ledger, &[&first]), "one, corrected");
        let last = node.lines(&of(ledger, "versions", &[&first])).pop().unwrap();
        assert_eq!((text(&last, "act"), text(&last, "restores")), ("restore".into(), corrected));
        assert!(node.lines(&of(ledger, "conflicts", &[&first])).is_empty());

        let erased = node.value(&of(ledger, "erase", &[&first]));
        assert_eq!(erased["block"]["deleted"], true);
        assert_eq!(erased["blocks"].as_array().unwrap().len(), 4, "the first version and three edits");
        // People's lines say the same.
        let lines = String::from_utf8(node.run(&of(ledger, "log", &["--deleted"])).stdout).unwrap();
        assert!(lines.contains("deleted, 7 versions"), "{lines}");
    });
}

#[test]
fn what_cannot_be_changed_is_refused_with_the_reason_and_leaves_nothing() {
    on_both(|node, ledger| {
        let (one, two) = (add(node, ledger, "1", "t"), add(node, ledger, "2", "t"));
        let version = text(&edit(node, ledger, &one, "1b"), "version");
        let blocks = |node: &Node| node.lines(&of(ledger, "log", &["--overlays"])).len();
        let before = blocks(node);
        let unknown = "bafkreiaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
        let (kind, message, hint) = node.error_with(3, b"x", &of(ledger, "edit", &[unknown]));
        assert!(kind == "not_found" && message.contains("block") && hint.contains("log"), "{message} {hint}");
        for command in ["delete-block", "versions", "conflicts", "erase"] {
            node.error(3, &of(ledger, command, &[unknown]));
        }
        let (_, message, hint) = node.error_with(3, b"x", &of(ledger, "edit", &[&version]));
        assert!(message.contains("version of block") && hint.contains(&one), "{message} {hint}");
        // A version of another block, and one that does not exist.
        let (kind, message, hint) = node.error(3, &of(ledger, "restore", &[&two, &version]));
        assert!(kind == "not_found" && message.contains("no version") && hint.contains("versions"), "{message} {hint}");
        node.error(3, &of(ledger, "restore", &[&two, &one]));
        node.error(3, &of(ledger, "restore", &[&two, unknown]));
        node.error(3, &of(ledger, "cat", &[&two, "--at", unknown, "-o", "/dev/null"]));
        // Topics: too many, twice, reserved, unusable.
        let many: Vec<String> = (0..16).flat_map(|n| ["--topic".to_owned(), n.to_string()]).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        node.error_with(2, b"x", &of(ledger, "edit", &[&[one.as_str()], &many[..]].concat()));
        for topics in [&["--topic", "a", "--topic", "a"][..], &["--topic", "walytis.mutable"], &["--topic", ""]] {
            node.error_with(2, b"x", &of(ledger, "edit", &[&[one.as_str()], topics].concat()));
        }
        node.error_with(2, b"x", &of(ledger, "edit", &[&one, "-", "--topic", "a", "--no-topics"]));
        node.error(3, &of(ledger, "edit", &[&one, "/nowhere/at/all"]));
        node.error(2, &of(ledger, "rights", &["everybody"]));
        assert_eq!(blocks(node), before, "nothing of all this was written");

        node.value(&of(ledger, "delete-block", &[&one]));
        for (args, input) in [(of(ledger, "edit", &[&one]), &b"x"[..]), (of(ledger, "delete-block", &[&one]), b"")] {
            let (kind, message, hint) = node.error_with(4, input, &args);
            assert!(kind == "refused" && message.contains("deleted") && !hint.is_empty(), "{message}");
        }
        // What a deletion showed cannot be shown again.
        let deletion = text(node.lines(&of(ledger, "versions", &[&one])).last().unwrap(), "id");
        node.error(4, &of(ledger, "restore", &[&one, &deletion]));
        assert_eq!(log(node, ledger, &[]).len(), 1);
    });
    let node = Node::new();
    node.value(&["chain", "create", "notes"]);
    let genesis = text(&node.value(&["chain", "log", "notes"]), "id");
    node.error_with(4, b"x", &["chain", "edit", "notes", &genesis]);
    node.error_with(4, b"x", &["chain", "delete-block", "notes", &genesis]);
    node.value(&["identity", "create", "family"]);
    let record = text(&node.value_with(b"x", &["offchain", "add", "family"]), "id");
    let chain = text(&node.value(&["identity", "show", "family"]), "did").replace("did:walytis:", "");
    let (_, _, hint) = node.error_with(4, b"x", &["chain", "edit", &chain, &record]);
    assert!(hint.contains("offchain"), "{hint}");
    assert_eq!(node.lines(&["chain", "list"]).len(), 1, "no block's name deletes a chain");
}

fn invite(node: &Node, chain: &str) -> String {
    text(&node.value(&["chain", "invite", chain]), "invitation")
}

fn connect(a: &Node, b: &Node) {
    let address = a.ready["listen"][0].as_str().unwrap().to_owned();
    b.value(&["peers", "connect", &address]);
}

const NOTES: [&str; 2] = ["chain", "notes"];

/// Two members: what one may not do, what reaches the other, what both do apart, and what a lost right makes of it.
#[test]
fn two_daemons_show_the_same_however_they_changed_blocks() {
    let (mut a, mut b) = (Node::started(), Node::started());
    a.value(&["chain", "create", "notes"]);
    b.value(&["chain", "join", &invite(&a, "notes"), "--name", "notes"]);
    let id = add(&a, &NOTES, "draft", "t");
    b.until("the block arrives", |b| (log(b, &NOTES, &[]).len() == 1).then_some(()));

    // Without the right: refused, nothing written.
    let heads = b.value(&["chain", "heads", "notes"]);
    let (kind, message, hint) = b.error_with(4, b"mine now", &["chain", "edit", "notes", &id]);
    assert!(kind == "refused" && message.contains("author") && hint.contains("rights"), "{message} {hint}");
    b.error(4, &["chain", "delete-block", "notes", &id]);
    b.error(4, &["chain", "rights", "notes", "anyone"]);
    assert_eq!(b.value(&["chain", "heads", "notes"]), heads);

    // An edit, a deletion and a restore reach the other.
    edit(&a, &NOTES, &id, "final");
    b.until("the edit arrives", |b| (cat(b, &NOTES, &[&id]) == "final").then_some(()));
    a.value(&["chain", "delete-block", "notes", &id]);
    b.until("the deletion arrives", |b| log(b, &NOTES, &[]).is_empty().then_some(()));
    a.value(&["chain", "restore", "notes", &id, &id]);
    b.until("the restore arrives", |b| (log(b, &NOTES, &[]).len() == 1).then_some(()));
    assert_eq!(cat(&b, &NOTES, &[&id]), "draft");

    // Whoever may write changes blocks from now on; both do, apart.
    assert_eq!(a.value(&["chain", "rights", "notes", "anyone"])["policy"], "anyone");
    b.until("the policy arrives", |b| (b.value(&["chain", "rights", "notes"])["policy"] == "anyone").then_some(()));
    assert_eq!((a.stop(), b.stop()), (Some(0), Some(0)));
    edit(&a, &NOTES, &id, "by a");
    edit(&b, &NOTES, &id, "by b");
    a.start(&[]);
    b.start(&[]);
    connect(&a, &b);
    let both = |node: &Node| {
        let shown = log(node, &NOTES, &[]);
        (shown[0]["conflicts"] == 1).then(|| (text(&shown[0], "version"), cat(node, &NOTES, &[&id])))
    };
    let (at_a, at_b) = (a.until("a has both edits", both), b.until("b has both edits", both));
    assert_eq!(at_a, at_b);
    let beside = |node: &Node| ids(&node.lines(&["chain", "conflicts", "notes", &id]));
    assert_eq!((beside(&a), beside(&a).len()), (beside(&b), 1));
    edit(&b, &NOTES, &id, "agreed");
    let merged = |node: &Node| {
        let shown = log(node, &NOTES, &[]);
        (shown[0]["conflicts"] == 0).then(|| cat(node, &NOTES, &[&id]))
    };
    assert_eq!((a.until("a has the merge", merged), merged(&b)), ("agreed".into(), Some("agreed".into())));

    // The right is taken back while b knows nothing of it: what b does behind that is void on both.
    assert_eq!((a.stop(), b.stop()), (Some(0), Some(0)));
    a.value(&["chain", "rights", "notes", "author"]);
    for n in 0..3 {
        edit(&b, &NOTES, &id, &format!("too late {n}"));
    }
    a.start(&[]);
    b.start(&[]);
    connect(&a, &b);
    let agreed = |node: &Node, heads: usize| {
        let here = node.value(&["chain", "heads", "notes"])["heads"].as_array().unwrap().len() == heads;
        let versions = ids(&node.lines(&["chain", "versions", "notes", &id]));
        here.then_some((versions, node.value(&["chain", "rights", "notes"])["policy"].clone()))
    };
    let at_a = a.until("a has what b did", |a| agreed(a, 2));
    let at_b = b.until("b has the policy", |b| agreed(b, 2).filter(|(_, policy)| policy == "author"));
    assert_eq!(at_a, at_b);
    assert!(cat(&a, &NOTES, &[&id]) != "too late 2", "written without the right, it is never shown");
    b.error_with(4, b"x", &["chain", "edit", "notes", &id]);
    edit(&a, &NOTES, &id, "the end");
    b.until("b shows it too", |b| (cat(b, &NOTES, &[&id]) == "the end").then_some(()));
}

fn follow(node: &Node, args: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let args = [&["--json"], args].concat();
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

fn all_acknowledged(node: &Node) {
    node.until("all is acknowledged", |node| {
        let found = node.lines(&["chain", "subscribers", "notes"]);
        assert_eq!(found.len(), 1, "{found:?}");
        (found[0]["left"] == 0).then_some(())
    });
}

/// A durable follower that began before anything was ever changed hears of each change once, over the end of both sides.
#[test]
fn a_named_follower_hears_of_changes_once_over_kills_of_both_sides() {
    let mut node = Node::new();
    node.start(&["--offline"]);
    node.value(&["chain", "create", "notes"]);
    let named = ["chain", "log", "notes", "--follow", "--as", "mail"];
    let (follower, mut lines) = follow(&node, &named);
    assert_eq!(next(&mut lines)["generation"], 0);
    let id = add(&node, &NOTES, "one", "t");
    assert_eq!(text(&next(&mut lines), "id"), id);
    all_acknowledged(&node);
    let version = text(&edit(&node, &NOTES, &id, "two"), "version");
    let event = next(&mut lines);
    assert_eq!(
        (text(&event, "event"), text(&event, "id"), text(&event, "version")),
        ("edited".into(), id.clone(), version)
    );
    assert_eq!((&event["position"], &event["attempt"], &event["block"]["size"]), (&3.into(), &1.into(), &3.into()));
    all_acknowledged(&node);
    end(follower);
    node.value(&["chain", "delete-block", "notes", &id]);
    node.kill();
    node.start(&["--offline"]);
    let (follower, mut lines) = follow(&node, &named);
    assert_eq!(text(&next(&mut lines), "event"), "deleted");
    node.value(&["chain", "restore", "notes", &id, &id]);
    assert_eq!(text(&next(&mut lines), "event"), "restored");
    let other = add(&node, &NOTES, "other", "u");
    assert_eq!(text(&next(&mut lines), "id"), other);
    all_acknowledged(&node);
    end(follower);
    // From the beginning, unnamed, filtered: blocks of the topic and what becomes of them.
    let (follower, mut lines) = follow(&node, &["chain", "log", "notes", "--follow", "--topic", "t"]);
    let shown: Vec<Value> = (0..4).map(|_| next(&mut lines)).collect();
    let events: Vec<_> = shown.iter().map(|one| one["event"].as_str().unwrap_or("block").to_owned()).collect();
    assert_eq!(events, ["block", "edited", "deleted", "restored"]);
    end(follower);
    node.error(2, &["chain", "log", "notes", "--follow", "--deleted"]);
    node.value(&["chain", "unsubscribe", "notes", "mail"]);
    assert!(node.lines(&["chain", "subscribers", "notes"]).is_empty());
}

/// A name that was left before the first change goes on where it was, without the change being lost.
#[test]
fn a_follower_that_was_away_at_the_first_change_goes_on_where_it_was() {
    let mut node = Node::new();
    node.start(&["--offline"]);
    node.value(&["chain", "create", "notes"]);
    let named = ["chain", "log", "notes", "--follow", "--as", "mail"];
    let (follower, mut lines) = follow(&node, &named);
    next(&mut lines);
    all_acknowledged(&node);
    end(follower);
    let id = add(&node, &NOTES, "one", "t");
    // Long content stands in a block of its own, which nobody is told of.
    edit(&node, &NOTES, &id, &"long ".repeat(20_000));
    let found = node.lines(&["chain", "subscribers", "notes"]);
    assert_eq!((found.len(), &found[0]["acknowledged"]), (1, &1.into()));
    let (follower, mut lines) = follow(&node, &named);
    assert_eq!(text(&next(&mut lines), "id"), id);
    let event = next(&mut lines);
    assert_eq!((text(&event, "event"), &event["block"]["size"]), ("edited".into(), &100_000.into()));
    end(follower);
}

#[test]
fn a_killed_daemon_keeps_what_it_said_was_changed() {
    let mut node = Node::new();
    node.start(&["--offline"]);
    node.value(&["chain", "create", "notes"]);
    let kept = add(&node, &NOTES, "0", "t");
    let gone = add(&node, &NOTES, "gone", "t");
    for n in 1..=8 {
        assert_eq!(edit(&node, &NOTES, &kept, &n.to_string())["versions"], n + 1);
        if n % 4 == 0 {
            node.kill();
            node.start(&["--offline"]);
        }
    }
    node.value(&["chain", "delete-block", "notes", &gone]);
    node.kill();
    // Also without a daemon.
    assert_eq!(ids(&log(&node, &NOTES, &[])), std::slice::from_ref(&kept));
    assert_eq!(cat(&node, &NOTES, &[&kept]), "8");
    assert_eq!(node.lines(&["chain", "versions", "notes", &kept]).len(), 9);
    // A chain that is deleted takes its history along.
    node.value(&["chain", "delete", "notes"]);
    assert!(node.lines(&["chain", "list"]).is_empty());
}

/// Two devices of one identity are one author; another identity's device is not.
#[test]
fn devices_of_one_identity_change_each_others_private_blocks() {
    let (a, b) = (Node::started(), Node::started());
    let family = ["offchain", "family"];
    a.value(&["identity", "create", "family"]);
    let token = text(&a.value(&["identity", "invite", "family", "--role", "member"]), "invitation");
    b.value(&["identity", "join", &token, "--name", "family"]);
    let id = add(&a, &family, "from the laptop", "t");
    b.until("the block arrives", |b| (log(b, &family, &[]).len() == 1).then_some(()));
    edit(&b, &family, &id, "from the phone");
    a.until("the edit arrives", |a| (cat(a, &family, &[&id]) == "from the phone").then_some(()));
    let versions = a.lines(&["offchain", "versions", "family", &id]);
    assert_ne!(versions[0]["author"], versions[1]["author"], "the history says which device it was");
    // Only an admin says who may change what.
    b.error(4, &["offchain", "rights", "family", "anyone"]);
    a.value(&["offchain", "rights", "family", "admins-may-delete"]);
    b.until("the policy arrives", |b| {
        (b.value(&["offchain", "rights", "family"])["policy"] == "admins-may-delete").then_some(())
    });
    a.value(&["offchain", "delete", "family", &id]);
    b.until("the deletion arrives", |b| log(b, &family, &[]).is_empty().then_some(()));
    assert_eq!(ids(&log(&b, &family, &["--deleted"])), [id]);
}

#[test]
fn the_api_changes_blocks_and_never_mixes_two_versions() {
    let mut node = Node::new();
    node.start(&["--offline"]);
    node.value(&["chain", "create", "notes"]);
    let id = add(&node, &NOTES, "0123456789", "t");
    let path = format!("/v1/chains/notes/blocks/{id}");
    let (status, edited) = node.api("POST", &format!("{path}/versions?topic=x"), "abcdefghij");
    assert_eq!((status, &edited["versions"], &edited["topics"]), (200, &2.into(), &serde_json::json!(["x"])));
    let (status, shown) = node.api("GET", &path, "");
    assert_eq!((status, &shown["version"]), (200, &edited["version"]));
    let (_, versions) = node.api("GET", &format!("{path}/versions"), "");
    assert_eq!(versions.as_array().unwrap().len(), 2);
    // A part of the first version is not completed with the second.
    let part =
        |name: &str| raw(&node, &format!("{path}/content"), &format!("Range: bytes=8-9\r\nIf-Range: \"{name}\"\r\n"));
    assert!(part(&id).ends_with("\r\n\r\nabcdefghij"), "{}", part(&id));
    assert!(part(&text(&edited, "version")).ends_with("\r\n\r\nij"));
    assert_eq!(node.api("POST", &format!("{path}/restore"), &format!(r#"{{"version":"{id}"}}"#)).0, 200);
    assert_eq!(node.api("POST", &format!("{path}/restore"), r#"{"versions":1}"#).0, 400);
    let (status, deleted) = node.api("DELETE", &path, "");
    assert_eq!((status, &deleted["deleted"]), (200, &true.into()));
    let (status, problem) = node.api("DELETE", &path, "");
    assert_eq!((status, &problem["kind"]), (403, &"refused".into()));
    assert_eq!(node.api("GET", &format!("{path}/content"), "").0, 403);
    assert_eq!(node.api("DELETE", &format!("{path}?erase=true"), "").0, 200);
    assert_eq!(node.api("GET", "/v1/chains/notes/blocks/nothing", "").0, 404);
    assert_eq!(node.api("PUT", "/v1/chains/notes/rights", r#"{"policy":"anyone"}"#).0, 200);
    assert_eq!(node.api("PUT", "/v1/chains/notes/rights", r#"{"policy":"nobody"}"#).0, 400);
    let (_, page) = node.api("GET", "/v1/chains/notes/pages?deleted=true&topic=t", "");
    assert_eq!(ids(page["blocks"].as_array().unwrap()), [id]);
}

/// The whole answer to a `GET`, as text.
fn raw(node: &Node, path: &str, headers: &str) -> String {
    use std::io::{Read as _, Write as _};
    let file: Value = serde_json::from_slice(&std::fs::read(node.dir().join("api.json")).unwrap()).unwrap();
    let (url, token) = (text(&file, "url"), text(&file, "token"));
    let host = url.trim_start_matches("http://").trim_end_matches('/');
    let mut socket = std::net::TcpStream::connect(host).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n");
    write!(socket, "{head}{headers}\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

/// A script whose variable is empty must not delete something else.
#[test]
fn an_empty_name_deletes_nothing() {
    let mut node = Node::new();
    node.value(&["chain", "create", "notes"]);
    node.value(&["identity", "create", "family"]);
    let block = add(&node, &NOTES, "kept", "t");
    let private = add(&node, &["offchain", "family"], "kept", "t");
    for daemon in [false, true] {
        if daemon {
            node.start(&["--offline"]);
        }
        for args in [
            &["chain", "delete-block", "notes", ""][..],
            &["chain", "erase", "notes", ""],
            &["offchain", "delete", "family", ""],
            &["offchain", "delete-block", "", &private],
            &["chain", "delete", ""],
            &["identity", "remove", "family", ""],
        ] {
            let (kind, message, hint) = node.error(2, args);
            assert!(
                kind == "usage" && message.contains("empty") && hint.contains("variable"),
                "{args:?}: {message} {hint}"
            );
        }
        // An unquoted empty variable is no argument at all; and a chain is deleted without naming a block.
        node.error(2, &["chain", "delete-block", "notes"]);
        node.error(2, &["offchain", "delete", "family"]);
        node.error(2, &["chain", "delete", "notes", &block]);
    }
    assert_eq!(node.api("DELETE", "/v1/chains/notes/blocks/", "").0, 404);
    assert_eq!(ids(&log(&node, &NOTES, &[])), [block]);
    assert_eq!(ids(&log(&node, &["offchain", "family"], &[])), [private]);
}
