//! A person with several devices in a group: real daemons on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use serde_json::Value;
use support::{Node, text};

fn join(from: &Node, to: &Node, identity: &str, more: &[&str]) {
    let invitation = text(&from.value(&["identity", "invite", identity]), "invitation");
    let args: Vec<&str> =
        ["identity", "join", &invitation, "--name", identity].into_iter().chain(more.iter().copied()).collect();
    to.value(&args);
}

fn here(node: &Node, identity: &str) -> Option<Value> {
    let shown = node.lines(&["identity", "list"]).into_iter().find(|one| one["name"] == identity)?;
    (shown["role"] != "removed").then_some(shown)
}

fn devices(node: &Node, group: &str, person: &str) -> usize {
    let all = node.lines(&["identity", "controllers", group]);
    let found = all.iter().find(|one| one["id"] == person);
    found.and_then(|one| one["devices"].as_array()).map_or(0, Vec::len)
}

fn available(node: &Node, group: &str, id: &str) -> Option<Value> {
    let log = node.lines(&["offchain", "log", group]);
    log.into_iter().find(|one| one["id"] == *id && one["state"] == "available")
}

fn add(node: &Node, group: &str, content: &str) -> String {
    text(&node.value_with(content.as_bytes(), &["offchain", "add", group]), "id")
}

fn epoch(node: &Node, group: &str) -> Value {
    node.value(&["identity", "show", group])["epoch"].clone()
}

/// The id by which `node` is known in an identity of devices.
fn device(node: &Node, identity: &str) -> String {
    let all = node.lines(&["identity", "controllers", identity]);
    text(all.iter().find(|one| one["peer_id"] == node.ready["peer_id"]).expect("the own device"), "id")
}

/// The group `team` of node `t`, which the person `alice` of nodes `a` and `b` has joined as herself.
fn team() -> (Node, Node, Node, String) {
    let (t, a, b) = (Node::started(), Node::started(), Node::started());
    t.value(&["identity", "create", "team", "--device", "office"]);
    let alice = text(&a.value(&["identity", "create", "alice", "--device", "laptop"]), "did");
    join(&a, &b, "alice", &[]);
    join(&t, &a, "team", &["--as", "alice"]);
    b.until("the other device joins by itself", |b| here(b, "team"));
    t.until("the group sees both devices", |t| (devices(t, "team", &alice) == 2).then_some(()));
    (t, a, b, alice)
}

#[test]
fn every_device_of_a_person_reads_and_writes_the_group_also_one_that_is_added_later() {
    let (t, a, b, alice) = team();
    let early = add(&t, "team", "before the third device");
    for node in [&a, &b] {
        node.until("it is readable", |node| available(node, "team", &early));
    }
    let shown = here(&b, "team").unwrap();
    assert_eq!(
        (&shown["acts_as"], &shown["role"], &shown["archived"]),
        (&"alice".into(), &"member".into(), &false.into())
    );
    let listed = b.value(&["identity", "memberships", "alice"]);
    assert_eq!((&listed["name"], &listed["state"], &listed["here"]), (&"team".into(), &"active".into(), &true.into()));
    assert!(t.lines(&["identity", "memberships", "team"]).is_empty());

    let mut c = Node::started();
    join(&a, &c, "alice", &[]);
    c.until("the new device joins by itself", |c| here(c, "team"));
    c.until("it reads what was written before", |c| available(c, "team", &early));
    let from_c = c.until("it writes", |c| {
        let out = c.run_with(b"from the third device", &["--json", "offchain", "add", "team"]);
        out.status.success().then(|| serde_json::from_slice::<Value>(&out.stdout).unwrap())
    });
    let from_c = text(&from_c, "id");
    for node in [&t, &a, &b] {
        let seen = node.until("it is readable", |node| available(node, "team", &from_c));
        assert_eq!(seen["author"], alice.as_str(), "the author is the person, whichever device wrote");
    }
    assert_eq!(t.run(&["offchain", "cat", "team", &from_c]).stdout, b"from the third device");
    assert_eq!(t.lines(&["identity", "controllers", "team"]).len(), 2);
    // Killed, it acts again.
    c.kill();
    c.start(&[]);
    let late = add(&t, "team", "late");
    c.until("it reads after a restart", |c| available(c, "team", &late));
    let again = add(&c, "team", "again");
    t.until("and writes", |t| available(t, "team", &again));
}

#[test]
fn a_device_removed_from_the_person_loses_the_group_without_anybody_doing_more() {
    let (t, a, b, alice) = team();
    let before = add(&b, "team", "while it was in");
    t.until("it is readable", |t| available(t, "team", &before));
    let old = epoch(&t, "team");
    a.value(&["identity", "remove", "alice", &device(&b, "alice")]);
    t.until("the group is told", |t| (devices(t, "team", &alice) == 1).then_some(()));
    t.until("the keys are renewed", |t| (!epoch(t, "team").is_null() && epoch(t, "team") != old).then_some(()));
    a.until("the other device has them", |a| (epoch(a, "team") == epoch(&t, "team")).then_some(()));
    let after = add(&t, "team", "after the removal");
    a.until("it is readable there", |a| available(a, "team", &after));
    b.until("the removed device knows", |b| here(b, "team").is_none().then_some(()));
    assert!(available(&b, "team", &after).is_none());
    b.error_with(4, b"x", &["offchain", "add", "team"]);
    assert!(t.lines(&["offchain", "log", "team"]).iter().any(|one| one["id"] == before.as_str()), "it still counts");
}

