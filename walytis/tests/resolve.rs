//! Contact cards, resolution and DID documents through the program.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use serde_json::json;
use support::{Node, text};

#[test]
fn a_stranger_resolves_by_a_contact_card_and_remembers() {
    let (mut a, mut stranger) = (Node::started(), Node::started());
    let did = text(&a.value(&["identity", "create", "family"]), "did");
    let contact = a.value(&["identity", "card", "family"]);
    let card = text(&contact, "card");
    assert!(card.starts_with("walytiscontact1"));
    assert_eq!((text(&contact, "did"), &contact["peers"]), (did.clone(), &json!(1)));

    // Nobody is connected: with the DID alone nothing can be learnt.
    stranger.error(5, &["identity", "resolve", &did]);
    let resolved = stranger.value(&["identity", "resolve", &card]);
    assert_eq!(text(&resolved, "did"), did);
    assert_eq!((&resolved["heard_from"], &resolved["answers"]), (&json!(1), &json!(1)));
    assert_eq!((&resolved["own"], &resolved["refused"]), (&json!(false), &json!([])));
    let version = text(&resolved, "version_id");
    let document = stranger.value(&["identity", "resolve", &did, "--document"]);
    assert_eq!(document["didDocument"]["id"], did.as_str());
    assert_eq!(document["didDocument"]["@context"][0], "https://www.w3.org/ns/did/v1");
    assert_eq!(document["didDocument"]["authentication"].as_array().unwrap().len(), 2);
    assert_eq!(document["didResolutionMetadata"]["contentType"], "application/did+ld+json");
    assert_eq!(document["didDocumentMetadata"]["versionId"], version.as_str());
    assert_eq!(a.value(&["identity", "resolve", "family", "--document"]), document, "the controller shows the same");

    // A later version, the earlier one, and one that nobody knows.
    a.value(&["identity", "rekey", "family"]);
    let later = stranger.value(&["identity", "resolve", &did]);
    assert_ne!(text(&later, "version_id"), version);
    let earlier = stranger.value(&["identity", "resolve", &did, "--version-id", &version, "--document"]);
    assert_eq!(earlier, document);
    let url = format!("{did}?versionId={version}");
    assert_eq!(text(&stranger.value(&["identity", "resolve", &url]), "version_id"), version);
    let unknown = "op-11111111111111111111111111111111";
    stranger.error(3, &["identity", "resolve", &did, "--version-id", unknown]);
    stranger.error(2, &["identity", "resolve", &url, "--version-id", &version]);

    // Nobody there any more, and a restart: as of what was known.
    a.stop();
    stranger.stop();
    stranger.start(&[]);
    let known = stranger.value(&["identity", "resolve", &did]);
    assert_eq!((&known["heads"], &known["heard_from"]), (&later["heads"], &json!(0)));
}

#[test]
fn what_cannot_be_resolved_says_why() {
    let (mut a, b) = (Node::started(), Node::started());
    a.value(&["identity", "create", "family"]);
    let card = text(&a.value(&["identity", "card", "family"]), "card");
    a.error(2, &["identity", "resolve", &card[..card.len() - 1]]);
    a.error(2, &["identity", "resolve", "did:walytis:nonsense"]);
    a.error(2, &["identity", "resolve", &card, "--version-id", "1"]);
    a.error(3, &["identity", "resolve", "nobody"]);
    a.error(3, &["identity", "card", "nobody"]);
    a.error(2, &["identity", "card", "family", "--qr"]);
    let drawn = a.command(&["identity", "card", "family", "--qr"]).output().unwrap();
    let drawn = String::from_utf8(drawn.stdout).unwrap();
    assert!(drawn.starts_with(&card) && drawn.lines().count() > 15, "{drawn}");
    a.stop();
    b.error(5, &["identity", "resolve", &card]);
    let (_, _, hint) = Node::new().error(1, &["identity", "resolve", &card]);
    assert!(hint.contains("walytis daemon"), "{hint}");
}

/// With a card one verifies and seals for somebody one was never connected to.
#[test]
fn a_card_is_enough_to_seal_and_verify() {
    let (a, stranger) = (Node::started(), Node::started());
    a.value(&["identity", "create", "family"]);
    let card = text(&a.value(&["identity", "card", "family"]), "card");
    let signature = text(&a.value_with(b"hello", &["identity", "sign", "family"]), "text");
    stranger.error_with(5, b"hello", &["identity", "verify", &signature]);
    let verified = stranger.value_with(b"hello", &["identity", "verify", "--did", &card, &signature]);
    assert_eq!((&verified["valid"], &verified["still_valid"]), (&json!(true), &json!(true)));
    let sealed = text(&stranger.value_with(b"for all of you", &["identity", "seal", &card]), "text");
    let opened = a.value_with(sealed.as_bytes(), &["identity", "open", "family"]);
    assert_eq!(opened["content_base64"], "Zm9yIGFsbCBvZiB5b3U=");
}
