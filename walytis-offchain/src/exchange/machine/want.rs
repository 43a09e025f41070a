//! One envelope that is wanted, and what each peer said of it.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;
use walytis_core::id::PeerId;

/// An envelope on its way in.
#[derive(Debug, Default)]
pub(super) struct Want {
    pub(super) holders: BTreeMap<PeerId, Holder>,
    /// Whether the manifest is here: then the parts are its chunks, else part 0 alone.
    known: bool,
    /// Parts that are neither here nor asked for nor being stored.
    gaps: BTreeSet<u32>,
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
    /// It has it.
    Has,
    /// It said no, failed or was late; asked again at the time named.
    NotUntil(Instant),
}

impl HolderState {
    /// When something must be done about it.
    pub(super) const fn due(self) -> Option<Instant> {
        match self {
            Self::Asked(at) | Self::NotUntil(at) => Some(at),
            Self::Fresh | Self::Has => None,
        }
    }

    pub(super) const fn is_hopeful(self) -> bool {
        !matches!(self, Self::NotUntil(_))
    }
}

impl Want {
    /// `have`: one flag per chunk if the manifest is here.
    pub(super) fn new(have: Option<&[bool]>) -> Self {
        let mut want = Self::default();
        match have {
            Some(have) => want.learn(have),
            None => want.gaps = BTreeSet::from([0]),
        }
        want
    }

    /// The manifest is here, with these chunks.
    pub(super) fn learn(&mut self, have: &[bool]) {
        self.known = true;
        self.storing.remove(&0);
        self.gaps = (1_u32..).zip(have).filter(|(_, here)| !**here).map(|(part, _)| part).collect();
    }

    pub(super) fn is_complete(&self) -> bool {
        self.known && self.gaps.is_empty() && self.asked.is_empty() && self.storing.is_empty()
    }

    pub(super) fn has_gaps(&self) -> bool {
        !self.gaps.is_empty()
    }

    /// Takes the next part to ask `peer` for.
    pub(super) fn ask(&mut self, peer: &PeerId) -> Option<u32> {
        let part = self.gaps.pop_first()?;
        self.asked.insert(part, peer.clone());
        Some(part)
    }

    pub(super) fn expects(&self, peer: &PeerId, part: u32) -> bool {
        self.asked.get(&part) == Some(peer)
    }

    /// A part has come and is being stored.
    pub(super) fn store(&mut self, part: u32) {
        self.asked.remove(&part);
        self.storing.insert(part);
    }

    pub(super) fn stored(&mut self, part: u32) {
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
