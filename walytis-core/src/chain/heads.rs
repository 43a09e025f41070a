//! The blocks without children.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::BlockId;

/// Heads by id, age and generation. Costs of a change do not depend on the length of the chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Heads {
    by_id: BTreeMap<BlockId, (u64, u64)>,
    /// Those that may become parents of own blocks.
    by_arrival: BTreeSet<(u64, BlockId)>,
    by_generation: BTreeSet<(u64, BlockId)>,
}

impl Heads {
    pub(super) fn insert(&mut self, id: BlockId, generation: u64, arrival: u64) {
        self.by_id.insert(id, (generation, arrival));
        self.by_arrival.insert((arrival, id));
        self.by_generation.insert((generation, id));
    }

    /// Removes a head; returns its generation and arrival number if it was one.
    pub(super) fn remove(&mut self, id: &BlockId) -> Option<(u64, u64)> {
        let (generation, arrival) = self.by_id.remove(id)?;
        self.by_arrival.remove(&(arrival, *id));
        self.by_generation.remove(&(generation, *id));
        Some((generation, arrival))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Returns the heads, ascending.
    pub(super) fn ids(&self) -> Vec<BlockId> {
        self.by_id.keys().copied().collect()
    }

    /// Returns candidates for the parents of the next block, at most `max`: the highest head, so that generations grow
    /// and own blocks follow each other, and the oldest that were not set aside.
    pub(super) fn candidates(&self, max: usize) -> Vec<BlockId> {
        let highest = self.by_generation.last().map(|(_, id)| *id);
        let oldest = self.by_arrival.iter().map(|(_, id)| *id).filter(|id| Some(*id) != highest);
        highest.into_iter().chain(oldest).take(max).collect()
    }

    /// Makes a head no candidate any more, until the chain is opened again: it stays a head.
    pub(super) fn set_aside(&mut self, id: &BlockId) {
        if let Some((_, arrival)) = self.by_id.get(id) {
            self.by_arrival.remove(&(*arrival, *id));
        }
    }

    /// Returns the heads with their generations and arrival numbers, ascending.
    pub(super) fn places(&self) -> impl Iterator<Item = (BlockId, u64, u64)> + '_ {
        self.by_id.iter().map(|(id, (generation, arrival))| (*id, *generation, *arrival))
    }
}
