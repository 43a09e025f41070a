//! A network in memory: every node of one [`MemoryHub`] can reach every other one, deterministically and without any
//! timer, so that it also runs under paused time.
//!
//! Streams are in-memory pipes, gossip floods from neighbour to neighbour and waits for a verdict at each. Links can
//! be cut and healed ([`MemoryHub::cut`], [`MemoryHub::heal`]); a healed link and a restarted node come back by
//! themselves, as the trait demands. Latency and loss are not made here: a simulator wraps the trait.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ed25519_dalek::{Signer as _, Verifier as _};
use futures::io::{AsyncRead, AsyncWrite};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{
    GossipMessage, GossipMessageId, GossipTopic, IncomingStream, Network, NetworkError, NetworkEvent, PeerStatus,
    Protocol, Stream, Verdict,
};
use crate::id::{Address, PeerId};
use crate::secret::Secret;

/// Bytes in flight on one direction of a stream. Chosen: a libp2p stream's default window.
const STREAM_WINDOW: usize = 256 * 1024;
/// Streams that wait for their acceptor; more are reset.
const ACCEPT_QUEUE: usize = 64;
/// Gossip messages that wait for their subscriber; more are dropped.
const GOSSIP_QUEUE: usize = 256;
/// Connection changes that wait; a receiver that lags further is closed.
const EVENT_QUEUE: usize = 1024;
/// Largest gossip message in bytes. From gossipsub's default.
const GOSSIP_MAX: usize = 64 * 1024;
/// Message ids that a node remembers so as not to relay twice.
const SEEN_MAX: usize = 4096;
/// What stands before the public key in a peer id of libp2p: identity multihash of a protobuf with key type Ed25519.
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// Joins [`MemoryNetwork`]s; cheap to clone.
#[derive(Clone, Default)]
pub struct MemoryHub(Arc<Mutex<Hub>>);

impl fmt::Debug for MemoryHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryHub({} nodes)", self.lock().nodes.len())
    }
}

impl MemoryHub {
    /// Returns a hub without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Brings up the node whose Ed25519 key has this seed. The same seed gives the same peer id and address, also
    /// after a shutdown; links to peers that remember each other come back at once.
    pub fn join(&self, node_key: &Secret<32>) -> MemoryNetwork {
        let key = ed25519_dalek::SigningKey::from_bytes(node_key.expose());
        let peer = peer_id(&key.verifying_key());
        let mut hub = self.lock();
        let next = hub.addresses.len() as u64 + 1;
        let number = *hub.addresses.entry(peer.clone()).or_insert(next);
        hub.nodes.insert(peer.clone(), Node::default());
        hub.relink(&peer);
        MemoryNetwork { hub: self.clone(), peer, number, key: Arc::new(key) }
    }

    /// Cuts the link between two peers, streams included; they cannot connect until [`Self::heal`].
    pub fn cut(&self, a: &PeerId, b: &PeerId) {
        let mut hub = self.lock();
        hub.cut.insert(pair(a, b));
        hub.unlink(a, b);
    }

    /// Heals a cut link; peers that were connected before are connected again.
    pub fn heal(&self, a: &PeerId, b: &PeerId) {
        let mut hub = self.lock();
        hub.cut.remove(&pair(a, b));
        hub.relink(a);
    }

    /// Cuts every link between the two groups.
    pub fn partition(&self, left: &[PeerId], right: &[PeerId]) {
        left.iter().for_each(|a| right.iter().for_each(|b| self.cut(a, b)));
    }

    /// Heals every cut link.
    pub fn heal_all(&self) {
        let mut hub = self.lock();
        let cut = std::mem::take(&mut hub.cut);
        cut.iter().for_each(|(a, _)| hub.relink(a));
    }

    /// Resets the streams between two peers without keeping them apart: what a lost connection looks like.
    pub fn disturb(&self, a: &PeerId, b: &PeerId) {
        let mut hub = self.lock();
        hub.unlink(a, b);
        hub.relink(a);
    }

