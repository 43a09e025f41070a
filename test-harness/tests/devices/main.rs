//! Identities of many devices, and of persons with many devices, under churn and partitions; and those that were removed
//! and keep every key.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod churn;
mod nest;
mod nested_churn;
mod nested_removed;
mod removed;

use std::time::Duration;

use test_harness::adversary::Known;
use test_harness::adversary::authority::exchange;
use test_harness::sim::SimNetwork;
use test_harness::world::{PrivateNode, SimNode, World};
use walytis_core::id::BlockId;
use walytis_identities::id::{ControllerId, Did, EpochId, Role};
use walytis_identities::identity::Identity as _;
use walytis_identities::op::SignedOp;

/// How long one whole exchange of ops may take.
const EXCHANGE: Duration = Duration::from_secs(900);
/// Ops offered at once: a node looks at no more after 16 that it refuses.
const OFFERED: usize = 8;

/// Joins as often as bad links make it necessary.
async fn admit(world: &World, by: &PrivateNode, other: &PrivateNode, did: &Did, role: Role) {
    let token = by.token(did, role).await;
    world.until("the joiner is in", async || other.join(&token).await.is_ok()).await;
}

/// The same as a person.
async fn join_as(world: &World, by: &PrivateNode, other: &PrivateNode, (did, person): (&Did, &Did), role: Role) {
    let token = by.token(did, role).await;
    world.until("the person is in", async || other.join_as(&token, person).await.is_ok()).await;
}

fn me(node: &PrivateNode, did: &Did) -> ControllerId {
    node.identity(did).controller()
}

/// Who controls an identity, as a node shows it, ascending.
fn controllers(node: &PrivateNode, did: &Did) -> Vec<(ControllerId, Role)> {
    let info = node.identities().show(did).unwrap();
    info.controllers.iter().map(|one| (one.id, one.role)).collect()
}

fn sending(node: &PrivateNode, did: &Did) -> Option<EpochId> {
    node.identities().show(did).unwrap().epoch
}

/// Waits until all show the same controllers and the same epoch to write under.
async fn until_agreed(world: &World, nodes: &[&PrivateNode], did: &Did) -> EpochId {
    let shown = |node: &PrivateNode| (controllers(node, did), sending(node, did));
    let same = async || {
        let first = shown(nodes[0]);
        first.1.is_some() && nodes.iter().all(|node| shown(node) == first)
    };
    world.until("all agree on controllers and keys", same).await;
    sending(nodes[0], did).unwrap()
}

/// Offers ops to a node as anybody may, and returns everything that it has.
async fn offer(world: &World, from: &SimNode, to: &PrivateNode, did: &Did, ops: &[SignedOp]) -> Known {
    offer_with(world, from, to, did, (&[], ops)).await
}

/// The same with genesis blocks of identities below that the ops may name.
async fn offer_with(
    world: &World,
    from: &SimNode,
    to: &PrivateNode,
    did: &Did,
    (genesis, ops): (&[Vec<u8>], &[SignedOp]),
) -> Known {
    let mut heard = None;
    for some in ops.chunks(OFFERED).chain(ops.is_empty().then_some(ops)) {
        heard = Some(one_exchange(world, from, to, did, (genesis, some)).await);
    }
    heard.unwrap()
}

async fn one_exchange(
    world: &World,
    from: &SimNode,
    to: &PrivateNode,
    did: &Did,
    offered: (&[Vec<u8>], &[SignedOp]),
) -> Known {
    let deadline = world.elapsed() + EXCHANGE;
    loop {
        from.meet(to.base()).await;
        let network: &SimNetwork = from.network();
        if let Some(heard) = exchange(network, &to.base().peer(), did, offered).await {
            return heard;
        }
        assert!(world.elapsed() < deadline, "no exchange ends");
        // Whoever asks too often is refused for a while.
        world.pass(Duration::from_secs(20)).await;
    }
}

/// Everything that a node knows of an identity, asked for as anybody may who knows the DID.
async fn ops_of(world: &World, asking: &SimNode, node: &PrivateNode, did: &Did) -> Known {
    offer(world, asking, node, did, &[]).await
}

async fn until_reads(world: &World, node: &PrivateNode, did: &Did, id: &BlockId, text: &str) {
    let what = format!("{} reads {text:?}", node.base().name());
    world.until(&what, async || node.read(did, id).await.is_ok_and(|read| read == text)).await;
}
