//! Subscriptions: the stream of what is admitted.

use std::fmt;

use async_trait::async_trait;

use super::block::{BlockInfo, Cursor};
use super::error::LedgerError;
use crate::id::BlockId;

/// Where a subscription begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubscribeFrom {
    /// A durable subscriber of this name (1..=64 bytes without control characters): gets everything that it has not
    /// acknowledged, at first from the beginning. Who subscribes under a name takes it over from an earlier holder.
    Name(String),
    /// Behind this position, not durable. Nothing is skipped.
    Cursor(Cursor),
    /// With the next block, live: who falls more than [`LIVE_LAG_MAX`](crate::limits::LIVE_LAG_MAX) events behind is
    /// told so ([`LedgerEvent::Lagged`]) and goes on with what is new.
    Now,
}

/// Something a subscriber is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LedgerEvent {
    /// A block was admitted (on private ledgers: its content can be read). Also blocks of overlays, which have a reserved
    /// topic ([`BlockInfo::is_overlay`]).
    Block(BlockInfo),
    /// A block that was shown no longer counts.
    Retracted {
        /// The block.
        id: BlockId,
        /// Position of the event in the stream.
        cursor: Cursor,
    },
    /// It was proposed that everybody forgets contents of this ledger.
    ForgetProposed {
        /// The block of the proposal.
        proposal: BlockId,
        /// Position of the event in the stream.
        cursor: Cursor,
    },
    /// The content of a block was destroyed here on purpose; the block stays. Who keeps a copy of it drops it.
    Forgotten {
        /// The block.
        id: BlockId,
        /// Position of the event in the stream.
        cursor: Cursor,
    },
    /// A live subscriber was too slow.
    Lagged {
        /// Events that were left out.
        missed: u64,
        /// What was seen last: `SubscribeFrom::Cursor(resume)` gets all that was left out.
        resume: Cursor,
        /// The last event left out; the stream goes on behind it.
        cursor: Cursor,
    },
}

impl LedgerEvent {
    /// Returns the position to acknowledge.
    pub const fn cursor(&self) -> Cursor {
        match self {
            Self::Block(info) => info.cursor,
            Self::Retracted { cursor, .. }
            | Self::ForgetProposed { cursor, .. }
            | Self::Forgotten { cursor, .. }
            | Self::Lagged { cursor, .. } => *cursor,
        }
    }
}

/// A stream of events: arrival order, parents first. It pulls from the store: however slow, it delays nobody.
#[async_trait]
pub trait Subscription: Send + fmt::Debug {
    /// Waits for the next event that is not acknowledged; nothing once the ledger is shut down. Cancel-safe.
    ///
    /// # Errors
    /// [`LedgerError`] when the store fails: the next call tries the same event again.
    /// [`LedgerError::SubscriberReplaced`] when somebody else subscribed under the name,
    /// [`LedgerError::UnknownSubscriber`] when it was removed.
    async fn next(&mut self) -> Result<Option<LedgerEvent>, LedgerError>;

    /// Notes that the event at `cursor` is about to be handled; returns which attempt this is, from 1. For a named
    /// subscriber the count survives the process, so that an event that kills its handler is known by its count.
    ///
    /// # Errors
    /// [`LedgerError::TooManyUnacknowledged`]; [`LedgerError`].
    async fn begin(&mut self, cursor: Cursor) -> Result<u32, LedgerError>;

    /// Acknowledges everything up to `cursor`, but nothing that was not delivered.
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

/// What a subscriber acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// Everything up to a position, but nothing that was not delivered.
    UpTo(Cursor),
    /// One event.
    One(Cursor),
}

/// How far a durable subscriber is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// Its name.
    pub name: String,
    /// Everything up to here is acknowledged.
    pub acknowledged: Cursor,
    /// Events behind that which are acknowledged as well.
    pub ahead: u64,
    /// Events that are not acknowledged yet.
    pub left: u64,
    /// Events that were handed out and not acknowledged.
    pub begun: u64,
    /// Most attempts among these.
    pub attempts: u32,
}
