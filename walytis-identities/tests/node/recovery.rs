//! The recovery code: the final word, from the same node and from a new one. Deactivation, documents, renewed keys.

use std::time::Duration;

use walytis_core::id::BlockId;
use walytis_core::ledger::NewBlock;
use walytis_core::net::{MemoryHub, Network as _};
use walytis_identities::bound::RecordRules;
use walytis_identities::claim::Claim;
use walytis_identities::contact::ContactCard;
use walytis_identities::id::{Did, Role};
use walytis_identities::identity::{EpochUse, Identity as _, IdentityError, Judgement, RecordRef};
use walytis_identities::node::{IdentitiesError, IdentityHandle, RecoverHere, RecoveryCode};
use walytis_identities::signed::SignerStanding;

use crate::rig::{Machine, pass, until};

pub(crate) async fn record(machine: &Machine, did: &Did, block: BlockId) -> RecordRef {
    record_on(&machine.identity(did), block).await
}

async fn record_on(handle: &IdentityHandle, block: BlockId) -> RecordRef {
    let stored = handle.chain().block(&block).await.unwrap().unwrap();
    let (claim, _) = Claim::split(stored.inline().unwrap()).unwrap();
    RecordRef { block, creator: stored.header().creator, author: claim.author, auth_heads: claim.auth_heads }
}

/// A founded it, B is an admin too; the code is in safe hands.
pub(crate) async fn two_admins(hub: &MemoryHub) -> (Machine, Machine, Did, RecoveryCode) {
    let (a, b) = (Machine::start(hub, 1).await, Machine::start(hub, 2).await);
    let created = a.identities.create("home", "laptop").await.unwrap();
    a.admit(&created.did, &b, Role::Admin).await;
    let heads = a.identity(&created.did).auth_heads().await;
    until("b knows all", async || b.identity(&created.did).auth_heads().await == heads).await;
    (a, b, created.did, created.recovery)
}

pub(crate) fn here(name: &str) -> RecoverHere {
    RecoverHere { device_name: name.to_owned(), name: Some("home".to_owned()), ..RecoverHere::default() }
}

/// A's keys are in foreign hands and remove B. B has the code; A, the founder, loses against it whatever it does.
#[tokio::test(start_paused = true)]
async fn the_code_wins_against_the_senior_admin_even_after_being_removed() {
    let hub = MemoryHub::new();
    let (a, b, did, code) = two_admins(&hub).await;
    let kept = b.write(&did, "by b, before").await;
    a.until_has(&did, &kept).await;
    let (a_id, b_id) = (a.identity(&did).controller(), b.identity(&did).controller());
    a.identities.remove(&did, b_id).await.unwrap();
    until("b knows that it is removed", async || b.identities.show(&did).unwrap().role.is_none()).await;

    let wrong = RecoveryCode::generate(&walytis_core::clock::SeededEntropy::new(77));
    let refused = b.identities.recover(&did, &wrong, Vec::new()).await;
    assert!(matches!(refused, Err(IdentitiesError::Refused { .. })), "{refused:?}");
    // What A does beside it does not count either.
    hub.cut(&a.peer(), &b.peer());
    a.identities.rekey(&did).await.unwrap();
    let recovered = b.identities.recover(&did, &code, Vec::new()).await.unwrap();
    let lost = a.write(&did, "by a, too late").await;
    hub.heal_all();
    until("a sees that it is out", async || a.identities.show(&did).unwrap().role.is_none()).await;
    let shown = b.identities.show(&did).unwrap();
    assert_eq!((shown.role, shown.controllers.len()), (Some(Role::Admin), 1));
    let epoch = b.identity(&did).sending_epoch().await.unwrap();
    assert_eq!(Some(epoch), recovered.epoch);
    assert!(a.identity(&did).derive(&epoch, EpochUse::ContentWrap).await.is_err());
    assert!(matches!(a.identity(&did).sending_epoch().await, Err(IdentityError::Refused { .. })));
    assert!(matches!(a.identity(&did).judge(&record(&a, &did, lost).await).await, Judgement::Void(_)));
    assert_eq!(b.identity(&did).judge(&record(&b, &did, kept).await).await, Judgement::Valid);
    assert!(matches!(a.identities.remove(&did, b_id).await, Err(IdentitiesError::Refused { .. })));
    // The code is worth nothing any more; the next one is.
    assert!(matches!(b.identities.recover(&did, &code, Vec::new()).await, Err(IdentitiesError::Refused { .. })));
    assert!(matches!(a.identities.recover(&did, &code, Vec::new()).await, Err(IdentitiesError::Refused { .. })));
    b.identities.recover(&did, &recovered.recovery, Vec::new()).await.unwrap();
    pass(Duration::from_secs(60)).await;
    assert!(a.identities.show(&did).unwrap().controllers.iter().all(|one| one.id != a_id));
}

