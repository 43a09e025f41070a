//! Identities and private content through the program: scenarios between real daemons on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use serde_json::Value;
use support::{Node, text};

/// A created the identity, B's device joined it.
fn family() -> (Node, Node, String) {
    let (a, b) = (Node::started(), Node::started());
    let created = a.value(&["identity", "create", "family", "--device", "laptop"]);
    join(&a, &b);
    (a, b, text(&created, "did"))
}

fn invite(node: &Node, more: &[&str]) -> String {
    let args: Vec<&str> = ["identity", "invite", "family"].into_iter().chain(more.iter().copied()).collect();
    text(&node.value(&args), "invitation")
}

fn join(from: &Node, to: &Node) {
    to.value(&["identity", "join", &invite(from, &[]), "--name", "family"]);
    let devices = |node: &Node| (node.lines(&["identity", "controllers", "family"]).len() >= 2).then_some(());
    from.until("the inviter lists the joiner", devices);
    to.until("the joiner lists the inviter", devices);
}

fn role(node: &Node) -> String {
    text(&node.value(&["identity", "show", "family"]), "role")
}

fn epoch(node: &Node) -> Value {
    node.value(&["identity", "show", "family"])["epoch"].clone()
}

fn available(node: &Node, id: &str) -> Option<Value> {
    let log = node.lines(&["offchain", "log", "family"]);
    log.into_iter().find(|one| one["id"] == *id && one["state"] == "available")
}

/// The id of the other device, as `node` lists it.
fn other(node: &Node) -> String {
    let own = &node.ready["peer_id"];
    let all = node.lines(&["identity", "controllers", "family"]);
    text(all.iter().find(|one| one["peer_id"] != *own).expect("another device"), "id")
}

#[test]
fn identity_is_created_shown_and_reopened() {
    let mut a = Node::started();
    let created = a.value(&["identity", "create", "family", "--device", "laptop"]);
    let did = text(&created, "did");
    assert!(did.starts_with("did:walytis:bafkrei"), "{did}");
    assert!(text(&created, "recovery_code").len() > 20);
    assert_eq!(created["role"], "admin");
    a.stop();
    a.start(&[]);
    let shown = a.value(&["identity", "show", &did]);
    assert_eq!((&shown["did"], &shown["role"]), (&created["did"], &created["role"]));
    assert_eq!(shown["epoch"], created["epoch"]);
    assert_eq!(shown["controllers"][0]["name"], "laptop");
    assert!(shown.get("recovery_code").is_none());
    let code = text(&created, "recovery_code");
    assert!(a.files_with(code.as_bytes()).is_empty(), "the recovery code is stored nowhere");
    // Its chain can be read like others, and written only through the identity.
    assert_eq!(a.lines(&["chain", "log", "family"]).len(), 1);
    a.error_with(4, b"x", &["chain", "add", "family"]);
    a.error(4, &["chain", "invite", "family"]);
    a.error(4, &["chain", "delete", "family"]);
    assert!(a.lines(&["chain", "list"]).is_empty());
}

#[test]
fn private_text_and_file_reach_the_other_device() {
    let (a, mut b, _) = family();
    let note = text(&a.value_with(b"under the third stone", &["offchain", "add", "family", "--topic", "places"]), "id");
    let content: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let file = text(&a.value_with(&content, &["offchain", "add", "family", "--topic", "files"]), "id");
    let seen = b.until("the text is readable", |b| available(b, &note));
    assert_eq!(seen["topics"][0], "places");
    let laptop = a.lines(&["identity", "controllers", "family"]);
    let laptop = laptop.iter().find(|one| one["name"] == "laptop").unwrap();
    assert_eq!(seen["author"], laptop["id"]);
    b.until("the file is readable", |b| available(b, &file));
    assert_eq!(b.run(&["offchain", "cat", "family", &note]).stdout, b"under the third stone");
    assert_eq!(b.run(&["offchain", "cat", "family", &file]).stdout, content);
    assert_eq!(b.lines(&["offchain", "log", "family", "--topic", "places"]).len(), 1);
    // Killed, it comes back complete, and receives again.
    b.kill();
    b.start(&[]);
    assert_eq!(b.run(&["offchain", "cat", "family", &file]).stdout, content);
    let late = text(&a.value_with(b"late", &["offchain", "add", "family"]), "id");
    b.until("content arrives after the restart", |b| available(b, &late));
    let answer = text(&b.value_with(b"answer", &["offchain", "add", "family"]), "id");
    a.until("the other way works too", |a| available(a, &answer));
}

#[test]
fn no_file_holds_private_text_topics_or_keys() {
    let (a, b, _) = family();
    let marker = "marker-5f1c8f6e2ab94d0e9f7d";
    let id = text(
        &a.value_with(format!("text {marker}").as_bytes(), &["offchain", "add", "family", "--topic", marker]),
        "id",
    );
    b.until("it is readable", |b| available(b, &id));
    a.value(&["chain", "create", "plain"]);
    a.value_with(format!("plain-{marker}").as_bytes(), &["chain", "add", "plain"]);
    let plain = format!("plain-{marker}");
    assert!(!a.files_with(plain.as_bytes()).is_empty(), "the scan finds what is there");
    for node in [&a, &b] {
        let found = node.files_with(marker.as_bytes());
        let only_plain = |path: &std::path::PathBuf| {
            let file = std::fs::read(path).unwrap();
            let all = file.windows(marker.len()).filter(|window| *window == marker.as_bytes()).count();
            let plain_ones = file.windows(plain.len()).filter(|window| *window == plain.as_bytes()).count();
            all == plain_ones
        };
        assert!(found.iter().all(only_plain), "private text in {found:?}");
    }
}

