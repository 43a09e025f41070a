//! The stores of a node whose [`Power`] fails.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use walytis_core::id::ChainId;
use walytis_core::store::{
    Batch, BlobDraft, BlobKey, BlobSpace, BlobStatus, BlobStore, BlobStoreError, Direction, Durability, KeyRange,
    KvStore, MemoryBlobs, MemoryStore, StoreError, Write,
};

use super::power::{Power, Step};
use crate::sim::{Dice, SimHub};

/// What a double says once it fails.
const REASON: &str = "the simulated disk failed";

/// A [`KvStore`] whose commits fail when its [`Power`] says so.
#[derive(Debug)]
pub struct FailingStore {
    power: Power,
    /// What the process and the operating system see.
    seen: MemoryStore,
    /// What a power cut leaves.
    disk: MemoryStore,
    /// What is seen and not yet flushed, in order.
    unflushed: Mutex<Vec<Batch>>,
    /// How long a commit takes at most, and the chance of it.
    slow: Option<(Duration, Mutex<Dice>)>,
    /// Where commits are noted, and whose they are.
    trace: Option<(SimHub, String)>,
}

impl FailingStore {
    /// Returns a double over a copy of `store`, all of which counts as flushed.
    pub fn new(store: &MemoryStore, power: Power) -> Self {
        Self {
            power,
            seen: store.snapshot(),
            disk: store.snapshot(),
            unflushed: Mutex::default(),
            slow: None,
            trace: None,
        }
    }

    /// Makes every commit take up to so long, in the runtime's time.
    #[must_use]
    pub fn slow(mut self, longest: Duration, dice: Dice) -> Self {
        self.slow = (!longest.is_zero()).then(|| (longest, Mutex::new(dice)));
        self
    }

    /// Notes every commit in the trace of a simulation, under this name.
    #[must_use]
    pub fn traced(mut self, hub: SimHub, name: &str) -> Self {
        self.trace = Some((hub, name.to_owned()));
        self
    }

    fn note(&self, batch: &Batch, durability: Durability) {
        let Some((hub, name)) = &self.trace else { return };
        let mut hash = Sha256::new();
        hash.update(format!("{name} {durability:?}").as_bytes());
        for write in batch.writes() {
            let (what, parts): (_, [&[u8]; 2]) = match write {
                Write::Put(key, value) => (0_u8, [key, value]),
                Write::Delete(key) => (1, [key, &[]]),
                Write::DeleteRange(range) => (2, [&range.start, range.end.as_deref().unwrap_or_default()]),
            };
            hash.update([what]);
            for part in parts {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
        }
        hub.note("commit", &hash.finalize());
    }

    /// Returns what a restarted node would open.
    pub fn what_is_left(&self) -> MemoryStore {
        if self.power.loses_buffered() { self.disk.snapshot() } else { self.seen.snapshot() }
    }

    /// Notes a batch, or takes out all of them.
    fn unflushed(&self) -> MutexGuard<'_, Vec<Batch>> {
        self.unflushed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_power(&self) -> Result<(), StoreError> {
        if self.power.is_off() { Err(kv_error()) } else { Ok(()) }
    }

    async fn apply(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        self.note(&batch, durability);
        // In one go: the store in memory never waits, so that no other commit comes in between.
        self.seen.commit(batch.clone(), durability).await?;
        self.unflushed().push(batch);
        if durability == Durability::Flushed {
            let flushed = std::mem::take(&mut *self.unflushed());
            for batch in flushed {
                self.disk.commit(batch, durability).await?;
            }
        }
        Ok(())
    }
}

fn kv_error() -> StoreError {
    StoreError::Io { reason: REASON.into() }
}

#[async_trait]
impl KvStore for FailingStore {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.check_power()?;
        self.seen.get(key).await
    }

    async fn scan(
        &self,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        self.check_power()?;
        self.seen.scan(range, direction, limit).await
    }

    async fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        if let Some((longest, dice)) = &self.slow {
            let time = dice.lock().unwrap_or_else(PoisonError::into_inner).within(*longest);
            tokio::time::sleep(time).await;
        }
        match self.power.step() {
            Step::Run => self.apply(batch, durability).await,
            Step::Fail(failure) => {
                if failure.applies_step() {
                    self.apply(batch, durability).await?;
                }
                Err(kv_error())
            }
            Step::Off => Err(kv_error()),
        }
    }

    async fn size_bytes(&self) -> Result<u64, StoreError> {
        self.check_power()?;
        self.seen.size_bytes().await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.check_power()?;
        self.seen.close().await
    }
}

