//! Handlers: at least once, ancestors first, over failures and restarts.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

mod chain_parts;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chain_parts::{Bench, TestChain};
use tokio::time::{Instant, advance, sleep};
use walytis_core::block::UnverifiedBlock;
use walytis_core::id::BlockId;
use walytis_core::ledger::handle::{Delivery, Handle as _, HandlerError, Handling};
use walytis_core::ledger::{
    Ledger as _, LedgerControl as _, LedgerError, LedgerEvent, LedgerRead as _, NewBlock, SubscribeFrom,
};
use walytis_core::topic::Topic;

/// What a handler saw: block, attempt, when.
type Seen = Arc<Mutex<Vec<(BlockId, u32, Duration)>>>;

/// Starts a handler that notes what it sees and fails for `bad` until that is emptied.
async fn start(chain: &TestChain, bad: &Arc<Mutex<Vec<BlockId>>>, seen: &Seen) -> Handling {
    let (bad, seen, began) = (Arc::clone(bad), Arc::clone(seen), Instant::now());
    let handler = move |delivery: Delivery| {
        let LedgerEvent::Block(info) = &delivery.event else { panic!("unexpected {delivery:?}") };
        seen.lock().unwrap().push((info.id, delivery.attempt, began.elapsed()));
        let failed = bad.lock().unwrap().contains(&info.id);
        async move { if failed { Err(HandlerError::from("not now")) } else { Ok(()) } }
    };
    chain.chain.handle("h", handler).await.unwrap()
}

fn ids(seen: &Seen) -> Vec<BlockId> {
    seen.lock().unwrap().iter().map(|(id, ..)| *id).collect()
}

/// Two branches from genesis: a1 ← a2 ← a3 and b1 ← b2, and m, which joins a3 and b2; offered in one go.
async fn forked(bench: &Bench, chain: &TestChain) -> Vec<BlockId> {
    let genesis = bench.genesis.id();
    let a1 = bench.block(5, vec![genesis], 1, b"a1");
    let b1 = bench.block(6, vec![genesis], 1, b"b1");
    let a2 = bench.block(5, vec![a1.id()], 2, b"a2");
    let b2 = bench.block(6, vec![b1.id()], 2, b"b2");
    let a3 = bench.block(5, vec![a2.id()], 3, b"a3");
    let mut heads = vec![a3.id(), b2.id()];
    heads.sort_unstable();
    let m = bench.block(7, heads, 4, b"m");
    let blocks = vec![a1, b1, a2, b2, a3, m];
    let ids = blocks.iter().map(UnverifiedBlock::id).collect();
    assert_eq!(chain.core.offer(blocks, None).await.unwrap().admitted.len(), 6);
    ids
}

