//! What joining says: progress, and each failure with its kind, message and exit code.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod support;

use support::{Node, text};
use walytis::core::join::Invitation;
use walytis::core::secret::Secret;

fn invite(node: &Node, more: &[&str]) -> String {
    let args: Vec<&str> = ["chain", "invite", "notes"].into_iter().chain(more.iter().copied()).collect();
    text(&node.value(&args), "invitation")
}

#[test]
fn a_join_tells_its_progress_and_each_failure_says_what_it_is() {
    let (mut a, b) = (Node::started(), Node::started());
    a.value(&["chain", "create", "notes"]);
    for number in 0..5 {
        a.value_with(format!("block {number}").as_bytes(), &["chain", "add", "notes"]);
    }
    let token = invite(&a, &["--uses", "3"]);
    let lines = b.lines(&["chain", "join", &token, "--name", "notes"]);
    let (result, progress) = lines.split_last().unwrap();
    assert_eq!((result["name"].as_str(), result["blocks"].as_u64()), (Some("notes"), Some(6)));
    let totals: Vec<_> = progress.iter().map(|line| &line["progress"]).collect();
    assert!(!totals.is_empty() && totals.iter().all(|one| one["blocks_total"] == 6), "{lines:?}");
    assert!(totals.iter().all(|one| one["bytes_done"].is_u64() && one["blocks_done"].is_u64()), "{lines:?}");

    // Finished: nothing to go on with.
    let (kind, message, _) = b.error(4, &["chain", "join", &token, "--name", "again"]);
    assert!(kind == "refused" && message.contains("already"), "{kind}: {message}");
    // Malformed in each way that a person can bring about.
    let typo = token.replace(&token[20..21], if &token[20..21] == "z" { "y" } else { "z" });
    for broken in [&token[..token.len() - 3], "hello", "walytis2abc", "", &typo] {
        let (kind, message, hint) = b.error(2, &["chain", "join", broken]);
        assert!(kind == "usage" && !message.is_empty() && !hint.is_empty(), "{broken}: {kind}: {message}");
    }
    // A false chain id, or another key: well-formed, and refused by the member, which does not say why.
    let other = text(&a.value(&["chain", "create", "other"]), "id");
    let good: Invitation = token.parse().unwrap();
    let forged = [
        Invitation { chain: other.parse().unwrap(), ..good.clone() },
        Invitation { seed: Secret::new([7; 32]), ..good },
    ];
    let d = Node::started();
    for forged in forged {
        let (kind, message, _) = d.error(4, &["chain", "join", &forged.to_text(), "--name", "notes"]);
        assert!(kind == "refused" && !message.is_empty(), "{kind}: {message}");
        assert!(d.lines(&["chain", "list"]).is_empty(), "something is left of it");
    }
    let (kind, message, _) = a.error(2, &["chain", "invite", "notes", "--uses", "1001"]);
    assert!(kind == "usage" && message.contains("1000"), "{message}");

    // Nobody is there; nothing is left of the attempt.
    let late = invite(&a, &[]);
    a.stop();
    let c = Node::started();
    let (kind, message, hint) = c.error(5, &["chain", "join", &late, "--name", "notes"]);
    assert!(kind == "timed_out" && message.contains("reached") && !hint.is_empty(), "{kind}: {message}");
    assert!(c.lines(&["chain", "list"]).is_empty());
}

#[test]
fn an_invitation_is_drawn_as_a_qr_code_on_request() {
    let a = Node::started();
    a.value(&["chain", "create", "notes"]);
    a.value(&["identity", "create", "family"]);
    for (of, begins) in
        [(["chain", "invite", "notes", "--qr"], "walytis1"), (["identity", "invite", "family", "--qr"], "walytisid1")]
    {
        let output = a.run(&of);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let shown = String::from_utf8(output.stdout).unwrap();
        let mut lines = shown.lines();
        assert!(lines.next().unwrap().starts_with(begins), "{shown}");
        let drawn: Vec<_> = lines.collect();
        assert!(drawn.len() > 20 && drawn.iter().all(|line| line.chars().all(|c| "█▀▄ ".contains(c))), "{shown}");
        // JSON is for programs.
        a.error(2, &of);
    }
}
