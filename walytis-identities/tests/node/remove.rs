//! Removing, leaving, outsiders.

use std::time::Duration;

use walytis_core::net::{MemoryHub, Network as _};
use walytis_identities::id::Role;
use walytis_identities::identity::{EpochUse, Identity as _, IdentityError, Judgement, RecordRef};
use walytis_identities::node::{IdentitiesError, InviteOptions};

use crate::rig::{Machine, pass, until};

async fn record(machine: &Machine, did: &walytis_identities::id::Did, block: walytis_core::id::BlockId) -> RecordRef {
    let identity = machine.identity(did);
    let stored = identity.chain().block(&block).await.unwrap().unwrap();
    let (claim, _) = walytis_identities::claim::Claim::split(stored.inline().unwrap()).unwrap();
    RecordRef { block, creator: stored.header().creator, author: claim.author, auth_heads: claim.auth_heads }
}

#[tokio::test(start_paused = true)]
async fn a_removed_controller_gets_nothing_new_and_writes_nothing_that_counts() {
    let hub = MemoryHub::new();
    let (a, b, c) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await, Machine::start(&hub, 3).await);
    let did = a.create().await;
    a.admit(&did, &b, Role::Member).await;
    a.admit(&did, &c, Role::Member).await;
    let before = b.write(&did, "b, while it was in").await;
    for machine in [&a, &c] {
        machine.until_has(&did, &before).await;
    }
    hub.cut(&a.peer(), &b.peer());
    hub.cut(&c.peer(), &b.peer());
    let backdated = b.write(&did, "b, that nobody saw in time").await;
    let b_id = b.identity(&did).controller();
    let done = a.identities.remove(&did, b_id).await.unwrap();
    assert_eq!(done.epoch, Some(done.op));
    until("c knows", async || c.identity(&did).sending_epoch().await.is_ok_and(|epoch| epoch == done.op)).await;
    hub.heal_all();

    until("b notices", async || b.identities.show(&did).unwrap().role.is_none()).await;
    let after = a.write(&did, "after the removal").await;
    c.until_has(&did, &after).await;
    pass(Duration::from_secs(120)).await;
    assert!(!b.has(&did, &after).await);
    for machine in [&a, &c] {
        assert!(!machine.has(&did, &backdated).await, "a removed device is not listened to");
        assert_eq!(machine.identity(&did).judge(&record(machine, &did, before).await).await, Judgement::Valid);
        assert!(!machine.identity(&did).may_read(&b.peer(), &done.op).await);
        assert!(machine.identity(&did).peers().await.iter().all(|peer| *peer != b.peer()));
    }
    // It keeps what it had, and cannot write or derive the new keys.
    assert!(b.has(&did, &before).await);
    let removed = b.identity(&did);
    assert!(matches!(removed.sending_epoch().await, Err(IdentityError::Refused { .. })));
    assert!(matches!(removed.derive(&done.op, EpochUse::ContentWrap).await, Err(IdentityError::NoEpochSecret { .. })));
    assert!(matches!(removed.judge(&record(&b, &did, backdated).await).await, Judgement::Void("V-ID-15")));
    assert!(matches!(b.identities.rekey(&did).await, Err(IdentitiesError::Refused { .. })));
    assert!(b.identities.sign(&did, "test", b"x").is_err());
}

#[tokio::test(start_paused = true)]
async fn a_used_invitation_does_not_bring_the_removed_back() {
    let hub = MemoryHub::new();
    let (a, b, c) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await, Machine::start(&hub, 3).await);
    let did = a.create().await;
    let token = a.token(&did, InviteOptions { uses: Some(5), ..InviteOptions::default() }).await;
    let other = a.token(&did, InviteOptions::default()).await;
    b.join(&token).await.unwrap();
    a.identities.remove(&did, b.identity(&did).controller()).await.unwrap();
    assert!(c.join(&token).await.is_err(), "whoever was removed knows this seed");
    assert_eq!(c.join(&other).await.unwrap(), did, "other invitations stay good");
}

