//! Subscriptions: the ledger's events from the store, woken by its task.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;
use walytis_core::id::BlockId;
use walytis_core::ledger::subscriber::Seat;
use walytis_core::ledger::{Ack, Cursor, LedgerError, LedgerEvent, SubscribeFrom, Subscription};
use walytis_core::limits::LIVE_LAG_MAX;
use walytis_core::store::Direction;

use super::table::{EventKind, Standing, behind};
use super::{Inner, State};

/// Events read at once.
const PAGE: usize = 128;

pub(super) async fn subscribe(inner: &Arc<Inner>, from: SubscribeFrom) -> Result<Box<dyn Subscription>, LedgerError> {
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
    Ok(Box::new(Follower { inner: Arc::clone(inner), state, role, position, page: VecDeque::new() }))
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
    inner: Arc<Inner>,
    state: watch::Receiver<State>,
    role: Role,
    /// Last event that was read into `page`.
    position: u64,
    page: VecDeque<(u64, EventKind, BlockId)>,
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
    async fn event(&self, sequence: u64, kind: EventKind, id: BlockId) -> Result<Option<LedgerEvent>, LedgerError> {
        let cursor = Cursor(sequence);
        match kind {
            EventKind::Retracted => return Ok(Some(LedgerEvent::Retracted { id, cursor })),
            EventKind::Proposed => return Ok(Some(LedgerEvent::ForgetProposed { proposal: id, cursor })),
            EventKind::Forgotten => return Ok(Some(LedgerEvent::Forgotten { id, cursor })),
            EventKind::Block => {}
        }
        match self.inner.table.record(&id).await? {
            Some(local) if local.cursor == sequence && local.standing == Standing::Valid => {
                Ok(Some(LedgerEvent::Block(self.inner.info(&id, &local).await?)))
            }
            _ => Ok(None),
        }
    }

    /// Returns the next event that is read already. One whose place a later event has taken counts as acknowledged.
    async fn pop(&mut self) -> Result<Option<LedgerEvent>, LedgerError> {
        while let Some((sequence, kind, id)) = self.page.front().copied() {
            if matches!(&self.role, Role::Durable(seat) if seat.is_acked(sequence)) {
                self.page.pop_front();
                continue;
            }
            let event = self.event(sequence, kind, id).await?;
            if let Role::Durable(seat) = &self.role {
                seat.deliver(sequence);
                if event.is_none() {
                    seat.acknowledge(Ack::One(Cursor(sequence))).await?;
                }
            }
            self.page.pop_front();
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
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
            if self.inner.stop.is_cancelled() {
                return Ok(None);
            }
            if let Role::Durable(seat) = &self.role {
                seat.check()?;
            }
            if let Some(event) = self.pop().await? {
                return Ok(Some(event));
            }
            let end = self.state.borrow_and_update().meta.sequence;
            if let Some(lagged) = self.skip(end) {
                return Ok(Some(lagged));
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
                () = self.inner.stop.cancelled() => return Ok(None),
                () = replaced => {}
                changed = self.state.changed() => if changed.is_err() { return Ok(None) },
            }
        }
    }

    async fn begin(&mut self, cursor: Cursor) -> Result<u32, LedgerError> {
        let Role::Durable(seat) = &self.role else { return Ok(1) };
        self.inner.check_open()?;
        seat.begin(cursor).await
    }

    async fn ack(&mut self, cursor: Cursor) -> Result<(), LedgerError> {
        let Role::Durable(seat) = &self.role else { return Ok(()) };
        self.inner.check_open()?;
        seat.acknowledge(Ack::UpTo(cursor)).await
    }

    async fn ack_one(&mut self, cursor: Cursor) -> Result<(), LedgerError> {
        let Role::Durable(seat) = &self.role else { return Ok(()) };
        self.inner.check_open()?;
        seat.acknowledge(Ack::One(cursor)).await
    }
}
