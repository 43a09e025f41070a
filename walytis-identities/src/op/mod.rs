//! Authority ops: what changes an identity's controllers and keys.
//!
//! An op is its *core*, the bytes that both keys of the author sign; its id is their SHA-256. In which block it stands,
//! when and how often, does not matter: the state reads cores only.

mod codec_v1;
mod limits;

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use walytis_core::fault::Fault;
use walytis_core::id::{BlockId, ChainId, Digest};

pub use codec_v1::{OP_LABEL, op_id};
pub use limits::{
    AUTH_PARENTS_MAX, CONTROLLERS_MAX, CUT_CHAINS_MAX, CUT_HEADS_MAX, KEPT_MAX, PREDECESSORS_MAX, RENEW_AFTER_S,
    SIGNED_OP_MAX, TARGETS_MAX,
};

use crate::crypto::{DevicePublic, FixedBytes, HybridSignature, KeyId, ReceivingPublic};
use crate::id::{ControllerId, DeviceId, Did, EpochId, OpId, Role};

/// Topic of the blocks that carry authority ops, reserved.
pub const OP_TOPIC: &str = "walytis.identity";

/// What an author says; both of its keys sign the encoding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpCore {
    /// Digest of the identity's chain id; in `Create`, which the chain id depends on, 32 random bytes.
    pub chain: [u8; 32],
    /// The controller in whose right the author acts.
    pub author: ControllerId,
    /// The device that signs.
    pub device: DeviceId,
    /// Heads of the authority graph the author knew: strictly ascending, 1..=64; none in `Create`.
    pub auth_parents: Vec<OpId>,
    /// What is done.
    pub op: Op,
}

/// What an authority op does. The order is part of the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// The first op: founder device (role admin), policy, first epoch.
    Create(Box<Create>),
    /// Adds a controller and starts an epoch that it can read.
    Admit(Box<Admit>),
    /// A device of an identity that is a controller shows itself.
    Introduce(Introduce),
    /// Renews the author's signing keys, or names newer heads of the identity that the author is.
    Update(Box<Update>),
    /// Changes a role.
    SetRole(SetRole),
    /// Replaces the document's services.
    Document(Document),
    /// Makes an invitation.
    Invite(Invite),
    /// Takes an invitation back.
    RevokeInvite(RevokeInvite),
    /// Ends the identity.
    Deactivate(Deactivate),
    /// Removes controllers and starts an epoch without them.
    Remove(Box<Remove>),
    /// The author goes.
    Leave,
    /// Starts an epoch.
    Rekey(Box<EpochPart>),
    /// Starts over with the recovery key.
    Recover(Box<Recover>),
}

impl Op {
    /// Returns the epoch that the op starts, if it starts one.
    pub const fn epoch(&self) -> Option<&EpochPart> {
        match self {
            Self::Create(op) => Some(&op.epoch),
            Self::Admit(op) => Some(&op.epoch),
            Self::Remove(op) => Some(&op.epoch),
            Self::Recover(op) => Some(&op.epoch),
            Self::Rekey(epoch) => Some(epoch),
            _ => None,
        }
    }

    /// Returns the epoch to change it.
    pub(crate) const fn epoch_mut(&mut self) -> Option<&mut EpochPart> {
        match self {
            Self::Create(op) => Some(&mut op.epoch),
            Self::Admit(op) => Some(&mut op.epoch),
            Self::Remove(op) => Some(&mut op.epoch),
            Self::Recover(op) => Some(&mut op.epoch),
            Self::Rekey(epoch) => Some(epoch),
            _ => None,
        }
    }

    /// Returns the recovery to change it.
    pub(crate) const fn recover_mut(&mut self) -> Option<&mut Recover> {
        match self {
            Self::Recover(op) => Some(op),
            _ => None,
        }
    }

    /// Returns the op's name as the command line shows it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Admit(_) => "admit",
            Self::Introduce(_) => "introduce",
            Self::Update(_) => "update",
            Self::SetRole(_) => "set-role",
            Self::Document(_) => "document",
            Self::Invite(_) => "invite",
            Self::RevokeInvite(_) => "revoke-invite",
            Self::Deactivate(_) => "deactivate",
            Self::Remove(_) => "remove",
            Self::Leave => "leave",
            Self::Rekey(_) => "rekey",
            Self::Recover(_) => "recover",
        }
    }
}

/// How much of the past a newcomer may read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HistoryPolicy {
    /// Nothing written before its admission.
    None,
    /// What was written since its invitation: each invitation begins an epoch, and those since are handed over on request.
    FromInvite,
    /// Everything: what a person expects of a second device.
    #[default]
    All,
}

