//! What is told of blocks and their versions.

use walytis_core::id::BlockId;
use walytis_core::ledger::{Author, BlockInfo, BlockState, PageCursor};
use walytis_core::topic::Topic;

use crate::op::Act;

/// A block as it stands now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current {
    /// Id, place, author and time of the original; topics, size and state of the version that is shown. Of a deleted
    /// block all of it is the original's.
    pub info: BlockInfo,
    /// The version that stands for the block: the original's id if nobody changed it.
    pub version: BlockId,
    /// Versions that count, the original among them.
    pub versions: u64,
    /// Versions beside the current one that no later version took into account.
    pub conflicts: u64,
    /// Whether it is deleted.
    pub deleted: bool,
}

/// One page of blocks as they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CurrentPage {
    /// The blocks, in the order of the query.
    pub blocks: Vec<Current>,
    /// Where the next page begins; nothing at the end.
    pub next: Option<PageCursor>,
}

/// One version of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its id: the id of its block.
    pub id: BlockId,
    /// What it did; nothing for the original.
    pub act: Option<Act>,
    /// Who wrote it.
    pub author: Author,
    /// What the author's clock showed, milliseconds since the Unix epoch; informative only.
    pub created_at_ms: i64,
    /// 0 for a chain's first block, otherwise 1 + the largest parent generation.
    pub generation: u64,
    /// Topics of what it shows.
    pub topics: Vec<Topic>,
    /// Bytes of what it shows; 0 for a deletion.
    pub size: u64,
    /// State of the content it shows.
    pub state: BlockState,
    /// The versions that its author knew to be heads; empty for the original.
    pub supersedes: Vec<BlockId>,
    /// Whether no later version took it into account.
    pub head: bool,
    /// Whether it stands for the block.
    pub current: bool,
}

/// What came of erasing a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erased {
    /// The block, deleted.
    pub current: Current,
    /// Whether the ledger below was asked to forget the contents. If not, it cannot forget: the history stays.
    pub forgetting: bool,
    /// The blocks whose contents are, or would have been, forgotten.
    pub blocks: Vec<BlockId>,
}
