//! What travels on `/walytis/identity/join/1`, `/walytis/authority/1` and `/walytis/resolve/1`, version 1. Byte tables in
//! `docs/formats/identities-wire.md`.
//!
//! Every frame is a postcard enum; decoding bounds every list, and byte strings are borrowed from the frame.

use serde::{Deserialize, Serialize};

use super::below_v1::{self, Below};
use super::error::ExchangeError;
use crate::crypto::{DevicePublic, FixedBytes, HybridSignature, KeyId};
use crate::id::{ControllerId, DeviceId, Did, EpochId, OpId};
use crate::op::{ChainCut, RecoveryPublic};
use crate::state::Held;
use crate::token::JoinRequest;

/// Heads named in an exchange. Chosen: as in an op.
pub(super) const HEADS_MAX: usize = crate::op::AUTH_PARENTS_MAX;
/// Cards named or sent in one exchange. Chosen: four devices of each of 256 controllers.
pub(super) const CARDS_MAX: usize = 1_024;
/// Ops in one part; the next one continues.
pub(super) const PART_OPS_MAX: usize = 8_192;
/// Bytes of ops in one part. Chosen: more than an op of each level of identities and one more, whatever their size; and what
/// several peers send at once still fits into memory.
pub(super) const PART_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of cards in one part.
pub(super) const CARDS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Begins an exchange of authority ops; both sides send one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// Which identity.
    pub(super) did: Did,
    /// Heads of the authority graph here, ascending; none if nothing is known yet.
    pub(super) heads: Vec<OpId>,
    /// What is held of identities below.
    pub(super) below: Vec<Below>,
    /// Counters of the device cards known here.
    pub(super) cards: Vec<(DeviceId, u64)>,
}

/// Second frame of an exchange, from whoever was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Greeting {
    Known(Hello),
    /// The identity is not here.
    Unknown,
}

/// What follows in either direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Item<'a> {
    /// The genesis block file; sent first to whoever named no heads.
    Genesis(#[serde(borrow)] &'a [u8]),
    /// A signed op; its parents came before.
    Op(#[serde(borrow)] &'a [u8]),
    /// A device card.
    Card(#[serde(borrow)] &'a [u8]),
    /// The end.
    Done {
        /// There is more than fits one exchange: ask again.
        more: bool,
    },
}

/// First frame of a resolution, from whoever asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ResolveAsk {
    /// Which identity.
    pub(super) did: Did,
    /// Authority heads known to the asker, ascending; none if nothing is known yet.
    pub(super) heads: Vec<OpId>,
    /// What the asker holds of identities below.
    pub(super) below: Vec<Below>,
}

/// Second frame; after [`ResolveAnswer::Known`] follow [`Item`]s until `Done`, with public cards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ResolveAnswer {
    /// Authority heads of the node that answers, ascending.
    Known { heads: Vec<OpId> },
    /// The node is none of a controller.
    Unknown,
}

/// Epochs asked for at once.
pub(super) const RESEALED_MAX: usize = 64;

/// First frame of a request for epoch secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ResealAsk {
    /// Which identity.
    pub(super) did: Did,
    /// Epochs whose secrets are missing: 1..=64, ascending.
    pub(super) epochs: Vec<EpochId>,
}

/// Second frame, and the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ResealAnswer<'a> {
    /// What the asker may hold and the node has.
    Shares(#[serde(borrow)] Vec<Resealed<'a>>),
    /// The node has no such identity, or the asker is no controller of it.
    Unknown,
}

/// An epoch's secrets, sealed once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Resealed<'a> {
    /// The epoch.
    pub(super) epoch: EpochId,
    /// The receiving key that it is sealed to.
    pub(super) key: KeyId,
    /// HPKE: encapsulated key and ciphertext.
    #[serde(borrow)]
    pub(super) sealed: &'a [u8],
}

/// First frame of a question about what has been written, from whoever has the recovery code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RecoveryAsk {
    /// Which identity.
    pub(super) did: Did,
    /// The public recovery key, whose digest the identity's state has.
    pub(super) key: RecoveryPublic,
    /// Its signature over chain and both peer ids.
    pub(super) proof: HybridSignature,
}

/// Second frame, and the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum RecoveryAnswer {
    /// Heads of the identity's chain and of those bound to it: at most 64 chains, 64 heads of each.
    Heads(Vec<ChainCut>),
    /// The node does not control it, or it is not the recovery key in force.
    Unknown,
}

