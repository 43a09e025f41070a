//! Making ops of one's own.

use std::sync::Arc;

use walytis_core::id::BlockId;
use walytis_core::secret::Secret;

use super::bound;
use super::error::{IdentitiesError, IdentitiesResult};
use super::recover::staying;
use super::shared::{Known, Shared};
use crate::id::{ControllerId, OpId, Role};
use crate::op::KEPT_MAX;
use crate::recovery::RecoveryKey;
use crate::state::{BuildError, Builder, Built, IdentityState, RecoveryPlan};
use crate::token::JoinRequest;

/// An op that is wanted.
#[derive(Clone, Debug)]
pub(super) enum Draft {
    /// An invitation.
    Invite { role: Role, uses: Option<u32>, expires_at_ms: Option<i64> },
    /// Takes one back.
    RevokeInvite { invite: OpId },
    /// Removes controllers.
    Remove { targets: Vec<ControllerId> },
    /// This device leaves, or the identity that it acts for.
    Leave,
    /// A new epoch.
    Rekey,
    /// Changes a role.
    SetRole { controller: ControllerId, role: Role },
    /// Replaces the services of the document.
    Document { services: Vec<(String, String, String)> },
    /// Ends the identity.
    Deactivate,
    /// Starts over: with those who are to stay, and the digest of the next recovery key.
    Recover { key: Arc<RecoveryKey>, keep: Vec<ControllerId>, next: [u8; 32] },
    /// Admits a joiner.
    Honour { request: Box<JoinRequest> },
    /// Shows this device as one of the identity it acts for.
    Introduce,
    /// Names newer heads of that identity.
    Update,
}

impl Draft {
    /// Says whether it is made for an identity that was put away, too: what keeps removed devices out of it.
    const fn is_upkeep(&self) -> bool {
        matches!(self, Self::Introduce | Self::Update | Self::Rekey | Self::Leave)
    }
}

/// An op that was made.
#[derive(Debug)]
pub(super) struct Authored {
    pub(super) id: OpId,
    /// Of an invitation: its seed, kept nowhere else.
    pub(super) seed: Option<Secret<32>>,
}

/// Builds an op on everything known now. `heads`: the heads of the identity's chain that are admitted here.
pub(super) fn build(shared: &Shared, draft: Draft, heads: &[BlockId]) -> IdentitiesResult<(Built, Option<Secret<32>>)> {
    let keys = shared.keys()?;
    let mut known = shared.known();
    let state = known.graph.state();
    check(shared, &state, &draft)?;
    let receiving = known.receiving_keys();
    let Known { graph, ring, .. } = &mut *known;
    let builder = Builder::new(graph, &keys, ring, &*shared.tools.entropy)
        .acting_for(shared.controller())
        .with_receiving_keys(receiving);
    let cut = bound::cuts(shared, heads);
    let built = match draft {
        Draft::Invite { role, uses, expires_at_ms } => {
            let invitation = builder.invite(role, uses, expires_at_ms).map_err(refused)?;
            return Ok((Built { op: invitation.op, secrets: None }, Some(invitation.seed)));
        }
        Draft::RevokeInvite { invite } => builder.revoke_invite(invite),
        Draft::Remove { targets } => {
            let kept = kept_invitations(&state, &targets);
            builder.remove(targets, cut, kept)
        }
        Draft::SetRole { controller, role } => builder.set_role(controller, role, cut),
        Draft::Document { services } => builder.document(services),
        Draft::Deactivate => builder.deactivate(cut),
        Draft::Recover { key, keep, next } => {
            let staying = staying(&state, &key, &keep)?;
            let plan = RecoveryPlan { staying, cut, kept: Vec::new(), next_recovery: Some(next) };
            builder.recover(&key, plan)
        }
        Draft::Leave => builder.leave(),
        Draft::Rekey => builder.rekey(),
        Draft::Honour { request } => builder.honour(*request),
        Draft::Introduce => builder.introduce(),
        Draft::Update => builder.name_heads(cut),
    };
    Ok((built.map_err(refused)?, None))
}

