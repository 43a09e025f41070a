//! Which ops of identities' devices are void for what happened inside those identities.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::bits::Bits;
use super::super::nodes::Nodes;
use super::super::{AuthorityGraph, IdentityState, VoidReason};
use super::{LEVELS_MAX, Named, NestedView};
use crate::id::{ControllerId, DeviceId, Did, OpId};
use crate::identity::RecordRef;
use crate::op::{ChainCut, Op};

impl AuthorityGraph {
    /// Says whether this identity as a controller is ignored here: it stands above already, or too deep.
    pub(in crate::state) fn ignores(&self, did: &Did) -> bool {
        *did == self.did() || self.above.contains(did) || self.above.len() + 1 >= LEVELS_MAX
    }

    /// Returns the ops of `set` beside `base` that are void whatever the other rules say, with the reason. `named`: all
    /// that the set names; its base names the same, so for the base nothing changes. Looks at those alone, so that it does
    /// not matter in which order anything came.
    pub(in crate::state) fn nested_voids(
        &mut self,
        base: &Bits,
        set: &Bits,
        named: &Named,
    ) -> Vec<(usize, VoidReason)> {
        let mut voids = BTreeMap::new();
        let concerned = |at: usize| set.has(at) && !base.has(at);
        for (did, admissions) in &self.nodes.identities {
            if self.ignores(did) {
                voids.extend(admissions.iter().filter(|at| concerned(**at)).map(|at| (*at, VoidReason::Nesting)));
            }
        }
        for (did, now) in named.iter() {
            let (nodes, Some(graph)) = (&self.nodes, self.nested.get_mut(did)) else { continue };
            let theirs = nodes.by_author.get(&ControllerId::Identity(*did)).into_iter().flatten().copied();
            // Children first: what retires a device lies behind what it retires.
            let theirs: Vec<usize> = theirs.filter(|at| concerned(*at)).collect();
            let mut retirement = Retirement { nodes, graph, did, now, set, void: BTreeSet::new() };
            for at in theirs.into_iter().rev() {
                if let Some(reason) = retirement.judge(at) {
                    retirement.void.insert(at);
                    voids.insert(at, reason);
                }
            }
        }
        voids.into_iter().collect()
    }
}

/// What a removal inside an identity does to what the removed device did here. The counterpart of a `Remove` is the
/// first `Update` whose heads show the removal: what it has in its past stands.
struct Retirement<'a> {
    nodes: &'a Nodes,
    graph: &'a mut AuthorityGraph,
    did: &'a Did,
    /// All that the set names of the identity.
    now: &'a Bits,
    set: &'a Bits,
    /// Found void so far.
    void: BTreeSet<usize>,
}

impl Retirement<'_> {
    fn judge(&mut self, at: usize) -> Option<VoidReason> {
        let node = self.nodes.at(at);
        // Its right is the recovery key's, whoever publishes it; and it has the final word.
        if matches!(node.kind(), Op::Recover(_)) {
            return None;
        }
        let device = node.op.core().device;
        let then = node.named.of(self.did)?;
        if then == self.now {
            return None;
        }
        if !self.graph.still_entitled(&device, then, self.now) {
            return Some(VoidReason::NestedUnfounded);
        }
        let view = self.graph.view_of(self.now);
        let over =
            ended(&view, &device).find(|removal| !self.graph.holds(then, removal) && self.is_cut_off(at, removal));
        over.map(|removal| VoidReason::NestedRemoved { removal })
    }

    /// Says whether some `Update` shows the removal, and none of those that show it first has the op in its past.
    fn is_cut_off(&self, at: usize, removal: &OpId) -> bool {
        let mut shown = false;
        for update in self.updates().filter(|update| self.shows(*update, removal)) {
            shown = true;
            let first =
                !self.updates().any(|other| self.nodes.at(update).past.has(other) && self.shows(other, removal));
            if first && self.nodes.at(update).past.has(at) && !self.void.contains(&update) {
                return false;
            }
        }
        shown
    }

    fn updates(&self) -> impl Iterator<Item = usize> {
        self.nodes.naming.get(self.did).into_iter().flatten().copied().filter(|at| self.set.has(*at))
    }

    fn shows(&self, update: usize, removal: &OpId) -> bool {
        self.nodes.at(update).named.of(self.did).is_some_and(|named| self.graph.holds(named, removal))
    }
}

fn ended(view: &Arc<NestedView>, device: &DeviceId) -> impl Iterator<Item = OpId> {
    let all = view.retired.iter().filter(|(_, devices)| devices.contains(device));
    all.map(|(removal, _)| *removal).collect::<Vec<_>>().into_iter()
}

impl AuthorityGraph {
    /// Returns the cuts that bind a record by a device of an identity: for each removal that ended the device and that the
    /// record's own past does not show, what the first `Update`s to show it let stand, together. None if what entitled
    /// the device is void.
    pub(in crate::state) fn nested_cuts(
        &mut self,
        record: &RecordRef,
        then: &IdentityState,
        now: &IdentityState,
    ) -> Option<Vec<Vec<ChainCut>>> {
        let ControllerId::Identity(did) = &record.author else { return Some(Vec::new()) };
        let author = then.controllers.get(&record.author)?;
        let device = author.devices().find(|(_, device)| device.block_keys.contains(&record.creator))?.0;
        let (below_then, below_now) = (then.evaluation.named.of(did)?, now.evaluation.named.of(did)?);
        let counts = |at: usize| now.evaluation.view(&self.nodes).counts(at);
        let introduced = self.nodes.introductions.get(did).into_iter().flatten();
        if !introduced.clone().any(|(at, id)| *id == device && counts(*at)) {
            return None;
        }
        let graph = self.nested.get_mut(did)?;
        if !graph.still_entitled(&device, below_then, below_now) {
            return None;
        }
        let view = graph.view_of(below_now);
        let graph = &*graph;
        let shows = |at: usize, op: &OpId| self.nodes.at(at).named.of(did).is_some_and(|named| graph.holds(named, op));
        let updates =
            || self.nodes.naming.get(did).into_iter().flatten().copied().filter(|at| now.evaluation.set.has(*at));
        let mut cuts = Vec::new();
        for removal in ended(&view, &device).filter(|removal| !graph.holds(below_then, removal)) {
            let showing: Vec<usize> = updates().filter(|at| shows(*at, &removal)).collect();
            let first = showing.iter().filter(|at| !showing.iter().any(|other| self.nodes.at(**at).past.has(*other)));
            let stands = first.filter(|at| counts(**at)).filter_map(|at| match self.nodes.at(*at).kind() {
                Op::Update(update) => Some(update.cut.clone()),
                _ => None,
            });
            if !showing.is_empty() {
                cuts.push(stands.flatten().collect());
            }
        }
        Some(cuts)
    }
}
