//! What a private ledger keeps in the store, under [`Space::Offchain`]. Nothing here can be read without epoch keys.
//!
//! ```text
//! 0x20 ‖ ledger tag (32) ‖ table ‖ …
//!   'M'                              Meta
//!   'r' block id                     LocalRecord
//!   'c' generation, block id         canonical index of all records
//!   'k'                              key of the topic index: epoch ‖ nonce ‖ sealed key
//!   't' hash (16), generation, id    topic index
//!   'e' sequence                     events: kind ‖ block id
//!   'w' block id                     records whose content cannot be read yet, or that wait
//!   'f' envelope id, block id        records that count and whose envelope is to be fetched; what is here of it may be
//!                                    served: epoch
//!   'l' epoch, block id              records that count and whose key is not here: locked, or not indexed
//!   'u' block id                     records that wait for authority
//!   'm' envelope id                  manifest, with the chunk if the envelope is small
//!   'v' envelope id, block id        records whose envelope is here and may be served: epoch
//!   'd' envelope id                  envelopes that are never wanted again, and why: Dropped
//!   'h' device key, generation, id   checkpoints that hold
//!   's' record nonce                 own envelopes whose records are not on the chain yet: envelope id
//!   'n' name                         what a durable subscriber acknowledged
//!   'F' 'R' 'x' 'Q' 'U' 'O' 'o' 'D'  what is forgotten or to be: see forget/rows.rs
//! ```
//!
//! The chunks of a large envelope are one object of the blob store, named by ledger and envelope.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use walytis_core::id::{BlockId, ChainId};
use walytis_core::secret::Secret;
use walytis_core::store::keys::Space;
use walytis_core::store::{Batch, BlobStore, Direction, KeyRange, KvStore, StoreError};
use walytis_core::topic::Topic;
use walytis_identities::id::EpochId;

use super::content_state::Phase;
use super::envelopes::Manifests;
use crate::context::{Label, LedgerTag};
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

/// What an event says of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum EventKind {
    /// Its content can be read.
    Block = 0,
    /// It does not count any more.
    Retracted = 1,
    /// It proposes to forget others.
    Proposed = 2,
    /// Its content was destroyed.
    Forgotten = 3,
}

impl EventKind {
    const fn of(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Block),
            1 => Some(Self::Retracted),
            2 => Some(Self::Proposed),
            3 => Some(Self::Forgotten),
            _ => None,
        }
    }
}

/// Bytes of a topic's hash in the index.
const TOPIC_HASH: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LocalRecord {
    pub(crate) generation: u64,
    pub(crate) standing: Standing,
    pub(crate) phase: Phase,
    /// Sequence of its last `Block` event; 0 if there was none.
    pub(crate) cursor: u64,
    /// Whether subscribers were told of it and not of its retraction.
    pub(crate) shown: bool,
    /// The hashes under which it stands in the topic index, once it does.
    pub(crate) indexed: Option<Vec<[u8; TOPIC_HASH]>>,
    pub(crate) envelope: [u8; 32],
    pub(crate) epoch: EpochId,
    /// Bytes that its content is padded to.
    pub(crate) class: u64,
}

impl LocalRecord {
    fn counts(&self) -> bool {
        self.standing == Standing::Valid
    }

    /// Its envelope is to be fetched.
    pub(crate) fn is_wanted(&self) -> bool {
        self.counts() && self.phase == Phase::Wanted
    }

    fn is_served(&self) -> bool {
        self.counts() && matches!(self.phase, Phase::Locked | Phase::Available)
    }

    fn lacks_key(&self) -> bool {
        self.counts() && self.phase != Phase::Forgotten && (self.indexed.is_none() || self.phase == Phase::Locked)
    }

    fn is_unread(&self) -> bool {
        match self.standing {
            Standing::Waiting => true,
            Standing::Valid => match self.phase {
                Phase::Available => false,
                // Never told of as a block, it is found in arrival order by this.
                Phase::Forgotten => self.cursor == 0,
                Phase::Wanted | Phase::Locked => true,
            },
            Standing::Void | Standing::Foreign => false,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// Blocks of the chain that were looked at.
    pub(crate) position: u64,
    /// Last event.
    pub(crate) sequence: u64,
    /// Records that count.
    pub(crate) valid: u64,
    /// Records that wait for authority.
    pub(crate) waiting: u64,
    /// Records that count and whose envelope is not here.
    pub(crate) missing: u64,
    /// Bytes of the contents of those, padded.
    pub(crate) missing_bytes: u64,
    /// Digest of the authority heads under which every record has been judged.
    pub(crate) judged: Option<[u8; 32]>,
    /// Own records that no checkpoint covers.
    pub(crate) unsealed: u64,
}

impl Meta {
    /// Counts a record anew.
    fn recount(&mut self, old: Option<&LocalRecord>, new: &LocalRecord) {
        for (record, gone) in old.map(|old| (old, true)).into_iter().chain([(new, false)]) {
            let count = |counter: &mut u64, by: u64| {
                *counter = if gone { counter.saturating_sub(by) } else { counter.saturating_add(by) };
            };
            count(&mut self.valid, u64::from(record.counts()));
            count(&mut self.waiting, u64::from(record.standing == Standing::Waiting));
            if record.is_wanted() {
                count(&mut self.missing, 1);
                count(&mut self.missing_bytes, record.class);
            }
        }
    }
}

#[derive(Clone)]
pub(crate) struct Table {
    pub(crate) store: Arc<dyn KvStore>,
    pub(crate) blobs: Arc<dyn BlobStore>,
    pub(crate) chain: ChainId,
    pub(crate) tag: LedgerTag,
    pub(super) manifests: Arc<Mutex<Manifests>>,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({:?})", self.chain)
    }
}

impl Table {
    pub(crate) fn new(store: Arc<dyn KvStore>, blobs: Arc<dyn BlobStore>, chain: ChainId, tag: LedgerTag) -> Self {
        Self { store, blobs, chain, tag, manifests: Arc::default() }
    }

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

