//! What all nodes of a hub share: who is up, links, gossip on its way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::id::PeerId;
use crate::net::{GossipMessage, GossipMessageId, GossipTopic, IncomingStream, NetworkError, NetworkEvent, Protocol};

/// Message ids that a node remembers so as not to relay twice.
const SEEN_MAX: usize = 4096;
/// The address led to somebody else.
pub(super) const WRONG_PEER: &str = "another peer answered";

#[derive(Default)]
pub(super) struct Hub {
    pub(super) nodes: BTreeMap<PeerId, Node>,
    /// Numbers are never given to another peer, so that a restarted node is found again.
    pub(super) addresses: BTreeMap<PeerId, u64>,
    pub(super) links: BTreeMap<(PeerId, PeerId), Link>,
    /// Pairs that were connected once: the address books.
    pub(super) remembered: BTreeSet<(PeerId, PeerId)>,
    pub(super) cut: BTreeSet<(PeerId, PeerId)>,
    pub(super) messages: u64,
    pub(super) gossip_filter: Option<GossipFilter>,
}

pub(super) struct GossipFilter(pub(super) Box<Passes>);

/// Says whether a message passes from one peer to another.
pub(super) type Passes = dyn Fn(&PeerId, &PeerId, &[u8]) -> bool + Send + Sync;

pub(super) struct Link {
    pub(super) dialler: PeerId,
    /// Resets the link's streams.
    pub(super) token: CancellationToken,
}

#[derive(Default)]
pub(super) struct Node {
    pub(super) acceptors: BTreeMap<Protocol, mpsc::Sender<IncomingStream>>,
    pub(super) topics: BTreeMap<GossipTopic, Vec<mpsc::Sender<GossipMessage>>>,
    pub(super) events: Vec<mpsc::Sender<NetworkEvent>>,
    pub(super) banned: BTreeMap<PeerId, Instant>,
    pub(super) seen: BTreeSet<Vec<u8>>,
    pub(super) seen_order: VecDeque<Vec<u8>>,
    /// Messages that wait for their verdict; bounded by `seen`.
    pub(super) held: BTreeSet<Vec<u8>>,
    pub(super) rejected: u64,
    pub(super) delivered: u64,
}

impl Node {
    /// Remembers a message id; false if it was known.
    pub(super) fn see(&mut self, id: &GossipMessageId) -> bool {
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
    pub(super) fn check_up(&self, peer: &PeerId) -> Result<(), NetworkError> {
        if self.nodes.contains_key(peer) { Ok(()) } else { Err(NetworkError::Down) }
    }

    pub(super) fn neighbours(&self, peer: &PeerId) -> Vec<PeerId> {
        let ends = self.links.keys().filter_map(|(a, b)| match peer {
            peer if peer == a => Some(b.clone()),
            peer if peer == b => Some(a.clone()),
            _ => None,
        });
        let mut neighbours: Vec<_> = ends.collect();
        neighbours.sort_unstable();
        neighbours
    }

    pub(super) fn dial(
        &mut self,
        from: &PeerId,
        to: &PeerId,
        expected: Option<&PeerId>,
    ) -> Result<PeerId, &'static str> {
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

    pub(super) fn unlink(&mut self, a: &PeerId, b: &PeerId) {
        if let Some(link) = self.links.remove(&pair(a, b)) {
            link.token.cancel();
            self.tell_both(a, b, NetworkEvent::PeerDown);
        }
    }

    /// Connects `peer` to everybody whom it remembers and can reach.
    pub(super) fn relink(&mut self, peer: &PeerId) {
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
    pub(super) fn flood(&mut self, from: &PeerId, except: Option<&PeerId>, message: &GossipMessage) {
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

pub(super) fn pair(a: &PeerId, b: &PeerId) -> (PeerId, PeerId) {
    if a <= b { (a.clone(), b.clone()) } else { (b.clone(), a.clone()) }
}
