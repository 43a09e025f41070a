//! Handlers outside of this process: a client that follows a log under a name is handed one event at a time, says whether it
//! was handled, and gets what failed again, its descendants waiting meanwhile.
//!
//! ```text
//!   driver of core ── event ──► the client's stream
//!         ▲                            │
//!         └── verdict ── Desk ◄── acknowledged, or failed with a reason
//! ```
//!
//! An event whose client goes away is not handled: it comes again to the next one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::stream::{self, StreamExt as _};
use tokio::sync::{mpsc, oneshot, watch};
use walytis_core::ledger::handle::{Delivery, Failing, Handle, Handler, HandlerError, HandlerOptions};
use walytis_core::ledger::{Ack, Cursor, LedgerEvent, LedgerRead as _};

use super::convert;
use super::log::{self, LogStream, Show};
use super::views::Source;
use crate::failure::Failure;
use crate::view;

/// Longest reason of a failure that is kept, in characters. Chosen: what a person reads.
const REASON_MAX: usize = 1_000;

/// A ledger and the name of one of its subscribers.
type Key = (String, String);

/// Where verdicts meet the events that wait for them.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// The event that is being handled; at most one for each subscriber that is followed.
    waiting: Mutex<BTreeMap<Key, Waiting>>,
    /// What fails; at most one for each subscriber that is followed.
    failing: Mutex<BTreeMap<Key, watch::Receiver<Vec<Failing>>>>,
}

#[derive(Debug)]
struct Waiting {
    position: u64,
    verdict: oneshot::Sender<Result<(), String>>,
}

impl Desk {
    /// Hands out the blocks of a ledger, each until it is handled. Later changes of them are not handed out: a command is
    /// called for what was said, once.
    pub(super) async fn follow(
        self: &Arc<Self>,
        source: &Source,
        log: &view::LogQuery,
        show: Show,
    ) -> Result<LogStream, Failure> {
        let name = log::own_name(log.subscriber.as_deref().unwrap_or_default())?;
        let options = HandlerOptions { filter: convert::query(log)?, ..HandlerOptions::default() };
        let key = (label(source), name);
        let (events, receiver) = mpsc::channel(1);
        let client = Client { show, events, desk: Arc::clone(self), key: key.clone() };
        let handling = source.ledger.handle_with(&key.1, options, client).await?;
        let mut failing = self.failing();
        failing.retain(|_, one| one.has_changed().is_ok());
        failing.insert(key, handling.watch());
        drop(failing);
        let events = stream::unfold((receiver, Some(handling)), |(mut receiver, handling)| async move {
            if let Some(event) = receiver.recv().await {
                return Some((Ok(event), (receiver, handling)));
            }
            let ended = handling?.ended().await;
            ended.err().map(|error| (Err(Failure::from(error)), (receiver, None)))
        });
        Ok(events.boxed())
    }

    /// Says what became of an event.
    pub(super) async fn acknowledge(
        &self,
        source: &Source,
        name: &str,
        request: view::Acknowledge,
    ) -> Result<(), Failure> {
        let verdict = self.take(&(label(source), name.to_owned()), request.position);
        let Some(reason) = &request.failed else {
            let Some(verdict) = verdict else { return log::acknowledge(source, name, &request).await };
            let cursor = Cursor(request.position);
            let ack = if request.only { Ack::One(cursor) } else { Ack::UpTo(cursor) };
            source.ledger.acknowledge(name, ack).await?;
            // The driver acknowledges it once more, which changes nothing. Dropped on an error, it fails and comes again.
            let _gone = verdict.send(Ok(()));
            return Ok(());
        };
        let unknown = || {
            let hint = "follow the log with retry, and report on the event that was handed out last";
            Failure::usage(format!("nobody handles position {} as {name}", request.position), hint)
        };
        let reason = reason.chars().take(REASON_MAX).collect();
        // Whoever followed has gone: the event comes again anyway.
        let _gone = verdict.ok_or_else(unknown)?.send(Err(reason));
        Ok(())
    }

    /// Lists durable subscribers, with what fails.
    pub(super) async fn subscribers(&self, source: &Source) -> Result<Vec<view::Subscriber>, Failure> {
        let mut found = log::subscribers(source).await?;
        let label = label(source);
        let failing = self.failing();
        for one in &mut found {
            let watch = failing.get(&(label.clone(), one.name.clone())).filter(|one| one.has_changed().is_ok());
            one.failing = watch.map(|watch| watch.borrow().iter().map(shown).collect()).unwrap_or_default();
        }
        Ok(found)
    }

    fn wait(&self, key: &Key, position: u64) -> oneshot::Receiver<Result<(), String>> {
        let (verdict, receiver) = oneshot::channel();
        let mut waiting = self.waiting();
        waiting.retain(|_, one| !one.verdict.is_closed());
        waiting.insert(key.clone(), Waiting { position, verdict });
        receiver
    }

    fn take(&self, key: &Key, position: u64) -> Option<oneshot::Sender<Result<(), String>>> {
        let mut waiting = self.waiting();
        waiting.get(key).filter(|one| one.position == position)?;
        waiting.remove(key).map(|one| one.verdict).filter(|verdict| !verdict.is_closed())
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<Key, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failing(&self) -> MutexGuard<'_, BTreeMap<Key, watch::Receiver<Vec<Failing>>>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns what a ledger is called here.
fn label(source: &Source) -> String {
    format!("{}/{}", source.ledger.id(), source.name)
}

fn shown(failing: &Failing) -> view::Failing {
    view::Failing {
        id: failing.id.to_string(),
        position: failing.cursor.0,
        attempts: failing.attempts,
        reason: failing.reason.clone(),
    }
}

/// The handler: passes an event on and waits for the verdict.
struct Client {
    show: Show,
    events: mpsc::Sender<view::LogEvent>,
    desk: Arc<Desk>,
    key: Key,
}

#[async_trait]
impl Handler for Client {
    async fn handle(&mut self, delivery: Delivery) -> Result<(), HandlerError> {
        let position = delivery.event.cursor().0;
        let event = match &delivery.event {
            LedgerEvent::Block(info) => {
                let attempt = Some(delivery.attempt);
                view::LogEvent::Block(Box::new(view::Block { position: Some(position), attempt, ..(self.show)(info) }))
            }
            LedgerEvent::Retracted { id, .. } => {
                view::LogEvent::Notice(view::Notice::Retracted { id: id.to_string(), version: None, position })
            }
            // Nothing else concerns a durable subscriber.
            _ => return Ok(()),
        };
        let verdict = self.desk.wait(&self.key, position);
        self.events.send(event).await?;
        match verdict.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(reason.into()),
            Err(_) => Err("it was not acknowledged".into()),
        }
    }
}
