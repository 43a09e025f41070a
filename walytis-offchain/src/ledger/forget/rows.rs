//! What is kept about forgetting, beside the rows of [`super::super::table`].
//!
//! ```text
//!   'F' block id                               Tombstone: the content was destroyed, or is about to be
//!   'R' envelope id                            envelopes whose bytes are to be removed from the files
//!   'x' time (ms), block id                    contents that expire
//!   'Q' proposal id                            ProposalRow
//!   'U' proposal id                            proposals that are not decided
//!   'O' named block id, proposal id            undecided proposals by block
//!   'o' proposal id, kind, author, record id   what was said about a proposal, the proposal itself included
//!   'D' proposal id                            decided, this device has not said yet that it is done
//! ```

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use walytis_core::id::BlockId;
use walytis_core::store::{Batch, Direction, KeyRange, StoreError};
use walytis_identities::id::ControllerId;

use crate::envelope::EnvelopeId;
use crate::forget::Act;
use crate::ledger::table::Table;
use crate::record::versioned;

/// Records of one author about one proposal that are looked at, by kind: those with the lowest ids, so that it does not
/// depend on the order in which they come. Chosen: an honest author writes one or two.
const SAID_MAX: usize = 16;

/// Why a content is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Cause {
    /// This device dropped it.
    Local,
    /// Its time was up.
    Expired,
    /// By consent, on this proposal.
    Consent([u8; 32]),
}

/// A content that is gone for good on this device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tombstone {
    pub(crate) cause: Cause,
}

/// Why an envelope is never wanted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Dropped {
    /// The content of its record was destroyed.
    Forgotten,
    /// It does not open for its record, or the record's header does not: that never changes.
    Foreign,
}

/// A proposal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProposalRow {
    /// Subscribers were told of it.
    pub(crate) told: bool,
    /// All its blocks are forgotten.
    pub(crate) decided: bool,
}

/// Kinds of records about a proposal, in keys.
const fn kind(act: &Act) -> u8 {
    match act {
        Act::Propose { .. } => 0,
        Act::Consent(_) => 1,
        Act::Refuse(_) => 2,
        Act::Done(_) => 3,
    }
}

fn author_bytes(author: &ControllerId) -> [u8; 33] {
    let (tag, id) = match author {
        ControllerId::Device(device) => (0, *device.as_bytes()),
        ControllerId::Identity(did) => (1, *did.chain().digest()),
    };
    let mut bytes = [tag; 33];
    for (place, byte) in bytes.iter_mut().skip(1).zip(id) {
        *place = byte;
    }
    bytes
}

impl Table {
    pub(crate) async fn tombstone(&self, id: &BlockId) -> Result<Option<Tombstone>, StoreError> {
        self.read(&self.key(b'F', &[id.digest()])).await
    }

    pub(crate) fn put_tombstone(&self, batch: &mut Batch, id: &BlockId, tombstone: &Tombstone) {
        batch.put(self.key(b'F', &[id.digest()]), versioned(tombstone));
    }

    /// Returns why an envelope is never wanted again; nothing if it may be.
    pub(crate) async fn dropped(&self, envelope: &EnvelopeId) -> Result<Option<Dropped>, StoreError> {
        self.read(&self.key(b'd', &[&envelope.0])).await
    }

    /// Marks an envelope as never wanted again, and its bytes, if there can be any, as to be removed.
    pub(crate) fn put_dropped(&self, batch: &mut Batch, envelope: &EnvelopeId, why: Dropped, bytes: bool) {
        batch.put(self.key(b'd', &[&envelope.0]), versioned(&why));
        if bytes {
            batch.put(self.key(b'R', &[&envelope.0]), Bytes::new());
        }
    }

    /// Returns the envelopes whose bytes are to be removed, at most `limit`.
    pub(crate) async fn remains(&self, limit: usize) -> Result<Vec<EnvelopeId>, StoreError> {
        let rows = self.store.scan(self.all(b'R'), Direction::Forward, limit).await?;
        Ok(rows.iter().filter_map(|(key, _)| key.last_chunk()).map(|id| EnvelopeId(*id)).collect())
    }

    fn expiry_key(&self, at_ms: i64, id: &BlockId) -> Vec<u8> {
        let at = u64::try_from(at_ms).unwrap_or_default().to_be_bytes();
        self.key(b'x', &[&at, id.digest()])
    }

