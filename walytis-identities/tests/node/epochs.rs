//! Epochs that cannot be used, and epochs that were missed.

use std::collections::BTreeMap;

use walytis_core::clock::SeededEntropy;
use walytis_core::net::MemoryHub;
use walytis_identities::crypto::DeviceKeys;
use walytis_identities::id::{ControllerId, OpId, Role};
use walytis_identities::identity::{EpochUse, Identity as _, IdentityError};
use walytis_identities::op::{Op, SignedOp};
use walytis_identities::state::{AuthorityGraph, Builder};

use crate::rig::{Machine, pass, until};

/// A rekey that everybody counts, whose slot for `victim` opens to nothing.
fn broken_rekey(graph: &mut AuthorityGraph, keys: &DeviceKeys, victim: &ControllerId, seed: u64) -> SignedOp {
    let entropy = SeededEntropy::new(seed);
    let built = Builder::new(graph, keys, &BTreeMap::new(), &entropy).rekey().unwrap();
    let mut core = built.op.core().clone();
    let Op::Rekey(part) = &mut core.op else { panic!("a rekey") };
    let slot = part.slots.iter_mut().find(|slot| slot.controller == *victim).unwrap();
    *slot.sealed.last_mut().unwrap() ^= 1;
    core.sign(keys, &entropy).unwrap()
}

/// Whoever cannot open its slot rekeys at once and never uses that epoch; a dishonest author cannot make it do so for ever.
#[tokio::test(start_paused = true)]
async fn a_broken_slot_makes_its_recipient_rekey_a_bounded_number_of_times() {
    let hub = MemoryHub::new();
    let (a, b) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await);
    let did = a.create().await;
    a.admit(&did, &b, Role::Member).await;
    let (keys, victim) = (b.keys(&did).await, a.identity(&did).controller());
    let mut graph = a.graph(&did).await;
    drop(b.stop().await);
    let identity = a.identity(&did);
    let mut repaired = 0;
    for round in 0..12 {
        let broken = broken_rekey(&mut graph, &keys, &victim, 500 + round);
        let id: OpId = broken.id();
        graph.insert(broken.clone()).unwrap();
        assert_eq!(graph.state().sending_epoch, Some(id), "everybody else would use it");
        a.receive(&did, &[broken]).await;
        pass(std::time::Duration::from_secs(60)).await;
        let key = identity.derive(&id, EpochUse::ContentWrap).await;
        assert!(matches!(key, Err(IdentityError::NoEpochSecret { .. })));
        assert_ne!(identity.sending_epoch().await.ok(), Some(id), "it is never used");
        let heads = identity.auth_heads().await;
        if heads == [id] {
            continue;
        }
        repaired += 1;
        assert_eq!(identity.sending_epoch().await.ok(), heads.first().copied());
        // The repair stands on the broken one; take it over as a peer would.
        let chain = identity.chain();
        let block = chain.block(&chain.at(-1).await.unwrap().id).await.unwrap().unwrap();
        graph.insert(SignedOp::decode(block.inline().unwrap()).unwrap()).unwrap();
        assert_eq!(graph.heads(), heads);
    }
    assert_eq!(repaired, 8);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_was_away_opens_every_epoch_it_missed() {
    let hub = MemoryHub::new();
    let (a, b) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await);
    let did = a.create().await;
    a.admit(&did, &b, Role::Member).await;
    let b = b.stop().await;
    let mut epochs = Vec::new();
    let mut blocks = Vec::new();
    for _ in 0..5 {
        epochs.push(a.identities.rekey(&did).await.unwrap().op);
        blocks.push(a.write(&did, "while b was away").await);
    }
    let b = b.start().await;
    until("b uses the newest", async || b.identity(&did).sending_epoch().await.ok() == epochs.last().copied()).await;
    for (epoch, block) in epochs.iter().zip(&blocks) {
        let ours = a.identity(&did).derive(epoch, EpochUse::ContentWrap).await.unwrap();
        assert_eq!(b.identity(&did).derive(epoch, EpochUse::ContentWrap).await.unwrap(), ours);
        b.until_has(&did, block).await;
    }
    assert!(b.identities.show(&did).unwrap().locked_epochs.is_empty());
}

/// A removed device forks its last state more often than a frame, a record or an op can name heads: the others go on.
#[tokio::test(start_paused = true)]
async fn forks_of_the_removed_do_not_keep_the_others_apart() {
    let hub = MemoryHub::new();
    let (a, b, c) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await, Machine::start(&hub, 3).await);
    let did = a.create().await;
    a.admit(&did, &b, Role::Member).await;
    a.admit(&did, &c, Role::Member).await;
    let keys = b.keys(&did).await;
    let mut graph = a.graph(&did).await;
    let forks: Vec<SignedOp> = (0..70)
        .map(|seed| {
            Builder::new(&mut graph, &keys, &BTreeMap::new(), &SeededEntropy::new(900 + seed)).rekey().unwrap().op
        })
        .collect();
    drop(b.stop().await);
    let removed = ControllerId::Device(keys.id());
    a.identities.remove(&did, removed).await.unwrap();
    a.receive(&did, &forks).await;
    c.receive(&did, &forks[..66]).await;
    assert!(a.identities.show(&did).unwrap().controllers.iter().all(|controller| controller.id != removed));
    let renewed = a.identities.rekey(&did).await.unwrap();
    until("c uses the new epoch", async || c.identity(&did).sending_epoch().await.ok() == Some(renewed.op)).await;
    let (from_a, from_c) = (a.write(&did, "from a").await, c.write(&did, "from c").await);
    a.until_has(&did, &from_c).await;
    c.until_has(&did, &from_a).await;
}
