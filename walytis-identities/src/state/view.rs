//! A set of ops of which some do not count, and what follows from the rest.

use std::collections::BTreeMap;

use super::bits::Bits;
use super::nodes::{Node, Nodes, Order};
use crate::id::{ControllerId, DeviceId, OpId, Role};
use crate::op::{ControllerRecord, Invite, Op};

/// The ops of `set` that count.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) nodes: &'a Nodes,
    pub(super) set: &'a Bits,
    pub(super) void: &'a Bits,
    /// Void as well, unless accepted.
    pub(super) void_in_past: &'a Bits,
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
        let left_out = || self.void_in_past.has(at) && !self.accepted.has(at);
        self.set.has(at) && !self.void.has(at) && !left_out()
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
        let standing = self.unfollowed(given).into_iter().filter_map(|at| {
            let node = self.nodes.at(at);
            Some(Standing { role: role_given(node, controller)?, since, rank: rank_given(node, controller) })
        });
        standing.reduce(|one, other| Standing {
            role: one.role.lesser(other.role),
            since,
            rank: one.rank.min(other.rank),
        })
    }

    /// Returns the admissions by which a controller stands: those that follow all endings and every recovery.
    pub(super) fn entitling(&self, controller: &ControllerId) -> impl Iterator<Item = usize> {
        let endings = self.counting(self.nodes.endings.get(controller)).collect();
        self.admissions_after(controller, endings)
    }

    /// Returns the admissions of a controller that follow these endings of its control and every recovery.
    fn admissions_after(&self, controller: &ControllerId, endings: Bits) -> impl Iterator<Item = usize> {
        let view = *self;
        let recoveries: Vec<usize> = self.counting(Some(&self.nodes.recoveries)).collect();
        self.counting(self.nodes.admits.get(controller)).filter(move |admit| {
            let past = &view.nodes.at(*admit).past;
            past.holds(&endings) && recoveries.iter().all(|recovery| recovery == admit || past.has(*recovery))
        })
    }

    pub(super) fn role(&self, controller: &ControllerId) -> Option<Role> {
        self.standing(controller).map(|standing| standing.role)
    }

    /// Returns every controller that stands.
    pub(super) fn controllers(&self) -> BTreeMap<ControllerId, Standing> {
        self.nodes.admits.keys().filter_map(|id| self.standing(id).map(|standing| (*id, standing))).collect()
    }

    /// Returns who would stand but for having left, with the leave; of several the first in authority order. A removal
    /// beside the leave settles it, unless somebody who had not heard of the leave let the removed in again.
    pub(super) fn leaving(&self) -> BTreeMap<ControllerId, usize> {
        let leave_of = |controller: &ControllerId| {
            let is_leave = |at: &usize| matches!(self.nodes.at(*at).kind(), Op::Leave);
            let (leaves, endings): (Vec<usize>, Vec<usize>) =
                self.counting(self.nodes.endings.get(controller)).partition(is_leave);
            let entitling: Vec<usize> = self.admissions_after(controller, endings.into_iter().collect()).collect();
            let keeps_out = |leave: &usize| entitling.iter().any(|admit| !self.nodes.at(*admit).past.has(*leave));
            let leave = leaves.into_iter().filter(keeps_out).min_by_key(|at| self.nodes.at(*at).order())?;
            self.standing(controller).is_none().then_some(leave)
        };
        self.nodes.endings.keys().filter_map(|id| leave_of(id).map(|leave| (*id, leave))).collect()
    }

    /// Returns the recovery in force: the last of the chain.
    pub(super) fn recovered(&self) -> Option<usize> {
        let counting = self.counting(Some(&self.nodes.recoveries));
        counting.max_by_key(|at| (self.nodes.at(*at).recoveries, std::cmp::Reverse(self.nodes.at(*at).id())))
    }

    /// Returns the digest of the recovery key in force.
    pub(super) fn recovery_digest(&self) -> Option<[u8; 32]> {
        let at = self.recovered().or_else(|| self.set.iter().next())?;
        match self.nodes.at(at).kind() {
            Op::Recover(op) => op.next_recovery,
            Op::Create(op) => op.recovery,
            _ => None,
        }
    }

    /// Returns the counting op that ended the identity, unless it was recovered since; of several the lowest id.
    pub(super) fn deactivated(&self) -> Option<usize> {
        let recovered = self.recovered();
        let ended = self
            .counting(Some(&self.nodes.deactivations))
            .filter(|at| !recovered.is_some_and(|recovery| self.nodes.at(recovery).past.has(*at)));
        ended.min_by_key(|at| self.nodes.at(*at).id())
    }

    /// Returns the counting op that gave the document its services: of several that none follows the lowest id.
    pub(super) fn document(&self) -> Option<usize> {
        self.latest(Some(&self.nodes.documents))
    }

    /// Returns the counting op that gave a device its keys in force, if they are not its first.
    pub(super) fn update(&self, device: &DeviceId) -> Option<usize> {
        self.latest(self.nodes.updates.get(device))
    }

    /// Returns every op by which a device renewed its keys, void ones too.
    pub(super) fn updates(&self, device: &DeviceId) -> impl Iterator<Item = usize> {
        let all = self.nodes.updates.get(device).into_iter().flatten().copied();
        all.filter(|at| self.set.has(*at))
    }

    fn latest(&self, indices: Option<&'a Vec<usize>>) -> Option<usize> {
        let latest = self.unfollowed(self.counting(indices).collect());
        latest.into_iter().min_by_key(|at| self.nodes.at(*at).id())
    }

    /// Returns those of some ops that no other one of them follows, the last to enter first.
    fn unfollowed(&self, ops: Vec<usize>) -> Vec<usize> {
        unfollowed(self.nodes, ops)
    }

    /// Returns every op that gave a controller a role, with the rank that it gave.
    pub(super) fn ranks(&self, controller: &ControllerId) -> impl Iterator<Item = (usize, Order)> {
        let (nodes, of) = (self.nodes, *controller);
        let given = self.counting(nodes.admits.get(controller)).chain(self.counting(nodes.roles.get(controller)));
        given.map(move |at| (at, rank_given(nodes.at(at), &of)))
    }

    /// Says whether a recovery, or a removal by a senior of this rank, follows an op that gave a controller this rank:
    /// nothing that the controller says beside that comes to anything.
    pub(super) fn is_cut_off(&self, controller: &ControllerId, given: usize, rank: Order) -> bool {
        let ends = |at: usize| {
            let node = self.nodes.at(at);
            matches!(node.kind(), Op::Remove(_)) && node.rank < rank && node.past.has(given)
        };
        self.counting(Some(&self.nodes.recoveries)).any(|at| self.nodes.at(at).past.has(given))
            || self.counting(self.nodes.endings.get(controller)).any(ends)
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
        self.counting(Some(&self.nodes.revokers)).find(|at| self.revokes(*at, invite))
    }

    /// Says whether a counting op revokes an invitation: a revocation the one it names; a recovery, and a removal by an admin,
    /// every one that does not follow it and that it does not list as kept; an `Update` those that devices know which it shows as
    /// removed. Anybody may put on record who has left, even one
    /// who is removed beside that; to revoke is more, and nothing that such a one may do.
    pub(super) fn revokes(&self, revoker: usize, invite: usize) -> bool {
        let node = self.nodes.at(revoker);
        let id = self.nodes.at(invite).id();
        let all_but = |kept: &[OpId]| !kept.contains(&id) && !self.nodes.at(invite).past.has(revoker);
        match node.kind() {
            Op::RevokeInvite(op) => op.invite == id,
            Op::Remove(op) => {
                node.by_admin && all_but(&op.kept) && !(node.concludes && self.takings_beside(revoker).next().is_some())
            }
            Op::Recover(op) => all_but(&op.kept),
            Op::Update(_) => all_but(&[]) && is_known_to_gone(self.nodes, revoker, invite),
            _ => false,
        }
    }

    /// Returns the counting ops that take rights from an op's author, beside it.
    pub(super) fn takings_beside(&self, at: usize) -> impl Iterator<Item = usize> {
        let (view, author) = (*self, self.nodes.at(at).author());
        let changes = self.nodes.endings.get(&author).into_iter().chain(self.nodes.roles.get(&author)).flatten();
        let taking = changes.copied().filter(move |other| view.counts(*other) && view.nodes.at(*other).takes_away());
        taking.filter(move |other| view.nodes.concurrent(at, *other))
    }

    /// Returns who was admitted by an invitation.
    pub(super) fn used_by(&self, invite: &OpId) -> Vec<ControllerId> {
        let mut users: Vec<_> = self
            .counting(self.nodes.uses.get(invite))
            .filter_map(|at| self.nodes.at(at).honours())
            .map(|(_, user)| user)
            .collect();
        users.sort_unstable();
        users.dedup();
        users
    }
}

