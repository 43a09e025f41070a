//! The store on disk: RocksDB in one folder.
//!
//! - **Writes** go through one thread that groups the commits waiting at that moment into one RocksDB write and, if any
//!   of them wants it, one flush of the log ([`writer`]).
//! - **Reads** of single keys are first tried on the calling thread against memory alone (memtables and block cache, by
//!   RocksDB's block-cache read tier, which never touches a file); only what is not there goes to a blocking thread.
//!   Scans and larger groups of keys always go there.
//!   Measured (2 busy cores, 50,000 values of 250 bytes, debug build): 4 µs a key in place, 16 µs for the shortest trip to
//!   a blocking thread; `measure_reads_and_commits` in `tests/stores/rocks.rs` prints both.
//! - **A full disk** is no end: the database is opened again below the store when there is room ([`recovery`]).
//! - **Damage** is looked for before anything is changed ([`guard`]).
//!
//! The acknowledgement of a commit comes from a thread that tokio does not know, so a runtime with paused time may
//! advance its timers meanwhile: simulations use [`MemoryStore`](super::MemoryStore).

mod flushed_v1;
mod guard;
mod mark_v1;
mod open;
mod recovery;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};

use async_trait::async_trait;
use bytes::Bytes;
use rocksdb::{BottommostLevelCompaction, CompactOptions, DB, ErrorKind, IteratorMode, ReadOptions, ReadTier};
use tokio::sync::mpsc;

use super::kv::EXPORT_PIECE;
use super::schema::open_schema;
use super::{Batch, Direction, Durability, KeyRange, KvStore, StoreError};
use guard::Guard;
use writer::Writer;

/// Keys of one `get_many` that are first tried on the calling thread. Chosen: at a few microseconds each this stays far
/// below what a runtime thread may be held up for.
const TRIED_IN_PLACE_MAX: usize = 16;

/// A [`KvStore`] in a folder of its own. The folder is locked against a second opening, here or in another process, until
/// [`close`](KvStore::close) returns or the store is dropped.
pub struct RocksStore {
    shared: Arc<Shared>,
    writer: Arc<Mutex<Writer>>,
    commits: writer::Commits,
}

/// The database and its folder; the database goes when the store is closed.
struct Shared {
    db: RwLock<Option<DB>>,
    /// Goes after the database, as it holds the folder.
    guard: Mutex<Option<Guard>>,
    directory: PathBuf,
}

impl RocksStore {
    /// Opens the store in `directory`, creating folder and store if there is none, and checks the schema version.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::NewerSchema`], [`StoreError::Damaged`] if a file is missing, truncated or
    /// fails its checksum, [`StoreError::Corrupt`] if there is no schema version, [`StoreError::Io`].
    pub async fn open(directory: impl AsRef<Path>) -> Result<Self, StoreError> {
        let directory = directory.as_ref().to_path_buf();
        let store = blocking(move || {
            let (db, guard) = open::open(&directory)?;
            let (db, guard) = (RwLock::new(Some(db)), Mutex::new(Some(guard)));
            let shared = Arc::new(Shared { db, guard, directory });
            let (writer, commits) = Writer::start(Arc::clone(&shared))?;
            Ok(Self { shared, writer: Arc::new(Mutex::new(writer)), commits })
        })
        .await?;
        if let Err(error) = open_schema(&store).await {
            store.close().await?;
            return Err(error);
        }
        Ok(store)
    }

    /// Returns the store's folder.
    pub fn directory(&self) -> &Path {
        &self.shared.directory
    }

    /// Runs a read on a blocking thread.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&DB) -> Result<T, rocksdb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.with_db(read)).await
    }
}

impl Shared {
    fn with_db<T>(&self, run: impl FnOnce(&DB) -> Result<T, rocksdb::Error>) -> Result<T, StoreError> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        run(db.as_ref().ok_or(StoreError::Closed)?).map_err(|error| self.error(&error))
    }

    /// Looks a key up in memory only: `None` means that only the disk knows. Never waits.
    fn get_in_memory(&self, key: &[u8]) -> Result<Option<Option<Bytes>>, StoreError> {
        let db = match self.db.try_read() {
            Ok(db) => db,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // It is being closed, or opened again: who may wait finds out.
            Err(TryLockError::WouldBlock) => return Ok(None),
        };
        let mut options = ReadOptions::default();
        options.set_read_tier(ReadTier::BlockCache);
        match db.as_ref().ok_or(StoreError::Closed)?.get_opt(key, &options) {
            Ok(value) => Ok(Some(value.map(Bytes::from))),
            Err(error) if error.kind() == ErrorKind::Incomplete => Ok(None),
            Err(error) => Err(self.error(&error)),
        }
    }

    /// Tidies up before the database is closed. Blocks.
    fn close_db(&self, db: &DB) -> Result<(), StoreError> {
        let flushed = db.flush_wal(true).and_then(|()| db.flush());
        db.cancel_all_background_work(true);
        self.renew_mark(flushed.is_ok().then(|| db.latest_sequence_number()));
        flushed.map_err(|error| self.error(&error))
    }

    /// Renews the mark that says how far the database has come; `flushed` is its sequence number if all is flushed.
    /// Blocks. Only the writer thread calls this, and who has waited for its end.
    fn renew_mark(&self, flushed: Option<u64>) {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Err(error)) = guard.as_mut().map(|guard| guard.renew(flushed)) {
            // The old mark is still true.
            tracing::warn!(%error, "renewing the mark of the store failed");
        }
    }

    /// Notes how far the flushed writes have come. Only the writer thread calls this, after a flush.
    fn note_flushed(&self, sequence: u64) {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(guard) = guard.as_mut() {
            guard.note_flushed(sequence);
        }
    }

    fn error(&self, error: &rocksdb::Error) -> StoreError {
        open::store_error(&self.directory, error)
    }
}

