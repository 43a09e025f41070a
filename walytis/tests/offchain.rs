//! Private ledgers through the program: chains of their own, forgetting, progress, limits, keepers, a locked vault. Real daemons
//! on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Node, text};

const UNKNOWN: &str = "bafkreiaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn invite(node: &Node, role: &str) -> String {
    text(&node.value(&["identity", "invite", "family", "--role", role]), "invitation")
}

fn join(from: &Node, to: &Node, role: &str) {
    to.value(&["identity", "join", &invite(from, role), "--name", "family"]);
}

/// A created the identity, B's device joined it.
fn family() -> (Node, Node) {
    let (a, b) = (Node::started(), Node::started());
    a.value(&["identity", "create", "family", "--device", "laptop"]);
    join(&a, &b, "member");
    (a, b)
}

fn add(node: &Node, content: &[u8], more: &[&str]) -> String {
    text(&node.value_with(content, &[&["offchain", "add", "family"], more].concat()), "id")
}

fn state(node: &Node, id: &str, more: &[&str]) -> Option<String> {
    let all = node.lines(&[&["offchain", "log", "family"], more].concat());
    all.iter().find(|one| one["id"] == *id).map(|one| text(one, "state"))
}

fn until_state(node: &Node, id: &str, wanted: &str, more: &[&str]) {
    node.until(&format!("{id} is {wanted}"), |node| (state(node, id, more).as_deref() == Some(wanted)).then_some(()));
}

fn cat(node: &Node, id: &str, more: &[&str]) -> Vec<u8> {
    node.run(&[&["offchain", "cat", "family", id], more].concat()).stdout
}

