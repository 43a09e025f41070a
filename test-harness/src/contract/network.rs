//! What every [`Network`] must do. Runs in real and in paused time: nothing sleeps but the repetition of gossip,
//! which is a hint and may need its time to find neighbours.

#![expect(clippy::expect_used, clippy::missing_panics_doc, reason = "a contract suite fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::timeout;
use walytis_core::id::{Address, PeerId};
use walytis_core::net::{
    GossipMessage, GossipTopic, IncomingStream, Network, NetworkError, NetworkEvent, Stream, Verdict,
};

/// How long anything of the suite may take. Chosen: far above a loopback handshake on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the suite waits before it believes that nothing comes.
const SILENCE: Duration = Duration::from_millis(700);
/// Protocol of the suite's streams.
const ECHO: &str = "/walytis/contract-echo/1";

/// Makes the networks under test: each a node of its own, all able to reach each other, none connected yet.
#[async_trait]
pub trait NetworkFixture: Send + Sync {
    /// Brings up one more node.
    async fn network(&self) -> Arc<dyn Network>;
}

/// Runs the whole suite.
pub async fn network_contract(fixture: &dyn NetworkFixture) {
    connecting_makes_both_sides_see_each_other(fixture).await;
    connecting_to_the_wrong_peer_or_nobody_fails(fixture).await;
    streams_carry_bytes_both_ways_and_end(fixture).await;
    large_transfers_arrive_whole(fixture).await;
    unknown_protocols_and_second_acceptors_are_refused(fixture).await;
    gossip_waits_for_the_verdict_before_it_is_relayed(fixture).await;
    gossip_of_other_topics_is_not_heard(fixture).await;
    a_banned_peer_is_cut_off(fixture).await;
    signatures_prove_the_peer_id(fixture).await;
    shutdown_ends_everything(fixture).await;
}

async fn pair(fixture: &dyn NetworkFixture) -> (Arc<dyn Network>, Arc<dyn Network>) {
    let (a, b) = (fixture.network().await, fixture.network().await);
    connect(&*a, &*b).await;
    (a, b)
}

async fn connect(a: &dyn Network, b: &dyn Network) {
    let peer = b.local_peer();
    let connected = timeout(PATIENCE, a.connect(Some(&peer), &b.addresses())).await.expect("connecting takes too long");
    assert_eq!(connected.expect("reachable"), peer);
    // The far side learns of it on its own time.
    let mut events = b.events();
    wait_for(&mut events, &NetworkEvent::PeerUp(a.local_peer())).await;
}

async fn wait_for(events: &mut mpsc::Receiver<NetworkEvent>, wanted: &NetworkEvent) {
    let found = async {
        while let Some(event) = events.recv().await {
            if event == *wanted {
                return true;
            }
        }
        false
    };
    assert!(timeout(PATIENCE, found).await.expect("the event does not come"), "events ended before {wanted:?}");
}

async fn stop(networks: &[&Arc<dyn Network>]) {
    for network in networks {
        timeout(PATIENCE, network.shutdown()).await.expect("shutdown takes too long");
    }
}

/// Connecting shows in `peers` and `events` of both, and doing it again changes nothing.
pub async fn connecting_makes_both_sides_see_each_other(fixture: &dyn NetworkFixture) {
    let (a, b) = (fixture.network().await, fixture.network().await);
    assert!(a.peers().is_empty() && b.peers().is_empty());
    assert_ne!(a.local_peer(), b.local_peer());
    let mut events = a.events();
    connect(&*a, &*b).await;
    wait_for(&mut events, &NetworkEvent::PeerUp(b.local_peer())).await;
    connect(&*a, &*b).await;
    let seen: Vec<_> = a.peers().into_iter().map(|status| (status.peer, status.outbound)).collect();
    assert_eq!(seen, [(b.local_peer(), true)]);
    assert_eq!(b.peers().into_iter().map(|status| status.peer).collect::<Vec<_>>(), [a.local_peer()]);
    // A new receiver begins with whoever is connected.
    wait_for(&mut b.events(), &NetworkEvent::PeerUp(a.local_peer())).await;
    stop(&[&b]).await;
    wait_for(&mut events, &NetworkEvent::PeerDown(b.local_peer())).await;
    assert!(a.peers().is_empty());
    stop(&[&a]).await;
}

