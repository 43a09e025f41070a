//! Contents of blocks: taking in, keeping apart, reading.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::{Notify, watch};

use super::core::{Inner, WantedBlob};
use super::reader::{ContentStream, Source, Ticket};
use crate::block::{ContentRef, DraftContent};
use crate::id::{BlobId, BlockId, ChainId};
use crate::ledger::{BlockState, Content, LedgerError};
use crate::limits::INLINE_CONTENT_MAX;
use crate::store::{BlobKey, BlobSpace, BlobStatus, BlobStore};

/// How a fetch for a reader stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FetchState {
    /// It goes on.
    Running,
    /// Everything is here.
    Complete,
    /// It cannot be had now, and why in a few words.
    Failed(&'static str),
}

/// A fetch for a reader.
#[derive(Clone, Debug)]
pub struct FetchTicket {
    /// How it stands.
    pub state: watch::Receiver<FetchState>,
    /// To be notified when what is needed has moved, or is needed no more.
    pub nudge: Arc<Notify>,
}

/// Fetches blobs that are not here; replication implements it.
#[async_trait]
pub trait BlobFetcher: Send + Sync + fmt::Debug {
    /// Begins to fetch what `need` names of a blob of `chain` into the blob store, from its front, and follows it as it
    /// moves, until the blob is complete or the sender of `need` is dropped. Calls
    /// [`ChainCore::blob_progressed`](super::ChainCore::blob_progressed) after each chunk, and
    /// [`ChainCore::blob_arrived`](super::ChainCore::blob_arrived) at the end. Several calls for one blob share the work.
    ///
    /// # Errors
    /// Why it cannot be had now, in a few words.
    async fn fetch(
        &self,
        chain: ChainId,
        wanted: WantedBlob,
        need: watch::Receiver<Range<u64>>,
    ) -> Result<FetchTicket, &'static str>;

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

/// Opens the content of an admitted block, or the part of `range` that there is.
pub(super) async fn open(core: &Arc<Inner>, id: &BlockId, range: Range<u64>) -> Result<ContentStream, LedgerError> {
    let unknown = || LedgerError::UnknownBlock { id: *id };
    let record = core.table.records(&[*id]).await?.pop().flatten().ok_or_else(unknown)?;
    let within = |len: u64| range.start.min(len)..range.end.min(len).max(range.start.min(len));
    let (root, len) = match record.header.content {
        ContentRef::Inline { .. } => {
            let block = core.table.block(id).await?.ok_or_else(unknown)?;
            let bytes = block.inline().cloned().unwrap_or_default();
            let range = within(bytes.len() as u64);
            return Ok(ContentStream::new(Source::Inline(bytes), range));
        }
        // Nothing of a skeleton is fetched.
        ContentRef::Blob { .. } if record.skeleton => {
            return Err(LedgerError::Unavailable { id: *id, reason: "the block does not count (V-BLOCK-17)" });
        }
        ContentRef::Blob { root, len } => (root, len),
    };
    let range = within(len);
    let status = core.blobs.status(key(core.id, &root)).await?;
    let ticket = if range.is_empty() || is_here(&status, &range) {
        None
    } else {
        Some(fetch(core, WantedBlob { block: *id, blob: root, len }, range.clone()).await?)
    };
    Ok(ContentStream::new(Source::Blob { core: Arc::clone(core), root, ticket }, range))
}

/// Says whether a range of an object, not empty, is here.
fn is_here(status: &BlobStatus, range: &Range<u64>) -> bool {
    match status {
        BlobStatus::Absent => false,
        BlobStatus::Complete { .. } => true,
        BlobStatus::Partial { chunk, have, .. } => {
            let chunk = u64::from(*chunk).max(1);
            let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
            let chunks = have.get(index(range.start / chunk)..index(range.end.div_ceil(chunk)));
            chunks.is_some_and(|chunks| chunks.iter().all(|here| *here))
        }
    }
}

async fn fetch(core: &Inner, wanted: WantedBlob, range: Range<u64>) -> Result<Ticket, LedgerError> {
    let fetcher = core.fetcher.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let unavailable = |reason| LedgerError::Unavailable { id: wanted.block, reason };
    let fetcher = fetcher.ok_or(unavailable("its blob is not here and this node is offline"))?;
    let (need, view) = watch::channel(range);
    let fetch = fetcher.fetch(core.id, wanted, view).await.map_err(unavailable)?;
    Ok(Ticket::new(need, fetch))
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
pub(super) type Input = Box<dyn AsyncRead + Send + Unpin>;
