//! Blocks without children.

use std::collections::{BTreeMap, BTreeSet};

use super::CanonicalKey;
use crate::id::BlockId;
use crate::limits::PARENTS_MAX;

/// The heads of a chain, kept incrementally: inserting costs the number of parents, never the length of the chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heads {
    ordered: BTreeSet<CanonicalKey>,
    generations: BTreeMap<BlockId, u64>,
}

impl Heads {
    /// Inserts an admitted block and removes its parents. Blocks come parents first and each once: a block that already
    /// has children would wrongly become a head again.
    pub fn insert(&mut self, id: BlockId, generation: u64, parents: &[BlockId]) {
        for parent in parents {
            if let Some(generation) = self.generations.remove(parent) {
                self.ordered.remove(&CanonicalKey { generation, id: *parent });
            }
        }
        if self.generations.insert(id, generation).is_none() {
            self.ordered.insert(CanonicalKey { generation, id });
        }
    }

    /// Returns the parents of the next block, ascending by id: at most [`PARENTS_MAX`] heads, the oldest first, so that
    /// no head is left behind for ever. Heads are never ancestors of one another.
    pub fn choose_parents(&self) -> Vec<BlockId> {
        let mut parents: Vec<_> = self.ordered.iter().take(PARENTS_MAX).map(|key| key.id).collect();
        parents.sort_unstable();
        parents
    }

    /// Returns the ids, ascending.
    pub fn ids(&self) -> Vec<BlockId> {
        self.generations.keys().copied().collect()
    }

    /// Returns the heads in canonical order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = CanonicalKey> + '_ {
        self.ordered.iter().copied()
    }

    /// Says whether the block is a head.
    pub fn contains(&self, id: &BlockId) -> bool {
        self.generations.contains_key(id)
    }

    /// Returns the largest generation of the chain, 0 while it is empty.
    pub fn generation(&self) -> u64 {
        self.ordered.last().map_or(0, |key| key.generation)
    }

    /// Returns how many heads there are.
    pub fn len(&self) -> usize {
        self.generations.len()
    }

    /// Says whether there is no block at all.
    pub fn is_empty(&self) -> bool {
        self.generations.is_empty()
    }
}

/// Rebuilds the heads from what was stored: every key is a head.
impl FromIterator<CanonicalKey> for Heads {
    fn from_iter<T: IntoIterator<Item = CanonicalKey>>(keys: T) -> Self {
        let mut heads = Self::default();
        keys.into_iter().for_each(|key| heads.insert(key.id, key.generation, &[]));
        heads
    }
}
