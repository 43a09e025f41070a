//! Making ops of one's own, one builder each. What is built is not yet in the graph: insert it, and publish it if it
//! entered.

mod admit;
mod base;
mod create;
mod deactivate;
mod document;
mod invite;
mod leave;
mod nested;
mod recover;
mod rekey;
mod remove;
mod role;
mod update;

use std::collections::BTreeMap;

use thiserror::Error;
use walytis_core::clock::Entropy;
use walytis_core::fault::Fault;
use walytis_core::secret::Secret;

use super::AuthorityGraph;
use crate::crypto::{DeviceKeys, ReceivingPublic};
use crate::epoch::{DealError, EpochSecrets};
use crate::id::{ControllerId, Did, EpochId, OpId, Role};
use crate::op::{ChainCut, HistoryPolicy, OpError, SignedOp};

/// An op could not be built.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// An epoch could not be dealt.
    #[error(transparent)]
    Deal(#[from] DealError),
    /// The op would break a bound.
    #[error(transparent)]
    Op(#[from] OpError),
    /// An identity that is a controller has no receiving key that only its current devices can open.
    #[error("nothing can be sealed to {did:?} before it has renewed its keys")]
    NestedKey {
        /// Which.
        did: Did,
    },
    /// There is no such invitation.
    #[error("there is no invitation {invite:?} that counts")]
    NoInvitation {
        /// Which.
        invite: OpId,
    },
    /// Who is to stay was never a device of the identity.
    #[error("{controller:?} is no device that the identity knows")]
    NoDevice {
        /// Who.
        controller: ControllerId,
    },
}

impl BuildError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Deal(error) => error.fault(),
            Self::NestedKey { .. } => Fault::Peer,
            Self::Op(_) | Self::NoInvitation { .. } | Self::NoDevice { .. } => Fault::Caller,
        }
    }
}

/// A new op, and the secrets of the epoch that it starts, for the vault. Keep them under the op's id *before* the op is
/// published; the own slot opens to the same.
#[derive(Clone, Debug)]
pub struct Built {
    /// The op.
    pub op: SignedOp,
    /// Secrets of its epoch.
    pub secrets: Option<EpochSecrets>,
}

/// A new invitation: the op, and the seed for the token.
#[derive(Clone, Debug)]
pub struct NewInvitation {
    /// The `Invite`; its id names the invitation.
    pub op: SignedOp,
    /// Goes into the token and nowhere else.
    pub seed: Secret<32>,
}

/// How an identity is created.
#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    /// What newcomers may read; everything by default.
    pub history: HistoryPolicy,
    /// Digest of the recovery key.
    pub recovery: Option<[u8; 32]>,
    /// Age in seconds at which an epoch is renewed, see [`RENEW_AFTER_S`](crate::op::RENEW_AFTER_S).
    pub renew_after_s: Option<u32>,
}

/// What a recovered identity looks like.
#[derive(Clone, Debug, Default)]
pub struct RecoveryPlan {
    /// Who controls it from now on, beside the device that recovers it.
    pub staying: BTreeMap<ControllerId, Role>,
    /// The heads this node has admitted, by chain: what of anybody's writing still counts.
    pub cut: Vec<ChainCut>,
    /// Invitations that stay good.
    pub kept: Vec<OpId>,
    /// Digest of the next recovery key; none: it cannot be recovered again.
    pub next_recovery: Option<[u8; 32]>,
}

/// Builds ops in the name of one device.
#[derive(Debug)]
pub struct Builder<'a> {
    graph: &'a mut AuthorityGraph,
    keys: &'a DeviceKeys,
    author: ControllerId,
    entropy: &'a dyn Entropy,
    held: &'a BTreeMap<EpochId, EpochSecrets>,
    receiving: BTreeMap<ControllerId, ReceivingPublic>,
}

impl<'a> Builder<'a> {
    /// Builds on what `graph` holds. `held`: all epoch secrets of the vault; what of them is not carried on by a new
    /// epoch is lost to newcomers.
    pub fn new(
        graph: &'a mut AuthorityGraph,
        keys: &'a DeviceKeys,
        held: &'a BTreeMap<EpochId, EpochSecrets>,
        entropy: &'a dyn Entropy,
    ) -> Self {
        let author = ControllerId::Device(keys.id());
        Self { graph, keys, author, entropy, held, receiving: BTreeMap::new() }
    }

    /// Acts for a controller that is an identity.
    #[must_use]
    pub const fn acting_for(mut self, controller: ControllerId) -> Self {
        self.author = controller;
        self
    }

    /// Seals to newer receiving keys than the first ones, as device cards carry them.
    #[must_use]
    pub fn with_receiving_keys(mut self, receiving: BTreeMap<ControllerId, ReceivingPublic>) -> Self {
        self.receiving = receiving;
        self
    }
}
