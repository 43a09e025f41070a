//! Rule V-BLOCK-15: no parent of a block is an ancestor of another.

use std::collections::{BTreeMap, BTreeSet};

use super::GraphNode;
use crate::block::{Rule, RuleViolation};
use crate::id::BlockId;
use crate::limits::ANTICHAIN_VISITS_MAX;

/// How the check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Antichain {
    /// No parent is an ancestor of another.
    Holds,
    /// This parent is an ancestor of another one.
    Redundant(BlockId),
    /// It cannot be seen within the budget.
    OverBudget,
}

impl Antichain {
    /// Turns anything but [`Antichain::Holds`] into a violation by `block`.
    ///
    /// # Errors
    /// [`RuleViolation`] with [`Rule::Antichain`].
    pub const fn into_result(self, block: BlockId) -> Result<(), RuleViolation> {
        match self {
            Self::Holds => Ok(()),
            Self::Redundant(_) | Self::OverBudget => Err(RuleViolation { rule: Rule::Antichain, block }),
        }
    }
}

/// The check as a pull-driven walk down from the parents.
///
/// Let *g* be the lowest generation of a parent. Expanded are all parents and ancestors of parents above *g*; visited is
/// the set of parents of what was expanded. The rule holds when no parent of the block was visited and at most
/// [`ANTICHAIN_VISITS_MAX`] distinct nodes were. Both sets depend on the graph alone, and whichever of the two failures
/// is seen first, the block is rejected: so every replica comes to the same verdict, in whatever order, batches or
/// caches it loads the nodes.
#[derive(Clone, Debug)]
pub struct AntichainCheck {
    parents: BTreeSet<BlockId>,
    lowest: u64,
    visited: BTreeSet<BlockId>,
    needs: BTreeSet<BlockId>,
    budget: usize,
    failed: Option<Antichain>,
}

impl AntichainCheck {
    /// Begins the check of a block with these admitted parents. Done at once for one parent, or when all parents have
    /// the same generation.
    pub fn new(parents: &BTreeMap<BlockId, GraphNode>) -> Self {
        Self::with_budget(parents, ANTICHAIN_VISITS_MAX)
    }

    pub(super) fn with_budget(parents: &BTreeMap<BlockId, GraphNode>, budget: usize) -> Self {
        let mut check = Self {
            parents: parents.keys().copied().collect(),
            lowest: parents.values().map(|node| node.generation).min().unwrap_or(0),
            visited: BTreeSet::new(),
            needs: BTreeSet::new(),
            budget,
            failed: None,
        };
        parents.values().for_each(|node| check.expand(node));
        check
    }

    /// Returns the nodes to load next, ascending; empty when there is an outcome. At most the budget and a block's
    /// parents more.
    pub fn needs(&self) -> Vec<BlockId> {
        if self.failed.is_some() { Vec::new() } else { self.needs.iter().copied().collect() }
    }

    /// Takes a node that was asked for; anything else is ignored.
    pub fn supply(&mut self, id: &BlockId, node: &GraphNode) {
        if self.needs.remove(id) {
            self.expand(node);
        }
    }

    /// Returns the outcome once there is one.
    pub fn outcome(&self) -> Option<Antichain> {
        self.failed.or_else(|| self.needs.is_empty().then_some(Antichain::Holds))
    }

    fn expand(&mut self, node: &GraphNode) {
        if node.generation <= self.lowest || self.failed.is_some() {
            return;
        }
        for id in &node.parents {
            if self.parents.contains(id) {
                self.failed = Some(Antichain::Redundant(*id));
                return;
            }
            if self.visited.insert(*id) {
                self.needs.insert(*id);
            }
        }
        if self.visited.len() > self.budget {
            self.failed = Some(Antichain::OverBudget);
        }
    }
}
