//! Nodes over real sockets on loopback. Real time: libp2p cannot run under a paused clock, so every wait is for an
//! event and has a deadline.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests fail by panicking, and show what they measured"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use test_harness::contract::network::{NetworkFixture, network_contract};
use tokio::sync::mpsc;
use tokio::time::timeout;
use walytis_core::clock::{SeededEntropy, SystemClock};
use walytis_core::id::Address;
use walytis_core::net::{GossipMessage, GossipTopic, Network, NetworkError, NetworkEvent, Verdict};
use walytis_core::secret::Secret;
use walytis_core::store::{KvStore, MemoryStore};
use walytis_ipfs::{Libp2pNode, NodeConfig, NodeKey, StartError};

const PATIENCE: Duration = Duration::from_secs(20);

async fn start(number: u8, config: NodeConfig, store: Arc<dyn KvStore>) -> Result<Libp2pNode, StartError> {
    let key = NodeKey::from_seed(&Secret::new([number; 32]));
    Libp2pNode::start(config, key, store, Arc::new(SystemClock), &SeededEntropy::new(number.into())).await
}

async fn node(number: u8) -> Libp2pNode {
    start(number, NodeConfig::loopback(), Arc::new(MemoryStore::new())).await.unwrap()
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("takes too long")
}

async fn link(a: &Libp2pNode, b: &Libp2pNode) {
    let connected = within(a.connect(Some(&b.local_peer()), &b.addresses())).await;
    assert_eq!(connected, Ok(b.local_peer()));
}

async fn wait_for(events: &mut mpsc::Receiver<NetworkEvent>, wanted: &NetworkEvent) {
    within(async { while events.recv().await.expect("events go on") != *wanted {} }).await;
}

/// Publishes until `receiver` hears it: neighbours learn of subscriptions on their own time.
async fn heard(from: &Libp2pNode, topic: GossipTopic, receiver: &mut mpsc::Receiver<GossipMessage>) -> GossipMessage {
    within(async {
        loop {
            from.publish(topic, Bytes::from_static(b"hello")).await.unwrap();
            if let Ok(message) = timeout(Duration::from_millis(100), receiver.recv()).await {
                return message.expect("the subscription lives");
            }
        }
    })
    .await
}

#[derive(Default)]
struct Fixture(std::sync::atomic::AtomicU8);

