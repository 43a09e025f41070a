//! Repair: whatever row of a chain is lost or changed, the chain is as it was afterwards, row for row; what only peers
//! still have comes from them, and without them the chain says what it lacks and stays read-only.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

mod chain_parts;
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chain_parts::{Bench, TestChain, check, key};
use support::World;
use test_harness::store::{FailingBlobs, FailingStore, Failure, Power};
use tokio::sync::watch;
use walytis_core::block::Visibility;
use walytis_core::chain::{Chain, ChainCore, RepairReport};
use walytis_core::id::ChainId;
use walytis_core::ledger::{Cursor, Ledger as _, LedgerError, LedgerRead as _, NewBlock, SubscribeFrom};
use walytis_core::node::ChainState;
use walytis_core::store::{
    Batch, BlobKey, BlobSpace, BlobStore as _, Direction, Durability, KeyRange, KvStore, MemoryBlobs,
};
use walytis_core::topic::Topic;

const META: u8 = 0x00;
const FILE: u8 = 0x02;
const CURSOR: u8 = 0x0c;
const MANIFEST: u8 = 0x10;
const DAMAGE: u8 = 0x1f;

type Rows = BTreeMap<Vec<u8>, Bytes>;

/// All rows of a chain but the mark of its damage.
async fn rows(store: &dyn KvStore, id: &ChainId) -> Rows {
    let range = KeyRange::prefix(&[&[1], &id.digest()[..]].concat());
    let found = store.scan(range, Direction::Forward, 100_000).await.unwrap();
    found.into_iter().map(|(key, value)| (key.to_vec(), value)).filter(|(key, _)| key[33] != DAMAGE).collect()
}

async fn set(store: &dyn KvStore, key: &[u8], value: Option<&[u8]>) {
    let mut batch = Batch::new();
    match value {
        Some(value) => batch.put(key.to_vec(), value.to_vec()),
        None => batch.delete(key.to_vec()),
    };
    store.commit(batch, Durability::Flushed).await.unwrap();
}

fn block(content: &[u8]) -> NewBlock {
    let topics = vec![Topic::user("t").unwrap(), Topic::user("u").unwrap()];
    NewBlock { content: content.to_vec().into(), topics }
}

/// A chain with a fork, topics, contents beside it, a cursor; shut down.
async fn full(bench: &Bench) -> TestChain {
    let chain = bench.chain(1).await;
    chain.chain.add(block(b"one")).await.unwrap();
    chain.chain.add(block(&[7; 70_000])).await.unwrap();
    let fork = bench.block(9, vec![bench.genesis.id()], 1, b"fork");
    chain.core.offer(vec![fork], None).await.unwrap();
    chain.chain.add(block(b"merge")).await.unwrap();
    let other = bench.block(8, vec![bench.genesis.id()], 1, b"second head");
    chain.core.offer(vec![other], None).await.unwrap();
    let mut follower = chain.chain.subscribe(SubscribeFrom::Name("me".to_owned())).await.unwrap();
    for _ in 0..3 {
        let event = follower.next().await.unwrap().unwrap();
        follower.ack(event.cursor()).await.unwrap();
    }
    chain.core.shutdown().await;
    chain
}

/// Repairs without peers, whether the chain can be opened or not.
async fn repair(
    bench: &Bench,
    store: Arc<dyn KvStore>,
    blobs: Arc<dyn walytis_core::store::BlobStore>,
) -> RepairReport {
    match ChainCore::open(bench.parts(store.clone(), blobs.clone())).await {
        Ok(core) => {
            let report = core.repair(watch::Sender::default()).await.unwrap();
            assert_eq!(core.damage().is_none(), report.whole);
            core.shutdown().await;
            report
        }
        Err(_) => {
            ChainCore::repair_rows(&bench.parts(store.clone(), blobs.clone())).await.unwrap();
            let core = ChainCore::open(bench.parts(store, blobs)).await.unwrap();
            assert!(core.damage().is_some(), "it opens read-only");
            let report = core.repair(watch::Sender::default()).await.unwrap();
            core.shutdown().await;
            report
        }
    }
}

#[tokio::test]
async fn a_whole_chain_is_found_whole_and_nothing_is_written() {
    let bench = Bench::new();
    let chain = full(&bench).await;
    let before = rows(&*chain.store, &bench.id()).await;
    let report = repair(&bench, chain.store.clone(), chain.blobs.clone()).await;
    assert!(report.whole && report.rows == 0 && report.problem.is_none(), "{report:?}");
    assert_eq!((report.blocks, report.contents), (6, 1));
    assert_eq!(rows(&*chain.store, &bench.id()).await, before);
    let again = bench.reopen(1, &chain).await;
    assert_eq!(again.core.damage(), None);
    check(&again).await;
}

