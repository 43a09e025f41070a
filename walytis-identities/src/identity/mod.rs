//! What other layers see of an identity.

mod memory;

pub use memory::{MemoryGroup, MemoryIdentity};

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use thiserror::Error;
use tokio::sync::watch;
use walytis_core::fault::Fault;
use walytis_core::id::{BlockId, ChainId, PeerId};
use walytis_core::key::{PublicKey, Signer};
use walytis_core::secret::Secret;

use crate::bound::RecordRules;
use crate::id::{ControllerId, DeviceId, Did, EpochId, OpId, Role};
use crate::signed::IdentitySignature;

/// What an epoch's key is derived for. Closed: no two uses share a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EpochUse {
    /// Wraps content keys of private records.
    ContentWrap,
    /// Seals the private header of records.
    RecordHeader,
}

impl EpochUse {
    /// Returns the label of the derivation.
    pub const fn label(self) -> &'static str {
        match self {
            Self::ContentWrap => "walytis/identities/epoch/content-wrap/v1",
            Self::RecordHeader => "walytis/identities/epoch/record-header/v1",
        }
    }
}

/// An identity could not do what was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The key vault is locked.
    #[error("the key vault is locked")]
    Locked,
    /// This device does not hold the secret of the epoch (yet, or for ever if it joined later without history).
    #[error("the secret of epoch {epoch:?} is not here")]
    NoEpochSecret {
        /// The epoch.
        epoch: EpochId,
    },
    /// Nothing can be written now: somebody left and the removal that follows is not here yet.
    #[error("there is no epoch to write under until a remaining member has renewed the keys")]
    NoSendingEpoch,
    /// This device is no controller (any more), or its role does not allow it.
    #[error("refused: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// Storage failed.
    #[error("storage failed")]
    Store(#[from] walytis_core::store::StoreError),
}

impl IdentityError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Locked | Self::NoSendingEpoch | Self::Refused { .. } => Fault::Caller,
            Self::NoEpochSecret { .. } | Self::Store(_) => Fault::Local,
        }
    }
}

/// What is judged: a content record on a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordRef {
    /// The record's block.
    pub block: BlockId,
    /// The key that signed it.
    pub creator: PublicKey,
    /// The controller that claims to have written it.
    pub author: ControllerId,
    /// The authority heads it names.
    pub auth_heads: Vec<OpId>,
}

/// Whether a content record counts (rule 8 of `docs/identity-state.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It counts.
    Valid,
    /// It does not, for the reason with its rule number. May follow on `Valid` when a removal becomes known.
    Void(&'static str),
    /// The authority heads it names are not all here yet.
    Wait,
}

/// The group that a private ledger belongs to, seen from one of its devices.
#[async_trait]
pub trait Identity: Send + Sync + fmt::Debug {
    /// Returns the DID.
    fn did(&self) -> Did;

    /// Returns the device of this node.
    fn device(&self) -> DeviceId;

    /// Returns the controller that this node's device acts for (for a flat identity the device itself).
    fn controller(&self) -> ControllerId;

    /// Returns the signer of blocks: the device's Ed25519 key that is in force now. The signer keeps to it when the device
    /// renews its keys; take it before the heads that a record names, which then know its key.
    fn device_signer(&self) -> Arc<dyn Signer>;

    /// Returns what is asked of records of the identity on a chain; nothing for a chain that is neither its own nor was bound
    /// to it at its genesis, or whose records are not judged by this value.
    fn rules(&self, chain: &ChainId) -> Option<RecordRules>;

    /// Returns the heads of the authority graph known here, strictly ascending, at least one.
    async fn auth_heads(&self) -> Vec<OpId>;

    /// Returns the epoch to encrypt under.
    ///
    /// # Errors
    /// [`IdentityError::NoSendingEpoch`], [`IdentityError::Refused`] when this device may not write.
    async fn sending_epoch(&self) -> Result<EpochId, IdentityError>;

    /// Returns the key of an epoch for one use.
    ///
    /// # Errors
    /// [`IdentityError::Locked`], [`IdentityError::NoEpochSecret`].
    async fn derive(&self, epoch: &EpochId, purpose: EpochUse) -> Result<Secret<32>, IdentityError>;

    /// Judges a content record under the authority ops known now.
    async fn judge(&self, record: &RecordRef) -> Judgement;

    /// Returns the controllers, with their roles, as these authority heads have them (as everything known now has them, if
    /// none are given), ascending; nothing while some of the heads are not here.
    async fn controllers_at(&self, heads: Option<&[OpId]>) -> Option<Vec<(ControllerId, Role)>>;

    /// Says whether the node with this authenticated peer id may now hold ciphertext of this epoch.
    async fn may_read(&self, peer: &PeerId, epoch: &EpochId) -> bool;

    /// Returns the peer ids of all other devices of current controllers, ascending.
    async fn peers(&self) -> Vec<PeerId>;

    /// Signs for a purpose with this device's keys, Ed25519 and ML-DSA-65, in the name of the identity. By default refused.
    ///
    /// # Errors
    /// [`IdentityError::Locked`], [`IdentityError::Refused`] if this device may not.
    async fn sign(&self, _context: &str, _message: &[u8]) -> Result<IdentitySignature, IdentityError> {
        Err(IdentityError::Refused { reason: "this identity makes no hybrid signatures".to_owned() })
    }

    /// Checks a signature in the name of this identity under the authority ops known now. Returns the controller that
    /// signed and the key of its device's blocks; nothing if it does not hold. By default none does.
    async fn verify(
        &self,
        _signature: &IdentitySignature,
        _context: &str,
        _message: &[u8],
    ) -> Option<(ControllerId, PublicKey)> {
        None
    }

    /// Returns the first key of the device of `author` whose blocks verify under `key`: the same however often the device
    /// renewed its keys. By default, and of a device that is not known now, `key` itself.
    async fn first_key(&self, _author: &ControllerId, key: PublicKey) -> PublicKey {
        key
    }

    /// Returns a counter that moves whenever an answer above may have changed.
    fn changes(&self) -> watch::Receiver<u64>;
}