    /// Lets a filter decide which gossip messages pass from one peer (first) to a neighbour (second).
    pub fn filter_gossip(&self, passes: impl Fn(&PeerId, &PeerId, &[u8]) -> bool + Send + Sync + 'static) {
        self.lock().gossip_filter = Some(GossipFilter(Box::new(passes)));
    }

    /// Returns how many gossip messages a peer's subscribers rejected.
    pub fn rejected(&self, peer: &PeerId) -> u64 {
        self.lock().nodes.get(peer).map_or(0, |node| node.rejected)
    }

    /// Returns how many gossip messages reached this peer's subscribers.
    pub fn delivered(&self, peer: &PeerId) -> u64 {
        self.lock().nodes.get(peer).map_or(0, |node| node.delivered)
    }

    fn lock(&self) -> MutexGuard<'_, Hub> {
        // Every change leaves the maps usable; a panic elsewhere must not hide the first error.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One node on a [`MemoryHub`].
pub struct MemoryNetwork {
    hub: MemoryHub,
    peer: PeerId,
    number: u64,
    key: Arc<ed25519_dalek::SigningKey>,
}

impl fmt::Debug for MemoryNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryNetwork({:?})", self.peer)
    }
}

#[async_trait]
impl Network for MemoryNetwork {
    fn local_peer(&self) -> PeerId {
        self.peer.clone()
    }

    fn addresses(&self) -> Vec<Address> {
        Vec::from_iter(address(self.number))
    }

    fn peers(&self) -> Vec<PeerStatus> {
        let hub = self.hub.lock();
        hub.neighbours(&self.peer)
            .into_iter()
            .map(|peer| PeerStatus {
                addresses: hub.addresses.get(&peer).copied().and_then(address).into_iter().collect(),
                outbound: hub.links.get(&pair(&self.peer, &peer)).is_some_and(|link| link.dialler == self.peer),
                rtt: Some(Duration::ZERO),
                peer,
            })
            .collect()
    }

    async fn connect(&self, expected: Option<&PeerId>, addresses: &[Address]) -> Result<PeerId, NetworkError> {
        let mut hub = self.hub.lock();
        hub.check_up(&self.peer)?;
        if let Some(peer) = expected.filter(|peer| hub.links.contains_key(&pair(&self.peer, peer))) {
            return Ok(peer.clone());
        }
        let mut reasons = Vec::new();
        let (mut bad, mut wrong) = (None, false);
        for address in addresses {
            let Some(number) = parse_address(address) else {
                bad = Some(address.to_string());
                continue;
            };
            let found = hub.addresses.iter().find(|(_, other)| **other == number).map(|(peer, _)| peer.clone());
            match found.ok_or("nobody has this address").and_then(|peer| hub.dial(&self.peer, &peer, expected)) {
                Ok(peer) => return Ok(peer),
                Err(reason) => {
                    wrong |= reason == WRONG_PEER;
                    reasons.push(format!("{address}: {reason}"));
                }
            }
        }
        match bad {
            Some(address) if reasons.is_empty() => Err(NetworkError::BadAddress { address }),
            _ if wrong => Err(NetworkError::WrongPeer),
            _ => Err(NetworkError::Unreachable {
                peer: expected.map_or_else(|| "the address".into(), ToString::to_string),
                reason: if reasons.is_empty() { "no address is known".into() } else { reasons.join("; ") },
            }),
        }
    }

    async fn open(&self, peer: &PeerId, protocol: Protocol) -> Result<Box<dyn Stream>, NetworkError> {
        let mut hub = self.hub.lock();
        hub.check_up(&self.peer)?;
        if !hub.links.contains_key(&pair(&self.peer, peer)) {
            let known = hub.remembered.contains(&pair(&self.peer, peer));
            let dialled = if known { hub.dial(&self.peer, peer, None) } else { Err("no address is known") };
            dialled.map_err(|reason| NetworkError::Unreachable { peer: peer.to_string(), reason: reason.into() })?;
        }
        let unsupported = NetworkError::Unsupported { protocol };
        let token = hub.links.get(&pair(&self.peer, peer)).ok_or(NetworkError::Down)?.token.clone();
        let acceptor = hub.nodes.get(peer).and_then(|node| node.acceptors.get(protocol)).ok_or(unsupported.clone())?;
        if acceptor.is_closed() {
            return Err(unsupported);
        }
        let (near, far) = tokio::io::duplex(STREAM_WINDOW);
        let incoming = IncomingStream { peer: self.peer.clone(), stream: MemoryStream::boxed(far, &token) };
        // A full queue drops the far half: the opener sees a reset, as the trait says.
        drop(acceptor.try_send(incoming));
        Ok(MemoryStream::boxed(near, &token))
    }