/// Every row in turn is lost, emptied, replaced by garbage, changed by one bit.
#[tokio::test]
async fn whichever_row_is_lost_or_changed_the_chain_is_as_it_was() {
    let bench = Bench::new();
    let chain = full(&bench).await;
    let before = rows(&*chain.store, &bench.id()).await;
    assert!(before.len() > 50, "{}", before.len());
    for (row, value) in &before {
        let mut flipped = value.to_vec();
        if let Some(byte) = flipped.last_mut() {
            *byte ^= 1;
        }
        let tag = row[33];
        for change in [None, Some(&b""[..]), Some(b"garbage"), Some(&flipped[..])] {
            if change == Some(&value[..]) {
                continue;
            }
            let store = Arc::new(chain.store.snapshot());
            set(&*store, row, change).await;
            let blobs = Arc::new(chain.blobs.snapshot());
            let report = repair(&bench, store.clone(), blobs.clone()).await;
            let after = rows(&*store, &bench.id()).await;
            let what = format!("row {row:02x?} became {change:02x?}: {report:?}");
            match tag {
                FILE => {
                    assert!(!report.whole && report.missing_blocks == 1 && report.missing.len() == 1, "{what}");
                    // Nothing that would tell where it belongs was touched.
                    assert!(before.iter().all(|(key, value)| key == row || after.get(key) == Some(value)), "{what}");
                    // With the file back it is whole.
                    set(&*store, row, Some(value)).await;
                    assert!(repair(&bench, store.clone(), blobs).await.whole, "{what}");
                }
                // A cursor that is lost or unreadable begins anew; one that says another number cannot be told from it.
                CURSOR => assert!(report.whole, "{what}"),
                MANIFEST => assert!(report.whole, "{what}"),
                _ => {
                    assert!(report.whole, "{what}");
                    assert_eq!(after, before, "{what}");
                }
            }
        }
    }
}

#[tokio::test]
async fn rows_that_follow_from_nothing_go() {
    let bench = Bench::new();
    let chain = full(&bench).await;
    let before = rows(&*chain.store, &bench.id()).await;
    let prefix = [&[1], &bench.id().digest()[..]].concat();
    for (tag, rest, value) in [
        (0x05u8, &99u64.to_be_bytes()[..], &[1u8; 32][..]),
        (0x0a, &[5; 32], b"x"),
        (0x0b, &[5; 64], b"x"),
        (0x0d, &[5; 16], b"x"),
        (0x0e, &[5; 32], b""),
        (0x06, b"\x01z12345678901234567890123456789012345678901", &[0, 0, 0, 0, 0, 0, 0, 1]),
    ] {
        set(&*chain.store, &[&prefix[..], &[tag], rest].concat(), Some(value)).await;
    }
    let report = repair(&bench, chain.store.clone(), chain.blobs.clone()).await;
    assert!(report.whole && report.rows >= 5, "{report:?}");
    assert_eq!(rows(&*chain.store, &bench.id()).await, before);
}

#[tokio::test]
async fn cursors_stay_and_skip_nothing() {
    let bench = Bench::new();
    let chain = full(&bench).await;
    let arrivals: Vec<_> = rows(&*chain.store, &bench.id()).await.into_keys().filter(|key| key[33] != CURSOR).collect();
    for key in arrivals.iter().filter(|key| (0x03..=0x09).contains(&key[33])) {
        if key[33] == 0x05 || key[33] == 0x03 {
            set(&*chain.store, key, None).await;
        }
    }
    // Without nodes and arrival rows the numbers come from the other indices.
    let report = repair(&bench, chain.store.clone(), chain.blobs.clone()).await;
    assert!(report.whole, "{report:?}");
    let again = bench.reopen(1, &chain).await;
    check(&again).await;
    let mut follower = again.chain.subscribe(SubscribeFrom::Name("me".to_owned())).await.unwrap();
    let event = follower.next().await.unwrap().unwrap();
    assert_eq!(event.cursor(), Cursor(4));
}

