//! What a mutable ledger keeps in the store, under [`Space::Mutable`]: names and places, no content and no topic.
//!
//! ```text
//! 0x21 ‖ ledger tag (32) ‖ table ‖ …
//!   'M'                          Meta
//!   'o' original                 OriginalRow
//!   'c' generation, original     blocks that are shown, in canonical order
//!   'x' generation, original     blocks that are deleted or do not count
//!   'd' generation, original     blocks that show another content than the original's
//!   'v' original, op             VersionRow
//!   'q' op                       the original that an op names
//!   'e' sequence                 EventRow
//!   'u' op                       ops whose content could not be read yet
//!   'j' op                       ops that cannot be judged yet
//!   'w' generation, op           ops of others than the block's author: the policy decides
//!   'p' generation, block        PolicyRow
//!   's' name                     durable subscribers, of events or of blocks
//! ```

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use walytis_core::id::{BlockId, ChainId, Digest};
use walytis_core::store::keys::Space;
use walytis_core::store::{Batch, Direction, KeyRange, KvStore, StoreError};

use crate::codec::{exactly, versioned};
use crate::event::Change;
use crate::graph::{Right, VersionGraph};
use crate::limits::PAGE;
use crate::op::{Act, Op, Place};
use crate::rights::Policy;

/// Label of ledger tags.
const LABEL: &[u8] = b"walytis/mutability/ledger/v1";

/// Counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// Position in the events of the ledger below.
    pub(crate) position: u64,
    /// Last event.
    pub(crate) sequence: u64,
    /// Blocks that are shown.
    pub(crate) shown: u64,
    /// Ops from this place on must be judged under another policy.
    pub(crate) judge_from: Option<(u64, BlockId)>,
}

/// A mutable block as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OriginalRow {
    pub(crate) generation: u64,
    /// Last event that changed what it shows.
    pub(crate) cursor: u64,
    /// Whether the ledger below says that it counts.
    pub(crate) counts: bool,
    pub(crate) versions: u64,
    pub(crate) heads: u64,
    pub(crate) head: BlockId,
    /// Version whose content is shown; nothing: it is deleted.
    pub(crate) content: Option<BlockId>,
}

impl OriginalRow {
    pub(crate) const fn is_shown(&self) -> bool {
        self.counts && self.content.is_some()
    }

    /// Says whether the block shows another content than its original's.
    pub(crate) fn is_edited(&self, id: &BlockId) -> bool {
        self.content.is_some_and(|content| content != *id)
    }
}

/// One op.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VersionRow {
    pub(crate) generation: u64,
    pub(crate) act: Act,
    pub(crate) place: Place,
    pub(crate) supersedes: Vec<BlockId>,
    /// Bytes of the op in front of an inline content.
    pub(crate) op_bytes: u32,
    right: u8,
    /// Whether the ledger below says that it does not count.
    pub(crate) retracted: bool,
}

impl VersionRow {
    pub(crate) fn new(op: &Op, generation: u64, op_bytes: usize) -> Self {
        Self {
            generation,
            act: op.act,
            place: op.place,
            supersedes: op.supersedes.clone(),
            op_bytes: u32::try_from(op_bytes).unwrap_or(u32::MAX),
            right: number(Right::Unknown),
            retracted: false,
        }
    }

    pub(crate) const fn right(&self) -> Right {
        match self.right {
            0 => Right::Allowed,
            1 => Right::Refused,
            _ => Right::Unknown,
        }
    }

    pub(crate) const fn set_right(&mut self, right: Right) {
        self.right = number(right);
    }

    /// Returns the right as the graph takes it: what the ledger below retracted has none.
    pub(crate) const fn effective(&self) -> Right {
        if self.retracted { Right::Refused } else { self.right() }
    }

    pub(crate) fn op(&self, original: &BlockId) -> Op {
        Op { original: *original, supersedes: self.supersedes.clone(), act: self.act, place: self.place }
    }
}

const fn number(right: Right) -> u8 {
    match right {
        Right::Allowed => 0,
        Right::Refused => 1,
        Right::Unknown => 2,
    }
}

