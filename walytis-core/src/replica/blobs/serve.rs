//! Serving the blobs of one chain to one peer: its own task, so that large content never holds up blocks.
//!
//! A leaf is read only when the link has room for it: however many chains are asked at once, a link keeps a few leaves
//! in memory. What waits for room gets it in turn, so that every chain has its share.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::access::Access;
use crate::chain::ChainCore;
use crate::id::{BlobId, BlockId};
use crate::ledger::LedgerError;
use crate::limits::BLOB_LEAF;
use crate::replica::codec_v1::{MANIFEST_PART, Message};
use crate::replica::line::{Line, LinkCommand};
use crate::store::BlobStoreError;
use crate::unixfs::BlobManifest;

/// A request of the peer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BlobRequest {
    /// Leaf digests, from an index.
    Manifest { blob: BlobId, from: u32 },
    /// A leaf.
    Leaf { blob: BlobId, index: u32 },
}

/// The task of one channel.
#[derive(Debug)]
pub(crate) struct BlobServeTask {
    core: ChainCore,
    line: Line,
    /// Held while a manifest is made from the blob itself: a short request can cost much work.
    heavy: Arc<Semaphore>,
}

impl BlobServeTask {
    pub(crate) const fn new(core: ChainCore, line: Line, heavy: Arc<Semaphore>) -> Self {
        Self { core, line, heavy }
    }

    /// Serves until the channel is closed.
    pub(crate) async fn run(self, mut requests: mpsc::Receiver<BlobRequest>, stop: CancellationToken) {
        let serve = async {
            while let Some(request) = requests.recv().await {
                match self.handle(request).await {
                    Ok(true) => {}
                    Ok(false) => return,
                    // The peer asks somebody else once its request is overdue.
                    Err(error) => warn!(chain = ?self.core.id(), %error, "serving a blob failed"),
                }
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = serve => {}
        }
    }

    /// Answers one request; false when the channel ends.
    async fn handle(&self, request: BlobRequest) -> Result<bool, LedgerError> {
        if self.core.access().may_sync(&self.line.peer).await != Access::Granted {
            self.line.wire.command(LinkCommand::Drop(self.line.channel));
            return Ok(false);
        }
        let Some(room) = self.line.room().await else { return Ok(false) };
        room.send(match request {
            BlobRequest::Manifest { blob, from } => self.manifest(blob, from).await?,
            BlobRequest::Leaf { blob, index } => self.leaf(blob, index).await?,
        });
        Ok(true)
    }

    async fn manifest(&self, blob: BlobId, from: u32) -> Result<Message, LedgerError> {
        let none = Message::NoBlob { blob, index: 0 };
        let Some(len) = self.core.blob_len(&blob).await? else { return Ok(none) };
        let Some(manifest) = self.stored_manifest(&blob, len).await? else { return Ok(none) };
        let digests = manifest.leaves().iter().skip(from as usize).take(MANIFEST_PART);
        let digests = digests.map(|digest| digest.0).collect();
        Ok(Message::Manifest { blob, len: manifest.len(), from, digests })
    }

    async fn stored_manifest(&self, blob: &BlobId, len: u64) -> Result<Option<BlobManifest>, LedgerError> {
        if let Some(stored) = self.core.manifest(blob).await? {
            return Ok(Some(stored));
        }
        let _turn = self.heavy.acquire().await.map_err(|_| LedgerError::Closed)?;
        self.core.make_manifest(blob, len).await
    }

    async fn leaf(&self, blob: BlobId, index: u32) -> Result<Message, LedgerError> {
        let offset = u64::from(index) * BLOB_LEAF as u64;
        let here = self.core.blob_len(&blob).await?.is_some_and(|len| offset < len);
        let read = if here {
            self.core.blobs().read(self.core.blob_key(&blob), offset, BLOB_LEAF).await
        } else {
            Err(BlobStoreError::Missing)
        };
        if let (Err(BlobStoreError::Missing), BlobId::Raw(digest), 0) = (&read, blob, index)
            && let Some(bytes) = self.core.file(&BlockId::from_digest(digest)).await?
        {
            // A block file is the raw block of its id: somebody repairs the chain.
            return Ok(Message::Leaf { blob, index, bytes });
        }
        match read {
            Ok(bytes) => Ok(Message::Leaf { blob, index, bytes }),
            Err(BlobStoreError::Missing) => Ok(Message::NoBlob { blob, index }),
            Err(error) => Err(error.into()),
        }
    }
}
