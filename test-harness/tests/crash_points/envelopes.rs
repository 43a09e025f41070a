//! Private contents of several chunks: added, fetched, and passed on while they are fetched.

use std::ops::Range;
use std::sync::OnceLock;
use std::time::Duration;

use test_harness::sim::LinkConditions;
use test_harness::world::{PrivateNode, World};
use walytis_core::id::BlockId;
use walytis_core::ledger::LedgerRead as _;
use walytis_core::store::{BlobSpace, BlobStore as _};
use walytis_identities::id::{Did, Role};

use crate::plan::{Plan, at_every_step_in_short};
use crate::private::{come_back, end, restart, until_reads};

/// Three chunks.
fn chunks() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| (0..260_000).map(|n| format!("{:08x} ", 7_u32.wrapping_mul(n))).collect())
}

async fn objects(node: &PrivateNode, did: &Did) -> usize {
    node.base().stored_blobs().list(BlobSpace::Envelope, did.chain()).await.unwrap().len()
}

/// What a failure left behind of a content is gone after the next start, what was acknowledged can be read.
async fn add(seed: u64, plan: Plan) -> Range<u64> {
    let world = World::new(seed, LinkConditions::CALM);
    let node = world.private_node("a").await;
    let did = node.create("home").await;
    let power = plan.power();
    let node = world.start_private_with(node.stop().await, power.clone()).await;
    let opened = power.steps();
    let added: Option<BlockId> = plan.bounded("a private add", node.add(&did, chunks(), &[])).await.ok();
    world.pass(Duration::from_secs(20)).await;
    let steps = opened..power.steps();
    let node = come_back(plan, &world, node).await;
    let kept: Vec<(BlockId, &str)> = added.into_iter().map(|id| (id, chunks())).collect();
    until_reads(&world, plan, &node, &did, &kept).await;
    let node = restart(&world, plan, node, &did, &kept).await;
    let records = node.ledger(&did).await.count().await.unwrap();
    assert_eq!(objects(&node, &did).await as u64, records, "content that no record names is left: {plan:?}");
    let again = node.add(&did, chunks(), &[]).await.unwrap_or_else(|error| panic!("{error:?}: {plan:?}"));
    until_reads(&world, plan, &node, &did, &[(again, chunks())]).await;
    end(world, [node]).await;
    steps
}

#[test]
fn no_crash_point_of_a_content_in_chunks_leaves_any_of_it_behind() {
    at_every_step_in_short("crash_points::no_crash_point_of_a_content_in_chunks_leaves_any_of_it_behind", 8, add);
}

/// `b` fetches from `a`, and `c` from `b` alone, of what it has so far. `b` fails on the way: both have all of it in the end,
/// and nobody was taken for a liar.
async fn relay(seed: u64, plan: Plan) -> Range<u64> {
    let world = World::new(seed, LinkConditions::CALM);
    let (a, b, c) = (world.private_node("a").await, world.private_node("b").await, world.private_node("c").await);
    let did = a.create("home").await;
    for node in [&b, &c] {
        let token = a.token(&did, Role::Member).await;
        node.join(&token).await.unwrap();
    }
    b.base().meet(c.base()).await;
    let before = vec![(a.add(&did, "before", &[]).await.unwrap(), "before")];
    for node in [&b, &c] {
        until_reads(&world, plan, node, &did, &before).await;
    }
    world.hub().cut(&a.base().peer(), &c.base().peer());
    let disk = b.stop().await;
    let kept = vec![(a.add(&did, chunks(), &[]).await.unwrap(), chunks())];
    let power = plan.power();
    let b = world.start_private_with(disk, power.clone()).await;
    let opened = power.steps();
    world.pass(Duration::from_secs(20)).await;
    let steps = opened..power.steps();
    let b = come_back(plan, &world, b).await;
    for node in [&b, &c] {
        until_reads(&world, plan, node, &did, &kept).await;
    }
    let b = restart(&world, plan, b, &did, &kept).await;
    for node in [&a, &b, &c] {
        assert_eq!((objects(node, &did).await, node.faults()), (1, 0), "{}: {plan:?}", node.base().name());
    }
    end(world, [a, b, c]).await;
    steps
}

#[test]
fn no_crash_point_of_a_member_that_passes_a_content_on_keeps_it_from_anybody() {
    at_every_step_in_short(
        "crash_points::no_crash_point_of_a_member_that_passes_a_content_on_keeps_it_from_anybody",
        5,
        relay,
    );
}