/// First frame of a join, from the joiner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct JoinHello {
    /// Which identity.
    pub(super) did: Did,
    /// The invitation.
    pub(super) invite: OpId,
    /// 32 fresh random bytes.
    pub(super) nonce: [u8; 32],
    /// The keys that want in, or those of the device that proves for an identity.
    pub(super) device: DevicePublic,
    /// The identity that wants in, if it is one; its ops follow the proof.
    pub(super) person: Option<Did>,
}

/// Second frame, from the controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct JoinChallenge {
    /// 32 fresh random bytes.
    pub(super) nonce: [u8; 32],
    /// In whose right the joiner would be admitted.
    pub(super) controller: ControllerId,
    /// 32 random bytes, sealed to the joiner's receiving key, bound to the session.
    pub(super) sealed: FixedBytes<CHALLENGE>,
}

/// Bytes of a sealed challenge: encapsulated key, 32 bytes, tag.
pub(super) const CHALLENGE: usize = crate::crypto::X_WING_ENCAPSULATED + 32 + 16;

/// Third frame, from the joiner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct JoinProof {
    /// What the challenge held.
    pub(super) answer: [u8; 32],
    /// The invitation key's signature over the session's transcript.
    pub(super) session: FixedBytes<64>,
    /// What the `Admit` will carry.
    pub(super) request: JoinRequest,
}

/// Fourth frame, from the controller; after [`JoinAnswer::Admitted`] follow [`Item`]s until `Done`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum JoinAnswer {
    /// The op that admits.
    Admitted(OpId),
    /// Why not.
    Refused(RefusalCode),
}

/// Why a join is refused; whoever has not proved the invitation key learns [`Self::NotRecognised`] only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum RefusalCode {
    NotRecognised,
    Expired,
    UsedUp,
    Revoked,
    Removed,
    CannotAdmit,
    Nesting,
}

impl Hello {
    /// Says what is held, and which cards.
    pub(super) fn new(did: Did, held: Held, cards: Vec<(DeviceId, u64)>) -> Self {
        Self { did, below: below_v1::listed(&held), heads: held.heads, cards }
    }

    /// Returns what the one that said it holds.
    pub(super) fn held(&self) -> Held {
        Held { heads: self.heads.clone(), below: below_v1::tree(&self.below) }
    }

    pub(super) fn check(self) -> Result<Self, ExchangeError> {
        let cards_fit = self.cards.len() <= CARDS_MAX && self.cards.is_sorted_by(|one, next| one.0 < next.0);
        let fits = heads_fit(&self.heads) && below_v1::fits(&self.below) && cards_fit;
        if fits { Ok(self) } else { Err(ExchangeError::Malformed { what: "hello" }) }
    }
}

impl ResolveAsk {
    /// Asks for what is not held.
    pub(super) fn new(did: Did, held: Held) -> Self {
        Self { did, below: below_v1::listed(&held), heads: held.heads }
    }

    /// Returns what the asker holds.
    pub(super) fn held(&self) -> Held {
        Held { heads: self.heads.clone(), below: below_v1::tree(&self.below) }
    }

    pub(super) fn check(self) -> Result<Self, ExchangeError> {
        let fits = heads_fit(&self.heads) && below_v1::fits(&self.below);
        if fits { Ok(self) } else { Err(ExchangeError::Malformed { what: "question" }) }
    }
}

pub(super) fn heads_fit(heads: &[OpId]) -> bool {
    heads.len() <= HEADS_MAX && heads.is_sorted_by(|one, next| one < next)
}

impl ResealAsk {
    pub(super) fn check(self) -> Result<Self, ExchangeError> {
        let fits = (1..=RESEALED_MAX).contains(&self.epochs.len()) && self.epochs.is_sorted_by(|one, next| one < next);
        if fits { Ok(self) } else { Err(ExchangeError::Malformed { what: "question" }) }
    }
}

/// First byte of every frame.
const VERSION: u8 = 0x01;

/// Encodes a frame.
pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "postcard fails only on types without a stated length, and these have none")]
    postcard::to_extend(value, vec![VERSION]).expect("these types always encode")
}

/// Decodes a frame; refuses a rest and any other encoding of the same value.
pub(super) fn decode<'a, T: Serialize + Deserialize<'a>>(
    frame: &'a [u8],
    what: &'static str,
) -> Result<T, ExchangeError> {
    let malformed = || ExchangeError::Malformed { what };
    let body = frame.strip_prefix(&[VERSION]).ok_or_else(malformed)?;
    let (value, rest): (T, _) = postcard::take_from_bytes(body).map_err(|_| malformed())?;
    if rest.is_empty() && encode(&value) == frame { Ok(value) } else { Err(malformed()) }
}