/// Creates an identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Create {
    /// The founder.
    pub device: DevicePublic,
    /// What newcomers may read.
    pub history: HistoryPolicy,
    /// Digest of the recovery key; none: the identity cannot be recovered.
    pub recovery: Option<[u8; 32]>,
    /// Age in seconds at which an epoch is renewed: 3,600 to 315,360,000; none: as each device has it, 30 days.
    pub renew_after_s: Option<u32>,
    /// First epoch.
    pub epoch: EpochPart,
}

/// Who is admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControllerRecord {
    /// A device with its first keys.
    Device(DevicePublic),
    /// Another identity as of some authority heads.
    Identity {
        /// The identity.
        did: Did,
        /// Its authority heads, strictly ascending, 1..=64.
        as_of: Vec<OpId>,
        /// Its device that proves the wish to be admitted, and is introduced by that.
        device: DeviceId,
    },
}

impl ControllerRecord {
    /// Returns the id of the controller.
    pub fn id(&self) -> ControllerId {
        match self {
            Self::Device(public) => ControllerId::Device(public.device_id()),
            Self::Identity { did, .. } => ControllerId::Identity(*did),
        }
    }
}

/// Adds a controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admit {
    /// The newcomer.
    pub controller: ControllerRecord,
    /// Its role.
    pub role: Role,
    /// The newcomer's signature over what it is admitted to: it holds its signing keys and wants in.
    pub possession: HybridSignature,
    /// The invitation that is used; none: an admin admits by its own right.
    pub invitation: Option<InvitationProof>,
    /// New epoch, with a slot for the newcomer.
    pub epoch: EpochPart,
}

/// Shows that the newcomer was invited (rule 7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvitationProof {
    /// The `Invite`.
    pub invite: OpId,
    /// Ed25519 signature of the invitation key over chain, invitation, the newcomer's keys and the honouring controller.
    pub signature: FixedBytes<64>,
}

/// A device of an identity that is a controller begins to act for it. Who it is stands in the core: author and device;
/// its keys stand in the identity's own ops, and it proves them by signing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduce {
    /// The identity's authority heads that show the device: strictly ascending, 1..=64.
    pub as_of: Vec<OpId>,
}

/// Renewal of the author's own keys, or newer heads of a nested identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// New keys and their signature.
    pub keys: Option<(DevicePublic, HybridSignature)>,
    /// Newer authority heads of the identity that the author is: strictly ascending, at most 64.
    pub as_of: Vec<OpId>,
    /// What still counts of the writing of devices whose removal the heads show: by chain, strictly ascending.
    pub cut: Vec<ChainCut>,
}

/// Changes a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetRole {
    /// Whose.
    pub controller: ControllerId,
    /// The new role.
    pub role: Role,
    /// For a demotion below member: what of its writing still counts.
    pub cut: Vec<ChainCut>,
}

/// Services of the DID document: (id, type, endpoint).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// At most 32.
    pub services: Vec<(String, String, String)>,
}

/// Ends the identity: nobody acts in its name any more, unless it is recovered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deactivate {
    /// What of anybody's writing still counts, by chain, strictly ascending; a chain not listed has an empty cut.
    pub cut: Vec<ChainCut>,
}

/// Makes an invitation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// Public invitation key, Ed25519; its seed stands in the token only.
    pub key: [u8; 32],
    /// The role it gives.
    pub role: Role,
    /// How many newcomers may use it; none: any number.
    pub uses: Option<u32>,
    /// Milliseconds since the Unix epoch after which no device honours it; none: never.
    pub expires_at_ms: Option<i64>,
}

/// Takes an invitation back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeInvite {
    /// The `Invite`.
    pub invite: OpId,
}

/// Heads of one chain up to which a removal accepts what the removed wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainCut {
    /// The chain.
    pub chain: ChainId,
    /// The heads that the remover had admitted: strictly ascending, at most 64.
    pub heads: Vec<BlockId>,
}

/// Another controller's consent to a removal. Reserved; not evaluated yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoSignature {
    /// Whose.
    pub controller: ControllerId,
    /// Its device.
    pub device: DeviceId,
    /// Its signature.
    pub signature: HybridSignature,
}