impl fmt::Debug for RocksStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksStore").field("directory", &self.shared.directory).finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for RocksStore {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        if let Some(answer) = self.shared.get_in_memory(key)? {
            return Ok(answer);
        }
        let key = key.to_vec();
        Ok(self.read(move |db| db.get(key)).await?.map(Bytes::from))
    }

    async fn get_many(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let mut answers: Vec<Option<Option<Bytes>>> = vec![None; keys.len()];
        if keys.len() <= TRIED_IN_PLACE_MAX {
            for (answer, key) in answers.iter_mut().zip(keys) {
                *answer = self.shared.get_in_memory(key)?;
            }
        }
        let open = || answers.iter().zip(keys).filter(|(answer, _)| answer.is_none());
        let left: Vec<Vec<u8>> = open().map(|(_, key)| key.clone()).collect();
        let mut found = if left.is_empty() {
            Vec::new().into_iter()
        } else {
            self.read(move |db| db.multi_get(left).into_iter().collect::<Result<Vec<_>, _>>()).await?.into_iter()
        };
        let fill = |answer: Option<Option<Bytes>>| match answer {
            Some(answer) => answer,
            None => found.next().flatten().map(Bytes::from),
        };
        Ok(answers.into_iter().map(fill).collect())
    }

    async fn scan(
        &self,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        if range.end.as_ref().is_some_and(|end| *end <= range.start) {
            // RocksDB would answer an inverted range in its own ways; a closed store refuses all the same.
            return self.read(|_| Ok(Vec::new())).await;
        }
        self.read(move |db| scan(db, range, direction, limit)).await
    }

    async fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        self.commits.commit(batch, durability).await
    }

    async fn size_bytes(&self) -> Result<u64, StoreError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            shared.with_db(|_| Ok(()))?;
            open::folder_bytes(&shared.directory)
        })
        .await
    }

    async fn export(&self, to: mpsc::Sender<Vec<(Bytes, Bytes)>>) -> Result<(), StoreError> {
        self.read(move |db| {
            let mut piece = Vec::new();
            // An iterator sees the moment at which it was made.
            for entry in db.iterator(IteratorMode::Start) {
                let (key, value) = entry?;
                piece.push((Bytes::from(key), Bytes::from(value)));
                if piece.len() >= EXPORT_PIECE && to.blocking_send(std::mem::take(&mut piece)).is_err() {
                    return Ok(());
                }
            }
            // Whoever took the pieces may be gone.
            let _gone = to.blocking_send(piece);
            Ok(())
        })
        .await
    }

    async fn reclaim(&self, range: KeyRange) -> Result<(), StoreError> {
        self.read(move |db| {
            // The log and the memtable hold the removed values too; both go with the flush.
            db.flush()?;
            let mut options = CompactOptions::default();
            options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
            options.set_exclusive_manual_compaction(false);
            db.compact_range_opt(Some(range.start), range.end, &options);
            Ok(())
        })
        .await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.commits.refuse();
        let (shared, writer) = (Arc::clone(&self.shared), Arc::clone(&self.writer));
        blocking(move || {
            // Held until the end, so that a second call returns when the first one is done.
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            writer.join();
            // Waits for the reads under way.
            let db = shared.db.write().unwrap_or_else(PoisonError::into_inner).take();
            let closed = db.map_or(Ok(()), |db| shared.close_db(&db));
            drop(shared.guard.lock().unwrap_or_else(PoisonError::into_inner).take());
            closed
        })
        .await
    }
}

impl Drop for RocksStore {
    /// The safety net for a store that was not closed: waits for the writer thread, so that the folder is free when
    /// nothing reads any more. Nothing acknowledged is lost; only the tidy flush of `close` is missing.
    fn drop(&mut self) {
        self.commits.refuse();
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).join();
    }
}

fn scan(db: &DB, range: KeyRange, direction: Direction, limit: usize) -> Result<Vec<(Bytes, Bytes)>, rocksdb::Error> {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(range.start);
    if let Some(end) = range.end {
        options.set_iterate_upper_bound(end);
    }
    let mode = match direction {
        Direction::Forward => IteratorMode::Start,
        Direction::Reverse => IteratorMode::End,
    };
    let entries = db.iterator_opt(mode, options).take(limit);
    entries.map(|entry| entry.map(|(key, value)| (Bytes::from(key), Bytes::from(value)))).collect()
}

/// Runs blocking work on tokio's threads for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_cancelled() => Err(StoreError::Closed),
        Err(_) => Err(StoreError::Io { reason: "a task of the store ended early".into() }),
    }
}
