//! What a private ledger keeps in the store, under [`Space::Offchain`]. Nothing here can be read without epoch keys.
//!
//! ```text
//! 0x20 ‖ ledger tag (32) ‖ table ‖ …
//!   'M'                              Meta
//!   'r' block id                     LocalRecord
//!   'c' generation, block id         canonical index of all records
//!   't' hash (16), generation, id    topic index; the hash is keyed by the record's epoch
//!   'p' epoch id                     epochs that records name
//!   'e' sequence                     events: kind ‖ block id
//!   'w' block id                     records whose content cannot be read yet, or that wait
//!   'm' envelope id                  manifest and place of the chunks
//!   'v' envelope id, block id        records that name an envelope: epoch
//!   's' record nonce                 envelopes of own records that are not on the chain yet
//!   'n' name                         what a durable subscriber acknowledged
//! ```

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use walytis_core::id::{BlockId, ChainId};
use walytis_core::secret::Secret;
use walytis_core::store::keys::Space;
use walytis_core::store::{
    Batch, BlobKey, BlobSpace, BlobStatus, BlobStore, BlobStoreError, Direction, Durability, KeyRange, KvStore,
    StoreError,
};
use walytis_core::topic::Topic;
use walytis_identities::id::EpochId;

use crate::context::{Label, LedgerTag, derive, digest};
use crate::envelope::{CHUNK, EnvelopeId, Manifest, TAG};
use crate::exchange::frame_v1::Packed;
use crate::record::{exactly, versioned};

/// Whether a record counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Standing {
    /// Some of its authority heads are not here.
    Waiting,
    /// It counts.
    Valid,
    /// The identity says it does not count.
    Void,
    /// Header or envelope do not open under its own context: claimed from somewhere else, or malformed.
    Foreign,
}

/// What is here of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    Wanted,
    Locked,
    Available,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LocalRecord {
    pub(crate) generation: u64,
    pub(crate) standing: Standing,
    pub(crate) phase: Phase,
    /// Sequence of its last `Block` event; 0 if there was none.
    pub(crate) cursor: u64,
    /// Whether subscribers were told of it and not of its retraction.
    pub(crate) shown: bool,
    pub(crate) indexed: bool,
    pub(crate) envelope: [u8; 32],
    pub(crate) epoch: EpochId,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// Blocks of the chain that were looked at.
    pub(crate) position: u64,
    /// Last event.
    pub(crate) sequence: u64,
    /// Records that count.
    pub(crate) valid: u64,
}

/// Where the chunks of an envelope stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) packed: Packed,
    /// Name of the stored chunks, if they stand in the blob store.
    pub(crate) place: [u8; 32],
}

#[derive(Clone)]
pub(crate) struct Table {
    pub(crate) store: Arc<dyn KvStore>,
    pub(crate) blobs: Arc<dyn BlobStore>,
    pub(crate) chain: ChainId,
    pub(crate) tag: LedgerTag,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({:?})", self.chain)
    }
}

impl Table {
    pub(crate) fn key(&self, table: u8, parts: &[&[u8]]) -> Vec<u8> {
        let mut key = Space::Offchain.key(&[&self.tag.0, &[table]]);
        parts.iter().for_each(|part| key.extend_from_slice(part));
        key
    }

    pub(crate) fn all(&self, table: u8) -> KeyRange {
        KeyRange::prefix(&self.key(table, &[]))
    }

    pub(crate) fn everything(&self) -> KeyRange {
        KeyRange::prefix(&Space::Offchain.key(&[&self.tag.0]))
    }

