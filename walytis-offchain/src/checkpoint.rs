//! Hybrid checkpoints, version 1: a device's word for what it wrote, under both of its signing keys. Frozen at release
//! 0.1.0.
//!
//! ```text
//! content of a block with the one topic `walytis.checkpoint/<layer>`
//!         = claim (walytis_identities::claim) ‖ 0x01 ‖ postcard { heads, signature }
//! signed  = H("walytis/offchain/checkpoint/v1", chain, layer, each head), as the identity, Ed25519 and ML-DSA-65
//! ```
//!
//! Blocks are signed with Ed25519 alone. What a device created and what is one of a checkpoint's heads, or an ancestor of
//! one, holds against whoever can forge Ed25519 signatures, too.

use serde::{Deserialize, Serialize};
use walytis_core::id::{BlockId, ChainId};
use walytis_identities::claim::Claim;
use walytis_identities::signed::IdentitySignature;

use crate::context::{Label, digest};
use crate::record::{exactly, versioned};

/// What a checkpoint's signature is for.
pub const CHECKPOINT_CONTEXT: &str = "walytis/offchain/checkpoint";
/// Most heads that a checkpoint names. Chosen: as many as a block has parents.
pub const CHECKPOINT_HEADS_MAX: usize = 64;

/// A device's hybrid signature over the heads of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Author and authority heads.
    pub claim: Claim,
    /// What it covers, with all ancestors: 1..=64, strictly ascending.
    pub heads: Vec<BlockId>,
    /// The signature.
    pub signature: IdentitySignature,
}

#[derive(Serialize, Deserialize)]
struct CheckpointV1<'a> {
    heads: Vec<[u8; 32]>,
    #[serde(borrow)]
    signature: &'a [u8],
}

impl Checkpoint {
    /// Returns what is signed.
    pub fn message(chain: &ChainId, layer: &str, heads: &[BlockId]) -> [u8; 32] {
        let heads = heads.iter().map(|head| head.digest().as_slice());
        let parts: Vec<&[u8]> = [chain.digest().as_slice(), layer.as_bytes()].into_iter().chain(heads).collect();
        digest(Label::Checkpoint, &parts)
    }

    /// Encodes it: the content of a block.
    pub fn encode(&self) -> Vec<u8> {
        let signature = self.signature.encode();
        let heads = self.heads.iter().map(|head| *head.digest()).collect();
        [self.claim.encode(), versioned(&CheckpointV1 { heads, signature: &signature })].concat()
    }

    /// Decodes the content of a block; nothing if it is malformed, not canonical or over its limits. The signature is not
    /// checked.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (claim, rest) = Claim::split(bytes)?;
        let wire: CheckpointV1<'_> = exactly(rest)?;
        let heads: Vec<BlockId> = wire.heads.iter().map(|head| BlockId::from_digest(*head)).collect();
        let fits = (1..=CHECKPOINT_HEADS_MAX).contains(&heads.len()) && heads.is_sorted_by(|one, next| one < next);
        let signature = IdentitySignature::decode(wire.signature).ok()?;
        let checkpoint = Self { claim, heads, signature };
        (fits && checkpoint.encode() == bytes).then_some(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_panic_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Checkpoint::decode(&bytes).is_none());
        }
    }

    #[test]
    fn what_is_signed_names_chain_layer_and_every_head() {
        let (chain, other) = (ChainId(BlockId::from_digest([1; 32])), ChainId(BlockId::from_digest([2; 32])));
        let (one, two) = (BlockId::from_digest([3; 32]), BlockId::from_digest([4; 32]));
        let message = Checkpoint::message(&chain, "a", &[one]);
        for different in [
            Checkpoint::message(&other, "a", &[one]),
            Checkpoint::message(&chain, "b", &[one]),
            Checkpoint::message(&chain, "a", &[two]),
            Checkpoint::message(&chain, "a", &[one, two]),
        ] {
            assert_ne!(message, different);
        }
    }
}
