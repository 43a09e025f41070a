//! Which heads can be the parents of one block: the writer's side of rule V-BLOCK-15.

use std::collections::{BTreeMap, BTreeSet};

use super::GraphNode;
use crate::id::BlockId;
use crate::limits::ANTICHAIN_VISITS_MAX;

/// Heads sorted into those that can stand beside each other as parents and those that cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenParents {
    /// Parents, ascending: their block passes the antichain check.
    pub parents: Vec<BlockId>,
    /// The others, ascending: so far below the rest that the check would exceed its budget. As the chain grows, the
    /// distance only does too.
    pub left_out: Vec<BlockId>,
}

/// The choice as a pull-driven walk down from the highest candidate.
///
/// The visits of the antichain check depend on the lowest parent alone, and a lower one only adds visits. So one walk,
/// highest generation first, finds how far down parents may reach: it never costs more than the budget of one check.
#[derive(Clone, Debug)]
pub struct ParentChoice {
    candidates: BTreeMap<BlockId, u64>,
    /// Generations of candidates that are not decided yet; the last is the highest.
    levels: BTreeSet<u64>,
    /// Nodes that are known and not expanded, by generation.
    frontier: BTreeMap<(u64, BlockId), Vec<BlockId>>,
    visited: BTreeSet<BlockId>,
    needs: BTreeSet<BlockId>,
    redundant: BTreeSet<BlockId>,
    top: u64,
    lowest: u64,
    budget: usize,
    done: bool,
}

impl ParentChoice {
    /// Begins a choice among heads.
    pub fn new(heads: &BTreeMap<BlockId, GraphNode>) -> Self {
        Self::with_budget(heads, ANTICHAIN_VISITS_MAX)
    }

    pub(super) fn with_budget(heads: &BTreeMap<BlockId, GraphNode>, budget: usize) -> Self {
        let mut levels: BTreeSet<u64> = heads.values().map(|node| node.generation).collect();
        // The highest may always be a parent.
        let top = levels.pop_last().unwrap_or(0);
        let mut choice = Self {
            candidates: heads.iter().map(|(id, node)| (*id, node.generation)).collect(),
            levels,
            frontier: heads.iter().map(|(id, node)| ((node.generation, *id), node.parents.clone())).collect(),
            visited: BTreeSet::new(),
            needs: BTreeSet::new(),
            redundant: BTreeSet::new(),
            top,
            lowest: top,
            budget,
            done: false,
        };
        choice.advance();
        choice
    }

    /// Returns the nodes to load next, ascending; empty when the choice is made.
    pub fn needs(&self) -> Vec<BlockId> {
        if self.done { Vec::new() } else { self.needs.iter().copied().collect() }
    }

    /// Takes a node that was asked for; anything else is ignored.
    pub fn supply(&mut self, id: &BlockId, node: &GraphNode) {
        if self.needs.remove(id) {
            self.frontier.insert((node.generation, *id), node.parents.clone());
            self.advance();
        }
    }

    /// Returns the choice once it is made.
    pub fn outcome(&self) -> Option<ChosenParents> {
        if !self.done {
            return None;
        }
        let fits = |(id, generation): &(&BlockId, &u64)| **generation >= self.lowest && !self.redundant.contains(*id);
        let (parents, left_out): (Vec<_>, Vec<_>) = self.candidates.iter().partition(fits);
        let ids = |pairs: Vec<(&BlockId, &u64)>| pairs.into_iter().map(|(id, _)| *id).collect();
        Some(ChosenParents { parents: ids(parents), left_out: ids(left_out) })
    }

    /// Goes on as far as the loaded nodes allow.
    fn advance(&mut self) {
        while !self.done && self.needs.is_empty() {
            let Some(level) = self.levels.last().copied() else {
                self.done = true;
                return;
            };
            // Each generation between costs at least one visit.
            let near = usize::try_from(self.top - level).is_ok_and(|far| far <= self.budget);
            let next =
                self.frontier.last_key_value().map(|(key, _)| *key).filter(|(generation, _)| *generation > level);
            match next.and_then(|key| self.frontier.remove(&key)) {
                _ if !near => self.done = true,
                Some(parents) => self.expand(&parents),
                None => {
                    self.levels.remove(&level);
                    self.lowest = level;
                }
            }
        }
    }

    fn expand(&mut self, parents: &[BlockId]) {
        for id in parents {
            if self.candidates.contains_key(id) {
                // A head has no children; whatever has one is no head and is left out.
                self.redundant.insert(*id);
            } else if self.visited.insert(*id) {
                self.needs.insert(*id);
            }
        }
        self.done = self.visited.len() > self.budget;
    }
}