    /// Writes a record, the indices that follow from it and the counters.
    pub(crate) fn put_record(
        &self,
        batch: &mut Batch,
        id: &BlockId,
        (old, new): (Option<&LocalRecord>, &LocalRecord),
        meta: &mut Meta,
    ) {
        batch.put(self.key(b'r', &[id.digest()]), versioned(new));
        if old.is_none() {
            batch.put(self.key(b'c', &[&new.generation.to_be_bytes(), id.digest()]), Bytes::new());
        }
        let by_envelope = |table| self.key(table, &[&new.envelope, id.digest()]);
        let mut index = |belongs: fn(&LocalRecord) -> bool, key: Vec<u8>, value: Bytes| {
            match (old.is_some_and(belongs), belongs(new)) {
                (false, true) => drop(batch.put(key, value)),
                (true, false) => drop(batch.delete(key)),
                _ => {}
            };
        };
        index(LocalRecord::is_unread, self.key(b'w', &[id.digest()]), Bytes::new());
        let epoch = || Bytes::copy_from_slice(new.epoch.as_bytes());
        index(LocalRecord::is_wanted, by_envelope(b'f'), epoch());
        index(LocalRecord::lacks_key, self.key(b'l', &[new.epoch.as_bytes(), id.digest()]), Bytes::new());
        index(|record| record.standing == Standing::Waiting, self.key(b'u', &[id.digest()]), Bytes::new());
        // What does not count any more is not served any more.
        index(LocalRecord::is_served, by_envelope(b'v'), epoch());
        meta.recount(old, new);
    }

    pub(crate) fn put_event(&self, batch: &mut Batch, sequence: u64, kind: EventKind, id: &BlockId) {
        let value = [&[kind as u8][..], id.digest()].concat();
        batch.put(self.key(b'e', &[&sequence.to_be_bytes()]), value);
    }

    /// Events behind a sequence: (sequence, what, block).
    pub(crate) async fn events(
        &self,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(u64, EventKind, BlockId)>, StoreError> {
        let page = self.store.scan(range, direction, limit).await?;
        page.iter()
            .map(|(key, value)| {
                let sequence = key.last_chunk().map(|bytes| u64::from_be_bytes(*bytes));
                let id = value.last_chunk().map(|bytes| BlockId::from_digest(*bytes));
                let kind = value.first().copied().and_then(EventKind::of);
                let event = sequence.zip(id).zip(kind).map(|((sequence, id), kind)| (sequence, kind, id));
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

    /// Ids that stand at the end of the keys of a range, at most `limit`, and where to go on.
    pub(crate) async fn ids_page(
        &self,
        range: KeyRange,
        limit: usize,
    ) -> Result<(Vec<BlockId>, Option<Vec<u8>>), StoreError> {
        let page = self.store.scan(range, Direction::Forward, limit).await?;
        let next = page.last().filter(|_| page.len() == limit).map(|(key, _)| behind(key));
        let ids = page.iter().filter_map(|(key, _)| key.last_chunk()).map(|bytes| BlockId::from_digest(*bytes));
        Ok((ids.collect(), next))
    }

    pub(crate) fn topic_key(&self, hash: &[u8; TOPIC_HASH], rest: &[&[u8]]) -> Vec<u8> {
        let parts: Vec<&[u8]> = std::iter::once(&hash[..]).chain(rest.iter().copied()).collect();
        self.key(b't', &parts)
    }
}

/// Returns the hash under which a topic stands in the index: nobody can tell it from another without the key.
pub(crate) fn topic_hash(key: &Secret<32>, topic: &Topic) -> [u8; TOPIC_HASH] {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length (RFC 2104 §2)")]
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key.expose()).expect("32 bytes are a key");
    mac.update(Label::TopicIndex.bytes());
    mac.update(topic.as_str().as_bytes());
    let tag: [u8; 32] = mac.finalize().into_bytes().into();
    tag.first_chunk().copied().unwrap_or_default()
}

/// The lowest key above `key`.
pub(crate) fn behind(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
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
            indexed: Some(vec![[0xcc; 16]]),
            envelope: [0xaa; 32],
            epoch: walytis_identities::id::OpId([0xbb; 32]),
            class: 256,
        };
        let (envelope, epoch, hash) = ("aa".repeat(32), "bb".repeat(32), "cc".repeat(16));
        assert_eq!(hex(&versioned(&record)), format!("01ac02010107010101{hash}{envelope}{epoch}8002"));
        assert_eq!(exactly(&versioned(&record)), Some(record));
        let meta =
            Meta { position: 1, sequence: 200, valid: 3, missing: 5, judged: Some([0xdd; 32]), ..Meta::default() };
        assert_eq!(hex(&versioned(&meta)), format!("0101c8010300050001{}00", "dd".repeat(32)));
        assert_eq!(exactly(&versioned(&meta)), Some(meta));
    }

    #[test]
    fn rows_with_another_version_or_more_bytes_are_refused() {
        let row = versioned(&Meta::default());
        assert!(exactly::<Meta>(&[&[2], row.get(1..).unwrap()].concat()).is_none());
        assert!(exactly::<Meta>(&[&row[..], &[0]].concat()).is_none());
    }
}
