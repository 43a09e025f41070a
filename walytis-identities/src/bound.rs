//! Chains whose access and admission were bound to an identity at their genesis.
//!
//! ```text
//! genesis block:  visibility governed, the one topic walytis.bound, overlay = 0x01 ‖ postcard(Binding)
//! announcement:   a record on the identity's own chain with the one topic walytis.bound
//!                 = claim ‖ 0x01 ‖ postcard { genesis block file }
//! ```
//!
//! Only what a genesis block says binds: it is in the chain's id, so nobody can bind a chain later, to another identity or
//! under other rules. The announcement carries the genesis block, so every device of the identity finds the chain by itself.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use walytis_core::block::{Block, GenesisV1, UnverifiedBlock, Visibility};
use walytis_core::id::ChainId;
use walytis_core::topic::{Topic, TopicError};

use crate::claim::Claim;
use crate::crypto::to_bytes;
use crate::id::Did;

/// Name of the overlay in topics.
const OVERLAY: &str = "bound";
/// Version byte of bindings and announcements.
const VERSION: u8 = 0x01;
/// Most chains that are bound to one identity. From the format of ops: a cut names 64 chains, the own one among them.
pub const BOUND_MAX: usize = crate::op::CUT_CHAINS_MAX - 1;

/// What is asked of the records of an identity on one chain; fixed at the chain's genesis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordRules {
    /// Each record carries a signature by both keys of its device (Ed25519 and ML-DSA-65).
    pub hybrid: bool,
}

/// What the genesis block of a bound chain says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The identity that the chain belongs to.
    pub did: Did,
    /// What is asked of records on it.
    pub rules: RecordRules,
}

#[derive(Serialize, Deserialize)]
struct AnnouncementV1<'a> {
    #[serde(borrow)]
    genesis: &'a [u8],
}

/// Returns the topic of genesis blocks of bound chains, and of their announcements.
///
/// # Errors
/// None in practice: the text is a topic.
pub fn bound_topic() -> Result<Topic, TopicError> {
    Topic::overlay(OVERLAY, "")
}

impl Binding {
    /// Encodes it: the overlay of a genesis block.
    pub fn encode(&self) -> Vec<u8> {
        [&[VERSION][..], &to_bytes(self)].concat()
    }

    /// Returns what a genesis block binds its chain to; nothing if it binds it to no identity.
    pub fn of(genesis: &Block) -> Option<Self> {
        let header = genesis.header();
        if header.chain.is_some() || header.topics != [bound_topic().ok()?] {
            return None;
        }
        let content = GenesisV1::decode(genesis.inline()?)?;
        let body = content.overlay.strip_prefix(&[VERSION]).filter(|_| content.visibility == Visibility::Governed)?;
        let (binding, rest): (Self, _) = postcard::take_from_bytes(body).ok()?;
        (rest.is_empty() && binding.encode() == content.overlay).then_some(binding)
    }
}

/// Returns the content of the block that announces a bound chain.
pub fn announcement(claim: &Claim, genesis: &Block) -> Vec<u8> {
    [claim.encode(), vec![VERSION], to_bytes(&AnnouncementV1 { genesis: genesis.file() })].concat()
}

