//! The chunk map, version 1: which chunks of a partial object are on disk.
//!
//! ```text
//! map    = header ‖ record*
//! header = 0x01 (version) ‖ len: u64 ‖ chunk: u32 ‖ check: 8 bytes         integers big-endian
//! record = index: u32 ‖ check: 4 bytes                                     one per stored chunk, in order of arrival
//! check  = first bytes of SHA-256("walytis/core/blob-map/v1" ‖ space ‖ chain ‖ digest ‖ what stands before it)
//! ```
//!
//! Records are appended, never changed, and each proves itself, so that a torn or stale one counts as a chunk that is
//! not there: the chunk is fetched again. Space is 0 for a blob and 1 for an envelope.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::limits::BLOB_CHUNKS_MAX;
use crate::store::chunks::Chunks;
use crate::store::{BlobKey, BlobSpace};

const VERSION: u8 = 1;
const LABEL: &[u8] = b"walytis/core/blob-map/v1";
const HEADER_CHECK: usize = 8;
const HEADER: usize = 1 + 8 + 4 + HEADER_CHECK;
const RECORD: usize = 8;
/// Largest map in bytes: every chunk once, and as many torn records.
pub(super) const MAP_MAX: u64 = (HEADER + 2 * RECORD * BLOB_CHUNKS_MAX as usize) as u64;

/// A decoded map.
pub(super) struct Map {
    pub(super) chunks: Chunks,
    /// One flag per chunk.
    pub(super) have: Vec<bool>,
    /// Length of the map without a record that breaks off at its end.
    pub(super) end: u64,
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("chunks", &self.chunks).field("end", &self.end).finish_non_exhaustive()
    }
}

/// Returns the header of a new map.
pub(super) fn header(key: &BlobKey, chunks: &Chunks) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&chunks.len().to_be_bytes());
    bytes.extend_from_slice(&chunks.chunk().to_be_bytes());
    let check: [u8; HEADER_CHECK] = check(key, &bytes);
    bytes.extend_from_slice(&check);
    bytes
}

/// Returns the record that says that chunk `index` is on disk.
pub(super) fn record(key: &BlobKey, index: u32) -> [u8; RECORD] {
    let index = index.to_be_bytes();
    let check: [u8; RECORD - 4] = check(key, &index);
    let mut bytes = [0; RECORD];
    bytes.iter_mut().zip(index.into_iter().chain(check)).for_each(|(to, from)| *to = from);
    bytes
}

/// Returns the map, or nothing if its header is not that of a map of this object.
pub(super) fn decode(key: &BlobKey, bytes: &[u8]) -> Option<Map> {
    let (head, records) = bytes.split_at_checked(HEADER)?;
    let len = u64::from_be_bytes(head.get(1..9)?.try_into().ok()?);
    let chunk = u32::from_be_bytes(head.get(9..13)?.try_into().ok()?);
    let chunks = Chunks::new(len, chunk).ok()?;
    if head != header(key, &chunks).as_slice() {
        return None;
    }
    let mut have = vec![false; usize::try_from(chunks.count()).ok()?];
    let records = records.chunks_exact(RECORD);
    let end = HEADER + RECORD * records.len();
    for bytes in records {
        let index = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?);
        if bytes == record(key, index)
            && let Some(flag) = have.get_mut(usize::try_from(index).ok()?)
        {
            *flag = true;
        }
    }
    Some(Map { chunks, have, end: u64::try_from(end).ok()? })
}

fn check<const N: usize>(key: &BlobKey, bytes: &[u8]) -> [u8; N] {
    let space = match key.space {
        BlobSpace::Blob => 0u8,
        BlobSpace::Envelope => 1,
    };
    let digest = Sha256::new()
        .chain_update(LABEL)
        .chain_update([space])
        .chain_update(key.chain.digest())
        .chain_update(key.digest)
        .chain_update(bytes)
        .finalize();
    let mut check = [0; N];
    check.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    check
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{BlockId, ChainId};
    use crate::testing::hex;

    fn key() -> BlobKey {
        let chain = ChainId(BlockId::from_digest([0x11; 32]));
        BlobKey { space: BlobSpace::Envelope, chain, digest: [0x22; 32] }
    }

    /// A map of three chunks, two of them here.
    fn example() -> Vec<u8> {
        let chunks = Chunks::new(10, 4).unwrap();
        [header(&key(), &chunks), record(&key(), 2).to_vec(), record(&key(), 0).to_vec()].concat()
    }

    #[test]
    fn the_format_is_the_frozen_one() {
        assert_eq!(hex(&example()), include_str!("../../../tests/golden/blob_map_v1.hex").trim());
    }

    #[test]
    #[ignore = "writes the golden file"]
    fn write_golden() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/blob_map_v1.hex");
        std::fs::write(path, hex(&example()) + "\n").unwrap();
    }

    #[test]
    fn a_map_says_what_was_recorded() {
        let map = decode(&key(), &example()).unwrap();
        assert_eq!(map.chunks, Chunks::new(10, 4).unwrap());
        assert_eq!(map.have, [true, false, true]);
        assert_eq!(map.end, 37);
    }

    #[test]
    fn every_torn_length_keeps_whole_records_only() {
        let bytes = example();
        for len in 0..bytes.len() {
            let map = decode(&key(), &bytes[..len]);
            let stored = map.as_ref().map(|map| map.have.iter().filter(|have| **have).count());
            assert_eq!(stored, (len >= HEADER).then(|| (len - HEADER) / RECORD), "{len} bytes");
        }
    }

    #[test]
    fn every_flipped_bit_costs_a_chunk_or_the_map_and_never_adds_one() {
        for at in 0..example().len() {
            for bit in 0..8 {
                let mut bytes = example();
                bytes[at] ^= 1 << bit;
                let stored = decode(&key(), &bytes).map(|map| map.have.iter().filter(|have| **have).count());
                assert_eq!(stored, (at >= HEADER).then_some(1), "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn the_map_of_another_object_is_none() {
        for other in [
            BlobKey { space: BlobSpace::Blob, ..key() },
            BlobKey { digest: [0x23; 32], ..key() },
            BlobKey { chain: ChainId(BlockId::from_digest([0x12; 32])), ..key() },
        ] {
            assert!(decode(&other, &example()).is_none());
        }
    }

    #[test]
    fn records_of_chunks_that_do_not_exist_are_ignored() {
        let bytes = [example(), record(&key(), 3).to_vec(), record(&key(), u32::MAX).to_vec()].concat();
        assert_eq!(decode(&key(), &bytes).unwrap().have, [true, false, true]);
    }
}
