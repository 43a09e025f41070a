//! What a ledger shows of a block, and what is added to it.

use std::fmt;

use bytes::Bytes;
use tokio::io::AsyncRead;

use crate::id::BlockId;
use crate::key::PublicKey;
use crate::topic::Topic;

/// A position in arrival order: the number of blocks admitted up to and including one. 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor(pub u64);

/// Who wrote a block, as an opaque id: the creator key on plain chains, a controller on overlays that know identities.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Author(pub Box<str>);

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What stands with a block's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockState {
    /// The content is here.
    Available,
    /// The content is wanted and not here yet.
    Wanted,
    /// Some of the content is here.
    Partial {
        /// Bytes here.
        bytes_done: u64,
        /// Bytes in all.
        bytes_total: u64,
    },
    /// Nobody reachable has the content.
    Unavailable,
    /// The content is here, the key is not yet.
    Locked,
    /// The content was destroyed on purpose.
    Forgotten,
    /// The block does not count, e.g. its author had been removed.
    Void {
        /// Why, with the rule's number.
        reason: &'static str,
    },
}

/// A block without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockInfo {
    /// Id.
    pub id: BlockId,
    /// 0 for genesis, otherwise 1 + the largest parent generation.
    pub generation: u64,
    /// Parents, ascending.
    pub parents: Vec<BlockId>,
    /// The key that signed it.
    pub creator: PublicKey,
    /// Who wrote it.
    pub author: Author,
    /// What the creator's clock showed, milliseconds since the Unix epoch; informative only.
    pub created_at_ms: i64,
    /// Topics; on private ledgers the opened ones.
    pub topics: Vec<Topic>,
    /// Bytes of content.
    pub size: u64,
    /// Place in this replica's arrival order.
    pub cursor: Cursor,
    /// State of the content.
    pub state: BlockState,
}

impl BlockInfo {
    /// Says whether an overlay added it for itself: it has a reserved topic.
    pub fn is_overlay(&self) -> bool {
        self.topics.iter().any(Topic::is_reserved)
    }
}

/// Content to be added.
pub enum Content {
    /// In memory.
    Bytes(Bytes),
    /// Streamed until its end; never held in memory as a whole.
    Reader(Box<dyn AsyncRead + Send + Unpin>),
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Content({} bytes)", bytes.len()),
            Self::Reader(_) => f.write_str("Content(reader)"),
        }
    }
}

impl<T: Into<Bytes>> From<T> for Content {
    fn from(bytes: T) -> Self {
        Self::Bytes(bytes.into())
    }
}

/// A block to be added.
#[derive(Debug)]
pub struct NewBlock {
    /// Content, may be empty.
    pub content: Content,
    /// At most 16, no duplicates.
    pub topics: Vec<Topic>,
}

/// Streams content.
pub type ContentReader = Box<dyn AsyncRead + Send + Unpin>;