/// A content that does not repeat.
fn pattern(len: u32) -> Vec<u8> {
    (0..len).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[test]
fn private_ledgers_stand_on_a_chain_of_their_own() {
    let (mut a, b) = (Node::started(), Node::started());
    a.value(&["identity", "create", "family", "--device", "laptop"]);
    let made = a.value(&["offchain", "create", "family", "archive"]);
    assert_eq!((&made["name"], &made["hybrid_records"]), (&"archive".into(), &false.into()));
    let on = |layer: &'static str| ["--layer", layer];
    let early = add(&a, b"early", &on("@archive"));
    join(&a, &b, "member");
    b.until("the other device finds the chain", |b| {
        (b.lines(&["offchain", "chains", "family"]) == [made.clone()]).then_some(())
    });
    until_state(&b, &early, "available", &on("main@archive"));
    assert_eq!(cat(&b, &early, &on("main@archive")), b"early");
    let note = add(&b, b"note", &on("notes@archive"));
    until_state(&a, &note, "available", &on("notes@archive"));
    // Ledgers do not see each other, on whatever chain.
    let home = add(&a, b"home", &[]);
    assert_eq!((state(&a, &early, &[]), state(&a, &note, &on("@archive"))), (None, None));
    a.error(3, &["offchain", "status", "family", &early]);
    a.error(3, &["offchain", "status", "family", &home, "--layer", "@archive"]);
    assert_eq!(a.run(&["offchain", "cat", "family", &note, "--layer", "@archive"]).status.code(), Some(3));
    // Blocks on it change and are forgotten as elsewhere.
    a.value_with(b"later", &["offchain", "edit", "family", &early, "--layer", "@archive"]);
    b.until("the edit arrives", |b| (cat(b, &early, &on("@archive")) == b"later").then_some(()));
    let proposal = text(&b.value(&["offchain", "forget", "family", &note, "--layer", "notes@archive"]), "proposal");
    a.until("the proposal arrives", |a| {
        (!a.lines(&["offchain", "proposals", "family", "--layer", "notes@archive"]).is_empty()).then_some(())
    });
    a.value(&["offchain", "consent", "family", &proposal, "--layer", "notes@archive"]);
    until_state(&b, &note, "forgotten", &on("notes@archive"));
    // Killed, it comes back with all of them, and goes on.
    a.kill();
    a.start(&[]);
    assert_eq!(cat(&a, &early, &on("@archive")), b"later");
    let again = add(&a, b"again", &on("@archive"));
    until_state(&b, &again, "available", &on("@archive"));
    // The chain is read like others, and written only through the identity.
    assert!(a.lines(&["chain", "log", "archive"]).len() > 3);
    for args in [
        &["chain", "invite", "archive"][..],
        &["chain", "delete", "archive"],
        &["chain", "rights", "archive", "anyone"],
    ] {
        a.error(4, args);
    }
    a.error_with(4, b"x", &["chain", "add", "archive"]);
    // Who is removed gets nothing more of it.
    let phone = b.lines(&["identity", "controllers", "family"]);
    let phone = phone.iter().find(|one| one["peer_id"] == b.ready["peer_id"]).unwrap();
    a.value(&["identity", "remove", "family", &text(phone, "id")]);
    let after = add(&a, b"after", &on("@archive"));
    b.until("the removed device learns of it", |b| {
        (b.value(&["identity", "show", "family"])["role"] == "removed").then_some(())
    });
    b.error_with(4, b"mine", &["offchain", "add", "family", "--layer", "@archive"]);
    assert_eq!(cat(&b, &again, &on("@archive")), b"again", "what it had it keeps");
    assert_ne!(state(&b, &after, &on("@archive")).as_deref(), Some("available"));
}

#[test]
fn chains_of_private_ledgers_that_cannot_be_are_refused() {
    let (a, b) = family();
    let sealed = a.value(&["offchain", "create", "family", "sealed", "--hybrid-records"]);
    assert_eq!(sealed["hybrid_records"], true);
    let id = add(&a, b"twice signed", &["--layer", "@sealed"]);
    b.until("the other device finds the chain", |b| {
        (!b.lines(&["offchain", "chains", "family"]).is_empty()).then_some(())
    });
    until_state(&b, &id, "available", &["--layer", "@sealed"]);
    let shown = b.value(&["offchain", "show", "family", &id, "--layer", "@sealed"]);
    assert_eq!((&shown["hybrid"], &shown["checkpoint"]), (&true.into(), &Value::Null));
    let plain = add(&a, b"once", &[]);
    assert_eq!(a.value(&["offchain", "show", "family", &plain])["hybrid"], false);

    let (kind, message, _) = a.error(2, &["offchain", "create", "family", "sealed"]);
    assert!(kind == "usage" && message.contains("sealed"), "{message}");
    a.error(2, &["offchain", "create", "family", "a@b"]);
    a.error(2, &["offchain", "create", "family", ""]);
    a.error(3, &["offchain", "create", "nobody", "archive"]);
    let (kind, message, _) = b.error(4, &["offchain", "create", "family", "mine"]);
    assert!(kind == "refused" && message.contains("admin"), "{message}");
    for (code, layer) in [(3, "main@nothing"), (2, "main@"), (2, "@"), (2, "a\u{7}b")] {
        let (_, message, hint) = a.error_with(code, b"x", &["offchain", "add", "family", "--layer", layer]);
        assert!(!message.is_empty() && !hint.is_empty(), "{layer}: {message} {hint}");
    }
    assert_eq!(a.lines(&["offchain", "chains", "family"]).len(), 1, "nothing was left behind");
    let (status, all) = a.api("GET", "/v1/identities/family/chains", "");
    assert_eq!((status, all.as_array().unwrap().len()), (200, 1));
    assert_eq!(a.api("POST", "/v1/identities/family/chains", r#"{"nome":"x"}"#).0, 400);
    assert_eq!(a.api("GET", "/v1/identities/family/private/main@nothing/status", "").0, 404);
    a.value(&["lock"]);
    assert_eq!(a.error(4, &["offchain", "create", "family", "later"]).0, "locked");
}

#[test]
fn contents_are_forgotten_here_by_consent_and_by_expiry() {
    let (a, b) = family();
    let mut follower =
        a.command(&["--json", "offchain", "log", "family", "--follow"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    // The follower tells of a proposal by its id, of what is forgotten by the block's.
    let mut told = |event: &str, id: &str| loop {
        let line: Value = serde_json::from_str(&lines.next().expect("the log goes on").unwrap()).unwrap();
        if line["event"] == *event && (line["id"] == *id || line["proposal"] == *id) {
            return;
        }
    };
    let [here, all, one, soon] = [&b"here"[..], b"all", b"one", b"soon"].map(|content| match content {
        b"one" => add(&a, content, &["--forget-by", "author"]),
        b"soon" => add(&a, content, &["--expires", "2s"]),
        _ => add(&a, content, &[]),
    });
    for id in [&here, &all, &one] {
        until_state(&b, id, "available", &[]);
    }
    // On one device alone.
    let local = b.value(&["offchain", "forget", "family", &here, "--local"]);
    assert_eq!((text(&local, "id"), text(&local, "state")), (here.clone(), "forgotten".into()));
    assert_eq!((state(&b, &here, &[]), cat(&a, &here, &[])), (Some("forgotten".into()), b"here".to_vec()));
    assert_ne!(b.run(&["offchain", "cat", "family", &here]).status.code(), Some(0));
    // By everybody: a refusal blocks it, a consent withdraws the refusal and is final.
    let proposal = text(&a.value(&["offchain", "forget", "family", &all, "--reason", "too private"]), "proposal");
    told("forget_proposed", &proposal);
    let proposals = |node: &Node| node.lines(&["offchain", "proposals", "family"]);
    let seen = b.until("the proposal arrives", |b| proposals(b).pop());
    assert_eq!(
        (&seen["reason"], &seen["blocks"], &seen["state"]),
        (&"too private".into(), &serde_json::json!([all]), &"open".into())
    );
    assert_eq!(b.value(&["offchain", "refuse", "family", &proposal])["state"], "refused");
    a.until("the refusal arrives", |a| (proposals(a)[0]["state"] == "refused").then_some(()));
    assert_eq!(cat(&a, &all, &[]), b"all");
    b.value(&["offchain", "consent", "family", &proposal]);
    told("forgotten", &all);
    for node in [&a, &b] {
        until_state(node, &all, "forgotten", &[]);
        assert_eq!(cat(node, &all, &[]), b"");
    }
    a.until("both devices are done", |a| (proposals(a)[0]["done"].as_array().unwrap().len() == 2).then_some(()));
    assert_eq!(b.error(4, &["offchain", "refuse", "family", &proposal]).0, "refused");
    assert_eq!(a.error(4, &["offchain", "forget", "family", &all]).0, "refused");
    // By its author alone, and by itself.
    a.value(&["offchain", "forget", "family", &one]);
    until_state(&b, &one, "forgotten", &[]);
    for node in [&a, &b] {
        until_state(node, &soon, "forgotten", &[]);
    }
    follower.kill().unwrap();
    follower.wait().unwrap();

    for command in ["consent", "refuse"] {
        let (kind, _, hint) = a.error(3, &["offchain", command, "family", UNKNOWN]);
        assert!(kind == "not_found" && hint.contains("proposals"), "{hint}");
        a.error(3, &["offchain", command, "family", &here]);
    }
    a.error(3, &["offchain", "forget", "family", UNKNOWN]);
    a.error(3, &["offchain", "forget", "family", UNKNOWN, "--local"]);
    a.error(2, &["offchain", "forget", "family", &here, "--local", "--reason", "x"]);
    a.error(4, &["offchain", "forget", "family", &here, "--reason", &"x".repeat(1_025)]);
    for rule in [&["--forget-by", "nobody"][..], &["--forget-by", "0"], &["--expires", "0s"], &["--expires", "soon"]] {
        a.error_with(2, b"x", &[&["offchain", "add", "family"], rule].concat());
    }
    assert_eq!(
        a.api("POST", &format!("/v1/identities/family/private/main/blocks/{here}/forget"), r#"{"lokal":1}"#).0,
        400
    );
    assert_eq!(state(&a, &here, &[]).as_deref(), Some("available"), "nothing of all this did anything");
}

#[test]
fn contents_are_followed_and_bandwidth_is_limited() {
    const LIMIT: u32 = 512 * 1024;
    let (mut a, b) = (Node::new(), Node::started());
    a.start(&["--upload-limit", &LIMIT.to_string()]);
    a.value(&["identity", "create", "family"]);
    join(&a, &b, "member");
    let small = add(&a, b"small", &[]);
    until_state(&b, &small, "available", &[]);
    let content = pattern(4 * 1024 * 1024);
    let begun = Instant::now();
    let large = add(&a, &content, &[]);
    b.until("the record arrives", |b| state(b, &large, &[]));
    let steps = b.lines(&["offchain", "status", "family", &large, "--follow"]);
    let last = steps.last().unwrap();
    assert_eq!((&last["state"], &last["bytes_done"]), (&"available".into(), &last["bytes_total"]));
    assert!(steps.iter().any(|step| step.get("progress").is_some()), "{steps:?}");
    // Of four parts the first may go at once; two more need two seconds each.
    assert!(begun.elapsed() > Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(cat(&b, &large, &[]) == content);
    assert!(cat(&b, &large, &["--range", "1048570-1048580"]) == content[1_048_570..=1_048_580]);
    // What is here already ends at once.
    assert_eq!(b.value(&["offchain", "status", "family", &small, "--follow"])["state"], "available");

    b.error(3, &["offchain", "status", "family", UNKNOWN]);
    b.error(3, &["offchain", "status", "family", UNKNOWN, "--follow"]);
    b.error(3, &["offchain", "show", "family", UNKNOWN]);
    b.error(2, &["offchain", "cat", "family", &large, "-o", "/dev/null", "--range", "9-1"]);
    for limit in ["0", "-1", "much"] {
        a.error(2, &["daemon", "--download-limit", limit]);
    }
    assert_eq!(b.api("GET", "/v1/identities/nobody/private/main/progress", "").0, 404);
}

#[test]
fn a_keeper_process_serves_members_who_are_never_up_together() {
    let (mut a, keeper, mut reader) = (Node::started(), Node::started(), Node::started());
    a.value(&["identity", "create", "family"]);
    join(&a, &reader, "member");
    join(&a, &keeper, "keeper");
    assert_eq!(reader.stop(), Some(0));
    let (short, long) = (add(&a, b"short", &["--topic", "t"]), add(&a, &pattern(1_500_000), &[]));
    for id in [&short, &long] {
        until_state(&keeper, id, "locked", &[]);
    }
    assert_eq!(a.stop(), Some(0));

    reader.start(&[]);
    until_state(&reader, &long, "available", &[]);
    until_state(&reader, &short, "available", &[]);
    assert_eq!(cat(&reader, &short, &[]), b"short");
    assert!(cat(&reader, &long, &[]) == pattern(1_500_000));
    let answer = add(&reader, b"answer 3f9c17e2", &[]);
    until_state(&keeper, &answer, "locked", &[]);
    assert_eq!(reader.stop(), Some(0));

    a.start(&[]);
    until_state(&a, &answer, "available", &[]);
    assert_eq!(cat(&a, &answer, &[]), b"answer 3f9c17e2");
    // The keeper reads and writes nothing.
    assert_eq!(cat(&keeper, &short, &[]), b"");
    keeper.error_with(4, b"mine", &["offchain", "add", "family"]);
    assert_eq!(keeper.error(4, &["offchain", "forget", "family", &short]).0, "refused");
    assert!(keeper.lines(&["offchain", "log", "family", "--topic", "t"]).is_empty());
    assert!(keeper.files_with(b"answer 3f9c17e2").is_empty());
}

#[test]
fn what_comes_while_the_vault_is_locked_is_readable_when_it_is_open_again() {
    let (mut a, mut b) = (Node::started(), Node::new());
    b.value_with(b"correct horse\n", &["init", "--passphrase"]);
    b.start(&[]);
    b.value_with(b"correct horse\n", &["unlock"]);
    a.value(&["identity", "create", "family"]);
    join(&a, &b, "member");
    let before = add(&a, b"before", &["--topic", "t"]);
    until_state(&b, &before, "available", &[]);

    b.value(&["lock"]);
    let cat_locked = |id: &str| {
        let output = b.run(&["offchain", "cat", "family", id]);
        assert_eq!(
            (output.status.code(), output.stdout),
            (Some(4), vec![]),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    cat_locked(&before);
    let found = b.run(&["--json", "offchain", "log", "family", "--topic", "t"]);
    assert!(found.stdout.is_empty(), "topics can be looked for: {}", String::from_utf8_lossy(&found.stdout));
    let during = add(&a, &pattern(300_000), &["--topic", "t"]);
    b.until("the content comes all the same", |b| {
        let shown = b.lines(&["offchain", "status", "family"]);
        shown.iter().any(|one| one["id"] == *during && one["state"] == "locked").then_some(())
    });
    cat_locked(&during);
    b.error_with(4, b"mine", &["offchain", "add", "family"]);
    b.error(4, &["offchain", "forget", "family", &before]);
    // Nobody can hand it over any more: it came while the vault was locked.
    a.kill();
    b.value_with(b"correct horse\n", &["unlock"]);
    until_state(&b, &during, "available", &[]);
    assert!(cat(&b, &during, &[]) == pattern(300_000));
    assert_eq!(b.lines(&["offchain", "log", "family", "--topic", "t"]).len(), 2);
}

/// The sealed bytes of every large content of a node, a piece of each.
fn sealed_pieces(node: &Node) -> Vec<Vec<u8>> {
    let files = node.files().into_iter().filter(|path| path.starts_with(node.dir().join("blobs")));
    let large = files.filter_map(|path| std::fs::read(path).ok()).filter(|bytes| bytes.len() > 100_000);
    large.map(|bytes| bytes[50_000..50_064].to_vec()).collect()
}

#[test]
fn an_erased_block_is_gone_with_all_its_versions_on_every_device() {
    let (a, b) = family();
    let (first, second) = (pattern(200_000), pattern(250_000).into_iter().rev().collect::<Vec<u8>>());
    let id = add(&a, &first, &[]);
    until_state(&b, &id, "available", &[]);
    b.value_with(&second, &["offchain", "edit", "family", &id]);
    for node in [&a, &b] {
        node.until("the edit arrives", |node| (cat(node, &id, &[]) == second).then_some(()));
    }
    let pieces = [sealed_pieces(&a), sealed_pieces(&b)];
    assert_eq!(pieces.each_ref().map(Vec::len), [2, 2], "both versions stand in files");
    let stand =
        |node: &Node, pieces: &[Vec<u8>]| pieces.iter().filter(|piece| !node.files_with(piece).is_empty()).count();
    assert_eq!((stand(&a, &pieces[0]), stand(&b, &pieces[1])), (2, 2));

    let erased = a.value(&["offchain", "erase", "family", &id]);
    assert_eq!((&erased["forgetting"], &erased["block"]["deleted"]), (&true.into(), &true.into()));
    assert_eq!(erased["blocks"].as_array().unwrap().len(), 3, "the first version, the edit and its content");
    let proposal = b.until("it is asked for", |b| b.lines(&["offchain", "proposals", "family"]).pop());
    assert_eq!(stand(&a, &pieces[0]), 2, "gone before the other device consented");
    b.value(&["offchain", "consent", "family", &text(&proposal, "id")]);
    for (node, pieces) in [(&a, &pieces[0]), (&b, &pieces[1])] {
        node.until("the bytes are gone", |node| (stand(node, pieces) == 0).then_some(()));
        let history = node.lines(&["offchain", "versions", "family", &id]);
        let acts: Vec<_> = history.iter().map(|one| text(one, "act")).collect();
        assert_eq!(acts, ["create", "edit", "delete"], "what happened stays");
        assert_ne!(node.run(&["offchain", "cat", "family", &id, "--at", &id]).status.code(), Some(0));
        assert!(node.lines(&["offchain", "log", "family"]).is_empty());
    }
}
