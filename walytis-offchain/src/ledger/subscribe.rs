//! Subscriptions: the ledger's events from the store, woken by its task.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;
use walytis_core::id::BlockId;
use walytis_core::ledger::{Cursor, LedgerError, LedgerEvent, SubscribeFrom, Subscription};
use walytis_core::store::{Batch, Direction, Durability};

use super::table::{Standing, behind};
use super::{Inner, State};

/// Events read at once.
const PAGE: usize = 128;
/// Longest name of a durable subscriber in bytes.
const NAME_MAX: usize = 64;

pub(super) async fn subscribe(inner: &Arc<Inner>, from: SubscribeFrom) -> Result<Box<dyn Subscription>, LedgerError> {
    let state = inner.state.subscribe();
    let (name, position) = match from {
        SubscribeFrom::Now => (None, state.borrow().meta.sequence),
        SubscribeFrom::Cursor(cursor) => (None, cursor.0),
        SubscribeFrom::Name(name) => {
            if name.is_empty() || name.len() > NAME_MAX {
                return Err(LedgerError::Refused { reason: format!("a subscriber's name has 1 to {NAME_MAX} bytes") });
            }
            let key = inner.table.key(b'n', &[name.as_bytes()]);
            let position = inner.table.read::<u64>(&key).await?.unwrap_or(0);
            (Some(name), position)
        }
    };
    let inner = Arc::clone(inner);
    Ok(Box::new(Follower { inner, state, name, position, acked: position, page: VecDeque::new() }))
}

/// One subscriber. It pulls: however slow, it delays nobody.
struct Follower {
    inner: Arc<Inner>,
    state: watch::Receiver<State>,
    name: Option<String>,
    /// Last event that was read into `page`.
    position: u64,
    acked: u64,
    page: VecDeque<(u64, bool, BlockId)>,
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subscription({:?} at {})", self.name, self.position)
    }
}

impl Follower {
    async fn read(&mut self) -> Result<(), LedgerError> {
        let table = &self.inner.table;
        let mut range = table.all(b'e');
        range.start = behind(&table.key(b'e', &[&self.position.to_be_bytes()]));
        let page = table.events(range, Direction::Forward, PAGE).await?;
        if let Some((last, ..)) = page.last() {
            self.position = *last;
        }
        self.page = page.into();
        Ok(())
    }

    /// Returns the event as it stands now, or nothing if a later one has taken its place.
    async fn event(&self, sequence: u64, retracted: bool, id: BlockId) -> Result<Option<LedgerEvent>, LedgerError> {
        if retracted {
            return Ok(Some(LedgerEvent::Retracted { id, cursor: Cursor(sequence) }));
        }
        match self.inner.table.record(&id).await? {
            Some(local) if local.cursor == sequence && local.standing == Standing::Valid => {
                Ok(Some(LedgerEvent::Block(self.inner.info(&id, &local).await?)))
            }
            _ => Ok(None),
        }
    }
}

#[async_trait]
impl Subscription for Follower {
    async fn next(&mut self) -> Result<Option<LedgerEvent>, LedgerError> {
        loop {
            if self.inner.stop.is_cancelled() {
                return Ok(None);
            }
            if let Some((sequence, retracted, id)) = self.page.front().copied() {
                let event = self.event(sequence, retracted, id).await?;
                self.page.pop_front();
                match event {
                    Some(event) => return Ok(Some(event)),
                    None => continue,
                }
            }
            if self.state.borrow_and_update().meta.sequence > self.position {
                self.read().await?;
                continue;
            }
            tokio::select! {
                biased;
                () = self.inner.stop.cancelled() => return Ok(None),
                changed = self.state.changed() => if changed.is_err() { return Ok(None) },
            }
        }
    }

    async fn ack(&mut self, cursor: Cursor) -> Result<(), LedgerError> {
        // Never beyond what was delivered: a wrong number must not skip events.
        let delivered = self.page.front().map_or(self.position, |(next, ..)| next.saturating_sub(1));
        let reached = cursor.0.min(delivered);
        if reached <= self.acked {
            return Ok(());
        }
        if let Some(name) = &self.name {
            let mut batch = Batch::new();
            batch.put(self.inner.table.key(b'n', &[name.as_bytes()]), crate::record::versioned(&reached));
            // Lost in a power cut, events are delivered again.
            self.inner.table.store.commit(batch, Durability::Buffered).await?;
        }
        self.acked = reached;
        Ok(())
    }
}
