//! Rules 1, 2 and 7: whether an author had the right to an op under what counted in that op's past.

use super::Rule;
use super::view::View;
use crate::crypto::verify_ed25519;
use crate::id::{ControllerId, Role};
use crate::op::{Admit, CONTROLLERS_MAX, Op, OpCore, Recover, Remove, SetRole, Update};
use crate::recovery::recovery_digest;
use crate::token::invitation_message;

/// Says whether the op was authorised; `first` when it enters the graph (rule 1), otherwise again with void ops left out
/// (rule 2), where what is only reasonable, not a right, is not asked any more.
pub(super) fn check(core: &OpCore, view: &View<'_>, first: bool) -> Result<(), Rule> {
    if let Op::Recover(op) = &core.op {
        return check_recover(core, op, view, first);
    }
    let role = view.role(&core.author).ok_or(Rule::NoController)?;
    need(!first || view.deactivated().is_none(), Rule::Deactivated)?;
    need(
        !first || matches!(core.op, Op::Leave) || ops_behind(core, view) < view.nodes.limits.share(Some(role)),
        Rule::DeviceOps,
    )?;
    check_as(core, role, view, first)
}

/// Rule 9: how many ops of the device the op knows of.
fn ops_behind(core: &OpCore, view: &View<'_>) -> usize {
    let own = view.nodes.by_device.get(&core.device).into_iter().flatten();
    own.filter(|at| view.set.has(**at)).count()
}

/// As [`check`], of an author with this role.
pub(super) fn check_as(core: &OpCore, role: Role, view: &View<'_>, first: bool) -> Result<(), Rule> {
    check_device(core, view)?;
    match &core.op {
        Op::Create(_) => Err(Rule::SecondCreate),
        Op::Admit(op) => check_admit(core, op, role, view, first),
        Op::Remove(op) => check_remove(op, role, view, first),
        Op::Rekey(_) => need(role.writes(), Rule::NotWriter),
        Op::Leave if first && role == Role::Admin => need(others_govern(&core.author, view), Rule::LastAdmin),
        Op::Leave => Ok(()),
        Op::SetRole(op) => check_set_role(core, op, role, view, first),
        Op::Invite(_) | Op::Document(_) | Op::Deactivate(_) => need(role == Role::Admin, Rule::NotAdmin),
        Op::Update(op) => check_update(core, op),
        Op::RevokeInvite(op) => {
            need(role == Role::Admin, Rule::NotAdmin)?;
            need(view.invite(&op.invite).is_some(), Rule::NoInvitation)
        }
        Op::Introduce(_) => need(matches!(core.author, ControllerId::Identity(_)), Rule::NestedDevice),
        Op::Recover(op) => check_recover(core, op, view, first),
    }
}

/// Rule 10: whoever acts for an identity has shown itself. That it is a device of the identity is checked with the
/// signature.
fn check_device(core: &OpCore, view: &View<'_>) -> Result<(), Rule> {
    match &core.author {
        ControllerId::Identity(did) if !matches!(core.op, Op::Introduce(_)) => {
            need(view.introductions(did).any(|(_, device)| device == core.device), Rule::NestedDevice)
        }
        _ => Ok(()),
    }
}

fn check_admit(core: &OpCore, op: &Admit, role: Role, view: &View<'_>, first: bool) -> Result<(), Rule> {
    // A digest of its keys, asked for once.
    let newcomer = first.then(|| op.controller.id());
    if let Some(newcomer) = newcomer {
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
    if let Some(newcomer) = newcomer {
        let used = view.used_by(&proof.invite);
        let left = invite.uses.is_none_or(|uses| used.len() < uses as usize || used.contains(&newcomer));
        need(left, Rule::InvitationUsedUp)?;
        #[cfg(test)]
        if view.nodes.proved {
            return Ok(());
        }
        let message = invitation_message(&core.chain, &proof.invite, &op.controller, &core.author);
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

/// A device renews its own keys; heads are an identity's to name.
fn check_update(core: &OpCore, op: &Update) -> Result<(), Rule> {
    match core.author {
        ControllerId::Device(_) => need(op.keys.is_some() && op.as_of.is_empty(), Rule::UpdateKeys),
        ControllerId::Identity(_) => need(op.keys.is_none() && !op.as_of.is_empty(), Rule::UpdateKeys),
    }
}

/// Whoever holds the recovery key needs no right in the op's past. It lists devices that are known there, and its own.
fn check_recover(core: &OpCore, op: &Recover, view: &View<'_>, first: bool) -> Result<(), Rule> {
    need(view.recovery_digest() == Some(recovery_digest(&op.recovery_key)), Rule::RecoveryKey)?;
    if !first {
        return Ok(());
    }
    let known = |id: &ControllerId| view.nodes.admits.get(id).is_some_and(|all| all.iter().any(|at| view.set.has(*at)));
    let listed = op.controllers.iter().map(|(record, role)| (record.id(), *role));
    need(listed.clone().any(|own| own == (core.author, Role::Admin)), Rule::RecoveryList)?;
    need(listed.map(|(id, _)| id).all(|id| id == core.author || known(&id)), Rule::RecoveryList)
}

fn others_govern(author: &ControllerId, view: &View<'_>) -> bool {
    view.controllers().iter().any(|(id, standing)| id != author && standing.role == Role::Admin)
}

const fn need(holds: bool, rule: Rule) -> Result<(), Rule> {
    if holds { Ok(()) } else { Err(rule) }
}
