//! A set of ops of which some do not count, and what follows from the rest.

use std::collections::BTreeMap;

use super::VoidReason;
use super::bits::Bits;
use super::nodes::{Nodes, Order};
use crate::id::{ControllerId, OpId, Role};
use crate::op::{Invite, Op};

/// The ops of `set` that count.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) nodes: &'a Nodes,
    pub(super) set: &'a Bits,
    /// By op index; beyond its end nothing is void.
    pub(super) void: &'a [Option<VoidReason>],
    /// Void as well, ascending, unless accepted.
    pub(super) void_in_past: &'a [usize],
    /// Removals and revocations that were accepted for good.
    pub(super) accepted: &'a Bits,
}

/// How a controller stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) role: Role,
    /// Index of the op that admitted it; the earliest if there are several.
    pub(super) since: usize,
    /// Authority order of what gave it its role; the earliest if there are several.
    pub(super) rank: Order,
}

impl<'a> View<'a> {
    pub(super) fn counts(&self, at: usize) -> bool {
        let left_out = || self.void_in_past.binary_search(&at).is_ok() && !self.accepted.has(at);
        self.set.has(at) && self.void.get(at).is_none_or(Option::is_none) && !left_out()
    }

    fn counting(&self, indices: Option<&'a Vec<usize>>) -> impl Iterator<Item = usize> + Clone {
        let view = *self;
        indices.into_iter().flatten().copied().filter(move |at| view.counts(*at))
    }

    /// A controller stands by every admission that follows all endings of its control (rule 6: removal wins over a
    /// concurrent admission). Its role is the least of those that were given to it and that nothing given later replaces.
    pub(super) fn standing(&self, controller: &ControllerId) -> Option<Standing> {
        let admitted: Vec<usize> = self.entitling(controller).collect();
        let since = admitted.iter().copied().min_by_key(|at| self.nodes.at(*at).order())?;
        let mut given = admitted;
        given.extend(self.counting(self.nodes.roles.get(controller)));
        let replaced = |at: &usize| given.iter().any(|later| self.nodes.at(*later).past.has(*at));
        let standing = given.iter().filter(|at| !replaced(at)).filter_map(|at| {
            let node = self.nodes.at(*at);
            Some(Standing { role: role_given(node.kind())?, since, rank: node.order() })
        });
        standing.reduce(|one, other| Standing {
            role: one.role.lesser(other.role),
            since,
            rank: one.rank.min(other.rank),
        })
    }

    /// Returns the admissions by which a controller stands.
    pub(super) fn entitling(&self, controller: &ControllerId) -> impl Iterator<Item = usize> {
        let view = *self;
        let endings = self.counting(self.nodes.endings.get(controller));
        self.counting(self.nodes.admits.get(controller))
            .filter(move |admit| endings.clone().all(|ending| view.nodes.at(*admit).past.has(ending)))
    }

    pub(super) fn role(&self, controller: &ControllerId) -> Option<Role> {
        self.standing(controller).map(|standing| standing.role)
    }

    /// Returns every controller that stands.
    pub(super) fn controllers(&self) -> BTreeMap<ControllerId, Standing> {
        self.nodes.admits.keys().filter_map(|id| self.standing(id).map(|standing| (*id, standing))).collect()
    }

    pub(super) fn has_admin(&self) -> bool {
        self.nodes.admits.keys().any(|id| self.role(id) == Some(Role::Admin))
    }

    /// Returns who has left and was not removed since, with the leave.
    pub(super) fn leaving(&self) -> BTreeMap<ControllerId, usize> {
        let leave_of = |controller: &ControllerId| {
            let mut endings = self.counting(self.nodes.endings.get(controller));
            let leave = endings.clone().find(|at| matches!(self.nodes.at(*at).kind(), Op::Leave))?;
            let removed = endings
                .any(|at| matches!(self.nodes.at(at).kind(), Op::Remove(_)) && !self.nodes.at(leave).past.has(at));
            let gone = self.standing(controller).is_none() && !removed;
            gone.then_some(leave)
        };
        self.nodes.endings.keys().filter_map(|id| leave_of(id).map(|leave| (*id, leave))).collect()
    }

    /// Returns a counting invitation.
    pub(super) fn invite(&self, id: &OpId) -> Option<(usize, &'a Invite)> {
        let at = self.nodes.find(id).filter(|at| self.counts(*at))?;
        match self.nodes.at(at).kind() {
            Op::Invite(invite) => Some((at, invite)),
            _ => None,
        }
    }

    /// Returns the counting op that revokes an invitation, if any.
    pub(super) fn revoker(&self, invite: usize) -> Option<usize> {
        self.counting(Some(&self.nodes.revokers)).find(|at| revokes(self.nodes, *at, invite))
    }

    /// Returns who was admitted by an invitation.
    pub(super) fn used_by(&self, invite: &OpId) -> Vec<ControllerId> {
        let mut users: Vec<_> = self
            .counting(self.nodes.uses.get(invite))
            .filter_map(|at| match self.nodes.at(at).kind() {
                Op::Admit(op) => Some(op.controller.id()),
                _ => None,
            })
            .collect();
        users.sort_unstable();
        users.dedup();
        users
    }
}

/// Says whether an op revokes an invitation: a revocation the one it names, a removal every one that does not follow it
/// and that it does not list as kept.
pub(super) fn revokes(nodes: &Nodes, revoker: usize, invite: usize) -> bool {
    let id = nodes.at(invite).id();
    match nodes.at(revoker).kind() {
        Op::RevokeInvite(op) => op.invite == id,
        Op::Remove(op) => !op.kept.contains(&id) && !nodes.at(invite).past.has(revoker),
        _ => false,
    }
}

/// Returns the role that an op gives to whom it is about.
fn role_given(op: &Op) -> Option<Role> {
    match op {
        Op::Create(_) => Some(Role::Admin),
        Op::Admit(op) => Some(op.role),
        Op::SetRole(op) => Some(op.role),
        _ => None,
    }
}