/// Refuses with a reason that a person understands what the rules would refuse anyway.
fn check(shared: &Shared, state: &IdentityState, draft: &Draft) -> IdentitiesResult<()> {
    let me = shared.controller();
    // Whoever has the recovery code needs no role; whether it is the right one is seen when it is used.
    if matches!(draft, Draft::Recover { .. }) {
        return match &shared.person {
            Some(person) => check_acts(person),
            None => Ok(()),
        };
    }
    if state.deactivated.is_some() {
        return Err(IdentitiesError::refused(DEACTIVATED));
    }
    if shared.is_archived() && !draft.is_upkeep() {
        return Err(IdentitiesError::refused(ARCHIVED));
    }
    if matches!(draft, Draft::Introduce) {
        return Ok(());
    }
    let Some(role) = shared.role_in(state) else {
        return Err(IdentitiesError::refused("this device is no controller of the identity any more"));
    };
    let admin = |what: &str| match role {
        Role::Admin => Ok(()),
        _ => Err(IdentitiesError::refused(format!("{what} needs the role admin, this device is {role}"))),
    };
    match draft {
        Draft::Invite { .. } => admin("inviting"),
        Draft::RevokeInvite { invite } => {
            admin("revoking an invitation")?;
            let known = state.invitations.get(invite).is_some_and(|found| found.revoked_by.is_none());
            if known { Ok(()) } else { Err(IdentitiesError::refused("there is no such invitation, or it is revoked")) }
        }
        Draft::Remove { targets } => {
            if targets.iter().all(|target| state.leaving.contains_key(target)) {
                return Ok(());
            }
            admin("removing a controller")?;
            if targets.contains(&me) {
                return Err(IdentitiesError::refused("a controller does not remove itself: leave instead"));
            }
            match targets.iter().find(|target| state.role(target).is_none() && !state.leaving.contains_key(target)) {
                Some(stranger) => Err(IdentitiesError::NoController { controller: *stranger }),
                None => Ok(()),
            }
        }
        Draft::Leave if role == Role::Admin => others_govern(state, &me, "the last admin cannot leave"),
        Draft::Leave | Draft::Recover { .. } | Draft::Introduce | Draft::Update => Ok(()),
        Draft::SetRole { controller, role: new } => check_role(state, (&me, role), controller, *new),
        Draft::Document { .. } => admin("changing the document"),
        Draft::Deactivate => admin("ending the identity"),
        Draft::Rekey | Draft::Honour { .. } if role.writes() => Ok(()),
        Draft::Rekey | Draft::Honour { .. } => Err(IdentitiesError::refused("this needs the role member or admin")),
    }
}

/// Why nothing is done any more.
pub(super) const DEACTIVATED: &str = "the identity is deactivated: only walytis identity recover brings it back";

/// Why nothing is written, sent or changed.
pub(super) const ARCHIVED: &str = "the identity is archived: take it up again first (walytis identity archive --undo)";

/// What a device says for another identity counts if it may write as that one.
pub(super) fn check_acts(person: &Shared) -> IdentitiesResult<()> {
    if person.my_role().is_some_and(Role::writes) {
        return Ok(());
    }
    Err(IdentitiesError::refused("acting as an identity needs the role member or admin of it"))
}

fn check_role(
    state: &IdentityState,
    (me, mine): (&ControllerId, Role),
    controller: &ControllerId,
    new: Role,
) -> IdentitiesResult<()> {
    let before = state.role(controller).ok_or(IdentitiesError::NoController { controller: *controller })?;
    if before == new {
        return Err(IdentitiesError::refused(format!("the controller has the role {new} already")));
    }
    // Everybody may take less.
    if mine != Role::Admin && !(controller == me && before.lesser(new) == new) {
        return Err(IdentitiesError::refused(format!("changing roles needs the role admin, this device is {mine}")));
    }
    if before == Role::Admin { others_govern(state, controller, "the last admin stays admin") } else { Ok(()) }
}

fn others_govern(state: &IdentityState, but: &ControllerId, otherwise: &str) -> IdentitiesResult<()> {
    let others = state.controllers.values().any(|other| other.id != *but && other.role == Role::Admin);
    if others { Ok(()) } else { Err(IdentitiesError::refused(otherwise)) }
}

/// Invitations that outlive a removal: those that the removed neither made nor used, so that nobody who is removed can
/// come back by a seed that it knows.
fn kept_invitations(state: &IdentityState, targets: &[ControllerId]) -> Vec<OpId> {
    let open = state.invitations.values().filter(|invitation| invitation.is_open());
    let untouched = open.filter(|invitation| {
        !targets.contains(&invitation.author) && !invitation.used_by.iter().any(|user| targets.contains(user))
    });
    untouched.map(|invitation| invitation.id).take(KEPT_MAX).collect()
}

fn refused(error: BuildError) -> IdentitiesError {
    IdentitiesError::refused(error.to_string())
}