    fn accept(&self, protocol: Protocol) -> Result<mpsc::Receiver<IncomingStream>, NetworkError> {
        let mut hub = self.hub.lock();
        let node = hub.nodes.get_mut(&self.peer).ok_or(NetworkError::Down)?;
        if node.acceptors.get(protocol).is_some_and(|tx| !tx.is_closed()) {
            return Err(NetworkError::AlreadyAccepted { protocol });
        }
        let (tx, rx) = mpsc::channel(ACCEPT_QUEUE);
        node.acceptors.insert(protocol, tx);
        Ok(rx)
    }

    async fn subscribe(&self, topic: GossipTopic) -> Result<mpsc::Receiver<GossipMessage>, NetworkError> {
        let mut hub = self.hub.lock();
        let node = hub.nodes.get_mut(&self.peer).ok_or(NetworkError::Down)?;
        let (tx, rx) = mpsc::channel(GOSSIP_QUEUE);
        let subscribers = node.topics.entry(topic).or_default();
        subscribers.retain(|tx| !tx.is_closed());
        subscribers.push(tx);
        Ok(rx)
    }

    async fn publish(&self, topic: GossipTopic, data: Bytes) -> Result<(), NetworkError> {
        if data.len() > GOSSIP_MAX {
            return Err(NetworkError::TooLarge { bytes: data.len() });
        }
        let mut hub = self.hub.lock();
        hub.check_up(&self.peer)?;
        hub.messages += 1;
        let id = GossipMessageId(hub.messages.to_be_bytes().to_vec());
        if let Some(node) = hub.nodes.get_mut(&self.peer) {
            node.see(&id);
        }
        hub.flood(&self.peer, None, &GossipMessage { id, topic, from: self.peer.clone(), data });
        Ok(())
    }

    fn report(&self, message: &GossipMessage, verdict: Verdict) {
        let mut hub = self.hub.lock();
        let Some(node) = hub.nodes.get_mut(&self.peer) else { return };
        if !node.held.remove(&message.id.0) {
            return;
        }
        match verdict {
            Verdict::Accept => {
                let relayed = GossipMessage { from: self.peer.clone(), ..message.clone() };
                hub.flood(&self.peer, Some(&message.from), &relayed);
            }
            Verdict::Ignore => {}
            Verdict::Reject => node.rejected += 1,
        }
    }

    fn events(&self) -> mpsc::Receiver<NetworkEvent> {
        let (tx, rx) = mpsc::channel(EVENT_QUEUE);
        let mut hub = self.hub.lock();
        let up = hub.neighbours(&self.peer);
        if let Some(node) = hub.nodes.get_mut(&self.peer) {
            // More peers than the queue holds: the receiver is closed and told nothing.
            if up.into_iter().all(|peer| tx.try_send(NetworkEvent::PeerUp(peer)).is_ok()) {
                node.events.push(tx);
            }
        }
        rx
    }

    fn ban(&self, peer: &PeerId, duration: Duration) {
        let mut hub = self.hub.lock();
        if let Some(node) = hub.nodes.get_mut(&self.peer) {
            node.banned.insert(peer.clone(), Instant::now() + duration);
        }
        hub.unlink(&self.peer, peer);
    }

    fn sign_as_peer(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign(message).to_bytes().to_vec()
    }

