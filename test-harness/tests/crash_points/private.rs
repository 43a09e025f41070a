//! Identities and private ledgers: adding, receiving, creating and joining.

use std::ops::Range;
use std::sync::OnceLock;
use std::time::Duration;

use test_harness::sim::LinkConditions;
use test_harness::world::{Disk, PrivateNode, World};
use walytis_core::id::BlockId;
use walytis_identities::id::{Did, Role};

use crate::plan::{Plan, at_every_step_in_short};

/// More than stands beside a record: stored and fetched in parts.
pub(crate) fn large() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| "0123456789abcdef".repeat(20_000))
}

pub(crate) async fn come_back(plan: Plan, world: &World, node: PrivateNode) -> PrivateNode {
    let power = node.base().power().clone();
    power.mend();
    if !power.is_off() {
        return node;
    }
    let disk = plan.bounded("the end", node.stop()).await;
    let node = world.start_private(disk).await;
    plan.check(node.base()).await;
    node
}

pub(crate) async fn until_reads(world: &World, plan: Plan, node: &PrivateNode, did: &Did, kept: &[(BlockId, &str)]) {
    for (id, text) in kept {
        let start = &text[..text.len().min(16)];
        let reads = async || node.read(did, id).await.is_ok_and(|read| read == *text);
        world.until(&format!("a private block can be read ({start}): {plan:?}"), reads).await;
    }
}

/// Starts a node once more, from its disk alone: what is kept can be read.
pub(crate) async fn restart(
    world: &World,
    plan: Plan,
    node: PrivateNode,
    did: &Did,
    kept: &[(BlockId, &str)],
) -> PrivateNode {
    let node = world.start_private(plan.bounded("the end", node.stop()).await).await;
    until_reads(world, plan, &node, did, kept).await;
    node
}

/// Ends a run in order.
pub(crate) async fn end(world: World, nodes: impl IntoIterator<Item = PrivateNode>) {
    for node in nodes {
        node.stop().await;
    }
    world.end().await;
}

/// Adds small and large private blocks while the node fails. None of the calls waits for a store that fails for good.
async fn add(seed: u64, plan: Plan) -> Range<u64> {
    let world = World::new(seed, LinkConditions::CALM);
    let node = world.private_node("a").await;
    let did = node.create("home").await;
    let power = plan.power();
    let node = world.start_private_with(node.stop().await, power.clone()).await;
    let opened = power.steps();
    let mut kept: Vec<(BlockId, &str)> = Vec::new();
    for text in ["one", large(), "two"] {
        if let Ok(id) = plan.bounded("a private add", node.add(&did, text, &["t"])).await {
            kept.push((id, text));
        }
    }
    world.pass(Duration::from_secs(20)).await;
    let steps = opened..power.steps();
    let node = come_back(plan, &world, node).await;
    until_reads(&world, plan, &node, &did, &kept).await;
    let after = node.add(&did, "after", &[]).await.unwrap_or_else(|error| panic!("{error:?}: {plan:?}"));
    kept.push((after, "after"));
    let node = restart(&world, plan, node, &did, &kept).await;
    end(world, [node]).await;
    steps
}

#[test]
fn no_crash_point_of_a_private_add_loses_it_or_makes_it_wait_for_ever() {
    at_every_step_in_short("crash_points::no_crash_point_of_a_private_add_loses_it_or_makes_it_wait_for_ever", 8, add);
}

async fn admit(plan: Plan, b: &PrivateNode, token: &str) -> Option<Did> {
    Box::pin(plan.bounded("an identity's join", b.join(token))).await.ok()
}

/// `b` joins an identity and reads what `a` writes, and fails on the way.
async fn join(seed: u64, plan: Plan) -> Range<u64> {
    let world = World::new(seed, LinkConditions::CALM);
    let a = world.private_node("a").await;
    let did = a.create("home").await;
    let mut kept = vec![(a.add(&did, "before", &[]).await.unwrap(), "before")];
    let token = a.token(&did, Role::Member).await;
    let power = plan.power();
    let b = world.start_private_with(Disk::with_vault(seed, "b", 0), power.clone()).await;
    let opened = power.steps();
    let joined = Box::pin(admit(plan, &b, &token)).await;
    for text in ["later", large()] {
        kept.push((a.add(&did, text, &[]).await.unwrap(), text));
    }
    world.pass(Duration::from_secs(20)).await;
    let steps = opened..power.steps();
    // A device whose disk was full while it joined comes to know everything at its next start at the latest.
    let b = come_back(plan, &world, b).await;
    let b = world.start_private(plan.bounded("the end", b.stop()).await).await;
    if b.identities().identity(&did).is_err() {
        assert!(joined.is_none(), "an identity that was joined is gone: {plan:?}");
        // An invitation for one lets the same device in again, or says that it is used: then another one must.
        if Box::pin(admit(plan, &b, &token)).await.is_none() {
            let token = a.token(&did, Role::Member).await;
            b.join(&token).await.unwrap_or_else(|error| panic!("{error:?}: {plan:?}"));
        }
    }
    until_reads(&world, plan, &b, &did, &kept).await;
    let mine = b.add(&did, "of b", &[]).await.unwrap_or_else(|error| panic!("{error:?}: {plan:?}"));
    until_reads(&world, plan, &a, &did, &[(mine, "of b")]).await;
    end(world, [a, b]).await;
    steps
}

#[test]
fn no_crash_point_of_a_device_keeps_it_out_of_its_identity() {
    at_every_step_in_short("crash_points::no_crash_point_of_a_device_keeps_it_out_of_its_identity", 10, join);
}