/// A block that says who may change blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PolicyRow {
    policy: u8,
    right: u8,
    /// Whether the ledger below says that it does not count.
    retracted: bool,
}

impl PolicyRow {
    pub(crate) const fn new(policy: Policy, right: Right) -> Self {
        let policy = match policy {
            Policy::Author => 0,
            Policy::Anyone => 1,
            Policy::AdminsMayDelete => 2,
        };
        Self { policy, right: number(right), retracted: false }
    }

    pub(crate) const fn policy(&self) -> Policy {
        match self.policy {
            1 => Policy::Anyone,
            2 => Policy::AdminsMayDelete,
            _ => Policy::Author,
        }
    }

    pub(crate) const fn counts(&self) -> bool {
        self.right == number(Right::Allowed) && !self.retracted
    }

    pub(crate) const fn with_right(self, right: Right) -> Self {
        Self { right: number(right), ..self }
    }

    pub(crate) const fn with_retracted(self, retracted: bool) -> Self {
        Self { retracted, ..self }
    }
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EventRow {
    change: u8,
    pub(crate) original: BlockId,
    pub(crate) version: BlockId,
}

impl EventRow {
    pub(crate) const fn new(change: Change, original: BlockId, version: BlockId) -> Self {
        let change = match change {
            Change::Created => 0,
            Change::Edited => 1,
            Change::Deleted => 2,
            Change::Restored => 3,
            Change::Conflicted => 4,
            Change::Retracted => 5,
            Change::ForgetProposed => 6,
            Change::Forgotten => 7,
        };
        Self { change, original, version }
    }

    pub(crate) const fn change(&self) -> Change {
        match self.change {
            0 => Change::Created,
            1 => Change::Edited,
            2 => Change::Deleted,
            3 => Change::Restored,
            4 => Change::Conflicted,
            6 => Change::ForgetProposed,
            7 => Change::Forgotten,
            _ => Change::Retracted,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) store: Arc<dyn KvStore>,
    tag: [u8; 32],
}

impl Table {
    /// Returns the table of the mutable ledger `name` over a chain.
    pub(crate) fn new(store: Arc<dyn KvStore>, chain: &ChainId, name: &str) -> Self {
        let tag = Digest::of(&[LABEL, chain.digest(), name.as_bytes()].concat()).0;
        Self { store, tag }
    }

    pub(crate) fn key(&self, table: u8, parts: &[&[u8]]) -> Vec<u8> {
        let mut key = Space::Mutable.key(&[&self.tag, &[table]]);
        parts.iter().for_each(|part| key.extend_from_slice(part));
        key
    }

    pub(crate) fn all(&self, table: u8) -> KeyRange {
        KeyRange::prefix(&self.key(table, &[]))
    }

    pub(crate) fn everything(&self) -> KeyRange {
        KeyRange::prefix(&Space::Mutable.key(&[&self.tag]))
    }

    pub(crate) async fn read<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        let Some(value) = self.store.get(key).await? else { return Ok(None) };
        decode(key, &value).map(Some)
    }

    pub(crate) async fn meta(&self) -> Result<Meta, StoreError> {
        Ok(self.read(&self.key(b'M', &[])).await?.unwrap_or_default())
    }

    pub(crate) fn put_meta(&self, batch: &mut Batch, meta: &Meta) {
        batch.put(self.key(b'M', &[]), versioned(meta));
    }

    pub(crate) async fn original(&self, id: &BlockId) -> Result<Option<OriginalRow>, StoreError> {
        self.read(&self.key(b'o', &[id.digest()])).await
    }

    /// Writes a row and its place in canonical order; `changed`: its versions may be others than before.
    pub(crate) fn put_original(&self, batch: &mut Batch, id: &BlockId, row: &OriginalRow, changed: bool) {
        let generation = row.generation.to_be_bytes();
        let (here, gone) = if row.is_shown() { (b'c', b'x') } else { (b'x', b'c') };
        batch.put(self.key(b'o', &[id.digest()]), versioned(row));
        batch.put(self.key(here, &[&generation, id.digest()]), Bytes::new());
        batch.delete(self.key(gone, &[&generation, id.digest()]));
        let edited = self.key(b'd', &[&generation, id.digest()]);
        if row.is_edited(id) {
            batch.put(edited, Bytes::new());
        } else if changed {
            batch.delete(edited);
        }
    }

