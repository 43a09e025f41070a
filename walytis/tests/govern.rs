//! Roles, recovery, deactivation, documents and keys of identities through the program, between real daemons.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::{Node, text};
use walytis_core::store::{Batch, Direction, Durability, KeyRange, KvStore as _, RocksStore};

/// A created the identity, B's device joined it in this role; with the recovery code.
fn family(role: &str) -> (Node, Node, String, String) {
    let (a, b) = (Node::started(), Node::started());
    let created = a.value(&["identity", "create", "family", "--device", "laptop"]);
    let token = text(&a.value(&["identity", "invite", "family", "--role", role]), "invitation");
    b.value(&["identity", "join", &token, "--name", "family"]);
    a.until("the inviter lists the joiner", |a| (controllers(a).len() == 2).then_some(()));
    (a, b, text(&created, "did"), text(&created, "recovery_code"))
}

fn controllers(node: &Node) -> Vec<Value> {
    node.lines(&["identity", "controllers", "family"])
}

fn show(node: &Node) -> Value {
    node.value(&["identity", "show", "family"])
}

/// The id of the other device, as `node` lists it.
fn other(node: &Node) -> String {
    let own = &node.ready["peer_id"];
    text(controllers(node).iter().find(|one| one["peer_id"] != *own).expect("another device"), "id")
}

fn available(node: &Node, id: &str) -> Option<()> {
    let log = node.lines(&["offchain", "log", "family"]);
    log.iter().any(|one| one["id"] == *id && one["state"] == "available").then_some(())
}

#[test]
fn reader_reads_and_is_told_why_it_cannot_write() {
    let (a, b, _, _) = family("reader");
    assert_eq!(show(&b)["role"], "reader");
    let id = text(&a.value_with(b"to be read", &["offchain", "add", "family"]), "id");
    b.until("the reader reads", |b| available(b, &id));
    let (kind, message, _) = b.error_with(4, b"x", &["offchain", "add", "family"]);
    assert_eq!(kind, "refused");
    assert!(message.contains("reader") && message.contains("does not write"), "{message}");
    for args in
        [&["identity", "rekey", "family"][..], &["identity", "invite", "family"], &["identity", "deactivate", "family"]]
    {
        let (_, message, _) = b.error(4, args);
        assert!(message.contains("role"), "{message}");
    }
    b.error_with(4, b"x", &["identity", "sign", "family"]);
    // Raised, it writes; lowered to keeper, it opens nothing that comes after.
    let device = other(&a);
    a.value(&["identity", "role", "family", &device, "member"]);
    b.until("it is a member", |b| (show(b)["role"] == "member").then_some(()));
    let answer = b.until("it can write", |b| {
        let output = b.run_with(b"answer", &["--json", "offchain", "add", "family"]);
        output.status.success().then(|| serde_json::from_slice::<Value>(&output.stdout).unwrap())
    });
    a.until("what it writes arrives", |a| available(a, &text(&answer, "id")));
    let before = show(&a)["epoch"].clone();
    a.value(&["identity", "role", "family", &device, "keeper"]);
    a.until("the keys are renewed", |a| {
        let now = show(a)["epoch"].clone();
        (now != before && !now.is_null()).then_some(())
    });
    let hidden = text(&a.value_with(b"not for the keeper", &["offchain", "add", "family"]), "id");
    b.until("it is a keeper", |b| (show(b)["role"] == "keeper").then_some(()));
    let epochs = b.until("it knows the epoch and cannot read it", |b| {
        let epochs = b.lines(&["identity", "epochs", "family"]);
        epochs.iter().any(|one| one["in_force"] == true && one["readable"] == false).then_some(epochs)
    });
    assert!(epochs.iter().any(|one| one["readable"] == true), "what it had it keeps");
    assert!(available(&b, &hidden).is_none());
    assert!(b.files_with(b"not for the keeper").is_empty());
}

