//! A node fails at every single write of a scenario, in every way there is; opened again it is in one piece, has what it
//! acknowledged, and goes on.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::ops::Range;

use test_harness::invariant;
use test_harness::sim::{LinkConditions, simulate};
use test_harness::store::{Failure, Power};
use test_harness::world::{Disk, SimNode, World};
use walytis_core::block::Visibility;
use walytis_core::id::{BlockId, ChainId};
use walytis_core::ledger::{Ledger as _, NewBlock};
use walytis_core::node::{InviteOptions, Listing};

fn block(text: &str) -> NewBlock {
    NewBlock { content: text.to_owned().into(), topics: vec![] }
}

/// What a node said that it has done.
#[derive(Default)]
struct Acknowledged {
    chains: Vec<(String, ChainId)>,
    deleted: Vec<String>,
    blocks: Vec<(ChainId, BlockId, String)>,
    invitations: usize,
}

/// Creates and deletes chains, adds, invites; goes on after failures.
async fn live(node: &SimNode) -> Acknowledged {
    let mut done = Acknowledged::default();
    for (name, visibility) in
        [("open", Visibility::Public), ("closed", Visibility::Invited), ("gone", Visibility::Invited)]
    {
        let Ok(chain) = node.node().create_chain(name, visibility).await else { continue };
        let id = chain.core().id();
        done.chains.push((name.to_owned(), id));
        if let Ok(added) = chain.add(block("one")).await {
            done.blocks.push((id, added.id, "one".to_owned()));
        }
        if let Ok(added) = chain.add_many(vec![block("two"), block("three")]).await {
            done.blocks.extend(added.iter().zip(["two", "three"]).map(|(info, text)| (id, info.id, text.to_owned())));
        }
        if node.node().invite(&id, InviteOptions::default()).await.is_ok() && name == "closed" {
            done.invitations += 1;
        }
        if name == "gone" {
            // A removal that failed may have been begun: then it is finished at the next start.
            done.chains.retain(|(_, chain)| *chain != id);
            done.blocks.retain(|(chain, ..)| *chain != id);
            if node.node().delete_chain(&id).await.is_ok() {
                done.deleted.push(name.to_owned());
            }
        }
    }
    done
}

/// Runs the scenario with this power, restarts, checks. Returns the steps from the open node to the end.
async fn fail_at(seed: u64, plan: Option<(u64, Failure)>) -> Range<u64> {
    let world = World::new(seed, LinkConditions::CALM);
    let power = plan.map_or_else(Power::steady, |(step, failure)| Power::failing_at(step, failure));
    let node = world.start_with(Disk::new(seed, "n", 0), power.clone()).await;
    let opened = power.steps();
    let done = live(&node).await;
    let steps = opened..power.steps();
    let node = world.start(node.stop().await).await;
    for (name, id) in &done.chains {
        let entry = node.node().find(name).unwrap();
        assert_eq!(entry.id, *id, "{name} is another chain: {plan:?}");
    }
    for name in &done.deleted {
        assert!(node.node().find(name).is_err(), "{name} came back: {plan:?}");
    }
    for (chain, id, text) in &done.blocks {
        assert_eq!(node.read(chain, id).await.unwrap(), text.as_bytes(), "{plan:?}");
    }
    for entry in node.node().chains(Listing::All) {
        let chain = node.chain(&entry.id);
        invariant::chain(&chain).await.unwrap();
        chain.add(block("after")).await.unwrap();
        if entry.name == "closed" {
            assert!(node.node().invitations(&entry.id).await.unwrap().len() >= done.invitations, "{plan:?}");
        }
    }
    for name in ["open", "closed", "gone"] {
        if node.node().find(name).is_err() {
            node.node().create_chain(name, Visibility::Invited).await.unwrap();
        }
    }
    world.stop(vec![node]).await;
    steps
}

#[test]
fn no_crash_point_of_a_node_loses_what_it_acknowledged() {
    // Each point is a run of its own, with a runtime of its own.
    const NAME: &str = "crash_points::no_crash_point_of_a_node_loses_what_it_acknowledged";
    let steps = simulate(NAME, &[1], async |seed| fail_at(seed, None).await).remove(0);
    assert!(steps.end - steps.start > 12, "{steps:?}: the scenario tests too little");
    for failure in Failure::ALL {
        for step in steps.clone() {
            simulate(NAME, &[1], async |seed| fail_at(seed, Some((step, failure))).await);
        }
    }
}
