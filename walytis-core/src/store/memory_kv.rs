//! The store in memory: what tests and short-lived nodes use, and the strictest reading of the [`KvStore`] contract.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Batch, Direction, Durability, KeyRange, KvStore, StoreError, Write};

/// Entries in order of their keys.
type Entries = BTreeMap<Bytes, Bytes>;
/// First key and end of a range.
type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// A [`KvStore`] in memory. Nothing of it survives the process; both durabilities mean the same.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: Entries,
    closed: bool,
}

impl MemoryStore {
    /// Returns an empty, open store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns an open store with the same entries, as if the folder of this one were copied. Works after
    /// [`close`](KvStore::close) too: that is how a test restarts a node.
    pub fn snapshot(&self) -> Self {
        let entries = self.lock().entries.clone();
        Self { state: Mutex::new(State { entries, closed: false }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A poisoned map is still whole: the code that runs under the lock does not panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.lock();
        if state.closed { Err(StoreError::Closed) } else { Ok(state) }
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("MemoryStore").field("entries", &state.entries.len()).field("closed", &state.closed).finish()
    }
}

#[async_trait]
impl KvStore for MemoryStore {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.open()?.entries.get(key).cloned())
    }

    async fn scan(
        &self,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let state = self.open()?;
        let Some(bounds) = bounds(&range) else { return Ok(Vec::new()) };
        let found = state.entries.range::<[u8], _>(bounds);
        let own = |(key, value): (&Bytes, &Bytes)| (key.clone(), value.clone());
        Ok(match direction {
            Direction::Forward => found.take(limit).map(own).collect(),
            Direction::Reverse => found.rev().take(limit).map(own).collect(),
        })
    }

    async fn commit(&self, batch: Batch, _durability: Durability) -> Result<(), StoreError> {
        let mut state = self.open()?;
        batch.writes().iter().for_each(|write| apply(&mut state.entries, write));
        Ok(())
    }

    async fn size_bytes(&self) -> Result<u64, StoreError> {
        let state = self.open()?;
        let bytes: usize = state.entries.iter().map(|(key, value)| key.len() + value.len()).sum();
        Ok(u64::try_from(bytes).unwrap_or(u64::MAX))
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.lock().closed = true;
        Ok(())
    }
}

fn apply(entries: &mut Entries, write: &Write) {
    match write {
        Write::Put(key, value) => {
            // Copies, so that a small value never keeps a large received buffer alive.
            entries.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        }
        Write::Delete(key) => {
            entries.remove(key.as_slice());
        }
        Write::DeleteRange(range) => {
            let Some(bounds) = bounds(range) else { return };
            let keys: Vec<Bytes> = entries.range::<[u8], _>(bounds).map(|(key, _)| key.clone()).collect();
            keys.iter().for_each(|key| {
                entries.remove(key);
            });
        }
    }
}

/// The bounds of a range, or nothing if the range is empty or inverted (which a `BTreeMap` answers with a panic).
fn bounds(range: &KeyRange) -> Option<Bounds<'_>> {
    let end = match &range.end {
        Some(end) if *end <= range.start => return None,
        Some(end) => Bound::Excluded(end.as_slice()),
        None => Bound::Unbounded,
    };
    Some((Bound::Included(range.start.as_slice()), end))
}
