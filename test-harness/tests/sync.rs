//! Chains of several nodes over bad networks, in virtual time: whatever is delayed, lost, doubled, reordered, broken or
//! restarted, replicas that can reach each other end up with the same. Each test prints its seed; a failing one prints
//! the command that runs it again.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests fail by panicking"
)]

use std::time::Duration;

use test_harness::invariant::{Broken, SubscriberLog, convergence};
use test_harness::sim::{LinkConditions, simulate};
use test_harness::world::{Crash, SimNode, World};
use tokio::time::timeout;
use walytis_core::block::Visibility;
use walytis_core::clock::Clock as _;
use walytis_core::id::ChainId;
use walytis_core::ledger::{LedgerRead as _, Order, SubscribeFrom, Subscription};

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Everybody adds a few blocks at moments of its own.
async fn chatter(world: &World, nodes: &[SimNode], chain: &ChainId, each: usize) {
    let mut turns: Vec<_> = (0..nodes.len()).cycle().take(nodes.len() * each).collect();
    world.draw(|dice| dice.shuffle(&mut turns));
    for (number, turn) in turns.into_iter().enumerate() {
        let size = world.draw(|dice| dice.below(2_000)) as usize;
        let text = format!("{} {number} {}", nodes[turn].name(), "x".repeat(size));
        nodes[turn].add(chain, text).await;
        let pause = world.draw(|dice| dice.within(Duration::from_secs(2)));
        world.pass(pause).await;
    }
}

async fn all_level(world: &World, nodes: &[SimNode], chain: &ChainId) {
    world.until_level(&nodes.iter().collect::<Vec<_>>(), chain).await;
}

/// Three nodes talk over rough links while one is killed and a link is cut.
async fn eventful(seed: u64) -> (test_harness::sim::TraceHash, u64) {
    let world = World::new(seed, LinkConditions::ROUGH);
    let (mut nodes, chain) = world.members(3, Visibility::Invited).await;
    nodes[0].meet(&nodes[2]).await;
    chatter(&world, &nodes, &chain, 10).await;
    // Much at the very same moment: whatever has no order of its own shows here.
    world.hub().set_conditions(LinkConditions::CALM);
    for round in 0..5 {
        for node in &nodes {
            node.add(&chain, format!("burst {round}")).await;
        }
        world.pass(Duration::from_millis(5)).await;
    }
    world.hub().set_conditions(LinkConditions::ROUGH);
    world.hub().cut(&nodes[0].peer(), &nodes[1].peer());
    let disk = nodes.remove(2).crash(Crash::Kill).await;
    chatter(&world, &nodes, &chain, 3).await;
    nodes.push(world.start(disk).await);
    world.hub().heal_all();
    all_level(&world, &nodes, &chain).await;
    let events = world.hub().events();
    (world.stop(nodes).await, events)
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    const NAME: &str = "sync::the_same_seed_gives_the_same_trace_and_another_seed_another";
    let runs = simulate(NAME, &[11; 5], eventful);
    assert!(runs[0].1 > 500, "only {} events: the scenario tests too little", runs[0].1);
    if test_harness::sim::seeds(&[11; 5]) != [11; 5] {
        // Other seeds were asked for.
        return;
    }
    assert!(runs.iter().all(|run| *run == runs[0]), "{runs:?}");
    assert_ne!(simulate(NAME, &[12], eventful)[0], runs[0]);
}

#[test]
fn nodes_converge_under_loss_and_partitions_that_heal_pairwise() {
    simulate(
        "sync::nodes_converge_under_loss_and_partitions_that_heal_pairwise",
        &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
        async |seed| {
            let world = World::new(seed, LinkConditions::ROUGH);
            let count = 2 + (seed % 5) as usize;
            let (nodes, chain) = world.members(count, Visibility::Invited).await;
            for (number, node) in nodes.iter().enumerate().skip(2) {
                node.meet(&nodes[number - 2]).await;
            }
            chatter(&world, &nodes, &chain, 4).await;
            // Everybody alone; each writes.
            let peers: Vec<_> = nodes.iter().map(SimNode::peer).collect();
            for (number, peer) in peers.iter().enumerate() {
                world.hub().partition(&peers[..number], std::slice::from_ref(peer));
            }
            chatter(&world, &nodes, &chain, 5).await;
            // The pairs heal one after the other, in any order, with time to talk in between.
            let mut pairs: Vec<_> = (1..count).map(|number| (number - 1, number)).collect();
            world.draw(|dice| dice.shuffle(&mut pairs));
            for (a, b) in pairs {
                world.hub().heal(&peers[a], &peers[b]);
                world.pass(world.draw(|dice| dice.within(seconds(30)))).await;
                nodes[a].add(&chain, format!("healed {a} {b}")).await;
            }
            all_level(&world, &nodes, &chain).await;
            assert_eq!(nodes[0].summary(&chain).count as usize, 1 + count * 9 + (count - 1));
            world.stop(nodes).await;
        },
    );
}

