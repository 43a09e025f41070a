//! A store that counts what is asked of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use walytis_core::store::{Batch, Direction, Durability, KeyRange, KvStore, StoreError};

/// What was asked of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Keys looked up.
    pub gets: u64,
    /// Scans.
    pub scans: u64,
    /// Entries that scans returned.
    pub scanned: u64,
    /// Commits.
    pub commits: u64,
    /// Changes in them.
    pub writes: u64,
    /// Bytes of keys and values in them.
    pub bytes: u64,
}

/// A [`KvStore`] that counts what is asked of the one behind it.
#[derive(Debug)]
pub struct CountingStore {
    inner: Arc<dyn KvStore>,
    cost: Mutex<Cost>,
    lookup: Duration,
}

impl CountingStore {
    /// Returns a store over `inner` that has counted nothing yet.
    pub fn new(inner: Arc<dyn KvStore>) -> Self {
        Self::slow(inner, Duration::ZERO)
    }

    /// As [`Self::new`], and each key looked up takes so long.
    pub fn slow(inner: Arc<dyn KvStore>, lookup: Duration) -> Self {
        Self { inner, cost: Mutex::default(), lookup }
    }

    /// Returns what was asked since the last call.
    pub fn take_cost(&self) -> Cost {
        std::mem::take(&mut self.cost.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn count(&self, add: impl FnOnce(&mut Cost)) {
        add(&mut self.cost.lock().unwrap_or_else(PoisonError::into_inner));
    }

    async fn look_up(&self, keys: usize) {
        self.count(|cost| cost.gets += keys as u64);
        if !self.lookup.is_zero() {
            tokio::time::sleep(self.lookup.saturating_mul(u32::try_from(keys).unwrap_or(u32::MAX))).await;
        }
    }
}

#[async_trait]
impl KvStore for CountingStore {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.look_up(1).await;
        self.inner.get(key).await
    }

    async fn get_many(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.look_up(keys.len()).await;
        self.inner.get_many(keys).await
    }

    async fn scan(
        &self,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let found = self.inner.scan(range, direction, limit).await?;
        self.count(|cost| {
            cost.scans += 1;
            cost.scanned += found.len() as u64;
        });
        Ok(found)
    }

    async fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        self.count(|cost| {
            cost.commits += 1;
            cost.writes += batch.writes().len() as u64;
            cost.bytes += batch.bytes() as u64;
        });
        self.inner.commit(batch, durability).await
    }

    async fn size_bytes(&self) -> Result<u64, StoreError> {
        self.inner.size_bytes().await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.inner.close().await
    }
}
