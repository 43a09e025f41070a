//! Keys renewed by several at the same moment, and while somebody is removed: one epoch is written under in the end, and
//! whoever reads can open it and all others.

use std::collections::BTreeSet;
use std::time::Duration;

use walytis_core::id::PeerId;
use walytis_core::net::MemoryHub;
use walytis_identities::epoch::EpochView;
use walytis_identities::id::{ControllerId, Did, EpochId};
use walytis_identities::identity::{EpochUse, Identity as _};
use walytis_identities::node::IdentitiesConfig;
use walytis_identities::op::Op;

use crate::rig::{Machine, pass, until};
use crate::upkeep::{HOUR, hourly, rekeys, three};

/// Keeps all from each other.
fn apart(hub: &MemoryHub, machines: &[&Machine]) {
    let peers: Vec<PeerId> = machines.iter().map(|machine| machine.peer()).collect();
    peers.iter().enumerate().for_each(|(at, peer)| hub.partition(std::slice::from_ref(peer), &peers[at + 1..]));
}

/// Waits until all know the same ops.
async fn level(did: &Did, machines: &[&Machine]) {
    let first = machines[0].identity(did);
    for machine in &machines[1..] {
        let same = async || machine.identity(did).auth_heads().await == first.auth_heads().await;
        until("all know all", same).await;
    }
}

/// Waits until all can open each of these epochs, and write under the same one of them; each then gives all the same secret.
async fn one_epoch(did: &Did, machines: &[&Machine], epochs: &[EpochId]) -> EpochId {
    let mut written_under = BTreeSet::new();
    for machine in machines {
        let identity = machine.identity(did);
        for epoch in epochs {
            let open = async || identity.derive(epoch, EpochUse::ContentWrap).await.is_ok();
            until(&format!("{epoch:?} is open"), open).await;
            let secret = identity.derive(epoch, EpochUse::ContentWrap).await.unwrap();
            assert_eq!(secret, machines[0].identity(did).derive(epoch, EpochUse::ContentWrap).await.unwrap());
        }
        written_under.insert(identity.sending_epoch().await.unwrap());
    }
    assert_eq!(written_under.len(), 1, "{written_under:?}");
    let epoch = written_under.pop_first().unwrap();
    assert!(epochs.contains(&epoch), "{epoch:?}");
    epoch
}

async fn renewals(machine: &Machine, did: &Did) -> Vec<EpochId> {
    let graph = machine.graph(did).await;
    graph.ops().filter(|op| matches!(op.core().op, Op::Rekey(_))).map(|op| op.id()).collect()
}

/// An epoch grows old while all three are apart, and nobody waits for a turn: each of them renews it at the same moment. Once
/// they hear of each other they agree on one of the three, and nobody renews it again before it is old.
#[tokio::test(start_paused = true)]
async fn all_renew_an_old_epoch_at_the_same_moment() {
    let hub = MemoryHub::new();
    let (did, machines) = three(&hub, IdentitiesConfig { turn: Duration::ZERO, ..hourly() }).await;
    let all: Vec<&Machine> = machines.iter().collect();
    let old = all[0].identity(&did).sending_epoch().await.unwrap();
    apart(&hub, &all);
    pass(HOUR + Duration::from_secs(60)).await;
    let mut written = Vec::new();
    let mut own = Vec::new();
    for machine in &all {
        assert_eq!(rekeys(machine, &did).await, 1, "its own and no other");
        own.push(machine.identity(&did).sending_epoch().await.unwrap());
        written.push(machine.write(&did, "while the others know nothing of its epoch").await);
    }
    own.sort_unstable();
    own.dedup();
    assert_eq!(own.len(), 3, "a race of three");
    hub.heal_all();
    level(&did, &all).await;
    let epochs = [&own[..], &[old]].concat();
    let epoch = one_epoch(&did, &all, &epochs).await;
    for (machine, block) in all.iter().flat_map(|machine| written.iter().map(move |block| (machine, block))) {
        machine.until_has(&did, block).await;
    }
    pass(HOUR / 2).await;
    assert_eq!(one_epoch(&did, &all, &epochs).await, epoch, "it is in force");
    assert_eq!(renewals(all[0], &did).await.len(), 3, "and nobody renewed anything on account of the race");
}

/// One admin removes a device while another device, and the one that is removed, renew the keys: whatever is heard first,
/// what is written from then on is closed to the removed, and nobody has to renew anything more.
#[tokio::test(start_paused = true)]
async fn keys_are_renewed_beside_a_removal() {
    for removed_renews in [false, true] {
        let hub = MemoryHub::new();
        let (did, machines) = three(&hub, hourly()).await;
        let [a, b, c] = &machines;
        let gone = c.identity(&did).controller();
        let keys = c.keys(&did).await;
        apart(&hub, &[a, b, c]);
        let removal = a.identities.remove(&did, gone).await.unwrap().op;
        let beside = b.identities.rekey(&did).await.unwrap().op;
        let mut epochs = vec![removal, beside];
        if removed_renews {
            epochs.push(c.identities.rekey(&did).await.unwrap().op);
        }
        // Until it hears of it b writes under what c can open: that is what it knew.
        assert_eq!(b.identity(&did).sending_epoch().await.unwrap(), beside);
        hub.heal_all();
        until("b knows of the removal", async || b.identities.show(&did).unwrap().controllers.len() == 2).await;
        until("c knows of it", async || c.identities.show(&did).unwrap().role.is_none()).await;
        level(&did, &[a, b]).await;
        assert_eq!(one_epoch(&did, &[a, b], &epochs[..2]).await, removal, "the only one that c cannot open");
        pass(HOUR / 2).await;
        assert_eq!(one_epoch(&did, &[a, b], &epochs[..2]).await, removal);
        let all = renewals(a, &did).await;
        assert!(all.iter().all(|op| epochs.contains(op)), "nothing was renewed on account of the race");

        let graph = a.graph(&did).await;
        let (op, id) = (graph.op(&removal).unwrap(), ControllerId::Device(keys.id()));
        assert!(EpochView::open_slot(op.core(), &id, true, &[keys.receiving()]).is_err());
        assert!(c.identity(&did).derive(&removal, EpochUse::ContentWrap).await.is_err());
    }
}
