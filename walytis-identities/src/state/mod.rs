//! The state of an identity: a pure function of the set of its authority ops.
//!
//! [`AuthorityGraph`] takes ops in any order, [`IdentityState`] is what they amount to. The numbered rules, each with a
//! drawing, are in `docs/identity-state.md`. Equal sets give equal states, whatever the order of arrival: nothing here
//! looks at blocks, time or the order of insertion.

mod admit;
mod bits;
mod build;
#[cfg(test)]
mod cost_tests;
mod duty;
mod entitle;
mod evaluate;
mod fold;
mod graph;
mod judge;
mod kept;
#[cfg(test)]
mod model;
mod nested;
mod nodes;
#[cfg(test)]
mod random_tests;
mod rights;
mod room;
#[cfg(test)]
mod room_tests;
mod signatures;
mod subject;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use walytis_core::key::PublicKey;

pub use build::{BuildError, Builder, Built, CreateOptions, NewInvitation, RecoveryPlan};
pub use duty::{Duty, DutyKind};
pub use entitle::EpochShare;
pub use graph::{AuthorityGraph, Inserted, PENDING_OPS_MAX, Refusal};
pub use judge::{RecordVerdict, WriteRight};
pub use nested::{Held, LEVELS_MAX, NESTED_MAX, NestedTaken, Part, PartBounds, Travelling};
pub use room::{ADMIN_OPS_MAX, DEVICE_OPS_MAX, OPS_MAX, OPS_RESERVED};
pub use subject::{ActingDevice, NestedIdentity, Subject};

use crate::crypto::KeyId;
use crate::id::{ControllerId, DeviceId, Did, EpochId, OpId, Role};
use crate::op::{ChainCut, HistoryPolicy};

/// Why an author had no right to an op, or a record does not count. The number is the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Rule {
    /// V-ID-01: the author is a controller in the op's past.
    NoController,
    /// V-ID-02: what concerns others needs the role admin, and nobody raises its own role.
    NotAdmin,
    /// V-ID-03: renewing keys, honouring invitations and writing need admin or member.
    NotWriter,
    /// V-ID-04: there is one `Create`.
    SecondCreate,
    /// V-ID-05: who is a controller is not admitted again, and nobody admits itself.
    AlreadyController,
    /// V-ID-06: at most 256 direct controllers.
    ControllersMax,
    /// V-ID-07: who is removed was a controller or has left; whose role changes is a controller.
    NotController,
    /// V-ID-08: the last admin neither leaves nor gives up its role.
    LastAdmin,
    /// V-ID-09: the invitation exists and counts.
    NoInvitation,
    /// V-ID-10: the role is the invitation's.
    InvitationRole,
    /// V-ID-11: the invitation is not revoked.
    InvitationRevoked,
    /// V-ID-12: the invitation has uses left.
    InvitationUsedUp,
    /// V-ID-13: the invitation key signed for this newcomer and this controller.
    InvitationProof,
    /// V-ID-14: the block's creator is a device of the author.
    Creator,
    /// V-ID-15: what a removed controller wrote counts up to the removal's cut.
    BeyondCut,
    /// V-ID-16: what entitled the author still counts.
    EntitlementVoid,
    /// V-ID-17: a change of role gives another role than the controller has.
    SameRole,
    /// V-ID-18: a device's update carries its new keys and nothing else.
    UpdateKeys,
    /// V-ID-19: nobody acts in the name of an identity that was ended.
    Deactivated,
    /// V-ID-20: a recovery is signed with the recovery key in force.
    RecoveryKey,
    /// V-ID-21: a recovery lists its author as an admin, and otherwise controllers that are known.
    RecoveryList,
    /// V-ID-22: at most 4,096 ops of the same device lie behind an admin's op, at most 1,024 behind anybody else's.
    DeviceOps,
    /// V-ID-30: who acts for an identity is a device of it with role member or above, and has introduced itself.
    NestedDevice,
    /// V-ID-31: an identity does not control itself, not with others in between, and not below the eighth level.
    NestedPlace,
    /// V-ID-32: at most 64 identities stand below one.
    NestedMax,
}