/// A [`BlobStore`] whose writes fail when its [`Power`] says so. Acknowledged writes are flushed by contract, so a kill
/// and a power cut leave the same.
#[derive(Debug)]
pub struct FailingBlobs {
    power: Power,
    blobs: MemoryBlobs,
}

impl FailingBlobs {
    /// Returns a double over a copy of `blobs`.
    pub fn new(blobs: &MemoryBlobs, power: Power) -> Self {
        Self { power, blobs: blobs.snapshot() }
    }

    /// Returns what a restarted node would open.
    pub fn what_is_left(&self) -> MemoryBlobs {
        self.blobs.snapshot()
    }

    fn check_power(&self) -> Result<(), BlobStoreError> {
        if self.power.is_off() { Err(blob_error()) } else { Ok(()) }
    }

    async fn change<T>(&self, change: impl Future<Output = Result<T, BlobStoreError>>) -> Result<T, BlobStoreError> {
        change_blob(&self.power, change).await
    }
}

/// Makes a change, or fails before or after it, as the power says.
async fn change_blob<T>(
    power: &Power,
    change: impl Future<Output = Result<T, BlobStoreError>>,
) -> Result<T, BlobStoreError> {
    let (run, fail) = match power.step() {
        Step::Run => (true, false),
        Step::Fail(failure) => (failure.applies_step(), true),
        Step::Off => (false, true),
    };
    if !run {
        return Err(blob_error());
    }
    let done = change.await?;
    if fail { Err(blob_error()) } else { Ok(done) }
}

/// A draft of a [`FailingBlobs`].
#[derive(Debug)]
struct FailingDraft {
    power: Power,
    draft: Box<dyn BlobDraft>,
}

#[async_trait]
impl BlobDraft for FailingDraft {
    async fn append(&mut self, bytes: Bytes) -> Result<(), BlobStoreError> {
        change_blob(&self.power, self.draft.append(bytes)).await
    }

    async fn finish(self: Box<Self>, key: BlobKey) -> Result<(), BlobStoreError> {
        change_blob(&self.power, self.draft.finish(key)).await
    }
}

fn blob_error() -> BlobStoreError {
    BlobStoreError::Io { reason: REASON.into() }
}

#[async_trait]
impl BlobStore for FailingBlobs {
    async fn begin(&self, key: BlobKey, len: u64, chunk: u32) -> Result<BlobStatus, BlobStoreError> {
        self.change(self.blobs.begin(key, len, chunk)).await
    }

    async fn draft(&self) -> Result<Box<dyn BlobDraft>, BlobStoreError> {
        let draft = self.change(self.blobs.draft()).await?;
        Ok(Box::new(FailingDraft { power: self.power.clone(), draft }))
    }

    async fn write(&self, key: BlobKey, index: u32, bytes: Bytes) -> Result<BlobStatus, BlobStoreError> {
        self.change(self.blobs.write(key, index, bytes)).await
    }

    async fn status(&self, key: BlobKey) -> Result<BlobStatus, BlobStoreError> {
        self.check_power()?;
        self.blobs.status(key).await
    }

    async fn read(&self, key: BlobKey, offset: u64, len: usize) -> Result<Bytes, BlobStoreError> {
        self.check_power()?;
        self.blobs.read(key, offset, len).await
    }

    async fn delete(&self, key: BlobKey) -> Result<(), BlobStoreError> {
        self.change(self.blobs.delete(key)).await
    }

    async fn list(&self, space: BlobSpace, chain: ChainId) -> Result<Vec<BlobKey>, BlobStoreError> {
        self.check_power()?;
        self.blobs.list(space, chain).await
    }

    async fn size_bytes(&self) -> Result<u64, BlobStoreError> {
        self.check_power()?;
        self.blobs.size_bytes().await
    }

    async fn room_bytes(&self) -> Result<Option<u64>, BlobStoreError> {
        self.check_power()?;
        self.blobs.room_bytes().await
    }
}
