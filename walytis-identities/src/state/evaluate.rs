//! Rules 2, 3, 4 and 7 over a set of ops: which of them are void.
//!
//! Five passes, each in a fixed order that depends on the ops alone, so that every replica with the same set comes to
//! the same end: recoveries, longest chain first; removals and demotions by rank, revocations by rank, over-use by rank, leaves and self-demotions junior
//! first. After each change voidness cascades.

use std::cmp::Reverse;

use super::VoidReason;
use super::bits::Bits;
use super::nested::Named;
use super::nodes::{Node, Nodes};
use super::rights;
use super::view::{View, revokes};
use crate::id::{ControllerId, OpId};
use crate::op::{Op, Remove, SetRole};

/// The outcome for one set.
#[derive(Clone, Debug, Default)]
pub(super) struct Evaluation {
    pub(super) set: Bits,
    pub(super) void: Vec<Option<VoidReason>>,
    pub(super) accepted: Bits,
    /// All that the set names of identities below.
    pub(super) named: Named,
}

impl Evaluation {
    /// Takes in an op that has the whole set in its past and was authorised there. Only where all ops count so far: then
    /// nothing is concurrent with it, it voids nothing and nothing voids it. Returns whether it could.
    pub(super) fn append(&mut self, at: usize, node: &Node) -> bool {
        // What newly named ops of an identity below end may lie anywhere.
        if node.named != self.named {
            return false;
        }
        if self.void.iter().any(Option::is_some) {
            return false;
        }
        self.set.insert(at);
        self.void.resize(at + 1, None);
        if takes_away(node) || matches!(node.kind(), Op::RevokeInvite(_) | Op::Recover(_)) {
            self.accepted.insert(at);
        }
        true
    }

    /// Says whether an op of the set is void.
    pub(super) fn is_void(&self, at: usize) -> bool {
        self.void.get(at).is_some_and(Option::is_some)
    }

    /// Returns the counting ops of the set.
    pub(super) fn view<'a>(&'a self, nodes: &'a Nodes) -> View<'a> {
        View { nodes, set: &self.set, void: &self.void, void_in_past: &[], accepted: &self.accepted }
    }
}

/// Decides which ops of `set`, which holds all ancestors of its members, are void.
/// `nested`: what is void for what happened inside identities below, which `named` shows.
pub(super) fn evaluate(nodes: &Nodes, set: Bits, named: Named, nested: &[(usize, VoidReason)]) -> Evaluation {
    let mut members: Vec<usize> = set.iter().collect();
    let void = vec![None; nodes.len()];
    let outcome = Evaluation { set, void, accepted: Bits::default(), named };
    // Senior authors first, then authority order.
    let by_rank = |at: &usize| (nodes.at(*at).rank, nodes.at(*at).order());
    let disagree = members.iter().any(|at| !nodes.at(*at).void_in_past.is_empty());
    let mut pass = Pass { nodes, members: members.clone(), outcome, disagree };
    for (at, reason) in nested {
        pass.set_void(*at, *reason);
    }
    pass.settle(!nested.is_empty());
    members.sort_by_key(by_rank);
    let ordered = |wanted: fn(&Node) -> bool| members.iter().copied().filter(move |at| wanted(nodes.at(*at)));
    let mut recoveries: Vec<usize> = ordered(|node| node.recoveries > 0).collect();
    recoveries.sort_by_key(|at| (Reverse(nodes.at(*at).recoveries), nodes.at(*at).id()));
    for at in recoveries {
        pass.accept_recovery(at);
    }
    // Of equal precedence what follows a leave comes first: its author ranks below the one who left.
    let mut taking: Vec<usize> = ordered(takes_away).collect();
    taking.sort_by_key(|at| {
        let node = nodes.at(*at);
        (node.precedence, node.precedence == node.rank, node.order())
    });
    for at in taking {
        match nodes.at(at).kind() {
            Op::Remove(op) => pass.accept_removal(at, op),
            Op::SetRole(op) => pass.accept_demotion(at, op),
            _ => {}
        }
    }
    for at in ordered(|node| matches!(node.kind(), Op::RevokeInvite(_))) {
        pass.accept_revocation(at);
    }
    pass.void_overuse(&members);
    pass.void_last_leaves(ordered(gives_up).collect());
    pass.outcome
}