#[test]
fn roles_that_cannot_be_given_say_why() {
    let (a, b, _, _) = family("member");
    let (mine, theirs) = (other(&b), other(&a));
    a.error(2, &["identity", "role", "family", &theirs, "king"]);
    a.error(3, &["identity", "role", "family", "nobody", "reader"]);
    a.error(3, &["identity", "role", "nobody", &theirs, "reader"]);
    let (_, message, _) = a.error(4, &["identity", "role", "family", &mine, "member"]);
    assert!(message.contains("last admin"), "{message}");
    let (_, message, _) = a.error(4, &["identity", "role", "family", &theirs, "member"]);
    assert!(message.contains("already"), "{message}");
    let (_, message, _) = b.error(4, &["identity", "role", "family", &theirs, "admin"]);
    assert!(message.contains("needs the role admin"), "{message}");
    let (status, problem) = a.api("PUT", &format!("/v1/identities/family/controllers/{theirs}"), r#"{"role":"king"}"#);
    assert_eq!(status, 400, "{problem}");
}

#[test]
fn a_removal_by_a_junior_is_provisional_and_the_code_is_the_final_word() {
    let (a, b, _, code) = family("admin");
    let senior = other(&b);
    let kept = text(&a.value_with(b"written before", &["offchain", "add", "family"]), "id");
    b.until("it is read", |b| available(b, &kept));
    assert_eq!(show(&b)["provisional_removal"], false);
    b.value(&["identity", "remove", "family", &senior]);
    assert_eq!(show(&b)["provisional_removal"], true);
    let told = String::from_utf8(b.run(&["identity", "show", "family"]).stdout).unwrap();
    assert!(told.contains("PROVISIONAL") && told.contains("recover"), "{told}");
    // Wrong codes, in every way.
    b.error_with(2, b"nonsense\n", &["identity", "recover", "family"]);
    b.error_with(2, format!("{}x\n", &code[..code.len() - 1]).as_bytes(), &["identity", "recover", "family"]);
    let foreign = text(&a.value(&["identity", "create", "other"]), "recovery_code");
    let (kind, message, _) = b.error_with(4, format!("{foreign}\n").as_bytes(), &["identity", "recover", "family"]);
    assert!(kind == "refused" && message.contains("not the recovery code"), "{message}");
    b.error_with(3, format!("{code}\n").as_bytes(), &["identity", "recover", "family", "--keep", "nobody"]);

    let output = b.run_with(format!("{code}\n").as_bytes(), &["--json", "identity", "recover", "family"]);
    let recovered: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(recovered["role"], "admin");
    let next = text(&recovered, "recovery_code");
    assert!(next.starts_with("walytisrecovery1") && next != code);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains(&format!("{{\"next_recovery_code\":\"{next}\"}}")), "told before it was in force: {told}");
    // Whoever brings the next code gets the same answer again, and nothing happens twice.
    let body = json!({ "who": "family", "code": code, "next_code": next }).to_string();
    let (status, again) = b.api("POST", "/v1/identities/recover", &body);
    assert_eq!((status, &again["op"]), (200, &recovered["op"]), "{again}");
    let body = json!({ "who": "family", "code": next, "next_code": next }).to_string();
    assert_eq!(b.api("POST", "/v1/identities/recover", &body).0, 403);
    assert!(b.files_with(next.as_bytes()).is_empty(), "stored nowhere");
    a.until("the senior admin is out", |a| (show(a)["role"] == "removed").then_some(()));
    a.error_with(4, b"x", &["offchain", "add", "family"]);
    assert_eq!((controllers(&b).len(), &show(&b)["provisional_removal"]), (1, &json!(false)));
    available(&b, &kept).expect("what was written before counts");
    b.value_with(b"alone", &["offchain", "add", "family"]);
    // Used once.
    b.error_with(4, format!("{code}\n").as_bytes(), &["identity", "recover", "family"]);
}

