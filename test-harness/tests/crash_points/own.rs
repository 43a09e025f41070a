//! What a node does by itself: creating and deleting chains, adding, inviting and revoking, acknowledging.

use std::ops::Range;

use test_harness::invariant::SubscriberLog;
use test_harness::sim::LinkConditions;
use test_harness::world::{Disk, SimNode, World};
use walytis_core::block::Visibility;
use walytis_core::id::{BlockId, ChainId};
use walytis_core::key::PublicKey;
use walytis_core::ledger::{Ledger as _, LedgerRead as _, NewBlock, SubscribeFrom};
use walytis_core::node::{InviteOptions, Listing};

use crate::plan::{Plan, at_every_step};

fn block(text: &str) -> NewBlock {
    NewBlock { content: text.to_owned().into(), topics: vec![] }
}

/// What a node said that it has done.
#[derive(Default)]
struct Acknowledged {
    chains: Vec<(String, ChainId)>,
    deleted: Vec<String>,
    blocks: Vec<(ChainId, BlockId, String)>,
    invited: Vec<PublicKey>,
    revoked: Vec<PublicKey>,
}

/// Creates and deletes chains, adds, invites; goes on after failures.
async fn live(node: &SimNode, plan: Plan) -> Acknowledged {
    let mut done = Acknowledged::default();
    for (name, visibility) in
        [("open", Visibility::Public), ("closed", Visibility::Invited), ("gone", Visibility::Invited)]
    {
        let created = plan.bounded("create", node.node().create_chain(name, visibility)).await;
        let Ok(chain) = created else { continue };
        let id = chain.core().id();
        done.chains.push((name.to_owned(), id));
        if let Ok(added) = plan.bounded("add", chain.add(block("one"))).await {
            done.blocks.push((id, added.id, "one".to_owned()));
        }
        if let Ok(added) = plan.bounded("add_many", chain.add_many(vec![block("two"), block("three")])).await {
            done.blocks.extend(added.iter().zip(["two", "three"]).map(|(info, text)| (id, info.id, text.to_owned())));
        }
        if name == "closed" {
            invite(node, &id, plan, &mut done).await;
        }
        if name == "gone" {
            // A removal that failed may have been begun: then it is finished at the next start.
            done.chains.retain(|(_, chain)| *chain != id);
            done.blocks.retain(|(chain, ..)| *chain != id);
            if plan.bounded("delete", node.node().delete_chain(&id)).await.is_ok() {
                done.deleted.push(name.to_owned());
            }
        }
    }
    done
}

/// Issues invitations of both kinds and revokes half of them.
async fn invite(node: &SimNode, chain: &ChainId, plan: Plan, done: &mut Acknowledged) {
    for (shareable, revoked) in [(false, false), (false, true), (true, false), (true, true)] {
        let options = InviteOptions { shareable, ..InviteOptions::default() };
        let Ok(new) = plan.bounded("invite", node.node().invite(chain, options)).await else { continue };
        let key = new.record.key;
        if !revoked {
            done.invited.push(key);
        } else if plan.bounded("revoke", node.node().revoke(chain, &key)).await.is_ok() {
            done.revoked.push(key);
        }
    }
}

/// Checks that everything acknowledged is there.
async fn kept(node: &SimNode, done: &Acknowledged, plan: Plan) {
    for (name, id) in &done.chains {
        let entry = node.node().find(name).unwrap();
        assert_eq!(entry.id, *id, "{name} is another chain: {plan:?}");
        if name == "closed" {
            let invitations = node.node().invitations(id).await.unwrap();
            for (keys, revoked) in [(&done.invited, false), (&done.revoked, true)] {
                let as_it_was =
                    |key: &PublicKey| invitations.iter().any(|record| record.key == *key && record.revoked == revoked);
                assert!(keys.iter().all(as_it_was), "revoked {revoked}: {invitations:?}, {plan:?}");
            }
        }
    }
    for name in &done.deleted {
        assert!(node.node().find(name).is_err(), "{name} came back: {plan:?}");
    }
    for (chain, id, text) in &done.blocks {
        assert_eq!(node.read(chain, id).await.unwrap(), text.as_bytes(), "{plan:?}");
    }
}

/// Runs the scenario with this power, restarts, checks. Returns the steps from the open node to the end.
async fn fail_at(seed: u64, plan: Plan) -> Range<u64> {
    let world = World::new(seed, LinkConditions::CALM);
    let power = plan.power();
    let node = world.start_with(Disk::new(seed, "n", 0), power.clone()).await;
    let opened = power.steps();
    let done = live(&node, plan).await;
    let steps = opened..power.steps();
    let node = plan.come_back(&world, node).await;
    kept(&node, &done, plan).await;
    // As it is, and after one more start, everything can be done again.
    let node = world.start(node.stop().await).await;
    plan.check(&node).await;
    kept(&node, &done, plan).await;
    for entry in node.node().chains(Listing::All) {
        node.chain(&entry.id).add(block("after")).await.unwrap();
    }
    for name in ["open", "closed", "gone"] {
        if node.node().find(name).is_err() {
            node.node().create_chain(name, Visibility::Invited).await.unwrap();
        }
    }
    plan.check(&node).await;
    world.stop(vec![node]).await;
    steps
}

#[test]
fn no_crash_point_of_a_node_loses_what_it_acknowledged() {
    at_every_step("crash_points::no_crash_point_of_a_node_loses_what_it_acknowledged", 18, fail_at);
}

/// A durable subscriber reads and acknowledges while its node fails: nothing is ever skipped.
async fn acknowledge(seed: u64, plan: Plan) -> Range<u64> {
    let world = World::new(seed, LinkConditions::CALM);
    let disk = {
        let node = world.node("n").await;
        let chain = node.create("notes", Visibility::Invited).await;
        node.add_many(&chain, (0..12).map(|number| number.to_string())).await;
        node.stop().await
    };
    let power = plan.power();
    let node = world.start_with(disk, power.clone()).await;
    let chain = node.node().find("notes").unwrap().id;
    let opened = power.steps();
    let mut log = SubscriberLog::default();
    follow(&node, &chain, plan, &mut log, 9).await;
    let steps = opened..power.steps();
    let node = plan.come_back(&world, node).await;
    log.restarted();
    follow(&node, &chain, plan, &mut log, u64::MAX).await;
    log.complete(&node.chain(&chain)).await.unwrap();
    world.stop(vec![node]).await;
    steps
}

/// Reads up to a position, acknowledging every third block, for as long as reading works.
async fn follow(node: &SimNode, chain: &ChainId, plan: Plan, log: &mut SubscriberLog, end: u64) {
    let chain = node.chain(chain);
    let count = chain.count().await.unwrap_or(0).min(end);
    let subscribed = plan.bounded("subscribe", chain.subscribe(SubscribeFrom::Name("reader".into()))).await;
    let Ok(mut subscription) = subscribed else { return };
    loop {
        let Ok(Some(event)) = plan.bounded("next", subscription.next()).await else { return };
        log.handle(&event).unwrap_or_else(|broken| panic!("{broken}: {plan:?}"));
        let cursor = event.cursor();
        if cursor.0.is_multiple_of(3) {
            // One that fails may have reached the disk.
            let _acknowledged = plan.bounded("ack", subscription.ack(cursor)).await;
            log.acknowledged(cursor);
        }
        if cursor.0 >= count {
            return;
        }
    }
}

#[test]
fn no_crash_point_of_a_subscriber_skips_a_block() {
    at_every_step("crash_points::no_crash_point_of_a_subscriber_skips_a_block", 3, acknowledge);
}
