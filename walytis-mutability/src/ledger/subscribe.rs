//! Subscriptions: the events of this ledger from the store, woken by its task.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;
use walytis_core::ledger::subscriber::Seat;
use walytis_core::ledger::{Ack, Cursor, Ledger, LedgerError, LedgerEvent, SubscribeFrom, Subscription};
use walytis_core::limits::LIVE_LAG_MAX;
use walytis_core::store::Direction;

use super::{Inner, State};
use crate::event::{Change, Event, Events};
use crate::limits::PAGE;
use crate::table::{EventRow, behind};

pub(super) async fn events<L: Ledger + ?Sized + 'static>(
    inner: &Arc<Inner<L>>,
    from: SubscribeFrom,
) -> Result<Box<dyn Events>, LedgerError> {
    Ok(Box::new(EventFollower(Follower::new(inner, from).await?)))
}

pub(super) async fn blocks<L: Ledger + ?Sized + 'static>(
    inner: &Arc<Inner<L>>,
    from: SubscribeFrom,
) -> Result<Box<dyn Subscription>, LedgerError> {
    Ok(Box::new(BlockFollower(Follower::new(inner, from).await?)))
}

/// How a subscriber stands to what it missed.
enum Role {
    /// Gets what is new.
    Live,
    /// Reads everything behind a position.
    Reader,
    /// Gets what it did not acknowledge.
    Durable(Seat),
}

/// One subscriber. It pulls: however slow, it delays nobody.
struct Follower<L: Ledger + ?Sized> {
    inner: Arc<Inner<L>>,
    state: watch::Receiver<State>,
    role: Role,
    /// Last event that was read into `page`.
    position: u64,
    page: VecDeque<(u64, EventRow)>,
}

struct EventFollower<L: Ledger + ?Sized>(Follower<L>);

struct BlockFollower<L: Ledger + ?Sized>(Follower<L>);

impl<L: Ledger + ?Sized> fmt::Debug for Follower<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.role {
            Role::Durable(seat) => write!(f, "Subscription({seat:?} at {})", self.position),
            _ => write!(f, "Subscription(at {})", self.position),
        }
    }
}

impl<L: Ledger + ?Sized> fmt::Debug for EventFollower<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<L: Ledger + ?Sized> fmt::Debug for BlockFollower<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<L: Ledger + ?Sized + 'static> Follower<L> {
    async fn new(inner: &Arc<Inner<L>>, from: SubscribeFrom) -> Result<Self, LedgerError> {
        let state = inner.state.subscribe();
        let (role, position) = match from {
            SubscribeFrom::Now => (Role::Live, state.borrow().meta.sequence),
            SubscribeFrom::Cursor(cursor) => (Role::Reader, cursor.0),
            SubscribeFrom::Name(name) => {
                inner.check_open()?;
                let seat = inner.subscribers.open(&name).await?;
                let position = seat.acked();
                (Role::Durable(seat), position)
            }
        };
        Ok(Self { inner: Arc::clone(inner), state, role, position, page: VecDeque::new() })
    }

    async fn read(&mut self) -> Result<(), LedgerError> {
        let table = &self.inner.table;
        let mut range = table.all(b'e');
        range.start = behind(&table.key(b'e', &[&self.position.to_be_bytes()]));
        let page = table.events(range, Direction::Forward, PAGE).await?;
        if let Some((last, _)) = page.last() {
            self.position = *last;
        }
        self.page = page.into();
        Ok(())
    }

    /// Returns the next event that is read already and not acknowledged; it stays in the page.
    fn peek(&mut self) -> Option<(u64, EventRow)> {
        while let Some((sequence, row)) = self.page.front().copied() {
            match &self.role {
                Role::Durable(seat) if seat.is_acked(sequence) => self.page.pop_front(),
                _ => return Some((sequence, row)),
            };
        }
        None
    }

    /// Waits until an event is in the page, which keeps it; nothing at the end. Cancel-safe: page and position change
    /// together. `lag` is asked first how far the ledger is, and may move this behind what it leaves out.
    async fn wait<T>(&mut self, lag: impl Fn(&mut Self, u64) -> Option<T>) -> Result<Waited<T>, LedgerError> {
        loop {
            if self.inner.stop.is_cancelled() {
                return Ok(Waited::End);
            }
            if let Role::Durable(seat) = &self.role {
                seat.check()?;
            }
            if let Some((sequence, row)) = self.peek() {
                return Ok(Waited::Event(sequence, row));
            }
            let end = self.state.borrow_and_update().meta.sequence;
            if let Some(lagged) = lag(self, end) {
                return Ok(Waited::Lagged(lagged));
            }
            if end > self.position {
                self.read().await?;
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
                () = self.inner.stop.cancelled() => return Ok(Waited::End),
                () = replaced => {}
                changed = self.state.changed() => if changed.is_err() { return Ok(Waited::End) },
            }
        }
    }

    /// Takes the first event out of the page: it is being delivered.
    fn pop(&mut self, sequence: u64) {
        if let Role::Durable(seat) = &self.role {
            seat.deliver(sequence);
        }
        self.page.pop_front();
    }

    /// Returns the seat of a durable subscriber that may still write.
    fn seat(&self) -> Result<Option<&Seat>, LedgerError> {
        let Role::Durable(seat) = &self.role else { return Ok(None) };
        self.inner.check_open()?;
        Ok(Some(seat))
    }

    async fn begin(&self, cursor: Cursor) -> Result<u32, LedgerError> {
        match self.seat()? {
            Some(seat) => seat.begin(cursor).await,
            None => Ok(1),
        }
    }

    async fn ack(&self, ack: Ack) -> Result<(), LedgerError> {
        match self.seat()? {
            Some(seat) => seat.acknowledge(ack).await,
            None => Ok(()),
        }
    }

    /// Returns what an event means to a subscriber of blocks; nothing if a later event has taken its place.
    async fn block(&self, sequence: u64, event: &EventRow) -> Result<Option<LedgerEvent>, LedgerError> {
        let (id, cursor) = (event.original, Cursor(sequence));
        match event.change() {
            Change::Conflicted => return Ok(None),
            Change::ForgetProposed => return Ok(Some(LedgerEvent::ForgetProposed { proposal: id, cursor })),
            Change::Forgotten => return Ok(Some(LedgerEvent::Forgotten { id, cursor })),
            _ => {}
        }
        let Some(row) = self.inner.table.original(&id).await?.filter(|row| row.cursor == sequence) else {
            return Ok(None);
        };
        if !row.is_shown() {
            return Ok(Some(LedgerEvent::Retracted { id, cursor }));
        }
        Ok(Some(LedgerEvent::Block(self.inner.current_of(&id, &row).await?.info)))
    }
}