    fn verify_peer(&self, peer: &PeerId, message: &[u8], signature: &[u8]) -> bool {
        let verified = peer
            .as_bytes()
            .strip_prefix(&PEER_ID_PREFIX)
            .and_then(|key| ed25519_dalek::VerifyingKey::try_from(key).ok())
            .zip(ed25519_dalek::Signature::from_slice(signature).ok())
            .map(|(key, signature)| key.verify(message, &signature).is_ok());
        verified.unwrap_or(false)
    }

    async fn shutdown(&self) {
        let mut hub = self.hub.lock();
        for peer in hub.neighbours(&self.peer) {
            hub.unlink(&self.peer, &peer);
        }
        hub.nodes.remove(&self.peer);
    }
}

const WRONG_PEER: &str = "another peer answered";

#[derive(Default)]
struct Hub {
    nodes: BTreeMap<PeerId, Node>,
    /// Numbers are never given to another peer, so that a restarted node is found again.
    addresses: BTreeMap<PeerId, u64>,
    links: BTreeMap<(PeerId, PeerId), Link>,
    /// Pairs that were connected once: the address books.
    remembered: BTreeSet<(PeerId, PeerId)>,
    cut: BTreeSet<(PeerId, PeerId)>,
    messages: u64,
    gossip_filter: Option<GossipFilter>,
}

struct GossipFilter(Box<Passes>);

/// Says whether a message passes from one peer to another.
type Passes = dyn Fn(&PeerId, &PeerId, &[u8]) -> bool + Send + Sync;

struct Link {
    dialler: PeerId,
    /// Resets the link's streams.
    token: CancellationToken,
}

#[derive(Default)]
struct Node {
    acceptors: BTreeMap<Protocol, mpsc::Sender<IncomingStream>>,
    topics: BTreeMap<GossipTopic, Vec<mpsc::Sender<GossipMessage>>>,
    events: Vec<mpsc::Sender<NetworkEvent>>,
    banned: BTreeMap<PeerId, Instant>,
    seen: BTreeSet<Vec<u8>>,
    seen_order: VecDeque<Vec<u8>>,
    /// Messages that wait for their verdict; bounded by `seen`.
    held: BTreeSet<Vec<u8>>,
    rejected: u64,
    delivered: u64,
}

impl Node {
    /// Remembers a message id; false if it was known.
    fn see(&mut self, id: &GossipMessageId) -> bool {
        if !self.seen.insert(id.0.clone()) {
            return false;
        }
        self.seen_order.push_back(id.0.clone());
        if self.seen_order.len() > SEEN_MAX
            && let Some(oldest) = self.seen_order.pop_front()
        {
            self.seen.remove(&oldest);
            self.held.remove(&oldest);
        }
        true
    }

    fn tell(&mut self, event: &NetworkEvent) {
        self.events.retain(|tx| tx.try_send(event.clone()).is_ok());
    }

    fn refuses(&self, peer: &PeerId) -> bool {
        self.banned.get(peer).is_some_and(|until| Instant::now() < *until)
    }
}

impl Hub {
    fn check_up(&self, peer: &PeerId) -> Result<(), NetworkError> {
        if self.nodes.contains_key(peer) { Ok(()) } else { Err(NetworkError::Down) }
    }

    fn neighbours(&self, peer: &PeerId) -> Vec<PeerId> {
        let ends = self.links.keys().filter_map(|(a, b)| match peer {
            peer if peer == a => Some(b.clone()),
            peer if peer == b => Some(a.clone()),
            _ => None,
        });
        let mut neighbours: Vec<_> = ends.collect();
        neighbours.sort_unstable();
        neighbours
    }

