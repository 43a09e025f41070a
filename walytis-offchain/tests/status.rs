//! What a user is told of blocks and contents: lookup by prefix, and how far each content is.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

mod support;

use futures::TryStreamExt as _;
use support::{World, add, pattern, until};
use walytis_core::chain::LookupError;
use walytis_core::ledger::BlockState;
use walytis_identities::id::Role;
use walytis_offchain::{BlockStatus, ContentState, PrivateLedger};

async fn statuses(ledger: &PrivateLedger) -> Vec<BlockStatus> {
    ledger.statuses().await.unwrap().try_collect().await.unwrap()
}

/// First only the record reaches the reader, because the author's ledger is closed; then the ledger opens again.
#[tokio::test(start_paused = true)]
async fn every_content_has_a_status_with_its_bytes() {
    let world = World::new();
    let (mut peers, chain, group) = world.peers(2).await;
    let (b, a) = (peers.pop().unwrap(), peers.pop().unwrap());
    let (at_a, at_b) = (a.join(&group, Role::Admin), b.join(&group, Role::Member));
    let author = a.open(&chain, &at_a, "notes").await;
    let text = add(&author, "hello", &["t"]).await;
    let file = add(&author, pattern(2_500_000), &[]).await;
    let expected = |id, state, bytes_done, bytes_total| BlockStatus { id, state, bytes_done, bytes_total };
    let available = [
        expected(text.id, ContentState::Available, 5, 5),
        expected(file.id, ContentState::Available, 2_500_000, 2_500_000),
    ];
    assert_eq!(statuses(&author).await, available);
    // The author's ledger is closed: its record is on the chain of the other, its content with nobody.
    walytis_core::ledger::LedgerControl::shutdown(&author).await;
    let reader = b.open(&chain, &at_b, "notes").await;
    until(&reader, &file.id, BlockState::Unavailable).await;
    let missing = [
        expected(text.id, ContentState::Unavailable, 0, 5),
        expected(file.id, ContentState::Unavailable, 0, 2_500_000),
    ];
    assert_eq!(statuses(&reader).await, missing);
    assert_eq!(reader.block_status(&file.id).await.unwrap(), Some(missing[1]));
    assert_eq!(reader.block_status(&chain.0).await.unwrap(), None);
    let author = a.open(&chain, &at_a, "notes").await;
    until(&reader, &file.id, BlockState::Available).await;
    until(&reader, &text.id, BlockState::Available).await;
    assert_eq!(statuses(&reader).await, available);
    b.stop(&[&reader]).await;
    a.stop(&[&author]).await;
}

#[tokio::test(start_paused = true)]
async fn a_prefix_finds_blocks_of_this_ledger_only() {
    let world = World::new();
    let (mut peers, chain, group) = world.peers(1).await;
    let a = peers.remove(0);
    let identity = a.join(&group, Role::Admin);
    let (notes, other) = (a.open(&chain, &identity, "notes").await, a.open(&chain, &identity, "other").await);
    let id = add(&notes, "hello", &[]).await.id;
    let text = id.to_string();
    for prefix in [text.as_str(), &text[..30], &text["bafkrei".len()..30]] {
        assert_eq!(notes.find(prefix).await.unwrap(), id, "{prefix}");
        let error = other.find(prefix).await.unwrap_err();
        assert!(matches!(error, LookupError::Unknown { .. }), "{error}");
    }
    // Genesis stands on the chain but is no private block.
    assert!(matches!(notes.find(&chain.to_string()).await, Err(LookupError::Unknown { .. })));
    assert!(matches!(notes.find("nonsense!").await, Err(LookupError::Unknown { .. })));
    a.stop(&[&notes, &other]).await;
}
