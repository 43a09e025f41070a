//! The arithmetic of objects in chunks, shared by every blob store.

use super::BlobStoreError;
use crate::limits::{BLOB_CHUNK_MAX, BLOB_CHUNKS_MAX};

/// How an object of `len` bytes falls into chunks; checked once, so that the rest cannot overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunks {
    len: u64,
    chunk: u32,
    count: u32,
}

impl Chunks {
    /// Returns the division of `len` bytes into chunks of `chunk` bytes.
    pub(crate) fn new(len: u64, chunk: u32) -> Result<Self, BlobStoreError> {
        let misfit = |reason| Err(BlobStoreError::Misfit { reason });
        if len == 0 {
            return misfit("an object has at least one byte");
        }
        if chunk == 0 || chunk > BLOB_CHUNK_MAX {
            return misfit("a chunk has 1 byte to 4 MiB");
        }
        match u32::try_from(len.div_ceil(u64::from(chunk))) {
            Ok(count) if count <= BLOB_CHUNKS_MAX => Ok(Self { len, chunk, count }),
            _ => misfit("the object has too many chunks"),
        }
    }

    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    pub(crate) const fn chunk(&self) -> u32 {
        self.chunk
    }

    pub(crate) const fn count(&self) -> u32 {
        self.count
    }

    /// Returns where chunk `index` starts, if `bytes_len` bytes are exactly what belongs there.
    pub(crate) fn place(&self, index: u32, bytes_len: usize) -> Result<u64, BlobStoreError> {
        if index >= self.count {
            return Err(BlobStoreError::Misfit { reason: "the chunk lies behind the end" });
        }
        let start = u64::from(index) * u64::from(self.chunk);
        let wanted = u64::from(self.chunk).min(self.len - start);
        if u64::try_from(bytes_len) != Ok(wanted) {
            return Err(BlobStoreError::Misfit { reason: "the chunk has the wrong length" });
        }
        Ok(start)
    }

    /// Returns the indices of the chunks that hold the bytes `start..end`; `end` is at most the object's length.
    pub(crate) fn covering(&self, start: u64, end: u64) -> std::ops::Range<u32> {
        if start >= end {
            return 0..0;
        }
        let index = |at: u64| u32::try_from(at / u64::from(self.chunk)).unwrap_or(u32::MAX);
        index(start)..index(end - 1).saturating_add(1)
    }
}

/// Refuses to add more bytes at once than a chunk may have.
pub(crate) fn check_append(len: usize) -> Result<(), BlobStoreError> {
    match u32::try_from(len) {
        Ok(len) if len <= BLOB_CHUNK_MAX => Ok(()),
        _ => Err(BlobStoreError::Misfit { reason: "at most 4 MiB are added at once" }),
    }
}

/// Returns the part of an object of `object_len` bytes that a read of `len` bytes from `offset` gives.
pub(crate) fn read_window(object_len: u64, offset: u64, len: usize) -> Result<std::ops::Range<u64>, BlobStoreError> {
    match u64::try_from(len) {
        Ok(len) if len <= u64::from(BLOB_CHUNK_MAX) => {
            let start = offset.min(object_len);
            Ok(start..start.saturating_add(len).min(object_len))
        }
        _ => Err(BlobStoreError::Misfit { reason: "a read has at most 4 MiB" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_outside_the_bounds_are_refused() {
        for (len, chunk) in [(0, 1), (1, 0), (1, BLOB_CHUNK_MAX + 1), (u64::MAX, 1), (u64::MAX, BLOB_CHUNK_MAX)] {
            assert!(Chunks::new(len, chunk).is_err(), "{len} in {chunk}");
        }
        let most = u64::from(BLOB_CHUNKS_MAX);
        assert_eq!(Chunks::new(most, 1).unwrap().count(), BLOB_CHUNKS_MAX);
        assert!(Chunks::new(most + 1, 1).is_err());
    }

    #[test]
    fn only_the_exact_length_fits_a_place() {
        let chunks = Chunks::new(10, 4).unwrap();
        assert_eq!(chunks.place(0, 4).unwrap(), 0);
        assert_eq!(chunks.place(2, 2).unwrap(), 8);
        for (index, len) in [(0, 3), (0, 5), (2, 4), (2, 1), (3, 0), (u32::MAX, 4)] {
            assert!(chunks.place(index, len).is_err(), "chunk {index} of {len}");
        }
    }

    #[test]
    fn covering_names_the_touched_chunks_only() {
        let chunks = Chunks::new(10, 4).unwrap();
        assert_eq!(chunks.covering(0, 4), 0..1);
        assert_eq!(chunks.covering(3, 5), 0..2);
        assert_eq!(chunks.covering(8, 10), 2..3);
        assert_eq!(chunks.covering(4, 4), 0..0);
    }

    #[test]
    fn a_read_stops_at_the_end_of_the_object() {
        assert_eq!(read_window(10, 8, 100).unwrap(), 8..10);
        assert_eq!(read_window(10, 10, 1).unwrap(), 10..10);
        assert_eq!(read_window(10, u64::MAX, 1).unwrap(), 10..10);
        assert!(read_window(10, 0, 4 * 1024 * 1024 + 1).is_err());
    }
}
