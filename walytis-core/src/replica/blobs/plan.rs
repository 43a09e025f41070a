//! What to fetch next from whom: a value that is told what happens and says what to do.
//!
//! ```text
//!  want, reader ──► Preparing ──► Manifest ──► Checking ──► Leaves ──► complete
//!                       │  the manifest is stored, or one leaf  ▲
//!                       └───────────────────────────────────────┘
//! ```
//!
//! Blobs take turns, and three of four requests are for readers that wait. A peer is asked for two leaves at first, for more as it
//! delivers, for one after it failed. Who has not got something, or does not answer, is asked again after a back-off;
//! what nobody has got is given up, so that it holds up nothing else, and is looked for again later.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, Range};
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use tokio::time::Instant;

use super::fetch::{Digests, Fetch, Leaves, Phase, Trouble, What};
use crate::id::{BlobId, PeerId};
use crate::replica::catch_up::backoff;

/// Leaves asked of one peer at a time, at the most. Chosen: 8 MiB, the window of a fast link.
const WINDOW_MAX: usize = 8;
/// And of one that has not delivered yet.
const WINDOW_FIRST: usize = 2;
/// How long a peer may be silent while it is asked for something. Chosen: 1 MiB at 35 kB/s.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Doublings of that for a peer that was late. Chosen: 1 MiB at 2 kB/s still arrives.
const PATIENCE_DOUBLINGS: u32 = 4;
/// How long a reader waits while nobody connected has the blob. Chosen: a block may arrive by gossip before the session
/// with its author is open, and links come back after a moment.
const READER_PATIENCE: Duration = Duration::from_secs(5);
/// Leaves that may come late, after somebody else was asked. Chosen: what a few peers had in flight.
const LATE_MAX: usize = 32;

/// Something to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) peer: PeerId,
    pub(super) blob: BlobId,
    pub(super) what: What,
}

/// Something to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Look up what is here.
    Prepare { blob: BlobId, len: u64, whole: bool },
    /// Check a list of digests against the root, and begin.
    Check { blob: BlobId, len: u64, digests: Vec<[u8; 32]>, peer: PeerId, whole: bool },
    /// Tell readers that they wait in vain.
    Fail { blob: BlobId, reason: &'static str },
}

/// What became of looking it up.
#[derive(Debug)]
pub(super) enum Prepared {
    /// It is here.
    Complete,
    /// Nothing is known of its leaves.
    Unknown,
    /// These leaves are missing.
    Leaves { digests: Digests, missing: Vec<u32> },
    /// It cannot exist.
    Impossible,
}

/// What became of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// It is stored.
    Partial,
    /// It was the last one.
    Complete,
    /// It is not what its digest says.
    False,
    /// What was begun is gone.
    Gone,
}

#[derive(Debug)]
struct Peer {
    window: usize,
    failures: u32,
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    peers: BTreeMap<PeerId, Peer>,
    fetches: BTreeMap<BlobId, Fetch>,
    /// Whose turn was last.
    turn: Option<BlobId>,
    asks: u64,
    outputs: VecDeque<Output>,
}

impl Plan {
    pub(super) fn handle_up(&mut self, peer: &PeerId) {
        self.peers.insert(peer.clone(), Peer { window: WINDOW_FIRST, failures: 0 });
        for fetch in self.fetches.values_mut() {
            fetch.forget(peer);
            fetch.without.remove(peer);
        }
    }

    pub(super) fn handle_down(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
        for fetch in self.fetches.values_mut() {
            fetch.forget(peer);
            fetch.without.remove(peer);
        }
    }

    /// Wants a whole blob.
    pub(super) fn want(&mut self, blob: BlobId, len: u64) {
        self.entry(blob, len, true).background = true;
    }

    /// Sets what a reader wants, as indices of leaves.
    pub(super) fn handle_reader(&mut self, blob: BlobId, len: u64, reader: u64, leaves: Range<u32>) {
        self.entry(blob, len, false).readers.insert(reader, leaves);
    }