/// Says whether a device that an `Update` shows as removed knows the seed of an invitation, having made or used it.
fn is_known_to_gone(nodes: &Nodes, update: usize, invite: usize) -> bool {
    let (update, made) = (nodes.at(update), nodes.at(invite));
    let gone = |author, device: &DeviceId| update.author() == author && update.retires.contains(device);
    let mut uses = nodes.uses.get(&made.id()).into_iter().flatten().copied().filter(|at| update.past.has(*at));
    gone(made.author(), &made.op.core().device)
        || uses.any(|at| match nodes.at(at).kind() {
            Op::Admit(admit) => match &admit.controller {
                ControllerRecord::Identity { did, device, .. } => gone(ControllerId::Identity(*did), device),
                ControllerRecord::Device(_) => false,
            },
            _ => false,
        })
}

/// Returns those of some ops that no other one of them follows, the last to enter first.
pub(super) fn unfollowed(nodes: &Nodes, mut ops: Vec<usize>) -> Vec<usize> {
    ops.sort_unstable_by_key(|at| std::cmp::Reverse(*at));
    ops.dedup();
    let mut covered = Bits::new();
    ops.retain(|at| {
        // What lies in the past of a covered op is covered, too.
        let last = !covered.has(*at);
        if last {
            covered.union(&nodes.at(*at).past);
        }
        last
    });
    ops
}

/// Returns the rank that an op gives to whom it is about. Who recovers the identity ranks as a founder: of those it lists
/// none is its senior.
fn rank_given(node: &Node, to: &ControllerId) -> Order {
    let founds = matches!(node.kind(), Op::Recover(_)) && node.author() == *to;
    if founds { (0, node.id()) } else { node.order() }
}

/// Returns the role that an op gives to whom it is about.
fn role_given(node: &Node, to: &ControllerId) -> Option<Role> {
    match node.kind() {
        Op::SetRole(op) => Some(op.role),
        _ => node.role_of(to),
    }
}
