//! The simulated network keeps the network contract, and does to messages what it was told to do.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests fail by panicking"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use test_harness::contract::network::{NetworkFixture, network_contract};
use test_harness::sim::{LinkConditions, SimHub, SimNetwork, rerun_line};
use tokio::time::{Instant, timeout};
use walytis_core::net::{GossipTopic, Network, Verdict};
use walytis_core::secret::Secret;

struct Fixture {
    hub: SimHub,
    next: AtomicU8,
}

#[async_trait]
impl NetworkFixture for Fixture {
    async fn network(&self) -> Arc<dyn Network> {
        Arc::new(self.hub.join(&Secret::new([self.next.fetch_add(1, Ordering::Relaxed); 32])))
    }
}

#[tokio::test(start_paused = true)]
async fn the_simulated_network_keeps_the_contract() {
    let hub = SimHub::new(1, LinkConditions::CALM);
    network_contract(&Fixture { hub: hub.clone(), next: AtomicU8::new(1) }).await;
    hub.shutdown().await;
}

async fn two(conditions: LinkConditions) -> (SimHub, SimNetwork, SimNetwork) {
    let hub = SimHub::new(1, LinkConditions::CALM);
    let (a, b) = (hub.join(&Secret::new([1; 32])), hub.join(&Secret::new([2; 32])));
    a.connect(None, &b.addresses()).await.unwrap();
    hub.set_conditions(conditions);
    (hub, a, b)
}

/// Publishes 1,000 messages and returns what came, in its order.
async fn heard(conditions: LinkConditions) -> Vec<u16> {
    let (hub, a, b) = two(conditions).await;
    let topic = GossipTopic([1; 32]);
    let mut messages = b.subscribe(topic).await.unwrap();
    let mut came = Vec::new();
    for number in 0..1_000_u16 {
        a.publish(topic, Bytes::copy_from_slice(&number.to_be_bytes())).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        while let Ok(message) = messages.try_recv() {
            came.push(message);
        }
    }
    while let Ok(Some(message)) = timeout(Duration::from_secs(60), messages.recv()).await {
        came.push(message);
    }
    came.iter().for_each(|message| b.report(message, Verdict::Ignore));
    hub.shutdown().await;
    came.iter().map(|message| u16::from_be_bytes([message.data[0], message.data[1]])).collect()
}

#[tokio::test(start_paused = true)]
async fn calm_gossip_arrives_once_and_in_order() {
    assert_eq!(heard(LinkConditions::CALM).await, (0..1_000).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn gossip_is_lost_doubled_and_reordered_as_often_as_told() {
    let lossy = LinkConditions { gossip_loss: 300, ..LinkConditions::CALM };
    let came = heard(lossy).await.len();
    assert!((640..760).contains(&came), "{came} of 1,000 came with 30 % loss");
    let doubling = LinkConditions { gossip_duplication: 100, ..LinkConditions::CALM };
    let came = heard(doubling).await.len();
    assert!((1_060..1_140).contains(&came), "{came} came with 10 % doubled");
    let stall = Duration::from_secs(1);
    let shuffling = LinkConditions { gossip_reordering: 200, stall, ..LinkConditions::CALM };
    let came = heard(shuffling).await;
    assert!(came.len() == 1_000 && !came.is_sorted());
}

#[tokio::test(start_paused = true)]
async fn streams_take_their_time_and_keep_their_order() {
    let latency = Duration::from_millis(100);
    let jitter = Duration::from_millis(300);
    let (hub, a, b) = two(LinkConditions { latency, jitter, ..LinkConditions::CALM }).await;
    let mut incoming = b.accept("/x/1").unwrap();
    let mut stream = a.open(&b.local_peer(), "/x/1").await.unwrap();
    let mut far = incoming.recv().await.unwrap().stream;
    let start = Instant::now();
    for number in 0..200_u8 {
        stream.write_all(&[number]).await.unwrap();
    }
    stream.close().await.unwrap();
    let mut came = Vec::new();
    far.read_to_end(&mut came).await.unwrap();
    assert_eq!(came, (0..200).collect::<Vec<_>>());
    assert!(start.elapsed() >= latency && start.elapsed() <= latency + jitter, "{:?}", start.elapsed());
    hub.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn streams_are_reset_and_dials_fail_as_often_as_told() {
    let (hub, a, b) = two(LinkConditions { stream_reset: 500, dial_failure: 500, ..LinkConditions::CALM }).await;
    let mut incoming = b.accept("/x/1").unwrap();
    let (mut reset, mut failed) = (0, 0);
    for _ in 0..200 {
        let mut stream = a.open(&b.local_peer(), "/x/1").await.unwrap();
        let _far = incoming.recv().await.unwrap();
        let read = timeout(Duration::from_secs(120), stream.read(&mut [0])).await;
        reset += u32::from(read.is_ok_and(|read| read.is_err()));
    }
    assert!((70..130).contains(&reset), "{reset} of 200 streams were reset");
    for _ in 0..200 {
        hub.disturb(&a.local_peer(), &b.local_peer());
        failed += u32::from(a.connect(None, &b.addresses()).await.is_err());
    }
    assert!((70..130).contains(&failed), "{failed} of 200 dials failed");
    hub.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn parted_peers_dial_again_once_the_link_heals_and_a_vanished_one_once_it_is_back() {
    let (hub, a, b) = two(LinkConditions { dial_failure: 500, ..LinkConditions::CALM }).await;
    hub.cut(&a.local_peer(), &b.local_peer());
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(a.peers().is_empty() && a.open(&b.local_peer(), "/x/1").await.is_err());
    hub.heal(&a.local_peer(), &b.local_peer());
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!((a.peers().len(), b.peers().len()), (1, 1));
    b.vanish();
    assert!(a.peers().is_empty());
    let b = hub.join(&Secret::new([2; 32]));
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!((a.peers().len(), b.peers().len()), (1, 1));
    hub.shutdown().await;
}

#[test]
fn the_rerun_line_names_seed_program_and_test() {
    let line = rerun_line("sync::all_agree", 7);
    assert!(line.starts_with("WALYTIS_SEED=7 cargo test -p test-harness"), "{line}");
    assert!(line.ends_with(" --test sync all_agree -- --nocapture"), "{line}");
    let line = rerun_line("walytis/mutable_sim::editors", 7);
    assert_eq!(line, "WALYTIS_SEED=7 cargo test -p walytis --test mutable_sim editors -- --nocapture");
}
