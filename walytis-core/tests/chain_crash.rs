//! At every step at which the disk can fail, the process die or the power go, a chain opens again in one piece and with
//! everything that it acknowledged.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

mod chain_parts;

use std::sync::Arc;

use bytes::Bytes;
use chain_parts::{Bench, TestChain, check, content, key};
use test_harness::store::{FailingBlobs, FailingStore, Failure, Power};
use walytis_core::chain::{Chain, ChainCore};
use walytis_core::id::BlockId;
use walytis_core::ledger::{Content, Ledger as _, LedgerControl as _, LedgerRead as _, NewBlock, SubscribeFrom};
use walytis_core::store::{MemoryBlobs, MemoryStore};
use walytis_core::topic::Topic;

/// What a run was told that it has.
#[derive(Default)]
struct Acknowledged(Vec<(BlockId, Bytes)>);

fn block(content: &Bytes) -> NewBlock {
    NewBlock { content: content.clone().into(), topics: vec![Topic::user("t").unwrap()] }
}

async fn add(chain: &Chain, acknowledged: &mut Acknowledged, contents: Vec<Bytes>) {
    if let Ok(added) = chain.add_many(contents.iter().map(block).collect()).await {
        acknowledged.0.extend(added.into_iter().map(|info| info.id).zip(contents));
    }
}

/// Adds small, large and many blocks, takes in those of others, reads with a subscriber; goes on after failures.
async fn run(bench: &Bench, chain: &Chain) -> Acknowledged {
    let mut acknowledged = Acknowledged::default();
    let large = Bytes::from(vec![3; 4_300_000]);
    add(chain, &mut acknowledged, vec![Bytes::from_static(b"one")]).await;
    let one = bench.block(9, vec![bench.genesis.id()], 1, b"from a peer");
    let two = bench.block(9, vec![one.id()], 2, b"another");
    // Others' blocks are not acknowledged as safe from a power cut.
    drop(chain.core().offer(vec![two, one], None).await);
    let reader = Content::Reader(Box::new(std::io::Cursor::new(large.clone())));
    if let Ok(info) = chain.add(NewBlock { content: reader, topics: vec![] }).await {
        acknowledged.0.push((info.id, large.clone()));
    }
    let many = (0..5_u8).map(|n| Bytes::from(vec![n; 10])).collect();
    add(chain, &mut acknowledged, many).await;
    if let Ok(mut follower) = chain.subscribe(SubscribeFrom::Name("reader".to_owned())).await
        && let Ok(Some(event)) = follower.next().await
    {
        drop(follower.ack(event.cursor()).await);
    }
    add(chain, &mut acknowledged, vec![large, Bytes::from(vec![4; 70_000])]).await;
    acknowledged
}

async fn crash_at(bench: &Bench, step: u64, failure: Failure) -> u64 {
    let power = Power::failing_at(step, failure);
    let store = Arc::new(FailingStore::new(&MemoryStore::new(), power.clone()));
    let blobs = Arc::new(FailingBlobs::new(&MemoryBlobs::new(), power.clone()));
    let parts = bench.parts(store.clone(), blobs.clone());
    let mut acknowledged = Acknowledged::default();
    if let Ok(core) = ChainCore::create(parts, &bench.genesis).await {
        let chain = Chain::detached(core, Arc::new(key(1)));
        acknowledged = run(bench, &chain).await;
        if failure == Failure::Error {
            // One failed write leaves a usable chain.
            let usable = Bytes::from_static(b"usable");
            if chain.add(block(&usable)).await.is_err() {
                chain.add(block(&usable)).await.unwrap();
            }
        }
        chain.shutdown().await;
    }
    let (store, blobs) = (Arc::new(store.what_is_left()), Arc::new(blobs.what_is_left()));
    // A crash before the chain was acknowledged leaves nothing; then it is created again.
    let core = ChainCore::create(bench.parts(store.clone(), blobs.clone()), &bench.genesis).await.unwrap();
    let chain = Chain::detached(core.clone(), Arc::new(key(1)));
    let left = TestChain { core, chain, store, blobs };
    for (id, bytes) in &acknowledged.0 {
        assert!(content(&left, id).await == *bytes, "step {step}, {failure:?}: {id:?} is lost");
    }
    check(&left).await;
    let count = left.chain.count().await.unwrap();
    left.chain.add(block(&Bytes::from_static(b"after"))).await.unwrap();
    assert_eq!(left.chain.count().await.unwrap(), count + 1);
    check(&left).await;
    left.chain.shutdown().await;
    power.steps()
}

#[tokio::test(start_paused = true)]
async fn no_crash_point_loses_what_was_acknowledged_or_leaves_halves() {
    let bench = Bench::new();
    let steps = crash_at(&bench, u64::MAX, Failure::Error).await;
    assert!(steps > 25, "only {steps} steps: the scenario tests too little");
    for failure in Failure::ALL {
        for step in 0..steps {
            crash_at(&bench, step, failure).await;
        }
    }
}
