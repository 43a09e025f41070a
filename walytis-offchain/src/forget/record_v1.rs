//! Records about forgetting, version 1. Frozen at release 0.1.0.
//!
//! ```text
//! record = claim (walytis_identities::claim) ‖ 0x01 ‖ postcard(ActV1): the content of a block with the one topic
//!          walytis.forget/<layer>
//! reason = nonce (24) ‖ XChaCha20-Poly1305 of the UTF-8 text, padded with zeros to its size class
//! ```

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use walytis_core::clock::Entropy;
use walytis_core::id::BlockId;
use walytis_core::secret::Secret;
use walytis_identities::claim::Claim;
use walytis_identities::id::EpochId;
use zeroize::Zeroizing;

use crate::context::{Context, Label, derive};
use crate::padding::size_class;
use crate::record::{exactly, versioned};

/// Most blocks of one proposal. Chosen: with its claim the record stays far below what is announced whole (48 KiB).
pub const FORGET_BLOCKS_MAX: usize = 256;
/// Longest reason in bytes.
pub const REASON_MAX: usize = 1024;
/// Bytes of an XChaCha20-Poly1305 nonce.
const NONCE: usize = 24;
/// Largest sealed reason in bytes: the size class of the longest, nonce and tag.
const SEALED_MAX: usize = 1024 + 64 + NONCE + 16;

/// One record about forgetting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForgetRecord {
    pub(crate) claim: Claim,
    pub(crate) act: Act,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Proposes to forget these: 1..=256, strictly ascending. Whoever proposes consents.
    Propose { blocks: Vec<BlockId>, epoch: EpochId, nonce: [u8; 32], sealed_reason: Vec<u8> },
    /// Agrees, for good.
    Consent(BlockId),
    /// Disagrees, until its author consents.
    Refuse(BlockId),
    /// A device has destroyed what the proposal names.
    Done(BlockId),
}

#[derive(Serialize, Deserialize)]
enum ActV1<'a> {
    Propose {
        blocks: Vec<[u8; 32]>,
        epoch: EpochId,
        nonce: [u8; 32],
        #[serde(borrow)]
        sealed_reason: &'a [u8],
    },
    Consent([u8; 32]),
    Refuse([u8; 32]),
    Done([u8; 32]),
}

impl ForgetRecord {
    /// Encodes it: the content of a block.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let wire = match &self.act {
            Act::Propose { blocks, epoch, nonce, sealed_reason } => ActV1::Propose {
                blocks: blocks.iter().map(|block| *block.digest()).collect(),
                epoch: *epoch,
                nonce: *nonce,
                sealed_reason,
            },
            Act::Consent(proposal) => ActV1::Consent(*proposal.digest()),
            Act::Refuse(proposal) => ActV1::Refuse(*proposal.digest()),
            Act::Done(proposal) => ActV1::Done(*proposal.digest()),
        };
        [self.claim.encode(), versioned(&wire)].concat()
    }

    /// Decodes the content of a block; nothing if it is malformed, not canonical or over its limits.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (claim, rest) = Claim::split(bytes)?;
        let act = match exactly(rest)? {
            ActV1::Propose { blocks, epoch, nonce, sealed_reason } => {
                let count = (1..=FORGET_BLOCKS_MAX).contains(&blocks.len());
                let ascending = blocks.is_sorted_by(|a, b| a < b);
                if !count || !ascending || sealed_reason.len() > SEALED_MAX {
                    return None;
                }
                let blocks = blocks.into_iter().map(BlockId::from_digest).collect();
                Act::Propose { blocks, epoch, nonce, sealed_reason: sealed_reason.to_vec() }
            }
            ActV1::Consent(proposal) => Act::Consent(BlockId::from_digest(proposal)),
            ActV1::Refuse(proposal) => Act::Refuse(BlockId::from_digest(proposal)),
            ActV1::Done(proposal) => Act::Done(BlockId::from_digest(proposal)),
        };
        let record = Self { claim, act };
        (record.encode() == bytes).then_some(record)
    }
}

impl Act {
    /// Returns the proposal that it is about; nothing for a proposal.
    pub(crate) const fn about(&self) -> Option<&BlockId> {
        match self {
            Self::Propose { .. } => None,
            Self::Consent(proposal) | Self::Refuse(proposal) | Self::Done(proposal) => Some(proposal),
        }
    }
}

/// The key that reasons are sealed under, from an epoch's header key.
fn reason_key(header_key: &Secret<32>) -> Secret<32> {
    derive(Label::ForgetReason, header_key, &[])
}

