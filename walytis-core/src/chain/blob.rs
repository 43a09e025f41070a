//! The blobs of a chain: what is here, what is wanted, how far it is.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::watch;

use super::content::{self, BlobFetcher};
use super::core::{ChainCore, FetchMode, Inner, WantedBlob};
use super::fresh::News;
use super::intake;
use super::schema::{self, Tag, id_at_end, read_blob};
use super::table::behind;
use crate::block::ContentRef;
use crate::id::{BlobId, BlockId};
use crate::ledger::{BlockState, LedgerError};
use crate::store::{Batch, BlobKey, BlobSpace, BlobStore, Direction, Durability, KeyRange};
use crate::unixfs::BlobManifest;

/// Wanted blobs returned at once. Chosen: some hundred are far more than can be fetched at the same time.
const WANTED_PAGE: usize = 1_024;
/// Entries of the list of blobs read at once.
const LIST_PAGE: usize = 128;

/// A blob on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobFetch {
    /// Peers that are being asked for it.
    pub sources: usize,
    /// Why it cannot be stored, if it cannot; tried again by itself.
    pub trouble: Option<&'static str>,
}

/// A blob that a block of the chain names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobEntry {
    /// The block.
    pub block: BlockId,
    /// The blob.
    pub blob: BlobId,
    /// Bytes in all.
    pub len: u64,
    /// What is here of it.
    pub state: BlockState,
    /// How it is being fetched, if it is.
    pub fetch: Option<BlobFetch>,
}

impl BlobEntry {
    /// Returns the bytes that are here.
    pub const fn bytes_done(&self) -> u64 {
        match self.state {
            BlockState::Available => self.len,
            BlockState::Partial { bytes_done, .. } => bytes_done,
            _ => 0,
        }
    }
}

/// Follows how much of a block's content is here.
#[derive(Debug)]
pub struct ContentProgress {
    core: Arc<Inner>,
    block: BlockId,
    content: ContentRef,
    moved: watch::Receiver<u64>,
    last: Option<BlockState>,
}

impl ContentProgress {
    /// Waits until it has changed and returns what is here; the first call returns at once. Nothing behind
    /// [`BlockState::Available`], or once the chain is shut down. Cancel-safe. Changes that follow each other faster than this
    /// is called come as one.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn next(&mut self) -> Result<Option<BlobEntry>, LedgerError> {
        loop {
            if self.last == Some(BlockState::Available) {
                return Ok(None);
            }
            self.moved.mark_unchanged();
            let state = content::state(&self.core, &self.content, false).await?;
            if self.last != Some(state) {
                self.last = Some(state);
                return Ok(Some(self.entry(state)));
            }
            tokio::select! {
                biased;
                () = self.core.stop.cancelled() => return Ok(None),
                moved = self.moved.changed() => if moved.is_err() { return Ok(None) },
            }
        }
    }

    fn entry(&self, state: BlockState) -> BlobEntry {
        let (blob, len) = match self.content {
            ContentRef::Blob { root, len } => (root, len),
            ContentRef::Inline { len, digest } => (BlobId::Raw(digest.0), len),
        };
        let fetch = self.core.fetches.borrow().get(&blob).copied();
        BlobEntry { block: self.block, blob, len, state, fetch }
    }
}

/// Returns how much of a block's content is here, and follows it.
pub(super) async fn progress(core: &Arc<Inner>, id: &BlockId) -> Result<ContentProgress, LedgerError> {
    let record = core.table.records(&[*id]).await?.pop().flatten();
    let content = record.ok_or(LedgerError::UnknownBlock { id: *id })?.header.content;
    let moved = core.blob_progress.subscribe();
    Ok(ContentProgress { core: Arc::clone(core), block: *id, content, moved, last: None })
}

/// Lists the blobs of the chain, in order of their digests, reading on as it is polled.
pub(super) fn list(core: Arc<Inner>) -> BoxStream<'static, Result<BlobEntry, LedgerError>> {
    let range = core.table.keys.all(Tag::Blob);
    let pages = stream::try_unfold((core, Some(range)), |(core, range)| async move {
        let Some(mut range) = range else { return Ok(None) };
        let page = core.table.scan(range.clone(), Direction::Forward, LIST_PAGE).await?;
        let mut entries = Vec::with_capacity(page.len());
        for (key, value) in &page {
            entries.push(Ok(entry(&core, key, value).await?));
        }
        let next = page.last().filter(|_| page.len() == LIST_PAGE).map(|(key, _)| {
            range.start = behind(key);
            range
        });
        Ok::<_, LedgerError>(Some((stream::iter(entries), (core, next))))
    });
    let flat = pages.flat_map(|page| match page {
        Ok(entries) => entries.boxed(),
        Err(error) => stream::once(async { Err(error) }).boxed(),
    });
    flat.boxed()
}

async fn entry(core: &Inner, key: &[u8], value: &[u8]) -> Result<BlobEntry, LedgerError> {
    let (blob, len) = core.table.note(read_blob(key, value))?;
    let block = core.table.note(id_at_end(key))?;
    let state = content::state(core, &ContentRef::Blob { root: blob, len }, false).await?;
    let fetch = core.fetches.borrow().get(&blob).copied();
    Ok(BlobEntry { block, blob, len, state, fetch })
}

impl ChainCore {
    /// Returns where the blobs of the chain stand.
    pub fn blobs(&self) -> Arc<dyn BlobStore> {
        Arc::clone(&self.inner.blobs)
    }