/// All that is left is the code and a contact card; B's device is to stay.
#[tokio::test(start_paused = true)]
async fn a_new_node_recovers_with_the_code_and_a_card_and_nothing_written_is_lost() {
    let hub = MemoryHub::new();
    let (a, b, did, code) = two_admins(&hub).await;
    let from_a = a.write(&did, "by a, before").await;
    b.until_has(&did, &from_a).await;
    // Also on a chain of its own that is bound to the identity.
    let bound = a.identities.create_chain(&did, "archive", RecordRules::default()).await.unwrap();
    let claim = Claim { author: bound.controller(), auth_heads: bound.auth_heads().await };
    let block = NewBlock { content: claim.encode().into(), topics: vec![] };
    let on_bound = bound.chain().append_many(vec![block], bound.device_signer()).await.unwrap()[0].id;
    let archive = bound.chain().core().id();
    drop(bound);
    let on = |machine: &Machine| machine.identities.identity_on(&did, &archive).ok();
    let has = async |machine: &Machine| match on(machine) {
        Some(handle) => handle.chain().block(&on_bound).await.unwrap().is_some(),
        None => false,
    };
    until("b has the record on the bound chain", async || has(&b).await).await;
    let old = a.identity(&did).sending_epoch().await.unwrap();
    let b_id = b.identity(&did).controller();
    drop(a.stop().await);
    let c = Machine::start(&hub, 3).await;
    let card: ContactCard = b.identities.contact_card(&did).unwrap();

    let wrong = RecoveryCode::generate(&walytis_core::clock::SeededEntropy::new(77));
    assert!(matches!(
        c.identities.recover_here(&card, &wrong, here("new")).await,
        Err(IdentitiesError::Refused { .. })
    ));
    assert!(c.identities.list().is_empty(), "nothing is left behind");
    let options = RecoverHere { keep: vec![b_id], ..here("new") };
    let recovered = c.identities.recover_here(&card, &code, options).await.unwrap();
    assert_eq!(recovered.did, did);
    let shown = c.identities.show(&did).unwrap();
    assert_eq!((shown.role, shown.controllers.len()), (Some(Role::Admin), 2));
    until("b goes on under the new epoch", async || b.identity(&did).sending_epoch().await.ok() == recovered.epoch)
        .await;
    // What had been written counts, though its author is gone, and the new device can read it: b seals it the secrets.
    c.until_has(&did, &from_a).await;
    assert_eq!(c.identity(&did).judge(&record(&c, &did, from_a).await).await, Judgement::Valid);
    assert_eq!(b.identity(&did).judge(&record(&b, &did, from_a).await).await, Judgement::Valid);
    until("the new device has the bound chain", async || has(&c).await).await;
    for machine in [&b, &c] {
        let handle = on(machine).unwrap();
        assert_eq!(handle.judge(&record_on(&handle, on_bound).await).await, Judgement::Valid);
    }
    until("the new device holds the old secrets", async || {
        c.identity(&did).derive(&old, EpochUse::ContentWrap).await.is_ok()
    })
    .await;
    let (from_b, from_c) = (b.write(&did, "b goes on").await, c.write(&did, "c too").await);
    c.until_has(&did, &from_b).await;
    b.until_has(&did, &from_c).await;
    let c = c.restart().await;
    assert_eq!(c.identities.show(&did).unwrap().role, Some(Role::Admin));
}

/// Nobody is there to say what has been written: only who says so in so many words goes on.
#[tokio::test(start_paused = true)]
async fn without_anybody_content_is_discarded_only_on_demand() {
    let hub = MemoryHub::new();
    let (a, b, did, code) = two_admins(&hub).await;
    let c = Machine::start(&hub, 3).await;
    let card = b.identities.contact_card(&did).unwrap();
    c.identities.resolve_card(&card).await.unwrap();
    drop((a.stop().await, b.stop().await));
    let refused = c.identities.recover_here(&card, &code, here("new")).await;
    assert!(matches!(refused, Err(IdentitiesError::Unresolved { .. })), "{refused:?}");
    assert!(c.identities.list().is_empty());
    let options = RecoverHere { discard_content: true, ..here("new") };
    c.identities.recover_here(&card, &code, options).await.unwrap();
    assert_eq!(c.identities.show(&did).unwrap().controllers.len(), 1);
    c.write(&did, "alone").await;
}

