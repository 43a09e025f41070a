//! Rules 2, 3, 4 and 7 over a set of ops: which of them are void.
//!
//! Five passes, each in a fixed order that depends on the ops alone, so that every replica with the same set comes to
//! the same end: recoveries, longest chain first; removals and demotions by rank; revocations by rank; over-use by rank;
//! leaves and self-demotions junior first. After each change voidness cascades.
//!
//! **Base.** What the members of a set that all its other members follow amount to does not change with those: nothing of
//! them stands beside it, each of them was authorised under exactly it, and where rank alone would let them come first
//! (uses, leaves) what they know of comes before them. So a set is evaluated from the outcome for any such *base* of it,
//! and only the rest is looked at. `random_tests` and the model hold this against the evaluation from nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::VoidReason;
use super::bits::Bits;
use super::nested::Named;
use super::nodes::{Node, Nodes, Order};
use super::rights;
use super::view::View;
use crate::id::{ControllerId, OpId, Role};
use crate::op::{Op, Remove, SetRole};

/// What does not count, and why. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Voids {
    /// By op index.
    pub(super) set: Arc<Bits>,
    pub(super) reasons: Arc<BTreeMap<usize, VoidReason>>,
}

impl Voids {
    fn insert(&mut self, at: usize, reason: VoidReason) {
        Arc::make_mut(&mut self.set).insert(at);
        Arc::make_mut(&mut self.reasons).insert(at, reason);
    }
}

/// The outcome for one set.
#[derive(Clone, Debug, Default)]
pub(super) struct Evaluation {
    pub(super) set: Bits,
    pub(super) void: Voids,
    /// Recoveries, removals, demotions and revocations that were accepted for good.
    pub(super) accepted: Bits,
    /// Void ops that matter all the same: while they counted they decided about others.
    pub(super) pinned: Bits,
    /// All that the set names of identities below.
    pub(super) named: Named,
}

/// No op at all.
static NOTHING: Bits = Bits::new();

impl Evaluation {
    /// Says whether an op of the set is void.
    pub(super) fn is_void(&self, at: usize) -> bool {
        self.void.set.has(at)
    }

    /// Returns the counting ops of the set.
    pub(super) fn view<'a>(&'a self, nodes: &'a Nodes) -> View<'a> {
        View { nodes, set: &self.set, void: &self.void.set, void_in_past: &NOTHING, accepted: &self.accepted }
    }

    /// Says whether this is the outcome for a base of `set`, which names `named`: whether it lies in `set` and everything
    /// else there follows all of it.
    pub(super) fn is_base_of(&self, nodes: &Nodes, set: &Bits, named: &Named) -> bool {
        // What newly named ops of an identity below end may lie anywhere.
        self.named == *named
            && set.holds(&self.set)
            && set.minus(&self.set).iter().all(|at| nodes.at(at).past.holds(&self.set))
    }
}

/// Decides which ops of `set`, which holds all ancestors of its members, are void.
/// `base`: the outcome for a base of it, or for nothing. `nested`: what of the rest is void for what happened inside
/// identities below, which `named` shows.
pub(super) fn evaluate(
    nodes: &Nodes,
    base: &Evaluation,
    set: Bits,
    named: Named,
    nested: &[(usize, VoidReason)],
) -> Evaluation {
    let members: Vec<usize> = set.minus(&base.set).iter().collect();
    let mut pass = Pass { nodes, members, outcome: Evaluation { set, named, ..base.clone() }, thorough: false };
    pass.run(nested);
    pass.outcome
}

/// As [`evaluate`], from nothing, asking every op for its right after every step.
#[cfg(test)]
pub(super) fn evaluate_thoroughly(
    nodes: &Nodes,
    set: Bits,
    named: Named,
    nested: &[(usize, VoidReason)],
) -> Evaluation {
    let members: Vec<usize> = set.iter().collect();
    let outcome = Evaluation { set, named, ..Evaluation::default() };
    let mut pass = Pass { nodes, members, outcome, thorough: true };
    pass.run(nested);
    pass.outcome
}

struct Pass<'a> {
    nodes: &'a Nodes,
    /// What is to be decided about, parents first.
    members: Vec<usize>,
    outcome: Evaluation,
    /// Leaves nothing out that ought to change nothing.
    thorough: bool,
}

