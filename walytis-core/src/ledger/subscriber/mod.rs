//! Durable subscribers: what they acknowledged, kept in the store. Shared by all ledgers.
//!
//! ```text
//!   Subscribers ── open(name) ──► Seat ── of one listener; a later listener takes the seat over
//!        │                          │
//!        └── named (by name) ───────┴──► Progress (pure) ──► one record in the store
//! ```

mod progress;
mod progress_v1;
mod seat;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Semaphore;

pub use progress::{Progress, TooMany};
pub use seat::Seat;

use super::{Ack, Cursor, LedgerError, Subscriber};
use crate::limits::{SUBSCRIBER_NAME_MAX, SUBSCRIBERS_MAX};
use crate::store::{Batch, Direction, Durability, KeyRange, KvStore, StoreError};
use seat::Named;

/// The durable subscribers of one ledger.
pub struct Subscribers {
    store: Arc<dyn KvStore>,
    /// What stands in the store before each name.
    prefix: Vec<u8>,
    open: Mutex<BTreeMap<String, Weak<Named>>>,
    /// One opening or removal at a time.
    changes: Semaphore,
}

impl fmt::Debug for Subscribers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscribers")
    }
}

impl Subscribers {
    /// Returns the subscribers whose records stand under `prefix` ‖ name.
    pub const fn new(store: Arc<dyn KvStore>, prefix: Vec<u8>) -> Self {
        Self { store, prefix, open: Mutex::new(BTreeMap::new()), changes: Semaphore::const_new(1) }
    }

    /// Takes the seat of a durable subscriber; makes the subscriber if there is none of this name.
    ///
    /// # Errors
    /// [`LedgerError::Refused`] for a bad name or too many subscribers; [`LedgerError::Store`].
    pub async fn open(&self, name: &str) -> Result<Seat, LedgerError> {
        check_name(name)?;
        let _one = self.changes.acquire().await.map_err(|_| LedgerError::Closed)?;
        if let Some(named) = self.listening(name) {
            return Ok(Seat::take(named));
        }
        let progress = match self.load(name).await? {
            Some(progress) => progress,
            None => self.create(name).await?,
        };
        let named = Arc::new(Named::new(name.to_owned(), self.key(name), Arc::clone(&self.store), progress));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, named| named.strong_count() > 0);
        open.insert(name.to_owned(), Arc::downgrade(&named));
        Ok(Seat::take(named))
    }

    /// Returns all subscribers, by name. `end` is the position of the last event.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub async fn list(&self, end: u64) -> Result<Vec<Subscriber>, LedgerError> {
        let rows = self.store.scan(KeyRange::prefix(&self.prefix), Direction::Forward, SUBSCRIBERS_MAX).await?;
        let mut found = Vec::with_capacity(rows.len());
        for (key, value) in rows {
            let name = key.get(self.prefix.len()..).and_then(|name| std::str::from_utf8(name).ok());
            let name = name.ok_or_else(|| StoreError::corrupt(&key, "not the name of a subscriber"))?;
            let progress = Progress::decode(&key, &value)?;
            found.push(progress.describe(name, end));
        }
        Ok(found)
    }

    /// Acknowledges for a subscriber, listening or not.
    ///
    /// # Errors
    /// [`LedgerError::UnknownSubscriber`], [`LedgerError::NotDelivered`], [`LedgerError::TooManyUnacknowledged`],
    /// [`LedgerError::Store`].
    pub async fn acknowledge(&self, name: &str, ack: Ack) -> Result<(), LedgerError> {
        let _one = self.changes.acquire().await.map_err(|_| LedgerError::Closed)?;
        let named = match self.listening(name) {
            Some(named) => named,
            None => {
                let unknown = || LedgerError::UnknownSubscriber { name: name.to_owned() };
                let progress = self.load(name).await?.ok_or_else(unknown)?;
                Arc::new(Named::new(name.to_owned(), self.key(name), Arc::clone(&self.store), progress))
            }
        };
        named.acknowledge(ack).await
    }

    /// Removes a subscriber.
    ///
    /// # Errors
    /// [`LedgerError::UnknownSubscriber`], [`LedgerError::Store`].
    pub async fn remove(&self, name: &str) -> Result<(), LedgerError> {
        let _one = self.changes.acquire().await.map_err(|_| LedgerError::Closed)?;
        let listening = self.listening(name);
        if listening.is_none() && self.load(name).await?.is_none() {
            return Err(LedgerError::UnknownSubscriber { name: name.to_owned() });
        }
        match listening {
            Some(named) => named.remove().await?,
            None => {
                let mut batch = Batch::new();
                batch.delete(self.key(name));
                self.store.commit(batch, Durability::Flushed).await?;
            }
        }
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        Ok(())
    }

    fn listening(&self, name: &str) -> Option<Arc<Named>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).get(name).and_then(Weak::upgrade)
    }

    async fn load(&self, name: &str) -> Result<Option<Progress>, LedgerError> {
        let key = self.key(name);
        let row = self.store.get(&key).await?;
        Ok(row.map(|value| Progress::decode(&key, &value)).transpose()?)
    }

    async fn create(&self, name: &str) -> Result<Progress, LedgerError> {
        let range = KeyRange::prefix(&self.prefix);
        if self.store.scan(range, Direction::Forward, SUBSCRIBERS_MAX).await?.len() >= SUBSCRIBERS_MAX {
            let reason = format!("there are {SUBSCRIBERS_MAX} subscribers already; remove one that is not needed");
            return Err(LedgerError::Refused { reason });
        }
        let progress = Progress::default();
        let mut batch = Batch::new();
        batch.put(self.key(name), progress.encode());
        self.store.commit(batch, Durability::Buffered).await?;
        Ok(progress)
    }

    fn key(&self, name: &str) -> Vec<u8> {
        [self.prefix.as_slice(), name.as_bytes()].concat()
    }
}

fn check_name(name: &str) -> Result<(), LedgerError> {
    if (1..=SUBSCRIBER_NAME_MAX).contains(&name.len()) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    let reason = format!("a subscriber's name has 1 to {SUBSCRIBER_NAME_MAX} bytes without control characters");
    Err(LedgerError::Refused { reason })
}

impl Progress {
    fn describe(&self, name: &str, end: u64) -> Subscriber {
        let ahead = self.ahead();
        let left = end.saturating_sub(self.acked()).saturating_sub(ahead);
        let (begun, attempts) = self.begun();
        Subscriber { name: name.to_owned(), acknowledged: Cursor(self.acked()), ahead, left, begun, attempts }
    }
}
