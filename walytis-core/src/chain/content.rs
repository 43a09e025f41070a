//! Contents of blocks: taking in, keeping apart, reading.

use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::watch;
use tokio_util::io::StreamReader;

use super::core::{Inner, WantedBlob};
use crate::block::{ContentRef, DraftContent};
use crate::id::{BlobId, BlockId, ChainId};
use crate::ledger::{BlockState, Content, ContentReader, LedgerError};
use crate::limits::{BLOB_LEAF, INLINE_CONTENT_MAX};
use crate::store::{BlobKey, BlobSpace, BlobStatus, BlobStore, BlobStoreError};

/// Fetches blobs that are not here; replication implements it.
#[async_trait]
pub trait BlobFetcher: Send + Sync + fmt::Debug {
    /// Fetches a blob of `chain` into the blob store, from the front, and returns when it is complete. Calls
    /// [`ChainCore::blob_progressed`](super::ChainCore::blob_progressed) after each chunk, and
    /// [`ChainCore::blob_arrived`](super::ChainCore::blob_arrived) at the end. Several calls for one blob share the work.
    /// Cancel-safe: what was stored stays.
    ///
    /// # Errors
    /// Why it cannot be had now, in a few words.
    async fn fetch(&self, chain: ChainId, wanted: WantedBlob) -> Result<(), &'static str>;

    /// Asks connected peers for one part of what `chain` holds: leaf `index` of a blob, or the block file that the raw
    /// name `blob` is the id of, as its leaf 0. The part has this SHA-256 digest. `patience` is how long to wait for a peer
    /// that was not asked yet. By default there is nobody to ask.
    ///
    /// # Errors
    /// Why it cannot be had now, in a few words.
    async fn fetch_part(
        &self,
        _chain: ChainId,
        _blob: BlobId,
        _index: u32,
        _digest: [u8; 32],
        _patience: Duration,
    ) -> Result<Bytes, &'static str> {
        Err("there is nobody to ask")
    }
}

/// Content that is ready to stand in a block.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) content: DraftContent,
    pub(super) mark: Option<[u8; 16]>,
}

/// Takes in content: inline below the setting, else as a blob.
pub(super) async fn take(core: &Inner, content: Content) -> Result<Taken, LedgerError> {
    let max = core.settings.content_max;
    let inline = |bytes| Taken { content: DraftContent::Inline(bytes), mark: None };
    match content {
        Content::Bytes(bytes) if bytes.len() as u64 > max => Err(LedgerError::TooLarge { max }),
        Content::Bytes(bytes) if bytes.len() < core.settings.blob_from => Ok(inline(bytes)),
        Content::Bytes(bytes) => super::intake::take_stream(core, Box::new(io::Cursor::new(bytes))).await,
        Content::Reader(mut reader) => {
            let mut front = Vec::new();
            let limit = core.settings.blob_from as u64;
            (&mut reader).take(limit).read_to_end(&mut front).await.map_err(LedgerError::Read)?;
            if front.len() < core.settings.blob_from {
                return Ok(inline(front.into()));
            }
            super::intake::take_stream(core, Box::new(io::Cursor::new(front).chain(reader))).await
        }
    }
}

/// Takes in content that stands in the block however long it is.
pub(super) fn take_inline(content: Content) -> Result<Taken, LedgerError> {
    match content {
        Content::Bytes(bytes) if bytes.len() <= INLINE_CONTENT_MAX => {
            Ok(Taken { content: DraftContent::Inline(bytes), mark: None })
        }
        _ => Err(LedgerError::TooLarge { max: INLINE_CONTENT_MAX as u64 }),
    }
}

/// Says what of a block's content is here.
pub(super) async fn state(core: &Inner, content: &ContentRef, skeleton: bool) -> Result<BlockState, LedgerError> {
    if skeleton {
        return Ok(BlockState::Void { reason: "V-BLOCK-17" });
    }
    let ContentRef::Blob { root, .. } = content else { return Ok(BlockState::Available) };
    Ok(match core.blobs.status(key(core.id, root)).await? {
        BlobStatus::Absent => BlockState::Wanted,
        BlobStatus::Complete { .. } => BlockState::Available,
        BlobStatus::Partial { len, chunk, have } => {
            let done = have.iter().filter(|here| **here).count() as u64;
            BlockState::Partial { bytes_done: (done * u64::from(chunk)).min(len), bytes_total: len }
        }
    })
}