#[cfg(test)]
mod tests {
    use walytis_core::clock::SeededEntropy;
    use walytis_core::id::{BlockId, ChainId};
    use walytis_core::secret::Secret;

    use super::*;
    use crate::crypto::DeviceKeys;
    use crate::token::InvitationKey;

    const GOLDEN: &str = include_str!("../../tests/golden/node_wire_v1.hex");

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// One frame of each kind, from fixed seeds.
    fn frames() -> Vec<Vec<u8>> {
        let entropy = SeededEntropy::new(5);
        let chain = ChainId(BlockId::from_digest([1; 32]));
        let (did, op) = (Did(chain), OpId([2; 32]));
        let keys = DeviceKeys::generate(&entropy);
        let device = DeviceId([3; 32]);
        let controller = ControllerId::Device(device);
        let key = InvitationKey::from_seed(&Secret::new([4; 32]), &chain);
        let request = JoinRequest::new(&keys, &chain, &controller, Some((&op, &key)), &entropy);
        let recovery = (keys.public().ed25519, keys.public().ml_dsa.clone());
        let below = vec![
            Below { level: 1, did: Did(ChainId(BlockId::from_digest([13; 32]))), heads: vec![op] },
            Below { level: 2, did: Did(ChainId(BlockId::from_digest([14; 32]))), heads: vec![op, OpId([15; 32])] },
        ];
        vec![
            encode(&Hello { did, heads: vec![op], below: below.clone(), cards: vec![(device, 300)] }),
            encode(&Item::Genesis(b"genesis")),
            encode(&Item::Op(b"op")),
            encode(&Item::Card(b"card")),
            encode(&Item::Done { more: true }),
            encode(&JoinHello { did, invite: op, nonce: [6; 32], device: keys.public().clone(), person: None }),
            encode(&JoinChallenge { nonce: [7; 32], controller, sealed: FixedBytes::new([8; CHALLENGE]) }),
            encode(&JoinProof { answer: [9; 32], session: FixedBytes::new([10; 64]), request }),
            encode(&JoinAnswer::Admitted(op)),
            encode(&JoinAnswer::Refused(RefusalCode::Revoked)),
            encode(&ResolveAsk { did, heads: vec![op], below }),
            encode(&ResolveAnswer::Known { heads: vec![op] }),
            encode(&ResolveAnswer::Unknown),
            encode(&ResealAsk { did, epochs: vec![op] }),
            encode(&ResealAnswer::Shares(vec![Resealed { epoch: op, key: KeyId([11; 32]), sealed: b"sealed" }])),
            encode(&ResealAnswer::Unknown),
            encode(&RecoveryAsk { did, key: recovery, proof: HybridSignature::zero() }),
            encode(&RecoveryAnswer::Heads(vec![ChainCut { chain, heads: vec![BlockId::from_digest([12; 32])] }])),
            encode(&RecoveryAnswer::Unknown),
            encode(&Greeting::Known(Hello { did, heads: vec![op], below: Vec::new(), cards: Vec::new() })),
            encode(&Greeting::Unknown),
            encode(&JoinHello { did, invite: op, nonce: [6; 32], device: keys.public().clone(), person: Some(did) }),
        ]
    }

    fn reencoded<'a, T: Serialize + Deserialize<'a>>(frame: &'a [u8]) -> Option<Vec<u8>> {
        decode::<T>(frame, "frame").ok().map(|value| encode(&value))
    }

