//! A network in memory: every node of one [`MemoryHub`] can reach every other one, deterministically and without any
//! timer, so that it also runs under paused time.
//!
//! Streams are in-memory pipes, gossip floods from neighbour to neighbour and waits for a verdict at each. Links can
//! be cut and healed ([`MemoryHub::cut`], [`MemoryHub::heal`]); a healed link and a restarted node come back by
//! themselves, as the trait demands. Latency and loss are not made here: a simulator wraps the trait.

mod hub;
mod network;
mod stream;

pub use network::MemoryNetwork;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hub::{GossipFilter, Hub, Node, pair};
use network::peer_id;

use crate::id::PeerId;
use crate::secret::Secret;

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
        MemoryNetwork::new(self.clone(), peer, number, key)
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