#[test]
fn removed_device_reads_nothing_new_and_writes_nothing_that_counts() {
    let (a, b, _) = family();
    let before = text(&a.value_with(b"before", &["offchain", "add", "family"]), "id");
    b.until("it is readable", |b| available(b, &before));
    let old_epoch = epoch(&a);
    let removed = a.value(&["identity", "remove", "family", &other(&a)]);
    assert_ne!(removed["epoch"], old_epoch);
    let after = text(&a.value_with(b"after", &["offchain", "add", "family"]), "id");
    b.until("the removed device learns of it", |b| (role(b) == "removed").then_some(()));
    assert!(available(&b, &after).is_none());
    let output = b.run(&["offchain", "cat", "family", &after]);
    assert_ne!(output.status.code(), Some(0));
    let (kind, _, _) = b.error_with(4, b"mine", &["offchain", "add", "family"]);
    assert_eq!(kind, "refused");
    assert_eq!(b.run(&["offchain", "cat", "family", &before]).stdout, b"before", "what it had it keeps");
    // It cannot come back by itself, not with an old invitation either.
    assert_eq!(a.lines(&["identity", "controllers", "family"]).len(), 1);
    assert_eq!(a.run(&["offchain", "cat", "family", &after]).stdout, b"after");
}

#[test]
fn invitations_to_an_identity_end_by_use_and_revocation() {
    let (a, b, c) = (Node::started(), Node::started(), Node::started());
    a.value(&["identity", "create", "family"]);
    let once = invite(&a, &["--uses", "1"]);
    // Not as an argument, which others see.
    let file = b.dir().join("invitation");
    std::fs::write(&file, format!("{once}\n")).unwrap();
    b.value(&["identity", "join", &format!("@{}", file.display()), "--name", "family"]);
    c.error(3, &["identity", "join", "@missing"]);
    c.error_with(2, b"", &["identity", "join", "-"]);
    let (kind, message, _) = c.error(4, &["identity", "join", &once]);
    assert_eq!(kind, "refused");
    assert!(message.contains("used up"), "{message}");
    let revoked = a.value(&["identity", "invite", "family"]);
    a.value(&["identity", "revoke", "family", &text(&revoked, "id")]);
    let (_, message, _) = c.error(4, &["identity", "join", &text(&revoked, "invitation")]);
    assert!(message.contains("revoked"), "{message}");
    assert!(c.lines(&["identity", "list"]).is_empty());
    assert!(c.lines(&["chain", "list"]).is_empty());
    a.error(2, &["identity", "invite", "family", "--role", "king"]);
}

#[test]
fn messages_are_signed_verified_sealed_and_opened() {
    let (a, b, did) = family();
    let signature = text(&a.value_with(b"I agree", &["identity", "sign", "family"]), "text");
    let valid = b.value_with(b"I agree", &["identity", "verify", &signature]);
    assert_eq!((&valid["valid"], &valid["still_valid"]), (&Value::Bool(true), &Value::Bool(true)));
    assert_eq!(valid["did"], *did);
    let output = b.run_with(b"I disagree", &["--json", "identity", "verify", &signature]);
    assert_eq!(output.status.code(), Some(1));
    b.error_with(2, b"x", &["identity", "verify", "nonsense"]);
    // A stranger who is connected to a controller seals for it; only controllers open.
    let c = Node::started();
    c.value(&["peers", "connect", a.ready["listen"][0].as_str().unwrap()]);
    let sealed = text(&c.value_with(b"for your eyes", &["identity", "seal", &did]), "text");
    assert!(!sealed.contains("eyes"));
    let opened = b.run_with(sealed.as_bytes(), &["identity", "open", "family"]);
    assert_eq!(opened.stdout, b"for your eyes");
    let verified = c.value_with(b"I agree", &["identity", "verify", "--did", &did, &signature]);
    assert_eq!(verified["valid"], true);
    c.error_with(3, sealed.as_bytes(), &["identity", "open", "family"]);
    // Renewed keys: what was sealed before still opens, what was signed before still verifies.
    let old = epoch(&a);
    a.value(&["identity", "rekey", "family"]);
    b.until("the other device switches", |b| (epoch(b) != old).then_some(()));
    assert_eq!(b.run_with(sealed.as_bytes(), &["identity", "open", "family"]).stdout, b"for your eyes");
    assert_eq!(b.value_with(b"I agree", &["identity", "verify", &signature])["valid"], true);
}

#[test]
fn leaving_device_is_taken_out_and_keys_are_renewed() {
    let (a, b, _) = family();
    let old = epoch(&a);
    b.value(&["identity", "leave", "family"]);
    a.until("the keys are renewed", |a| {
        let now = epoch(a);
        (now != old && !now.is_null() && a.lines(&["identity", "controllers", "family"]).len() == 1).then_some(())
    });
    let id = text(&a.value_with(b"alone", &["offchain", "add", "family"]), "id");
    assert!(available(&b, &id).is_none());
    let (kind, _, _) = a.error(4, &["identity", "leave", "family"]);
    assert_eq!(kind, "refused", "the last admin cannot leave");
}

#[test]
fn layers_do_not_see_each_other() {
    let (a, b, _) = family();
    let id = text(&a.value_with(b"chat", &["offchain", "add", "family", "--layer", "chat"]), "id");
    assert!(a.lines(&["offchain", "log", "family"]).is_empty());
    b.until("the layer is opened and its content fetched", |b| {
        let log = b.lines(&["offchain", "log", "family", "--layer", "chat"]);
        log.iter().any(|one| one["id"] == *id && one["state"] == "available").then_some(())
    });
    assert_eq!(b.run(&["offchain", "cat", "family", &id, "--layer", "chat"]).stdout, b"chat");
    assert_eq!(b.run(&["offchain", "cat", "family", &id]).status.code(), Some(3));
}