impl Rule {
    /// Returns the number, e.g. `V-ID-07`.
    pub const fn number(self) -> &'static str {
        match self {
            Self::NoController => "V-ID-01",
            Self::NotAdmin => "V-ID-02",
            Self::NotWriter => "V-ID-03",
            Self::SecondCreate => "V-ID-04",
            Self::AlreadyController => "V-ID-05",
            Self::ControllersMax => "V-ID-06",
            Self::NotController => "V-ID-07",
            Self::LastAdmin => "V-ID-08",
            Self::NoInvitation => "V-ID-09",
            Self::InvitationRole => "V-ID-10",
            Self::InvitationRevoked => "V-ID-11",
            Self::InvitationUsedUp => "V-ID-12",
            Self::InvitationProof => "V-ID-13",
            Self::Creator => "V-ID-14",
            Self::BeyondCut => "V-ID-15",
            Self::EntitlementVoid => "V-ID-16",
            Self::SameRole => "V-ID-17",
            Self::UpdateKeys => "V-ID-18",
            Self::Deactivated => "V-ID-19",
            Self::RecoveryKey => "V-ID-20",
            Self::RecoveryList => "V-ID-21",
            Self::DeviceOps => "V-ID-22",
            Self::NestedDevice => "V-ID-30",
            Self::NestedPlace => "V-ID-31",
            Self::NestedMax => "V-ID-32",
        }
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = match self {
            Self::NoController => "its author is no controller",
            Self::NotAdmin => "its author is no admin",
            Self::NotWriter => "its author may not write",
            Self::SecondCreate => "an identity is created once",
            Self::AlreadyController => "the newcomer is a controller already",
            Self::ControllersMax => "an identity has at most 256 controllers",
            Self::NotController => "whom it is about is no controller",
            Self::LastAdmin => "the last admin does not leave or give up its role",
            Self::NoInvitation => "there is no such invitation",
            Self::InvitationRole => "the invitation gives another role",
            Self::InvitationRevoked => "the invitation is revoked",
            Self::InvitationUsedUp => "the invitation is used up",
            Self::InvitationProof => "the invitation key did not sign for this newcomer",
            Self::Creator => "the block was not signed by a device of its author",
            Self::BeyondCut => "it was written after its author's removal",
            Self::EntitlementVoid => "what entitled its author is void",
            Self::SameRole => "the controller has this role already",
            Self::UpdateKeys => "a device renews its own keys and nothing else",
            Self::Deactivated => "the identity was ended",
            Self::RecoveryKey => "it is not signed with the recovery key in force",
            Self::RecoveryList => "it lists a stranger, or its author not as an admin",
            Self::DeviceOps => "its device has made as many ops before as it may",
            Self::NestedDevice => "its author is an identity, and this device does not act for it here",
            Self::NestedPlace => "an identity stands above itself, or too deep",
            Self::NestedMax => "more than 64 identities stand below this one",
        };
        write!(f, "{text} ({})", self.number())
    }
}

/// Why an op that once was authorised does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VoidReason {
    /// Rule 3: the identity was recovered by an op concurrent with it.
    RecoveredBeside {
        /// The recovery.
        recovery: OpId,
    },
    /// Rule 3: its author was removed by an op concurrent with it.
    RemovedBeside {
        /// The removal.
        removal: OpId,
    },
    /// Rule 6: it puts on record that somebody left who was let in again beside it.
    CameBack {
        /// The admission.
        admission: OpId,
    },
    /// Rule 3: its author was left with too little by a change of role concurrent with it.
    DemotedBeside {
        /// The change of role.
        demotion: OpId,
    },
    /// Rule 7: its invitation was revoked by an op concurrent with it.
    RevokedBeside {
        /// The invitation.
        invite: OpId,
    },
    /// Rule 7: its invitation was used up by others of higher rank.
    UsedUp {
        /// The invitation.
        invite: OpId,
    },
    /// Rule 4: it would leave no admin.
    LastAdmin,
    /// Rule 10: it admits an identity that is this one, stands above, or would stand too deep.
    Nesting,
    /// Rule 10: its device was removed inside the identity it acted for, and nobody who said so had seen it.
    NestedRemoved {
        /// The removal, an op of an identity below.
        removal: OpId,
    },
    /// Rule 10: what entitled its device inside the identity it acted for is void.
    NestedUnfounded,
    /// Rule 2: without the void ops its author had no right to it.
    Unfounded {
        /// What is missing.
        rule: Rule,
    },
}