    fn version_key(&self, original: &BlockId, op: &BlockId) -> Vec<u8> {
        self.key(b'v', &[original.digest(), op.digest()])
    }

    pub(crate) async fn version(&self, original: &BlockId, op: &BlockId) -> Result<Option<VersionRow>, StoreError> {
        self.read(&self.version_key(original, op)).await
    }

    pub(crate) fn put_version(&self, batch: &mut Batch, original: &BlockId, op: &BlockId, row: &VersionRow) {
        batch.put(self.version_key(original, op), versioned(row));
        batch.put(self.key(b'q', &[op.digest()]), original.digest().to_vec());
    }

    /// Returns the original that an op names.
    pub(crate) async fn original_of(&self, op: &BlockId) -> Result<Option<BlockId>, StoreError> {
        let key = self.key(b'q', &[op.digest()]);
        let Some(value) = self.store.get(&key).await? else { return Ok(None) };
        let digest = value.as_ref().try_into().map_err(|_| StoreError::corrupt(&key, "not a block id"))?;
        Ok(Some(BlockId::from_digest(digest)))
    }

    /// Returns every op of a block, page by page.
    pub(crate) async fn versions(&self, original: &BlockId) -> Result<Vec<(BlockId, VersionRow)>, StoreError> {
        let mut range = KeyRange::prefix(&self.key(b'v', &[original.digest()]));
        let mut found = Vec::new();
        loop {
            let page = self.store.scan(range.clone(), Direction::Forward, PAGE).await?;
            for (key, value) in &page {
                found.push((id_at_end(key)?, decode(key, value)?));
            }
            match page.last() {
                Some((key, _)) if page.len() == PAGE => range.start = behind(key),
                _ => return Ok(found),
            }
        }
    }

    /// Returns the graph of a block, as it was judged. What nobody may do is left out: it stays void.
    pub(crate) async fn graph(&self, original: &BlockId, generation: u64) -> Result<VersionGraph, StoreError> {
        let mut graph = VersionGraph::new(*original, generation);
        for (id, row) in self.versions(original).await? {
            if row.effective() != Right::Refused {
                graph.insert(id, row.generation, &row.op(original), row.effective());
            }
        }
        Ok(graph)
    }

    pub(crate) fn policy_key(&self, (generation, id): (u64, &BlockId)) -> Vec<u8> {
        self.key(b'p', &[&generation.to_be_bytes(), id.digest()])
    }

    /// Returns the last policy that counts before a place in canonical order; without a place: the last of all.
    pub(crate) async fn policy(&self, before: Option<(u64, &BlockId)>) -> Result<Policy, StoreError> {
        let mut range = self.all(b'p');
        if let Some(place) = before {
            range.end = Some(self.policy_key(place));
        }
        loop {
            let page = self.store.scan(range.clone(), Direction::Reverse, PAGE).await?;
            for (key, value) in &page {
                let row: PolicyRow = decode(key, value)?;
                if row.counts() {
                    return Ok(row.policy());
                }
            }
            match page.last() {
                Some((key, _)) if page.len() == PAGE => range.end = Some(key.to_vec()),
                _ => return Ok(Policy::default()),
            }
        }
    }

    pub(crate) fn contested_key(&self, (generation, op): (u64, &BlockId)) -> Vec<u8> {
        self.key(b'w', &[&generation.to_be_bytes(), op.digest()])
    }

    pub(crate) fn put_event(&self, batch: &mut Batch, sequence: u64, event: &EventRow) {
        batch.put(self.key(b'e', &[&sequence.to_be_bytes()]), versioned(event));
    }

    /// Returns one event.
    pub(crate) async fn event(&self, sequence: u64) -> Result<Option<EventRow>, StoreError> {
        self.read(&self.key(b'e', &[&sequence.to_be_bytes()])).await
    }

