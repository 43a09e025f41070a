//! Deleting an identity from a node, and coming back.

use walytis_core::ledger::LedgerRead as _;
use walytis_core::net::MemoryHub;
use walytis_core::node::Listing;
use walytis_core::store::{Batch, Durability, KvStore as _, SecretStore as _};
use walytis_identities::bound::RecordRules;
use walytis_identities::id::Role;
use walytis_identities::identity::{EpochUse, Identity as _};
use walytis_identities::node::IdentitiesError;

use crate::rig::{Machine, until};

async fn secrets(machine: &Machine) -> usize {
    machine.vault.list("identities/").await.unwrap().len()
}

#[tokio::test(start_paused = true)]
async fn a_removed_device_forgets_and_comes_back_as_a_new_one() {
    let hub = MemoryHub::new();
    let (a, b, c) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await, Machine::start(&hub, 3).await);
    let empty = b.dump().await.len();
    let did = a.create().await;
    a.admit(&did, &b, Role::Member).await;
    a.admit(&did, &c, Role::Member).await;
    let early = b.write(&did, "b, before").await;
    a.until_has(&did, &early).await;
    let bound = a.identities.create_chain(&did, "archive", RecordRules::default()).await.unwrap().chain().core().id();
    until("b has the bound chain", async || b.identities.identity_on(&did, &bound).is_ok()).await;
    let old = b.identity(&did).controller();
    let refused = b.identities.forget(&did).await;
    assert!(matches!(refused, Err(IdentitiesError::Refused { .. })), "a controller does not forget");
    a.identities.remove(&did, old).await.unwrap();
    until("b notices", async || b.identities.show(&did).unwrap().role.is_none()).await;

    b.identities.forget(&did).await.unwrap();
    assert!(b.identities.list().is_empty() && b.node.chains(Listing::All).is_empty());
    assert_eq!((secrets(&b).await, b.dump().await.len()), (0, empty), "something was left behind");
    assert!(matches!(b.identities.forget(&did).await, Err(IdentitiesError::Unknown { .. })));
    let b = b.restart().await;
    assert!(b.identities.list().is_empty());

    a.admit(&did, &b, Role::Member).await;
    let new = b.identity(&did).controller();
    assert_ne!(new, old);
    for machine in [&a, &b, &c] {
        until("all know the new device, and not the old", async || {
            let shown = machine.identities.show(&did).unwrap();
            let is = |id| shown.controllers.iter().any(|controller| controller.id == id);
            shown.controllers.len() == 3 && is(new) && !is(old)
        })
        .await;
    }
    let (from_a, from_b) = (a.write(&did, "from a").await, b.write(&did, "from b").await);
    b.until_has(&did, &early).await;
    b.until_has(&did, &from_a).await;
    for machine in [&a, &c] {
        machine.until_has(&did, &from_b).await;
    }
    let epoch = a.identity(&did).sending_epoch().await.unwrap();
    until("b has the keys", async || b.identity(&did).derive(&epoch, EpochUse::ContentWrap).await.is_ok()).await;
    assert!(a.identity(&did).may_read(&b.peer(), &epoch).await);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_left_forgets_and_joins_again() {
    let hub = MemoryHub::new();
    let (a, b) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await);
    let did = a.create().await;
    a.admit(&did, &b, Role::Member).await;
    b.identities.leave(&did).await.unwrap();
    until("a removed it", async || {
        let shown = a.identities.show(&did).unwrap();
        shown.controllers.len() == 1 && shown.epoch.is_some()
    })
    .await;
    b.identities.forget(&did).await.unwrap();
    a.admit(&did, &b, Role::Admin).await;
    assert_eq!(b.identities.show(&did).unwrap().role, Some(Role::Admin));
    b.until_has(&did, &a.write(&did, "welcome back").await).await;
}

/// The note of a deletion is all that a crash leaves of the records; the rest goes when the runtime opens next.
#[tokio::test(start_paused = true)]
async fn an_interrupted_deletion_is_finished_at_the_next_start() {
    let a = Machine::start(&MemoryHub::new(), 1).await;
    let empty = a.dump().await.len();
    let did = a.create().await;
    assert!(a.identity(&did).chain().get(&did.chain().0).await.unwrap().is_some());
    // As the first commit of a deletion leaves it.
    let mut batch = Batch::new();
    let key = |kind: u8| [&[walytis_core::store::keys::Space::Identity as u8, kind][..], did.chain().digest()].concat();
    batch.put(key(0x06), Vec::new()).delete(key(0x00)).delete(key(0x03)).delete(key(0x08));
    for kind in [0x01, 0x02, 0x04] {
        batch.delete_range(walytis_core::store::KeyRange::prefix(&key(kind)));
    }
    let stopped = a.stop().await;
    stopped.store().commit(batch, Durability::Flushed).await.unwrap();
    let a = stopped.start().await;
    assert!(a.identities.list().is_empty() && a.node.chains(Listing::All).is_empty());
    assert_eq!((secrets(&a).await, a.dump().await.len()), (0, empty));
}
