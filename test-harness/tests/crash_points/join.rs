//! Joining: the joiner fails, or the member that lets it in.

use std::ops::Range;
use std::time::Duration;

use test_harness::sim::LinkConditions;
use test_harness::world::{Disk, SimNode, World};
use walytis_core::block::Visibility;
use walytis_core::id::ChainId;
use walytis_core::join::Invitation;
use walytis_core::node::InviteOptions;

use crate::plan::{Plan, at_every_step};

/// A member with some blocks and an invitation for one peer.
async fn member(world: &World, power_of: Plan) -> (SimNode, ChainId, Invitation) {
    let a = world.node("a").await;
    let chain = a.create("notes", Visibility::Invited).await;
    a.add_many(&chain, (0..10).map(|number| number.to_string())).await;
    let invitation = a.invite(&chain, InviteOptions::default()).await.unwrap();
    let a = world.start_with(a.stop().await, power_of.power()).await;
    (a, chain, invitation)
}

/// The joiner fails at every write: nothing, or the whole chain, is there after; the same invitation still lets it in.
async fn joiner(seed: u64, plan: Plan) -> Range<u64> {
    let world = World::new(seed, LinkConditions::CALM);
    let (a, chain, invitation) = member(&world, Plan(None)).await;
    let power = plan.power();
    let b = world.start_with(Disk::new(seed, "b", 0), power.clone()).await;
    let opened = power.steps();
    let joined = plan.bounded("join", b.accept(&invitation)).await.is_ok();
    world.pass(Duration::from_secs(10)).await;
    let steps = opened..power.steps();
    let b = plan.come_back(&world, b).await;
    let here = b.node().chain_by_id(&chain).is_ok();
    assert!(here || !joined, "a chain that was joined is gone: {plan:?}");
    if !here {
        assert!(b.node().find(&chain.to_string()).is_err(), "half a chain is left: {plan:?}");
        b.accept(&invitation).await.unwrap_or_else(|error| panic!("{error}: {plan:?}"));
    }
    let b = plan.level(&world, b, &a, &chain).await;
    b.add(&chain, "after").await;
    world.until_level(&[&a, &b], &chain).await;
    world.stop(vec![a, b]).await;
    steps
}

#[test]
fn no_crash_point_of_a_joiner_leaves_half_a_chain() {
    at_every_step("crash_points::no_crash_point_of_a_joiner_leaves_half_a_chain", 3, joiner);
}

/// The member fails while it lets somebody in: that peer is told in bounded time, gets in later with the same
/// invitation, and nobody else does.
async fn letting_in(seed: u64, plan: Plan) -> Range<u64> {
    let world = World::new(seed, LinkConditions::CALM);
    let (a, chain, invitation) = member(&world, plan).await;
    let b = world.node("b").await;
    let opened = a.power().steps();
    let joined = plan.bounded("join", b.accept(&invitation)).await.is_ok();
    let steps = opened..a.power().steps();
    let a = plan.come_back(&world, a).await;
    if !joined {
        b.accept(&invitation).await.unwrap_or_else(|error| panic!("{error}: {plan:?}"));
    }
    world.until_level(&[&a, &b], &chain).await;
    let c = world.node("c").await;
    assert!(c.accept(&invitation).await.is_err(), "an invitation for one let two in: {plan:?}");
    world.stop(vec![a, b, c]).await;
    steps
}

#[test]
fn no_crash_point_of_a_member_costs_a_joiner_its_invitation() {
    at_every_step("crash_points::no_crash_point_of_a_member_costs_a_joiner_its_invitation", 1, letting_in);
}
