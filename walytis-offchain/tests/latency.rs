//! No timer stands between `add` at one member and the event at another: in paused time only timers take time.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail by panicking")]

mod support;

use std::time::Duration;

use support::{PATIENCE, World, add, pattern};
use tokio::time::Instant;
use walytis_core::ledger::{LedgerEvent, LedgerRead as _, SubscribeFrom};
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
