//! Messages between identities through the program: real daemons on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use serde_json::Value;
use support::{Node, text};

fn inbox(node: &Node, more: &[&str]) -> Vec<Value> {
    node.lines(&[&["offchain", "inbox", "family"], more].concat())
}

fn until_sent(node: &Node, id: &str, wanted: &str) {
    node.until(&format!("{id} is {wanted}"), |node| {
        let all = node.lines(&["offchain", "outbox"]);
        all.iter().any(|one| one["id"] == *id && one["state"] == *wanted).then_some(())
    });
}

fn send(node: &Node, to: &str, message: &[u8]) -> String {
    text(&node.value_with(message, &["offchain", "send", to]), "id")
}

/// A stranger writes to an identity with two devices by its contact card; then it is blocked, and only known senders are
/// taken.
#[test]
fn messages_reach_every_device_once_and_senders_are_refused_by_all() {
    let (a, b, out) = (Node::started(), Node::started(), Node::started());
    a.value(&["identity", "create", "family"]);
    let token = text(&a.value(&["identity", "invite", "family", "--role", "member"]), "invitation");
    b.value(&["identity", "join", &token, "--name", "family"]);
    let stranger = text(&out.value(&["identity", "create", "me"]), "did");
    let card = text(&a.value(&["identity", "card", "family"]), "card");

    let first = out.value_with(b"dinner at eight?", &["offchain", "send", &card]);
    assert_eq!((text(&first, "from"), text(&first, "state")), (stranger.clone(), "waiting".into()));
    let first = text(&first, "id");
    for node in [&a, &b] {
        let seen = node.until("the message is here", |node| inbox(node, &["--peek"]).pop());
        assert_eq!((text(&seen, "from"), &seen["opened"]), (stranger.clone(), &false.into()));
        assert_eq!(text(&seen, "content_base64"), "ZGlubmVyIGF0IGVpZ2h0Pw==");
    }
    until_sent(&out, &first, "accepted");
    assert_eq!(inbox(&b, &[]).len(), 1);
    until_sent(&out, &first, "opened");
    a.until("the other device knows that it was opened", |a| {
        (inbox(a, &["--peek"])[0]["opened"] == true).then_some(())
    });
    assert_eq!(inbox(&a, &[]).len(), 1, "once, however many devices took it");
    // Neither message nor sender's words stand in plain sight.
    for node in [&a, &b, &out] {
        assert!(node.files_with(b"dinner at eight").is_empty());
    }
    // An answer goes back by the card in it.
    let reply = text(&inbox(&a, &["--peek"])[0], "reply_card");
    let answer = send(&a, &reply, b"yes");
    until_sent(&a, &answer, "accepted");
    assert_eq!(out.lines(&["offchain", "inbox", "me"]).len(), 1);

    // Blocked by one device, refused by all.
    let rules = b.value(&["offchain", "senders", "family", "--block", &stranger]);
    assert_eq!(rules["blocked"], serde_json::json!([stranger]));
    a.until("the other device knows of it", |a| {
        (a.value(&["offchain", "senders", "family"])["blocked"] == rules["blocked"]).then_some(())
    });
    let refused = send(&out, &card, b"are you there?");
    until_sent(&out, &refused, "refused");
    b.value(&["offchain", "senders", "family", "--unblock", &stranger, "--policy", "known"]);
    a.until("the policy arrives", |a| (a.value(&["offchain", "senders", "family"])["policy"] == "known").then_some(()));
    let unknown = send(&out, &card, b"still me");
    until_sent(&out, &unknown, "refused");
    b.value(&["offchain", "senders", "family", "--allow", &stranger]);
    a.until("the sender is allowed", |a| {
        (a.value(&["offchain", "senders", "family"])["allowed"] == serde_json::json!([stranger])).then_some(())
    });
    let allowed = send(&out, &card, b"at last");
    until_sent(&out, &allowed, "accepted");
    assert_eq!(inbox(&a, &["--peek"]).len(), 2);
}

#[test]
fn messages_wait_for_a_receiver_that_is_away_and_can_be_taken_back() {
    let (mut a, out) = (Node::started(), Node::started());
    a.value(&["identity", "create", "family"]);
    out.value(&["identity", "create", "me"]);
    let card = text(&a.value(&["identity", "card", "family"]), "card");
    let first = send(&out, &card, b"one");
    until_sent(&out, &first, "accepted");
    assert_eq!(a.stop(), Some(0));
    let (kept, taken_back) = (send(&out, &card, b"two"), send(&out, &card, b"three"));
    assert_eq!(text(&out.value(&["offchain", "outbox", "--discard", &taken_back]), "id"), taken_back);
    until_sent(&out, &kept, "waiting");
    a.start(&[]);
    // It dials whom it knows; whoever waits tries again when its node connects.
    a.value(&["peers", "connect", out.ready["listen"][0].as_str().unwrap()]);
    until_sent(&out, &kept, "accepted");
    assert_eq!(inbox(&a, &["--peek"]).len(), 2);

    let (kind, _, hint) = out.error_with(2, b"x", &["offchain", "send", "walytiscontact1nonsense"]);
    assert!(kind == "usage" && hint.contains("card"), "{hint}");
    out.error_with(3, b"x", &["offchain", "send", "nobody"]);
    out.error_with(3, b"x", &["offchain", "send", &card, "--as", "nobody"]);
    out.error_with(2, &vec![b'x'; 256 * 1024 + 1], &["offchain", "send", &card]);
    out.error(3, &["offchain", "outbox", "--discard", "0000"]);
    out.error(3, &["offchain", "inbox", "nobody"]);
    out.error(2, &["offchain", "senders", "me", "--policy", "some"]);
    out.error(3, &["offchain", "senders", "me", "--block", "nobody"]);
    assert_eq!(out.value(&["offchain", "senders", "me"])["policy"], "everybody", "nothing of all this did anything");
    let nameless = Node::new();
    nameless.error_with(3, b"x", &["offchain", "send", &card]);
    assert_eq!(out.api("POST", "/v1/messages", "x").0, 400);
    assert_eq!(out.api("POST", "/v1/identities/me/inbox/senders", r#"{"bloc":[]}"#).0, 400);
}
