//! Subscriptions: arrival order from the store, woken by commits.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use super::core::Inner;
use super::query;
use super::schema::{Tag, number, number_at_end, read_id, read_number};
use super::table::behind;
use crate::ledger::{BlockInfo, BlockState, Cursor, LedgerError, LedgerEvent, SubscribeFrom, Subscription};
use crate::store::{Batch, Direction, Durability, KeyRange};

/// Blocks read at once. Chosen: a page of headers of some ten kilobytes.
const PAGE: usize = 128;
/// Longest name of a durable subscriber in bytes.
const NAME_MAX: usize = 64;

/// Begins a subscription.
pub(super) async fn subscribe(core: &Arc<Inner>, from: SubscribeFrom) -> Result<Box<dyn Subscription>, LedgerError> {
    let commits = core.arrivals.subscribe();
    let (name, position) = match from {
        SubscribeFrom::Now => (None, *commits.borrow()),
        SubscribeFrom::Cursor(cursor) => (None, cursor.0),
        SubscribeFrom::Name(name) => {
            if name.is_empty() || name.len() > NAME_MAX {
                return Err(LedgerError::Refused { reason: format!("a subscriber's name has 1 to {NAME_MAX} bytes") });
            }
            let position = stored(core, &name).await?;
            (Some(name), position)
        }
    };
    Ok(Box::new(Follower { core: Arc::clone(core), commits, name, position, acked: position, page: VecDeque::new() }))
}

async fn stored(core: &Inner, name: &str) -> Result<u64, LedgerError> {
    let key = core.table.keys.cursor(name);
    match core.table.get(&key).await? {
        Some(value) => core.table.note(read_number(&key, &value)),
        None => Ok(0),
    }
}

/// One subscriber. It pulls: however slow, it delays nobody.
struct Follower {
    core: Arc<Inner>,
    commits: watch::Receiver<u64>,
    name: Option<String>,
    /// Arrival number of the last block that was read into `page`.
    position: u64,
    acked: u64,
    page: VecDeque<BlockInfo>,
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subscription({:?} at {})", self.name, self.position)
    }
}

impl Follower {
    /// Reads the next page; `page` and `position` change together, so that a dropped call skips nothing.
    async fn read(&mut self, published: u64) -> Result<(), LedgerError> {
        let table = &self.core.table;
        let start = behind(&table.keys.arrival(self.position));
        let range = KeyRange { start, end: table.keys.all(Tag::Arrival).end };
        let page = table.scan(range, Direction::Forward, PAGE).await?;
        let ids: Result<Vec<_>, _> = page.iter().map(|(key, value)| read_id(key, value)).collect();
        let places: Result<Vec<_>, _> = page.iter().map(|(key, _)| number_at_end(key)).collect();
        let (ids, places) = (table.note(ids)?, table.note(places)?);
        let infos = query::infos(&self.core, &ids).await?;
        self.position = places.last().copied().unwrap_or(published);
        // A skeleton is told of once the policy admits it by itself; then it arrives again, at another place.
        let here = infos.into_iter().zip(places).filter(|(info, place)| info.cursor.0 == *place);
        self.page = here.map(|(info, _)| info).filter(|info| !matches!(info.state, BlockState::Void { .. })).collect();
        Ok(())
    }
}

#[async_trait]
impl Subscription for Follower {
    async fn next(&mut self) -> Result<Option<LedgerEvent>, LedgerError> {
        loop {
            if self.core.stop.is_cancelled() {
                return Ok(None);
            }
            if let Some(info) = self.page.pop_front() {
                return Ok(Some(LedgerEvent::Block(info)));
            }
            let published = *self.commits.borrow_and_update();
            if published > self.position {
                self.read(published).await?;
                continue;
            }
            tokio::select! {
                biased;
                () = self.core.stop.cancelled() => return Ok(None),
                changed = self.commits.changed() => if changed.is_err() { return Ok(None) },
            }
        }
    }

    async fn ack(&mut self, cursor: Cursor) -> Result<(), LedgerError> {
        // Never beyond what was delivered: a wrong number must not skip blocks.
        let delivered = self.page.front().map_or(self.position, |next| next.cursor.0.saturating_sub(1));
        let reached = cursor.0.min(delivered);
        if reached <= self.acked {
            return Ok(());
        }
        if let Some(name) = &self.name {
            let mut batch = Batch::new();
            batch.put(self.core.table.keys.cursor(name), number(reached));
            // Lost in a power cut, blocks are delivered again.
            self.core.table.commit(batch, Durability::Buffered).await?;
        }
        self.acked = reached;
        Ok(())
    }
}
