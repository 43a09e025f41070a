//! Rows of a chain page by page, for whoever goes through all of it: export, import, repair.

use bytes::Bytes;

use super::core::{ChainCore, WantedBlob};
use super::schema::{Tag, id_at_end, read_blob, read_number};
use super::table::behind;
use crate::id::{BlobId, BlockId};
use crate::ledger::LedgerError;
use crate::store::{Batch, Direction, Durability, KeyRange, StoreError};

/// Rows read at once while the holders of a blob are looked for.
const PAGE: usize = 1_024;

/// A block in canonical order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OrderedBlock {
    pub(crate) generation: u64,
    pub(crate) id: BlockId,
    pub(crate) arrival: u64,
}

impl ChainCore {
    /// Returns blocks in canonical order, at most `limit`, behind `after`.
    pub(crate) async fn ordered_page(
        &self,
        after: Option<(u64, BlockId)>,
        limit: usize,
    ) -> Result<Vec<OrderedBlock>, LedgerError> {
        let table = &self.inner.table;
        let mut range = table.keys.all(Tag::Canonical);
        if let Some((generation, id)) = after {
            range.start = behind(&table.keys.canonical(generation, &id));
        }
        let page = table.scan(range, Direction::Forward, limit).await?;
        let decode = |(key, value): &(Bytes, Bytes)| {
            let id = id_at_end(key)?;
            let number = key.len().checked_sub(40).and_then(|at| key.get(at..at + 8));
            let generation = read_number(key, number.unwrap_or_default())?;
            Ok(OrderedBlock { generation, id, arrival: read_number(key, value)? })
        };
        table.note(page.iter().map(decode).collect())
    }

    /// Returns which blocks name which blobs, by blob, at most `limit`, behind `after`.
    pub(crate) async fn blob_rows(
        &self,
        after: Option<([u8; 32], BlockId)>,
        limit: usize,
    ) -> Result<Vec<WantedBlob>, LedgerError> {
        let table = &self.inner.table;
        let mut range = table.keys.all(Tag::Blob);
        if let Some((digest, block)) = after {
            range.start = behind(&table.keys.key(Tag::Blob, &[&digest, block.digest()]));
        }
        let page = table.scan(range, Direction::Forward, limit).await?;
        let decode = |(key, value): &(Bytes, Bytes)| {
            let (blob, len) = read_blob(key, value)?;
            Ok(WantedBlob { block: id_at_end(key)?, blob, len })
        };
        table.note(page.iter().map(decode).collect())
    }

    /// Records for every block that names it that a blob is complete.
    pub(crate) async fn blob_complete(&self, blob: &BlobId) -> Result<(), LedgerError> {
        let table = &self.inner.table;
        let mut range = KeyRange::prefix(&table.keys.key(Tag::Blob, &[blob.digest()]));
        loop {
            let page = table.scan(range.clone(), Direction::Forward, PAGE).await?;
            let mut batch = Batch::new();
            for (key, _) in &page {
                batch.delete(table.keys.of_block(Tag::Wanted, &table.note(id_at_end(key))?));
            }
            if !batch.is_empty() {
                table.commit(batch, Durability::Buffered).await?;
            }
            match page.last() {
                Some((key, _)) if page.len() == PAGE => range.start = behind(key),
                _ => break,
            }
        }
        self.blob_progressed();
        Ok(())
    }

    /// Returns the key of a block file.
    pub(crate) fn file_key(&self, id: &BlockId) -> Vec<u8> {
        self.inner.table.keys.of_block(Tag::File, id)
    }

    /// Marks the chain damaged by what was found, and returns the error to report.
    pub(crate) fn note_damage(&self, error: StoreError) -> LedgerError {
        match self.inner.table.note::<()>(Err(error)) {
            Err(error) => error,
            Ok(()) => LedgerError::Closed,
        }
    }
}