    /// Returns at most so many events of a range, with their sequences.
    pub(crate) async fn events(
        &self,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(u64, EventRow)>, StoreError> {
        let page = self.store.scan(range, direction, limit).await?;
        page.iter().map(|(key, value)| event(key, value)).collect()
    }

    /// Returns the first ops of a range that the policy decides, with their generations.
    pub(crate) async fn contested(&self, range: KeyRange, limit: usize) -> Result<Vec<(u64, BlockId)>, StoreError> {
        let page = self.store.scan(range, Direction::Forward, limit).await?;
        let place = |key: &Bytes| {
            let (front, id) = key.split_last_chunk::<32>()?;
            Some((u64::from_be_bytes(*front.last_chunk()?), BlockId::from_digest(*id)))
        };
        page.iter().map(|(key, _)| place(key).ok_or_else(|| StoreError::corrupt(key, "a short key"))).collect()
    }

    /// Returns the ids at the end of the first keys of a range.
    pub(crate) async fn ids(&self, range: KeyRange, limit: usize) -> Result<Vec<BlockId>, StoreError> {
        let page = self.store.scan(range, Direction::Forward, limit).await?;
        page.iter().map(|(key, _)| id_at_end(key)).collect()
    }
}

/// Decodes an event and its sequence.
pub(crate) fn event(key: &[u8], value: &[u8]) -> Result<(u64, EventRow), StoreError> {
    let sequence = key.last_chunk().map(|bytes| u64::from_be_bytes(*bytes));
    let sequence = sequence.ok_or_else(|| StoreError::corrupt(key, "a short key"))?;
    Ok((sequence, decode(key, value)?))
}

fn decode<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, StoreError> {
    exactly(value).ok_or_else(|| StoreError::corrupt(key, "it does not decode"))
}

pub(crate) fn id_at_end(key: &[u8]) -> Result<BlockId, StoreError> {
    let id = key.last_chunk::<32>().map(|id| BlockId::from_digest(*id));
    id.ok_or_else(|| StoreError::corrupt(key, "a short key"))
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
        let [a, b, c] = [1, 2, 3].map(|n| BlockId::from_digest([n; 32]));
        let meta = Meta { position: 1, sequence: 200, shown: 3, judge_from: None };
        assert_eq!(hex(&versioned(&meta)), "0101c8010300");
        assert_eq!(exactly(&versioned(&meta)), Some(meta));
        let meta = Meta { judge_from: Some((300, a)), ..meta };
        assert_eq!(hex(&versioned(&meta)), format!("0101c8010301ac02{}", "01".repeat(32)));
        assert_eq!(exactly(&versioned(&meta)), Some(meta));
        let row =
            OriginalRow { generation: 300, cursor: 7, counts: true, versions: 2, heads: 1, head: b, content: None };
        assert_eq!(hex(&versioned(&row)), format!("01ac0207010201{}00", "02".repeat(32)));
        assert_eq!(exactly(&versioned(&row)), Some(row));
        let op = Op { original: a, supersedes: vec![a], act: Act::Edit, place: Place::Beside(c) };
        let row = VersionRow::new(&op, 9, 70);
        assert_eq!(hex(&versioned(&row)), format!("01090001{}01{}460200", "03".repeat(32), "01".repeat(32)));
        assert_eq!(exactly(&versioned(&row)), Some(row));
        let row = PolicyRow { retracted: true, ..PolicyRow::new(Policy::AdminsMayDelete, Right::Unknown) };
        assert_eq!(hex(&versioned(&row)), "01020201");
        assert_eq!(exactly(&versioned(&row)), Some(row));
        let event = EventRow::new(Change::Restored, a, b);
        assert_eq!(hex(&versioned(&event)), format!("0103{}{}", "01".repeat(32), "02".repeat(32)));
        assert_eq!(exactly(&versioned(&event)), Some(event));
    }

    #[test]
    fn rows_with_another_version_or_more_bytes_are_refused() {
        let row = versioned(&Meta::default());
        assert!(exactly::<Meta>(&[&[2], row.get(1..).unwrap()].concat()).is_none());
        assert!(exactly::<Meta>(&[&row[..], &[0]].concat()).is_none());
    }
}
