//! Blocks of others: by gossip one by one, and by catch-up in groups.

use std::ops::Range;
use std::time::Duration;

use test_harness::sim::LinkConditions;
use test_harness::world::World;
use walytis_core::block::Visibility;
use walytis_core::ledger::{Ledger as _, LedgerRead as _, NewBlock};

use crate::plan::{Plan, at_every_step};

/// `b` hears blocks of `a`, misses some and catches up, writes in between, and fails somewhere on the way. It must come
/// level again: by itself where its process lives on, else after a restart.
async fn receive(seed: u64, plan: Plan) -> Range<u64> {
    let world = World::new(seed, LinkConditions::CALM);
    let a = world.node("a").await;
    let chain = a.create("notes", Visibility::Invited).await;
    let b = world.node("b").await;
    b.join(&a, &chain).await;
    world.until_level(&[&a, &b], &chain).await;
    let power = plan.power();
    let b = world.start_with(b.stop().await, power.clone()).await;
    let opened = power.steps();
    let mut own = Vec::new();
    for round in 0..3 {
        a.add(&chain, format!("heard {round}")).await;
        world.pass(Duration::from_millis(400)).await;
        let block = NewBlock { content: format!("own {round}").into(), topics: vec![] };
        if let Ok(added) = plan.bounded("add", b.chain(&chain).add(block)).await {
            own.push(added.id);
        }
    }
    world.hub().cut(&a.peer(), &b.peer());
    a.add_many(&chain, (0..40).map(|number| format!("missed {number} {}", "x".repeat(500)))).await;
    world.hub().heal(&a.peer(), &b.peer());
    world.pass(Duration::from_secs(20)).await;
    let steps = opened..power.steps();
    let b = plan.come_back(&world, b).await;
    for id in &own {
        assert!(b.chain(&chain).get(id).await.unwrap().is_some(), "an acknowledged block is lost: {plan:?}");
    }
    let b = plan.level(&world, b, &a, &chain).await;
    b.add(&chain, "after").await;
    world.until_level(&[&a, &b], &chain).await;
    world.stop(vec![a, b]).await;
    steps
}

#[test]
fn no_crash_point_of_a_receiver_keeps_it_from_coming_level() {
    at_every_step("crash_points::no_crash_point_of_a_receiver_keeps_it_from_coming_level", 9, receive);
}