/// Another peer than the expected one, nobody, and nonsense each give their own error.
pub async fn connecting_to_the_wrong_peer_or_nobody_fails(fixture: &dyn NetworkFixture) {
    let (a, b, c) = (fixture.network().await, fixture.network().await, fixture.network().await);
    let wrong = timeout(PATIENCE, a.connect(Some(&c.local_peer()), &b.addresses())).await.expect("in time");
    assert!(matches!(wrong, Err(NetworkError::WrongPeer | NetworkError::Unreachable { .. })), "{wrong:?}");
    let nonsense = Address::new("nonsense").expect("a text");
    let bad = timeout(PATIENCE, a.connect(None, &[nonsense])).await.expect("in time");
    assert!(matches!(bad, Err(NetworkError::BadAddress { .. })), "{bad:?}");
    let gone = c.addresses();
    stop(&[&c]).await;
    let nobody = timeout(PATIENCE, a.connect(None, &gone)).await.expect("in time");
    assert!(matches!(nobody, Err(NetworkError::Unreachable { .. })), "{nobody:?}");
    let stranger = PeerId::from_bytes(&[0x12, 0x20, 1, 2, 3]).expect("short enough");
    assert!(timeout(PATIENCE, a.open(&stranger, ECHO)).await.expect("in time").is_err());
    // One good address among bad ones is enough.
    let mixed: Vec<_> = gone.into_iter().chain(b.addresses()).collect();
    let found = timeout(PATIENCE, a.connect(Some(&b.local_peer()), &mixed)).await.expect("in time");
    assert_eq!(found, Ok(b.local_peer()));
    stop(&[&a, &b]).await;
}

async fn next_stream(incoming: &mut mpsc::Receiver<IncomingStream>, from: &dyn Network) -> Box<dyn Stream> {
    let incoming = timeout(PATIENCE, incoming.recv()).await.expect("in time").expect("the acceptor lives");
    assert_eq!(incoming.peer, from.local_peer(), "streams are authenticated");
    incoming.stream
}

/// Bytes go both ways; closing one half is end of file at the other side while the other half still works.
pub async fn streams_carry_bytes_both_ways_and_end(fixture: &dyn NetworkFixture) {
    let (a, b) = pair(fixture).await;
    let mut incoming = b.accept(ECHO).expect("nobody accepts yet");
    // Either side may open, whoever dialled.
    let mut incoming_at_a = a.accept(ECHO).expect("nobody accepts yet");
    let work = async {
        let mut near = a.open(&b.local_peer(), ECHO).await.expect("opens");
        near.write_all(b"question").await.expect("writes");
        near.close().await.expect("closes");
        let mut far = next_stream(&mut incoming, &*a).await;
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.expect("reads to the end");
        assert_eq!(heard, b"question");
        far.write_all(b"answer").await.expect("writes");
        far.close().await.expect("closes");
        let mut heard = Vec::new();
        near.read_to_end(&mut heard).await.expect("reads to the end");
        assert_eq!(heard, b"answer");
        let mut back = b.open(&a.local_peer(), ECHO).await.expect("opens");
        back.write_all(b"x").await.expect("writes");
        back.flush().await.expect("flushes");
        let mut far = next_stream(&mut incoming_at_a, &*b).await;
        let mut byte = [0];
        far.read_exact(&mut byte).await.expect("reads");
        assert_eq!(&byte, b"x");
    };
    timeout(PATIENCE, work).await.expect("in time");
    stop(&[&a, &b]).await;
}

/// More than any buffer holds, while the reader starts late.
pub async fn large_transfers_arrive_whole(fixture: &dyn NetworkFixture) {
    let (a, b) = pair(fixture).await;
    let mut incoming = b.accept(ECHO).expect("nobody accepts yet");
    let sent: Vec<u8> = (0..3_000_000_u32).map(|index| (index % 251) as u8).collect();
    let mut near = timeout(PATIENCE, a.open(&b.local_peer(), ECHO)).await.expect("in time").expect("opens");
    let write = async {
        near.write_all(&sent).await.expect("writes");
        near.close().await.expect("closes");
    };
    let read = async {
        let mut far = next_stream(&mut incoming, &*a).await;
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.expect("reads to the end");
        heard
    };
    let ((), heard) = timeout(PATIENCE, futures::future::join(write, read)).await.expect("in time");
    assert!(heard == sent, "{} of {} bytes arrived, or others", heard.len(), sent.len());
    stop(&[&a, &b]).await;
}

