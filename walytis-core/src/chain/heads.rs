//! The blocks without children.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::BlockId;

/// Heads by id and by age. Costs of a change do not depend on the length of the chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Heads {
    by_id: BTreeMap<BlockId, (u64, u64)>,
    by_arrival: BTreeSet<(u64, BlockId)>,
}

impl Heads {
    pub(super) fn insert(&mut self, id: BlockId, generation: u64, arrival: u64) {
        self.by_id.insert(id, (generation, arrival));
        self.by_arrival.insert((arrival, id));
    }

    /// Removes a head; returns its generation and arrival number if it was one.
    pub(super) fn remove(&mut self, id: &BlockId) -> Option<(u64, u64)> {
        let (generation, arrival) = self.by_id.remove(id)?;
        self.by_arrival.remove(&(arrival, *id));
        Some((generation, arrival))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Returns the heads, ascending.
    pub(super) fn ids(&self) -> Vec<BlockId> {
        self.by_id.keys().copied().collect()
    }

    /// Returns the heads with their generations, oldest first.
    pub(super) fn oldest(&self) -> impl Iterator<Item = (BlockId, u64)> + '_ {
        self.by_arrival.iter().filter_map(|(_, id)| self.by_id.get(id).map(|(generation, _)| (*id, *generation)))
    }
}
