//! How far the contents of a ledger's blocks are.

use walytis_core::id::BlockId;
use walytis_core::ledger::{BlockInfo, BlockState};

use super::content_state::ContentState;

/// How far the content of a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockStatus {
    /// The block.
    pub id: BlockId,
    /// Where its content is.
    pub state: ContentState,
    /// Bytes of content that are here.
    pub bytes_done: u64,
    /// Bytes of content in all; an upper bound while the block's header cannot be opened.
    pub bytes_total: u64,
}

impl BlockStatus {
    /// Returns what stands with a block, or nothing for one that does not count.
    pub(super) fn of(info: &BlockInfo) -> Option<Self> {
        let (state, bytes_done, bytes_total) = match info.state {
            BlockState::Available => (ContentState::Available, info.size, info.size),
            BlockState::Locked => (ContentState::Locked, info.size, info.size),
            BlockState::Unavailable => (ContentState::Unavailable, 0, info.size),
            BlockState::Partial { bytes_done, bytes_total } => (ContentState::Partial, bytes_done, bytes_total),
            BlockState::Wanted => (ContentState::Wanted, 0, info.size),
            BlockState::Forgotten => (ContentState::Forgotten, 0, info.size),
            _ => return None,
        };
        Some(Self { id: info.id, state, bytes_done, bytes_total })
    }
}
