//! What a mutable ledger tells its subscribers.

use std::fmt;

use async_trait::async_trait;
use walytis_core::id::BlockId;
use walytis_core::ledger::{Cursor, LedgerError};

/// What happened to a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Change {
    /// It came.
    Created,
    /// An edit counts. Where it is not the current version, a `Conflicted` follows or has gone before.
    Edited,
    /// A deletion counts.
    Deleted,
    /// An earlier version is to be shown again.
    Restored,
    /// Versions stand beside each other that do not know of one another: more than before.
    Conflicted,
    /// The version no longer counts; if it is the original, the whole block.
    Retracted,
    /// It was proposed that everybody forgets contents of the ledger below; `id` and `version` are the proposal.
    ForgetProposed,
    /// The content of the version was destroyed here on purpose; the block stays.
    Forgotten,
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub change: Change,
    /// The original: the id of the mutable block.
    pub id: BlockId,
    /// The version that made it happen.
    pub version: BlockId,
    /// Place in the order of this replica's events; what is acknowledged.
    pub cursor: Cursor,
}

/// A stream of events: each once, in the order in which this replica came to know. A slow subscriber reads from the
/// store and delays nobody.
#[async_trait]
pub trait Events: Send + fmt::Debug {
    /// Waits for the next event; nothing once the ledger is shut down. Cancel-safe.
    ///
    /// # Errors
    /// [`LedgerError`] when the store fails; the next call tries the same event again.
    /// [`LedgerError::SubscriberReplaced`], [`LedgerError::UnknownSubscriber`] as for blocks.
    async fn next(&mut self) -> Result<Option<Event>, LedgerError>;

    /// Notes that the event at `cursor` is about to be handled; returns which attempt this is, from 1. For a named
    /// subscriber the count survives the process.
    ///
    /// # Errors
    /// [`LedgerError::TooManyUnacknowledged`]; [`LedgerError`].
    async fn begin(&mut self, cursor: Cursor) -> Result<u32, LedgerError>;

    /// Acknowledges everything up to `cursor`, but nothing that was not delivered; a named subscriber continues behind
    /// it after a restart.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn ack(&mut self, cursor: Cursor) -> Result<(), LedgerError>;

    /// Acknowledges the event at `cursor` alone; what was not delivered cannot be.
    ///
    /// # Errors
    /// [`LedgerError::NotDelivered`], [`LedgerError::TooManyUnacknowledged`]; [`LedgerError`].
    async fn ack_one(&mut self, cursor: Cursor) -> Result<(), LedgerError>;
}