/// Removes controllers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remove {
    /// Who: strictly ascending, 1..=256, the author not among them.
    pub targets: Vec<ControllerId>,
    /// What of their writing still counts, by chain, strictly ascending; a chain not listed has an empty cut.
    pub cut: Vec<ChainCut>,
    /// Invitations that stay good, strictly ascending; all others are revoked.
    pub kept: Vec<OpId>,
    /// Reserved, empty for now.
    pub co_signatures: Vec<CoSignature>,
    /// New epoch, without a slot for the removed.
    pub epoch: EpochPart,
}

/// Public recovery key: Ed25519 and ML-DSA-65.
pub type RecoveryPublic = ([u8; 32], FixedBytes<{ crate::crypto::ML_DSA_PUBLIC }>);

/// Starts over with the recovery key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recover {
    /// All controllers from now on, with their roles: strictly ascending by id, 1..=256, the author an admin among them.
    pub controllers: Vec<(ControllerRecord, Role)>,
    /// What of anybody's writing still counts, by chain, strictly ascending; a chain not listed has an empty cut.
    pub cut: Vec<ChainCut>,
    /// Invitations that stay good, strictly ascending; all others are revoked.
    pub kept: Vec<OpId>,
    /// The recovery key.
    pub recovery_key: RecoveryPublic,
    /// Its signature over the core without slots and without this signature.
    pub recovery_signature: HybridSignature,
    /// Digest of the next recovery key.
    pub next_recovery: Option<[u8; 32]>,
    /// New epoch.
    pub epoch: EpochPart,
}

/// One generation of an identity's encryption keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochPart {
    /// Salt of every derivation from the epoch's secrets.
    pub salt: [u8; 32],
    /// Public receiving key of the identity in this epoch.
    pub receiving: ReceivingPublic,
    /// Commitment to the epoch secret.
    pub commit_epoch: [u8; 32],
    /// Commitment to the history key.
    pub commit_history: [u8; 32],
    /// Commitment to the transport secret.
    pub commit_transport: [u8; 32],
    /// Epochs whose secrets stand in `history`, strictly ascending, at most 64.
    pub predecessors: Vec<EpochId>,
    /// Their secrets and history keys, sealed under the history key; empty without predecessors.
    #[serde(with = "byte_string")]
    pub history: Vec<u8>,
    /// One slot per controller, strictly ascending by controller.
    pub slots: Vec<Slot>,
}

impl EpochPart {
    /// Says who can open it, in ascending order.
    pub fn recipients(&self) -> impl Iterator<Item = ControllerId> {
        self.slots.iter().map(|slot| slot.controller)
    }
}

/// One controller's share of an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Whose.
    pub controller: ControllerId,
    /// The receiving key it is sealed to.
    pub key: KeyId,
    /// HPKE: encapsulated key and ciphertext.
    #[serde(with = "byte_string")]
    pub sealed: Vec<u8>,
}

/// Byte strings that are bounded by the input before they are allocated.
mod byte_string {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        <&[u8]>::deserialize(deserializer).map(<[u8]>::to_vec)
    }
}

/// An op with both signatures of its author, unchecked. Equal cores are one op, whatever their signatures.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedOp {
    id: OpId,
    core: OpCore,
    core_bytes: Vec<u8>,
    signature: HybridSignature,
}

impl SignedOp {
    /// Returns the id: SHA-256 of the encoded core.
    pub const fn id(&self) -> OpId {
        self.id
    }

    /// Returns what the author says.
    pub const fn core(&self) -> &OpCore {
        &self.core
    }

    /// Returns the signed bytes.
    pub fn core_bytes(&self) -> &[u8] {
        &self.core_bytes
    }

    /// Returns the author's signatures.
    pub const fn signature(&self) -> &HybridSignature {
        &self.signature
    }
}

impl fmt::Debug for SignedOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {:?} by {:?} ({:?})",
            self.core.op.name(),
            self.id,
            self.core.author,
            Digest::of(&self.core_bytes)
        )
    }
}

/// Bytes that are no authority op.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpError {
    /// Not the version byte 0x01.
    #[error("an authority op of an unknown version")]
    Version,
    /// More than [`SIGNED_OP_MAX`] bytes.
    #[error("an authority op of more than {SIGNED_OP_MAX} bytes")]
    Size,
    /// It does not decode, or not canonically.
    #[error("a malformed authority op")]
    Malformed,
    /// Not the label of this format.
    #[error("no authority op: its label is another")]
    Label,
    /// A list is too long, unsorted, or empty where it must not be.
    #[error("an authority op breaks a limit: {what}")]
    Limit {
        /// Which.
        what: &'static str,
    },
}

impl OpError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        Fault::Peer
    }
}
