//! What must hold of every set, said as plainly as possible and without the evaluation's own notions: who stands, who
//! said what, who can open what.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::cast::{Act, Cast, PEOPLE, chain};
use super::history::{History, Step};
use crate::id::{ControllerId, OpId, Role};
use crate::identity::RecordRef;
use crate::op::{Op, SignedOp};
use crate::state::nodes::Node;
use crate::state::{DutyKind, IdentityState, RecordVerdict, VoidReason};

/// What a set breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Law {
    /// Who holds the same ops comes to the same state.
    ReplicasAgree,
    /// What is come to step by step is what the ops amount to from nothing.
    NoMemory,
    /// Who is removed stands again only by an admission that follows the removal.
    RemovedStaysOut,
    /// Who stands was let in by one who had the right, not by itself, and an admin by an admin.
    Entitled,
    /// What one says that was removed by a senior, or had left, after that is known, changes nothing.
    RemovalIsFinal,
    /// After a recovery nothing that does not know it changes anything, but another recovery.
    RecoveryIsFinal,
    /// A removal is undone only by a senior of the remover.
    OnlySeniorsUndo,
    /// Who is no admin changes nobody's standing but its own, that of one who left, and of one it lets in by invitation.
    OnlyAdminsGovern,
    /// Without a removal there is always an admin.
    Governed,
    /// What one writes that no longer stands does not count, under whatever heads.
    NoRecordOfTheRemoved,
    /// All that can open the epoch to send under are readers, and all readers can.
    SealedToReadersOnly,
    /// If there is no epoch to send under, somebody must act, and when it has acted there is.
    WritingGoesOn,
    /// An invitation lets in as many as it says, in its role.
    InvitationsKept,
}

/// A law that a history breaks.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    pub(super) law: Law,
    pub(super) what: String,
}

/// Checks the laws of what changes when a step comes last.
pub(super) fn of_a_step(
    cast: &Cast,
    history: &mut History,
    last: usize,
    before: &IdentityState,
    after: &IdentityState,
) -> Vec<Broken> {
    let last = &history.steps[last].clone();
    let mut check = Check { cast, history, after, broken: Vec::new() };
    check.recovery_is_final(last, before);
    let free = matches!(last.op.core().op, Op::Recover(_));
    if free || check.takes_back_a_fork(last) || check.decides_who_stays(last, before) {
        return check.broken;
    }
    check.removal_is_final(last, before);
    check.only_seniors_undo(last, before);
    check.only_admins_govern(last, before);
    check.broken
}

/// Checks the laws of a set.
pub(super) fn of_a_set(cast: &Cast, history: &mut History, after: &IdentityState) -> Vec<Broken> {
    let mut check = Check { cast, history, after, broken: Vec::new() };
    check.removed_stays_out();
    check.entitled();
    check.governed();
    check.no_record_of_the_removed();
    check.sealed_to_readers_only();
    check.writing_goes_on();
    check.invitations_kept();
    check.broken
}

struct Check<'a> {
    cast: &'a Cast,
    history: &'a mut History,
    after: &'a IdentityState,
    broken: Vec<Broken>,
}

