//! Large content in files.
//!
//! ```text
//! FOLDER/blob|envelope/<chain>/<digest>        a complete object
//!                              <digest>.part   one that is not complete: full length from the start
//!                              <digest>.map    its chunk map
//! FOLDER/draft/<number>                        one whose name is not known yet; removed when the store opens
//! ```
//!
//! Names are hexadecimal. A crash at any point leaves either the complete file or a partial object whose map names only
//! chunks that are on disk. The folder belongs to one node: the lock of its [`RocksStore`](super::KvStore) guards it too.
//! Bytes are stored as they come; private content is sealed by its layer before it gets here.

mod draft;
mod io;
mod map_v1;
mod partial;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::chunks::Chunks;
use super::folder::{create_folder, sync_folder};
use super::{BlobDraft, BlobKey, BlobSpace, BlobStatus, BlobStore, BlobStoreError};
use crate::id::ChainId;
use draft::FileDraft;
use io::{io_error, read_file, remove, room, taken};
use partial::{Partial, Places};

/// Partial objects whose files and maps stay open. Chosen: as many as are ever fetched at once; two descriptors each.
/// More are opened if more are in use, one per blocking thread at most.
const OPEN_PARTIALS_MAX: usize = 32;

/// Name of the folder of drafts.
const DRAFTS: &str = "draft";

/// A [`BlobStore`] in a folder.
#[derive(Clone, Debug)]
pub struct FileBlobs {
    inner: Arc<Inner>,
}

/// Locks are taken in the order `open`, then those of one partial object; on blocking threads only.
#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    open: Mutex<OpenPartials>,
}

type OpenPartials = BTreeMap<BlobKey, Arc<Partial>>;

/// What is on disk of an object.
enum Found {
    Absent,
    Partial(Arc<Partial>),
    Complete { len: u64 },
}

impl FileBlobs {
    /// Opens the folder, creating it if there is none.
    ///
    /// # Errors
    /// [`BlobStoreError::Io`].
    pub async fn open(folder: impl AsRef<Path>) -> Result<Self, BlobStoreError> {
        let folder = folder.as_ref().to_path_buf();
        blocking(move || {
            let made = create_folder(&folder).and_then(|()| draft::empty(&folder.join(DRAFTS)));
            made.map_err(|error| io_error(&folder, &error))?;
            Ok(Self { inner: Arc::new(Inner { folder, open: Mutex::default() }) })
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, BlobStoreError> + Send + 'static,
    ) -> Result<T, BlobStoreError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || work(&inner)).await
    }
}

#[async_trait]
impl BlobStore for FileBlobs {
    async fn begin(&self, key: BlobKey, len: u64, chunk: u32) -> Result<BlobStatus, BlobStoreError> {
        let chunks = Chunks::new(len, chunk)?;
        self.run(move |inner| inner.begin(key, chunks, false)).await
    }

    async fn begin_sparse(&self, key: BlobKey, len: u64, chunk: u32) -> Result<BlobStatus, BlobStoreError> {
        let chunks = Chunks::new(len, chunk)?;
        self.run(move |inner| inner.begin(key, chunks, true)).await
    }

    async fn draft(&self) -> Result<Box<dyn BlobDraft>, BlobStoreError> {
        let store = Arc::clone(&self.inner);
        blocking(move || {
            let folder = store.folder.join(DRAFTS);
            let draft = FileDraft::create(Arc::clone(&store), &folder);
            Ok(Box::new(draft.map_err(|error| io_error(&folder, &error))?) as Box<dyn BlobDraft>)
        })
        .await
    }

    async fn write(&self, key: BlobKey, index: u32, bytes: Bytes) -> Result<BlobStatus, BlobStoreError> {
        self.run(move |inner| inner.write(key, index, &bytes)).await
    }

    async fn status(&self, key: BlobKey) -> Result<BlobStatus, BlobStoreError> {
        self.run(move |inner| inner.status(key)).await
    }

    async fn read(&self, key: BlobKey, offset: u64, len: usize) -> Result<Bytes, BlobStoreError> {
        self.run(move |inner| inner.read(key, offset, len)).await
    }

    async fn delete(&self, key: BlobKey) -> Result<(), BlobStoreError> {
        self.run(move |inner| inner.delete(key)).await
    }

    async fn list(&self, space: BlobSpace, chain: ChainId) -> Result<Vec<BlobKey>, BlobStoreError> {
        self.run(move |inner| inner.list(space, chain)).await
    }

