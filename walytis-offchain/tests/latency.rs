//! No timer stands between `add` at one member and the event at another: in paused time only timers take time.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail by panicking")]

mod support;

use std::time::Duration;

use support::{PATIENCE, World, add, pattern};
use tokio::time::Instant;
use walytis_core::ledger::{Cursor, Ledger as _, LedgerEvent, LedgerRead as _, NewBlock, SubscribeFrom};
use walytis_identities::id::Role;

/// The goal for a small block on a fast link, median and worst; the network in memory has no latency of its own.
const SMALL: Duration = Duration::from_millis(20);
/// The goal for some megabytes.
const LARGE: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn private_blocks_are_readable_at_the_other_member_without_waiting() {
    let world = World::new();
    let (mut peers, chain, group) = world.peers(2).await;
    let (b, a) = (peers.pop().unwrap(), peers.pop().unwrap());
    let (at_a, at_b) = (a.join(&group, Role::Admin), b.join(&group, Role::Member));
    let (author, reader) = (a.open(&chain, &at_a, "notes").await, b.open(&chain, &at_b, "notes").await);
    let mut events = reader.subscribe(SubscribeFrom::Now).await.unwrap();
    // The first block also opens streams and sessions.
    for (len, goal) in [(100, LARGE), (100, SMALL), (100, SMALL), (30_000, SMALL), (100, SMALL), (4_000_000, LARGE)] {
        let before = Instant::now();
        let added = add(&author, pattern(len), &["t"]).await;
        let event = tokio::time::timeout(PATIENCE, events.next()).await.expect("no event comes").unwrap();
        let Some(LedgerEvent::Block(seen)) = event else { panic!("no block: {event:?}") };
        assert_eq!(seen.id, added.id);
        assert!(before.elapsed() <= goal, "{len} bytes took {:?}", before.elapsed());
    }
    drop(events);
    b.stop(&[&reader]).await;
    a.stop(&[&author]).await;
}

/// Both queue far more pushes than a link holds; what is dropped is fetched, and no request waits for its deadline.
#[tokio::test(start_paused = true)]
async fn bursts_in_both_directions_delay_no_request() {
    let world = World::new();
    let (mut peers, chain, group) = world.peers(2).await;
    let (b, a) = (peers.pop().unwrap(), peers.pop().unwrap());
    let (at_a, at_b) = (a.join(&group, Role::Admin), b.join(&group, Role::Member));
    let (one, two) = (a.open(&chain, &at_a, "notes").await, b.open(&chain, &at_b, "notes").await);
    let before = Instant::now();
    let burst = |seed: u8| -> Vec<NewBlock> {
        (0..400_u16)
            .map(|n| NewBlock {
                content: [vec![seed; 2_000], n.to_be_bytes().to_vec()].concat().into(),
                topics: vec![],
            })
            .collect()
    };
    let (left, right) = tokio::join!(one.add_many(burst(1)), two.add_many(burst(2)));
    assert_eq!((left.unwrap().len(), right.unwrap().len()), (400, 400));
    for ledger in [&one, &two] {
        let mut events = ledger.subscribe(SubscribeFrom::Cursor(Cursor(0))).await.unwrap();
        for _ in 0..800 {
            let event = tokio::time::timeout(PATIENCE, events.next()).await.expect("no event comes").unwrap();
            assert!(matches!(event, Some(LedgerEvent::Block(_))), "{event:?}");
        }
    }
    assert!(before.elapsed() < Duration::from_secs(5), "took {:?}", before.elapsed());
    b.stop(&[&two]).await;
    a.stop(&[&one]).await;
}