/// One who controls the identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    /// Its id.
    pub id: ControllerId,
    /// What it may do.
    pub role: Role,
    /// The op that admitted it.
    pub since: OpId,
    /// Its seniority: (depth, id) of the op that gave it its role; lower is more senior.
    pub rank: (u32, OpId),
    /// The device that it is, or the identity with the devices that act for it.
    pub subject: Subject,
    /// Whether it gets history keys.
    pub history: bool,
}

/// An invitation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// The `Invite`.
    pub id: OpId,
    /// Who made it.
    pub author: ControllerId,
    /// Public invitation key.
    pub key: [u8; 32],
    /// The role it gives.
    pub role: Role,
    /// How many may use it; none: any number.
    pub uses: Option<u32>,
    /// Who used it.
    pub used_by: Vec<ControllerId>,
    /// Milliseconds since the Unix epoch; binds the device that honours it.
    pub expires_at_ms: Option<i64>,
    /// The op that took it back.
    pub revoked_by: Option<OpId>,
}

impl Invitation {
    /// Says whether the state lets another newcomer use it; expiry is for the caller's clock.
    pub fn is_open(&self) -> bool {
        self.revoked_by.is_none() && self.uses.is_none_or(|uses| self.used_by.len() < uses as usize)
    }
}

/// An epoch whose op counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochInfo {
    /// Named by its op.
    pub id: EpochId,
    /// Authority depth of its op.
    pub depth: u32,
    /// Who can open it, ascending.
    pub recipients: Arc<[ControllerId]>,
    /// Those that have to get its secret, ascending; the others are keepers.
    pub readers: Arc<[ControllerId]>,
    /// Whether its recipients were exactly those that its author had to deal to. If not it is never sent under.
    pub counts: bool,
    /// Its receiving key.
    pub key: KeyId,
}

/// A removal in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The op.
    pub op: OpId,
    /// Who removed.
    pub by: ControllerId,
    /// Who is removed.
    pub target: ControllerId,
    /// What of the target's writing still counts.
    pub cut: Vec<ChainCut>,
    /// Rule 5: the target is senior to the remover and can contest it with its keys.
    pub provisional: bool,
}

/// A counting change of role to a lesser one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demotion {
    /// The op.
    pub op: OpId,
    /// Who demoted.
    pub by: ControllerId,
    /// Who is demoted.
    pub target: ControllerId,
    /// The role that it is left with.
    pub role: Role,
    /// Below the role member: what of the target's writing still counts.
    pub cut: Vec<ChainCut>,
    /// Rule 5: the target is senior to the author and can contest it with its keys.
    pub provisional: bool,
}

/// A counting recovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The op.
    pub op: OpId,
    /// Who holds the identity since.
    pub by: ControllerId,
    /// What of anybody's writing before still counts.
    pub cut: Vec<ChainCut>,
}

/// The end of an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deactivation {
    /// The op.
    pub op: OpId,
    /// Who ended it.
    pub by: ControllerId,
    /// What of anybody's writing still counts.
    pub cut: Vec<ChainCut>,
}

