//! What a chain does with blocks of others.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

mod chain_parts;

use std::sync::Arc;

use chain_parts::{Bench, TestChain, file_of};
use test_harness::store::{FailingBlobs, Power};
use walytis_core::block::{Rule, UnverifiedBlock};
use walytis_core::chain::ChainCore;
use walytis_core::ledger::{Ledger as _, LedgerRead as _, NewBlock};
use walytis_core::store::{MemoryBlobs, MemoryStore};

fn text(text: &str) -> NewBlock {
    NewBlock { content: text.to_owned().into(), topics: Vec::new() }
}

async fn files(from: &TestChain) -> Vec<UnverifiedBlock> {
    let mut blocks = Vec::new();
    for id in from.core.canonical_page(1, None, 10_000).await.unwrap() {
        blocks.push(file_of(from, &id).await);
    }
    blocks
}

#[tokio::test]
async fn blocks_offered_in_any_order_give_the_same_chain() {
    let bench = Bench::new();
    let a = bench.chain(1).await;
    let b = bench.chain(2).await;
    for n in 0..20 {
        a.chain.add(text(&format!("block {n}"))).await.unwrap();
    }
    let mut blocks = files(&a).await;
    blocks.reverse();
    let last = blocks.pop().unwrap();
    let held = b.core.offer(blocks, None).await.unwrap();
    assert_eq!(held.admitted, []);
    assert_eq!(held.pending.len(), 19);
    assert_eq!(held.missing, [last.id()]);
    let released = b.core.offer(vec![last], None).await.unwrap();
    assert_eq!(released.admitted.len(), 20);
    assert_eq!(released.missing, []);
    assert_eq!(a.core.summary(), b.core.summary());
    assert_eq!(b.core.pending(), 0);
}

#[tokio::test]
async fn wrong_generation_is_refused_with_its_number_and_drops_what_rests_on_it() {
    let bench = Bench::new();
    let chain = bench.chain(1).await;
    let genesis = bench.genesis.id();
    let bad = bench.block(7, vec![genesis], 2, b"bad");
    let child = bench.block(7, vec![bad.id()], 3, b"child");
    let held = chain.core.offer(vec![child], None).await.unwrap();
    assert_eq!(held.missing, [bad.id()]);
    let offered = chain.core.offer(vec![bad], None).await.unwrap();
    assert_eq!(offered.rejected.len(), 1);
    assert_eq!(offered.rejected[0].rule, Rule::Generation);
    assert_eq!(offered.admitted, []);
    assert_eq!(chain.core.pending(), 0);
    assert_eq!(chain.chain.count().await.unwrap(), 1);
}

#[tokio::test]
async fn a_parent_that_is_an_ancestor_of_another_is_refused() {
    let bench = Bench::new();
    let chain = bench.chain(1).await;
    let genesis = bench.genesis.id();
    let one = bench.block(7, vec![genesis], 1, b"one");
    let two = bench.block(7, vec![one.id()], 2, b"two");
    let three = bench.block(7, vec![two.id()], 3, b"three");
    let bad = bench.block(7, vec![genesis, three.id()], 4, b"bad");
    let good = bench.block(7, vec![three.id()], 4, b"good");
    let offered = chain.core.offer(vec![one, two, three, bad.clone(), good.clone()], None).await.unwrap();
    assert_eq!(offered.rejected.iter().map(|v| (v.rule, v.block)).collect::<Vec<_>>(), [(Rule::Antichain, bad.id())]);
    assert_eq!(chain.core.summary().heads, [good.id()]);
}

#[tokio::test]
async fn known_blocks_are_known_and_harmless() {
    let bench = Bench::new();
    let chain = bench.chain(1).await;
    let one = bench.block(7, vec![bench.genesis.id()], 1, b"one");
    chain.core.offer(vec![one.clone()], None).await.unwrap();
    let again = chain.core.offer(vec![one.clone(), one.clone()], None).await.unwrap();
    assert_eq!(again.known, [one.id(), one.id()]);
    assert_eq!(chain.core.summary().count, 2);
}

/// The store of large contents fails in the middle of an offer: what entered before that is committed, and everybody who
/// listens hears of it.
#[tokio::test]
async fn blocks_that_entered_before_an_offer_failed_are_announced() {
    let bench = Bench::new();
    let a = bench.chain(1).await;
    a.chain.add(text("small")).await.unwrap();
    a.chain.add(NewBlock { content: vec![7; 200_000].into(), topics: Vec::new() }).await.unwrap();
    let blocks = files(&a).await;
    let power = Power::steady();
    let blobs = Arc::new(FailingBlobs::new(&MemoryBlobs::new(), power.clone()));
    let core = ChainCore::create(bench.parts(Arc::new(MemoryStore::new()), blobs), &bench.genesis).await.unwrap();
    let mut admissions = core.admissions();
    power.kill();
    let small = blocks[0].id();
    assert!(core.offer(blocks, None).await.is_err());
    assert_eq!(core.summary().heads, [small]);
    assert_eq!(admissions.try_recv().unwrap().ids, [(small, 1)]);
}
