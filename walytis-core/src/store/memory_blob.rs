//! Large content in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::chunks::{Chunks, check_append, read_window};
use super::{BlobDraft, BlobKey, BlobSpace, BlobStatus, BlobStore, BlobStoreError};
use crate::id::ChainId;

/// A [`BlobStore`] in memory. Nothing of it survives the process.
#[derive(Default)]
pub struct MemoryBlobs {
    objects: Arc<Mutex<BTreeMap<BlobKey, Object>>>,
}

/// Bytes of the chunks in which a draft is kept.
const DRAFT_CHUNK: u32 = 1024 * 1024;

#[derive(Clone)]
struct Object {
    chunks: Chunks,
    stored: BTreeMap<u32, Bytes>,
}

impl MemoryBlobs {
    /// Returns an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a store with the same objects, as if the folder of this one were copied.
    pub fn snapshot(&self) -> Self {
        Self { objects: Arc::new(Mutex::new(self.lock().clone())) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BlobKey, Object>> {
        // A poisoned map is still whole.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryBlobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBlobs").field("objects", &self.lock().len()).finish()
    }
}

impl Object {
    fn is_complete(&self) -> bool {
        u32::try_from(self.stored.len()) == Ok(self.chunks.count())
    }

    fn status(&self) -> BlobStatus {
        let len = self.chunks.len();
        if self.is_complete() {
            return BlobStatus::Complete { len };
        }
        let have = (0..self.chunks.count()).map(|index| self.stored.contains_key(&index)).collect();
        BlobStatus::Partial { len, chunk: self.chunks.chunk(), have }
    }

    fn read(&self, offset: u64, len: usize) -> Result<Bytes, BlobStoreError> {
        let window = read_window(self.chunks.len(), offset, len)?;
        let mut out = BytesMut::with_capacity(usize::try_from(window.end - window.start).unwrap_or(0));
        for index in self.chunks.covering(window.start, window.end) {
            let chunk = self.stored.get(&index).ok_or(BlobStoreError::Missing)?;
            let chunk_start = u64::from(index) * u64::from(self.chunks.chunk());
            let from = usize::try_from(window.start.saturating_sub(chunk_start)).unwrap_or(usize::MAX);
            let to = usize::try_from(window.end - chunk_start).unwrap_or(usize::MAX).min(chunk.len());
            out.extend_from_slice(chunk.get(from..to).ok_or(BlobStoreError::Missing)?);
        }
        Ok(out.freeze())
    }
}

#[async_trait]
impl BlobStore for MemoryBlobs {
    async fn begin(&self, key: BlobKey, len: u64, chunk: u32) -> Result<BlobStatus, BlobStoreError> {
        let chunks = Chunks::new(len, chunk)?;
        let mut objects = self.lock();
        let object = objects.entry(key).or_insert_with(|| Object { chunks, stored: BTreeMap::new() });
        // A complete object has no chunks any more, only a length.
        if object.chunks.len() != len || (object.chunks != chunks && !object.is_complete()) {
            return Err(BlobStoreError::Misfit { reason: "the object was begun with other sizes" });
        }
        Ok(object.status())
    }

    async fn draft(&self) -> Result<Box<dyn BlobDraft>, BlobStoreError> {
        Ok(Box::new(Draft { objects: Arc::clone(&self.objects), chunks: Vec::new(), last: BytesMut::new() }))
    }

    async fn write(&self, key: BlobKey, index: u32, bytes: Bytes) -> Result<BlobStatus, BlobStoreError> {
        let mut objects = self.lock();
        let object = objects.get_mut(&key).ok_or(BlobStoreError::Missing)?;
        if !object.is_complete() {
            object.chunks.place(index, bytes.len())?;
            // Copied, so that a chunk never keeps a larger received buffer alive.
            object.stored.entry(index).or_insert_with(|| Bytes::copy_from_slice(&bytes));
        }
        Ok(object.status())
    }

    async fn status(&self, key: BlobKey) -> Result<BlobStatus, BlobStoreError> {
        Ok(self.lock().get(&key).map_or(BlobStatus::Absent, Object::status))
    }

    async fn read(&self, key: BlobKey, offset: u64, len: usize) -> Result<Bytes, BlobStoreError> {
        self.lock().get(&key).ok_or(BlobStoreError::Missing)?.read(offset, len)
    }

    async fn delete(&self, key: BlobKey) -> Result<(), BlobStoreError> {
        self.lock().remove(&key);
        Ok(())
    }

    async fn list(&self, space: BlobSpace, chain: ChainId) -> Result<Vec<BlobKey>, BlobStoreError> {
        Ok(self.lock().keys().filter(|key| key.space == space && key.chain == chain).copied().collect())
    }

    async fn size_bytes(&self) -> Result<u64, BlobStoreError> {
        let bytes: usize = self.lock().values().flat_map(|object| object.stored.values()).map(Bytes::len).sum();
        Ok(u64::try_from(bytes).unwrap_or(u64::MAX))
    }
}

/// An object on its way in, in chunks of [`DRAFT_CHUNK`].
struct Draft {
    objects: Arc<Mutex<BTreeMap<BlobKey, Object>>>,
    chunks: Vec<Bytes>,
    last: BytesMut,
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Draft({} chunks)", self.chunks.len())
    }
}

#[async_trait]
impl BlobDraft for Draft {
    async fn append(&mut self, bytes: Bytes) -> Result<(), BlobStoreError> {
        check_append(bytes.len())?;
        self.last.extend_from_slice(&bytes);
        let chunk = usize::try_from(DRAFT_CHUNK).unwrap_or(usize::MAX);
        while self.last.len() >= chunk {
            self.chunks.push(self.last.split_to(chunk).freeze());
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>, key: BlobKey) -> Result<(), BlobStoreError> {
        if !self.last.is_empty() {
            self.chunks.push(self.last.freeze());
        }
        let len = self.chunks.iter().map(Bytes::len).sum::<usize>();
        let chunks = Chunks::new(u64::try_from(len).unwrap_or(u64::MAX), DRAFT_CHUNK)?;
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        if objects.get(&key).is_none_or(|object| !object.is_complete()) {
            objects.insert(key, Object { chunks, stored: (0..).zip(self.chunks).collect() });
        }
        Ok(())
    }
}
