//! What a user is told of blocks and contents: lookup by prefix, how far each content is, and what it costs to tell.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use support::{World, add, pattern, topic, until};
use test_harness::store::{Cost, CountingStore};
use walytis_core::chain::LookupError;
use walytis_core::ledger::{BlockState, LedgerControl as _, LedgerRead as _, NewBlock, Query};
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

/// What opening and standing by cost with so many blocks, and with as many whose contents nobody has.
async fn costs(count: usize) -> [Cost; 3] {
    let world = World::new();
    let (peers, chain, group) = world.peers(2).await;
    let (a, b) = (peers[0].join(&group, Role::Admin), peers[1].join(&group, Role::Member));
    let ours = peers[0].open(&chain, &a, "x").await;
    let blocks =
        |n: usize| (0..n).map(|n| NewBlock { content: n.to_string().into(), topics: vec![topic("t")] }).collect();
    walytis_core::ledger::Ledger::add_many(&ours, blocks(count)).await.unwrap();
    // Under which heads all this was judged is written down a moment later.
    tokio::time::sleep(Duration::from_secs(5)).await;
    ours.shutdown().await;
    let store = Arc::new(CountingStore::new(peers[0].disk.store.clone()));
    let mut parts = peers[0].parts(&chain, &a, "x");
    parts.store = store.clone();
    let reopened = PrivateLedger::open(parts).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let opened = store.take_cost();
    let query = Query { topics_any: vec![topic("t")], ..Query::default() };
    assert_eq!(reopened.page(query).await.unwrap().blocks.len(), count.min(100));
    reopened.shutdown().await;
    // The other device has the records, and its peer refuses to serve, as its ledger is closed.
    let store = Arc::new(CountingStore::new(peers[1].disk.store.clone()));
    let mut parts = peers[1].parts(&chain, &b, "x");
    parts.store = store.clone();
    let theirs = PrivateLedger::open(parts).await.unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(theirs.status().await.unwrap().missing_contents, count as u64);
    store.take_cost();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let waited = store.take_cost();
    theirs.status().await.unwrap();
    let asked = store.take_cost();
    [opened, waited, asked]
}

#[tokio::test(start_paused = true)]
async fn opening_waiting_and_asking_cost_the_same_however_many_contents_there_are() {
    let (few, many) = (costs(40).await, costs(400).await);
    for (what, few, many) in [("waiting", few[1], many[1]), ("status", few[2], many[2])] {
        assert_eq!(few, many, "{what}");
    }
    // Opening judges nothing again; with few blocks, whole pages are read.
    assert!(many[0].gets <= few[0].gets + 8 && many[0].scanned <= 2 * few[0].scanned + 64, "{few:?} {many:?}");
}
