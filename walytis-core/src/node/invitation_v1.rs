//! What members tell each other of a shareable invitation, version 1: the contents of blocks on its chain.
//!
//! ```text
//! content = 0x01 ‖ postcard(Note)          topics: walytis.invitation, walytis.invitation/<key>
//! ```
//!
//! The byte table stands in `docs/formats/core.md`. What does not decode is void: it has no effect and harms nothing.

use serde::{Deserialize, Serialize};

use super::lifecycle::INVITATION_USES_MAX;
use super::records;
use crate::id::{ChainId, Digest, PeerId};
use crate::key::PublicKey;
use crate::topic::{Topic, TopicError};

/// Name of the overlay in topics.
const OVERLAY: &str = "invitation";
/// Label of the digest by which a joiner is counted.
const JOINER_LABEL: &[u8] = b"walytis/core/invitation-joiner/v1";
/// Longest note in bytes.
pub(super) const NOTE_MAX: u64 = 128;

/// One note about an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Note {
    /// Every member may honour it.
    Issued {
        /// Its public key.
        key: PublicKey,
        /// How many peers may join, 1..=1,000.
        uses: u32,
        /// When it ends, milliseconds since the Unix epoch; nothing: never.
        expires_at_ms: Option<i64>,
    },
    /// A member let somebody in.
    Used {
        /// The invitation.
        key: PublicKey,
        /// See [`joiner`].
        joiner: [u8; 32],
    },
    /// Its issuer takes it back; from anybody else it is void.
    Revoked {
        /// The invitation.
        key: PublicKey,
    },
}

impl Note {
    pub(super) fn encode(&self) -> Vec<u8> {
        records::encode(self)
    }

    /// Decodes a note; nothing if it is void.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let note: Self = records::decode(&[], bytes, "not a note").ok()?;
        let sound = match note {
            Self::Issued { uses, .. } => (1..=INVITATION_USES_MAX).contains(&uses),
            Self::Used { .. } | Self::Revoked { .. } => true,
        };
        (sound && note.encode() == bytes).then_some(note)
    }

    pub(super) const fn key(&self) -> &PublicKey {
        match self {
            Self::Issued { key, .. } | Self::Used { key, .. } | Self::Revoked { key } => key,
        }
    }

    /// Returns the topics of its block.
    pub(super) fn topics(&self) -> Result<Vec<Topic>, TopicError> {
        Ok(vec![any_topic()?, topic(self.key())?])
    }
}

/// Returns the topic of every note.
pub(super) fn any_topic() -> Result<Topic, TopicError> {
    Topic::overlay(OVERLAY, "")
}

/// Returns the topic of the notes about one invitation.
pub(super) fn topic(key: &PublicKey) -> Result<Topic, TopicError> {
    Topic::overlay(OVERLAY, &key.to_string())
}

/// Returns what stands for a joiner: the same wherever it asks, so that it is counted once, and on a public chain not
/// the peer id itself.
pub(super) fn joiner(chain: &ChainId, key: &PublicKey, peer: &PeerId) -> [u8; 32] {
    Digest::of(&[JOINER_LABEL, chain.digest(), key.as_bytes(), peer.as_bytes()].concat()).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::BlockId;
    use crate::testing::hex_lines;

    const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/invitation_notes_v1.hex");
    const KEY: PublicKey = PublicKey::Ed25519([1; 32]);

    fn samples() -> Vec<Vec<u8>> {
        let peer = PeerId::from_bytes(&[3; 38]).unwrap();
        let joiner = joiner(&ChainId(BlockId::from_digest([2; 32])), &KEY, &peer);
        let notes = [
            Note::Issued { key: KEY, uses: 300, expires_at_ms: Some(1_700_000_000_000) },
            Note::Issued { key: KEY, uses: 1, expires_at_ms: None },
            Note::Used { key: KEY, joiner },
            Note::Revoked { key: KEY },
        ];
        notes.iter().map(Note::encode).collect()
    }

    #[test]
    fn notes_are_the_golden_ones_and_read_back() {
        assert_eq!(hex_lines(&samples()), std::fs::read_to_string(GOLDEN).unwrap());
        for bytes in samples() {
            assert!(bytes.len() as u64 <= NOTE_MAX);
            assert_eq!(Note::decode(&bytes).unwrap().encode(), bytes);
        }
    }

    #[test]
    #[ignore = "generator: writes the golden file"]
    fn generate_golden_notes() {
        std::fs::write(GOLDEN, hex_lines(&samples())).unwrap();
    }

    #[test]
    fn notes_cut_short_prolonged_or_out_of_bounds_are_void() {
        for bytes in samples() {
            for end in 0..bytes.len() {
                assert_eq!(Note::decode(&bytes[..end]), None);
            }
            assert_eq!(Note::decode(&[bytes.as_slice(), &[0]].concat()), None);
            assert_eq!(Note::decode(&[&[2], &bytes[1..]].concat()), None, "another version");
        }
        for uses in [0, INVITATION_USES_MAX + 1] {
            assert_eq!(Note::decode(&Note::Issued { key: KEY, uses, expires_at_ms: None }.encode()), None);
        }
    }
}