impl Check<'_> {
    fn need(&mut self, holds: bool, law: Law, what: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(Broken { law, what: what() });
        }
    }

    fn removed_stays_out(&mut self) {
        let after = self.after;
        for controller in after.controllers.values() {
            for removal in after.removals.iter().filter(|removal| removal.target == controller.id) {
                let follows = self.knows(&controller.since, &removal.op);
                self.need(follows, Law::RemovedStaysOut, || format!("{:?}", controller.id));
            }
        }
    }

    fn entitled(&mut self) {
        let after = self.after;
        for controller in after.controllers.values() {
            let since = self.op(&controller.since);
            let mut right = !after.void.contains_key(&controller.since);
            if let Op::Admit(admit) = &since.core().op {
                let author = self.role_before(&since, &since.core().author);
                right &= since.core().author != controller.id;
                right &= match admit.invitation {
                    None => author == Some(Role::Admin),
                    Some(_) => author.is_some_and(Role::writes) && admit.role == Role::Member,
                };
            }
            if controller.role == Role::Admin && !matches!(since.core().op, Op::Create(_)) {
                right &= self.made_admin(&controller.id);
            }
            self.need(right, Law::Entitled, || format!("{:?}", controller.id));
        }
    }

    /// Says whether an op counts that makes an admin of `who`, by an admin.
    fn made_admin(&mut self, who: &ControllerId) -> bool {
        let gives = |node: &&Node| match node.kind() {
            Op::SetRole(set) => set.controller == *who && set.role == Role::Admin,
            _ => node.role_of(who) == Some(Role::Admin),
        };
        let void = &self.after.void;
        let nodes = self.history.graph.nodes.iter().filter(gives).filter(|node| !void.contains_key(&node.id()));
        let ops: Vec<_> = nodes.map(|node| Arc::clone(&node.op)).collect();
        ops.iter().any(|op| {
            let by_admin = self.role_before(op, &op.core().author) == Some(Role::Admin);
            by_admin || matches!(op.core().op, Op::Recover(_))
        })
    }

    /// Says whether the op removes nobody but those who had left in its past.
    fn concludes_a_leave(&mut self, last: &Step) -> bool {
        let Op::Remove(remove) = &last.op.core().op else { return false };
        let past = self.history.graph.state_at(&last.op.core().auth_parents).unwrap();
        remove.targets.iter().all(|target| past.leaving.contains_key(target))
    }

    /// Says whether the op removes one who left and, with the same keys, said something beside its leave: of what one
    /// says that contradicts itself the leave stands, and whoever publishes the removal takes the other word back.
    fn takes_back_a_fork(&self, last: &Step) -> bool {
        let Op::Remove(remove) = &last.op.core().op else { return false };
        let theirs = |op: &&Arc<SignedOp>| remove.targets.contains(&op.core().author);
        let ops: Vec<_> = self.history.graph.ops().filter(theirs).collect();
        ops.iter().filter(|op| matches!(op.core().op, Op::Leave) && self.knows(&last.op.id(), &op.id())).any(|leave| {
            let leave = leave.id();
            let beside = |op: &OpId| *op != leave && !self.knows(&leave, op) && !self.knows(op, &leave);
            ops.iter().any(|op| beside(&op.id()))
        })
    }

    /// Says whether the op puts on record that somebody left whose leave was void to others, as no admin was left beside: of
    /// admins that leave at the same moment the one stays whose leave nobody put on record, with all that it did as the only
    /// one.
    fn decides_who_stays(&mut self, last: &Step, before: &IdentityState) -> bool {
        let Op::Remove(remove) = &last.op.core().op else { return false };
        self.concludes_a_leave(last)
            && remove.targets.iter().any(|who| self.gave_up_the_last(who, before) || self.acted_after_its_leave(who))
    }

    /// Says whether somebody did something knowing that its own leave was void, as no admin was left beside.
    fn acted_after_its_leave(&mut self, who: &ControllerId) -> bool {
        let theirs: Vec<_> = self.history.graph.ops().filter(|op| op.core().author == *who).cloned().collect();
        theirs.iter().any(|op| {
            op.core().op != Op::Leave
                && self
                    .history
                    .graph
                    .state_at(&op.core().auth_parents)
                    .is_ok_and(|past| self.gave_up_the_last(who, &past))
        })
    }

    fn removal_is_final(&mut self, last: &Step, before: &IdentityState) {
        let author = last.op.core().author;
        let standing = before.role(&author).is_some() || before.leaving.contains_key(&author);
        let finally = before.removals.iter().any(|removal| removal.target == author && !removal.provisional);
        if !standing && finally {
            let after = self.after;
            // That somebody left anybody may put on record, even one who is removed meanwhile.
            let same = if self.concludes_a_leave(last) {
                before.controllers == after.controllers && before.invitations == after.invitations
            } else {
                same_but_for_void_ops(before, after)
            };
            self.need(same, Law::RemovalIsFinal, || changes(before, after));
        }
    }

    fn recovery_is_final(&mut self, last: &Step, before: &IdentityState) {
        let Some(recovery) = before.recoveries.last() else { return };
        let knows = self.knows(&last.op.id(), &recovery.op);
        if !knows && !matches!(last.op.core().op, Op::Recover(_)) {
            let after = self.after;
            self.need(same_but_for_void_ops(before, after), Law::RecoveryIsFinal, || changes(before, after));
        }
    }

    fn only_seniors_undo(&mut self, last: &Step, before: &IdentityState) {
        for removal in before.removals.iter() {
            let undone =
                !self.after.removals.iter().any(|other| (other.op, other.target) == (removal.op, removal.target));
            // What a member put on record goes with the leave that somebody else took back by an admission (rule 6).
            let overtaken = matches!(self.after.void.get(&removal.op), Some(VoidReason::CameBack { .. }));
            if undone && !overtaken {
                let removing = self.op(&removal.op);
                let (by, of) = (self.rank_of(&last.op), self.rank_of(&removing));
                self.need(by < of, Law::OnlySeniorsUndo, || format!("the removal {:?}", removal.op));
            }
        }
    }

    /// Seniority of an op's author in the op's own past.
    fn rank_of(&mut self, op: &SignedOp) -> Option<(u32, OpId)> {
        let past = self.history.graph.state_at(&op.core().auth_parents).unwrap();
        past.controllers.get(&op.core().author).map(|controller| controller.rank)
    }

    fn only_admins_govern(&mut self, last: &Step, before: &IdentityState) {
        let author = last.op.core().author;
        let governs = self.role_before(&last.op, &author) == Some(Role::Admin);
        if governs && !self.was_demoted(last, before) || self.takes_back_its_own(&author, before) {
            return;
        }
        let nodes = &self.history.graph.nodes;
        let invited = nodes.at(nodes.find(&last.op.id()).unwrap()).honours().map(|(_, newcomer)| newcomer);
        let (cast, after) = (self.cast, self.after);
        for person in (0..PEOPLE).map(|person| cast.id(person)) {
            let (then, now) = (before.controllers.get(&person), after.controllers.get(&person));
            let same = then.map(|found| (found.role, found.since)) == now.map(|found| (found.role, found.since));
            let own = person == author || Some(person) == invited || before.leaving.contains_key(&person);
            // Of those who use one invitation beside each other some must go (rule 7).
            let own = own || invited.is_some() && self.is_one_too_many(&person);
            // What one gives up it keeps where nobody else would govern; that turns with who else does.
            let own = own || self.gave_up_the_last(&person, before) || self.gave_up_the_last(&person, after);
            self.need(same || own, Law::OnlyAdminsGovern, || changes(before, after));
        }
    }

    /// Says whether a senior demoted the author beside the op: that it says so late changes nothing any more.
    fn was_demoted(&self, last: &Step, before: &IdentityState) -> bool {
        let (author, op) = (last.op.core().author, last.op.id());
        let mut final_ones = before.demotions.iter().filter(|one| one.target == author && !one.provisional);
        final_ones.any(|one| one.by != author && one.role != Role::Admin && !self.knows(&op, &one.op))
    }

    /// Says whether the author lets stand, late, what its own removal or demotion of somebody made void.
    fn takes_back_its_own(&self, author: &ControllerId, before: &IdentityState) -> bool {
        before.void.iter().any(|(op, reason)| {
            let (VoidReason::RemovedBeside { removal: taking } | VoidReason::DemotedBeside { demotion: taking }) =
                reason
            else {
                return false;
            };
            !self.after.void.contains_key(op) && self.op(taking).core().author == *author
        })
    }

    fn is_one_too_many(&self, who: &ControllerId) -> bool {
        let used_up = self.after.void.iter().filter(|(_, reason)| matches!(reason, VoidReason::UsedUp { .. }));
        let nodes = &self.history.graph.nodes;
        let admitted = used_up.filter_map(|(op, _)| nodes.at(nodes.find(op)?).honours());
        admitted.into_iter().any(|(_, newcomer)| newcomer == *who)
    }

    fn gave_up_the_last(&self, who: &ControllerId, state: &IdentityState) -> bool {
        let last = state.void.iter().filter(|(_, reason)| **reason == VoidReason::LastAdmin);
        last.map(|(id, _)| self.op(id)).any(|op| op.core().author == *who)
    }

    fn governed(&mut self) {
        let takes = |step: &Step| matches!(step.op.core().op, Op::Remove(_) | Op::SetRole(_));
        let governed = self.after.controllers.values().any(|controller| controller.role == Role::Admin);
        let exempt = self.history.steps.iter().any(takes) || self.somebody_left_and_did_not();
        self.need(governed || exempt, Law::Governed, || "no admin is left".into());
    }

    /// Says whether somebody says something beside its own leave.
    fn somebody_left_and_did_not(&self) -> bool {
        let steps = &self.history.steps;
        let beside = |leave: &Step, other: &Step| {
            let (leave, other) = (leave.op.id(), other.op.id());
            leave != other && !self.knows(&leave, &other) && !self.knows(&other, &leave)
        };
        let leaves = steps.iter().filter(|step| step.act == Act::Leave);
        leaves.into_iter().any(|leave| steps.iter().any(|other| other.by == leave.by && beside(leave, other)))
    }

    fn no_record_of_the_removed(&mut self) {
        for person in 0..PEOPLE {
            let author = self.cast.id(person);
            if self.after.role(&author).is_some() || self.after.leaving.contains_key(&author) {
                continue;
            }
            let mut named: Vec<Vec<OpId>> = vec![self.cast.heads.clone(), self.history.graph.heads()];
            named.extend(self.history.steps.iter().map(|step| vec![step.op.id()]));
            for auth_heads in named {
                let (block, creator) = (self.cast.record, self.cast.block_key(person));
                let record = RecordRef { block, creator, author, auth_heads };
                let verdict = self.history.graph.judge_with(&chain(), &record, |_, _| false);
                let void = matches!(verdict, RecordVerdict::Void(_));
                self.need(void, Law::NoRecordOfTheRemoved, || format!("{record:?}: {verdict:?}"));
            }
        }
    }

    fn sealed_to_readers_only(&mut self) {
        let Some(epoch) = self.after.sending_epoch else { return };
        let readers: BTreeSet<ControllerId> = self.readers().collect();
        let openers = self.openers(&epoch);
        let more = openers.difference(&readers).count();
        self.need(more == 0, Law::SealedToReadersOnly, || format!("{epoch:?} opens to {openers:?}, {readers:?} read"));
        let slots = self.op(&epoch).core().op.epoch().map(|part| part.recipients().collect::<BTreeSet<_>>());
        let all = slots.is_some_and(|slots| self.after.controllers.keys().all(|id| slots.contains(id)));
        self.need(all, Law::SealedToReadersOnly, || format!("{epoch:?} has no slot for somebody"));
    }

    fn readers(&self) -> impl Iterator<Item = ControllerId> {
        self.after.controllers.values().filter(|controller| controller.role.reads()).map(|controller| controller.id)
    }

    /// Returns everybody that can open an epoch: its author, whoever has a slot as a reader, and, as epochs carry on
    /// what their authors could open, whoever can open one that follows, be it void or not.
    fn openers(&mut self, epoch: &OpId) -> BTreeSet<ControllerId> {
        let mut openers = self.dealt_to(epoch);
        let ops: Vec<(OpId, ControllerId)> = self.history.graph.ops().map(|op| (op.id(), op.core().author)).collect();
        for (id, author) in ops {
            if openers.contains(&author) && self.knows(&id, epoch) {
                openers.extend(self.dealt_to(&id));
            }
        }
        openers
    }

    fn dealt_to(&mut self, epoch: &OpId) -> BTreeSet<ControllerId> {
        let op = self.op(epoch);
        let Some(part) = op.core().op.epoch() else { return BTreeSet::new() };
        let then = self.history.graph.state_at(&[*epoch]).unwrap();
        let reads = |id: &ControllerId| then.role(id).is_some_and(Role::reads);
        part.recipients().filter(reads).chain([op.core().author]).collect()
    }

    fn writing_goes_on(&mut self) {
        if self.after.deactivated.is_some()
            || self.after.sending_epoch.is_some()
            || !self.after.controllers.values().any(|one| one.role.writes())
        {
            return;
        }
        let had = self.history.graph.len();
        self.do_what_is_due();
        let state = self.history.graph.state();
        while self.history.graph.len() > had {
            self.history.shrink();
        }
        self.need(state.sending_epoch.is_some(), Law::WritingGoesOn, || format!("{state:?}"));
    }

    /// Has whoever is first act as it must: a removal of those who left; perhaps new keys after it.
    fn do_what_is_due(&mut self) {
        for _ in 0..2 {
            let state = self.history.graph.state();
            if state.sending_epoch.is_some() {
                return;
            }
            let due = (0..PEOPLE).find_map(|who| {
                state.duty(&self.cast.id(who)).filter(|duty| duty.rank == 0).map(|duty| (who, duty.kind))
            });
            let Some((who, kind)) = due else { return };
            let graph = &mut self.history.graph;
            let op = match kind {
                DutyKind::Rekey => self.cast.rekey(graph, who),
                DutyKind::RemoveLeft(left) => self.cast.remove_all(graph, who, left),
                // Nobody here acts for another identity.
                DutyKind::Introduce | DutyKind::Update => return,
            };
            if self.history.grow(op).is_err() {
                return;
            }
        }
    }

    fn invitations_kept(&mut self) {
        let after = self.after;
        for invitation in after.invitations.values() {
            let used = invitation.used_by.len();
            let fits = invitation.uses.is_none_or(|uses| used <= uses as usize);
            self.need(fits, Law::InvitationsKept, || format!("used {used} times"));
        }
    }

    fn role_before(&mut self, op: &SignedOp, who: &ControllerId) -> Option<Role> {
        self.history.graph.state_at(&op.core().auth_parents).unwrap().role(who)
    }

    fn op(&self, id: &OpId) -> Arc<SignedOp> {
        self.history.graph.op(id).unwrap().clone()
    }

    /// Says whether one op lies before another.
    fn knows(&self, op: &OpId, other: &OpId) -> bool {
        let nodes = &self.history.graph.nodes;
        let (op, other) = (nodes.find(op).unwrap(), nodes.find(other).unwrap());
        nodes.at(op).past.has(other)
    }
}

fn same_but_for_void_ops(one: &IdentityState, other: &IdentityState) -> bool {
    one.controllers == other.controllers
        && one.recoveries == other.recoveries
        && one.recovery == other.recovery
        && one.deactivated == other.deactivated
        && one.services == other.services
        && one.demotions == other.demotions
        && one.leaving == other.leaving
        && one.removals == other.removals
        && one.invitations == other.invitations
        && one.epochs == other.epochs
        && one.sending_epoch == other.sending_epoch
}

fn changes(before: &IdentityState, after: &IdentityState) -> String {
    format!("before {}\nafter  {}", brief(before), brief(after))
}

/// What a reader of a report wants to see of a state.
pub(super) fn brief(state: &IdentityState) -> String {
    let standing: Vec<_> = state.controllers.values().map(|one| (one.id, one.role)).collect();
    let removed: Vec<_> = state.removals.iter().map(|one| (one.target, one.op, one.provisional)).collect();
    format!(
        "{standing:?} leaving {:?} removed {removed:?} sending {:?} void {:?}",
        state.leaving, state.sending_epoch, state.void
    )
}
