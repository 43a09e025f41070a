//! The one thread that writes: commits that wait at the same time become one RocksDB write and one flush.
//!
//! ```text
//! commit ──► place in the queue (COMMITS_WAITING_MAX; full: the caller waits) ──► writer thread
//!                                                                                  │ takes what waits, ≤ GROUP_BYTES_MAX
//!            acknowledgement ◄─────────────────────────────────────────────────────┤ one write, flushed if any wants it
//!                                                                                  ├ failed: opened again, once more
//!                                                                                  └ idle: flushes what was buffered
//! ```

use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rocksdb::{DB, IteratorMode, WriteBatch, WriteOptions};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::Shared;
use super::recovery::Recovery;
use crate::store::{Batch, Durability, KeyRange, StoreError, Write};

/// Commits that may wait for the writer; further callers wait for a place. Chosen: more than ever commit at once, so that
/// a group is limited by its bytes.
const COMMITS_WAITING_MAX: usize = 1024;
/// Bytes after which a group takes no further commit. Chosen: about the time of one flush to write.
const GROUP_BYTES_MAX: usize = 1024 * 1024;
/// How long buffered commits wait for a flush when nothing else comes. Chosen: bounds what a power cut can take.
const IDLE_FLUSH_AFTER: Duration = Duration::from_secs(1);

/// How often the mark of the store is renewed at most. Chosen: two small flushes a second cost a busy store nothing, and
/// a damaged file can hide at most this much.
const MARK_AFTER: Duration = Duration::from_secs(1);

/// Bytes that one change takes beside its key and value, about.
const WRITE_OVERHEAD: usize = 8;

/// A commit on its way to the writer.
struct Job {
    batch: Batch,
    durability: Durability,
    done: oneshot::Sender<Result<(), StoreError>>,
    /// The place in the queue; free again when the job is dropped.
    _place: OwnedSemaphorePermit,
}

/// The sending side of the queue.
pub(super) struct Commits {
    places: Arc<Semaphore>,
    jobs: Mutex<Option<Sender<Job>>>,
}

impl Commits {
    /// Hands a batch to the writer and waits until it is written.
    pub(super) async fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let (done, written) = oneshot::channel();
        let job = Job { batch, durability, done, _place: place };
        {
            let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
            jobs.as_ref().ok_or(StoreError::Closed)?.send(job).map_err(|_| writer_ended())?;
        }
        written.await.unwrap_or_else(|_| Err(writer_ended()))
    }

    /// Takes no further commits; those in the queue are still written, then the writer ends.
    pub(super) fn refuse(&self) {
        self.places.close();
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

fn writer_ended() -> StoreError {
    StoreError::Io { reason: "the writer thread ended early".into() }
}

impl fmt::Debug for Commits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commits").field("free_places", &self.places.available_permits()).finish_non_exhaustive()
    }
}

/// The writer thread.
pub(super) struct Writer(Option<JoinHandle<()>>);

impl Writer {
    /// Starts the thread; it ends after [`Commits::refuse`] or when `Commits` is dropped.
    pub(super) fn start(shared: Arc<Shared>) -> Result<(Self, Commits), StoreError> {
        let (jobs, queue) = channel();
        let thread = std::thread::Builder::new()
            .name("walytis-store".into())
            .spawn(move || run(&shared, &queue))
            .map_err(|error| StoreError::Io { reason: error.to_string() })?;
        let places = Arc::new(Semaphore::new(COMMITS_WAITING_MAX));
        Ok((Self(Some(thread)), Commits { places, jobs: Mutex::new(Some(jobs)) }))
    }

    /// Waits for the thread to end. Blocks. Further calls return at once.
    pub(super) fn join(&mut self) {
        if let Some(thread) = self.0.take()
            && thread.join().is_err()
        {
            // Its commits were answered with an error when their channels broke.
            tracing::error!("the writer thread of the store panicked");
        }
    }
}