#[async_trait]
impl NetworkFixture for Fixture {
    async fn network(&self) -> Arc<dyn Network> {
        Arc::new(node(self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst)).await)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_keeps_the_contract_of_networks() {
    network_contract(&Fixture::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarted_node_reconnects_from_its_address_book() {
    let store: Arc<dyn KvStore> = Arc::new(MemoryStore::new());
    let (a, b) = (start(1, NodeConfig::loopback(), Arc::clone(&store)).await.unwrap(), node(2).await);
    link(&a, &b).await;
    within(a.shutdown()).await;
    let again = start(1, NodeConfig::loopback(), store).await.unwrap();
    wait_for(&mut again.events(), &NetworkEvent::PeerUp(b.local_peer())).await;
    within(again.shutdown()).await;
    within(b.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_peer_that_comes_back_is_reconnected() {
    let (a, b) = (node(1).await, node(2).await);
    link(&a, &b).await;
    let mut events = a.events();
    let (peer, listen) = (b.local_peer(), b.addresses());
    within(b.shutdown()).await;
    wait_for(&mut events, &NetworkEvent::PeerDown(peer.clone())).await;
    let bare = |address: &Address| Address::new(address.as_str().split("/p2p/").next().unwrap()).unwrap();
    let config = NodeConfig { listen: listen.iter().map(bare).collect(), ..NodeConfig::loopback() };
    let again = start(2, config, Arc::new(MemoryStore::new())).await.expect("shutdown has freed both ports");
    wait_for(&mut events, &NetworkEvent::PeerUp(peer)).await;
    within(a.shutdown()).await;
    within(again.shutdown()).await;
}

/// A node whose process is stopped dead once it has told the other who it is: its sockets stay, nobody reads them, and it
/// never says goodbye.
async fn dial_and_stop_dead(number: u8, to: &Libp2pNode) {
    let (peer, addresses) = (to.local_peer(), to.addresses());
    let (told, stop) = tokio::sync::oneshot::channel::<()>();
    let life = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let node = runtime.block_on(async {
            let node = node(number).await;
            assert_eq!(node.connect(Some(&peer), &addresses).await, Ok(peer));
            stop.await.unwrap();
            node
        });
        std::mem::forget((runtime, node));
    });
    let identified = async {
        while to.peers().first().is_none_or(|status| status.listens.is_empty()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(identified).await;
    told.send(()).unwrap();
    life.join().unwrap();
}

// A machine that loses its power or its line says no goodbye either, and TCP would wait for it for a quarter of an hour.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_peer_is_gone_soon_over_tcp_too() {
    let config = NodeConfig { silence_max: Duration::from_secs(2), reconnect: false, ..NodeConfig::loopback() };
    let a = start(1, config, Arc::new(MemoryStore::new())).await.unwrap();
    let mut events = a.events();
    dial_and_stop_dead(2, &a).await;
    assert!(a.peers()[0].addresses.iter().all(|address| address.as_str().contains("/tcp/")), "{:?}", a.peers());
    let peer = NodeKey::from_seed(&Secret::new([2; 32])).peer_id();
    wait_for(&mut events, &NetworkEvent::PeerDown(peer.clone())).await;
    assert!(a.peers().is_empty());
    assert!(within(a.open(&peer, "/test/echo/1")).await.is_err());
    within(a.shutdown()).await;
}

// A process that is killed says no goodbye, and QUIC holds on to its connection for ten seconds. Whoever starts it again at
// once must not wait for that: the new connection is the one that counts, for streams, events and gossip alike.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_peer_that_comes_back_at_once_is_a_new_one() {
    let a = node(1).await;
    let topic = GossipTopic([7; 32]);
    let mut at_a = a.subscribe(topic).await.unwrap();
    let mut incoming = a.accept("/test/echo/1").unwrap();
    let mut events = a.events();
    dial_and_stop_dead(2, &a).await;
    let key = NodeKey::from_seed(&Secret::new([2; 32]));
    let store = Arc::new(MemoryStore::new());
    let began = Instant::now();
    let entropy = SeededEntropy::new(99);
    let again = Libp2pNode::start(NodeConfig::loopback(), key, store, Arc::new(SystemClock), &entropy).await.unwrap();
    let peer = again.local_peer();
    let _at_again = again.subscribe(topic).await.unwrap();
    let mut incoming_again = again.accept("/test/echo/1").unwrap();
    link(&again, &a).await;
    wait_for(&mut events, &NetworkEvent::PeerDown(peer.clone())).await;
    wait_for(&mut events, &NetworkEvent::PeerUp(peer.clone())).await;
    let took = began.elapsed();
    // Usually some ten milliseconds; the bound allows for a machine that is busy, and is half of what QUIC waits.
    assert!(took < Duration::from_secs(5), "{took:?}");
    println!("a killed peer is replaced within {took:?}");
    let mut near = within(a.open(&peer, "/test/echo/1")).await.unwrap();
    near.write_all(b"x").await.unwrap();
    near.flush().await.unwrap();
    assert_eq!(within(incoming_again.recv()).await.unwrap().peer, a.local_peer());
    let mut back = within(again.open(&a.local_peer(), "/test/echo/1")).await.unwrap();
    back.write_all(b"x").await.unwrap();
    back.flush().await.unwrap();
    assert_eq!(within(incoming.recv()).await.unwrap().peer, peer);
    assert_eq!(heard(&again, topic, &mut at_a).await.from, peer);
    within(a.shutdown()).await;
    within(again.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn port_in_use_is_named() {
    let a = node(1).await;
    for address in a.addresses() {
        let bare = Address::new(address.as_str().split("/p2p/").next().unwrap()).unwrap();
        let config = NodeConfig { listen: vec![bare.clone()], ..NodeConfig::loopback() };
        let error = start(2, config, Arc::new(MemoryStore::new())).await.unwrap_err();
        assert!(matches!(&error, StartError::AddressInUse { address } if address == bare.as_str()), "{error}");
    }
    within(a.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejected_gossip_does_not_pass_the_middle() {
    let (a, b, c) = (node(1).await, node(2).await, node(3).await);
    link(&a, &b).await;
    link(&b, &c).await;
    let topic = GossipTopic([7; 32]);
    let mut at_b = b.subscribe(topic).await.unwrap();
    let mut at_c = c.subscribe(topic).await.unwrap();
    let message = heard(&a, topic, &mut at_b).await;
    assert_eq!(message.from, a.local_peer());
    b.report(&message, Verdict::Reject);
    // What b passes on comes after the verdict on what it rejected, so c hears this one first.
    within(async {
        loop {
            a.publish(topic, Bytes::from_static(b"good")).await.unwrap();
            while let Ok(Some(message)) = timeout(Duration::from_millis(100), at_b.recv()).await {
                let good = message.data.as_ref() == b"good";
                b.report(&message, if good { Verdict::Accept } else { Verdict::Reject });
            }
            if let Ok(message) = at_c.try_recv() {
                assert_eq!(message.data.as_ref(), b"good");
                break;
            }
        }
    })
    .await;
    for node in [a, b, c] {
        within(node.shutdown()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_of_exactly_the_limit_passes_and_one_byte_more_is_refused() {
    let (a, b) = (node(1).await, node(2).await);
    link(&a, &b).await;
    let topic = GossipTopic([7; 32]);
    let mut at_b = b.subscribe(topic).await.unwrap();
    drop(heard(&a, topic, &mut at_b).await);
    let refused = a.publish(topic, Bytes::from(vec![1; 65_537])).await;
    assert_eq!(refused, Err(NetworkError::TooLarge { bytes: 65_537 }));
    a.publish(topic, Bytes::from(vec![1; 65_536])).await.unwrap();
    within(async { while at_b.recv().await.unwrap().data.len() != 65_536 {} }).await;
    within(a.shutdown()).await;
    within(b.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_topics_are_heard_and_quickly() {
    let (a, b) = (node(1).await, node(2).await);
    let mut receivers = Vec::new();
    for number in 0..200u8 {
        receivers.push(b.subscribe(GossipTopic([number; 32])).await.unwrap());
    }
    link(&a, &b).await;
    drop(heard(&a, GossipTopic([199; 32]), &mut receivers[199]).await);
    let mut slowest = Duration::ZERO;
    for (number, receiver) in receivers.iter_mut().enumerate().take(199) {
        let began = Instant::now();
        drop(heard(&a, GossipTopic([u8::try_from(number).unwrap(); 32]), receiver).await);
        slowest = slowest.max(began.elapsed());
    }
    // Once subscriptions are known nothing is waited for; the bound allows for a machine that is busy.
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    println!("slowest of 199 publishes: {slowest:?}");
    within(a.shutdown()).await;
    within(b.shutdown()).await;
}

async fn transfer(kind: &str) {
    const BYTES: usize = 64 << 20;
    let (a, b) = (node(1).await, node(2).await);
    let addresses: Vec<_> = b.addresses().into_iter().filter(|address| address.as_str().contains(kind)).collect();
    within(a.connect(Some(&b.local_peer()), &addresses)).await.unwrap();
    assert!(a.peers()[0].addresses[0].as_str().contains(kind));
    let mut incoming = b.accept("/test/bulk/1").unwrap();
    let began = Instant::now();
    let mut near = a.open(&b.local_peer(), "/test/bulk/1").await.unwrap();
    let send = async {
        let chunk = vec![7u8; 1 << 20];
        for _ in 0..BYTES >> 20 {
            near.write_all(&chunk).await.unwrap();
        }
        near.close().await.unwrap();
    };
    let receive = async {
        let mut far = incoming.recv().await.unwrap().stream;
        let (mut buffer, mut total) = (vec![0u8; 1 << 18], 0);
        loop {
            match far.read(&mut buffer).await.unwrap() {
                0 => return total,
                read => total += read,
            }
        }
    };
    let ((), total) = timeout(Duration::from_secs(60), async { tokio::join!(send, receive) }).await.unwrap();
    assert_eq!(total, BYTES);
    println!("{kind}: {:.0} MB/s", 64.0 / began.elapsed().as_secs_f64());
    within(a.shutdown()).await;
    within(b.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_stream_over_quic_arrives_whole() {
    transfer("quic").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_stream_over_tcp_arrives_whole() {
    transfer("tcp").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ban_ends_after_its_time() {
    let (a, b) = (node(1).await, node(2).await);
    link(&a, &b).await;
    let mut events = a.events();
    a.ban(&b.local_peer(), Duration::from_millis(300));
    wait_for(&mut events, &NetworkEvent::PeerDown(b.local_peer())).await;
    // The peer is in the book, so it is dialled again by itself once the ban is over.
    wait_for(&mut events, &NetworkEvent::PeerUp(b.local_peer())).await;
    within(a.shutdown()).await;
    within(b.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simultaneous_dials_do_not_flap() {
    let (a, b) = (node(1).await, node(2).await);
    let (mut at_a, mut at_b) = (a.events(), b.events());
    let (pa, pb) = (a.local_peer(), b.local_peer());
    let (to_a, to_b) = (a.addresses(), b.addresses());
    let (left, right) = tokio::join!(a.connect(Some(&pb), &to_b), b.connect(Some(&pa), &to_a));
    assert_eq!((left, right), (Ok(pb.clone()), Ok(pa.clone())));
    wait_for(&mut at_a, &NetworkEvent::PeerUp(pb.clone())).await;
    wait_for(&mut at_b, &NetworkEvent::PeerUp(pa)).await;
    // A round over a stream settles whatever was under way.
    let _incoming = b.accept("/test/echo/1").unwrap();
    drop(within(a.open(&pb, "/test/echo/1")).await.unwrap());
    assert!(at_a.try_recv().is_err() && at_b.try_recv().is_err(), "up and down again");
    within(a.shutdown()).await;
    within(b.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offline_node_dials_nobody() {
    let (a, b) = (start(1, NodeConfig::offline(), Arc::new(MemoryStore::new())).await.unwrap(), node(2).await);
    assert!(a.addresses().is_empty());
    assert_eq!(a.connect(None, &b.addresses()).await, Err(NetworkError::Down));
    assert!(matches!(a.open(&b.local_peer(), "/test/echo/1").await, Err(NetworkError::Down)));
    within(a.shutdown()).await;
    within(b.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_peer_behind_a_bare_address_is_refused() {
    let (a, b, c) = (node(1).await, node(2).await, node(3).await);
    for address in b.addresses() {
        let bare = Address::new(address.as_str().split("/p2p/").next().unwrap()).unwrap();
        let wrong = within(a.connect(Some(&c.local_peer()), &[bare])).await;
        assert_eq!(wrong, Err(NetworkError::WrongPeer));
    }
    assert!(a.peers().is_empty());
    assert!(a.metrics().dial_failures >= 2);
    for node in [a, b, c] {
        within(node.shutdown()).await;
    }
}