#[tokio::test(start_paused = true)]
async fn a_deactivated_identity_does_nothing_until_it_is_recovered() {
    let hub = MemoryHub::new();
    let (a, b, did, code) = two_admins(&hub).await;
    let before = b.write(&did, "before").await;
    a.until_has(&did, &before).await;
    a.identities.deactivate(&did).await.unwrap();
    until("b knows", async || b.identities.show(&did).unwrap().deactivated).await;
    for machine in [&a, &b] {
        assert!(matches!(machine.identity(&did).sending_epoch().await, Err(IdentityError::Refused { .. })));
        assert!(machine.identities.sign(&did, "test", b"x").is_err());
        let refused = machine.identities.rekey(&did).await.unwrap_err().to_string();
        assert!(refused.contains("deactivated") && refused.contains("recover"), "{refused}");
        assert!(machine.identities.deactivate(&did).await.is_err());
        assert!(machine.identities.document(&did, None).await.unwrap().metadata.deactivated);
    }
    assert_eq!(b.identity(&did).judge(&record(&b, &did, before).await).await, Judgement::Valid);
    pass(Duration::from_secs(120)).await;
    b.identities.recover(&did, &code, Vec::new()).await.unwrap();
    assert!(!b.identities.show(&did).unwrap().deactivated);
    b.write(&did, "again").await;
}

#[tokio::test(start_paused = true)]
async fn renewed_keys_sign_and_those_before_still_verify() {
    let hub = MemoryHub::new();
    let (a, b, did, _) = two_admins(&hub).await;
    let before = a.identities.sign(&did, "test", b"before").unwrap();
    let written = a.write(&did, "before").await;
    let old = a.keys(&did).await;
    a.identities.renew_keys(&did).await.unwrap();
    let new = a.keys(&did).await;
    assert_eq!(new.id(), old.id(), "it is the same device");
    assert_ne!(new.public().ed25519, old.public().ed25519);
    assert_ne!(new.receiving().id(), old.receiving().id());
    let after = a.identities.sign(&did, "test", b"after").unwrap();
    let heads = a.identity(&did).auth_heads().await;
    until("b knows the new keys", async || b.identity(&did).auth_heads().await == heads).await;
    for (signature, message) in [(&before, &b"before"[..]), (&after, b"after")] {
        let verified = b.identities.verify_known(signature, "test", message).await.unwrap().unwrap();
        assert_eq!(verified.standing, SignerStanding::StillValid);
    }
    // Blocks and ops by the new keys; those before still count.
    let later = a.write(&did, "after").await;
    for block in [written, later] {
        b.until_has(&did, &block).await;
        assert_eq!(b.identity(&did).judge(&record(&b, &did, block).await).await, Judgement::Valid);
    }
    // It is told as one device by either key; a stranger's key stands for itself.
    let (one, two) = (old.public().block_key(), new.public().block_key());
    let (author, on_b) = (a.identity(&did).controller(), b.identity(&did));
    assert_eq!((on_b.first_key(&author, one).await, on_b.first_key(&author, two).await), (one, one));
    let other = b.keys(&did).await.public().block_key();
    assert_eq!(on_b.first_key(&author, other).await, other);
    let rekeyed = a.identities.rekey(&did).await.unwrap().op;
    until("b takes it up", async || b.identity(&did).sending_epoch().await.ok() == Some(rekeyed)).await;
    let a = a.restart().await;
    let last = a.write(&did, "after the restart").await;
    b.until_has(&did, &last).await;
}

#[tokio::test(start_paused = true)]
async fn services_stand_in_the_document_that_everybody_resolves() {
    let hub = MemoryHub::new();
    let (a, b, did, _) = two_admins(&hub).await;
    let services = vec![("site".to_owned(), "LinkedDomains".to_owned(), "https://example.org".to_owned())];
    a.identities.set_services(&did, services).await.unwrap();
    let heads = a.identity(&did).auth_heads().await;
    until("b knows", async || b.identity(&did).auth_heads().await == heads).await;
    let stranger = Machine::start(&hub, 9).await;
    stranger.network.connect(None, &a.network.addresses()).await.unwrap();
    stranger.identities.resolve(&did, &[]).await.unwrap();
    for machine in [&a, &b, &stranger] {
        let document = serde_json::to_value(machine.identities.document(&did, None).await.unwrap()).unwrap();
        assert_eq!(document["didDocument"]["service"][0]["serviceEndpoint"], "https://example.org");
    }
}