/// Gossip is a hint: with all of it lost and every stream broken within a minute, catch-up still delivers.
#[test]
fn catch_up_delivers_though_all_gossip_is_lost_and_every_stream_breaks() {
    const NAME: &str = "sync::catch_up_delivers_though_all_gossip_is_lost_and_every_stream_breaks";
    simulate(NAME, &[1, 2, 3], async |seed| {
        let breaking = LinkConditions { gossip_loss: 1_000, stream_reset: 1_000, ..LinkConditions::CALM };
        let world = World::new(seed, breaking);
        let (nodes, chain) = world.members(3, Visibility::Invited).await;
        for number in 0..10 {
            for node in &nodes {
                node.add(&chain, format!("{} {number}", node.name())).await;
            }
            world.pass(seconds(40)).await;
        }
        all_level(&world, &nodes, &chain).await;
        assert_eq!(nodes[0].summary(&chain).count, 31);
        world.stop(nodes).await;
    });
}

#[test]
fn a_late_joiner_gets_everything_over_a_bad_link() {
    simulate("sync::a_late_joiner_gets_everything_over_a_bad_link", &[1, 2, 3], async |seed| {
        let world = World::new(seed, LinkConditions::ROUGH);
        let a = world.node("a").await;
        let chain = a.create("notes", Visibility::Invited).await;
        for round in 0..3 {
            a.add_many(&chain, (0..200).map(|number| format!("{round} {number} {}", "x".repeat(500)))).await;
        }
        let large: Vec<u8> = (0..3_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let file = a.add(&chain, large.clone()).await;
        let b = world.node("b").await;
        b.join(&a, &chain).await;
        world.until_level(&[&a, &b], &chain).await;
        assert_eq!(b.summary(&chain).count, 602);
        // A reader is told at once when nobody connected has it; it may come back.
        world.until("the content comes", async || b.read(&chain, &file).await.is_ok()).await;
        assert!(b.read(&chain, &file).await.unwrap() == large, "the large content differs");
        world.stop(vec![a, b]).await;
    });
}

/// Two, then three nodes write while nobody else is up; all come back and show the same.
#[test]
fn offline_additions_merge_to_the_same_order() {
    simulate("sync::offline_additions_merge_to_the_same_order", &[1, 2, 3], async |seed| {
        let world = World::new(seed, LinkConditions::CALM);
        let (nodes, chain) = world.members(3, Visibility::Invited).await;
        all_level(&world, &nodes, &chain).await;
        let mut disks = Vec::new();
        for node in nodes {
            disks.push(node.stop().await);
        }
        let mut written = Vec::new();
        for disk in disks {
            let node = world.start(disk).await;
            for number in 1..=3 {
                node.add(&chain, format!("{}-{number}", node.name())).await;
            }
            written.push(node.stop().await);
        }
        let mut nodes = Vec::new();
        for disk in written {
            nodes.push(world.start(disk).await);
        }
        all_level(&world, &nodes, &chain).await;
        let texts = nodes[0].texts(&chain).await;
        assert_eq!(texts.len(), 9);
        for node in &nodes {
            assert_eq!(node.texts(&chain).await, texts);
        }
        assert_eq!(nodes[0].summary(&chain).heads.len(), 3);
        world.stop(nodes).await;
    });
}

/// Nodes are killed or lose power in the middle of everything. Each comes back with what it acknowledged.
#[test]
fn nothing_acknowledged_is_lost_by_kills_and_power_cuts() {
    simulate("sync::nothing_acknowledged_is_lost_by_kills_and_power_cuts", &[1, 2, 3, 4, 5, 6], async |seed| {
        let world = World::new(seed, LinkConditions::ROUGH);
        let (mut nodes, chain) = world.members(3, Visibility::Invited).await;
        for round in 0..6 {
            chatter(&world, &nodes, &chain, 2).await;
            let victim = world.draw(|dice| dice.below(3)) as usize;
            let crash = if world.draw(|dice| dice.hits(500)) { Crash::Kill } else { Crash::PowerCut };
            let node = nodes.remove(victim);
            let own = node.add(&chain, format!("the last before crash {round}")).await;
            let disk = node.crash(crash).await;
            world.pass(world.draw(|dice| dice.within(seconds(20)))).await;
            let node = world.start(disk).await;
            assert!(node.chain(&chain).get(&own).await.unwrap().is_some(), "an acknowledged block is lost: {crash:?}");
            nodes.insert(victim, node);
        }
        all_level(&world, &nodes, &chain).await;
        assert_eq!(nodes[0].summary(&chain).count, 1 + 6 * 7);
        world.stop(nodes).await;
    });
}

#[test]
fn clocks_a_day_apart_change_nothing_but_what_they_show() {
    simulate("sync::clocks_a_day_apart_change_nothing_but_what_they_show", &[1, 2], async |seed| {
        let world = World::new(seed, LinkConditions::CALM);
        let a = world.node_with_skew("a", -DAY_MS).await;
        let b = world.node_with_skew("b", DAY_MS).await;
        let chain = a.create("notes", Visibility::Invited).await;
        b.join(&a, &chain).await;
        let early = a.add(&chain, "early").await;
        world.until_level(&[&a, &b], &chain).await;
        let late = b.add(&chain, "late").await;
        world.until_level(&[&a, &b], &chain).await;
        let a_disk = a.stop().await;
        let (a, b) = (world.start(a_disk).await, b);
        let last = a.add(&chain, "last").await;
        world.until_level(&[&a, &b], &chain).await;
        for node in [&a, &b] {
            assert_eq!(node.texts(&chain).await, ["early", "late", "last"]);
            let at = async |id| node.chain(&chain).get(&id).await.unwrap().unwrap().created_at_ms;
            assert!(at(late).await - at(early).await >= 2 * DAY_MS && at(last).await < at(late).await);
        }
        // A clock that jumps back in the middle of a run is no different.
        b.clock().set_skew_ms(-10 * DAY_MS);
        assert!(b.clock().now_ms() < a.clock().now_ms());
        b.add(&chain, "from the past").await;
        world.until_level(&[&a, &b], &chain).await;
        world.stop(vec![a, b]).await;
    });
}

/// Reads on for a while, acknowledging now and then, and notes everything.
async fn follow(world: &World, subscription: &mut dyn Subscription, log: &mut SubscriberLog, time: Duration) {
    let reading = async {
        while let Some(event) = subscription.next().await.unwrap() {
            log.handle(&event).unwrap();
            if world.draw(|dice| dice.hits(300)) {
                subscription.ack(event.cursor()).await.unwrap();
                log.acknowledged(event.cursor());
            }
        }
    };
    // Ends by the time.
    let _ended = timeout(time, reading).await;
}

#[test]
fn a_durable_subscriber_sees_every_block_parents_first_across_crashes() {
    simulate(
        "sync::a_durable_subscriber_sees_every_block_parents_first_across_crashes",
        &[1, 2, 3, 4, 5, 6],
        async |seed| {
            let world = World::new(seed, LinkConditions::ROUGH);
            let (mut nodes, chain) = world.members(2, Visibility::Invited).await;
            let mut log = SubscriberLog::default();
            for round in 0..5 {
                let mut subscription =
                    nodes[1].chain(&chain).subscribe(SubscribeFrom::Name("reader".into())).await.unwrap();
                chatter(&world, &nodes, &chain, 3).await;
                let time = world.draw(|dice| dice.within(seconds(5)));
                follow(&world, &mut *subscription, &mut log, time).await;
                drop(subscription);
                if round == 4 {
                    break;
                }
                let crash = if world.draw(|dice| dice.hits(500)) { Crash::Kill } else { Crash::PowerCut };
                let disk = nodes.remove(1).crash(crash).await;
                nodes.push(world.start(disk).await);
                log.restarted();
            }
            all_level(&world, &nodes, &chain).await;
            let mut subscription =
                nodes[1].chain(&chain).subscribe(SubscribeFrom::Name("reader".into())).await.unwrap();
            log.restarted();
            follow(&world, &mut *subscription, &mut log, seconds(5)).await;
            log.complete(&nodes[1].chain(&chain)).await.unwrap();
            assert_eq!(log.blocks(), 31);
            assert!(log.told() > 31, "nothing was told twice: no crash was noticed");
            drop(subscription);
            world.stop(nodes).await;
        },
    );
}

/// A slow subscriber delays neither the chain nor another subscriber.
#[test]
fn a_subscriber_that_stands_still_delays_nobody() {
    simulate("sync::a_subscriber_that_stands_still_delays_nobody", &[1], async |seed| {
        let world = World::new(seed, LinkConditions::CALM);
        let (nodes, chain) = world.members(2, Visibility::Invited).await;
        let mut idle = nodes[1].chain(&chain).subscribe(SubscribeFrom::Name("idle".into())).await.unwrap();
        let first = idle.next().await.unwrap().unwrap();
        for number in 0..300 {
            nodes[0].add(&chain, number.to_string()).await;
        }
        all_level(&world, &nodes, &chain).await;
        assert!(world.elapsed() < seconds(60), "{:?}", world.elapsed());
        let mut log = SubscriberLog::default();
        log.handle(&first).unwrap();
        follow(&world, &mut *idle, &mut log, seconds(5)).await;
        log.complete(&nodes[1].chain(&chain)).await.unwrap();
        drop(idle);
        world.stop(nodes).await;
    });
}

/// The checks themselves: replicas that differ are told apart.
#[test]
fn replicas_that_differ_are_no_convergence() {
    simulate("sync::replicas_that_differ_are_no_convergence", &[1], async |seed| {
        let world = World::new(seed, LinkConditions::CALM);
        let (nodes, chain) = world.members(2, Visibility::Invited).await;
        all_level(&world, &nodes, &chain).await;
        world.hub().cut(&nodes[0].peer(), &nodes[1].peer());
        nodes[0].add(&chain, "only here").await;
        world.pass(seconds(60)).await;
        let chains = [nodes[0].chain(&chain), nodes[1].chain(&chain)];
        let broken: Result<(), Broken> = convergence(&chains).await;
        assert!(broken.is_err());
        assert_eq!(nodes[1].blocks(&chain, Order::Arrival).await.len(), 1);
        drop(chains);
        world.stop(nodes).await;
    });
}
