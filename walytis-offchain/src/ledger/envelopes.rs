//! The envelopes that are here: manifests in the key-value store, the chunks of large ones in the blob store.

use std::collections::VecDeque;
use std::sync::{Arc, MutexGuard, PoisonError};

use bytes::Bytes;
use walytis_core::id::BlockId;
use walytis_core::store::{Batch, BlobKey, BlobSpace, BlobStatus, BlobStoreError, Durability, KeyRange, StoreError};

use super::table::Table;
use crate::context::{Label, digest};
use crate::envelope::{CHUNK, EnvelopeId, TAG};
use crate::exchange::frame_v1::Packed;

/// Bytes of a stored object's chunk.
const SEALED_CHUNK: u32 = CHUNK + 16;
const _: () = assert!(SEALED_CHUNK as usize == CHUNK as usize + TAG);
/// Large manifests kept in memory, 2 MiB each at most. Chosen: as many transfers as run at once.
const MANIFESTS_KEPT: usize = 8;

/// Large manifests that were verified.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    /// The newest last.
    kept: VecDeque<(EnvelopeId, Arc<Packed>)>,
    /// Moves with every removal: what was read from the store before one is not kept after it.
    removals: u64,
}

impl Table {
    /// Returns the manifest of an envelope, verified.
    pub(crate) async fn stored(&self, id: &EnvelopeId) -> Result<Option<Arc<Packed>>, StoreError> {
        let removals = {
            let manifests = self.manifests();
            if let Some((_, packed)) = manifests.kept.iter().find(|(kept, _)| kept == id) {
                return Ok(Some(Arc::clone(packed)));
            }
            manifests.removals
        };
        let key = self.key(b'm', &[&id.0]);
        let Some(value) = self.store.get(&key).await? else { return Ok(None) };
        let packed = Packed::verify(id, &value)
            .map(Arc::new)
            .ok_or_else(|| StoreError::corrupt(&key, "it is not the envelope of its key"))?;
        if packed.chunk.is_none() {
            let mut manifests = self.manifests();
            if manifests.removals == removals {
                if manifests.kept.len() >= MANIFESTS_KEPT {
                    manifests.kept.pop_front();
                }
                manifests.kept.push_back((*id, Arc::clone(&packed)));
            }
        }
        Ok(Some(packed))
    }

    fn manifests(&self) -> MutexGuard<'_, Manifests> {
        self.manifests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn put_stored(&self, batch: &mut Batch, packed: &Packed) {
        batch.put(self.key(b'm', &[&packed.id().0]), packed.encode());
    }

    /// Removes manifests in the batch, and from memory once it is committed: whoever reads meanwhile puts none back.
    pub(crate) async fn commit_removal(
        &self,
        mut batch: Batch,
        gone: &[EnvelopeId],
        durability: Durability,
    ) -> Result<(), StoreError> {
        for id in gone {
            batch.delete(self.key(b'm', &[&id.0]));
        }
        let committed = self.store.commit(batch, durability).await;
        if gone.is_empty() {
            return committed;
        }
        let mut manifests = self.manifests();
        manifests.removals = manifests.removals.wrapping_add(1);
        manifests.kept.retain(|(kept, _)| !gone.contains(kept));
        committed
    }

    /// The name of a large envelope's chunks.
    pub(crate) fn object(&self, id: &EnvelopeId) -> BlobKey {
        let digest = digest(Label::StoredEnvelope, &[&self.tag.0, &id.0]);
        BlobKey { space: BlobSpace::Envelope, chain: self.chain, digest }
    }

    /// Makes a place for an envelope's chunks if there is room for them, or goes on with those that are here; one flag each.
    /// Space is taken as they come: a length is soon said, and nobody says that its chunks will ever come.
    pub(crate) async fn begin(&self, packed: &Packed) -> Result<Vec<bool>, BlobStoreError> {
        if packed.chunk.is_some() {
            return Ok(vec![true]);
        }
        let (object, len) = (self.object(&packed.id()), packed.manifest.sealed_len());
        let mut status = self.blobs.status(object).await?;
        if status == BlobStatus::Absent {
            if let Some(room) = self.blobs.room_bytes().await?.filter(|room| *room < len) {
                return Err(BlobStoreError::Full { reason: format!("it takes {len} bytes, {room} are left") });
            }
            status = self.blobs.begin_sparse(object, len, SEALED_CHUNK).await?;
        }
        Ok(flags(status, packed.manifest.chunks()))
    }

    /// Writes one sealed chunk of an envelope that was begun; flushed when it returns.
    pub(crate) async fn write_chunk(&self, id: &EnvelopeId, index: u32, sealed: Bytes) -> Result<(), BlobStoreError> {
        self.blobs.write(self.object(id), index, sealed).await.map(drop)
    }

    /// Returns a sealed chunk that is here.
    pub(crate) async fn read_chunk(
        &self,
        id: &EnvelopeId,
        packed: &Packed,
        index: u32,
    ) -> Result<Bytes, BlobStoreError> {
        match packed.chunk.as_ref().filter(|_| index == 0) {
            Some(chunk) => Ok(chunk.clone()),
            None => {
                let offset = u64::from(index) * u64::from(SEALED_CHUNK);
                self.blobs.read(self.object(id), offset, SEALED_CHUNK as usize).await
            }
        }
    }

    /// Says which chunks are here.
    pub(crate) async fn chunks_here(&self, id: &EnvelopeId, packed: &Packed) -> Result<Vec<bool>, BlobStoreError> {
        if packed.chunk.is_some() {
            return Ok(vec![true]);
        }
        Ok(flags(self.blobs.status(self.object(id)).await?, packed.manifest.chunks()))
    }

    /// Returns the records that count and name an envelope: one, unless its author put the same one on the chain again.
    pub(crate) async fn naming(&self, id: &EnvelopeId) -> Result<Vec<BlockId>, StoreError> {
        let mut naming = Vec::new();
        for table in [b'v', b'f'] {
            naming.extend(self.ids(KeyRange::prefix(&self.key(table, &[&id.0]))).await?);
        }
        Ok(naming)
    }

    /// Removes what was stored for an own record that never came onto the chain.
    pub(crate) async fn remove_orphan(&self, nonce: &[u8; 32]) -> Result<(), RemovalError> {
        let mark = self.key(b's', &[nonce]);
        let mut batch = Batch::new();
        let named = self.store.get(&mark).await?.and_then(|value| value.first_chunk::<32>().copied());
        if let Some(id) = named {
            self.blobs.delete(self.object(&EnvelopeId(id))).await?;
        }
        batch.delete(mark);
        Ok(self.commit_removal(batch, named.map(EnvelopeId).as_slice(), Durability::Flushed).await?)
    }
}

fn flags(status: BlobStatus, chunks: u32) -> Vec<bool> {
    match status {
        BlobStatus::Absent => (0..chunks).map(|_| false).collect(),
        BlobStatus::Partial { have, .. } => have,
        BlobStatus::Complete { .. } => (0..chunks).map(|_| true).collect(),
    }
}

/// Removing an envelope failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemovalError {
    #[error("storage failed")]
    Store(#[from] StoreError),
    #[error("blob storage failed")]
    Blob(#[from] BlobStoreError),
}

impl From<RemovalError> for walytis_core::ledger::LedgerError {
    fn from(error: RemovalError) -> Self {
        match error {
            RemovalError::Store(error) => Self::Store(error),
            RemovalError::Blob(error) => Self::Blob(error),
        }
    }
}