/// What a set of authority ops amounts to.
#[derive(Clone, Debug)]
pub struct IdentityState {
    /// Heads of the set, strictly ascending.
    pub heads: Vec<OpId>,
    /// What newcomers may read.
    pub history: HistoryPolicy,
    /// Age at which an epoch is renewed, if it was decided at the creation.
    pub renew_after: Option<Duration>,
    /// Digest of the recovery key in force.
    pub recovery: Option<[u8; 32]>,
    /// Counting recoveries, the last one last.
    pub recoveries: Vec<Recovery>,
    /// Who ended the identity, if somebody did: then nobody writes, and nothing falls due.
    pub deactivated: Option<Deactivation>,
    /// Services of the DID document: (id, type, endpoint).
    pub services: Vec<(String, String, String)>,
    /// Everybody who controls it.
    pub controllers: BTreeMap<ControllerId, Controller>,
    /// Who has left and awaits the removal that follows, with the leave.
    pub leaving: BTreeMap<ControllerId, OpId>,
    /// Counting removals, in canonical order of their ops.
    pub removals: Arc<Vec<Removal>>,
    /// Counting demotions, in canonical order of their ops.
    pub demotions: Arc<Vec<Demotion>>,
    /// Counting invitations.
    pub invitations: Arc<BTreeMap<OpId, Invitation>>,
    /// Epochs of counting ops.
    pub epochs: Arc<BTreeMap<EpochId, EpochInfo>>,
    /// Counting epochs that no counting epoch follows.
    pub latest_epochs: BTreeSet<EpochId>,
    /// The epoch to encrypt under; none: writing waits for whoever has to rekey.
    pub sending_epoch: Option<EpochId>,
    /// Ops that do not count, with the reason.
    pub void: Arc<BTreeMap<OpId, VoidReason>>,
    evaluation: Arc<evaluate::Evaluation>,
}

impl PartialEq for IdentityState {
    fn eq(&self, other: &Self) -> bool {
        // The evaluation holds the same by index, and indices depend on the order of arrival.
        self.heads == other.heads
            && self.history == other.history
            && self.renew_after == other.renew_after
            && self.recovery == other.recovery
            && self.recoveries == other.recoveries
            && self.deactivated == other.deactivated
            && self.services == other.services
            && self.controllers == other.controllers
            && self.leaving == other.leaving
            && self.removals == other.removals
            && self.demotions == other.demotions
            && self.invitations == other.invitations
            && self.epochs == other.epochs
            && self.latest_epochs == other.latest_epochs
            && self.sending_epoch == other.sending_epoch
            && self.void == other.void
    }
}

impl Eq for IdentityState {}

impl IdentityState {
    /// Returns the role of a controller, if it is one.
    pub fn role(&self, controller: &ControllerId) -> Option<Role> {
        self.controllers.get(controller).map(|controller| controller.role)
    }

    /// Returns the controller of a device, if the device may act now.
    pub fn controller_of(&self, device: &DeviceId) -> Option<&Controller> {
        // A device is mostly a controller itself.
        let itself = self.controllers.get(&ControllerId::Device(*device));
        itself.or_else(|| self.controllers.values().find(|controller| controller.device(device).is_some()))
    }

    /// Returns the controller whose device signs blocks with this key.
    pub fn controller_of_key(&self, key: &PublicKey) -> Option<&Controller> {
        self.controllers.values().find(|controller| controller.signs_with(key))
    }

    /// Returns a device that may act now.
    pub fn device(&self, device: &DeviceId) -> Option<&ActingDevice> {
        self.controller_of(device)?.device(device).map(AsRef::as_ref)
    }

    /// Returns every device that may act now.
    pub fn devices(&self) -> impl Iterator<Item = (DeviceId, &ActingDevice)> {
        let all = self.controllers.values().flat_map(Controller::devices);
        all.map(|(id, device)| (id, device.as_ref()))
    }

    /// Returns an identity that is a controller.
    pub fn subject_of(&self, did: &Did) -> Option<&NestedIdentity> {
        match &self.controllers.get(&ControllerId::Identity(*did))?.subject {
            Subject::Identity(nested) => Some(nested),
            Subject::Device(_) => None,
        }
    }

    /// Says whether some removal or demotion in force can be contested by whom it is about (rule 5).
    pub fn has_provisional_removal(&self) -> bool {
        self.removals.iter().any(|removal| removal.provisional)
            || self.demotions.iter().any(|demotion| demotion.provisional)
    }
}