    pub(super) fn handle_reader_gone(&mut self, blob: &BlobId, reader: u64) {
        if let Some(fetch) = self.fetches.get_mut(blob) {
            fetch.readers.remove(&reader);
        }
        self.fetches.retain(|_, fetch| fetch.is_wanted());
    }

    fn entry(&mut self, blob: BlobId, len: u64, whole: bool) -> &mut Fetch {
        self.fetches.entry(blob).or_insert_with(|| {
            self.outputs.push_back(Output::Prepare { blob, len, whole });
            Fetch::new(len)
        })
    }

    /// From now on only what readers want is fetched.
    pub(super) fn drop_background(&mut self) {
        self.fetches.values_mut().for_each(|fetch| fetch.background = false);
        self.fetches.retain(|_, fetch| fetch.is_wanted());
    }

    pub(super) fn handle_prepared(&mut self, blob: &BlobId, prepared: Prepared) {
        let Some(fetch) = self.fetches.get_mut(blob) else { return };
        match prepared {
            Prepared::Complete => drop(self.fetches.remove(blob)),
            Prepared::Unknown => fetch.phase = Phase::Manifest { digests: Vec::new(), asked: None },
            Prepared::Leaves { digests, missing } => {
                let missing = missing.into_iter().collect();
                fetch.phase =
                    Phase::Leaves(Leaves { digests, missing, asked: BTreeMap::new(), storing: Default::default() });
            }
            Prepared::Impossible => {
                self.outputs.push_back(Output::Fail { blob: *blob, reason: "no content has this length and id" });
                self.fetches.remove(blob);
            }
        }
    }

    /// What is here of a blob cannot be read or written: tried again after a back-off.
    pub(super) fn handle_trouble(&mut self, blob: &BlobId, reason: &'static str, now: Instant, rng: &mut ChaCha20Rng) {
        let Some(fetch) = self.fetches.get_mut(blob) else { return };
        let until = now + backoff(fetch.troubles, rng);
        fetch.troubles = fetch.troubles.saturating_add(1);
        fetch.trouble = Some(Trouble { reason, until });
        // Answers under way are taken as late ones once the blob is looked up again.
        fetch.phase = Phase::Preparing;
        fetch.readers.clear();
        self.outputs.push_back(Output::Fail { blob: *blob, reason });
        self.fetches.retain(|_, fetch| fetch.is_wanted());
    }

    /// Returns false if the list cannot be the right one.
    pub(super) fn handle_manifest(
        &mut self,
        peer: &PeerId,
        blob: BlobId,
        (len, from): (u64, u32),
        digests: Vec<[u8; 32]>,
        now: Instant,
    ) -> bool {
        let Some(fetch) = self.fetches.get_mut(&blob) else { return true };
        let (count, whole) = (fetch.count(), fetch.background);
        let Phase::Manifest { digests: have, asked } = &mut fetch.phase else { return true };
        if asked.take_if(|(asked, _)| asked == peer).is_none() {
            return true;
        }
        let fits = len == fetch.len && from as usize == have.len() && !digests.is_empty();
        if !fits || have.len() + digests.len() > count {
            have.clear();
            fetch.without.insert(peer.clone(), (0, now + ANSWER_WITHIN));
            return false;
        }
        have.extend(digests);
        if have.len() == count {
            let digests = std::mem::take(have);
            let len = fetch.len;
            fetch.phase = Phase::Checking;
            self.outputs.push_back(Output::Check { blob, len, digests, peer: peer.clone(), whole });
        }
        true
    }

    /// The list of digests was not that of the blob.
    pub(super) fn handle_false_manifest(&mut self, blob: &BlobId, peer: &PeerId, now: Instant) {
        if let Some(fetch) = self.fetches.get_mut(blob) {
            fetch.phase = Phase::Manifest { digests: Vec::new(), asked: None };
            fetch.without.insert(peer.clone(), (0, now + ANSWER_WITHIN));
        }
    }