/// Seals a reason, at most [`REASON_MAX`] bytes, bound to its place.
///
/// # Panics
/// Never: what the cipher refuses is beyond every bound here.
pub(crate) fn seal_reason(reason: &str, header_key: &Secret<32>, context: &Context, entropy: &dyn Entropy) -> Vec<u8> {
    let mut nonce = [0; NONCE];
    entropy.fill(&mut nonce);
    let mut plain = Zeroizing::new(reason.as_bytes().to_vec());
    plain.resize(usize::try_from(size_class(reason.len() as u64)).unwrap_or(reason.len()), 0);
    let aad = context.associated(Label::ForgetReason);
    #[expect(clippy::expect_used, reason = "the cipher fails only beyond 256 GiB")]
    let sealed = XChaCha20Poly1305::new(reason_key(header_key).expose().into())
        .encrypt(&XNonce::from(nonce), Payload { msg: &plain, aad: &aad })
        .expect("reasons are bounded");
    [&nonce[..], &sealed].concat()
}

/// Opens a reason; nothing if the key, the context or any byte is another.
pub(crate) fn open_reason(sealed: &[u8], header_key: &Secret<32>, context: &Context) -> Option<String> {
    let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE>()?;
    let aad = context.associated(Label::ForgetReason);
    let cipher = XChaCha20Poly1305::new(reason_key(header_key).expose().into());
    let payload = Payload { msg: ciphertext, aad: &aad };
    let plain = Zeroizing::new(cipher.decrypt(&XNonce::from(*nonce), payload).ok()?);
    Some(std::str::from_utf8(&plain).ok()?.trim_end_matches('\0').to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use walytis_core::clock::SeededEntropy;
    use walytis_core::id::ChainId;
    use walytis_core::key::PublicKey;
    use walytis_identities::id::{ControllerId, DeviceId, OpId};

    use super::*;

    fn claim() -> Claim {
        Claim { author: ControllerId::Device(DeviceId([1; 32])), auth_heads: vec![OpId([2; 32])] }
    }

    fn propose(blocks: &[u8]) -> Act {
        Act::Propose {
            blocks: blocks.iter().map(|n| BlockId::from_digest([*n; 32])).collect(),
            epoch: OpId([3; 32]),
            nonce: [4; 32],
            sealed_reason: vec![5; 40],
        }
    }

    fn golden() -> String {
        let proposal = BlockId::from_digest([9; 32]);
        let acts = [propose(&[6, 7]), Act::Consent(proposal), Act::Refuse(proposal), Act::Done(proposal)];
        let records = acts.into_iter().map(|act| ForgetRecord { claim: claim(), act }.encode());
        records.map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n").collect()
    }

    const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/forget_v1.hex");

    #[test]
    fn golden_records_are_unchanged() {
        assert_eq!(std::fs::read_to_string(GOLDEN).unwrap(), golden());
    }

    #[test]
    #[ignore = "writes the golden file"]
    fn write_golden_records() {
        std::fs::write(GOLDEN, golden()).unwrap();
    }

    #[test]
    fn records_over_their_limits_or_out_of_order_are_refused() {
        let decode = |act: Act| ForgetRecord::decode(&ForgetRecord { claim: claim(), act }.encode());
        assert!(decode(propose(&[6, 7])).is_some());
        assert!(decode(propose(&[])).is_none());
        assert!(decode(propose(&[7, 6])).is_none());
        assert!(decode(propose(&[6, 6])).is_none());
        let Act::Propose { epoch, nonce, sealed_reason, .. } = propose(&[]) else { unreachable!() };
        let many = |count: u32| {
            let block = |n: u32| {
                BlockId::from_digest({
                    let mut digest = [0; 32];
                    digest[..4].copy_from_slice(&n.to_be_bytes());
                    digest
                })
            };
            Act::Propose { blocks: (0..count).map(block).collect(), epoch, nonce, sealed_reason: sealed_reason.clone() }
        };
        assert!(decode(many(256)).is_some());
        assert!(decode(many(257)).is_none());
        let long = Act::Propose {
            blocks: vec![BlockId::from_digest([1; 32])],
            epoch,
            nonce,
            sealed_reason: vec![0; SEALED_MAX + 1],
        };
        assert!(decode(long).is_none());
        let trailing = [ForgetRecord { claim: claim(), act: propose(&[6]) }.encode(), vec![0]].concat();
        assert!(ForgetRecord::decode(&trailing).is_none());
    }

    #[test]
    fn reasons_open_in_their_place_only() {
        let chain = ChainId(BlockId::from_digest([1; 32]));
        let context =
            |nonce: u8| Context::new(&chain, "x", &claim(), &PublicKey::Ed25519([2; 32]), &OpId([3; 32]), &[nonce; 32]);
        let key = Secret::new([7; 32]);
        for reason in ["", "because", &"ü".repeat(REASON_MAX / 2)] {
            let sealed = seal_reason(reason, &key, &context(1), &SeededEntropy::new(1));
            assert!(sealed.len() <= SEALED_MAX);
            assert_eq!(open_reason(&sealed, &key, &context(1)).as_deref(), Some(reason));
            assert_eq!(open_reason(&sealed, &key, &context(2)), None);
            assert_eq!(open_reason(&sealed, &Secret::new([8; 32]), &context(1)), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let bytes = [claim().encode(), vec![1], bytes].concat();
            if let Some(record) = ForgetRecord::decode(&bytes) {
                prop_assert_eq!(record.encode(), bytes);
            }
        }
    }
}