#[tokio::test(start_paused = true)]
async fn descendants_of_a_failing_block_wait_and_other_branches_go_on() {
    let bench = Bench::new();
    let chain = bench.chain(1).await;
    let [a1, b1, a2, b2, a3, m] = forked(&bench, &chain).await[..] else { panic!("six blocks") };
    let (bad, seen) = (Arc::new(Mutex::new(vec![a1])), Seen::default());
    let handling = start(&chain, &bad, &seen).await;
    sleep(Duration::from_millis(1_550)).await;
    let genesis = bench.genesis.id();
    // Tried at 0, 0.1, 0.3, 0.7 and 1.5 s; nothing that descends from it was tried.
    assert_eq!(ids(&seen), [genesis, a1, b1, b2, a1, a1, a1, a1]);
    let times: Vec<_> = seen.lock().unwrap().iter().filter(|(id, ..)| *id == a1).map(|(_, n, at)| (*n, *at)).collect();
    let expected = [(1, 0), (2, 100), (3, 300), (4, 700), (5, 1_500)];
    for ((attempt, at), (number, ms)) in times.iter().zip(expected) {
        assert!(*attempt == number && at.abs_diff(Duration::from_millis(ms)) < Duration::from_millis(20), "{times:?}");
    }
    let failing = handling.failing();
    assert_eq!((failing.len(), failing[0].id, failing[0].attempts), (1, a1, 5));
    assert_eq!(failing[0].reason, "not now");
    bad.lock().unwrap().clear();
    advance(Duration::from_secs(2)).await;
    sleep(Duration::from_millis(10)).await;
    assert_eq!(ids(&seen)[8..], [a1, a2, a3, m]);
    assert_eq!(handling.failing(), []);
    assert_eq!(chain.chain.subscribers().await.unwrap()[0].left, 0);
    handling.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_restart_redelivers_exactly_what_was_not_acknowledged() {
    let bench = Bench::new();
    let chain = bench.chain(1).await;
    let [a1, _, a2, _, a3, m] = forked(&bench, &chain).await[..] else { panic!("six blocks") };
    let (bad, seen) = (Arc::new(Mutex::new(vec![a1])), Seen::default());
    let handling = start(&chain, &bad, &seen).await;
    sleep(Duration::from_millis(50)).await;
    // Killed, not stopped.
    drop(handling);
    let chain = bench.reopen(1, &chain).await;
    let found = chain.chain.subscribers().await.unwrap();
    assert_eq!((found[0].left, found[0].begun, found[0].attempts), (4, 1, 1));
    seen.lock().unwrap().clear();
    let handling = start(&chain, &bad, &seen).await;
    sleep(Duration::from_millis(150)).await;
    let attempts: Vec<_> = seen.lock().unwrap().iter().map(|(id, attempt, _)| (*id, *attempt)).collect();
    assert_eq!(attempts[..1], [(a1, 2)], "the count goes on");
    bad.lock().unwrap().clear();
    sleep(Duration::from_secs(2)).await;
    let mut rest = ids(&seen);
    rest.retain(|id| *id != a1);
    assert_eq!(rest, [a2, a3, m]);
    handling.stop().await.unwrap();
    // New blocks descend from everything; a new one comes once.
    seen.lock().unwrap().clear();
    let handling = start(&chain, &bad, &seen).await;
    let added = chain.chain.add(NewBlock { content: "x".into(), topics: vec![] }).await.unwrap();
    sleep(Duration::from_millis(10)).await;
    assert_eq!(ids(&seen), [added.id]);
    drop(handling);
}

#[tokio::test(start_paused = true)]
async fn a_poisonous_block_is_skipped_by_its_count_and_no_memory_is_lost_to_it() {
    let bench = Bench::new();
    let chain = bench.chain(1).await;
    let blocks = (0..3_000).map(|n| NewBlock { content: n.to_string().into(), topics: vec![] }).collect();
    let added = chain.chain.add_many(blocks).await.unwrap();
    let (poison, count) = (added[0].id, Arc::new(Mutex::new(0)));
    let counted = Arc::clone(&count);
    let handler = move |delivery: Delivery| {
        let LedgerEvent::Block(info) = &delivery.event else { panic!("unexpected {delivery:?}") };
        let failed = info.id == poison && delivery.attempt < 6;
        *counted.lock().unwrap() += u32::from(!failed);
        async move { if failed { Err(HandlerError::from("poison")) } else { Ok(()) } }
    };
    let handling = chain.chain.handle("h", handler).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    // Far more wait than are held: the rest stays in the store.
    assert_eq!((*count.lock().unwrap(), handling.failing().len()), (1, 1));
    sleep(Duration::from_secs(5)).await;
    assert_eq!(*count.lock().unwrap(), 3_001);
    assert_eq!(chain.chain.subscribers().await.unwrap()[0].left, 0);
    handling.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_handler_ends_with_its_chain_its_name_and_its_successor() {
    let bench = Bench::new();
    let chain = bench.chain(1).await;
    let idle = |_: Delivery| async { Ok(()) };
    let first = chain.chain.handle("h", idle).await.unwrap();
    let second = chain.chain.handle("h", idle).await.unwrap();
    assert!(matches!(first.ended().await, Err(LedgerError::SubscriberReplaced { .. })));
    sleep(Duration::from_millis(1)).await;
    chain.chain.unsubscribe("h").await.unwrap();
    assert!(matches!(second.ended().await, Err(LedgerError::UnknownSubscriber { .. })));
    let third = chain.chain.handle("h", idle).await.unwrap();
    chain.chain.shutdown().await;
    third.ended().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn blocks_of_overlays_reach_a_handler_on_request_only() {
    let bench = Bench::new();
    let chain = bench.chain(1).await;
    let topics = vec![Topic::overlay("test", "").unwrap()];
    let hidden = chain.chain.add_overlay(vec![NewBlock { content: "x".into(), topics }]).await.unwrap();
    let (bad, seen) = (Arc::default(), Seen::default());
    let handling = start(&chain, &bad, &seen).await;
    sleep(Duration::from_millis(10)).await;
    assert_eq!(ids(&seen), [bench.genesis.id()]);
    handling.stop().await.unwrap();
    let mut raw = chain.chain.subscribe(SubscribeFrom::Cursor(walytis_core::ledger::Cursor(1))).await.unwrap();
    let event = raw.next().await.unwrap();
    assert!(matches!(event, Some(LedgerEvent::Block(info)) if info.id == hidden[0].id && info.is_overlay()));
}
