//! What peers may use of this node: bandwidth, requests, refusals.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Duration;

use tokio::time::Instant;
use walytis_core::id::PeerId;

use super::bucket::Bucket;

/// Refusals after which a peer is not answered for the rest of [`REFUSALS_TIME`]. Chosen: far above what an honest peer
/// meets whose right has just ended.
const REFUSALS_MAX: u32 = 16_384;
const REFUSALS_TIME: Duration = Duration::from_secs(60);
/// Noes that a peer is made to say per second, and at once, by all ledgers of this node together. Chosen: in a minute, far
/// less than [`REFUSALS_MAX`] of another node.
const NOES: (u64, u64) = (150, 4_096);
const _: () = assert!(NOES.1 + NOES.0 * REFUSALS_TIME.as_secs() < 15_000 && REFUSALS_MAX > 16_000);
/// Requests of one peer per second and at once; more wait. Chosen: far above what a fast link carries in parts of 1 MiB.
const REQUESTS: (u64, u64) = (2_000, 4_000);
/// Peers whose requests and refusals are remembered. Above that, those of others count together.
const PEERS_MAX: usize = 1_024;
/// How much of a second's bandwidth goes through at once. Chosen: one chunk always does.
const BURST_PER_RATE: u64 = 4;

/// How much the exchange of a node may send and fetch; nothing: as much as there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExchangeConfig {
    /// Bytes of content per second sent to all peers together.
    pub upload_bytes_per_s: Option<NonZeroU64>,
    /// Bytes of content per second asked for from all peers together, by all ledgers.
    pub download_bytes_per_s: Option<NonZeroU64>,
}

/// Bandwidth in both directions, as a node is told to use it.
#[derive(Debug)]
pub(super) struct Bandwidth {
    upload: Option<Bucket>,
    download: Option<Bucket>,
}

impl Bandwidth {
    pub(super) fn new(config: ExchangeConfig) -> Self {
        let bucket = |rate: NonZeroU64| Bucket::new(rate.get(), rate.get() / BURST_PER_RATE);
        Self { upload: config.upload_bytes_per_s.map(bucket), download: config.download_bytes_per_s.map(bucket) }
    }

    /// Returns how long to wait after sending so many bytes.
    pub(super) fn upload(&mut self, bytes: u64, now: Instant) -> Duration {
        self.upload.as_mut().map_or(Duration::ZERO, |bucket| bucket.take(bytes, now))
    }

    /// Returns how long to wait after asking for so many bytes.
    pub(super) fn download(&mut self, bytes: u64, now: Instant) -> Duration {
        self.download.as_mut().map_or(Duration::ZERO, |bucket| bucket.take(bytes, now))
    }
}

/// What each peer has used up.
#[derive(Debug, Default)]
pub(super) struct Patience {
    peers: BTreeMap<PeerId, Used>,
}

#[derive(Debug)]
struct Used {
    requests: Bucket,
    refused_since: Instant,
    refused: u32,
}

impl Patience {
    /// Returns how long a peer's request waits before it is answered.
    pub(super) fn request(&mut self, peer: &PeerId, now: Instant) -> Duration {
        self.used(peer, now).map_or(Duration::from_millis(1), |used| used.requests.take(1, now))
    }

    /// Counts refusals; false once there were too many for the time being.
    pub(super) fn refuse(&mut self, peer: &PeerId, refusals: u32, now: Instant) -> bool {
        let Some(used) = self.used(peer, now) else { return true };
        if now.duration_since(used.refused_since) >= REFUSALS_TIME {
            (used.refused_since, used.refused) = (now, 0);
        }
        used.refused = used.refused.saturating_add(refusals);
        used.refused <= REFUSALS_MAX
    }

    fn used(&mut self, peer: &PeerId, now: Instant) -> Option<&mut Used> {
        if !self.peers.contains_key(peer) && self.peers.len() >= PEERS_MAX {
            self.peers.retain(|_, used| now.duration_since(used.refused_since) < REFUSALS_TIME);
            if self.peers.len() >= PEERS_MAX {
                return None;
            }
        }
        let fresh = || Used { requests: Bucket::new(REQUESTS.0, REQUESTS.1), refused_since: now, refused: 0 };
        Some(self.peers.entry(peer.clone()).or_insert_with(fresh))
    }
}

/// How often each peer may still be made to say no, by all ledgers of this node: whoever answers counts refusals by peer,
/// whatever ledger they are about.
#[derive(Debug)]
pub(crate) struct Noes {
    peers: BTreeMap<PeerId, Bucket>,
    /// Of all peers together that are not remembered.
    others: Bucket,
}

impl Default for Noes {
    fn default() -> Self {
        Self { peers: BTreeMap::new(), others: Bucket::new(NOES.0, NOES.1) }
    }
}

