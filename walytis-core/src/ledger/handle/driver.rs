//! The task that calls a handler.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::backlog::{Backlog, Held, Kind};
use super::lineage::Free;
use super::{Delivery, Failing, Handler, HandlerOptions};
use crate::ledger::{Cursor, LedgerError, LedgerEvent, LedgerRead, Query, Subscription};

/// How long the task rests after the store failed.
const REST: Duration = Duration::from_secs(5);

pub(super) struct Driver<L> {
    ledger: Arc<L>,
    subscription: Box<dyn Subscription>,
    filter: Query,
    backlog: Backlog,
    free: Free,
    failing: BTreeMap<u64, Failing>,
    published: watch::Sender<Vec<Failing>>,
    stop: CancellationToken,
}

/// What became of a turn.
enum Turn {
    On,
    End,
}

impl<L: LedgerRead> Driver<L> {
    pub(super) fn new(
        ledger: Arc<L>,
        subscription: Box<dyn Subscription>,
        options: HandlerOptions,
        published: watch::Sender<Vec<Failing>>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            ledger,
            subscription,
            filter: options.filter,
            backlog: Backlog::new(options.retry_first, options.retry_max),
            free: Free::default(),
            failing: BTreeMap::new(),
            published,
            stop,
        }
    }

    pub(super) async fn run(mut self, mut handler: impl Handler) -> Result<(), LedgerError> {
        loop {
            match self.turn(&mut handler).await {
                Ok(Turn::On) => {}
                Ok(Turn::End) => return Ok(()),
                Err(LedgerError::Closed) => return Ok(()),
                Err(error @ (LedgerError::SubscriberReplaced { .. } | LedgerError::UnknownSubscriber { .. })) => {
                    return Err(error);
                }
                Err(error) => {
                    warn!(ledger = ?self.ledger, %error, "a handler rests");
                    tokio::select! {
                        biased;
                        () = self.stop.cancelled() => return Ok(()),
                        () = tokio::time::sleep(REST) => {}
                    }
                }
            }
        }
    }

    /// Handles one event, or waits for one.
    async fn turn(&mut self, handler: &mut impl Handler) -> Result<Turn, LedgerError> {
        if self.stop.is_cancelled() {
            return Ok(Turn::End);
        }
        if let Some(held) = self.backlog.due(Instant::now()) {
            return self.again(held, handler).await;
        }
        let due = self.backlog.next_due();
        let event = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Ok(Turn::End),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => return Ok(Turn::On),
            event = self.subscription.next(), if !self.backlog.is_full() => event?,
        };
        let Some(event) = event else { return Ok(Turn::End) };
        let Some(held) = held_of(&event) else { return Ok(Turn::On) };
        // An event that was taken from the stream is held until it is handled, whatever fails.
        if let Err(error) = self.take(held, event, handler).await {
            self.free.clear();
            self.backlog.fail(held, 1, Instant::now());
            return Err(error);
        }
        Ok(Turn::On)
    }

    /// Handles a new event, unless it has to wait or is not wanted.
    async fn take(&mut self, held: Held, event: LedgerEvent, handler: &mut impl Handler) -> Result<(), LedgerError> {
        let before = match &event {
            LedgerEvent::Block(info) if !self.filter.matches(info) => {
                return self.subscription.ack_one(Cursor(held.at)).await;
            }
            LedgerEvent::Block(info) => self.free.ancestors_held(&*self.ledger, &self.backlog, &info.parents).await?,
            _ => self.backlog.of_block(&held.block).collect(),
        };
        if before.is_empty() {
            return self.attempt(held, event, handler).await;
        }
        self.backlog.wait(held, before);
        Ok(())
    }

    /// Tries an event that was held, as it stands now.
    async fn again(&mut self, held: Held, handler: &mut impl Handler) -> Result<Turn, LedgerError> {
        let cursor = Cursor(held.at);
        let id = held.block;
        let event = match held.kind {
            Kind::Retracted => Some(LedgerEvent::Retracted { id, cursor }),
            Kind::Proposed => Some(LedgerEvent::ForgetProposed { proposal: id, cursor }),
            Kind::Forgotten => Some(LedgerEvent::Forgotten { id, cursor }),
            Kind::Block => {
                let info = self.ledger.get(&id).await?;
                // A later event has taken its place, and comes by itself.
                info.filter(|info| info.cursor == cursor).map(LedgerEvent::Block)
            }
        };
        match event {
            Some(event) => self.attempt(held, event, handler).await?,
            None => self.done(held).await?,
        }
        Ok(Turn::On)
    }

    async fn attempt(&mut self, held: Held, event: LedgerEvent, handler: &mut impl Handler) -> Result<(), LedgerError> {
        let attempt = self.subscription.begin(Cursor(held.at)).await?;
        match handler.handle(Delivery { event, attempt }).await {
            Ok(()) => self.done(held).await,
            Err(error) => {
                debug!(ledger = ?self.ledger, block = ?held.block, attempt, %error, "a handler failed");
                if self.backlog.of_block(&held.block).next().is_none() {
                    self.free.clear();
                }
                self.backlog.fail(held, attempt, Instant::now());
                let reason = error.to_string();
                let failing = Failing { id: held.block, cursor: Cursor(held.at), attempts: attempt, reason };
                self.failing.insert(held.at, failing);
                self.publish();
                Ok(())
            }
        }
    }

    async fn done(&mut self, held: Held) -> Result<(), LedgerError> {
        self.subscription.ack_one(Cursor(held.at)).await?;
        self.backlog.done(held.at);
        if self.failing.remove(&held.at).is_some() {
            self.publish();
        }
        Ok(())
    }

    fn publish(&self) {
        self.published.send_replace(self.failing.values().cloned().collect());
    }
}

fn held_of(event: &LedgerEvent) -> Option<Held> {
    let at = event.cursor().0;
    let (block, generation, kind) = match event {
        LedgerEvent::Block(info) => (info.id, info.generation, Kind::Block),
        LedgerEvent::Retracted { id, .. } => (*id, 0, Kind::Retracted),
        LedgerEvent::ForgetProposed { proposal, .. } => (*proposal, 0, Kind::Proposed),
        LedgerEvent::Forgotten { id, .. } => (*id, 0, Kind::Forgotten),
        LedgerEvent::Lagged { .. } => return None,
    };
    Some(Held { at, block, generation, kind })
}
