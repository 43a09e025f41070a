//! Hybrid signatures on single records, version 1. Frozen at release 0.1.0.
//!
//! On a chain whose genesis asks for them ([`RecordRules`](walytis_identities::bound::RecordRules)) the content of each block of
//! a private ledger, records about forgetting included, is
//!
//! ```text
//! content = record ‖ signature ‖ length of the signature (4 bytes, little-endian)
//! signed  = H("walytis/offchain/record-signature/v1", chain, topic, key of the block, record), as the identity, Ed25519
//!           and ML-DSA-65, in the context walytis/offchain/record
//! ```
//!
//! The record comes first, as its claim is what admission reads.

use walytis_core::id::ChainId;
use walytis_core::key::PublicKey;
use walytis_core::topic::Topic;
use walytis_identities::signed::IdentitySignature;

use crate::context::{Label, digest};

/// What the signature of a record is for.
pub const RECORD_CONTEXT: &str = "walytis/offchain/record";
/// Bytes of the length at the end.
const LENGTH: usize = 4;

/// Returns what is signed.
pub fn message(chain: &ChainId, topic: &Topic, creator: &PublicKey, record: &[u8]) -> [u8; 32] {
    digest(Label::RecordSignature, &[chain.digest(), topic.as_str().as_bytes(), creator.as_bytes(), record])
}

/// Returns the content of a block: the record and its signature.
///
/// # Panics
/// Never: a signature has some kilobytes.
pub fn attach(record: Vec<u8>, signature: &IdentitySignature) -> Vec<u8> {
    let signature = signature.encode();
    #[expect(clippy::expect_used, reason = "64 heads and two signatures have 6 kB")]
    let length = u32::try_from(signature.len()).expect("a signature is short").to_le_bytes();
    [record, signature, length.to_vec()].concat()
}

/// Takes the content of a block apart; nothing if there is no signature at its end, or not in the one form that it has.
/// Whether it holds is not checked.
pub fn detach(content: &[u8]) -> Option<(&[u8], IdentitySignature)> {
    let (rest, length) = content.split_last_chunk::<LENGTH>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (record, signature) = rest.split_at_checked(rest.len().checked_sub(length)?)?;
    Some((record, IdentitySignature::decode(signature).ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use walytis_core::id::BlockId;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_panic_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(detach(&bytes).is_none());
        }
    }

    #[test]
    fn what_is_signed_names_chain_topic_key_and_record() {
        let (chain, other) = (ChainId(BlockId::from_digest([1; 32])), ChainId(BlockId::from_digest([2; 32])));
        let (topic, forget) = (Topic::overlay("offchain", "a").unwrap(), Topic::overlay("forget", "a").unwrap());
        let (key, another) = (PublicKey::Ed25519([3; 32]), PublicKey::Ed25519([4; 32]));
        let signed = message(&chain, &topic, &key, b"record");
        for different in [
            message(&other, &topic, &key, b"record"),
            message(&chain, &forget, &key, b"record"),
            message(&chain, &topic, &another, b"record"),
            message(&chain, &topic, &key, b"another"),
        ] {
            assert_ne!(signed, different);
        }
    }
}
