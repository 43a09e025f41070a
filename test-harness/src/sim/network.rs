//! The network of one simulated node.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use walytis_core::id::{Address, PeerId};
use walytis_core::net::{
    GossipMessage, GossipTopic, IncomingStream, MemoryHub, MemoryNetwork, Network, NetworkError, NetworkEvent,
    PeerStatus, Protocol, Stream, Verdict,
};
use walytis_core::secret::Secret;

use super::hub::SimHub;
use super::pipe;
use super::state::{WRONG_PEER, pair};

/// Streams that wait for their acceptor; more are reset.
const ACCEPT_QUEUE: usize = 64;
/// Gossip messages that wait for their subscriber; more are dropped.
const GOSSIP_QUEUE: usize = 256;
/// Connection changes that wait; a receiver that lags further is closed.
const EVENT_QUEUE: usize = 1_024;
/// Largest gossip message in bytes. From gossipsub's default.
const GOSSIP_MAX: usize = 64 * 1024;

/// One node on a [`SimHub`].
pub struct SimNetwork {
    hub: SimHub,
    peer: PeerId,
    /// Never connected to anybody: lends its key.
    key: MemoryNetwork,
}

impl fmt::Debug for SimNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimNetwork({:?})", self.peer)
    }
}

impl SimNetwork {
    pub(super) fn new(hub: SimHub, node_key: &Secret<32>) -> Self {
        let key = MemoryHub::new().join(node_key);
        Self { hub, peer: key.local_peer(), key }
    }

    pub(super) const fn peer(&self) -> &PeerId {
        &self.peer
    }

    /// Disappears as a killed process does: no goodbye but the broken connections.
    pub fn vanish(&self) {
        let mut state = self.hub.lock();
        let number = state.number(&self.peer);
        state.trace.note("leave", number, number, &[]);
        for peer in state.neighbours(&self.peer) {
            state.unlink(&self.peer, &peer);
        }
        state.nodes.remove(&self.peer);
    }

    /// Waits as long as a request and its answer take on the way to `to`.
    async fn round_trip(&self, to: &PeerId) {
        let time = {
            let mut state = self.hub.lock();
            let way = state.way(&self.peer, to);
            state.delay(way) + state.delay(way.back())
        };
        sleep(time).await;
    }
}

#[async_trait]
impl Network for SimNetwork {
    fn local_peer(&self) -> PeerId {
        self.peer.clone()
    }

    fn addresses(&self) -> Vec<Address> {
        address(self.hub.lock().number(&self.peer)).into_iter().collect()
    }

    fn peers(&self) -> Vec<PeerStatus> {
        let state = self.hub.lock();
        let own = state.number(&self.peer);
        let status = |peer: PeerId| {
            let way = state.way(&self.peer, &peer);
            PeerStatus {
                addresses: address(way.to).into_iter().collect(),
                listens: address(way.to).into_iter().collect(),
                outbound: state.links.get(&pair(way)).is_some_and(|link| link.dialler == own),
                rtt: Some(state.conditions(way).latency * 2),
                peer,
            }
        };
        state.neighbours(&self.peer).into_iter().map(status).collect()
    }