    /// Returns the digest that a leaf must have, if it is to be stored.
    pub(super) fn handle_leaf(&mut self, peer: &PeerId, blob: &BlobId, index: u32, now: Instant) -> Option<[u8; 32]> {
        for fetch in self.fetches.values_mut() {
            fetch.extend(peer, now + ANSWER_WITHIN);
        }
        let late = self.in_flight();
        let Phase::Leaves(leaves) = &mut self.fetches.get_mut(blob)?.phase else { return None };
        let asked = leaves.asked.get(&index).is_some_and(|(asked, _)| asked == peer);
        if asked {
            leaves.asked.remove(&index);
        } else if late >= LATE_MAX || !leaves.missing.remove(&index) {
            // It was asked of somebody else meanwhile, or never.
            return None;
        }
        leaves.storing.insert(index);
        leaves.digests.get(index as usize).copied()
    }

    pub(super) fn handle_stored(&mut self, peer: &PeerId, blob: &BlobId, index: u32, stored: Stored, now: Instant) {
        if let (Stored::Complete | Stored::Partial, Some(peer)) = (stored, self.peers.get_mut(peer)) {
            peer.window = (peer.window + 1).min(WINDOW_MAX);
            peer.failures = 0;
        }
        let Some(fetch) = self.fetches.get_mut(blob) else { return };
        let Phase::Leaves(leaves) = &mut fetch.phase else { return };
        leaves.storing.remove(&index);
        match stored {
            Stored::Complete => drop(self.fetches.remove(blob)),
            Stored::Partial => {
                fetch.without.remove(peer);
                fetch.troubles = 0;
            }
            Stored::False => {
                leaves.missing.insert(index);
                fetch.without.insert(peer.clone(), (0, now + ANSWER_WITHIN));
            }
            Stored::Gone => {
                fetch.phase = Phase::Preparing;
                let (len, whole) = (fetch.len, fetch.background);
                self.outputs.push_back(Output::Prepare { blob: *blob, len, whole });
            }
        }
    }

    /// A peer has not got a leaf, or nothing of the blob.
    pub(super) fn handle_none(
        &mut self,
        peer: &PeerId,
        blob: &BlobId,
        index: u32,
        now: Instant,
        rng: &mut ChaCha20Rng,
    ) {
        let Some(fetch) = self.fetches.get_mut(blob) else { return };
        match &mut fetch.phase {
            Phase::Manifest { asked, .. } => {
                asked.take_if(|(asked, _)| asked == peer);
            }
            Phase::Leaves(leaves) => {
                if leaves.asked.get(&index).is_some_and(|(asked, _)| asked == peer) {
                    leaves.asked.remove(&index);
                    leaves.missing.insert(index);
                }
            }
            Phase::Preparing | Phase::Checking => {}
        }
        put_off(fetch, peer, now, rng);
    }

