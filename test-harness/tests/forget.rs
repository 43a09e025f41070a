//! Forgetting by consent among real identities over bad links, while devices die, are parted and come back.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::time::Duration;

use test_harness::sim::{LinkConditions, TraceHash, simulate};
use test_harness::world::{Crash, PrivateNode, World};
use walytis_core::id::BlockId;
use walytis_core::ledger::{BlockState, LedgerRead as _};
use walytis_identities::id::{Did, Role};
use walytis_offchain::ProposalState;

async fn state(node: &PrivateNode, did: &Did, id: &BlockId) -> Option<BlockState> {
    node.ledger(did).await.get(id).await.unwrap().map(|info| info.state)
}

async fn until_state(world: &World, node: &PrivateNode, did: &Did, id: &BlockId, wanted: BlockState) {
    world.until("the state of a block", async || state(node, did, id).await == Some(wanted)).await;
}

async fn until_proposed(world: &World, node: &PrivateNode, did: &Did, proposal: &BlockId) {
    let known = async || node.ledger(did).await.proposal(proposal).await.unwrap().is_some();
    world.until("the proposal is known", known).await;
}

/// Three devices. One is dead while the others vote, one dies in the middle of its own destruction, and the link between two is
/// cut until the end: everywhere the same is gone, the same is kept, and the same devices are done.
async fn story(seed: u64) -> TraceHash {
    let world = World::new(seed, LinkConditions::ROUGH);
    let mut nodes = Vec::new();
    for name in ["a", "b", "c"] {
        nodes.push(world.private_node(name).await);
    }
    let did = nodes[0].create("home").await;
    for joiner in &nodes[1..] {
        let token = nodes[0].token(&did, Role::Member).await;
        world.until("the joiner is in", async || joiner.join(&token).await.is_ok()).await;
    }
    let (gone, kept) =
        (nodes[1].add(&did, "to go", &["t"]).await.unwrap(), nodes[0].add(&did, "to stay", &[]).await.unwrap());
    for node in &nodes {
        until_state(&world, node, &did, &gone, BlockState::Available).await;
        until_state(&world, node, &did, &kept, BlockState::Available).await;
    }
    let crash = if seed.is_multiple_of(2) { Crash::Kill } else { Crash::PowerCut };
    let asleep = nodes.pop().unwrap().crash(crash).await;
    let proposal = nodes[0].ledger(&did).await.propose_forget(&[gone], "why").await.unwrap();
    until_proposed(&world, &nodes[1], &did, &proposal).await;
    nodes[1].ledger(&did).await.refuse(&proposal).await.unwrap();
    world.pass(Duration::from_secs(30)).await;
    nodes[1].ledger(&did).await.consent(&proposal).await.unwrap();
    world.pass(Duration::from_secs(30)).await;
    assert_eq!(state(&nodes[0], &did, &gone).await, Some(BlockState::Available), "one has not been asked");
    nodes.push(world.start_private(asleep).await);
    until_proposed(&world, &nodes[2], &did, &proposal).await;
    nodes[2].ledger(&did).await.consent(&proposal).await.unwrap();
    until_state(&world, &nodes[2], &did, &gone, BlockState::Forgotten).await;
    // Right behind its decision another one dies, wherever it is then.
    let disk = nodes.remove(1).crash(crash).await;
    nodes.insert(1, world.start_private(disk).await);
    for node in &nodes {
        until_state(&world, node, &did, &gone, BlockState::Forgotten).await;
        assert_eq!(node.read(&did, &kept).await.unwrap(), "to stay");
        let all_done = async || {
            let found = node.ledger(&did).await.proposal(&proposal).await.unwrap().unwrap();
            let mut done = found.done.clone();
            done.dedup();
            found.state == ProposalState::Forgotten && done.len() == 3 && found.refusals.is_empty()
        };
        world.until("every device is done", all_done).await;
    }
    // Whoever comes now gets the tombstone, not the content.
    let late = world.private_node("late").await;
    let token = nodes[0].token(&did, Role::Member).await;
    world.until("the joiner is in", async || late.join(&token).await.is_ok()).await;
    until_state(&world, &late, &did, &kept, BlockState::Available).await;
    until_state(&world, &late, &did, &gone, BlockState::Forgotten).await;
    assert!(late.read(&did, &gone).await.is_err());
    nodes.push(late);
    for node in nodes {
        node.stop().await;
    }
    world.end().await
}

#[test]
fn what_all_consent_to_is_gone_everywhere_whoever_dies_in_between() {
    const NAME: &str = "forget::what_all_consent_to_is_gone_everywhere_whoever_dies_in_between";
    simulate(NAME, &[1, 2, 3, 4], story);
}