/// Says whether an op takes rights from somebody else: a removal or a demotion.
fn takes_away(node: &Node) -> bool {
    match node.kind() {
        Op::Remove(_) => true,
        Op::SetRole(op) => node.demotes && op.controller != node.author(),
        _ => false,
    }
}

/// Says whether its author gives up rights of its own.
fn gives_up(node: &Node) -> bool {
    match node.kind() {
        Op::Leave => true,
        Op::SetRole(op) => op.controller == node.author(),
        _ => false,
    }
}

struct Pass<'a> {
    nodes: &'a Nodes,
    /// Parents first.
    members: Vec<usize>,
    outcome: Evaluation,
    /// Whether some op judged its own past otherwise than a plain reading would: then every acceptance may matter.
    disagree: bool,
}

impl Pass<'_> {
    fn counts(&self, at: usize) -> bool {
        self.outcome.view(self.nodes).counts(at)
    }

    /// Rule 3: a recovery that is not void when reached is accepted for good and voids everything beside it.
    fn accept_recovery(&mut self, recovery: usize) {
        if !self.counts(recovery) {
            return;
        }
        self.outcome.accepted.insert(recovery);
        let beside =
            |at: &usize| self.counts(*at) && !self.outcome.accepted.has(*at) && self.nodes.concurrent(recovery, *at);
        let voided: Vec<usize> = self.members.iter().copied().filter(beside).collect();
        for at in voided.iter().copied() {
            self.set_void(at, VoidReason::RecoveredBeside { recovery: self.nodes.at(recovery).id() });
        }
        self.settle(!voided.is_empty());
    }

    /// Rule 3: a removal that is not void when reached is accepted for good and voids what its targets did beside it.
    fn accept_removal(&mut self, removal: usize, op: &Remove) {
        if !self.counts(removal) {
            return;
        }
        self.outcome.accepted.insert(removal);
        let voided: Vec<usize> = op.targets.iter().flat_map(|target| self.beside(removal, target)).collect();
        for at in voided.iter().copied() {
            self.set_void(at, VoidReason::RemovedBeside { removal: self.nodes.at(removal).id() });
        }
        let revoked = self.void_uses_beside(removal);
        self.settle(!voided.is_empty() || revoked);
    }

    /// Rule 3 for demotions: of what the target did beside it, void is what needs more than the role that it is left with.
    fn accept_demotion(&mut self, demotion: usize, op: &SetRole) {
        if !self.counts(demotion) {
            return;
        }
        self.outcome.accepted.insert(demotion);
        let too_much = |at: &usize| {
            let node = self.nodes.at(*at);
            let view = self.past_view(node);
            let role = view.role(&node.author()).map_or(op.role, |role| role.lesser(op.role));
            rights::check_as(node.op.core(), role, &view, false).is_err()
        };
        let voided: Vec<usize> = self.beside(demotion, &op.controller).into_iter().filter(too_much).collect();
        for at in voided.iter().copied() {
            self.set_void(at, VoidReason::DemotedBeside { demotion: self.nodes.at(demotion).id() });
        }
        self.settle(!voided.is_empty());
    }

    /// Returns what the target did beside an op that takes rights from it, except what was accepted before, and except
    /// what the op's author had built on.
    fn beside(&self, taking: usize, target: &ControllerId) -> Vec<usize> {
        let author = self.nodes.at(taking).author();
        let theirs = self.nodes.by_author.get(target).into_iter().flatten().copied();
        let beside = theirs.filter(|at| {
            self.counts(*at)
                && !self.outcome.accepted.has(*at)
                && self.nodes.concurrent(taking, *at)
                && !self.had_accepted(&author, taking, *at)
        });
        beside.collect()
    }

    /// Says whether the remover had seen the op and built on it, elsewhere than after the removal.
    fn had_accepted(&self, remover: &ControllerId, removal: usize, at: usize) -> bool {
        self.nodes.by_author.get(remover).into_iter().flatten().any(|own| {
            let node = self.nodes.at(*own);
            *own != removal && self.counts(*own) && !node.past.has(removal) && node.past.has(at)
        })
    }

    /// Rule 7: an admission beside a revocation of its invitation is void.
    fn accept_revocation(&mut self, revocation: usize) {
        if !self.counts(revocation) {
            return;
        }
        self.outcome.accepted.insert(revocation);
        let revoked = self.void_uses_beside(revocation);
        self.settle(revoked);
    }

    fn void_uses_beside(&mut self, revoker: usize) -> bool {
        let mut voided = Vec::new();
        for (invite, uses) in &self.nodes.uses {
            let Some(invite) = self.nodes.find(invite).filter(|at| revokes(self.nodes, revoker, *at)) else { continue };
            let beside = |at: &usize| self.counts(*at) && self.nodes.concurrent(revoker, *at);
            voided.extend(uses.iter().copied().filter(beside).map(|at| (at, self.nodes.at(invite).id())));
        }
        for (at, invite) in voided.iter().copied() {
            self.set_void(at, VoidReason::RevokedBeside { invite });
        }
        !voided.is_empty()
    }

    /// Rule 7: uses beyond the number allowed are void, by rank of the honouring author. `by_rank`: all members.
    fn void_overuse(&mut self, by_rank: &[usize]) {
        let mut invites: Vec<usize> = self.nodes.uses.keys().filter_map(|id| self.nodes.find(id)).collect();
        invites.sort_by_key(|at| self.nodes.at(*at).order());
        for at in invites {
            let Op::Invite(invite) = self.nodes.at(at).kind() else { continue };
            let Some(uses) = invite.uses else { continue };
            let id = self.nodes.at(at).id();
            let mut users: Vec<ControllerId> = Vec::new();
            let mut any = false;
            for admit in by_rank.iter().copied() {
                if !self.counts(admit) {
                    continue;
                }
                let Some(user) = uses_invitation(self.nodes.at(admit).kind(), &id) else { continue };
                if users.contains(&user) {
                    continue;
                }
                if users.len() < uses as usize {
                    users.push(user);
                } else {
                    self.set_void(admit, VoidReason::UsedUp { invite: id });
                    any = true;
                }
            }
            self.settle(any);
        }
    }

    /// Rule 4: leaves and self-demotions come last, junior first; one that would leave no admin is void.
    fn void_last_leaves(&mut self, mut leaves: Vec<usize>) {
        leaves.retain(|at| self.counts(*at));
        leaves.sort_by_key(|at| Reverse((self.nodes.at(*at).rank, self.nodes.at(*at).order())));
        let mut trial = self.outcome.clone();
        for at in leaves.iter().copied() {
            set(&mut trial.void, at, Some(VoidReason::LastAdmin));
        }
        let mut any = false;
        for at in leaves {
            let governed = trial.view(self.nodes).has_admin();
            set(&mut trial.void, at, None);
            if governed && !trial.view(self.nodes).has_admin() {
                set(&mut trial.void, at, Some(VoidReason::LastAdmin));
                self.set_void(at, VoidReason::LastAdmin);
                any = true;
            }
        }
        self.settle(any);
    }

    /// Returns the past of an op with everything left out that is void now.
    fn past_view<'a>(&'a self, node: &'a Node) -> View<'a> {
        View {
            nodes: self.nodes,
            set: &node.past,
            void: &self.outcome.void,
            void_in_past: &node.void_in_past,
            accepted: &self.outcome.accepted,
        }
    }

    fn set_void(&mut self, at: usize, reason: VoidReason) {
        set(&mut self.outcome.void, at, Some(reason));
    }

    /// Rule 2: authorisation is evaluated again with void ops left out; what was accepted for good stays.
    fn settle(&mut self, changed: bool) {
        if !changed && !self.disagree {
            return;
        }
        for at in self.members.clone() {
            let node = self.nodes.at(at);
            if matches!(node.kind(), Op::Create(_)) || self.outcome.accepted.has(at) || !self.counts(at) {
                continue;
            }
            if let Err(rule) = rights::check(node.op.core(), &self.past_view(node), false) {
                self.set_void(at, VoidReason::Unfounded { rule });
            }
        }
    }
}

fn uses_invitation(op: &Op, invite: &OpId) -> Option<ControllerId> {
    match op {
        Op::Admit(admit) if admit.invitation.as_ref().is_some_and(|proof| proof.invite == *invite) => {
            Some(admit.controller.id())
        }
        _ => None,
    }
}

fn set(void: &mut [Option<VoidReason>], at: usize, reason: Option<VoidReason>) {
    if let Some(entry) = void.get_mut(at) {
        *entry = reason;
    }
}
