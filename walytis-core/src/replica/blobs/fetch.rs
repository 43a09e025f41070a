//! One blob on its way: what is missing of it, what is asked of whom.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use tokio::time::Instant;

use crate::id::{BlobId, PeerId};
use crate::limits::BLOB_LEAF;

/// Leaves that are fetched ahead of a reader, where nothing else wants them. Chosen: some windows of a fast link.
const READ_AHEAD: u32 = 32;

/// The digests of a blob's leaves.
pub(super) type Digests = Arc<[[u8; 32]]>;

/// How far it is.
#[derive(Debug)]
pub(super) enum Phase {
    /// What is here is being looked up.
    Preparing,
    /// The digests are being fetched, in order.
    Manifest { digests: Vec<[u8; 32]>, asked: Option<(PeerId, Instant)> },
    /// They are being checked against the root.
    Checking,
    /// Leaves are being fetched.
    Leaves(Leaves),
}

/// Each leaf that is not here stands in exactly one of the sets.
#[derive(Debug)]
pub(super) struct Leaves {
    pub(super) digests: Digests,
    pub(super) missing: BTreeSet<u32>,
    pub(super) asked: BTreeMap<u32, (PeerId, Instant)>,
    /// Being verified and stored.
    pub(super) storing: BTreeSet<u32>,
}

/// What is asked of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Digests, from an index.
    Manifest { from: u32 },
    /// A leaf.
    Leaf { index: u32 },
}

/// Something that prevents storing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trouble {
    pub(super) reason: &'static str,
    pub(super) until: Instant,
}

#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) len: u64,
    /// Wanted whole.
    pub(super) background: bool,
    /// Leaves that readers still want, the next one first.
    pub(super) readers: BTreeMap<u64, Range<u32>>,
    pub(super) phase: Phase,
    /// Peers that did not have it or did not answer: how often, and when to ask them again.
    pub(super) without: BTreeMap<PeerId, (u32, Instant)>,
    pub(super) trouble: Option<Trouble>,
    pub(super) troubles: u32,
    /// When readers that wait hear that nobody has it.
    pub(super) give_up_at: Option<Instant>,
}

impl Fetch {
    pub(super) const fn new(len: u64) -> Self {
        Self {
            len,
            background: false,
            readers: BTreeMap::new(),
            phase: Phase::Preparing,
            without: BTreeMap::new(),
            trouble: None,
            troubles: 0,
            give_up_at: None,
        }
    }

    /// Returns the number of leaves.
    pub(super) fn count(&self) -> usize {
        usize::try_from(self.len.div_ceil(BLOB_LEAF as u64)).unwrap_or(usize::MAX)
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.background || !self.readers.is_empty()
    }

    /// Returns what to ask for next, if anything.
    pub(super) fn next(&self) -> Option<What> {
        if self.trouble.is_some() {
            return None;
        }
        match &self.phase {
            Phase::Preparing | Phase::Checking => None,
            Phase::Manifest { asked: Some(_), .. } => None,
            Phase::Manifest { digests, asked: None } => {
                Some(What::Manifest { from: u32::try_from(digests.len()).unwrap_or(u32::MAX) })
            }
            Phase::Leaves(leaves) => self.next_leaf(&leaves.missing).map(|index| What::Leaf { index }),
        }
    }

    /// What readers wait for comes first, nearest first; then the rest from the front.
    fn next_leaf(&self, missing: &BTreeSet<u32>) -> Option<u32> {
        let near = |range: &Range<u32>| {
            let end = range.end.min(range.start.saturating_add(READ_AHEAD));
            let next = *missing.range(range.start..end.max(range.start)).next()?;
            Some((next - range.start, next))
        };
        let urgent = self.readers.values().filter_map(near).min().map(|(_, index)| index);
        urgent.or_else(|| missing.first().copied().filter(|_| self.background))
    }

    /// Notes that a peer was asked.
    pub(super) fn ask(&mut self, what: What, peer: PeerId, until: Instant) {
        match (&mut self.phase, what) {
            (Phase::Manifest { asked, .. }, What::Manifest { .. }) => *asked = Some((peer, until)),
            (Phase::Leaves(leaves), What::Leaf { index }) => {
                leaves.missing.remove(&index);
                leaves.asked.insert(index, (peer, until));
            }
            _ => {}
        }
    }

    /// Returns who is asked for something, and until when an answer is waited for.
    pub(super) fn asked(&self) -> impl Iterator<Item = &(PeerId, Instant)> {
        let (manifest, leaves) = match &self.phase {
            Phase::Manifest { asked, .. } => (asked.as_ref(), None),
            Phase::Leaves(leaves) => (None, Some(leaves.asked.values())),
            _ => (None, None),
        };
        manifest.into_iter().chain(leaves.into_iter().flatten())
    }

    /// Gives a peer that answers more time for what else it was asked.
    pub(super) fn extend(&mut self, peer: &PeerId, until: Instant) {
        let (manifest, leaves) = match &mut self.phase {
            Phase::Manifest { asked, .. } => (asked.as_mut(), None),
            Phase::Leaves(leaves) => (None, Some(leaves.asked.values_mut())),
            _ => (None, None),
        };
        let all = manifest.into_iter().chain(leaves.into_iter().flatten());
        all.filter(|(asked, _)| asked == peer).for_each(|(_, at)| *at = (*at).max(until));
    }

    /// Returns how much of it is asked for or held in memory.
    pub(super) fn in_flight(&self) -> usize {
        match &self.phase {
            Phase::Preparing => 0,
            Phase::Manifest { asked, .. } => usize::from(asked.is_some()),
            Phase::Checking => 1,
            Phase::Leaves(leaves) => leaves.asked.len() + leaves.storing.len(),
        }
    }

    /// Says whether a peer may be asked now.
    pub(super) fn may_ask(&self, peer: &PeerId, now: Instant) -> bool {
        self.without.get(peer).is_none_or(|(_, until)| *until <= now)
    }

    /// Takes back what a peer was asked for.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        match &mut self.phase {
            Phase::Manifest { asked, .. } => {
                asked.take_if(|(asked, _)| asked == peer);
            }
            Phase::Leaves(Leaves { missing, asked, .. }) => {
                asked.retain(|index, (asked, _)| {
                    let theirs = asked == peer;
                    if theirs {
                        missing.insert(*index);
                    }
                    !theirs
                });
            }
            Phase::Preparing | Phase::Checking => {}
        }
    }
}

/// Returns the digests of a blob of one leaf: its id says them.
pub(super) fn single(blob: &BlobId) -> Option<Digests> {
    match blob {
        BlobId::Raw(digest) => Some([*digest].into()),
        BlobId::DagPb(_) => None,
    }
}