/// A protocol that nobody accepts fails at the opener, at the latest when it reads; one protocol has one acceptor.
pub async fn unknown_protocols_and_second_acceptors_are_refused(fixture: &dyn NetworkFixture) {
    let (a, b) = pair(fixture).await;
    let opened = timeout(PATIENCE, a.open(&b.local_peer(), "/walytis/contract-unknown/1")).await.expect("in time");
    if let Ok(mut stream) = opened {
        let mut byte = [0];
        let read = timeout(PATIENCE, stream.read(&mut byte)).await.expect("in time");
        assert!(!matches!(read, Ok(1..)), "nobody is there to answer");
    }
    let first = b.accept(ECHO).expect("nobody accepts yet");
    let second = b.accept(ECHO).map(|_| ());
    assert_eq!(second, Err(NetworkError::AlreadyAccepted { protocol: ECHO }));
    drop(first);
    // Giving up the receiver frees the protocol, though not necessarily at once.
    let again = async {
        while b.accept(ECHO).is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, again).await.expect("a dropped acceptor frees its protocol");
    stop(&[&a, &b]).await;
}

/// Publishes until somebody hears it: neighbours may need a moment to learn of each other's topics.
async fn publish_until_heard(
    from: &dyn Network,
    topic: GossipTopic,
    data: &'static [u8],
    to: &mut mpsc::Receiver<GossipMessage>,
) -> GossipMessage {
    let work = async {
        let mut round: u32 = 0;
        loop {
            // Each attempt differs, or networks that name messages by content would drop it.
            let mut bytes = data.to_vec();
            bytes.extend(round.to_be_bytes());
            from.publish(topic, bytes.into()).await.expect("publishing works without neighbours");
            round += 1;
            if let Ok(message) = timeout(Duration::from_millis(300), to.recv()).await {
                return message.expect("the subscription lives");
            }
        }
    };
    timeout(PATIENCE, work).await.expect("gossip does not arrive")
}

/// In a line a – b – c, what a says reaches c only after b accepted it.
pub async fn gossip_waits_for_the_verdict_before_it_is_relayed(fixture: &dyn NetworkFixture) {
    let (a, b) = pair(fixture).await;
    let c = fixture.network().await;
    connect(&*b, &*c).await;
    let topic = GossipTopic([7; 32]);
    let _from_a = a.subscribe(topic).await.expect("subscribes");
    let mut at_b = b.subscribe(topic).await.expect("subscribes");
    let mut at_c = c.subscribe(topic).await.expect("subscribes");
    let message = publish_until_heard(&*a, topic, b"held", &mut at_b).await;
    assert_eq!((message.topic, message.from.clone()), (topic, a.local_peer()));
    assert!(message.data.starts_with(b"held"));
    assert!(timeout(SILENCE, at_c.recv()).await.is_err(), "relayed before the verdict");
    b.report(&message, Verdict::Ignore);
    assert!(timeout(SILENCE, at_c.recv()).await.is_err(), "relayed although ignored");
    while at_b.try_recv().is_ok() {}
    // Accepted ones go on, with the neighbour's name on them.
    let relay = async {
        loop {
            let message = publish_until_heard(&*a, topic, b"passed", &mut at_b).await;
            b.report(&message, Verdict::Accept);
            if let Ok(Some(relayed)) = timeout(Duration::from_millis(500), at_c.recv()).await {
                return (message, relayed);
            }
        }
    };
    let (message, relayed) = timeout(PATIENCE, relay).await.expect("an accepted message is relayed");
    assert_eq!(relayed.from, b.local_peer());
    assert!(relayed.data.starts_with(b"passed") && message.data.starts_with(b"passed"));
    let large = a.publish(topic, Bytes::from(vec![0; 70_000])).await;
    assert!(matches!(large, Err(NetworkError::TooLarge { .. })), "{large:?}");
    stop(&[&a, &b, &c]).await;
}