#[test]
fn putting_away_and_leaving_differ() {
    let (t, a, b, alice) = team();
    assert_eq!(a.value(&["identity", "archive", "team"])["state"], "archived");
    b.until("the other device follows", |b| {
        (b.value(&["identity", "memberships", "alice"])["state"] == "archived").then_some(())
    });
    let (kind, message, _) = a.error_with(4, b"x", &["offchain", "add", "team"]);
    assert!(kind == "refused" && message.contains("archive"), "{kind}: {message}");
    let meanwhile = add(&t, "team", "meanwhile");
    assert_eq!(t.lines(&["identity", "controllers", "team"]).len(), 2, "the person stays");
    assert_eq!(b.value(&["identity", "archive", "team", "--undo"])["state"], "active");
    for node in [&a, &b] {
        node.until("what was missed comes", |node| available(node, "team", &meanwhile));
    }
    a.value(&["identity", "leave", "team"]);
    t.until("the person is gone", |t| (t.lines(&["identity", "controllers", "team"]).len() == 1).then_some(()));
    for node in [&a, &b] {
        node.until("it is noted", |node| {
            (node.value(&["identity", "memberships", "alice"])["state"] == "left").then_some(())
        });
        node.until("it acts no more", |node| here(node, "team").is_none().then_some(()));
    }
    a.error(4, &["identity", "archive", "team"]);
    // Invited anew, the person comes back with both devices.
    join(&t, &a, "team", &["--as", "alice"]);
    b.until("the other device is back too", |b| here(b, "team"));
    t.until("with both devices", |t| (devices(t, "team", &alice) == 2).then_some(()));
}

#[test]
fn circles_unknown_persons_and_wrong_commands_are_refused_with_the_reason() {
    let (t, a, _b, _) = team();
    let own = text(&a.value(&["identity", "invite", "alice"]), "invitation");
    let (kind, message, hint) = t.error(4, &["identity", "join", &own, "--name", "circle", "--as", "team"]);
    assert!(kind == "refused" && message.contains("does not control itself") && !hint.is_empty(), "{kind}: {message}");
    assert!(t.lines(&["identity", "list"]).len() == 1, "nothing is left of it");
    t.error(3, &["identity", "join", &own, "--as", "nobody"]);
    t.error(4, &["identity", "archive", "team"]);
    t.error(3, &["identity", "archive", "nothing"]);
    t.error(3, &["identity", "memberships", "nothing"]);
    let (_, message, _) = a.error(4, &["identity", "renew-keys", "team"]);
    assert!(message.contains("acts here as another identity"), "{message}");
    let (status, _) = a.api("POST", "/v1/identities/team/archive", r#"{"archived":1}"#);
    assert_eq!(status, 400);
}

/// The group's only admin, a device, is lost: the person recovers it on her node; and what is created for a person has no
/// other controller. A new node recovers it as a person that it did not know.
#[test]
fn groups_of_persons_are_created_and_recovered_as_persons() {
    let (a, b) = (Node::started(), Node::started());
    let alice = text(&a.value(&["identity", "create", "alice", "--device", "laptop"]), "did");
    join(&a, &b, "alice", &[]);
    a.error(2, &["identity", "create", "club", "--as", "alice", "--device", "x"]);
    a.error(3, &["identity", "create", "club", "--as", "nobody"]);
    a.error(4, &["identity", "create", "club", "--renew-after", "5m"]);
    let created = a.value(&["identity", "create", "club", "--as", "alice", "--renew-after", "2h"]);
    assert_eq!((&created["role"], &created["acts_as"]), (&"admin".into(), &"alice".into()));
    let code = format!("{}\n", text(&created, "recovery_code"));
    let controllers = a.lines(&["identity", "controllers", "club"]);
    assert_eq!((controllers.len(), &controllers[0]["id"]), (1, &alice.as_str().into()));
    b.until("the other device takes part by itself", |b| here(b, "club"));
    let early = add(&b, "club", "before");
    a.until("it is readable", |a| available(a, "club", &early));

    // On a node that acts in it the code needs nobody else; as somebody else it is refused.
    let bob = Node::started();
    bob.value(&["identity", "create", "bob", "--device", "desk"]);
    a.error_with(2, code.as_bytes(), &["identity", "recover", "club", "--as", "club"]);
    let recovered = a.value_with(code.as_bytes(), &["identity", "recover", "club"]);
    let code = format!("{}\n", text(&recovered, "recovery_code"));
    // A new node, as a person that the group did not know; the one who was there stays.
    let card = text(&a.value(&["identity", "card", "club"]), "card");
    let args = ["identity", "recover", &card, "--name", "club", "--as", "bob", "--keep", &alice];
    let recovered = bob.value_with(code.as_bytes(), &args);
    assert_eq!(recovered["role"], "admin");
    assert_eq!(here(&bob, "club").unwrap()["acts_as"], "bob");
    bob.until("it reads what was written before", |bob| available(bob, "club", &early));
    let from_bob = add(&bob, "club", "by bob");
    for node in [&a, &b] {
        node.until("it is readable", |node| available(node, "club", &from_bob));
        assert_eq!(node.lines(&["identity", "controllers", "club"]).len(), 2);
    }
    assert_eq!(bob.value(&["identity", "memberships", "bob"])["name"], "club");
}
