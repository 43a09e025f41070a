//! One envelope that is wanted, and what each peer said of it.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;
use walytis_core::id::PeerId;

use crate::exchange::runs::Runs;

/// Runs of parts that are passed over to find one that only whole holders have. Chosen: bounds what a request costs.
const LEAPS_MAX: usize = 64;

/// An envelope on its way in.
#[derive(Debug)]
pub(super) struct Want {
    /// When something of it came last, or it was wanted.
    pub(super) moved_at: Instant,
    pub(super) holders: BTreeMap<PeerId, Holder>,
    /// What those have that have not got all of it.
    partial: BTreeMap<PeerId, Runs>,
    /// Whether the manifest is here: then the parts are its chunks, else part 0 alone.
    known: bool,
    /// Parts that are neither here nor asked for nor being stored.
    gaps: BTreeSet<u32>,
    /// Where whole holders are asked from, in a circle. Members that begin at different places have something for each
    /// other soon.
    start: u32,
    asked: BTreeMap<u32, PeerId>,
    storing: BTreeSet<u32>,
    /// Peers that may still say yes, or did.
    pub(super) hopeful: usize,
    pub(super) unavailable: bool,
}

/// What a peer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) state: HolderState,
    pub(super) failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HolderState {
    /// Not asked yet.
    Fresh,
    /// Asked; late at the time named.
    Asked(Instant),
    /// It has it, or some parts that are missing here.
    Has,
    /// It has some of it, and nothing that is missing here; asked again at the time named.
    Drained(Instant),
    /// It said no, failed or was late; asked again at the time named.
    NotUntil(Instant),
}

impl HolderState {
    /// When something must be done about it.
    pub(super) const fn due(self) -> Option<Instant> {
        match self {
            Self::Asked(at) | Self::NotUntil(at) | Self::Drained(at) => Some(at),
            Self::Fresh | Self::Has => None,
        }
    }

    pub(super) const fn is_hopeful(self) -> bool {
        !matches!(self, Self::NotUntil(_))
    }
}

impl Want {
    /// `have`: one flag per chunk if the manifest is here. `chance` says where to begin.
    pub(super) fn new(have: Option<&[bool]>, chance: u64, now: Instant) -> Self {
        let mut want = Self {
            moved_at: now,
            holders: BTreeMap::new(),
            partial: BTreeMap::new(),
            known: false,
            gaps: BTreeSet::from([0]),
            start: 0,
            asked: BTreeMap::new(),
            storing: BTreeSet::new(),
            hopeful: 0,
            unavailable: false,
        };
        if let Some(have) = have {
            want.learn(have, chance, now);
        }
        want
    }

    /// The manifest is here, with these chunks.
    pub(super) fn learn(&mut self, have: &[bool], chance: u64, now: Instant) {
        self.known = true;
        self.moved_at = now;
        self.storing.remove(&0);
        let chunks = u64::try_from(have.len()).unwrap_or(u64::MAX).max(1);
        self.start = u32::try_from(chance % chunks).unwrap_or_default().saturating_add(1);
        self.gaps = (1_u32..).zip(have).filter(|(_, here)| !**here).map(|(part, _)| part).collect();
    }

    pub(super) fn is_complete(&self) -> bool {
        self.known && self.gaps.is_empty() && self.asked.is_empty() && self.storing.is_empty()
    }

    pub(super) fn has_gaps(&self) -> bool {
        !self.gaps.is_empty()
    }

    /// A peer is gone.
    pub(super) fn remove_holder(&mut self, peer: &PeerId) -> Option<Holder> {
        self.partial.remove(peer);
        self.holders.remove(peer)
    }

    /// Sets what a peer has: these parts, or all.
    pub(super) fn tell(&mut self, peer: &PeerId, parts: Option<Runs>) {
        match parts {
            Some(parts) => drop(self.partial.insert(peer.clone(), parts)),
            None => drop(self.partial.remove(peer)),
        }
    }

    pub(super) fn is_partial(&self, peer: &PeerId) -> bool {
        self.partial.contains_key(peer)
    }

    /// Says whether a peer that has some or all of it has a part that is missing here.
    pub(super) fn has_gap_for(&self, peer: &PeerId) -> bool {
        match self.partial.get(peer) {
            // Whoever has some has the manifest.
            Some(runs) if self.known => runs.first_of(&self.gaps).is_some(),
            _ => !self.gaps.is_empty(),
        }
    }

    /// Takes the next part to ask `peer` for.
    pub(super) fn ask(&mut self, peer: &PeerId) -> Option<u32> {
        let part = match self.partial.get(peer) {
            Some(runs) if self.known => runs.first_of(&self.gaps),
            _ => self.rare_gap(),
        }?;
        self.gaps.remove(&part);
        self.asked.insert(part, peer.clone());
        Some(part)
    }

    /// The next part that none of the others is known to have: who has all of it is asked for that first.
    fn rare_gap(&self) -> Option<u32> {
        let mut at = self.start;
        for _ in 0..LEAPS_MAX {
            let gap = self.next_gap(at)?;
            let end = self.partial.values().filter_map(|runs| runs.end_of(gap)).max();
            match end {
                None => return Some(gap),
                Some(end) => at = end,
            }
        }
        self.next_gap(self.start)
    }

    /// The first gap from a place on, in a circle.
    fn next_gap(&self, at: u32) -> Option<u32> {
        self.gaps.range(at..).next().or_else(|| self.gaps.first()).copied()
    }

    pub(super) fn expects(&self, peer: &PeerId, part: u32) -> bool {
        self.asked.get(&part) == Some(peer)
    }

    /// A part has come and is being stored.
    pub(super) fn store(&mut self, part: u32) {
        self.asked.remove(&part);
        self.storing.insert(part);
    }

    pub(super) fn stored(&mut self, part: u32, now: Instant) {
        self.moved_at = now;
        self.storing.remove(&part);
    }

    /// A part did not come, or not right: it is missing again.
    pub(super) fn miss(&mut self, part: u32) {
        let was_under_way = self.asked.remove(&part).is_some() | self.storing.remove(&part);
        if was_under_way {
            self.gaps.insert(part);
        }
    }

    /// Parts asked for and being stored.
    pub(super) fn in_flight(&self) -> usize {
        self.asked.len() + self.storing.len()
    }

    pub(super) fn asked(&self) -> impl Iterator<Item = (u32, &PeerId)> {
        self.asked.iter().map(|(part, peer)| (*part, peer))
    }
}
