//! Handlers: a function that is called for every event of a ledger, until it succeeds.
//!
//! ```text
//!   subscription ──► waits for a failing ancestor? ──► handler ──► acknowledged
//!                        │ yes                            │ fails
//!                        ▼                                ▼
//!                     waiting ◄── descendants of ──── failing ──► again after a pause that doubles
//! ```
//!
//! An event is handled when everything it descends from has been. A failing one is tried again and again, and what
//! descends from it waits; everything else goes on. Nothing is ever given up: a handler that wants to skip an event looks
//! at [`Delivery::attempt`] and returns `Ok`.

mod backlog;
mod driver;
mod lineage;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{Cursor, LedgerError, LedgerEvent, LedgerRead, Query, SubscribeFrom};
use crate::id::BlockId;
use driver::Driver;

/// Why a handler failed; it is called again.
pub type HandlerError = Box<dyn std::error::Error + Send + Sync>;

/// An event on its way to a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The event.
    pub event: LedgerEvent,
    /// How often it has been handed out, this time included; also over restarts. Above 1 an earlier attempt failed, or the
    /// process ended in the middle of it.
    pub attempt: u32,
}

/// Handles events, one at a time.
#[async_trait]
pub trait Handler: Send + 'static {
    /// Handles an event; `Ok` acknowledges it. It may come again after a crash, so handling it twice must do no harm.
    ///
    /// # Errors
    /// Whatever kept it from being handled: it comes again later, and its descendants wait.
    async fn handle(&mut self, delivery: Delivery) -> Result<(), HandlerError>;
}

#[async_trait]
impl<F, R> Handler for F
where
    F: FnMut(Delivery) -> R + Send + 'static,
    R: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    async fn handle(&mut self, delivery: Delivery) -> Result<(), HandlerError> {
        self(delivery).await
    }
}

/// How a handler is called.
#[derive(Clone, Debug)]
pub struct HandlerOptions {
    /// Which blocks it is called for; others count as handled. `after`, `limit`, order and direction mean nothing here.
    pub filter: Query,
    /// Pause before the second attempt; each further one doubles it.
    pub retry_first: Duration,
    /// Longest pause.
    pub retry_max: Duration,
}

impl Default for HandlerOptions {
    fn default() -> Self {
        // Chosen: a hiccup passes within a tenth of a second; what lasts longer is asked about once a minute.
        Self { filter: Query::default(), retry_first: Duration::from_millis(100), retry_max: Duration::from_secs(60) }
    }
}

/// An event whose handler failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// The block.
    pub id: BlockId,
    /// Its position.
    pub cursor: Cursor,
    /// Attempts so far.
    pub attempts: u32,
    /// What the handler said last.
    pub reason: String,
}

/// A handler at work. It ends when this is dropped; [`Handling::stop`] lets it finish what it began.
#[derive(Debug)]
pub struct Handling {
    task: AbortOnDropHandle<Result<(), LedgerError>>,
    stop: CancellationToken,
    failing: watch::Receiver<Vec<Failing>>,
}

impl Handling {
    /// Returns the events that fail, by position.
    pub fn failing(&self) -> Vec<Failing> {
        self.failing.borrow().clone()
    }

    /// Returns a view of the failing events that moves with them.
    pub fn watch(&self) -> watch::Receiver<Vec<Failing>> {
        self.failing.clone()
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// [`LedgerError::SubscriberReplaced`], [`LedgerError::UnknownSubscriber`]; nothing is an error when the ledger was shut
    /// down. [`LedgerError::Closed`] if the handler panicked.
    pub async fn ended(self) -> Result<(), LedgerError> {
        self.task.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// Lets the handler finish the event it is at, and ends.
    ///
    /// # Errors
    /// As [`Self::ended`].
    pub async fn stop(self) -> Result<(), LedgerError> {
        self.stop.cancel();
        self.ended().await
    }
}

/// Calling handlers, for every ledger handle.
#[async_trait]
pub trait Handle: LedgerRead + Clone + 'static {
    /// Calls `handler` for every block, as the durable subscriber `name`: at least once each, ancestors first, from where it
    /// was left. Blocks that overlays added for themselves are left out.
    ///
    /// # Errors
    /// [`LedgerError`] if the subscription cannot begin.
    async fn handle(&self, name: &str, handler: impl Handler) -> Result<Handling, LedgerError> {
        self.handle_with(name, HandlerOptions::default(), handler).await
    }

    /// As [`Self::handle`], with options.
    ///
    /// # Errors
    /// [`LedgerError`] if the subscription cannot begin.
    async fn handle_with(
        &self,
        name: &str,
        options: HandlerOptions,
        handler: impl Handler,
    ) -> Result<Handling, LedgerError> {
        let subscription = self.subscribe(SubscribeFrom::Name(name.to_owned())).await?;
        let stop = CancellationToken::new();
        let (published, failing) = watch::channel(Vec::new());
        let driver = Driver::new(Arc::new(self.clone()), subscription, options, published, stop.clone());
        let task = AbortOnDropHandle::new(tokio::spawn(driver.run(handler)));
        Ok(Handling { task, stop, failing })
    }
}

impl<L: LedgerRead + Clone + 'static> Handle for L {}