#[test]
fn a_new_node_recovers_with_a_code_and_a_card_alone() {
    let (mut a, b, did, code) = family("member");
    let kept = text(&a.value_with(b"written before", &["offchain", "add", "family"]), "id");
    b.until("it is read", |b| available(b, &kept));
    let card = text(&b.value(&["identity", "card", "family"]), "card");
    let device = other(&a);
    a.kill();

    let offline = Node::new();
    let (_, _, hint) = offline.error_with(1, format!("{code}\n").as_bytes(), &["identity", "recover", &card]);
    assert!(hint.contains("walytis daemon"), "{hint}");
    let c = Node::started();
    let input = format!("{code}\n");
    let args = ["identity", "recover", &card, "--name", "family", "--device", "new laptop", "--keep", &device];
    let recovered = c.value_with(input.as_bytes(), &args);
    assert_eq!((text(&recovered, "did"), &recovered["role"]), (did, &json!("admin")));
    c.until("the new device reads what was written before", |c| available(c, &kept));
    assert_eq!(c.run(&["offchain", "cat", "family", &kept]).stdout, b"written before");
    let new = text(&c.value_with(b"from the new device", &["offchain", "add", "family"]), "id");
    b.until("the one that stayed reads it", |b| available(b, &new));
    c.error_with(4, input.as_bytes(), &args);
}

#[test]
fn a_deactivated_identity_refuses_everything_but_recovery() {
    let (a, b, _, code) = family("member");
    a.value_with(b"before", &["offchain", "add", "family"]);
    a.value(&["identity", "deactivate", "family"]);
    for node in [&a, &b] {
        node.until("it is known", |node| (show(node)["deactivated"] == true).then_some(()));
        let (_, message, _) = node.error_with(4, b"x", &["offchain", "add", "family"]);
        assert!(message.contains("deactivated"), "{message}");
        node.error_with(4, b"x", &["identity", "sign", "family"]);
        node.error(4, &["identity", "rekey", "family"]);
        node.error(4, &["identity", "leave", "family"]);
        let document = node.value(&["identity", "document", "family"]);
        assert_eq!(document["didDocumentMetadata"]["deactivated"], true);
    }
    a.error(4, &["identity", "invite", "family"]);
    a.error(4, &["identity", "deactivate", "family"]);
    a.value_with(format!("{code}\n").as_bytes(), &["identity", "recover", "family"]);
    assert_eq!(show(&a)["deactivated"], false);
    a.value_with(b"after", &["offchain", "add", "family"]);
}

#[test]
fn services_are_set_shown_and_refused_where_they_are_none() {
    let a = Node::started();
    a.value(&["identity", "create", "family"]);
    let first = a.value(&["identity", "document", "family"]);
    let version = text(&first["didDocumentMetadata"], "versionId");
    a.value(&["identity", "document", "family", "--service", "site=LinkedDomains,https://example.org/a"]);
    let second = a.value(&["identity", "document", "family"]);
    let service = &second["didDocument"]["service"][0];
    assert_eq!(
        (&service["type"], &service["serviceEndpoint"]),
        (&json!("LinkedDomains"), &json!("https://example.org/a"))
    );
    assert_eq!(a.value(&["identity", "document", "family", "--version-id", &version]), first, "as it was");
    for bad in [
        "site",
        "site=LinkedDomains",
        "site=LinkedDomains,nowhere",
        "a b=LinkedDomains,https://x",
        "site=,https://x",
        "=T,https://x",
    ] {
        a.error(2, &["identity", "document", "family", "--service", bad]);
    }
    a.value(&["identity", "document", "family", "--no-services"]);
    let third = a.value(&["identity", "document", "family"]);
    assert!(third["didDocument"].get("service").is_none_or(|services| services == &json!([])));
}

#[test]
fn own_keys_are_renewed_and_old_signatures_still_verify() {
    let (mut a, b, _, _) = family("member");
    let signature = text(&a.value_with(b"I agree", &["identity", "sign", "family"]), "text");
    a.value(&["identity", "renew-keys", "family"]);
    let after = text(&a.value_with(b"I agree", &["identity", "sign", "family"]), "text");
    b.until("both verify", |b| {
        [&signature, &after]
            .iter()
            .all(|one| b.run_with(b"I agree", &["identity", "verify", one]).status.success())
            .then_some(())
    });
    a.stop();
    a.start(&[]);
    let id = text(&a.value_with(b"by the new keys", &["offchain", "add", "family"]), "id");
    b.until("content by the new keys arrives", |b| available(b, &id));
}