    /// Returns the name under which a blob of this chain is stored.
    pub fn blob_key(&self, blob: &BlobId) -> BlobKey {
        BlobKey { space: BlobSpace::Blob, chain: self.inner.id, digest: *blob.digest() }
    }

    /// Returns the length of a blob that an admitted block of this chain names, or nothing: only such blobs are served.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub async fn blob_len(&self, blob: &BlobId) -> Result<Option<u64>, LedgerError> {
        let table = &self.inner.table;
        let range = KeyRange::prefix(&table.keys.key(Tag::Blob, &[blob.digest()]));
        let found = table.scan(range, Direction::Forward, 1).await?;
        let Some((key, value)) = found.first() else { return Ok(None) };
        let (stored, len) = table.note(read_blob(key, value))?;
        Ok((stored == *blob).then_some(len))
    }

    /// Returns blobs that are to be fetched in the background, at most 1,024; what remains shows once these are here.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub async fn wanted_blobs(&self) -> Result<Vec<WantedBlob>, LedgerError> {
        self.wanted_blobs_after(None, WANTED_PAGE).await
    }

    /// Returns the next blobs that are to be fetched, in order of their blocks, behind that of `after`.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub(crate) async fn wanted_blobs_after(
        &self,
        after: Option<BlockId>,
        limit: usize,
    ) -> Result<Vec<WantedBlob>, LedgerError> {
        let table = &self.inner.table;
        let mut range = table.keys.all(Tag::Wanted);
        if let Some(after) = after {
            range.start = behind(&table.keys.of_block(Tag::Wanted, &after));
        }
        let page = table.scan(range, Direction::Forward, limit).await?;
        let decode = |(key, value): &(Bytes, Bytes)| {
            let (blob, len) = read_blob(key, value)?;
            Ok(WantedBlob { block: id_at_end(key)?, blob, len })
        };
        table.note(page.iter().map(decode).collect())
    }

    /// Returns what commits have added to that list since this was called last, or that it was much.
    pub(crate) fn take_newly_wanted(&self) -> News {
        self.inner.fresh.take()
    }

    /// Returns the stored manifest of a blob, or nothing. The manifest of a blob of one leaf follows from its id and is
    /// not stored.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub(crate) async fn manifest(&self, blob: &BlobId) -> Result<Option<BlobManifest>, LedgerError> {
        let stored = self.inner.table.get(&self.inner.table.keys.manifest(blob)).await?;
        // One that does not decode is made or asked for again.
        Ok(stored.and_then(|bytes| BlobManifest::decode(&bytes).ok()))
    }

    /// Reads a blob that is here whole and stores the manifest made of it; nothing if it is not here.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub(crate) async fn make_manifest(&self, blob: &BlobId, len: u64) -> Result<Option<BlobManifest>, LedgerError> {
        intake::make_manifest(&self.inner, blob, len).await
    }

    /// Tells readers that wait for it that some chunk of a blob was stored.
    pub fn blob_progressed(&self) {
        self.inner.blob_progress.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Records that the blob of `block` is complete: it is wanted no more.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub async fn blob_arrived(&self, block: &BlockId) -> Result<(), LedgerError> {
        let mut batch = Batch::new();
        batch.delete(self.inner.table.keys.of_block(Tag::Wanted, block));
        // Lost in a power cut it is found complete again at the next attempt.
        self.inner.table.commit(batch, Durability::Buffered).await?;
        self.blob_progressed();
        Ok(())
    }

    /// Stores the manifest of a blob; the caller has checked it against the root.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub(crate) async fn put_manifest(&self, blob: &BlobId, manifest: &BlobManifest) -> Result<(), LedgerError> {
        intake::put_manifest(&self.inner, blob, manifest).await
    }

    /// Notes what is being fetched, for those who ask.
    pub(crate) fn set_fetches(&self, fetches: BTreeMap<BlobId, BlobFetch>) {
        self.inner.fetches.send_if_modified(|now| {
            let changed = *now != fetches;
            *now = fetches;
            changed
        });
    }

    /// Returns which blobs this replica fetches.
    pub fn fetch_mode(&self) -> FetchMode {
        *self.inner.fetch_mode.borrow()
    }

    /// Returns a view of the fetch mode that moves when it is set.
    pub fn watch_fetch_mode(&self) -> watch::Receiver<FetchMode> {
        self.inner.fetch_mode.subscribe()
    }

    /// Sets which blobs this replica fetches, from now on and after a restart; flushed when it returns. What is here
    /// stays.
    ///
    /// # Errors
    /// [`LedgerError::Store`], [`LedgerError::Damaged`]; then nothing has changed.
    pub async fn set_fetch_mode(&self, mode: FetchMode) -> Result<(), LedgerError> {
        let mut batch = Batch::new();
        batch.put(self.inner.table.keys.fetch(), schema::fetch_mode(mode));
        self.inner.table.commit(batch, Durability::Flushed).await?;
        self.inner.fetch_mode.send_replace(mode);
        Ok(())
    }

    /// Sets who fetches the blobs that are not here.
    pub fn set_fetcher(&self, fetcher: Option<Arc<dyn BlobFetcher>>) {
        *self.inner.fetcher.lock().unwrap_or_else(PoisonError::into_inner) = fetcher;
    }
}
