//! Rule 9: nobody can fill the graph, so that those who control the identity can always act.
//!
//! - An op of an admin's device has at most [`ADMIN_OPS_MAX`] ops of that device behind it, any other at most
//!   [`DEVICE_OPS_MAX`] (V-ID-22); and a graph takes no more of one device, forks included, unless somebody else who stands
//!   builds on them.
//! - Of [`OPS_MAX`] places the last [`OPS_RESERVED`] are for ops that keep order, by who is an admin now, each device a
//!   few, and for recoveries.
//! - Void ops without consequence make room. The removed, whatever they go on saying with their keys, say only such.
//!
//! What is void is decided by the other rules, which look at everything that is in; so what is thrown out here must be
//! of no consequence to them. Whoever sends it again may: it is taken, and thrown out again if there are too many.

use super::AuthorityGraph;
use super::bits::Bits;
use super::evaluate::Evaluation;
use super::kept::Kept;
use super::nested::names;
use super::nodes::Nodes;
use super::view::unfollowed;
use crate::id::{ControllerId, OpId, Role};
use crate::op::{Op, SignedOp};

/// Most ops of one identity. Chosen: decades of a large group; the ancestor sets then take 32 MiB.
pub const OPS_MAX: usize = 16_384;
/// Places of these that are reserved for ops that keep order. Chosen: removes everybody twice, and more.
pub const OPS_RESERVED: usize = 2_048;
/// Most ops of an admin's device. Chosen: one a day for eleven years, and less than a third of what is not reserved, so that
/// no device and its restored copies can fill that.
pub const ADMIN_OPS_MAX: usize = 4_096;
/// Most ops of any other device. Chosen: a member renews keys, honours invitations, renews its own keys, leaves.
pub const DEVICE_OPS_MAX: usize = 1_024;

/// How much a graph holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) ops: usize,
    pub(super) reserved: usize,
    pub(super) by_admin: usize,
    pub(super) by_device: usize,
    /// Reserved places for each device: so it takes many admins to fill those.
    pub(super) reserved_by_device: usize,
    /// Void ops without consequence that are kept.
    pub(super) loose: usize,
    /// Of more than these nobody is told.
    pub(super) told: usize,
    /// On more than these nobody builds.
    pub(super) built_on: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ops: OPS_MAX,
            reserved: OPS_RESERVED,
            by_admin: ADMIN_OPS_MAX,
            by_device: DEVICE_OPS_MAX,
            // Chosen: two removals, with new keys, for each of 16 who conspire.
            reserved_by_device: 64,
            // Chosen: far more than conflicts of honest devices leave behind.
            loose: 1_024,
            told: 256,
            // Chosen: what a device did before it heard of its removal; it costs something where nobody builds on it.
            built_on: 16,
        }
    }
}

impl Limits {
    const fn general(&self) -> usize {
        self.ops.saturating_sub(self.reserved)
    }

    /// Returns how many ops a device may have behind it.
    pub(super) const fn share(&self, role: Option<Role>) -> usize {
        match role {
            Some(Role::Admin) => self.by_admin,
            _ => self.by_device,
        }
    }
}

impl AuthorityGraph {
    /// Returns the void ops that may be left out: nothing that counts follows them, and nothing rests on them.
    pub(super) fn loose(&mut self) -> Bits {
        let evaluation = self.evaluation();
        self.loose_of(&evaluation)
    }