/// What the keys of an identity went through, and that newcomers read what the history says.
#[test]
fn epochs_are_listed_and_history_is_chosen_at_creation() {
    let (a, b) = (Node::started(), Node::started());
    a.value(&["identity", "create", "family", "--history", "none"]);
    a.error(2, &["identity", "create", "other", "--history", "some"]);
    let old = text(&a.value_with(b"before b", &["offchain", "add", "family"]), "id");
    a.value(&["identity", "rekey", "family"]);
    let token = text(&a.value(&["identity", "invite", "family"]), "invitation");
    b.value(&["identity", "join", &token, "--name", "family"]);
    let new = text(&a.value_with(b"with b", &["offchain", "add", "family"]), "id");
    b.until("b reads what is new", |b| available(b, &new));
    assert!(available(&b, &old).is_none());
    let epochs = a.lines(&["identity", "epochs", "family"]);
    let kinds: Vec<_> = epochs.iter().map(|one| text(one, "begun_by")).collect();
    assert_eq!(kinds, ["create", "rekey", "admit"]);
    assert!(epochs.iter().all(|one| one["counts"] == true && one["readable"] == true));
    assert_eq!(epochs.iter().filter(|one| one["in_force"] == true).count(), 1);
    assert_eq!(epochs[2]["recipients"].as_array().unwrap().len(), 2);
    assert!(epochs[2]["age_s"].is_u64() && epochs[0]["age_s"].is_null());
    let theirs = b.lines(&["identity", "epochs", "family"]);
    assert_eq!(theirs.iter().map(|one| one["readable"] == true).collect::<Vec<_>>(), [false, false, true]);
    a.error(3, &["identity", "epochs", "nobody"]);
}

/// Makes the epoch in force of a node that is not running as old as that, as the node itself noted when it began.
fn age(node: &Node, by: std::time::Duration) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = RocksStore::open(node.dir().join("store")).await.unwrap();
        // Epoch in force: 0x10 0x08, chain; version, op id, milliseconds since the Unix epoch as a zigzag varint.
        let noted = store.scan(KeyRange::prefix(&[0x10, 0x08]), Direction::Forward, 16).await.unwrap();
        assert_eq!(noted.len(), 1, "one identity");
        let (key, value) = &noted[0];
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let mut since = u64::try_from((now - by).as_millis()).unwrap() << 1;
        let mut value = value[..33].to_vec();
        while since >= 0x80 {
            value.push(u8::try_from(since & 0x7f).unwrap() | 0x80);
            since >>= 7;
        }
        value.push(u8::try_from(since).unwrap());
        let mut batch = Batch::new();
        batch.put(key.to_vec(), value);
        store.commit(batch, Durability::Flushed).await.unwrap();
        store.close().await.unwrap();
    });
}

/// Two hours are old where the identity was created so, and nothing elsewhere. The daemon renews by itself; nobody asks.
#[test]
fn a_daemon_renews_keys_that_are_as_old_as_the_identity_lets_them_be() {
    const HOUR: std::time::Duration = std::time::Duration::from_secs(3_600);
    let in_force = |node: &Node| show(node)["epoch"].clone();
    let (mut short, mut usual) = (Node::started(), Node::started());
    short.value(&["identity", "create", "family", "--renew-after", "90m"]);
    usual.value(&["identity", "create", "family"]);
    let before = (in_force(&short), in_force(&usual));
    let written = text(&short.value_with(b"before", &["offchain", "add", "family"]), "id");
    for node in [&mut short, &mut usual] {
        node.stop();
        age(node, HOUR * 2);
        node.start(&[]);
    }
    short.until("the keys are renewed", |node| (in_force(node) != before.0).then_some(()));
    let epochs = short.lines(&["identity", "epochs", "family"]);
    assert_eq!(epochs.iter().map(|one| text(one, "begun_by")).collect::<Vec<_>>(), ["create", "rekey"]);
    available(&short, &written).expect("what was written before is readable");
    // Once, and only where it was decided.
    assert_eq!(in_force(&usual), before.1);
    assert!(usual.lines(&["identity", "epochs", "family"])[0]["age_s"].as_u64().unwrap() >= 7_200, "it is as old");
}