    pub(crate) async fn read<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        let Some(value) = self.store.get(key).await? else { return Ok(None) };
        exactly(&value).map(Some).ok_or_else(|| StoreError::corrupt(key, "it does not decode"))
    }

    pub(crate) async fn meta(&self) -> Result<Meta, StoreError> {
        Ok(self.read(&self.key(b'M', &[])).await?.unwrap_or_default())
    }

    pub(crate) fn put_meta(&self, batch: &mut Batch, meta: &Meta) {
        batch.put(self.key(b'M', &[]), versioned(meta));
    }

    pub(crate) async fn record(&self, id: &BlockId) -> Result<Option<LocalRecord>, StoreError> {
        self.read(&self.key(b'r', &[id.digest()])).await
    }

    pub(crate) fn put_record(&self, batch: &mut Batch, id: &BlockId, record: &LocalRecord) {
        batch.put(self.key(b'r', &[id.digest()]), versioned(record));
        batch.put(self.key(b'c', &[&record.generation.to_be_bytes(), id.digest()]), Bytes::new());
        batch.put(self.key(b'p', &[record.epoch.as_bytes()]), Bytes::new());
        let waiting = match record.standing {
            Standing::Waiting => true,
            Standing::Valid => record.phase != Phase::Available,
            Standing::Void | Standing::Foreign => false,
        };
        let key = self.key(b'w', &[id.digest()]);
        if waiting {
            batch.put(key, Bytes::new())
        } else {
            batch.delete(key)
        };
    }

    pub(crate) fn put_event(&self, batch: &mut Batch, sequence: u64, retracted: bool, id: &BlockId) {
        let value = [&[u8::from(retracted)][..], id.digest()].concat();
        batch.put(self.key(b'e', &[&sequence.to_be_bytes()]), value);
    }

    /// Events behind a sequence: (sequence, retracted, block).
    pub(crate) async fn events(
        &self,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(u64, bool, BlockId)>, StoreError> {
        let page = self.store.scan(range, direction, limit).await?;
        page.iter()
            .map(|(key, value)| {
                let sequence = key.last_chunk().map(|bytes| u64::from_be_bytes(*bytes));
                let id = value.last_chunk().map(|bytes| BlockId::from_digest(*bytes));
                let retracted = value.first().map(|flag| *flag == 1);
                let event = sequence.zip(id).zip(retracted).map(|((sequence, id), flag)| (sequence, flag, id));
                event.ok_or_else(|| StoreError::corrupt(key, "it does not decode"))
            })
            .collect()
    }

    /// Ids at the end of the keys of a range, page by page.
    pub(crate) async fn ids(&self, mut range: KeyRange) -> Result<Vec<BlockId>, StoreError> {
        const PAGE: usize = 1_024;
        let mut ids = Vec::new();
        loop {
            let page = self.store.scan(range.clone(), Direction::Forward, PAGE).await?;
            ids.extend(page.iter().filter_map(|(key, _)| key.last_chunk()).map(|bytes| BlockId::from_digest(*bytes)));
            match page.last() {
                Some((key, _)) if page.len() == PAGE => range.start = behind(key),
                _ => return Ok(ids),
            }
        }
    }

    pub(crate) async fn stored(&self, id: &EnvelopeId) -> Result<Option<Stored>, StoreError> {
        let key = self.key(b'm', &[&id.0]);
        let Some(value) = self.store.get(&key).await? else { return Ok(None) };
        let split = value.split_first_chunk::<32>();
        let stored = split.and_then(|(place, rest)| {
            let packed = Packed::verify(id, &value.slice_ref(rest))?;
            Some(Stored { packed, place: *place })
        });
        stored.map(Some).ok_or_else(|| StoreError::corrupt(&key, "it is not the envelope of its key"))
    }

    pub(crate) fn put_stored(&self, batch: &mut Batch, stored: &Stored) {
        let id = stored.packed.manifest.id();
        batch.put(self.key(b'm', &[&id.0]), [&stored.place[..], &stored.packed.encode()].concat());
    }

    fn chunk_key(&self, place: &[u8; 32], index: u32) -> BlobKey {
        let digest = digest(Label::StoredChunk, &[&self.tag.0, place, &index.to_be_bytes()]);
        BlobKey { space: BlobSpace::Envelope, chain: self.chain, digest }
    }

    /// Writes one sealed chunk as an object of its own; flushed when it returns.
    pub(crate) async fn write_chunk(&self, place: &[u8; 32], index: u32, sealed: Bytes) -> Result<(), BlobStoreError> {
        let key = self.chunk_key(place, index);
        let size = CHUNK.saturating_add(u32::try_from(TAG).unwrap_or_default());
        if let BlobStatus::Complete { .. } = self.blobs.begin(key, sealed.len() as u64, size).await? {
            return Ok(());
        }
        self.blobs.write(key, 0, sealed).await.map(drop)
    }

    /// Returns a sealed chunk that is here.
    pub(crate) async fn read_chunk(&self, stored: &Stored, index: u32) -> Result<Bytes, BlobStoreError> {
        if let Some(chunk) = stored.packed.chunk.as_ref().filter(|_| index == 0) {
            return Ok(chunk.clone());
        }
        self.blobs.read(self.chunk_key(&stored.place, index), 0, CHUNK as usize + TAG).await
    }

    /// Says which chunks are here.
    pub(crate) async fn chunks_here(&self, stored: &Stored) -> Result<Vec<bool>, BlobStoreError> {
        if stored.packed.chunk.is_some() {
            return Ok(vec![true]);
        }
        let manifest: &Manifest = &stored.packed.manifest;
        let mut here = Vec::new();
        for index in 0..manifest.chunks() {
            let status = self.blobs.status(self.chunk_key(&stored.place, index)).await?;
            here.push(matches!(status, BlobStatus::Complete { .. }));
        }
        Ok(here)
    }

    /// Removes the chunks of a place: as many as are known, and on until one is missing.
    pub(crate) async fn remove_chunks(&self, place: &[u8; 32], known: u32) -> Result<(), BlobStoreError> {
        let mut index = 0;
        while index < known || self.blobs.status(self.chunk_key(place, index)).await? != BlobStatus::Absent {
            self.blobs.delete(self.chunk_key(place, index)).await?;
            index += 1;
        }
        Ok(())
    }

    /// Removes what was stored for an own record that never came onto the chain.
    pub(crate) async fn remove_orphan(&self, nonce: &[u8; 32]) -> Result<(), OrphanError> {
        let mark = self.key(b's', &[nonce]);
        let value = self.store.get(&mark).await?.unwrap_or_default();
        self.remove_chunks(nonce, 0).await?;
        let mut batch = Batch::new();
        if value.len() == 32 {
            batch.delete(self.key(b'm', &[&value]));
        }
        batch.delete(mark);
        Ok(self.store.commit(batch, Durability::Flushed).await?)
    }

    pub(crate) fn topic_key(&self, index_key: &Secret<32>, topic: &Topic, rest: &[&[u8]]) -> Vec<u8> {
        let hash = digest(Label::TopicIndex, &[index_key.expose(), topic.as_str().as_bytes()]);
        let short = hash.first_chunk::<16>().copied().unwrap_or_default();
        let parts: Vec<&[u8]> = std::iter::once(&short[..]).chain(rest.iter().copied()).collect();
        self.key(b't', &parts)
    }
}