    /// `evaluation`: of all that is in.
    pub(super) fn loose_of(&self, evaluation: &Evaluation) -> Bits {
        if evaluation.void.set.is_empty() {
            return Bits::new();
        }
        let view = evaluation.view(&self.nodes);
        let matters = |at: usize| {
            let (node, core) = (self.nodes.at(at), self.nodes.at(at).op.core());
            !evaluation.is_void(at)
                || evaluation.pinned.has(at)
                // An epoch that carries others on to somebody, by one who can.
                || (node.dealt.is_some() && view.role(&core.author).is_some())
                // What is named of identities below is named voidly, too.
                || matches!(core.author, ControllerId::Identity(_))
                || !names(core).is_empty()
                // By a renewal that does not count its device's blocks verify all the same.
                || matches!(&core.op, Op::Update(update) if update.keys.is_some())
        };
        let mut needed = Bits::new();
        for at in (0..self.nodes.len()).rev() {
            if !needed.has(at) && matters(at) {
                needed.union(&self.nodes.at(at).past);
                needed.insert(at);
            }
        }
        evaluation.void.set.minus(&needed)
    }

    /// Returns the heads for an op to build on, ascending: but for what is loose, if that is more than a few.
    pub(super) fn heads_to_build_on(&mut self) -> Vec<OpId> {
        if self.evaluation().void.set.len() <= self.nodes.limits.built_on {
            return self.heads();
        }
        let loose = self.loose();
        if loose.len() <= self.nodes.limits.built_on {
            return self.heads();
        }
        let heads = unfollowed(&self.nodes, self.everything().minus(&loose).iter().collect());
        let mut heads: Vec<OpId> = heads.into_iter().map(|at| self.nodes.at(at).id()).collect();
        heads.sort_unstable();
        heads
    }

    /// Returns what nobody is told of, if that is known and there is much of it.
    pub(super) fn untold(&self) -> Bits {
        let Some(evaluation) = &self.evaluated else { return Bits::new() };
        if evaluation.void.set.len() <= self.nodes.limits.told {
            return Bits::new();
        }
        let mut loose = self.loose_of(evaluation);
        if loose.len() <= self.nodes.limits.told {
            loose = Bits::new();
        }
        loose
    }

    /// Throws out void ops without consequence if there are too many of them, or no room otherwise; what `op` builds on
    /// stays.
    pub(super) fn make_room(&mut self, op: &SignedOp) {
        // Those above refer to ops of this graph by index.
        if !self.above.is_empty() || self.nodes.len() < self.looked_at {
            return;
        }
        let full = self.nodes.len() >= self.nodes.limits.general();
        if !full && self.nodes.len() <= self.nodes.limits.loose {
            return;
        }
        let voids = self.evaluation().void.set.len();
        if !full && voids <= self.nodes.limits.loose {
            return;
        }
        // Not again before there may be something.
        let worth = self.nodes.limits.loose.div_ceil(16);
        self.looked_at = self.nodes.len() + if full { 1 } else { worth };
        let kept = self.nodes.past_of(&op.core().auth_parents).unwrap_or_default();
        let loose = self.loose().minus(&kept);
        if loose.len() > if full { 0 } else { self.nodes.limits.loose } {
            self.throw_out(&loose);
        }
    }

    /// Leaves out ops that nothing else builds on.
    fn throw_out(&mut self, loose: &Bits) {
        let mut now_at = Vec::with_capacity(self.nodes.len());
        let mut nodes = Nodes::within(self.nodes.limits);
        let first = loose.iter().next().unwrap_or(usize::MAX);
        for (at, mut node) in std::mem::take(&mut self.nodes).into_all().into_iter().enumerate() {
            now_at.push(nodes.len());
            if loose.has(at) {
                if self.thrown_out.len() < OPS_MAX {
                    self.thrown_out.push(node.id());
                }
                continue;
            }
            node.past = node.past.renumbered(first, &now_at);
            if node.void_in_past.iter().any(|void| void >= first) {
                node.void_in_past = node.void_in_past.renumbered(first, &now_at).into();
            }
            nodes.push(node);
        }
        let heads = unfollowed(&nodes, (0..nodes.len()).collect());
        self.heads = heads.into_iter().map(|at| nodes.at(at).id()).collect();
        self.nodes = nodes;
        self.looked_at = 0;
        (self.current, self.evaluated, self.kept) = (None, None, Kept::default());
        self.folded.clear();
        self.states.clear();
        self.views.clear();
    }

