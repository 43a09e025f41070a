//! What a new block costs does not grow with the contents that are missing. Counted, not timed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use support::World;
use test_harness::store::Cost;
use walytis_core::block::{BlockDraft, DraftContent, Visibility};
use walytis_core::id::{BlobId, ChainId};
use walytis_core::key::SigningKey;
use walytis_core::ledger::{BlockState, LedgerControl as _, LedgerRead as _};
use walytis_core::secret::Secret;

/// Virtual time in which a block arrives, shorter than any pause of the search for what is missing.
const MOMENT: Duration = Duration::from_millis(400);

/// Blocks one behind the other, with contents that nobody has.
async fn add_lost(peer: &support::Peer, chain: &ChainId, count: u32) {
    let (mut parent, core) = (chain.0, peer.chain(chain).core().clone());
    for number in 0..count {
        let mut digest = [0xee; 32];
        digest[..4].copy_from_slice(&number.to_be_bytes());
        let draft = BlockDraft {
            chain: Some(*chain),
            parents: vec![parent],
            generation: u64::from(number) + 1,
            created_at_ms: 0,
            topics: vec![],
            content: DraftContent::Blob { root: BlobId::Raw(digest), len: 100_000 },
        };
        let block = draft.sign(&SigningKey::from_seed(&Secret::new([77; 32]))).unwrap();
        parent = core.offer(vec![block], None).await.unwrap().admitted[0];
    }
}

/// What a short block and one with a content cost whoever receives them, with so many contents missing.
async fn costs(missing: u32) -> [Cost; 2] {
    let world = World::new();
    let (a, b) = (world.peer(1).await, world.peer(2).await);
    let chain = a.create("files", Visibility::Invited).await;
    b.take_in(&a, &chain).await;
    add_lost(&a, &chain, missing).await;
    a.meet(&b).await;
    world.until_level(&[&a, &b], &chain).await;
    // Long enough that what nobody has is looked for once a minute.
    world.pass(Duration::from_secs(630)).await;
    assert_eq!(b.chain(&chain).status().await.unwrap().missing_contents, u64::from(missing));

    b.disk.counter().take_cost();
    a.add(&chain, "short").await;
    world.pass(MOMENT).await;
    let short = b.disk.counter().take_cost();
    let id = a.add_bytes(&chain, vec![7; 100_000]).await;
    world.pass(MOMENT).await;
    let large = b.disk.counter().take_cost();
    // It came although the list was not gone through.
    assert_eq!(b.chain(&chain).get(&id).await.unwrap().unwrap().state, BlockState::Available);
    world.stop(vec![a, b]).await;
    [short, large]
}

#[tokio::test(start_paused = true)]
async fn a_new_block_costs_the_same_however_many_contents_are_missing() {
    // The numbers of generations take more bytes as they grow.
    let but_bytes = |costs: [Cost; 2]| costs.map(|cost| Cost { bytes: 0, ..cost });
    assert_eq!(but_bytes(costs(10).await), but_bytes(costs(150).await));
}