impl Pass<'_> {
    fn run(&mut self, nested: &[(usize, VoidReason)]) {
        let voided: Vec<usize> = nested.iter().map(|(at, _)| *at).collect();
        for (at, reason) in nested {
            self.outcome.void.insert(*at, *reason);
        }
        self.settle(&voided, None);
        let nodes = self.nodes;
        let mut recoveries = self.of(&nodes.recoveries);
        recoveries.sort_by_key(|at| (Reverse(nodes.at(*at).recoveries), nodes.at(*at).id()));
        for at in recoveries {
            self.accept_recovery(at);
        }
        // Of equal precedence what follows a leave comes first: its author ranks below the one who left.
        let mut takings = self.of(&nodes.takings);
        takings.sort_by_key(|at| {
            let node = nodes.at(*at);
            (node.precedence, node.precedence == node.rank, node.order())
        });
        for at in takings {
            match nodes.at(at).kind() {
                Op::Remove(op) => self.accept_removal(at, op),
                Op::SetRole(op) => self.accept_demotion(at, op),
                _ => {}
            }
        }
        let mut revocations = self.of(&nodes.revokers);
        revocations.retain(|at| {
            nodes.at(*at).concludes || matches!(nodes.at(*at).kind(), Op::RevokeInvite(_) | Op::Update(_))
        });
        revocations.sort_by_key(|at| by_rank(nodes, *at));
        for at in revocations {
            self.accept_revocation(at);
        }
        let before = self.outcome.void.set.clone();
        self.void_overuse();
        self.void_last_leaves();
        // They counted when uses and leaves were, and gave the order in which others had their turn.
        self.outcome.pinned.union(&self.outcome.void.set.minus(&before));
    }

    /// Returns those of a list, which is ascending, that are to be decided about.
    fn of(&self, list: &[usize]) -> Vec<usize> {
        // All members follow the base, so they entered after it.
        let first = self.members.first().copied().unwrap_or(usize::MAX);
        let later = list.get(list.partition_point(|at| *at < first)..).unwrap_or_default();
        later.iter().copied().filter(|at| self.outcome.set.has(*at)).collect()
    }

    fn counts(&self, at: usize) -> bool {
        self.outcome.set.has(at) && !self.outcome.is_void(at)
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
        self.void(&voided, VoidReason::RecoveredBeside { recovery: self.nodes.at(recovery).id() });
        self.settle(&voided, Some(recovery));
    }

    /// Rule 3: a removal that is not void when reached is accepted for good and voids what its targets did beside it.
    fn accept_removal(&mut self, removal: usize, op: &Remove) {
        if !self.counts(removal) {
            return;
        }
        if let Some(admission) = self.overtakes(removal, op) {
            self.void(&[removal], VoidReason::CameBack { admission: self.nodes.at(admission).id() });
            return self.settle(&[removal], None);
        }
        self.outcome.accepted.insert(removal);
        let mut voided: Vec<usize> = op.targets.iter().flat_map(|target| self.beside(removal, target)).collect();
        self.void(&voided, VoidReason::RemovedBeside { removal: self.nodes.at(removal).id() });
        // Whether it revokes is decided by who is removed in the end.
        if !self.nodes.at(removal).concludes {
            voided.extend(self.void_uses_beside(removal));
        }
        self.settle(&voided, Some(removal));
    }

    /// Rule 6: who left and was let in again, by somebody who knew that it had left, is not put out by a member, nor by an
    /// admin from which a senior takes that right beside: they only put the leave on record. Returns that admission, of
    /// several the first in authority order.
    fn overtakes(&self, removal: usize, op: &Remove) -> Option<usize> {
        let (nodes, node) = (self.nodes, self.nodes.at(removal));
        let view = self.outcome.view(nodes);
        let governs = node.by_admin && !view.takings_beside(removal).any(|taking| nodes.at(taking).rank < node.rank);
        if !node.concludes || governs {
            return None;
        }
        let admissions = op.targets.iter().flat_map(|target| {
            let endings = self.nodes.endings.get(target).into_iter().flatten().copied();
            let known: Bits = endings.filter(|at| *at != removal && node.past.has(*at)).collect();
            let admits = self.nodes.admits.get(target).into_iter().flatten().copied();
            admits.filter(move |at| self.nodes.at(*at).past.holds(&known))
        });
        let beside = admissions.filter(|at| self.counts(*at) && self.nodes.concurrent(removal, *at));
        beside.min_by_key(|at| self.nodes.at(*at).order())
    }

    /// Rule 3 for demotions: of what the target did beside it, void is what needs more than the role that it is left with.
    fn accept_demotion(&mut self, demotion: usize, op: &SetRole) {
        if !self.counts(demotion) {
            return;
        }
        self.outcome.accepted.insert(demotion);
        let theirs = self.beside(demotion, &op.controller);
        let too_much = |at: &usize| {
            let node = self.nodes.at(*at);
            let view = self.past_view(node);
            let role = view.role(&node.author()).map_or(op.role, |role| role.lesser(op.role));
            rights::check_as(node.op.core(), role, &view, false).is_err()
        };
        let voided: Vec<usize> = theirs.into_iter().filter(too_much).collect();
        self.void(&voided, VoidReason::DemotedBeside { demotion: self.nodes.at(demotion).id() });
        self.settle(&voided, Some(demotion));
    }

    /// Returns what the target did beside an op that takes rights from it, except what was accepted before, and except
    /// what the op's author had built on.
    fn beside(&mut self, taking: usize, target: &ControllerId) -> Vec<usize> {
        let mut beside = Vec::new();
        for at in self.nodes.by_author.get(target).into_iter().flatten().copied() {
            if !self.counts(at) || self.outcome.accepted.has(at) || !self.nodes.concurrent(taking, at) {
                continue;
            }
            // That somebody left anybody may put on record: what its author had built on says nothing about it.
            let accepted = if self.nodes.at(taking).concludes { None } else { self.had_accepted(taking, at) };
            match accepted {
                Some(by) => self.outcome.pinned.insert(by),
                None => beside.push(at),
            }
        }
        beside
    }

    /// Returns the op by which the remover built on an op that it had seen, elsewhere than after the removal; not by what it
    /// said beside its own demotion.
    fn had_accepted(&self, removal: usize, at: usize) -> Option<usize> {
        let remover = self.nodes.at(removal).author();
        let own = self.nodes.by_author.get(&remover).into_iter().flatten().copied();
        let built = own.filter(|own| {
            let past = &self.nodes.at(*own).past;
            *own != removal && self.counts(*own) && !past.has(removal) && past.has(at)
        });
        let built = built.filter(|own| !self.is_beside_a_demotion(&remover, *own));
        // Whichever arrived first, it is the same one.
        built.min_by_key(|own| self.nodes.at(*own).order())
    }

    /// Says whether an op stands beside an accepted demotion of its author.
    fn is_beside_a_demotion(&self, author: &ControllerId, at: usize) -> bool {
        let changes = self.nodes.roles.get(author).into_iter().flatten().copied();
        changes.filter(|change| self.outcome.accepted.has(*change)).any(|change| self.nodes.concurrent(change, at))
    }

    /// Rule 7: an admission beside a revocation of its invitation is void; beside a removal of who had left, too.
    fn accept_revocation(&mut self, revocation: usize) {
        if !self.counts(revocation) {
            return;
        }
        self.outcome.accepted.insert(revocation);
        let voided = self.void_uses_beside(revocation);
        self.settle(&voided, Some(revocation));
    }

    fn void_uses_beside(&mut self, revoker: usize) -> Vec<usize> {
        let nodes = self.nodes;
        let beside = self.of(&nodes.honours).into_iter();
        let beside = beside.filter(|at| self.counts(*at) && nodes.concurrent(revoker, *at));
        let view = self.outcome.view(nodes);
        let revoked = beside.filter_map(|at| {
            let (invite, _) = nodes.at(at).honours()?;
            nodes.find(&invite).is_some_and(|made| view.revokes(revoker, made)).then_some((at, invite))
        });
        let revoked: Vec<(usize, OpId)> = revoked.collect();
        for (at, invite) in revoked.iter().copied() {
            self.outcome.void.insert(at, VoidReason::RevokedBeside { invite });
        }
        revoked.into_iter().map(|(at, _)| at).collect()
    }

    /// Rule 7: uses beyond the number allowed are void, by rank of the honouring author, but a use comes after those that
    /// it knew of. All invitations at once: so an admission comes after every one that it rests on, and none takes a use
    /// that is void later.
    fn void_overuse(&mut self) {
        let mut uses = self.of(&self.nodes.honours);
        uses.retain(|at| self.counts(*at) && self.limit(*at).is_some());
        let mut users: BTreeMap<OpId, BTreeSet<ControllerId>> = BTreeMap::new();
        for at in uses.iter().copied() {
            let Some((invite, user)) = self.nodes.at(at).honours() else { continue };
            users.entry(invite).or_insert_with(|| self.used_in_base(&invite)).insert(user);
        }
        let fits = |at: &usize| {
            let used = self.nodes.at(*at).honours().and_then(|(invite, _)| users.get(&invite)).map_or(0, BTreeSet::len);
            self.limit(*at).is_none_or(|limit| used <= limit)
        };
        if uses.iter().all(fits) {
            return;
        }
        for (invite, users) in &mut users {
            *users = self.used_in_base(invite);
        }
        uses.sort_by_key(|at| by_rank(self.nodes, *at));
        for at in known_first(self.nodes, &uses) {
            let (Some((invite, user)), Some(limit)) = (self.nodes.at(at).honours(), self.limit(at)) else { continue };
            let users = users.entry(invite).or_default();
            if !self.counts(at) || users.contains(&user) {
                continue;
            }
            if users.len() < limit {
                users.insert(user);
            } else {
                self.void(&[at], VoidReason::UsedUp { invite });
                self.settle(&[at], None);
            }
        }
    }

    /// Returns how many may use the invitation that an admission uses.
    fn limit(&self, admission: usize) -> Option<usize> {
        let (invite, _) = self.nodes.at(admission).honours()?;
        match self.nodes.at(self.nodes.find(&invite)?).kind() {
            Op::Invite(invite) => invite.uses.map(|uses| uses as usize),
            _ => None,
        }
    }

    fn used_in_base(&self, invite: &OpId) -> BTreeSet<ControllerId> {
        let first = self.members.first().copied().unwrap_or(usize::MAX);
        let uses = self.nodes.uses.get(invite).into_iter().flatten().copied();
        let before = uses.filter(|at| *at < first && self.counts(*at));
        before.filter_map(|at| self.nodes.at(at).honours()).map(|(_, user)| user).collect()
    }

    /// Rule 4: leaves and self-demotions come last, junior first, but each after those that it knew of; one that would
    /// leave no admin is void, as far as it can know: what follows it does not alter that.
    fn void_last_leaves(&mut self) {
        let mut leaves = self.of(&self.nodes.surrenders);
        leaves.retain(|at| self.counts(*at));
        if leaves.is_empty() {
            return;
        }
        leaves.sort_by_key(|at| Reverse(by_rank(self.nodes, *at)));
        let mut trial = (*self.outcome.void.set).clone();
        leaves.iter().for_each(|at| trial.insert(*at));
        let mut voided = Vec::new();
        for at in known_first(self.nodes, &leaves) {
            let author = self.nodes.at(at).author();
            let later = self.members.iter().copied().filter(|later| self.nodes.at(*later).past.has(at));
            let set = self.outcome.set.minus(&later.collect());
            let is_admin = |void: &Bits, id: &ControllerId| {
                View { set: &set, void, ..self.outcome.view(self.nodes) }.role(id) == Some(Role::Admin)
            };
            let governs = is_admin(&trial, &author);
            trial.remove(at);
            if governs && !self.nodes.admits.keys().any(|id| is_admin(&trial, id)) {
                trial.insert(at);
                voided.push(at);
            }
        }
        self.void(&voided, VoidReason::LastAdmin);
        self.settle(&voided, None);
    }

    /// Returns the past of an op with everything left out that is void now.
    fn past_view<'a>(&'a self, node: &'a Node) -> View<'a> {
        View {
            nodes: self.nodes,
            set: &node.past,
            void: &self.outcome.void.set,
            void_in_past: &node.void_in_past,
            accepted: &self.outcome.accepted,
        }
    }

    fn void(&mut self, ops: &[usize], reason: VoidReason) {
        for at in ops {
            self.outcome.void.insert(*at, reason);
        }
    }

    /// Rule 2: authorisation is evaluated again with void ops left out; what was accepted for good stays. `voided`: what is
    /// void since the last time; `accepted`: what counts since then, also for those that knew it as void. Only whom either
    /// concerns is asked: to all others their past looks as it did.
    fn settle(&mut self, voided: &[usize], accepted: Option<usize>) {
        let accepted = accepted.filter(|at| self.nodes.ever_void.has(*at));
        let first = if self.thorough { Some(0) } else { voided.iter().copied().chain(accepted).min() };
        let Some(first) = first else { return };
        let mut changed: Bits = voided.iter().copied().collect();
        let from = self.members.partition_point(|at| *at < first);
        for position in from..self.members.len() {
            let Some(at) = self.members.get(position).copied() else { return };
            let node = self.nodes.at(at);
            let concerns = self.thorough
                || node.past.meets(&changed, &node.void_in_past)
                || accepted.is_some_and(|taken| node.void_in_past.has(taken));
            let open = !self.outcome.is_void(at) && !self.outcome.accepted.has(at);
            if !concerns || !open || matches!(node.kind(), Op::Create(_)) {
                continue;
            }
            if let Err(rule) = rights::check(node.op.core(), &self.past_view(node), false) {
                self.outcome.void.insert(at, VoidReason::Unfounded { rule });
                changed.insert(at);
            }
        }
    }
}

/// Senior authors first, then authority order.
fn by_rank(nodes: &Nodes, at: usize) -> (Order, Order) {
    (nodes.at(at).rank, nodes.at(at).order())
}

/// Returns ops in the order given, but each after those among them that it knew of.
fn known_first(nodes: &Nodes, ordered: &[usize]) -> Vec<usize> {
    let (mut out, mut done, mut open) = (Vec::with_capacity(ordered.len()), Bits::new(), Vec::new());
    for next in ordered {
        open.push(*next);
        while let Some(top) = open.last().copied() {
            let past = &nodes.at(top).past;
            let known = ordered.iter().copied().find(|other| past.has(*other) && !done.has(*other));
            match known.filter(|_| !done.has(top)) {
                Some(known) => open.push(known),
                None => {
                    if !done.has(top) {
                        done.insert(top);
                        out.push(top);
                    }
                    open.pop();
                }
            }
        }
    }
    out
}
