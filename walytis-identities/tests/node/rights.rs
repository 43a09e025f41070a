//! What a peer may do follows its current role, in sessions that are open, too.

use std::time::Duration;

use walytis_core::ledger::{Content, Ledger as _, NewBlock};
use walytis_core::net::MemoryHub;
use walytis_identities::id::{Did, Role};
use walytis_identities::identity::{EpochUse, Identity as _, IdentityError};
use walytis_identities::node::IdentitiesError;

use crate::rig::{Machine, pass, until};

/// Says whether `one` has an open session with `other` about the identity's chain.
fn in_session(one: &Machine, other: &Machine, did: &Did) -> bool {
    let status = one.replicator.status(&did.chain()).unwrap_or_default();
    status.peers.iter().any(|peer| peer.peer == other.peer())
}

async fn group() -> (MemoryHub, Did, Machine, Machine, Machine) {
    let hub = MemoryHub::new();
    let (a, b, c) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await, Machine::start(&hub, 3).await);
    let did = a.create().await;
    a.admit(&did, &b, Role::Member).await;
    a.admit(&did, &c, Role::Member).await;
    let heads = a.identity(&did).auth_heads().await;
    for machine in [&b, &c] {
        until("all know all", async || machine.identity(&did).auth_heads().await == heads).await;
    }
    (hub, did, a, b, c)
}

#[tokio::test(start_paused = true)]
async fn open_sessions_close_when_the_right_ends_and_only_then() {
    let (_hub, did, a, b, c) = group().await;
    let first = a.write(&did, "to all").await;
    for machine in [&b, &c] {
        machine.until_has(&did, &first).await;
        until("a session is open", async || in_session(&a, machine, &did) && in_session(machine, &a, &did)).await;
    }
    // A change of role that leaves the right to sync leaves the session.
    let c_id = c.identity(&did).controller();
    a.identities.set_role(&did, c_id, Role::Keeper).await.unwrap();
    let b_id = b.identity(&did).controller();
    a.identities.remove(&did, b_id).await.unwrap();
    until("sessions with the removed end on every side", async || {
        !in_session(&a, &b, &did) && !in_session(&c, &b, &did) && !in_session(&b, &a, &did)
    })
    .await;
    assert!(in_session(&a, &c, &did), "a keeper goes on");
    let second = a.write(&did, "to those who are left").await;
    c.until_has(&did, &second).await;
    pass(Duration::from_secs(120)).await;
    assert!(!b.has(&did, &second).await && !in_session(&a, &b, &did), "and no session opens again");
}

#[tokio::test(start_paused = true)]
async fn a_reader_reads_and_cannot_write_and_a_keeper_opens_nothing_new() {
    let (_hub, did, a, b, c) = group().await;
    let (b_id, c_id) = (b.identity(&did).controller(), c.identity(&did).controller());
    let old = a.identity(&did).sending_epoch().await.unwrap();
    a.identities.set_role(&did, b_id, Role::Reader).await.unwrap();
    a.identities.set_role(&did, c_id, Role::Keeper).await.unwrap();
    until("the keys are renewed, for one reads no more", async || {
        a.identity(&did).sending_epoch().await.is_ok_and(|epoch| epoch != old)
    })
    .await;
    let new = a.identity(&did).sending_epoch().await.unwrap();
    let written = a.write(&did, "for readers").await;
    for machine in [&b, &c] {
        machine.until_has(&did, &written).await;
        until("roles are known", async || machine.identities.show(&did).unwrap().role != Some(Role::Member)).await;
        assert!(matches!(machine.identity(&did).sending_epoch().await, Err(IdentityError::Refused { .. })));
        assert!(matches!(machine.identities.rekey(&did).await, Err(IdentitiesError::Refused { .. })));
        assert!(machine.identities.sign(&did, "test", b"x").is_err());
        let block = NewBlock { content: Content::Bytes(b"x".to_vec().into()), topics: vec![] };
        drop(machine.identity(&did).chain().add(block).await);
    }
    until("the reader reads", async || b.identity(&did).derive(&new, EpochUse::ContentWrap).await.is_ok()).await;
    assert!(c.identity(&did).derive(&new, EpochUse::ContentWrap).await.is_err());
    // The keeper is served what it cannot open, to serve it to others.
    assert!(a.identity(&did).may_read(&b.peer(), &new).await && a.identity(&did).may_read(&c.peer(), &new).await);
    let count = a.identity(&did).chain().core().summary().count;
    pass(Duration::from_secs(60)).await;
    assert_eq!(a.identity(&did).chain().core().summary().count, count, "what they wrote anyway enters nowhere");

    // Raised again it reads what was written meanwhile.
    a.identities.set_role(&did, c_id, Role::Member).await.unwrap();
    until("the keeper of before reads", async || {
        c.identity(&did).derive(&new, EpochUse::ContentWrap).await.is_ok()
            && c.identity(&did).sending_epoch().await.is_ok()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn roles_that_cannot_be_given_are_refused_with_the_reason() {
    let (_hub, did, a, b, _c) = group().await;
    let (a_id, b_id) = (a.identity(&did).controller(), b.identity(&did).controller());
    let reason = async |outcome: Result<_, IdentitiesError>| {
        outcome.map(|_: walytis_identities::node::OpDone| ()).unwrap_err().to_string()
    };
    assert!(reason(a.identities.set_role(&did, a_id, Role::Member).await).await.contains("last admin"));
    assert!(reason(a.identities.set_role(&did, b_id, Role::Member).await).await.contains("already"));
    assert!(reason(b.identities.set_role(&did, a_id, Role::Member).await).await.contains("needs the role admin"));
    assert!(reason(b.identities.set_role(&did, b_id, Role::Admin).await).await.contains("needs the role admin"));
    let stranger = walytis_identities::id::ControllerId::Device(walytis_identities::id::DeviceId([9; 32]));
    assert!(matches!(
        a.identities.set_role(&did, stranger, Role::Reader).await,
        Err(IdentitiesError::NoController { .. })
    ));
    b.identities.set_role(&did, b_id, Role::Reader).await.unwrap();
    assert_eq!(b.identities.show(&did).unwrap().role, Some(Role::Reader), "everybody may take less");
}
