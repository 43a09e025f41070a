//! Taking in an op: its author's right, and everything about it that its own past decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::nested::{NestedView, slots_are_sound};
use super::nodes::{Admitted, Dealt, Node, Order, admitted};
use super::view::View;
use super::{AuthorityGraph, Refusal, Rule, rights};
use crate::crypto::KeyId;
use crate::id::{ControllerId, DeviceId, Did, Role};
use crate::op::{Op, OpCore, SignedOp};

impl AuthorityGraph {
    pub(super) fn admit(&mut self, op: SignedOp) -> Result<(), Refusal> {
        // Before anything refers to ops by index.
        self.make_room(&op);
        let core = op.core();
        let past = self.nodes.past_of(&core.auth_parents).map_err(|_| Refusal::UnknownDevice)?;
        let named = self.naming(core).map_err(|_| Refusal::UnknownDevice)?;
        self.check_signatures(&op, &past, &named)?;
        let evaluation = if past.len() == self.nodes.len() {
            self.evaluation()
        } else {
            self.evaluated(past.clone(), self.named_at(&core.auth_parents))
        };
        let nested = self.nested_views(&named);
        rights::check(core, &evaluation.view(&self.nodes), true).map_err(|rule| Refusal::Unauthorised { rule })?;
        self.check_tree(&op, &named)?;
        if !self.has_room(&op) {
            return Err(Refusal::Full);
        }
        let view = evaluation.view(&self.nodes);
        let rank = match core.op {
            // Needs no right in its past.
            Op::Recover(_) => Some((0, op.id())),
            _ => view.standing(&core.author).map(|standing| standing.rank),
        };
        let rank = rank.ok_or(Refusal::Unauthorised { rule: Rule::NoController })?;
        let parents = core.auth_parents.iter().filter_map(|id| self.nodes.find(id));
        let admitted = admitted(&core.op);
        let node = Node {
            depth: 1 + parents.map(|at| self.nodes.at(at).depth).max().unwrap_or(0),
            rank,
            precedence: precedence(&core.op, rank, &view),
            concludes: precedence_of_leaves(&core.op, &view).is_some(),
            by_admin: view.role(&core.author) == Some(Role::Admin),
            void_in_past: Arc::clone(&evaluation.void.set),
            dealt: dealt(&core.op, &admitted, &view, &nested),
            admitted,
            demotes: demotes(&core.op, &view),
            recoveries: recoveries(&core.op, &view),
            retires: retires(core, &nested),
            past,
            named,
            op: Arc::new(op),
        };
        self.push(node);
        Ok(())
    }

    pub(super) fn push(&mut self, node: Node) {
        for parent in &node.op.core().auth_parents {
            self.heads.remove(parent);
        }
        self.heads.insert(node.id());
        self.note_keys(&node);
        (self.current, self.evaluated) = (None, None);
        self.nodes.push(node);
    }
}

/// Returns the devices of the author, an identity, that are removed inside it by what an `Update` shows.
fn retires(core: &OpCore, nested: &BTreeMap<Did, Arc<NestedView>>) -> BTreeSet<DeviceId> {
    match (&core.author, &core.op) {
        (ControllerId::Identity(did), Op::Update(_)) => nested.get(did).map(|view| view.gone()).unwrap_or_default(),
        _ => BTreeSet::new(),
    }
}

/// Returns to whom an op's epoch had to be dealt: to exactly the controllers of its own past after it, of whom those that
/// read get the epoch secret.
fn dealt(op: &Op, admitted: &[Admitted], past: &View<'_>, nested: &BTreeMap<Did, Arc<NestedView>>) -> Option<Dealt> {
    let epoch = op.epoch()?;
    let mut after: BTreeMap<ControllerId, Role> =
        past.controllers().into_iter().map(|(id, standing)| (id, standing.role)).collect();
    if matches!(op, Op::Recover(_)) {
        after.clear();
    }
    after.extend(admitted.iter().map(|one| (one.id, one.role)));
    if let Op::Remove(remove) = op {
        after.retain(|id, _| !remove.targets.contains(id));
    }
    let readers = after.iter().filter(|(_, role)| role.reads()).map(|(id, _)| *id).collect();
    let is_sound = |did: &Did, key: &KeyId| nested.get(did).is_some_and(|view| view.is_sound(key));
    let fits = epoch.recipients().eq(after.into_keys()) && slots_are_sound(op, is_sound);
    Some(Dealt { fits, recipients: epoch.recipients().collect(), key: KeyId::of(&epoch.receiving), readers })
}

/// Returns how many recoveries a `Recover` completes: one more than its past knows.
fn recoveries(op: &Op, past: &View<'_>) -> u32 {
    match op {
        Op::Recover(_) => 1 + past.recovered().map_or(0, |at| past.nodes.at(at).recoveries),
        _ => 0,
    }
}

/// Returns when a removal comes to its turn: that of those who left as early as what they might say against it.
fn precedence(op: &Op, rank: Order, past: &View<'_>) -> Order {
    precedence_of_leaves(op, past).map_or(rank, |senior| senior.min(rank))
}

/// Returns the most senior rank of those whom a removal removes, if all of them had left.
fn precedence_of_leaves(op: &Op, past: &View<'_>) -> Option<Order> {
    let Op::Remove(remove) = op else { return None };
    let leaving = past.leaving();
    let left = remove.targets.iter().map(|target| leaving.get(target).map(|leave| past.nodes.at(*leave).rank));
    left.collect::<Option<Vec<Order>>>()?.into_iter().min()
}

fn demotes(op: &Op, past: &View<'_>) -> bool {
    match op {
        Op::SetRole(op) => past.role(&op.controller).is_some_and(|had| op.role.is_below(had)),
        _ => false,
    }
}