/// Returns the verified genesis block that a record on an identity's chain announces, and what it says; nothing if it is
/// none, or if it binds its chain to another identity.
pub fn announced(did: &Did, content: &[u8]) -> Option<(Block, Binding)> {
    let (claim, rest) = Claim::split(content)?;
    let body = rest.strip_prefix(&[VERSION])?;
    let (wire, rest): (AnnouncementV1<'_>, _) = postcard::take_from_bytes(body).ok()?;
    let genesis = UnverifiedBlock::decode(Bytes::copy_from_slice(wire.genesis)).ok().filter(|_| rest.is_empty())?;
    let chain = ChainId(genesis.id());
    let genesis = genesis.verify(&chain).ok()?;
    let binding = Binding::of(&genesis).filter(|binding| binding.did == *did)?;
    (announcement(&claim, &genesis) == content).then_some((genesis, binding))
}

#[cfg(test)]
mod tests {
    use walytis_core::block::{BlockDraft, DraftContent};
    use walytis_core::id::BlockId;
    use walytis_core::key::SigningKey;
    use walytis_core::secret::Secret;

    use super::*;
    use crate::id::{ControllerId, DeviceId, OpId};

    fn did(byte: u8) -> Did {
        Did(ChainId(BlockId::from_digest([byte; 32])))
    }

    fn binding(hybrid: bool) -> Binding {
        Binding { did: did(1), rules: RecordRules { hybrid } }
    }

    fn claim() -> Claim {
        Claim { author: ControllerId::Device(DeviceId([1; 32])), auth_heads: vec![OpId([2; 32])] }
    }

    fn genesis(visibility: Visibility, topics: Vec<Topic>, overlay: Vec<u8>) -> Block {
        let content =
            GenesisV1 { nonce: [7; 32], visibility, name: Some("archive".to_owned()), overlay: overlay.into() };
        let draft = BlockDraft {
            chain: None,
            parents: Vec::new(),
            generation: 0,
            created_at_ms: 0,
            topics,
            content: DraftContent::Inline(content.encode().into()),
        };
        let signed = draft.sign(&SigningKey::from_seed(&Secret::new([3; 32]))).unwrap();
        let chain = ChainId(signed.id());
        signed.verify(&chain).unwrap()
    }

    fn bound(hybrid: bool) -> Block {
        genesis(Visibility::Governed, vec![bound_topic().unwrap()], binding(hybrid).encode())
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Short enough to stand here.
    #[test]
    fn the_bindings_of_version_1_stand_still() {
        let ones = "01".repeat(32);
        assert_eq!(hex(&binding(false).encode()), format!("01{ones}00"));
        assert_eq!(hex(&binding(true).encode()), format!("01{ones}01"));
        assert_eq!(bound_topic().unwrap().as_str(), "walytis.bound");
    }

    #[test]
    fn what_was_announced_reads_back() {
        for hybrid in [false, true] {
            let block = bound(hybrid);
            assert_eq!(Binding::of(&block), Some(binding(hybrid)));
            let content = announcement(&claim(), &block);
            let (found, says) = announced(&did(1), &content).unwrap();
            assert_eq!((found.id(), says), (block.id(), binding(hybrid)));
            assert!(announced(&did(2), &content).is_none(), "bound to another identity");
        }
    }

    #[test]
    fn only_a_governed_genesis_block_of_that_topic_binds() {
        let topic = || vec![bound_topic().unwrap()];
        let overlay = || binding(false).encode();
        let other = vec![Topic::overlay("identity", "").unwrap()];
        let long = [overlay(), vec![0]].concat();
        let newer = [&[0x02][..], &overlay()[1..]].concat();
        let odd = [&overlay()[..33], &[0x02]].concat();
        for bad in [
            genesis(Visibility::Invited, topic(), overlay()),
            genesis(Visibility::Governed, other, overlay()),
            genesis(Visibility::Governed, Vec::new(), overlay()),
            genesis(Visibility::Governed, topic(), Vec::new()),
            genesis(Visibility::Governed, topic(), long),
            genesis(Visibility::Governed, topic(), newer),
            genesis(Visibility::Governed, topic(), odd),
        ] {
            assert_eq!(Binding::of(&bad), None);
            assert!(announced(&did(1), &announcement(&claim(), &bad)).is_none());
        }
    }

    #[test]
    fn an_announcement_with_any_byte_changed_is_none_or_another_ones() {
        let content = announcement(&claim(), &bound(false));
        for at in claim().encode().len()..content.len() {
            let mut changed = content.clone();
            changed[at] ^= 0x01;
            assert!(announced(&did(1), &changed).is_none(), "byte {at}");
        }
        for end in 0..content.len() {
            assert!(announced(&did(1), &content[..end]).is_none());
        }
        assert!(announced(&did(1), &[&content[..], &[0]].concat()).is_none());
    }
}