/// A subscriber hears its own topic only, and nobody hears himself.
pub async fn gossip_of_other_topics_is_not_heard(fixture: &dyn NetworkFixture) {
    let (a, b) = pair(fixture).await;
    let (mine, other) = (GossipTopic([1; 32]), GossipTopic([2; 32]));
    let mut at_a = a.subscribe(mine).await.expect("subscribes");
    let mut of_mine = b.subscribe(mine).await.expect("subscribes");
    let mut of_other = b.subscribe(other).await.expect("subscribes");
    let message = publish_until_heard(&*a, mine, b"mine", &mut of_mine).await;
    assert_eq!(message.topic, mine);
    assert!(timeout(SILENCE, of_other.recv()).await.is_err(), "heard a topic that was not subscribed");
    assert!(at_a.try_recv().is_err(), "a publisher hears itself");
    stop(&[&a, &b]).await;
}

/// A ban closes the connections and keeps them closed.
pub async fn a_banned_peer_is_cut_off(fixture: &dyn NetworkFixture) {
    let (a, b) = pair(fixture).await;
    let mut events = a.events();
    let _incoming = a.accept(ECHO).expect("nobody accepts yet");
    a.ban(&b.local_peer(), Duration::from_secs(3600));
    wait_for(&mut events, &NetworkEvent::PeerDown(b.local_peer())).await;
    let again = timeout(PATIENCE, b.connect(None, &a.addresses())).await.expect("in time");
    if again.is_ok() {
        // A dialler may be told late; a stream then never works.
        let stream = timeout(PATIENCE, b.open(&a.local_peer(), ECHO)).await.expect("in time");
        if let Ok(mut stream) = stream {
            let mut byte = [0];
            let read = timeout(PATIENCE, stream.read(&mut byte)).await.expect("in time");
            assert!(!matches!(read, Ok(1..)));
        }
    }
    assert!(a.peers().is_empty(), "a banned peer is connected");
    stop(&[&a, &b]).await;
}

/// Only the holder of a peer id can sign for it.
pub async fn signatures_prove_the_peer_id(fixture: &dyn NetworkFixture) {
    let (a, b) = (fixture.network().await, fixture.network().await);
    let signature = a.sign_as_peer(b"walytis/contract/peer/v1 message");
    assert!(b.verify_peer(&a.local_peer(), b"walytis/contract/peer/v1 message", &signature));
    assert!(!b.verify_peer(&a.local_peer(), b"walytis/contract/peer/v1 other", &signature));
    assert!(!b.verify_peer(&b.local_peer(), b"walytis/contract/peer/v1 message", &signature));
    assert!(!b.verify_peer(&a.local_peer(), b"walytis/contract/peer/v1 message", &[]));
    let stranger = PeerId::from_bytes(&[1, 2, 3]).expect("short enough");
    assert!(!b.verify_peer(&stranger, b"walytis/contract/peer/v1 message", &signature));
    stop(&[&a, &b]).await;
}

/// After a shutdown nothing works, nothing hangs, and doing it again is harmless.
pub async fn shutdown_ends_everything(fixture: &dyn NetworkFixture) {
    let (a, b) = pair(fixture).await;
    let mut incoming = a.accept(ECHO).expect("nobody accepts yet");
    let mut gossip = a.subscribe(GossipTopic([9; 32])).await.expect("subscribes");
    let mut events = a.events();
    let mut far = timeout(PATIENCE, b.open(&a.local_peer(), ECHO)).await.expect("in time").expect("opens");
    stop(&[&a, &a]).await;
    let ended = async {
        while incoming.recv().await.is_some() {}
        while gossip.recv().await.is_some() {}
        while events.recv().await.is_some() {}
        let mut byte = [0];
        assert!(!matches!(far.read(&mut byte).await, Ok(1..)));
    };
    timeout(PATIENCE, ended).await.expect("receivers end with the network");
    assert!(a.connect(None, &b.addresses()).await.is_err());
    assert!(a.open(&b.local_peer(), ECHO).await.is_err());
    assert!(a.publish(GossipTopic([9; 32]), Bytes::from_static(b"x")).await.is_err());
    assert!(a.peers().is_empty());
    stop(&[&b]).await;
}
