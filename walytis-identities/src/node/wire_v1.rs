//! What travels on `/walytis/identity/join/1` and `/walytis/authority/1`, version 1. Byte tables in
//! `docs/formats/identities.md`.
//!
//! Every frame is a postcard enum; decoding bounds every list, and byte strings are borrowed from the frame.

use serde::{Deserialize, Serialize};

use super::error::ExchangeError;
use crate::crypto::{DevicePublic, FixedBytes};
use crate::id::{ControllerId, DeviceId, Did, OpId};
use crate::token::JoinRequest;

/// Heads named in an exchange. Chosen: as in an op.
pub(super) const HEADS_MAX: usize = crate::op::AUTH_PARENTS_MAX;
/// Cards named or sent in one exchange. Chosen: four devices of each of 256 controllers.
pub(super) const CARDS_MAX: usize = 1_024;
/// Ops taken in one exchange; the next one continues.
pub(super) const OPS_MAX: usize = crate::state::OPS_MAX;
/// Bytes of ops taken in one exchange.
pub(super) const OPS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Begins an exchange of authority ops; both sides send one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// Which identity.
    pub(super) did: Did,
    /// Heads of the authority graph here, ascending; none if nothing is known yet.
    pub(super) heads: Vec<OpId>,
    /// Counters of the device cards known here.
    pub(super) cards: Vec<(DeviceId, u64)>,
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

/// First frame of a join, from the joiner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct JoinHello {
    /// Which identity.
    pub(super) did: Did,
    /// The invitation.
    pub(super) invite: OpId,
    /// 32 fresh random bytes.
    pub(super) nonce: [u8; 32],
    /// The keys that want in.
    pub(super) device: DevicePublic,
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
}

impl Hello {
    pub(super) fn check(self) -> Result<Self, ExchangeError> {
        let heads_fit = self.heads.len() <= HEADS_MAX && self.heads.is_sorted_by(|one, next| one < next);
        let cards_fit = self.cards.len() <= CARDS_MAX && self.cards.is_sorted_by(|one, next| one.0 < next.0);
        if heads_fit && cards_fit { Ok(self) } else { Err(ExchangeError::Malformed { what: "hello" }) }
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
