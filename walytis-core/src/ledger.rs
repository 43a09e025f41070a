//! The interface of every block database: chains, and the overlays on them.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use thiserror::Error;
use tokio::io::AsyncRead;

use crate::fault::Fault;
use crate::id::{BlockId, ChainId};
use crate::key::PublicKey;
use crate::topic::{Topic, TopicError};

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

/// In which order a query returns blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By (generation, id): the same on every replica.
    #[default]
    Canonical,
    /// As this replica admitted them.
    Arrival,
}

/// Which blocks to return; the default is all, in canonical order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// At least one of these topics, if any is given.
    pub topics_any: Vec<Topic>,
    /// All of these topics.
    pub topics_all: Vec<Topic>,
    /// Signed by this key.
    pub creator: Option<PublicKey>,
    /// Created at or after this, by the creator's clock.
    pub since_ms: Option<i64>,
    /// Created before this, by the creator's clock.
    pub until_ms: Option<i64>,
    /// Of this generation or a later one.
    pub generation_from: Option<u64>,
    /// Of an earlier generation than this.
    pub generation_to: Option<u64>,
    /// Arrived after this position.
    pub after: Option<Cursor>,
    /// At most so many.
    pub limit: Option<usize>,
    /// Last first.
    pub reverse: bool,
    /// Order.
    pub order: Order,
    /// Also blocks that do not count.
    pub include_void: bool,
}

/// Where a subscription begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubscribeFrom {
    /// A durable subscriber of this name (1..=64 bytes): continues behind what it acknowledged last, at first from the
    /// beginning.
    Name(String),
    /// Behind this position, not durable.
    Cursor(Cursor),
    /// With the next block, not durable.
    Now,
}

/// Something a subscriber is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LedgerEvent {
    /// A block was admitted (on private ledgers: its content can be read).
    Block(BlockInfo),
    /// A block that was shown no longer counts.
    Retracted {
        /// The block.
        id: BlockId,
        /// Position of the event in the stream.
        cursor: Cursor,
    },
}

impl LedgerEvent {
    /// Returns the position to acknowledge.
    pub const fn cursor(&self) -> Cursor {
        match self {
            Self::Block(info) => info.cursor,
            Self::Retracted { cursor, .. } => *cursor,
        }
    }
}

/// A stream of events: arrival order, parents first. Nothing is skipped; a slow subscriber reads from the store.
#[async_trait]
pub trait Subscription: Send + fmt::Debug {
    /// Waits for the next event; nothing once the ledger is shut down. Cancel-safe.
    ///
    /// # Errors
    /// [`LedgerError`] when the store fails; the next call tries the same event again.
    async fn next(&mut self) -> Result<Option<LedgerEvent>, LedgerError>;

    /// Acknowledges everything up to `cursor`; a named subscriber continues behind it after a restart.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn ack(&mut self, cursor: Cursor) -> Result<(), LedgerError>;
}

/// How a ledger is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerStatus {
    /// Admitted blocks.
    pub blocks: u64,
    /// Heads.
    pub heads: Vec<BlockId>,
    /// Blocks held until an ancestor or a right is known.
    pub pending: u64,
    /// Contents known of and not here.
    pub missing_contents: u64,
    /// Why the ledger is damaged and read-only, if it is.
    pub damaged: Option<String>,
}

/// A ledger could not do what was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// No block of this id is admitted.
    #[error("no block {id} on this ledger")]
    UnknownBlock {
        /// The id.
        id: BlockId,
    },
    /// A topic is malformed or reserved.
    #[error("unusable topic")]
    Topic(#[from] TopicError),
    /// Too many topics, or one twice.
    #[error("a block has at most {} topics, no two the same", crate::limits::TOPICS_MAX)]
    Topics,
    /// The content is too large.
    #[error("content of more than {max} bytes")]
    TooLarge {
        /// The limit in force, in bytes.
        max: u64,
    },
    /// The content is not here and nobody reachable has it.
    #[error("the content of block {id} is not available: {reason}")]
    Unavailable {
        /// The block.
        id: BlockId,
        /// Why: missing, locked or forgotten.
        reason: &'static str,
    },
    /// The caller may not do this.
    #[error("refused: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// Keys are needed and the vault is locked.
    #[error("the key vault is locked")]
    Locked,
    /// This kind of ledger cannot do this.
    #[error("this ledger does not support {what}")]
    Unsupported {
        /// The operation.
        what: &'static str,
    },
    /// The ledger is damaged and read-only.
    #[error("the ledger is damaged and read-only: {reason}")]
    Damaged {
        /// What was found.
        reason: String,
    },
    /// The ledger has been shut down or deleted.
    #[error("the ledger is closed")]
    Closed,
    /// Reading the content that the caller gave failed.
    #[error("the content given could not be read")]
    Read(#[source] std::io::Error),
    /// Storage failed.
    #[error("storage failed")]
    Store(#[from] crate::store::StoreError),
    /// Blob storage failed.
    #[error("blob storage failed")]
    Blob(#[from] crate::store::BlobStoreError),
}

impl LedgerError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Damaged { .. } | Self::Store(_) | Self::Blob(_) | Self::Unavailable { .. } => Fault::Local,
            _ => Fault::Caller,
        }
    }
}

