//! Objects on their way in. They stand in a folder of their own, which is emptied when the store is opened.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use super::io::{io_error, remove};
use super::{Inner, blocking};
use crate::store::chunks::check_append;
use crate::store::folder::create_folder;
use crate::store::{BlobDraft, BlobKey, BlobStoreError};

/// Bytes that may wait for a flush. Chosen: the last flush of a large object is then no longer than the others.
const UNFLUSHED_MAX: u64 = 64 * 1024 * 1024;

/// Drafts begun in this process: no two have the same name, whatever becomes of their stores.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A draft in a file.
pub(super) struct FileDraft {
    store: Arc<Inner>,
    path: PathBuf,
    file: Arc<File>,
    len: u64,
    unflushed: u64,
}

impl fmt::Debug for FileDraft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileDraft({}, {} bytes)", self.path.display(), self.len)
    }
}

/// Empties the folder of drafts, or makes it: a crash may have left some. Blocks.
pub(super) fn empty(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    create_folder(folder)
}

impl FileDraft {
    /// Begins a draft. Blocks.
    pub(super) fn create(store: Arc<Inner>, folder: &Path) -> io::Result<Self> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(number.to_string());
        let file = Arc::new(File::create_new(&path)?);
        Ok(Self { store, path, file, len: 0, unflushed: 0 })
    }
}

#[async_trait]
impl BlobDraft for FileDraft {
    async fn append(&mut self, bytes: Bytes) -> Result<(), BlobStoreError> {
        check_append(bytes.len())?;
        let (file, path) = (Arc::clone(&self.file), self.path.clone());
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.len = self.len.saturating_add(len);
        self.unflushed = self.unflushed.saturating_add(len);
        let flush = self.unflushed >= UNFLUSHED_MAX;
        if flush {
            self.unflushed = 0;
        }
        blocking(move || {
            let written = (&*file).write_all(&bytes).and_then(|()| if flush { file.sync_data() } else { Ok(()) });
            written.map_err(|error| io_error(&path, &error))
        })
        .await
    }

    async fn finish(self: Box<Self>, key: BlobKey) -> Result<(), BlobStoreError> {
        if self.len == 0 {
            return Err(BlobStoreError::Misfit { reason: "an object has at least one byte" });
        }
        blocking(move || {
            self.file.sync_all().map_err(|error| io_error(&self.path, &error))?;
            self.store.adopt(key, &self.path)
            // What was adopted has another name now: dropping the draft removes nothing.
        })
        .await
    }
}

impl Drop for FileDraft {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.path);
        // Removing a large file takes a while; if the runtime ends first, the next opening removes it.
        let gone = move || drop(remove(&path));
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(gone)),
            Err(_) => gone(),
        }
    }
}
