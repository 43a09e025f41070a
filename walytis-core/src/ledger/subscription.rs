//! Subscriptions: the stream of what is admitted.

use std::fmt;

use async_trait::async_trait;

use super::block::{BlockInfo, Cursor};
use super::error::LedgerError;
use crate::id::BlockId;

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
