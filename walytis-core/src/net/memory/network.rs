//! One node's side of the network in memory.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ed25519_dalek::{Signer as _, Verifier as _};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::MemoryHub;
use super::hub::{WRONG_PEER, pair};
use super::stream::MemoryStream;
use crate::id::{Address, PeerId};
use crate::net::{
    GossipMessage, GossipMessageId, GossipTopic, IncomingStream, Network, NetworkError, NetworkEvent, PeerStatus,
    Protocol, Stream, Verdict,
};

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
/// What stands before the public key in a peer id of libp2p: identity multihash of a protobuf with key type Ed25519.
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// One node on a [`MemoryHub`].
pub struct MemoryNetwork {
    hub: MemoryHub,
    peer: PeerId,
    number: u64,
    key: Arc<ed25519_dalek::SigningKey>,
}

impl MemoryNetwork {
    pub(super) fn new(hub: MemoryHub, peer: PeerId, number: u64, key: ed25519_dalek::SigningKey) -> Self {
        Self { hub, peer, number, key: Arc::new(key) }
    }
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
                listens: hub.addresses.get(&peer).copied().and_then(address).into_iter().collect(),
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

pub(super) fn peer_id(key: &ed25519_dalek::VerifyingKey) -> PeerId {
    let bytes = [PEER_ID_PREFIX.as_slice(), key.as_bytes()].concat();
    #[expect(clippy::expect_used, reason = "38 bytes are within the bounds of a peer id")]
    PeerId::from_bytes(&bytes).expect("38 bytes fit")
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