    async fn size_bytes(&self) -> Result<u64, BlobStoreError> {
        self.run(|inner| files_bytes(&inner.folder).map_err(|error| io_error(&inner.folder, &error))).await
    }

    async fn room_bytes(&self) -> Result<Option<u64>, BlobStoreError> {
        self.run(|inner| room(&inner.folder).map_err(|error| io_error(&inner.folder, &error))).await
    }
}

impl Inner {
    fn begin(&self, key: BlobKey, chunks: Chunks, sparse: bool) -> Result<BlobStatus, BlobStoreError> {
        let places = self.places(&key);
        let mut open = self.lock();
        let failed = |error| io_error(&places.part, &error);
        let found = self.find(&mut open, key)?;
        let status = match &found {
            Found::Complete { len } => BlobStatus::Complete { len: *len },
            Found::Partial(partial) => partial.status(),
            Found::Absent => {
                let created = Partial::create(key, &places, chunks, sparse).map_err(failed)?;
                let status = created.status();
                keep(&mut open, key, created);
                status
            }
        };
        let fits = match &status {
            BlobStatus::Absent => false,
            BlobStatus::Complete { len } => *len == chunks.len(),
            BlobStatus::Partial { len, chunk, .. } => *len == chunks.len() && *chunk == chunks.chunk(),
        };
        if !fits {
            return Err(BlobStoreError::Misfit { reason: "the object was begun with other sizes" });
        }
        if let (Found::Partial(partial), false) = (&found, sparse) {
            partial.reserve().map_err(failed)?;
        }
        Ok(status)
    }

    /// Makes a flushed draft the complete object `key`.
    fn adopt(&self, key: BlobKey, draft: &Path) -> Result<(), BlobStoreError> {
        let places = self.places(&key);
        let failed = |error| io_error(&places.whole, &error);
        let mut open = self.lock();
        let rename = || fs::rename(draft, &places.whole).and_then(|()| sync_folder(&places.folder));
        match self.find(&mut open, key)? {
            Found::Complete { .. } => Ok(()),
            Found::Absent => create_folder(&places.folder).and_then(|()| rename()).map_err(failed),
            Found::Partial(partial) => {
                open.remove(&key);
                // The map first: without it the rest is nothing, whenever the power goes.
                partial.end(|| {
                    remove(&places.map).and_then(|()| remove(&places.part)).and_then(|()| rename()).map_err(failed)
                })
            }
        }
    }

    fn write(&self, key: BlobKey, index: u32, bytes: &[u8]) -> Result<BlobStatus, BlobStoreError> {
        let found = self.find(&mut self.lock(), key)?;
        let partial = match found {
            Found::Absent => return Err(BlobStoreError::Missing),
            Found::Complete { len } => return Ok(BlobStatus::Complete { len }),
            Found::Partial(partial) => partial,
        };
        let status = partial.write(index, bytes)?;
        if matches!(status, BlobStatus::Complete { .. }) {
            let mut open = self.lock();
            // Unless it was deleted and begun again meanwhile.
            if open.get(&key).is_some_and(|kept| Arc::ptr_eq(kept, &partial)) {
                open.remove(&key);
            }
        }
        Ok(status)
    }

    fn status(&self, key: BlobKey) -> Result<BlobStatus, BlobStoreError> {
        Ok(match self.find(&mut self.lock(), key)? {
            Found::Absent => BlobStatus::Absent,
            Found::Complete { len } => BlobStatus::Complete { len },
            Found::Partial(partial) => partial.status(),
        })
    }

    fn read(&self, key: BlobKey, offset: u64, len: usize) -> Result<Bytes, BlobStoreError> {
        let places = self.places(&key);
        // Most reads are of complete objects, and need no lock.
        if let Some(file) = open_whole(&places)? {
            let object_len = file.metadata().map_err(|error| io_error(&places.whole, &error))?.len();
            return read_file(&file, offset, len, object_len).map_err(|error| error.at(&places.whole));
        }
        let found = self.find(&mut self.lock(), key)?;
        match found {
            Found::Partial(partial) => partial.read(offset, len),
            // It became complete just now.
            Found::Complete { len: object_len } => match open_whole(&places)? {
                Some(file) => read_file(&file, offset, len, object_len).map_err(|error| error.at(&places.whole)),
                None => Err(BlobStoreError::Missing),
            },
            Found::Absent => Err(BlobStoreError::Missing),
        }
    }

