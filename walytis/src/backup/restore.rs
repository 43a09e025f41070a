//! Making a data folder of a backup: beside its place first, so that half a node is never there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use walytis_core::store::{Batch, BlobDraft, BlobKey, BlobStore, Durability, FileBlobs, KvStore, RocksStore};
use walytis_identities::vault::BackupError;

use super::Counts;
use super::entry_v1::Entry;
use super::read::Reading;
use super::write::{FILE_MAX, FILES};
use crate::daemon::{DataDirLock, LockError, create_private_dir};
use crate::failure::{Failure, Kind};

/// Bytes of rows that are written at once.
const BATCH: usize = 1024 * 1024;

/// Makes a node in `data_dir`, which must hold none.
///
/// # Errors
/// [`Failure`]; then `data_dir` is as it was.
pub(crate) async fn restore(data_dir: &Path, reading: Reading) -> Result<Counts, Failure> {
    let existed = data_dir.exists();
    let lock = DataDirLock::take(data_dir).map_err(LockError::into_failure)?;
    refuse_taken(data_dir, &lock)?;
    let beside = beside(data_dir)?;
    remove(&beside).await?;
    create_private_dir(&beside).map_err(|error| unwritable(&beside, &error))?;
    let filled = fill(&beside, reading).await;
    let placed = match filled {
        Ok(counts) => place(&beside, data_dir, lock).await.map(|()| counts),
        Err(failure) => Err(failure),
    };
    if placed.is_err() {
        remove(&beside).await?;
        if !existed {
            // Only the lock is in it, or somebody has put something there meanwhile.
            let _stays = tokio::fs::remove_file(data_dir.join("lock")).await;
            let _stays = tokio::fs::remove_dir(data_dir).await;
        }
    }
    placed
}

/// Refuses a folder with anything in it but the lock.
fn refuse_taken(data_dir: &Path, lock: &DataDirLock) -> Result<(), Failure> {
    let entries = std::fs::read_dir(data_dir).map_err(|error| unwritable(data_dir, &error))?;
    let taken = entries.flatten().any(|entry| entry.path() != lock.path());
    if !taken {
        return Ok(());
    }
    Err(Failure::new(
        Kind::Refused,
        format!("{} is not empty", data_dir.display()),
        "restore into a folder that does not exist yet: choose one with --data-dir",
    ))
}

/// In the same folder, so that it can be renamed.
fn beside(data_dir: &Path) -> Result<PathBuf, Failure> {
    let full = std::path::absolute(data_dir).map_err(|error| unwritable(data_dir, &error))?;
    let name = full.file_name().ok_or_else(|| {
        Failure::usage(
            format!("{} has no place beside it", data_dir.display()),
            "choose another folder with --data-dir",
        )
    })?;
    Ok(full.with_file_name(format!("{}.restoring", name.to_string_lossy())))
}

async fn remove(beside: &Path) -> Result<(), Failure> {
    match tokio::fs::remove_dir_all(beside).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(unwritable(beside, &error)),
        _ => Ok(()),
    }
}

async fn fill(folder: &Path, reading: Reading) -> Result<Counts, Failure> {
    let store = RocksStore::open(folder.join("store")).await?;
    let blobs = FileBlobs::open(folder.join("blobs")).await;
    let blobs: Arc<dyn BlobStore> = Arc::new(blobs.map_err(|error| Failure::local(&error, "check the disk"))?);
    let mut target =
        Target { folder, store: &store, blobs: &*blobs, batch: Batch::new(), content: None, seen: Counts::default() };
    let read = reading.each(async |entry| target.take(entry).await).await;
    let finished = match read {
        Ok(stated) => target.finish(stated).await.map(|()| stated),
        Err(failure) => Err(failure),
    };
    let closed = store.close().await;
    let counts = finished?;
    closed?;
    Ok(counts)
}

struct Target<'a> {
    folder: &'a Path,
    store: &'a dyn KvStore,
    blobs: &'a dyn BlobStore,
    batch: Batch,
    content: Option<(BlobKey, Box<dyn BlobDraft>)>,
    seen: Counts,
}

impl Target<'_> {
    async fn take(&mut self, entry: Entry<'_>) -> Result<(), Failure> {
        match entry {
            Entry::File { name, bytes } => self.file(name, bytes),
            Entry::Stored { key, value } => {
                self.seen.entries += 1;
                self.batch.put(key.to_vec(), Bytes::copy_from_slice(value));
                if self.batch.bytes() >= BATCH { self.commit(Durability::Buffered).await } else { Ok(()) }
            }
            Entry::Content(name) => {
                let key = name.key().ok_or(BackupError::Damaged)?;
                self.content = Some((key, self.blobs.draft().await.map_err(|error| full(&error))?));
                Ok(())
            }
            Entry::Bytes(bytes) => {
                let (_, draft) = self.content.as_mut().ok_or(BackupError::Damaged)?;
                draft.append(Bytes::copy_from_slice(bytes)).await.map_err(|error| full(&error))
            }
            Entry::ContentEnd { whole } => {
                let (key, draft) = self.content.take().ok_or(BackupError::Damaged)?;
                if whole {
                    draft.finish(key).await.map_err(|error| full(&error))?;
                    self.seen.contents += 1;
                }
                Ok(())
            }
            Entry::End { .. } => Ok(()),
        }
    }

    /// Only files that a backup has: a name is no path.
    fn file(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        use std::io::Write as _;
        if !FILES.contains(&name) || bytes.len() as u64 > FILE_MAX {
            return Err(BackupError::Damaged.into());
        }
        let path = self.folder.join(name);
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path).map_err(|error| unwritable(&path, &error))?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| unwritable(&path, &error))
    }

    async fn commit(&mut self, durability: Durability) -> Result<(), Failure> {
        Ok(self.store.commit(std::mem::take(&mut self.batch), durability).await?)
    }

    async fn finish(&mut self, stated: Counts) -> Result<(), Failure> {
        self.commit(Durability::Flushed).await?;
        if self.seen == stated && self.content.is_none() { Ok(()) } else { Err(BackupError::Damaged.into()) }
    }
}

/// Renames the folder into its place, which holds nothing but the lock.
async fn place(beside: &Path, data_dir: &Path, lock: DataDirLock) -> Result<(), Failure> {
    let failed = |error: std::io::Error| unwritable(data_dir, &error);
    sync_folder(beside).map_err(failed)?;
    tokio::fs::remove_file(lock.path()).await.map_err(failed)?;
    drop(lock);
    // Fails if somebody has put something there meanwhile.
    tokio::fs::remove_dir(data_dir).await.map_err(failed)?;
    tokio::fs::rename(beside, data_dir).await.map_err(failed)?;
    let parent = std::path::absolute(data_dir).ok().and_then(|full| full.parent().map(Path::to_path_buf));
    parent.map_or(Ok(()), |parent| sync_folder(&parent)).map_err(failed)
}

/// Makes new names survive a power cut.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    if cfg!(unix) { std::fs::File::open(folder)?.sync_all() } else { Ok(()) }
}

fn full(error: &walytis_core::store::BlobStoreError) -> Failure {
    Failure::local(error, "check the disk and its free space; nothing was kept")
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Failed, format!("cannot write {}: {error}", path.display()), "check the path and free space")
}