    /// Gives up what is overdue.
    pub(super) fn handle_timeout(&mut self, now: Instant, rng: &mut ChaCha20Rng) {
        for (blob, fetch) in &mut self.fetches {
            let late: Vec<_> = fetch.asked().filter(|(_, at)| *at <= now).map(|(peer, _)| peer.clone()).collect();
            for peer in late {
                fetch.forget(&peer);
                put_off(fetch, &peer, now, rng);
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.window = 1;
                    peer.failures = peer.failures.saturating_add(1).min(PATIENCE_DOUBLINGS);
                }
            }
            if fetch.trouble.take_if(|trouble| trouble.until <= now).is_some() {
                let (blob, len, whole) = (*blob, fetch.len, fetch.background);
                self.outputs.push_back(Output::Prepare { blob, len, whole });
            }
        }
        self.give_up(now);
    }

    /// Tells those who wait for what no connected peer has; drops what nobody waits for.
    fn give_up(&mut self, now: Instant) {
        let peers = &self.peers;
        let outputs = &mut self.outputs;
        self.fetches.retain(|blob, fetch| {
            let stuck =
                fetch.next().is_some() && fetch.in_flight() == 0 && !peers.keys().any(|peer| fetch.may_ask(peer, now));
            if !stuck {
                fetch.give_up_at = None;
            } else if fetch.readers.is_empty() {
                return false;
            } else if *fetch.give_up_at.get_or_insert(now + READER_PATIENCE) <= now {
                outputs.push_back(Output::Fail { blob: *blob, reason: "nobody connected has it" });
                fetch.readers.clear();
                fetch.give_up_at = None;
            }
            fetch.is_wanted()
        });
    }

    /// Returns when [`Self::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let of = |fetch: &Fetch| {
            let asked = fetch.asked().map(|(_, at)| *at).min();
            let again = fetch.without.values().map(|(_, at)| *at).filter(|at| *at > now).min();
            let trouble = fetch.trouble.map(|trouble| trouble.until);
            [asked, again, trouble, fetch.give_up_at].into_iter().flatten().min()
        };
        self.fetches.values().filter_map(of).min()
    }

    /// Returns what to do, in order.
    pub(super) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns what may be asked now.
    pub(super) fn find(&self, now: Instant) -> Option<Ask> {
        let mut busy: BTreeMap<&PeerId, usize> = self.peers.keys().map(|peer| (peer, 0)).collect();
        for (peer, _) in self.fetches.values().flat_map(Fetch::asked) {
            *busy.entry(peer).or_default() += 1;
        }
        let after = self.turn.map_or(Bound::Unbounded, Bound::Excluded);
        let until = self.turn.map_or(Bound::Excluded(BlobId::Raw([0; 32])), Bound::Included);
        let around =
            || self.fetches.range((after, Bound::Unbounded)).chain(self.fetches.range((Bound::Unbounded, until)));
        let ask = |(blob, fetch): (&BlobId, &Fetch)| {
            let what = fetch.next()?;
            let window = |peer: &PeerId| self.peers.get(peer).map_or(0, |peer| peer.window);
            let free = busy.iter().filter(|(peer, count)| **count < window(peer) && fetch.may_ask(peer, now));
            // The least busy peer first, so that several share the work.
            let (peer, _) = free.min_by_key(|(_, count)| **count)?;
            Some(Ask { peer: (*peer).clone(), blob: *blob, what })
        };
        let urgent = || around().filter(|(_, fetch)| !fetch.readers.is_empty()).find_map(ask);
        if self.asks % 4 == 3 { around().find_map(ask) } else { urgent().or_else(|| around().find_map(ask)) }
    }

    /// Notes that it was asked.
    pub(super) fn handle_asked(&mut self, ask: &Ask, now: Instant) {
        let failures = self.peers.get(&ask.peer).map_or(0, |peer| peer.failures);
        let until = now + ANSWER_WITHIN * 2u32.pow(failures.min(PATIENCE_DOUBLINGS));
        if let Some(fetch) = self.fetches.get_mut(&ask.blob) {
            fetch.ask(ask.what, ask.peer.clone(), until);
        }
        self.turn = Some(ask.blob);
        self.asks = self.asks.wrapping_add(1);
    }

    /// Returns how much is asked for or held in memory: leaves and lists of digests.
    pub(super) fn in_flight(&self) -> usize {
        self.fetches.values().map(Fetch::in_flight).sum()
    }

    pub(super) fn len(&self) -> usize {
        self.fetches.len()
    }

    /// Returns how many blobs are wanted whole.
    pub(super) fn background(&self) -> usize {
        self.fetches.values().filter(|fetch| fetch.background).count()
    }

    pub(super) fn has_peers(&self) -> bool {
        !self.peers.is_empty()
    }

    /// Returns the blobs on their way, with how many peers are asked and what is wrong.
    pub(super) fn report(&self) -> impl Iterator<Item = (BlobId, usize, Option<&'static str>)> {
        self.fetches.iter().map(|(blob, fetch)| {
            let peers: std::collections::BTreeSet<_> = fetch.asked().map(|(peer, _)| peer).collect();
            (*blob, peers.len(), fetch.trouble.map(|trouble| trouble.reason))
        })
    }
}

fn put_off(fetch: &mut Fetch, peer: &PeerId, now: Instant, rng: &mut ChaCha20Rng) {
    let failures = fetch.without.get(peer).map_or(0, |(failures, _)| failures.saturating_add(1));
    fetch.without.insert(peer.clone(), (failures, now + backoff(failures, rng)));
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
