//! Plain chains through the program: scenarios between real daemons on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use support::{Node, text};

fn invite(node: &Node, chain: &str, more: &[&str]) -> String {
    let args: Vec<&str> = ["chain", "invite", chain].into_iter().chain(more.iter().copied()).collect();
    text(&node.value(&args), "invitation")
}

#[test]
fn block_reaches_the_other_member_and_late_joiners_get_all() {
    let (a, b) = (Node::started(), Node::started());
    a.value(&["chain", "create", "notes"]);
    let early = text(&a.value_with(b"early", &["chain", "add", "notes", "--topic", "t"]), "id");
    let joined = b.value_with(invite(&a, "notes", &[]).as_bytes(), &["chain", "join", "-", "--name", "notes"]);
    assert_eq!(joined["blocks"], 2);
    assert_eq!(b.run(&["chain", "cat", "notes", &early]).stdout, b"early");
    let late = text(&a.value_with(b"late", &["chain", "add", "notes"]), "id");
    b.until("the new block arrives", |b| {
        b.lines(&["chain", "log", "notes"]).iter().any(|one| one["id"] == *late).then_some(())
    });
    let heads = b.value(&["chain", "heads", "notes"]);
    assert_eq!(heads["heads"][0], *late);
    assert_eq!(b.lines(&["chain", "log", "notes", "--topic", "t"]).len(), 1);
    let peers = b.lines(&["peers"]);
    assert_eq!(peers[0]["peer_id"], a.ready["peer_id"]);
}

#[test]
fn offline_additions_merge_to_one_order_after_restart() {
    let (mut a, mut b) = (Node::started(), Node::started());
    a.value(&["chain", "create", "notes"]);
    b.value(&["chain", "join", &invite(&a, "notes", &[]), "--name", "notes"]);
    assert_eq!((a.stop(), b.stop()), (Some(0), Some(0)));
    for n in 0..3 {
        a.value_with(format!("a{n}").as_bytes(), &["chain", "add", "notes"]);
        b.value_with(format!("b{n}").as_bytes(), &["chain", "add", "notes"]);
    }
    a.start(&[]);
    b.start(&[]);
    let address = a.ready["listen"][0].as_str().unwrap().to_owned();
    b.value(&["peers", "connect", &address]);
    let log = |node: &Node| {
        let log: Vec<String> = node.lines(&["chain", "log", "notes"]).iter().map(|one| text(one, "id")).collect();
        (log.len() == 7).then_some(log)
    };
    let at_a = a.until("a has all seven", log);
    let at_b = b.until("b has all seven", log);
    assert_eq!(at_a, at_b);
}

#[test]
fn invitations_end_by_use_expiry_and_revocation() {
    let (mut a, b, c) = (Node::started(), Node::started(), Node::started());
    a.value(&["chain", "create", "notes"]);
    let once = invite(&a, "notes", &["--uses", "1"]);
    // The invitation survives the restart of its issuer.
    a.stop();
    a.start(&["--listen", &text_of_first_address(&a)]);
    b.value(&["chain", "join", &once, "--name", "notes"]);
    let (kind, message, _) = c.error(4, &["chain", "join", &once]);
    assert_eq!(kind, "refused");
    assert!(message.contains("used up"), "{message}");
    let short = invite(&a, "notes", &["--expires", "1s"]);
    // Joining again costs no second use: what ends it is its time.
    let expired = c.until("the invitation expires", |c| {
        let output = c.run(&["--json", "chain", "join", &short, "--name", "too-early"]);
        if output.status.success() {
            c.value(&["chain", "delete", "too-early"]);
            return None;
        }
        assert_eq!(output.status.code(), Some(4));
        Some(String::from_utf8(output.stderr).unwrap())
    });
    assert!(expired.contains("expired"), "{expired}");
    let revoked = a.value(&["chain", "invite", "notes"]);
    a.value(&["chain", "revoke", "notes", &text(&revoked, "id")]);
    let (_, message, _) = c.error(4, &["chain", "join", &text(&revoked, "invitation")]);
    assert!(message.contains("revoked"), "{message}");
    assert!(c.lines(&["chain", "list"]).is_empty(), "nothing was left behind");
}

fn text_of_first_address(node: &Node) -> String {
    let listen = node.ready["listen"].as_array().unwrap();
    let quic = listen.iter().filter_map(|one| one.as_str()).find(|one| one.contains("quic")).unwrap();
    quic.split("/p2p/").next().unwrap().to_owned()
}

#[test]
fn shareable_invitation_is_honoured_while_its_issuer_is_off() {
    let (mut a, b, c) = (Node::started(), Node::started(), Node::started());
    a.value(&["chain", "create", "notes"]);
    b.value(&["chain", "join", &invite(&a, "notes", &[]), "--name", "notes"]);
    b.until("both are in step", |b| {
        b.lines(&["peers"])[0]["chains"].as_array().is_some_and(|all| !all.is_empty()).then_some(())
    });
    let shared = invite(&a, "notes", &["--shareable"]);
    b.until("the invitation reached the other member", |b| {
        (!b.lines(&["chain", "invites", "notes"]).is_empty()).then_some(())
    });
    assert_eq!(a.stop(), Some(0));
    let joined = c.value(&["chain", "join", &shared, "--name", "notes"]);
    assert_eq!(joined["id"], b.value(&["chain", "show", "notes"])["id"]);
}

#[test]
fn killed_member_comes_back_with_everything_it_acknowledged() {
    let mut a = Node::started();
    a.value(&["chain", "create", "notes"]);
    let ids: Vec<String> = (0..20)
        .map(|n| text(&a.value_with(format!("block {n}").as_bytes(), &["chain", "add", "notes"]), "id"))
        .collect();
    a.kill();
    a.start(&[]);
    let log: Vec<String> = a.lines(&["chain", "log", "notes"]).iter().map(|one| text(one, "id")).collect();
    assert!(ids.iter().all(|id| log.contains(id)));
    assert_eq!(a.run(&["chain", "cat", "notes", &ids[7]]).stdout, b"block 7");
}

#[test]
fn large_content_travels_as_a_blob() {
    let (a, b) = (Node::started(), Node::started());
    a.value(&["chain", "create", "notes"]);
    b.value(&["chain", "join", &invite(&a, "notes", &[]), "--name", "notes"]);
    let content: Vec<u8> = (0..5_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let id = text(&a.value_with(&content, &["chain", "add", "notes"]), "id");
    b.until("the block arrives", |b| {
        b.lines(&["chain", "log", "notes"]).iter().any(|one| one["id"] == *id).then_some(())
    });
    let output = b.run(&["chain", "cat", "notes", &id]);
    assert!(
        output.stdout == content,
        "{} bytes came, {}",
        output.stdout.len(),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn follow_shows_blocks_as_they_come() {
    use std::io::BufRead as _;
    let a = Node::started();
    a.value(&["chain", "create", "notes"]);
    let mut follower = a
        .command(&["--json", "chain", "log", "notes", "--follow"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(follower.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("\"generation\":0"));
    let id = text(&a.value_with(b"x", &["chain", "add", "notes"]), "id");
    assert!(lines.next().unwrap().unwrap().contains(&id));
    follower.kill().unwrap();
    follower.wait().unwrap();
}
