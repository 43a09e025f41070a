//! Why a ledger could not do what was asked.

use thiserror::Error;

use super::block::Cursor;
use super::cursor::CursorError;
use crate::fault::Fault;
use crate::id::BlockId;
use crate::topic::TopicError;

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
    /// A page cursor cannot be used.
    #[error("unusable cursor")]
    Cursor(#[from] CursorError),
    /// There is no durable subscriber of this name.
    #[error("no subscriber \"{name}\" on this ledger")]
    UnknownSubscriber {
        /// The name.
        name: String,
    },
    /// Somebody else subscribed under the same name and goes on in its place.
    #[error("somebody else subscribed as \"{name}\"")]
    SubscriberReplaced {
        /// The name.
        name: String,
    },
    /// An event cannot be acknowledged before it was delivered.
    #[error("position {cursor} was not delivered to this subscriber", cursor = cursor.0)]
    NotDelivered {
        /// The position.
        cursor: Cursor,
    },
    /// Too many events are handed out and not acknowledged.
    #[error("more than {} events wait for their acknowledgement", crate::limits::UNACKNOWLEDGED_MAX)]
    TooManyUnacknowledged,
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
