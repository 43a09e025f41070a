//! The pure parts of the block graph: no I/O, no clock, no tasks.
//!
//! What needs nodes from a store is written as a *pull-driven* walk: the caller asks `needs()`, loads those nodes, hands
//! them to `supply()`, and repeats until there is an outcome. So the same code runs over a store, in memory and in a
//! simulation.
//!
//! | type | answers |
//! |---|---|
//! | [`Heads`] | which blocks have no children; the parents of the next block |
//! | [`PendingBlocks`] | which blocks wait for ancestors; what to ask for |
//! | [`WaitingBlocks`] | which blocks wait for the admission policy |
//! | [`AntichainCheck`] | rule V-BLOCK-15 |
//! | [`ParentChoice`] | which heads can be the parents of one block |
//! | [`Difference`] | which blocks somebody lacks |
//! | [`BlockGraph`] | all of it in memory: the oracle of tests |

mod antichain;
mod difference;
mod heads;
mod memory;
mod parents;
mod pending;
mod waiting;

#[cfg(test)]
mod tests;

pub use antichain::{Antichain, AntichainCheck};
pub use difference::{Difference, DifferencePage};
pub use heads::Heads;
pub use memory::{BlockGraph, Inserted};
pub use parents::{ChosenParents, ParentChoice};
pub use pending::{Hold, PendingBlock, PendingBlocks, PendingLimits};
pub use waiting::{WaitingBlock, WaitingBlocks};

use crate::block::{Block, Rule, RuleViolation};
use crate::id::BlockId;

/// What the graph knows of an admitted block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphNode {
    /// 0 for genesis, otherwise 1 + the largest parent generation.
    pub generation: u64,
    /// Parents, ascending; none for genesis.
    pub parents: Vec<BlockId>,
}

impl GraphNode {
    /// Returns the node of a block.
    pub fn of(block: &Block) -> Self {
        Self { generation: block.header().generation, parents: block.header().parents.clone() }
    }
}

/// The place of a block in canonical order: by generation, then id. The same on every replica; parents come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CanonicalKey {
    /// Generation.
    pub generation: u64,
    /// Id.
    pub id: BlockId,
}

impl CanonicalKey {
    /// Returns the place of a block.
    pub const fn of(block: &Block) -> Self {
        Self { generation: block.header().generation, id: block.id() }
    }
}

/// Returns the generation of a block whose parents have these generations: 0 without parents, nothing where it would
/// not fit 64 bits.
pub fn generation_after(parents: impl IntoIterator<Item = u64>) -> Option<u64> {
    match parents.into_iter().max() {
        None => Some(0),
        Some(largest) => largest.checked_add(1),
    }
}

/// Checks rule V-BLOCK-08 against the generations of all parents of `block`.
///
/// # Errors
/// [`RuleViolation`] with [`Rule::Generation`].
pub fn check_generation(block: &Block, parents: impl IntoIterator<Item = u64>) -> Result<(), RuleViolation> {
    if generation_after(parents) == Some(block.header().generation) {
        Ok(())
    } else {
        Err(RuleViolation { rule: Rule::Generation, block: block.id() })
    }
}
