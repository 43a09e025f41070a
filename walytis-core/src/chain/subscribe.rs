//! Subscriptions: arrival order from the store, woken by commits.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use super::core::Inner;
use super::query;
use super::schema::{Tag, number_at_end, read_id};
use super::table::behind;
use crate::ledger::subscriber::Seat;
use crate::ledger::{
    Ack, BlockInfo, BlockState, Cursor, LedgerError, LedgerEvent, SubscribeFrom, Subscriber, Subscription,
};
use crate::limits::LIVE_LAG_MAX;
use crate::store::{Direction, KeyRange};

/// Blocks read at once. Chosen: a page of headers of some ten kilobytes.
const PAGE: usize = 128;

/// Begins a subscription.
pub(super) async fn subscribe(core: &Arc<Inner>, from: SubscribeFrom) -> Result<Box<dyn Subscription>, LedgerError> {
    let commits = core.arrivals.subscribe();
    let (role, position) = match from {
        SubscribeFrom::Now => (Role::Live, *commits.borrow()),
        SubscribeFrom::Cursor(cursor) => (Role::Reader, cursor.0),
        SubscribeFrom::Name(name) => {
            check_open(core)?;
            let seat = noted(core, core.subscribers.open(&name).await)?;
            let position = seat.acked();
            (Role::Durable(seat), position)
        }
    };
    Ok(Box::new(Follower { core: Arc::clone(core), commits, role, position, page: VecDeque::new() }))
}

/// Returns the durable subscribers.
pub(super) async fn subscribers(core: &Inner) -> Result<Vec<Subscriber>, LedgerError> {
    let end = *core.arrivals.borrow();
    noted(core, core.subscribers.list(end).await)
}

/// Acknowledges for a durable subscriber.
pub(super) async fn acknowledge(core: &Inner, name: &str, ack: Ack) -> Result<(), LedgerError> {
    check_open(core)?;
    noted(core, core.subscribers.acknowledge(name, ack).await)
}

/// Removes a durable subscriber.
pub(super) async fn unsubscribe(core: &Inner, name: &str) -> Result<(), LedgerError> {
    check_open(core)?;
    noted(core, core.subscribers.remove(name).await)
}

/// After its end a chain writes nothing: it may have been deleted.
fn check_open(core: &Inner) -> Result<(), LedgerError> {
    if core.stop.is_cancelled() { Err(LedgerError::Closed) } else { Ok(()) }
}

/// Marks the chain damaged if a subscriber's record is.
fn noted<T>(core: &Inner, result: Result<T, LedgerError>) -> Result<T, LedgerError> {
    match result {
        Err(LedgerError::Store(error)) => core.table.note(Err(error)),
        other => other,
    }
}

/// Returns the ranges behind `start`, up to `end`, in which nothing is told.
fn untold(start: u64, end: u64, told: &VecDeque<BlockInfo>) -> Vec<(u64, u64)> {
    let (mut ranges, mut before) = (Vec::new(), start);
    for at in told.iter().map(|info| info.cursor.0).chain([end.saturating_add(1)]) {
        if at > before.saturating_add(1) {
            ranges.push((before.saturating_add(1), at - 1));
        }
        before = at;
    }
    ranges
}

/// How a subscriber stands to what it missed.
enum Role {
    /// Gets what is new; told when it lags.
    Live,
    /// Reads everything behind a position.
    Reader,
    /// Gets what it did not acknowledge.
    Durable(Seat),
}

/// One subscriber. It pulls: however slow, it delays nobody.
struct Follower {
    core: Arc<Inner>,
    commits: watch::Receiver<u64>,
    role: Role,
    /// Arrival number of the last block that was read into `page`.
    position: u64,
    page: VecDeque<BlockInfo>,
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.role {
            Role::Durable(seat) => write!(f, "Subscription({seat:?} at {})", self.position),
            _ => write!(f, "Subscription(at {})", self.position),
        }
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
        let end = places.last().copied().unwrap_or(published);
        // A skeleton is told of once the policy admits it by itself; then it arrives again, at another place.
        let here = infos.into_iter().zip(places).filter(|(info, place)| info.cursor.0 == *place);
        let told: VecDeque<_> =
            here.map(|(info, _)| info).filter(|info| !matches!(info.state, BlockState::Void { .. })).collect();
        if let Role::Durable(seat) = &self.role {
            // What will never be told is not left for the subscriber to acknowledge.
            noted(&self.core, seat.pass(&untold(self.position, end, &told)).await)?;
        }
        (self.position, self.page) = (end, told);
        Ok(())
    }

    /// Returns the next event that is read already.
    fn pop(&mut self) -> Option<LedgerEvent> {
        while let Some(info) = self.page.pop_front() {
            match &self.role {
                Role::Durable(seat) if seat.is_acked(info.cursor.0) => {}
                Role::Durable(seat) => {
                    seat.deliver(info.cursor.0);
                    return Some(LedgerEvent::Block(info));
                }
                Role::Live | Role::Reader => return Some(LedgerEvent::Block(info)),
            }
        }
        None
    }

    /// Leaves out what a live subscriber is too slow for.
    fn skip(&mut self, end: u64) -> Option<LedgerEvent> {
        let missed = end.saturating_sub(self.position);
        if !matches!(self.role, Role::Live) || missed <= LIVE_LAG_MAX {
            return None;
        }
        let resume = Cursor(std::mem::replace(&mut self.position, end));
        Some(LedgerEvent::Lagged { missed, resume, cursor: Cursor(end) })
    }
}

#[async_trait]
impl Subscription for Follower {
    async fn next(&mut self) -> Result<Option<LedgerEvent>, LedgerError> {
        loop {
            if self.core.stop.is_cancelled() {
                return Ok(None);
            }
            if let Role::Durable(seat) = &self.role {
                seat.check()?;
            }
            if let Some(event) = self.pop() {
                return Ok(Some(event));
            }
            let end = *self.commits.borrow_and_update();
            if let Some(lagged) = self.skip(end) {
                return Ok(Some(lagged));
            }
            if end > self.position {
                self.read(end).await?;
                continue;
            }
            let replaced = async {
                match &mut self.role {
                    Role::Durable(seat) => seat.changed().await,
                    Role::Live | Role::Reader => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.core.stop.cancelled() => return Ok(None),
                () = replaced => {}
                changed = self.commits.changed() => if changed.is_err() { return Ok(None) },
            }
        }
    }

    async fn begin(&mut self, cursor: Cursor) -> Result<u32, LedgerError> {
        let Role::Durable(seat) = &self.role else { return Ok(1) };
        check_open(&self.core)?;
        noted(&self.core, seat.begin(cursor).await)
    }

    async fn ack(&mut self, cursor: Cursor) -> Result<(), LedgerError> {
        let Role::Durable(seat) = &self.role else { return Ok(()) };
        check_open(&self.core)?;
        noted(&self.core, seat.acknowledge(Ack::UpTo(cursor)).await)
    }

    async fn ack_one(&mut self, cursor: Cursor) -> Result<(), LedgerError> {
        let Role::Durable(seat) = &self.role else { return Ok(()) };
        check_open(&self.core)?;
        noted(&self.core, seat.acknowledge(Ack::One(cursor)).await)
    }
}