    fn dial(&mut self, from: &PeerId, to: &PeerId, expected: Option<&PeerId>) -> Result<PeerId, &'static str> {
        let link = pair(from, to);
        if from == to {
            return Err("this is the own address");
        }
        if self.cut.contains(&link) {
            return Err("the link is cut");
        }
        let (Some(near), Some(far)) = (self.nodes.get(from), self.nodes.get(to)) else {
            return Err("nobody answers");
        };
        if near.refuses(to) || far.refuses(from) {
            return Err("the connection was refused");
        }
        if expected.is_some_and(|expected| expected != to) {
            return Err(WRONG_PEER);
        }
        if !self.links.contains_key(&link) {
            self.links.insert(link.clone(), Link { dialler: from.clone(), token: CancellationToken::new() });
            self.remembered.insert(link);
            self.tell_both(from, to, NetworkEvent::PeerUp);
        }
        Ok(to.clone())
    }

    fn unlink(&mut self, a: &PeerId, b: &PeerId) {
        if let Some(link) = self.links.remove(&pair(a, b)) {
            link.token.cancel();
            self.tell_both(a, b, NetworkEvent::PeerDown);
        }
    }

    /// Connects `peer` to everybody whom it remembers and can reach.
    fn relink(&mut self, peer: &PeerId) {
        let remembered = self.remembered.iter().filter(|(a, b)| a == peer || b == peer).cloned();
        for (a, b) in remembered.collect::<Vec<_>>() {
            // Whoever cannot be reached now is tried again at the next change.
            let _unreachable = self.dial(&a, &b, None);
        }
    }

    fn tell_both(&mut self, a: &PeerId, b: &PeerId, event: fn(PeerId) -> NetworkEvent) {
        for (to, about) in [(a, b), (b, a)] {
            if let Some(node) = self.nodes.get_mut(to) {
                node.tell(&event(about.clone()));
            }
        }
    }

    /// Hands a message to every neighbour of `from` that subscribes and has not seen it.
    fn flood(&mut self, from: &PeerId, except: Option<&PeerId>, message: &GossipMessage) {
        for to in self.neighbours(from) {
            let passes = self.gossip_filter.as_ref().is_none_or(|filter| filter.0(from, &to, &message.data));
            let Some(node) = self.nodes.get_mut(&to).filter(|_| passes && Some(&to) != except) else { continue };
            if !node.topics.contains_key(&message.topic) || !node.see(&message.id) {
                continue;
            }
            let subscribers = node.topics.entry(message.topic).or_default();
            let mut taken = false;
            subscribers.retain(|tx| match tx.try_send(message.clone()) {
                Ok(()) => {
                    taken = true;
                    true
                }
                Err(error) => matches!(error, mpsc::error::TrySendError::Full(_)),
            });
            if subscribers.is_empty() {
                node.topics.remove(&message.topic);
            }
            if taken {
                node.held.insert(message.id.0.clone());
                node.delivered += 1;
            }
        }
    }
}

/// A pipe that fails as soon as its link is gone.
struct MemoryStream {
    pipe: Compat<DuplexStream>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl MemoryStream {
    fn boxed(pipe: DuplexStream, token: &CancellationToken) -> Box<dyn Stream> {
        Box::new(Self { pipe: pipe.compat(), cut: Box::pin(token.clone().cancelled_owned()) })
    }

    fn check(&mut self, cx: &mut Context<'_>) -> std::io::Result<()> {
        match self.cut.as_mut().poll(cx) {
            Poll::Ready(()) => Err(std::io::ErrorKind::ConnectionReset.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for MemoryStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<std::io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.pipe).poll_read(cx, buf)
    }
}

impl AsyncWrite for MemoryStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.pipe).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.pipe).poll_close(cx)
    }
}

fn peer_id(key: &ed25519_dalek::VerifyingKey) -> PeerId {
    let bytes = [PEER_ID_PREFIX.as_slice(), key.as_bytes()].concat();
    #[expect(clippy::expect_used, reason = "38 bytes are within the bounds of a peer id")]
    PeerId::from_bytes(&bytes).expect("38 bytes fit")
}

fn pair(a: &PeerId, b: &PeerId) -> (PeerId, PeerId) {
    if a <= b { (a.clone(), b.clone()) } else { (b.clone(), a.clone()) }
}

fn address(number: u64) -> Option<Address> {
    Address::new(&format!("/memory/{number}"))
}

/// Reads `/memory/<n>`, with or without a peer id behind it.
fn parse_address(address: &Address) -> Option<u64> {
    let rest = address.as_str().strip_prefix("/memory/")?;
    let number = rest.split_once("/p2p/").map_or(rest, |(number, _)| number);
    number.parse().ok()
}