impl Noes {
    /// Takes noes for questions that a ledger wants to ask, each as if the answer were no, and returns how many it may ask
    /// now: at most half of what is left, so that no ledger leaves nothing to the others.
    pub(crate) fn take(&mut self, peer: &PeerId, wanted: u64, now: Instant) -> u64 {
        let bucket = self.bucket(peer, now);
        let granted = bucket.room(now).div_ceil(2).min(wanted);
        bucket.take(granted, now);
        granted
    }

    /// Gives one back: the answer was yes.
    pub(crate) fn give_back(&mut self, peer: &PeerId, now: Instant) {
        self.bucket(peer, now).give_back(1);
    }

    /// Counts a no to something else than a question.
    pub(crate) fn charge(&mut self, peer: &PeerId, now: Instant) {
        self.bucket(peer, now).take(1, now);
    }

    fn bucket(&mut self, peer: &PeerId, now: Instant) -> &mut Bucket {
        if !self.peers.contains_key(peer) && self.peers.len() >= PEERS_MAX {
            // One that has earned everything is as good as new.
            self.peers.retain(|_, bucket| bucket.is_used(now));
            if self.peers.len() >= PEERS_MAX {
                return &mut self.others;
            }
        }
        self.peers.entry(peer.clone()).or_insert_with(|| Bucket::new(NOES.0, NOES.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u16) -> PeerId {
        PeerId::from_bytes(&number.to_be_bytes()).unwrap()
    }

    #[test]
    fn a_peer_that_is_refused_too_often_is_left_alone_for_a_minute() {
        let (mut patience, start) = (Patience::default(), Instant::now());
        assert!(patience.refuse(&peer(1), REFUSALS_MAX, start));
        assert!(!patience.refuse(&peer(1), 1, start));
        assert!(patience.refuse(&peer(2), 1, start), "another pays for it");
        assert!(!patience.refuse(&peer(1), 0, start + Duration::from_secs(59)));
        assert!(patience.refuse(&peer(1), 1, start + Duration::from_secs(60)));
    }

    #[test]
    fn a_flood_of_requests_waits_and_others_do_not() {
        let (mut patience, now) = (Patience::default(), Instant::now());
        let waits: Vec<Duration> = (0..6_000).map(|_| patience.request(&peer(1), now)).collect();
        assert_eq!(waits.iter().filter(|wait| wait.is_zero()).count() as u64, REQUESTS.1);
        assert_eq!(waits.last(), Some(&Duration::from_secs(1)));
        assert_eq!(patience.request(&peer(2), now), Duration::ZERO);
    }

    #[test]
    fn what_is_remembered_of_peers_is_bounded() {
        let (mut patience, now) = (Patience::default(), Instant::now());
        for n in 0..5_000 {
            patience.request(&peer(n), now);
        }
        assert_eq!(patience.peers.len(), PEERS_MAX);
        patience.request(&peer(9_999), now + REFUSALS_TIME);
        assert_eq!(patience.peers.len(), 1);
    }

    #[test]
    fn noes_are_shared_by_all_who_ask_and_what_is_remembered_is_bounded() {
        let (mut noes, now) = (Noes::default(), Instant::now());
        let first = noes.take(&peer(1), u64::MAX, now);
        let second = noes.take(&peer(1), u64::MAX, now);
        assert!(first > second && second > 1_000 && first + second < NOES.1, "{first}, {second}");
        assert!(noes.take(&peer(2), 2_000, now) == 2_000, "another pays for it");
        while noes.take(&peer(1), u64::MAX, now) > 0 {}
        noes.charge(&peer(1), now);
        assert_eq!(noes.take(&peer(1), 1, now), 0);
        // A yes uses none.
        (0..3).for_each(|_| noes.give_back(&peer(1), now));
        assert_eq!(noes.take(&peer(1), 1, now), 1);
        for n in 0..5_000 {
            noes.take(&peer(n), 1, now);
        }
        assert_eq!(noes.peers.len(), PEERS_MAX);
        noes.take(&peer(9_999), 1, now + REFUSALS_TIME);
        assert_eq!(noes.peers.len(), 1);
    }

    #[test]
    fn without_limits_nothing_waits() {
        let (mut free, now) = (Bandwidth::new(ExchangeConfig::default()), Instant::now());
        assert_eq!((free.upload(u64::MAX, now), free.download(u64::MAX, now)), (Duration::ZERO, Duration::ZERO));
        let rate = NonZeroU64::new(1_000);
        let mut tight = Bandwidth::new(ExchangeConfig { upload_bytes_per_s: rate, ..ExchangeConfig::default() });
        assert_eq!(tight.upload(1_250, now), Duration::from_secs(1));
        assert_eq!(tight.download(1_250, now), Duration::ZERO);
    }
}