    #[test]
    fn the_frames_of_version_1_stand_still() {
        let written: String = frames().iter().map(|frame| hex(frame) + "\n").collect();
        assert_eq!(written, GOLDEN);
        let frames = frames();
        assert_eq!(reencoded::<Hello>(&frames[0]).as_ref(), Some(&frames[0]));
        for item in &frames[1..5] {
            assert_eq!(reencoded::<Item<'_>>(item).as_ref(), Some(item));
        }
        assert_eq!(reencoded::<JoinHello>(&frames[5]).as_ref(), Some(&frames[5]));
        assert_eq!(reencoded::<JoinChallenge>(&frames[6]).as_ref(), Some(&frames[6]));
        assert_eq!(reencoded::<JoinProof>(&frames[7]).as_ref(), Some(&frames[7]));
        assert_eq!(reencoded::<JoinAnswer>(&frames[9]).as_ref(), Some(&frames[9]));
        assert_eq!(reencoded::<ResolveAsk>(&frames[10]).as_ref(), Some(&frames[10]));
        assert_eq!(reencoded::<ResolveAnswer>(&frames[11]).as_ref(), Some(&frames[11]));
        assert_eq!(reencoded::<ResolveAnswer>(&frames[12]).as_ref(), Some(&frames[12]));
        assert_eq!(reencoded::<ResealAsk>(&frames[13]).as_ref(), Some(&frames[13]));
        assert_eq!(reencoded::<ResealAnswer<'_>>(&frames[14]).as_ref(), Some(&frames[14]));
        assert_eq!(reencoded::<ResealAnswer<'_>>(&frames[15]).as_ref(), Some(&frames[15]));
        assert_eq!(reencoded::<RecoveryAsk>(&frames[16]).as_ref(), Some(&frames[16]));
        assert_eq!(reencoded::<RecoveryAnswer>(&frames[17]).as_ref(), Some(&frames[17]));
        assert_eq!(reencoded::<RecoveryAnswer>(&frames[18]).as_ref(), Some(&frames[18]));
        assert_eq!(reencoded::<Greeting>(&frames[19]).as_ref(), Some(&frames[19]));
        assert_eq!(reencoded::<Greeting>(&frames[20]).as_ref(), Some(&frames[20]));
        assert_eq!(reencoded::<JoinHello>(&frames[21]).as_ref(), Some(&frames[21]));
        assert_eq!(frames.len(), 22, "each kind of frame is read back");
    }

    #[test]
    #[ignore = "writes the golden file"]
    fn write_golden() {
        let written: String = frames().iter().map(|frame| hex(frame) + "\n").collect();
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/node_wire_v1.hex"), written).unwrap();
    }

    #[test]
    fn other_versions_rests_and_unsorted_lists_are_refused() {
        // A question with one more byte could begin another exchange; on its own protocol it is nothing.
        for (at, frame) in frames().iter().enumerate().skip(10) {
            let (longer, shorter) = ([&frame[..], &[0]].concat(), &frame[..frame.len() - 1]);
            let newer = [&[0x02][..], &frame[1..]].concat();
            for bad in [&newer[..], &longer, shorter] {
                let refused = match at {
                    10 => decode::<ResolveAsk>(bad, "x").is_err(),
                    11 | 12 => decode::<ResolveAnswer>(bad, "x").is_err(),
                    13 => decode::<ResealAsk>(bad, "x").is_err(),
                    14 | 15 => decode::<ResealAnswer<'_>>(bad, "x").is_err(),
                    16 => decode::<RecoveryAsk>(bad, "x").is_err(),
                    19 | 20 => decode::<Greeting>(bad, "x").is_err(),
                    21 => decode::<JoinHello>(bad, "x").is_err(),
                    _ => decode::<RecoveryAnswer>(bad, "x").is_err(),
                };
                assert!(refused, "frame {at}");
            }
        }
        for frame in frames().into_iter().take(10) {
            let newer = [&[0x02][..], &frame[1..]].concat();
            let longer = [&frame[..], &[0]].concat();
            for bad in [newer, longer, frame[..frame.len() - 1].to_vec(), Vec::new()] {
                assert!(decode::<Hello>(&bad, "x").is_err() && decode::<Item<'_>>(&bad, "x").is_err());
                assert!(decode::<JoinHello>(&bad, "x").is_err() && decode::<JoinProof>(&bad, "x").is_err());
            }
        }
        let did = Did(ChainId(BlockId::from_digest([1; 32])));
        let (low, high) = (OpId([1; 32]), OpId([2; 32]));
        let hello = |heads: Vec<OpId>| Hello { did, heads, below: Vec::new(), cards: Vec::new() }.check();
        assert!(hello(vec![low, high]).is_ok() && hello(vec![high, low]).is_err() && hello(vec![low, low]).is_err());
        assert!(hello(vec![low; HEADS_MAX + 1]).is_err());
        let ask = |heads: Vec<OpId>| ResolveAsk { did, heads, below: Vec::new() }.check();
        assert!(
            ask(vec![low, high]).is_ok() && ask(vec![high, low]).is_err() && ask(vec![low; HEADS_MAX + 1]).is_err()
        );
        let below = || vec![Below { level: 2, did, heads: vec![low] }];
        assert!(Hello { did, heads: vec![low], below: below(), cards: Vec::new() }.check().is_err());
        assert!(ResolveAsk { did, heads: vec![low], below: below() }.check().is_err());
        let reseal = |epochs: Vec<EpochId>| ResealAsk { did, epochs }.check();
        assert!(reseal(vec![low, high]).is_ok() && reseal(vec![high, low]).is_err() && reseal(Vec::new()).is_err());
        let many = (0..=RESEALED_MAX).map(|at| OpId([u8::try_from(at).unwrap(); 32])).collect();
        assert!(reseal(many).is_err());
    }
}