    pub(crate) fn put_expiry(&self, batch: &mut Batch, at_ms: i64, id: &BlockId) {
        batch.put(self.expiry_key(at_ms, id), Bytes::new());
    }

    pub(crate) fn delete_expiry(&self, batch: &mut Batch, at_ms: i64, id: &BlockId) {
        batch.delete(self.expiry_key(at_ms, id));
    }

    /// Returns the contents that expire first, at most `limit`, with the time in milliseconds.
    pub(crate) async fn expiries(&self, limit: usize) -> Result<Vec<(i64, BlockId)>, StoreError> {
        let prefix = self.key(b'x', &[]).len();
        let rows = self.store.scan(self.all(b'x'), Direction::Forward, limit).await?;
        let parse = |key: &Bytes| {
            let at = u64::from_be_bytes(*key.get(prefix..)?.first_chunk()?);
            Some((i64::try_from(at).unwrap_or(i64::MAX), BlockId::from_digest(*key.last_chunk()?)))
        };
        let parsed = rows.iter().map(|(key, _)| parse(key).ok_or_else(|| StoreError::corrupt(key, "a short key")));
        parsed.collect()
    }

    pub(crate) async fn proposal(&self, id: &BlockId) -> Result<Option<ProposalRow>, StoreError> {
        self.read(&self.key(b'Q', &[id.digest()])).await
    }

    pub(crate) fn put_proposal(&self, batch: &mut Batch, id: &BlockId, blocks: &[BlockId], row: ProposalRow) {
        batch.put(self.key(b'Q', &[id.digest()]), versioned(&row));
        let undecided = self.key(b'U', &[id.digest()]);
        let by_block = blocks.iter().map(|block| self.key(b'O', &[block.digest(), id.digest()]));
        for key in by_block.chain([undecided]) {
            if row.decided {
                batch.delete(key);
            } else {
                batch.put(key, Bytes::new());
            }
        }
    }

    /// Returns the undecided proposals that name a block.
    pub(crate) async fn proposals_naming(&self, block: &BlockId) -> Result<Vec<BlockId>, StoreError> {
        self.ids(KeyRange::prefix(&self.key(b'O', &[block.digest()]))).await
    }

    /// Notes a record about a proposal.
    pub(crate) async fn put_said(
        &self,
        batch: &mut Batch,
        proposal: &BlockId,
        act: &Act,
        author: &ControllerId,
        record: &BlockId,
    ) -> Result<(), StoreError> {
        let parts: [&[u8]; 3] = [proposal.digest(), &[kind(act)], &author_bytes(author)];
        let prefix = self.key(b'o', &parts);
        let here = self.store.scan(KeyRange::prefix(&prefix), Direction::Forward, SAID_MAX + 1).await?;
        let key = [&prefix[..], record.digest()].concat();
        if here.len() >= SAID_MAX
            && let Some((highest, _)) = here.last()
            && !here.iter().any(|(known, _)| **known == *key)
        {
            if **highest < *key {
                return Ok(());
            }
            batch.delete(highest.to_vec());
        }
        batch.put(key, Bytes::new());
        Ok(())
    }

    /// Returns the records about a proposal, page by page.
    pub(crate) async fn said(&self, proposal: &BlockId) -> Result<Vec<BlockId>, StoreError> {
        self.ids(KeyRange::prefix(&self.key(b'o', &[proposal.digest()]))).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::exactly;

    /// Rows written by one version must be read by the next: these bytes are frozen at release 0.1.0.
    #[test]
    fn rows_keep_their_bytes() {
        let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let consent = Tombstone { cause: Cause::Consent([0xaa; 32]) };
        assert_eq!(hex(versioned(&consent)), format!("0102{}", "aa".repeat(32)));
        assert_eq!(hex(versioned(&Tombstone { cause: Cause::Local })), "0100");
        assert_eq!(hex(versioned(&Tombstone { cause: Cause::Expired })), "0101");
        assert_eq!(hex(versioned(&Dropped::Forgotten)), "0100");
        assert_eq!(hex(versioned(&Dropped::Foreign)), "0101");
        assert_eq!(hex(versioned(&ProposalRow { told: true, decided: false })), "010100");
        assert_eq!(exactly(&versioned(&consent)), Some(consent));
    }
}
