//! What one set of blocks has above another.

use std::collections::{BTreeMap, BTreeSet};

use super::{CanonicalKey, GraphNode};
use crate::id::BlockId;

/// Part of a difference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DifferencePage {
    /// Blocks in canonical order: parents first.
    pub blocks: Vec<CanonicalKey>,
    /// Whether there are more behind the last one.
    pub more: bool,
}

/// The blocks that are in `want` or ancestors of it, and neither in `have` nor ancestors of it: a pull-driven walk of
/// both frontiers down by generation. Its cost is the size of the difference (and of what `have` has above its lowest
/// block), not the length of the chain.
///
/// Children have larger generations than their parents, so that a node is judged only after everything above it; hence
/// no node is judged twice.
///
/// Every id must be known to the caller. Memory is bounded by the frontiers and `limit`: of a larger difference the
/// first `limit` blocks in canonical order are kept; to resume, walk again with [`Self::after`] the last one.
#[derive(Clone, Debug)]
pub struct Difference {
    after: Option<CanonicalKey>,
    limit: usize,
    /// Ids whose nodes were asked for; true: reached from `have`.
    needs: BTreeMap<BlockId, bool>,
    /// Loaded and not yet judged, by canonical key.
    frontier: BTreeMap<CanonicalKey, (bool, Vec<BlockId>)>,
    generations: BTreeMap<BlockId, u64>,
    /// How many entries of `needs` and `frontier` are not reached from `have`.
    open: usize,
    found: BTreeSet<CanonicalKey>,
    more: bool,
}

impl Difference {
    /// Begins the walk. `limit` is the most blocks a page may have, at least 1.
    pub fn new(want: impl IntoIterator<Item = BlockId>, have: impl IntoIterator<Item = BlockId>, limit: usize) -> Self {
        let mut walk = Self {
            after: None,
            limit: limit.max(1),
            needs: BTreeMap::new(),
            frontier: BTreeMap::new(),
            generations: BTreeMap::new(),
            open: 0,
            found: BTreeSet::new(),
            more: false,
        };
        have.into_iter().for_each(|id| walk.reach(id, true));
        want.into_iter().for_each(|id| walk.reach(id, false));
        walk
    }

    /// Keeps only blocks behind `last` in canonical order.
    #[must_use]
    pub const fn after(mut self, last: CanonicalKey) -> Self {
        self.after = Some(last);
        self
    }

    /// Returns the nodes to load next, ascending; empty when the page is ready.
    pub fn needs(&self) -> Vec<BlockId> {
        if self.open == 0 { Vec::new() } else { self.needs.keys().copied().collect() }
    }

    /// Takes a node that was asked for; anything else is ignored.
    pub fn supply(&mut self, id: &BlockId, node: &GraphNode) {
        let Some(have) = self.needs.remove(id) else { return };
        let key = CanonicalKey { generation: node.generation, id: *id };
        self.generations.insert(*id, node.generation);
        self.frontier.insert(key, (have, node.parents.clone()));
        self.advance();
    }

    /// Returns the page once nothing more is needed.
    pub fn page(&self) -> Option<DifferencePage> {
        (self.open == 0).then(|| DifferencePage { blocks: self.found.iter().copied().collect(), more: self.more })
    }

    /// Judges nodes from the highest down, as long as the highest one is certain: everything reached is loaded.
    fn advance(&mut self) {
        while self.needs.is_empty() && self.open > 0 {
            let Some((key, (have, parents))) = self.frontier.pop_last() else { return };
            self.generations.remove(&key.id);
            if !have {
                self.open -= 1;
                self.keep(key);
            }
            parents.into_iter().for_each(|parent| self.reach(parent, have));
        }
    }

    fn keep(&mut self, key: CanonicalKey) {
        if self.after.is_some_and(|after| key <= after) {
            return;
        }
        self.found.insert(key);
        if self.found.len() > self.limit {
            self.found.pop_last();
            self.more = true;
        }
    }

    fn reach(&mut self, id: BlockId, have: bool) {
        let loaded = self.generations.get(&id).map(|generation| CanonicalKey { generation: *generation, id });
        let mark = match loaded {
            Some(key) => self.frontier.get_mut(&key).map(|(mark, _)| mark),
            None => self.needs.get_mut(&id),
        };
        match mark {
            // Reached from `have` as well: no longer part of the difference.
            Some(mark) if have && !*mark => {
                *mark = true;
                self.open -= 1;
            }
            Some(_) => {}
            None => {
                self.needs.insert(id, have);
                self.open += usize::from(!have);
            }
        }
    }
}
