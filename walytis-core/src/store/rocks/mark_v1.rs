//! The mark, version 1: how far the database had come, as bytes.
//!
//! ```text
//! mark   = 0x01 (version) ‖ manifest: u64 ‖ len: u64 ‖ digest: 32 bytes ‖ sequence: u64 ‖ check: 8 bytes
//! digest = SHA-256("walytis/core/store-manifest/v1" ‖ the first `len` bytes of the manifest)
//! check  = first bytes of SHA-256("walytis/core/store-mark/v1" ‖ what stands before it)
//! integers big-endian
//! ```

use std::fmt;

use sha2::{Digest as _, Sha256};

const VERSION: u8 = 1;
const LABEL: &[u8] = b"walytis/core/store-mark/v1";
const CHECK: usize = 8;

/// What the database had reached when the mark was written: it never goes back behind it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Number of the manifest that `CURRENT` named.
    pub(super) manifest: u64,
    /// Bytes that the manifest had at least.
    pub(super) len: u64,
    /// Digest of these bytes.
    pub(super) digest: [u8; 32],
    /// Sequence number of the last flushed write, or an earlier one.
    pub(super) sequence: u64,
}

/// Why bytes are no mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoMark {
    /// A version that this program does not know.
    Newer(u8),
    /// Cut off, too long, or with other bytes than were written.
    Damaged,
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { manifest, len, sequence, .. } = self;
        write!(f, "Mark(manifest {manifest}, {len} bytes, sequence {sequence})")
    }
}

/// Returns the mark's bytes.
pub(super) fn encode(mark: &Mark) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&mark.manifest.to_be_bytes());
    bytes.extend_from_slice(&mark.len.to_be_bytes());
    bytes.extend_from_slice(&mark.digest);
    bytes.extend_from_slice(&mark.sequence.to_be_bytes());
    let check: [u8; 32] = Sha256::new().chain_update(LABEL).chain_update(&bytes).finalize().into();
    bytes.extend(check.into_iter().take(CHECK));
    bytes
}

/// Reads a mark: exactly the bytes of [`encode`].
pub(super) fn decode(bytes: &[u8]) -> Result<Mark, NoMark> {
    match bytes.first() {
        Some(&VERSION) => {}
        Some(&newer) if newer > VERSION => return Err(NoMark::Newer(newer)),
        _ => return Err(NoMark::Damaged),
    }
    let mark = fields(bytes).ok_or(NoMark::Damaged)?;
    if encode(&mark) == bytes { Ok(mark) } else { Err(NoMark::Damaged) }
}

fn fields(bytes: &[u8]) -> Option<Mark> {
    let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let digest = bytes.get(17..49)?.try_into().ok()?;
    Some(Mark { manifest: number(1)?, len: number(9)?, digest, sequence: number(49)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark { manifest: 5, len: 300, digest: [7; 32], sequence: 20 };

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn bytes_are_frozen() {
        let golden = include_str!("../../../tests/golden/store_mark_v1.hex");
        assert_eq!(hex(&encode(&MARK)), golden.trim());
        assert_eq!(decode(&encode(&MARK)), Ok(MARK));
    }

    #[test]
    #[ignore = "writes the golden file"]
    fn write_golden_file() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/store_mark_v1.hex");
        std::fs::write(path, hex(&encode(&MARK)) + "\n").unwrap();
    }

    #[test]
    fn cut_extended_and_changed_marks_are_refused() {
        let bytes = encode(&MARK);
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end]), Err(NoMark::Damaged), "cut to {end}");
        }
        assert_eq!(decode(&[&bytes[..], &[0]].concat()), Err(NoMark::Damaged));
        for at in 1..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(decode(&changed), Err(NoMark::Damaged), "byte {at}");
        }
        assert_eq!(decode(&[&[2], &bytes[1..]].concat()), Err(NoMark::Newer(2)));
        assert_eq!(decode(&[&[0], &bytes[1..]].concat()), Err(NoMark::Damaged));
    }
}