/// Reading a ledger.
#[async_trait]
pub trait LedgerRead: Send + Sync + fmt::Debug {
    /// Returns the id of the chain beneath.
    fn id(&self) -> ChainId;

    /// Returns a block without its content, or nothing.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn get(&self, id: &BlockId) -> Result<Option<BlockInfo>, LedgerError>;

    /// Streams the content; fetches it first if it is not here.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn content(&self, id: &BlockId) -> Result<ContentReader, LedgerError>;

    /// Returns how many blocks the ledger shows.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn count(&self) -> Result<u64, LedgerError>;

    /// Returns the heads, ascending.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn heads(&self) -> Result<Vec<BlockId>, LedgerError>;

    /// Returns the blocks that match; read page by page from an index.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn query(&self, query: Query) -> Result<BoxStream<'static, Result<BlockInfo, LedgerError>>, LedgerError>;

    /// Begins a subscription.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn subscribe(&self, from: SubscribeFrom) -> Result<Box<dyn Subscription>, LedgerError>;
}

/// Reading and writing a ledger.
#[async_trait]
pub trait Ledger: LedgerRead {
    /// Adds a block; flushed and on its way to others when it returns.
    ///
    /// # Errors
    /// [`LedgerError`]; then nothing was added.
    async fn add(&self, block: NewBlock) -> Result<BlockInfo, LedgerError>;

    /// Adds blocks, each a child of the one before, in one atomic commit and one flush.
    ///
    /// # Errors
    /// [`LedgerError`]; then none was added.
    async fn add_many(&self, blocks: Vec<NewBlock>) -> Result<Vec<BlockInfo>, LedgerError>;

    /// Destroys the contents of blocks, where the ledger can.
    ///
    /// # Errors
    /// [`LedgerError::Unsupported`] by default.
    async fn forget(&self, _ids: &[BlockId]) -> Result<(), LedgerError> {
        Err(LedgerError::Unsupported { what: "forgetting" })
    }
}

/// Life and death of a ledger.
#[async_trait]
pub trait LedgerControl: Send + Sync + fmt::Debug {
    /// Returns how it is.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn status(&self) -> Result<LedgerStatus, LedgerError>;

    /// Finishes what was begun, flushes, ends all tasks. Idempotent.
    async fn shutdown(&self);

    /// Shuts down and removes all local data.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn delete(&self) -> Result<(), LedgerError>;
}

#[async_trait]
impl<L: LedgerRead + ?Sized> LedgerRead for Arc<L> {
    fn id(&self) -> ChainId {
        (**self).id()
    }

    async fn get(&self, id: &BlockId) -> Result<Option<BlockInfo>, LedgerError> {
        (**self).get(id).await
    }

    async fn content(&self, id: &BlockId) -> Result<ContentReader, LedgerError> {
        (**self).content(id).await
    }

    async fn count(&self) -> Result<u64, LedgerError> {
        (**self).count().await
    }

    async fn heads(&self) -> Result<Vec<BlockId>, LedgerError> {
        (**self).heads().await
    }

    async fn query(&self, query: Query) -> Result<BoxStream<'static, Result<BlockInfo, LedgerError>>, LedgerError> {
        (**self).query(query).await
    }

    async fn subscribe(&self, from: SubscribeFrom) -> Result<Box<dyn Subscription>, LedgerError> {
        (**self).subscribe(from).await
    }
}

#[async_trait]
impl<L: Ledger + ?Sized> Ledger for Arc<L> {
    async fn add(&self, block: NewBlock) -> Result<BlockInfo, LedgerError> {
        (**self).add(block).await
    }

    async fn add_many(&self, blocks: Vec<NewBlock>) -> Result<Vec<BlockInfo>, LedgerError> {
        (**self).add_many(blocks).await
    }

    async fn forget(&self, ids: &[BlockId]) -> Result<(), LedgerError> {
        (**self).forget(ids).await
    }
}
