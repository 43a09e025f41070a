//! Ordered keys with atomic batches.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error;
use tokio::sync::mpsc;

use crate::fault::Fault;

/// Entries of one piece of [`KvStore::export`]. Chosen: some hundred kilobytes.
pub(super) const EXPORT_PIECE: usize = 256;

/// A store failed.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The folder is open already, here or in another process.
    #[error("the store in {directory} is in use by another process")]
    InUse {
        /// The store's folder.
        directory: String,
    },
    /// The store was written by a newer version.
    #[error("the store has schema {found}, this program knows up to {known}: use a newer version of walytis")]
    NewerSchema {
        /// Version found.
        found: u32,
        /// Newest version known.
        known: u32,
    },
    /// A stored value cannot be decoded.
    #[error("the stored value under key {key} is damaged: {reason}")]
    Corrupt {
        /// The key, in hexadecimal.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store itself is damaged: a file is missing or truncated.
    #[error("the store in {directory} is damaged: {reason}")]
    Damaged {
        /// The store's folder.
        directory: String,
        /// What the storage engine says.
        reason: String,
    },
    /// The disk has no room for it. Nothing of it was written; the store goes on by itself when there is room again.
    #[error("the disk is full: {reason}")]
    Full {
        /// What the storage engine says.
        reason: String,
    },
    /// The disk or the storage engine failed.
    #[error("the store failed: {reason}")]
    Io {
        /// What the storage engine says.
        reason: String,
    },
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        Fault::Local
    }

    /// Returns the error for a value that does not decode.
    pub fn corrupt(key: &[u8], reason: impl fmt::Display) -> Self {
        use std::fmt::Write as _;
        let mut hex = String::with_capacity(2 * key.len());
        for byte in key {
            // Writing to a string cannot fail.
            let _infallible = write!(hex, "{byte:02x}");
        }
        Self::Corrupt { key: hex, reason: reason.to_string() }
    }
}

/// How safe a batch is when `commit` returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It survives kill -9 and a power cut.
    Flushed,
    /// It survives kill -9; after a power cut it may be gone, but never in part, and never while a later batch stands.
    Buffered,
}

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the lowest key up.
    Forward,
    /// From the highest key down.
    Reverse,
}

/// Keys from `start` (inclusive) to `end` (exclusive; nothing: no upper bound).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// First key of the range.
    pub start: Vec<u8>,
    /// First key behind the range.
    pub end: Option<Vec<u8>>,
}

impl KeyRange {
    /// Returns the range of all keys that start with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        Self { start: prefix.to_vec(), end: after_prefix(prefix) }
    }
}

/// The lowest key above every key with this prefix.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix.get(..=last)?.to_vec();
    if let Some(byte) = end.last_mut() {
        *byte += 1;
    }
    Some(end)
}

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets a key.
    Put(Vec<u8>, Bytes),
    /// Removes a key, whether it exists or not.
    Delete(Vec<u8>),
    /// Removes every key of the range.
    DeleteRange(KeyRange),
}

impl Write {
    fn bytes(&self) -> usize {
        match self {
            Self::Put(key, value) => key.len().saturating_add(value.len()),
            Self::Delete(key) => key.len(),
            Self::DeleteRange(range) => range.start.len().saturating_add(range.end.as_ref().map_or(0, Vec::len)),
        }
    }
}

/// Changes that happen together or not at all, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    writes: Vec<Write>,
}

impl Batch {
    /// Returns an empty batch.
    pub const fn new() -> Self {
        Self { writes: Vec::new() }
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: Vec<u8>, value: impl Into<Bytes>) -> &mut Self {
        self.writes.push(Write::Put(key, value.into()));
        self
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: Vec<u8>) -> &mut Self {
        self.writes.push(Write::Delete(key));
        self
    }

    /// Removes every key of `range`.
    pub fn delete_range(&mut self, range: KeyRange) -> &mut Self {
        self.writes.push(Write::DeleteRange(range));
        self
    }

    /// Appends the changes of `other`.
    pub fn append(&mut self, mut other: Self) -> &mut Self {
        self.writes.append(&mut other.writes);
        self
    }

    /// Returns the changes in order.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// Returns the bytes of all keys and values, those of the bounds of ranges included.
    pub fn bytes(&self) -> usize {
        self.writes.iter().map(Write::bytes).fold(0, usize::saturating_add)
    }

    /// Says whether there is nothing to do.
    pub const fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

/// An ordered map of bytes with atomic batches. Implementations never block a runtime thread.
#[async_trait]
pub trait KvStore: Send + Sync + fmt::Debug {
    /// Returns the value of `key`, or nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Returns the values of `keys`, in their order.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn get_many(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            values.push(self.get(key).await?);
        }
        Ok(values)
    }

    /// Returns at most `limit` entries of `range`, in the order of `direction`; a consistent snapshot.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn scan(
        &self,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError>;

    /// Applies the batch atomically, with the stated durability; visible to every reader when it returns. Batches are
    /// applied in the order in which the calls were made by one task. Not cancel-safe: a dropped call may or may not
    /// have been applied, but never in part.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing of the batch was applied.
    async fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError>;

    /// Returns the bytes that the store takes on disk or in memory, approximately.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn size_bytes(&self) -> Result<u64, StoreError>;

    /// Hands over every entry in order, piece by piece, as of one moment between call and first piece: what is committed
    /// meanwhile does not show. Ends early, without an error, when nobody takes the pieces any more. Closing waits for it.
    ///
    /// # Errors
    /// [`StoreError`]; what was handed over is then not all.
    async fn export(&self, to: mpsc::Sender<Vec<(Bytes, Bytes)>>) -> Result<(), StoreError> {
        let everything = KeyRange { start: Vec::new(), end: None };
        let mut piece = Vec::new();
        for entry in self.scan(everything, Direction::Forward, usize::MAX).await? {
            piece.push(entry);
            if piece.len() >= EXPORT_PIECE && to.send(std::mem::take(&mut piece)).await.is_err() {
                return Ok(());
            }
        }
        // Whoever took the pieces may be gone.
        let _gone = to.send(piece).await;
        Ok(())
    }

    /// Gives the space of removed keys of `range` back, and destroys what they held, as far as the store can. Takes as long
    /// as rewriting the range; other calls go on meanwhile. May do nothing.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is lost.
    async fn reclaim(&self, _range: KeyRange) -> Result<(), StoreError> {
        Ok(())
    }

    /// Flushes and closes; every later call fails with [`StoreError::Closed`]. Idempotent.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn close(&self) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_range_ends_right_behind_the_prefix() {
        assert_eq!(KeyRange::prefix(&[1, 2]).end, Some(vec![1, 3]));
        assert_eq!(KeyRange::prefix(&[1, 0xff]).end, Some(vec![2]));
        assert_eq!(KeyRange::prefix(&[0xff, 0xff]).end, None);
    }
}