/// What waiting for an event came to.
enum Waited<T> {
    Event(u64, EventRow),
    Lagged(T),
    End,
}

/// Leaves out what a live subscriber is too slow for.
fn skip<L: Ledger + ?Sized>(follower: &mut Follower<L>, end: u64) -> Option<LedgerEvent> {
    let missed = end.saturating_sub(follower.position);
    if !matches!(follower.role, Role::Live) || missed <= LIVE_LAG_MAX {
        return None;
    }
    let resume = Cursor(std::mem::replace(&mut follower.position, end));
    Some(LedgerEvent::Lagged { missed, resume, cursor: Cursor(end) })
}

#[async_trait]
impl<L: Ledger + ?Sized + 'static> Events for EventFollower<L> {
    async fn next(&mut self) -> Result<Option<Event>, LedgerError> {
        // Events are small and stand in the store: nothing is left out.
        let Waited::Event(sequence, row) = self.0.wait(|_, _| None::<()>).await? else { return Ok(None) };
        self.0.pop(sequence);
        let cursor = Cursor(sequence);
        Ok(Some(Event { change: row.change(), id: row.original, version: row.version, cursor }))
    }

    async fn begin(&mut self, cursor: Cursor) -> Result<u32, LedgerError> {
        self.0.begin(cursor).await
    }

    async fn ack(&mut self, cursor: Cursor) -> Result<(), LedgerError> {
        self.0.ack(Ack::UpTo(cursor)).await
    }

    async fn ack_one(&mut self, cursor: Cursor) -> Result<(), LedgerError> {
        self.0.ack(Ack::One(cursor)).await
    }
}

#[async_trait]
impl<L: Ledger + ?Sized + 'static> Subscription for BlockFollower<L> {
    async fn next(&mut self) -> Result<Option<LedgerEvent>, LedgerError> {
        loop {
            let (sequence, row) = match self.0.wait(skip).await? {
                Waited::Event(sequence, row) => (sequence, row),
                Waited::Lagged(lagged) => return Ok(Some(lagged)),
                Waited::End => return Ok(None),
            };
            // It leaves the page only when all reading is done: a dropped or failed call skips nothing.
            let event = self.0.block(sequence, &row).await?;
            if let (None, Role::Durable(seat)) = (&event, &self.0.role) {
                // A later event has taken its place: nothing will ever be told there.
                seat.pass(&[(sequence, sequence)]).await?;
            }
            self.0.pop(sequence);
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    async fn begin(&mut self, cursor: Cursor) -> Result<u32, LedgerError> {
        self.0.begin(cursor).await
    }

    async fn ack(&mut self, cursor: Cursor) -> Result<(), LedgerError> {
        self.0.ack(Ack::UpTo(cursor)).await
    }

    async fn ack_one(&mut self, cursor: Cursor) -> Result<(), LedgerError> {
        self.0.ack(Ack::One(cursor)).await
    }
}
