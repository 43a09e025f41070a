//! Gossip messages of a chain, version 1, sealed so that only members read them.
//!
//! ```text
//! message = 0x01 ‖ nonce, 24 bytes ‖ XChaCha20-Poly1305(key, nonce, aad = topic, postcard(Gossip))
//! ```
//!
//! The nonce is random: 192 bits make a repetition under one key improbable for as many messages as can be sent.

use bytes::Bytes;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};

use crate::clock::Entropy;
use crate::id::BlockId;
use crate::limits::ANNOUNCE_INLINE_MAX;
use crate::net::GossipTopic;
use crate::secret::Secret;

const VERSION: u8 = 0x01;
const NONCE: usize = 24;
/// Most ids in one message. Chosen: 32 KiB.
pub(crate) const GOSSIP_IDS_MAX: usize = 1_024;

/// What is said by gossip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gossip {
    /// A new block, whole.
    Block(Bytes),
    /// New blocks that are too large to travel here.
    Ids(Vec<BlockId>),
    /// How the chain looks at the sender.
    Heads {
        /// Admitted blocks.
        count: u64,
        /// Heads, ascending; at most [`GOSSIP_IDS_MAX`].
        heads: Vec<BlockId>,
    },
}

#[derive(Serialize, Deserialize)]
enum GossipV1<'a> {
    Block(#[serde(borrow)] &'a [u8]),
    Ids(Vec<BlockId>),
    Heads { count: u64, heads: Vec<BlockId> },
}

/// Seals a message for a topic.
pub(crate) fn seal(gossip: &Gossip, topic: GossipTopic, key: &Secret<32>, entropy: &dyn Entropy) -> Bytes {
    let wire = match gossip {
        Gossip::Block(file) => GossipV1::Block(file),
        Gossip::Ids(ids) => GossipV1::Ids(ids.clone()),
        Gossip::Heads { count, heads } => GossipV1::Heads { count: *count, heads: heads.clone() },
    };
    #[expect(clippy::expect_used, reason = "postcard fails only on types without a stated length; these have one")]
    let plain = postcard::to_stdvec(&wire).expect("gossip always encodes");
    let mut nonce = [0; NONCE];
    entropy.fill(&mut nonce);
    let cipher = XChaCha20Poly1305::new(&(*key.expose()).into());
    #[expect(clippy::expect_used, reason = "the cipher fails only above 256 GiB")]
    let sealed = cipher
        .encrypt(&XNonce::from(nonce), Payload { msg: &plain, aad: &topic.0 })
        .expect("gossip is far below the cipher's limit");
    [&[VERSION][..], &nonce, &sealed].concat().into()
}

/// Opens a message; nothing if it is malformed, of another version or not sealed under this key.
pub(crate) fn open(message: &[u8], topic: GossipTopic, key: &Secret<32>) -> Option<Gossip> {
    let (nonce, sealed) = message.strip_prefix(&[VERSION])?.split_at_checked(NONCE)?;
    let nonce: [u8; NONCE] = nonce.try_into().ok()?;
    let cipher = XChaCha20Poly1305::new(&(*key.expose()).into());
    let plain = cipher.decrypt(&XNonce::from(nonce), Payload { msg: sealed, aad: &topic.0 }).ok()?;
    let (wire, rest) = postcard::take_from_bytes::<GossipV1<'_>>(&plain).ok()?;
    if !rest.is_empty() {
        return None;
    }
    match wire {
        GossipV1::Block(file) if file.len() <= ANNOUNCE_INLINE_MAX => Some(Gossip::Block(Bytes::copy_from_slice(file))),
        GossipV1::Ids(ids) if ids.len() <= GOSSIP_IDS_MAX => Some(Gossip::Ids(ids)),
        GossipV1::Heads { count, heads } if heads.len() <= GOSSIP_IDS_MAX => Some(Gossip::Heads { count, heads }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SeededEntropy;

    const TOPIC: GossipTopic = GossipTopic([1; 32]);
    const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/gossip_v1.hex");

    fn samples() -> Vec<Gossip> {
        let id = BlockId::from_digest([5; 32]);
        vec![
            Gossip::Block(Bytes::from_static(b"file")),
            Gossip::Ids(vec![id]),
            Gossip::Heads { count: 300, heads: vec![id] },
        ]
    }

    fn lines() -> String {
        let entropy = SeededEntropy::new(1);
        let sealed = |gossip| seal(gossip, TOPIC, &Secret::new([2; 32]), &entropy);
        crate::testing::hex_lines(&samples().iter().map(sealed).collect::<Vec<_>>())
    }

    #[test]
    fn sealed_messages_are_the_golden_ones() {
        assert_eq!(std::fs::read_to_string(GOLDEN).unwrap(), lines());
    }

    #[test]
    #[ignore = "writes the golden file"]
    fn generate_golden_gossip() {
        std::fs::write(GOLDEN, lines()).unwrap();
    }

    #[test]
    fn only_the_right_key_and_topic_open_and_only_unchanged() {
        let key = Secret::new([2; 32]);
        for gossip in samples() {
            let sealed = seal(&gossip, TOPIC, &key, &SeededEntropy::new(1));
            assert_eq!(open(&sealed, TOPIC, &key), Some(gossip));
            assert_eq!(open(&sealed, GossipTopic([9; 32]), &key), None);
            assert_eq!(open(&sealed, TOPIC, &Secret::new([3; 32])), None);
            for index in 0..sealed.len() {
                let mut changed = sealed.to_vec();
                changed[index] ^= 1;
                assert_eq!(open(&changed, TOPIC, &key), None, "byte {index}");
                assert_eq!(open(&sealed[..index], TOPIC, &key), None, "cut at {index}");
            }
        }
    }

    #[test]
    fn oversized_lists_and_files_are_refused() {
        let key = Secret::new([2; 32]);
        let large = [
            Gossip::Block(vec![0; ANNOUNCE_INLINE_MAX + 1].into()),
            Gossip::Ids(vec![BlockId::from_digest([1; 32]); GOSSIP_IDS_MAX + 1]),
        ];
        for gossip in large {
            assert_eq!(open(&seal(&gossip, TOPIC, &key, &SeededEntropy::new(1)), TOPIC, &key), None);
        }
    }
}