/// The key of the topic index for one epoch.
pub(crate) fn index_key(header_key: &Secret<32>) -> Secret<32> {
    derive(Label::TopicIndex, header_key, &[])
}

/// The lowest key above `key`.
pub(crate) fn behind(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// Removing an orphan failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrphanError {
    #[error("storage failed")]
    Store(#[from] StoreError),
    #[error("blob storage failed")]
    Blob(#[from] BlobStoreError),
}

impl From<OrphanError> for walytis_core::ledger::LedgerError {
    fn from(error: OrphanError) -> Self {
        match error {
            OrphanError::Store(error) => Self::Store(error),
            OrphanError::Blob(error) => Self::Blob(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Rows written by one version must be read by the next: these bytes are frozen at release 0.1.0.
    #[test]
    fn rows_keep_their_bytes() {
        let record = LocalRecord {
            generation: 300,
            standing: Standing::Valid,
            phase: Phase::Locked,
            cursor: 7,
            shown: true,
            indexed: false,
            envelope: [0xaa; 32],
            epoch: walytis_identities::id::OpId([0xbb; 32]),
        };
        let frozen = format!("01ac020101070100{}{}", "aa".repeat(32), "bb".repeat(32));
        assert_eq!(hex(&versioned(&record)), frozen);
        assert_eq!(exactly(&versioned(&record)), Some(record));
        let meta = Meta { position: 1, sequence: 200, valid: 3 };
        assert_eq!(hex(&versioned(&meta)), "0101c80103");
        assert_eq!(exactly(&versioned(&meta)), Some(meta));
    }

    #[test]
    fn rows_with_another_version_or_more_bytes_are_refused() {
        let row = versioned(&Meta::default());
        assert!(exactly::<Meta>(&[&[2], row.get(1..).unwrap()].concat()).is_none());
        assert!(exactly::<Meta>(&[&row[..], &[0]].concat()).is_none());
    }
}