    async fn connect(&self, expected: Option<&PeerId>, addresses: &[Address]) -> Result<PeerId, NetworkError> {
        self.hub.lock().check_up(&self.peer)?;
        if let Some(peer) = expected.filter(|peer| self.hub.lock().is_linked(&self.peer, peer)) {
            return Ok(peer.clone());
        }
        let mut reasons = Vec::new();
        let (mut bad, mut wrong) = (None, false);
        for address in addresses {
            let Some(number) = parse_address(address) else {
                bad = Some(address.to_string());
                continue;
            };
            let Some(peer) = self.hub.lock().peer(number) else {
                reasons.push(format!("{address}: nobody has this address"));
                continue;
            };
            self.round_trip(&peer).await;
            match self.hub.lock().dial(&self.peer, &peer, expected) {
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
        self.hub.lock().check_up(&self.peer)?;
        self.round_trip(peer).await;
        let mut state = self.hub.lock();
        state.check_up(&self.peer)?;
        let way = state.way(&self.peer, peer);
        if !state.is_linked(&self.peer, peer) {
            let known = state.remembered.contains(&pair(way));
            let dialled = if known { state.dial(&self.peer, peer, None) } else { Err("no address is known") };
            dialled.map_err(|reason| NetworkError::Unreachable { peer: peer.to_string(), reason: reason.into() })?;
        }
        let acceptor = state.nodes.get(peer).and_then(|node| node.acceptors.get(protocol));
        let acceptor = acceptor.filter(|acceptor| !acceptor.is_closed()).cloned();
        let acceptor = acceptor.ok_or(NetworkError::Unsupported { protocol })?;
        let token = state.stream_token(way).ok_or(NetworkError::Down)?;
        state.streams += 2;
        let number = state.streams;
        state.trace.note("stream", way.from, way.to, protocol.as_bytes());
        drop(state);
        self.hub.noted();
        let (near, far) = pipe::pair(&self.hub, way, number, &token);
        // A full queue drops the far half: the opener sees a reset, as the trait says.
        drop(acceptor.try_send(IncomingStream { peer: self.peer.clone(), stream: Box::new(far) }));
        Ok(Box::new(near))
    }

    fn accept(&self, protocol: Protocol) -> Result<mpsc::Receiver<IncomingStream>, NetworkError> {
        let mut state = self.hub.lock();
        let node = state.nodes.get_mut(&self.peer).ok_or(NetworkError::Down)?;
        if node.acceptors.get(protocol).is_some_and(|tx| !tx.is_closed()) {
            return Err(NetworkError::AlreadyAccepted { protocol });
        }
        let (tx, rx) = mpsc::channel(ACCEPT_QUEUE);
        node.acceptors.insert(protocol, tx);
        Ok(rx)
    }

    async fn subscribe(&self, topic: GossipTopic) -> Result<mpsc::Receiver<GossipMessage>, NetworkError> {
        let mut state = self.hub.lock();
        let node = state.nodes.get_mut(&self.peer).ok_or(NetworkError::Down)?;
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
        let mut state = self.hub.lock();
        state.check_up(&self.peer)?;
        let id = state.message_id();
        state.streams += 2;
        let number = state.streams;
        if let Some(tap) = &mut state.tap {
            tap.insert(number, data.to_vec());
        }
        if let Some(node) = state.nodes.get_mut(&self.peer) {
            node.see(&id);
        }
        state.flood(&self.peer, None, &GossipMessage { id, topic, from: self.peer.clone(), data });
        drop(state);
        self.hub.noted();
        Ok(())
    }

    fn report(&self, message: &GossipMessage, verdict: Verdict) {
        let mut state = self.hub.lock();
        let Some(node) = state.nodes.get_mut(&self.peer) else { return };
        if !node.held.remove(&message.id.0) {
            return;
        }
        match verdict {
            Verdict::Accept => {
                let relayed = GossipMessage { from: self.peer.clone(), ..message.clone() };
                state.flood(&self.peer, Some(&message.from), &relayed);
            }
            Verdict::Ignore => {}
            Verdict::Reject => *state.rejected.entry(self.peer.clone()).or_default() += 1,
        }
        drop(state);
        self.hub.noted();
    }

    fn events(&self) -> mpsc::Receiver<NetworkEvent> {
        let (tx, rx) = mpsc::channel(EVENT_QUEUE);
        let mut state = self.hub.lock();
        let up = state.neighbours(&self.peer);
        if let Some(node) = state.nodes.get_mut(&self.peer) {
            // More peers than the queue holds: the receiver is closed and told nothing.
            if up.into_iter().all(|peer| tx.try_send(NetworkEvent::PeerUp(peer)).is_ok()) {
                node.events.push(tx);
            }
        }
        rx
    }

    fn ban(&self, peer: &PeerId, duration: Duration) {
        let mut state = self.hub.lock();
        let way = state.way(&self.peer, peer);
        state.trace.note("ban", way.from, way.to, &[]);
        if let Some(node) = state.nodes.get_mut(&self.peer) {
            node.banned.insert(peer.clone(), Instant::now() + duration);
        }
        state.unlink(&self.peer, peer);
        drop(state);
        self.hub.noted();
    }

    fn sign_as_peer(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign_as_peer(message)
    }

    fn verify_peer(&self, peer: &PeerId, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_peer(peer, message, signature)
    }

    async fn shutdown(&self) {
        self.vanish();
    }
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
