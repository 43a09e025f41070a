//! Members that have a large content only in part: they serve what they have, to whom they may, and no more.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod support;

use std::num::NonZeroU64;
use std::time::Duration;

use support::{PATIENCE, Peer, World, add, pattern, read, until};
use walytis_core::id::BlockId;
use walytis_core::ledger::{BlockState, LedgerRead as _};
use walytis_core::net::Network as _;
use walytis_identities::id::Role;
use walytis_identities::identity::Identity as _;
use walytis_offchain::{ContentState, ExchangeConfig, OffchainExchange, PrivateLedger};

const MIB: usize = 1024 * 1024;

/// Bounds what a peer sends, from the first byte on.
async fn limit(peer: &mut Peer, upload_bytes_per_s: u64) {
    peer.exchange.shutdown().await;
    let config =
        ExchangeConfig { upload_bytes_per_s: NonZeroU64::new(upload_bytes_per_s), ..ExchangeConfig::default() };
    peer.exchange = OffchainExchange::start_with(peer.network.clone(), config).unwrap();
}

async fn done(ledger: &PrivateLedger, id: &BlockId) -> u64 {
    ledger.block_status(id).await.unwrap().map_or(0, |status| status.bytes_done)
}

/// Waits until so many bytes of a content are here.
async fn until_done(ledger: &PrivateLedger, id: &BlockId, bytes: usize) {
    let reached = async {
        while done(ledger, id).await < bytes as u64 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("too little arrives");
}

/// The author goes after a part of its content has reached one member: the third, who was not there, gets that part from
/// it, and the rest once the author is back.
#[tokio::test(start_paused = true)]
async fn a_member_that_has_a_part_serves_it() {
    let world = World::new();
    let (mut peers, chain, group) = world.peers(3).await;
    let (c, b, mut a) = (peers.pop().unwrap(), peers.pop().unwrap(), peers.pop().unwrap());
    limit(&mut a, 200_000).await;
    let [at_a, at_b, at_c] = [&a, &b, &c].map(|peer| peer.join(&group, Role::Member));
    let (author, second) = (a.open(&chain, &at_a, "x").await, b.open(&chain, &at_b, "x").await);
    let bytes = pattern(6 * MIB);
    let id = add(&author, bytes.clone(), &[]).await.id;
    until_done(&second, &id, 2 * MIB).await;
    let disk = a.stop(&[&author]).await;
    drop(author);
    let had = done(&second, &id).await;
    assert!(had < bytes.len() as u64, "all of it came");
    let third = c.open(&chain, &at_c, "x").await;
    until_done(&third, &id, usize::try_from(had).unwrap()).await;
    assert_eq!(third.block_status(&id).await.unwrap().unwrap().state, ContentState::Partial);
    assert!(third.content(&id).await.is_err(), "a part of it was read as the whole");
    // Neither was told more than there is, nor made to say no again and again.
    assert!(b.exchange.status().refused < 20 && b.exchange.status().faults == 0, "{:?}", b.exchange.status());
    let a = world.start(disk).await;
    for peer in [&b, &c] {
        a.meet(peer).await;
    }
    let author = a.open(&chain, &at_a, "x").await;
    for ledger in [&second, &third] {
        until(ledger, &id, BlockState::Available).await;
        assert!(read(ledger, &id).await == bytes);
    }
    c.stop(&[&third]).await;
    b.stop(&[&second]).await;
    a.stop(&[&author]).await;
}

/// Four members want the same at once, and the author's line is slow: it is long done before it could have sent everybody
/// a copy of their own.
#[tokio::test(start_paused = true)]
async fn members_fetch_from_each_other_while_they_fetch() {
    const CHUNKS: usize = 16;
    const RATE: usize = MIB;
    let world = World::new();
    let (mut peers, chain, group) = world.peers(5).await;
    limit(&mut peers[0], RATE as u64).await;
    let identities: Vec<_> = peers.iter().map(|peer| peer.join(&group, Role::Member)).collect();
    let mut ledgers = Vec::new();
    for (peer, identity) in peers.iter().zip(&identities) {
        ledgers.push(peer.open(&chain, identity, "x").await);
    }
    let bytes = pattern(CHUNKS * MIB);
    let start = tokio::time::Instant::now();
    let id = add(&ledgers[0], bytes.clone(), &[]).await.id;
    for ledger in &ledgers[1..] {
        until(ledger, &id, BlockState::Available).await;
        assert!(read(ledger, &id).await == bytes);
    }
    let alone = Duration::from_secs((4 * CHUNKS * MIB / RATE) as u64);
    assert!(start.elapsed() < alone * 2 / 3, "{:?}, by the author alone it takes {alone:?}", start.elapsed());
    for (peer, ledger) in peers.into_iter().zip(&ledgers) {
        peer.stop(&[ledger]).await;
    }
}

/// Who may not read gets nothing of a part either, and does not learn that there is one.
#[tokio::test(start_paused = true)]
async fn a_part_is_refused_as_the_whole_is() {
    let world = World::new();
    let (mut peers, chain, group) = world.peers(3).await;
    let (c, b, mut a) = (peers.pop().unwrap(), peers.pop().unwrap(), peers.pop().unwrap());
    limit(&mut a, 200_000).await;
    let [at_a, at_b, at_c] = [&a, &b, &c].map(|peer| peer.join(&group, Role::Member));
    let (author, second) = (a.open(&chain, &at_a, "x").await, b.open(&chain, &at_b, "x").await);
    let id = add(&author, pattern(6 * MIB), &[]).await.id;
    until_done(&second, &id, 2 * MIB).await;
    a.stop(&[&author]).await;
    // The removed member does not know of it yet, and asks.
    at_c.hold();
    group.remove(at_c.device(), []);
    let removed = c.open(&chain, &at_c, "x").await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(b.network.peers().iter().any(|status| status.peer == c.id()), "they are not connected");
    let seen = removed.block_status(&id).await.unwrap().expect("the record counts there");
    assert_eq!((seen.state, seen.bytes_done), (ContentState::Unavailable, 0));
    assert!(b.exchange.status().refused > 0 && done(&second, &id).await > 0);
    c.stop(&[&removed]).await;
    b.stop(&[&second]).await;
}
