//! How often a peer may ask. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use walytis_core::id::PeerId;

/// Peers that are remembered; the one that asked longest ago is forgotten. Chosen: far above any group.
const PEERS_MAX: usize = 4_096;

/// A bucket of turns per peer: `burst` at once, one more each `interval`.
#[derive(Debug)]
pub(super) struct Limiter {
    burst: u32,
    interval: Duration,
    /// When the bucket of a peer is full again, and when it asked last.
    peers: BTreeMap<PeerId, (Instant, Instant)>,
}

impl Limiter {
    pub(super) const fn new(burst: u32, interval: Duration) -> Self {
        Self { burst, interval, peers: BTreeMap::new() }
    }

    /// Takes a turn; false if the peer has none left.
    pub(super) fn take(&mut self, peer: &PeerId, now: Instant) -> bool {
        let full_at = self.peers.get(peer).map_or(now, |(full_at, _)| (*full_at).max(now)) + self.interval;
        if full_at.duration_since(now) > self.interval * self.burst {
            return false;
        }
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(peer) {
            let oldest = self.peers.iter().min_by_key(|(_, (_, asked))| *asked).map(|(peer, _)| peer.clone());
            oldest.and_then(|oldest| self.peers.remove(&oldest));
        }
        self.peers.insert(peer.clone(), (full_at, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u16) -> PeerId {
        PeerId::from_bytes(&number.to_be_bytes()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_served_then_one_each_interval() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut limiter = Limiter::new(3, second);
        assert_eq!([0; 5].map(|_| limiter.take(&peer(1), now)), [true, true, true, false, false]);
        assert!(limiter.take(&peer(2), now), "another peer has its own turns");
        assert!(limiter.take(&peer(1), now + second));
        assert!(!limiter.take(&peer(1), now + second));
        assert_eq!([0; 4].map(|_| limiter.take(&peer(1), now + second * 60)), [true, true, true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_memory_of_peers_is_bounded() {
        let now = Instant::now();
        let mut limiter = Limiter::new(1, Duration::from_secs(1));
        for number in 0..u16::try_from(PEERS_MAX + 10).unwrap() {
            assert!(limiter.take(&peer(number), now));
        }
        assert_eq!(limiter.peers.len(), PEERS_MAX);
    }
}