/// Opens the content of an admitted block.
pub(super) async fn open(core: &Arc<Inner>, id: &BlockId) -> Result<ContentReader, LedgerError> {
    let unknown = || LedgerError::UnknownBlock { id: *id };
    let record = core.table.records(&[*id]).await?.pop().flatten().ok_or_else(unknown)?;
    let (root, len) = match record.header.content {
        ContentRef::Inline { .. } => {
            let block = core.table.block(id).await?.ok_or_else(unknown)?;
            let bytes = block.inline().cloned().unwrap_or_default();
            return Ok(Box::new(io::Cursor::new(bytes)));
        }
        // Nothing of a skeleton is fetched.
        ContentRef::Blob { .. } if record.skeleton => {
            return Err(LedgerError::Unavailable { id: *id, reason: "the block does not count (V-BLOCK-17)" });
        }
        ContentRef::Blob { root, len } => (root, len),
    };
    let complete = matches!(core.blobs.status(key(core.id, &root)).await?, BlobStatus::Complete { .. });
    let progress = core.blob_progress.subscribe();
    let fetch = if complete { None } else { Some(fetch(core, WantedBlob { block: *id, blob: root, len })?) };
    let reader = BlobReader { core: Arc::clone(core), root, len, offset: 0, progress, fetch, failure: None };
    let chunks = futures::stream::try_unfold(reader, |mut reader| async move {
        Ok::<_, io::Error>(reader.next().await?.map(|bytes| (bytes, reader)))
    });
    Ok(Box::new(StreamReader::new(Box::pin(chunks) as futures::stream::BoxStream<'static, io::Result<Bytes>>)))
}

type Fetch = BoxFuture<'static, Result<(), &'static str>>;

fn fetch(core: &Inner, wanted: WantedBlob) -> Result<Fetch, LedgerError> {
    let fetcher = core.fetcher.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let reason = "its blob is not here and this node is offline";
    let fetcher = fetcher.ok_or(LedgerError::Unavailable { id: wanted.block, reason })?;
    let chain = core.id;
    Ok(Box::pin(async move { fetcher.fetch(chain, wanted).await }))
}

/// Reads a blob in order; waits for what is on its way.
struct BlobReader {
    core: Arc<Inner>,
    root: BlobId,
    len: u64,
    offset: u64,
    progress: watch::Receiver<u64>,
    fetch: Option<Fetch>,
    /// Why the fetch ended early.
    failure: Option<&'static str>,
}

impl BlobReader {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while self.offset < self.len {
            self.progress.mark_unchanged();
            match self.core.blobs.read(key(self.core.id, &self.root), self.offset, BLOB_LEAF).await {
                Ok(bytes) if bytes.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => {
                    self.offset += bytes.len() as u64;
                    return Ok(Some(bytes));
                }
                Err(BlobStoreError::Missing) if self.fetch.is_some() => self.wait().await?,
                // Everything that came before the fetch ended was read first.
                Err(BlobStoreError::Missing) => {
                    let reason = self.failure.unwrap_or("its blob is gone");
                    return Err(io::Error::other(format!("the content is not available: {reason}")));
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(None)
    }

    /// Waits for more bytes, or for the end of the fetch.
    async fn wait(&mut self) -> io::Result<()> {
        let Some(fetch) = &mut self.fetch else { return Ok(()) };
        tokio::select! {
            biased;
            () = self.core.stop.cancelled() => Err(io::Error::other(LedgerError::Closed)),
            done = fetch => {
                self.fetch = None;
                self.failure = done.err();
                Ok(())
            }
            _ = self.progress.changed() => Ok(()),
        }
    }
}

pub(super) fn key(chain: ChainId, blob: &BlobId) -> BlobKey {
    BlobKey { space: BlobSpace::Blob, chain, digest: *blob.digest() }
}

/// Removes every blob of a chain.
pub(super) async fn remove_all(blobs: &dyn BlobStore, chain: ChainId) -> Result<(), LedgerError> {
    for space in [BlobSpace::Blob, BlobSpace::Envelope] {
        for key in blobs.list(space, chain).await? {
            blobs.delete(key).await?;
        }
    }
    Ok(())
}

/// What content is read from.
pub(super) type Source = Box<dyn AsyncRead + Send + Unpin>;