fn run(shared: &Shared, queue: &Receiver<Job>) {
    // Buffered commits were written since the last flush.
    let mut unflushed = false;
    // Everything written so far is known to be flushed.
    let mut all_flushed = true;
    let mut marked_at = Instant::now();
    let mut recovery = Recovery::new(shared.with_db(|db| Ok(db.latest_sequence_number())).unwrap_or(0));
    loop {
        let first = match queue.recv_timeout(IDLE_FLUSH_AFTER) {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => {
                if unflushed {
                    all_flushed = flush_log(shared, &mut recovery);
                    unflushed = false;
                }
                // In every pause: a buffer written out or tables merged later change the manifest as well.
                renew_mark(shared, all_flushed);
                tend(shared, &mut recovery);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let group = collect(first, queue);
        unflushed = !group.iter().any(|job| job.durability == Durability::Flushed);
        all_flushed = finish(shared, group, &mut recovery) && !unflushed;
        if marked_at.elapsed() >= MARK_AFTER {
            renew_mark(shared, all_flushed);
            tend(shared, &mut recovery);
            marked_at = Instant::now();
        }
    }
}

/// Looks after a database that met errors.
fn tend(shared: &Shared, recovery: &mut Recovery) {
    let now = Instant::now();
    if !recovery.attempt(shared, now) {
        recovery.calm(now);
    }
}

fn flush_log(shared: &Shared, recovery: &mut Recovery) -> bool {
    let flushed = shared.with_db(|db| db.flush_wal(true));
    if let Err(error) = &flushed {
        tracing::warn!(%error, "flushing buffered writes failed");
        recovery.failed(error);
    }
    flushed.is_ok()
}

fn renew_mark(shared: &Shared, all_flushed: bool) {
    let sequence = shared.with_db(|db| Ok(all_flushed.then(|| db.latest_sequence_number())));
    shared.renew_mark(sequence.unwrap_or(None));
}

/// Takes the commits that wait behind `first`, up to the limit of a group.
fn collect(first: Job, queue: &Receiver<Job>) -> Vec<Job> {
    let mut bytes = first.batch.bytes();
    let mut group = vec![first];
    while bytes < GROUP_BYTES_MAX
        && let Ok(job) = queue.try_recv()
    {
        bytes = bytes.saturating_add(job.batch.bytes());
        group.push(job);
    }
    group
}

/// Writes the group and answers each commit of it. Says whether it was written.
fn finish(shared: &Shared, group: Vec<Job>, recovery: &mut Recovery) -> bool {
    let flush = group.iter().any(|job| job.durability == Durability::Flushed);
    let bytes = group.iter().map(|job| job.batch.bytes() + job.batch.writes().len() * WRITE_OVERHEAD).sum();
    let batches = || group.iter().map(|job| &job.batch);
    let attempt = || {
        shared.with_db(|db| {
            write(db, batches(), bytes, flush)?;
            Ok(db.latest_sequence_number())
        })
    };
    let mut written = attempt().map_err(|error| recovery.failed(&error));
    if written.is_err() && recovery.attempt(shared, Instant::now()) {
        written = attempt().map_err(|error| recovery.failed(&error));
    }
    if let Ok(sequence) = &written {
        recovery.wrote(*sequence);
        if flush {
            shared.note_flushed(*sequence);
        }
    }
    for job in group {
        let answer = match &written {
            Ok(_) => Ok(()),
            Err(error) => Err(error.clone()),
        };
        // Whoever gave up waiting does not want the answer.
        let _unheard = job.done.send(answer);
    }
    written.is_ok()
}

fn write<'a>(
    db: &DB,
    batches: impl Iterator<Item = &'a Batch>,
    bytes: usize,
    flush: bool,
) -> Result<(), rocksdb::Error> {
    let mut group = WriteBatch::with_capacity_bytes(bytes);
    let mut highest_put: &[u8] = &[];
    for write in batches.flat_map(Batch::writes) {
        match write {
            Write::Put(key, value) => {
                group.put(key, value);
                highest_put = highest_put.max(key);
            }
            Write::Delete(key) => group.delete(key),
            Write::DeleteRange(range) => delete_range(db, &mut group, range, highest_put)?,
        }
    }
    if group.is_empty() {
        // Nothing to write, but what was buffered before is to be flushed.
        return if flush { db.flush_wal(true) } else { Ok(()) };
    }
    let mut options = WriteOptions::default();
    options.set_sync(flush);
    db.write_opt(group, &options)
}

/// RocksDB deletes bounded ranges only, so an open one ends right behind the last key there can be.
fn delete_range(db: &DB, group: &mut WriteBatch, range: &KeyRange, highest_put: &[u8]) -> Result<(), rocksdb::Error> {
    if let Some(end) = &range.end {
        if *end > range.start {
            group.delete_range(&range.start, end);
        }
        return Ok(());
    }
    let last = db.iterator(IteratorMode::End).next().transpose()?;
    let stored = last.as_ref().map_or(&[][..], |(key, _)| key);
    let mut end = stored.max(highest_put).to_vec();
    end.push(0);
    if end > range.start {
        group.delete_range(&range.start, &end);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(places: &Arc<Semaphore>, bytes: usize) -> Job {
        let mut batch = Batch::new();
        batch.put(vec![1], vec![0; bytes]);
        let place = Arc::clone(places).try_acquire_owned().unwrap();
        Job { batch, durability: Durability::Flushed, done: oneshot::channel().0, _place: place }
    }

    #[test]
    fn waiting_commits_become_one_group_up_to_its_bytes() {
        let places = Arc::new(Semaphore::new(COMMITS_WAITING_MAX));
        let (jobs, queue) = channel();
        let sizes = [10, 10, GROUP_BYTES_MAX, 10, GROUP_BYTES_MAX, 10];
        sizes.into_iter().for_each(|bytes| jobs.send(job(&places, bytes)).unwrap());
        let groups: Vec<usize> = std::iter::from_fn(|| {
            let first = queue.try_recv().ok()?;
            Some(collect(first, &queue).len())
        })
        .collect();
        assert_eq!(groups, [3, 2, 1]);
        assert_eq!(places.available_permits(), COMMITS_WAITING_MAX, "a finished commit gives its place back");
    }
}
