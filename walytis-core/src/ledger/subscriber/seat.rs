//! Who listens under a name, and the writing down of what it acknowledges.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, watch};

use super::{Progress, TooMany};
use crate::ledger::{Ack, Cursor, LedgerError};
use crate::store::{Batch, Durability, KvStore};

/// One durable subscriber that somebody listens as.
pub(super) struct Named {
    name: String,
    key: Vec<u8>,
    store: Arc<dyn KvStore>,
    /// What stands in the store, and the highest position that was delivered.
    state: Mutex<(Progress, u64)>,
    /// One change at a time reaches the store.
    writes: Semaphore,
    /// Whose turn it is; nothing once the subscriber was removed.
    turn: watch::Sender<Option<u64>>,
}

impl Named {
    pub(super) fn new(name: String, key: Vec<u8>, store: Arc<dyn KvStore>, progress: Progress) -> Self {
        let furthest = progress.furthest();
        let state = Mutex::new((progress, furthest));
        Self { name, key, store, state, writes: Semaphore::new(1), turn: watch::Sender::new(Some(0)) }
    }

    fn state(&self) -> MutexGuard<'_, (Progress, u64)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the progress and writes it down; unchanged if that fails. Lost in a power cut, events come again.
    async fn change<T>(
        &self,
        change: impl FnOnce(&mut Progress, u64) -> Result<(bool, T), LedgerError>,
    ) -> Result<T, LedgerError> {
        let _one = self.writes.acquire().await.map_err(|_| LedgerError::Closed)?;
        if self.turn.borrow().is_none() {
            return Err(LedgerError::UnknownSubscriber { name: self.name.clone() });
        }
        let (mut progress, delivered) = self.state().clone();
        let (changed, answer) = change(&mut progress, delivered)?;
        if changed {
            let mut batch = Batch::new();
            batch.put(self.key.clone(), progress.encode());
            self.store.commit(batch, Durability::Buffered).await?;
            self.state().0 = progress;
        }
        Ok(answer)
    }

    pub(super) async fn acknowledge(&self, ack: Ack) -> Result<(), LedgerError> {
        self.change(|progress, delivered| match ack {
            // A wrong number must not skip events.
            Ack::UpTo(cursor) => Ok((progress.ack_up_to(cursor.0.min(delivered)), ())),
            Ack::One(cursor) if cursor.0 == 0 || cursor.0 > delivered => Err(LedgerError::NotDelivered { cursor }),
            Ack::One(cursor) => Ok((progress.ack_one(cursor.0)?, ())),
        })
        .await
    }

    pub(super) async fn remove(&self) -> Result<(), LedgerError> {
        let _one = self.writes.acquire().await.map_err(|_| LedgerError::Closed)?;
        let mut batch = Batch::new();
        batch.delete(self.key.clone());
        self.store.commit(batch, Durability::Flushed).await?;
        self.turn.send_replace(None);
        Ok(())
    }
}

/// The place of the one who listens under a name; whoever takes it later goes on instead.
pub struct Seat {
    named: Arc<Named>,
    turn: u64,
    turns: watch::Receiver<Option<u64>>,
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seat({:?} from {})", self.named.name, self.acked())
    }
}

impl Seat {
    pub(super) fn take(named: Arc<Named>) -> Self {
        let mut turn = 0;
        named.turn.send_modify(|current| {
            turn = current.map_or(0, |current| current.wrapping_add(1));
            if current.is_some() {
                *current = Some(turn);
            }
        });
        let turns = named.turn.subscribe();
        Self { named, turn, turns }
    }

    /// Returns the position up to which everything is acknowledged: where to read on.
    pub fn acked(&self) -> u64 {
        self.named.state().0.acked()
    }

    /// Says whether an event is acknowledged and so not to be delivered.
    pub fn is_acked(&self, at: u64) -> bool {
        self.named.state().0.is_acked(at)
    }

    /// Notes that an event is being delivered.
    pub fn deliver(&self, at: u64) {
        let mut state = self.named.state();
        state.1 = state.1.max(at);
    }

    /// Fails if the seat was taken by somebody else, or the subscriber removed.
    ///
    /// # Errors
    /// [`LedgerError::SubscriberReplaced`], [`LedgerError::UnknownSubscriber`].
    pub fn check(&self) -> Result<(), LedgerError> {
        match *self.turns.borrow() {
            Some(turn) if turn == self.turn => Ok(()),
            Some(_) => Err(LedgerError::SubscriberReplaced { name: self.named.name.clone() }),
            None => Err(LedgerError::UnknownSubscriber { name: self.named.name.clone() }),
        }
    }

    /// Waits until [`Self::check`] may fail. Cancel-safe.
    pub async fn changed(&mut self) {
        if self.turns.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Counts an attempt of an event, in the store; returns which one it is.
    ///
    /// # Errors
    /// [`LedgerError::TooManyUnacknowledged`], [`LedgerError::Store`].
    pub async fn begin(&self, cursor: Cursor) -> Result<u32, LedgerError> {
        self.named
            .change(|progress, _| match progress.is_acked(cursor.0) {
                true => Ok((false, 1)),
                false => Ok((true, progress.begin(cursor.0)?)),
            })
            .await
    }

    /// Counts ranges of positions, first to last, as acknowledged because nothing will ever be told there.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub async fn pass(&self, ranges: &[(u64, u64)]) -> Result<(), LedgerError> {
        if ranges.is_empty() {
            return Ok(());
        }
        self.named
            .change(|progress, _| {
                let mut changed = false;
                for at in ranges.iter().flat_map(|(first, last)| *first..=*last) {
                    // Without room it stays a hole, in which nothing is told either.
                    changed |= progress.ack_one(at).unwrap_or(false);
                }
                Ok((changed, ()))
            })
            .await
    }

    /// Acknowledges.
    ///
    /// # Errors
    /// [`LedgerError::NotDelivered`], [`LedgerError::TooManyUnacknowledged`], [`LedgerError::Store`].
    pub async fn acknowledge(&self, ack: Ack) -> Result<(), LedgerError> {
        self.named.acknowledge(ack).await
    }
}

impl From<TooMany> for LedgerError {
    fn from(_: TooMany) -> Self {
        Self::TooManyUnacknowledged
    }
}