#[tokio::test(start_paused = true)]
async fn after_a_leave_somebody_who_stays_renews_the_keys() {
    let hub = MemoryHub::new();
    let (a, b, c) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await, Machine::start(&hub, 3).await);
    let did = a.create().await;
    a.admit(&did, &b, Role::Member).await;
    a.admit(&did, &c, Role::Member).await;
    assert!(a.identities.leave(&did).await.is_err(), "the last admin stays");
    let heads = a.identity(&did).auth_heads().await;
    for machine in [&b, &c] {
        until("all know all", async || machine.identity(&did).auth_heads().await == heads).await;
    }
    let old = a.identity(&did).sending_epoch().await.unwrap();
    b.identities.leave(&did).await.unwrap();
    for machine in [&a, &c] {
        until("the keys are renewed", async || {
            machine.identity(&did).sending_epoch().await.is_ok_and(|epoch| epoch != old)
        })
        .await;
        assert_eq!(machine.identities.show(&did).unwrap().controllers.len(), 2);
    }
    until("both use the same epoch", async || {
        a.identity(&did).sending_epoch().await.ok() == c.identity(&did).sending_epoch().await.ok()
    })
    .await;
    let new = a.identity(&did).sending_epoch().await.unwrap();
    assert!(b.identity(&did).derive(&new, EpochUse::ContentWrap).await.is_err());
}

/// Whichever of the two who stay is away, the other one does it: in one of the two runs it is not the first in line.
#[tokio::test(start_paused = true)]
async fn a_duty_falls_to_the_next_when_the_first_is_away() {
    for away in 0..2 {
        let hub = MemoryHub::new();
        let (a, b, c) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await, Machine::start(&hub, 3).await);
        let did = a.create().await;
        a.admit(&did, &b, Role::Member).await;
        a.admit(&did, &c, Role::Member).await;
        let heads = a.identity(&did).auth_heads().await;
        for machine in [&b, &c] {
            until("all know all", async || machine.identity(&did).auth_heads().await == heads).await;
        }
        let old = b.identity(&did).sending_epoch().await.unwrap();
        let (stays, leaves_it) = if away == 0 { (c, a) } else { (a, c) };
        let leaves_it = leaves_it.stop().await;
        b.identities.leave(&did).await.unwrap();
        let renewed =
            async |machine: &Machine| machine.identity(&did).sending_epoch().await.is_ok_and(|epoch| epoch != old);
        until("the one who stays renews the keys", async || renewed(&stays).await).await;
        let back = leaves_it.start().await;
        until("the other one takes them over", async || {
            back.identity(&did).sending_epoch().await.ok() == stays.identity(&did).sending_epoch().await.ok()
        })
        .await;
        // Whoever left must not act itself.
        pass(Duration::from_secs(120)).await;
        assert_eq!(b.identities.show(&did).unwrap().role, None);
    }
}

#[tokio::test(start_paused = true)]
async fn an_outsider_who_knows_the_did_gets_no_block() {
    let hub = MemoryHub::new();
    let (a, outsider) = (Machine::start(&hub, 1).await, Machine::start(&hub, 9).await);
    let did = a.create().await;
    a.write(&did, "private").await;
    outsider.network.connect(None, &a.network.addresses()).await.unwrap();
    let resolved = outsider.identities.resolve(&did, &[]).await.unwrap();
    assert_eq!((resolved.heads, resolved.answers), (a.identity(&did).auth_heads().await, 1));
    pass(Duration::from_secs(60)).await;
    assert!(outsider.identities.list().is_empty());
    let access = a.identity(&did).chain().core().access();
    assert_eq!(access.may_sync(&outsider.peer()).await, walytis_core::access::Access::Refused);
    let dump = outsider.dump().await;
    assert!(!dump.windows(7).any(|at| at == b"private"));
}
