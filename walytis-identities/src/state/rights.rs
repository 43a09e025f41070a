//! Rules 1, 2 and 7: whether an author had the right to an op under what counted in that op's past.

use super::view::View;
use super::{Rule, VoidReason};
use crate::crypto::verify_ed25519;
use crate::id::{ControllerId, Role};
use crate::op::{Admit, CONTROLLERS_MAX, ControllerRecord, Op, OpCore, Remove, SetRole};
use crate::token::invitation_message;

/// Says whether the op was authorised; `first` when it enters the graph (rule 1), otherwise again with void ops left out
/// (rule 2), where what is only reasonable, not a right, is not asked any more.
pub(super) fn check(core: &OpCore, view: &View<'_>, first: bool) -> Result<(), Rule> {
    let role = view.role(&core.author).ok_or(Rule::NoController)?;
    check_as(core, role, view, first)
}

/// As [`check`], of an author with this role.
pub(super) fn check_as(core: &OpCore, role: Role, view: &View<'_>, first: bool) -> Result<(), Rule> {
    match &core.op {
        Op::Create(_) => Err(Rule::SecondCreate),
        Op::Admit(op) => check_admit(core, op, role, view, first),
        Op::Remove(op) => check_remove(op, role, view, first),
        Op::Rekey(_) => need(role.writes(), Rule::NotWriter),
        Op::Leave if first && role == Role::Admin => need(others_govern(&core.author, view), Rule::LastAdmin),
        Op::Leave => Ok(()),
        Op::SetRole(op) => check_set_role(core, op, role, view, first),
        Op::Invite(_) => need(role == Role::Admin, Rule::NotAdmin),
        Op::RevokeInvite(op) => {
            need(role == Role::Admin, Rule::NotAdmin)?;
            need(view.invite(&op.invite).is_some(), Rule::NoInvitation)
        }
        // Not evaluated yet; whoever stands may have said it, and it is void.
        _ => Ok(()),
    }
}

fn check_admit(core: &OpCore, op: &Admit, role: Role, view: &View<'_>, first: bool) -> Result<(), Rule> {
    let newcomer = op.controller.id();
    if first {
        need(newcomer != core.author && view.standing(&newcomer).is_none(), Rule::AlreadyController)?;
        need(view.controllers().len() < CONTROLLERS_MAX, Rule::ControllersMax)?;
    }
    let Some(proof) = &op.invitation else {
        return need(role == Role::Admin, Rule::NotAdmin);
    };
    need(role.writes(), Rule::NotWriter)?;
    let (at, invite) = view.invite(&proof.invite).ok_or(Rule::NoInvitation)?;
    need(op.role == invite.role, Rule::InvitationRole)?;
    need(op.role != Role::Admin || role == Role::Admin, Rule::NotAdmin)?;
    need(view.revoker(at).is_none(), Rule::InvitationRevoked)?;
    if first {
        let used = view.used_by(&proof.invite);
        let left = invite.uses.is_none_or(|uses| used.len() < uses as usize || used.contains(&newcomer));
        need(left, Rule::InvitationUsedUp)?;
        let ControllerRecord::Device(public) = &op.controller else { return Ok(()) };
        let message = invitation_message(&core.chain, &proof.invite, public, &core.author);
        verify_ed25519(&invite.key, crate::crypto::Label::InvitationProof, &message, &proof.signature)
            .map_err(|_| Rule::InvitationProof)?;
    }
    Ok(())
}

fn check_remove(op: &Remove, role: Role, view: &View<'_>, first: bool) -> Result<(), Rule> {
    let leaving = view.leaving();
    let has_left = |target: &ControllerId| leaving.contains_key(target);
    if first {
        let known = op.targets.iter().all(|target| has_left(target) || view.standing(target).is_some());
        need(known, Rule::NotController)?;
    }
    if role == Role::Admin {
        return Ok(());
    }
    need(role.writes(), Rule::NotWriter)?;
    need(op.targets.iter().all(has_left), Rule::NotAdmin)
}

/// Admins change the roles of others; anybody may give up a part of its own rights.
fn check_set_role(core: &OpCore, op: &SetRole, role: Role, view: &View<'_>, first: bool) -> Result<(), Rule> {
    let own = op.controller == core.author;
    need(own || role == Role::Admin, Rule::NotAdmin)?;
    if !first {
        return Ok(());
    }
    let had = view.role(&op.controller).ok_or(Rule::NotController)?;
    need(had != op.role, Rule::SameRole)?;
    if own {
        need(op.role.is_below(role), Rule::NotAdmin)?;
        need(role != Role::Admin || others_govern(&core.author, view), Rule::LastAdmin)?;
    }
    Ok(())
}

fn others_govern(author: &ControllerId, view: &View<'_>) -> bool {
    view.controllers().iter().any(|(id, standing)| id != author && standing.role == Role::Admin)
}

const fn need(holds: bool, rule: Rule) -> Result<(), Rule> {
    if holds { Ok(()) } else { Err(rule) }
}

/// Returns why an op that is in the format is not evaluated yet, if so.
pub(super) const fn unsupported(op: &Op) -> Option<VoidReason> {
    match op {
        Op::Create(_)
        | Op::Remove(_)
        | Op::SetRole(_)
        | Op::Rekey(_)
        | Op::Leave
        | Op::Invite(_)
        | Op::RevokeInvite(_) => None,
        Op::Admit(admit) => match admit.controller {
            ControllerRecord::Device(_) => None,
            ControllerRecord::Identity { .. } => Some(VoidReason::NotSupported),
        },
        _ => Some(VoidReason::NotSupported),
    }
}