    fn delete(&self, key: BlobKey) -> Result<(), BlobStoreError> {
        let places = self.places(&key);
        let mut open = self.lock();
        let gone = || {
            if !places.folder.is_dir() {
                return Ok(());
            }
            // The map first: without it the rest is nothing, whenever the power goes.
            let files = [&places.map, &places.part, &places.whole];
            let removed =
                files.into_iter().try_for_each(|path| remove(path).and_then(|()| sync_folder(&places.folder)));
            removed.map_err(|error| io_error(&places.folder, &error))
        };
        match open.remove(&key) {
            // A write under way ends first, a later one finds the object missing.
            Some(partial) => partial.end(gone),
            None => gone(),
        }
    }

    fn list(&self, space: BlobSpace, chain: ChainId) -> Result<Vec<BlobKey>, BlobStoreError> {
        let folder = self.chain_folder(space, chain);
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|error| io_error(&folder, &error))?,
        };
        let mut keys = BTreeSet::new();
        for entry in entries {
            let name = entry.map_err(|error| io_error(&folder, &error))?.file_name();
            let name = name.to_string_lossy();
            // A map alone is no object.
            if let Some(digest) = digest_of_name(name.strip_suffix(".part").unwrap_or(&name)) {
                keys.insert(BlobKey { space, chain, digest });
            }
        }
        Ok(keys.into_iter().collect())
    }

    /// Finds an object in memory or on disk. A partial one stays open for the next call.
    fn find(&self, open: &mut OpenPartials, key: BlobKey) -> Result<Found, BlobStoreError> {
        if let Some(partial) = open.get(&key) {
            return Ok(Found::Partial(Arc::clone(partial)));
        }
        let places = self.places(&key);
        match fs::metadata(&places.whole) {
            Ok(metadata) => return Ok(Found::Complete { len: metadata.len() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error(&places.whole, &error)),
        }
        let loaded = Partial::load(key, &places).map_err(|error| io_error(&places.part, &error))?;
        Ok(loaded.map_or(Found::Absent, |partial| Found::Partial(keep(open, key, partial))))
    }

    fn lock(&self) -> MutexGuard<'_, OpenPartials> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn chain_folder(&self, space: BlobSpace, chain: ChainId) -> PathBuf {
        let space = match space {
            BlobSpace::Blob => "blob",
            BlobSpace::Envelope => "envelope",
        };
        self.folder.join(space).join(name_of_digest(chain.digest()))
    }

    fn places(&self, key: &BlobKey) -> Places {
        let folder = self.chain_folder(key.space, key.chain);
        let whole = folder.join(name_of_digest(&key.digest));
        Places { part: whole.with_extension("part"), map: whole.with_extension("map"), whole, folder }
    }
}

/// Keeps a partial object open, closing others that nobody uses if there are too many.
fn keep(open: &mut OpenPartials, key: BlobKey, partial: Partial) -> Arc<Partial> {
    if open.len() >= OPEN_PARTIALS_MAX {
        // Clones are made under the lock of `open` only, so nobody can take up one that has a single owner.
        open.retain(|_, kept| Arc::strong_count(kept) > 1);
    }
    let partial = Arc::new(partial);
    open.insert(key, Arc::clone(&partial));
    partial
}

fn open_whole(places: &Places) -> Result<Option<File>, BlobStoreError> {
    match File::open(&places.whole) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(&places.whole, &error)),
    }
}

fn name_of_digest(digest: &[u8; 32]) -> String {
    use std::fmt::Write as _;
    digest.iter().fold(String::with_capacity(64), |mut name, byte| {
        // Writing to a string cannot fail.
        let _infallible = write!(name, "{byte:02x}");
        name
    })
}

fn digest_of_name(name: &str) -> Option<[u8; 32]> {
    let id = parse_hex(name)?;
    (name_of_digest(&id) == name).then_some(id)
}

fn parse_hex(name: &str) -> Option<[u8; 32]> {
    if name.len() != 64 || !name.is_ascii() {
        return None;
    }
    let mut digest = [0; 32];
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(name.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(digest)
}

/// The bytes of all files beneath a folder; partial objects count with the space that they have taken or reserved.
fn files_bytes(folder: &Path) -> std::io::Result<u64> {
    let mut bytes = 0u64;
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => {
                    let partial = entry.path().extension().is_some_and(|ending| ending == "part");
                    bytes = bytes.saturating_add(if partial { taken(&metadata) } else { metadata.len() });
                }
                // Maps and partial objects go while we look.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(bytes)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BlobStoreError> + Send + 'static,
) -> Result<T, BlobStoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(BlobStoreError::Io { reason: "a task of the blob store ended early".into() }))
}