#[tokio::test]
async fn a_crash_at_any_step_of_a_repair_leaves_a_chain_that_can_be_repaired() {
    let bench = Bench::new();
    let chain = full(&bench).await;
    let before = rows(&*chain.store, &bench.id()).await;
    for key in before.keys().filter(|key| matches!(key[33], META | 0x01 | 0x03 | 0x07)) {
        set(&*chain.store, key, Some(b"garbage")).await;
    }
    for failure in
        [Failure::Kill { applied: false }, Failure::PowerCut { applied: false }, Failure::PowerCut { applied: true }]
    {
        for step in 1..40 {
            let power = Power::failing_at(step, failure);
            let store = Arc::new(FailingStore::new(&chain.store, power.clone()));
            let blobs = Arc::new(FailingBlobs::new(&chain.blobs, power.clone()));
            let parts = || bench.parts(store.clone(), blobs.clone());
            drop(ChainCore::repair_rows(&parts()).await);
            if let Ok(core) = ChainCore::open(parts()).await {
                drop(core.repair(watch::Sender::default()).await);
                core.shutdown().await;
            }
            let (store, blobs) = (Arc::new(store.what_is_left()), Arc::new(blobs.what_is_left()));
            let done = ChainCore::open(bench.parts(store.clone(), blobs.clone())).await;
            if let Ok(core) = &done {
                let whole = rows(&*store, &bench.id()).await == before;
                assert!(core.damage().is_some() || whole, "step {step}: the mark is gone too early");
                core.shutdown().await;
            }
            let report = repair(&bench, store.clone(), blobs).await;
            assert!(report.whole, "step {step}: {report:?}");
            assert_eq!(rows(&*store, &bench.id()).await, before, "step {step}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn lost_blocks_and_leaves_come_from_peers_and_go_to_their_old_places() {
    let world = World::new();
    let (a, b) = (world.peer(1).await, world.peer(2).await);
    let id = a.create("notes", Visibility::Invited).await;
    for n in 0..20 {
        a.add(&id, &format!("block {n}")).await;
    }
    let large: Vec<u8> = (0..2_500_000u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let blob = a.add_bytes(&id, large.clone()).await;
    let last = a.add(&id, "last").await;
    b.take_in(&a, &id).await;
    a.meet(&b).await;
    world.until_level(&[&a, &b], &id).await;
    assert_eq!(b.read(&id, &blob).await, large);
    let before = rows(&**a.disk.store(), &id).await;
    let disk = a.disk.clone();
    a.stop().await;

    // Genesis, the head, every third file; one leaf of the content has other bytes.
    let files: Vec<_> = before.keys().filter(|key| key[33] == FILE).cloned().collect();
    let special = |key: &Vec<u8>| key.ends_with(id.digest()) || key.ends_with(last.digest());
    let hurt: Vec<_> = files.iter().enumerate().filter(|(n, key)| n % 3 == 0 || special(key)).collect();
    for (n, key) in &hurt {
        set(&**disk.store(), key, (n % 2 == 0).then_some(&b"garbage"[..])).await;
    }
    let root = disk.blobs().list(BlobSpace::Blob, id).await.unwrap()[0];
    damage_leaf(disk.blobs(), root, &large).await;

    let a = world.start(disk).await;
    // Alone it says what it lacks.
    world.part(&a, &b);
    let report = a.node.repair(&id, watch::Sender::default()).await.unwrap();
    assert!(!report.whole, "{report:?}");
    assert_eq!(report.missing_blocks, hurt.len() as u64);
    assert!(matches!(a.node.find("notes").unwrap().state, ChainState::Damaged { .. }));
    let refused = a.chain(&id).add(block(b"no")).await.unwrap_err();
    assert!(matches!(refused, LedgerError::Damaged { .. }));

    world.heal(&a, &b);
    a.meet(&b).await;
    let (progress, seen) = watch::channel(Default::default());
    let report = a.node.repair(&id, progress).await.unwrap();
    assert!(report.whole, "{report:?}");
    assert_eq!((report.fetched_blocks, report.fetched_leaves), (hurt.len() as u64, 1));
    assert_eq!(seen.borrow().step, "checking contents");
    assert_eq!(rows(&**a.disk.store(), &id).await, before);
    assert_eq!(a.node.find("notes").unwrap().state, ChainState::Open);
    assert_eq!(a.read(&id, &blob).await, large);
    a.add(&id, "after").await;
    world.until_level(&[&a, &b], &id).await;
    world.stop(vec![a, b]).await;
}

/// Puts an object of the same name in the place of this one, with one leaf changed.
async fn damage_leaf(blobs: &MemoryBlobs, key: BlobKey, content: &[u8]) {
    const LEAF: u32 = 1 << 20;
    let mut changed = content.to_vec();
    changed[LEAF as usize + 5] ^= 1;
    blobs.delete(key).await.unwrap();
    blobs.begin(key, changed.len() as u64, LEAF).await.unwrap();
    for (index, leaf) in (0u32..).zip(changed.chunks(LEAF as usize)) {
        blobs.write(key, index, Bytes::copy_from_slice(leaf)).await.unwrap();
    }
}

#[tokio::test]
async fn handles_and_subscriptions_live_through_a_repair() {
    let bench = Bench::new();
    let chain = full(&bench).await;
    let live = bench.reopen(1, &chain).await;
    let handle = Chain::detached(live.core.clone(), Arc::new(key(1)));
    let mut follower = handle.subscribe(SubscribeFrom::Now).await.unwrap();
    assert!(live.core.repair(watch::Sender::default()).await.unwrap().whole);
    let added = handle.add(block(b"after")).await.unwrap();
    assert_eq!(follower.next().await.unwrap().unwrap().cursor(), added.cursor);
    check(&live).await;
}
