//! The note of the last flushed write, version 1.
//!
//! ```text
//! note   = 0x01 (version) ‖ sequence: u64 big-endian ‖ check: 8 bytes
//! check  = first bytes of SHA-256("walytis/core/store-flushed/v1" ‖ what stands before it)
//! ```

use sha2::{Digest as _, Sha256};

const VERSION: u8 = 1;
const LABEL: &[u8] = b"walytis/core/store-flushed/v1";
const CHECK: usize = 8;
/// Bytes of a note.
pub(super) const NOTE_BYTES: usize = 1 + 8 + CHECK;

/// Returns the note's bytes.
pub(super) fn encode(sequence: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(NOTE_BYTES);
    bytes.push(VERSION);
    bytes.extend_from_slice(&sequence.to_be_bytes());
    let check: [u8; 32] = Sha256::new().chain_update(LABEL).chain_update(&bytes).finalize().into();
    bytes.extend(check.into_iter().take(CHECK));
    bytes
}

/// Reads a note; nothing if it is any other bytes: it is overwritten in place, so a power cut may leave anything.
pub(super) fn decode(bytes: &[u8]) -> Option<u64> {
    let sequence = bytes.get(1..9)?.try_into().ok().map(u64::from_be_bytes)?;
    (encode(sequence) == bytes).then_some(sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn bytes_are_frozen() {
        let golden = include_str!("../../../tests/golden/store_flushed_v1.hex");
        assert_eq!(hex(&encode(20)), golden.trim());
        assert_eq!((decode(&encode(20)), encode(20).len()), (Some(20), NOTE_BYTES));
    }

    #[test]
    #[ignore = "writes the golden file"]
    fn write_golden_file() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/store_flushed_v1.hex");
        std::fs::write(path, hex(&encode(20)) + "\n").unwrap();
    }

    #[test]
    fn anything_else_is_no_note() {
        let bytes = encode(20);
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end]), None, "cut to {end}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(decode(&changed), None, "byte {at}");
        }
        assert_eq!(decode(&[&bytes[..], &[0]].concat()), None);
    }
}