    /// Returns the ops that were thrown out since the last call, to be forgotten on disk if they are not in again; at most
    /// [`OPS_MAX`].
    pub fn take_thrown_out(&mut self) -> Vec<OpId> {
        std::mem::take(&mut self.thrown_out)
    }

    /// Says whether there is room for an op that its author had a right to.
    pub(super) fn has_room(&mut self, op: &SignedOp) -> bool {
        let (len, limits) = (self.nodes.len(), self.nodes.limits);
        if len < limits.general() {
            return true;
        }
        let core = op.core();
        let all = self.nodes.by_device.get(&core.device).map_or(&[][..], Vec::as_slice);
        let reserved = all.len() - all.partition_point(|at| *at < limits.general());
        let keeps_order = matches!(core.op, Op::Recover(_)) || self.keeps_order(op);
        len < limits.ops && ((keeps_order && reserved < limits.reserved_by_device) || self.is_wanted(op, true))
    }

    /// Says whether the graph takes one more op of a device.
    pub(super) fn has_share(&mut self, op: &SignedOp) -> bool {
        if self.made_by(op) < self.nodes.limits.by_device {
            return true;
        }
        let stands = self.evaluation().view(&self.nodes).role(&op.core().author).is_some();
        // Whoever stands may go.
        let goes = matches!(op.core().op, Op::Leave) && stands;
        goes || !self.is_over_share(op) || self.is_wanted(op, false)
    }

    /// Says whether an op is one that keeps order, by who is an admin now.
    fn keeps_order(&mut self, op: &SignedOp) -> bool {
        let kind = matches!(
            op.core().op,
            Op::Remove(_) | Op::SetRole(_) | Op::RevokeInvite(_) | Op::Rekey(_) | Op::Deactivate(_)
        );
        kind && self.evaluation().view(&self.nodes).role(&op.core().author) == Some(Role::Admin)
    }

    fn made_by(&self, op: &SignedOp) -> usize {
        self.nodes.by_device.get(&op.core().device).map_or(0, Vec::len)
    }

    /// Says whether the graph holds as many ops of a device as it may.
    fn is_over_share(&self, op: &SignedOp) -> bool {
        let role = self.evaluated.as_ref().and_then(|found| found.view(&self.nodes).role(&op.core().author));
        self.made_by(op) >= self.nodes.limits.share(role)
    }

    /// Says whether an op waits for room only.
    pub(super) fn is_crowding(&self, op: &SignedOp) -> bool {
        self.is_over_share(op) && self.unknown_parents(op).is_empty()
    }

    /// Says whether something that waits builds on an op, by another device that may act now: then it must enter, or
    /// replicas would never come together. `order`: whether only an op that keeps order will do.
    fn is_wanted(&mut self, op: &SignedOp, order: bool) -> bool {
        let mut wanted = vec![op.id()];
        let mut behind: Vec<OpId> = Vec::new();
        while let Some(next) = wanted.pop() {
            let builds = self.pending.values().filter(|held| held.core().auth_parents.contains(&next));
            let new: Vec<OpId> = builds.map(SignedOp::id).filter(|id| !behind.contains(id)).collect();
            behind.extend(&new);
            wanted.extend(new);
        }
        let held: Vec<SignedOp> = behind.iter().filter_map(|id| self.pending.get(id).cloned()).collect();
        held.iter().any(|held| {
            held.core().device != op.core().device
                && !self.is_over_share(held)
                && (!order || self.keeps_order(held))
                && self.is_by_one_who_stands(held)
        })
    }

    fn is_by_one_who_stands(&mut self, op: &SignedOp) -> bool {
        let core = op.core();
        if self.evaluation().view(&self.nodes).role(&core.author).is_none() {
            return false;
        }
        #[cfg(test)]
        if self.unsigned {
            return true;
        }
        self.device_keys(&core.device).is_some_and(|keys| op.verify(&keys).is_ok())
    }
}
