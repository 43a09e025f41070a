//! What an identity amounts to where it is a controller of another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::bits::Bits;
use super::super::nodes::Nodes;
use super::super::subject::{ActingDevice, NestedIdentity, Subject};
use super::super::view::View;
use super::super::{AuthorityGraph, EpochInfo, IdentityState};
use super::Named;
use crate::crypto::{KeyId, ReceivingPublic};
use crate::id::{ControllerId, DeviceId, Did, EpochId, OpId, Role};
use crate::op::Op;

/// Views kept. Chosen: as for states of past heads.
const VIEWS_CACHED: usize = 64;

/// A nested identity as of some of its ops.
#[derive(Debug)]
pub(in crate::state) struct NestedView {
    pub(in crate::state) state: Arc<IdentityState>,
    /// Devices with role member or above, at any level.
    pub(in crate::state) devices: BTreeMap<DeviceId, Arc<ActingDevice>>,
    /// Keys that may be sealed to: of epochs that nobody can open who was removed.
    receiving: BTreeSet<KeyId>,
    /// The best of them.
    seal_to: Option<(EpochId, ReceivingPublic)>,
    /// Counting removals, at any level, with the devices that each ended.
    pub(in crate::state) retired: BTreeMap<OpId, BTreeSet<DeviceId>>,
}

impl NestedView {
    /// Returns the identity as a controller; `introduced`: devices that have shown themselves there.
    pub(in crate::state) fn acting(&self, did: Did, introduced: &BTreeSet<DeviceId>) -> NestedIdentity {
        let devices = self.devices.iter().filter(|(id, _)| introduced.contains(id));
        NestedIdentity {
            did,
            as_of: self.state.heads.clone(),
            devices: devices.map(|(id, device)| (*id, Arc::clone(device))).collect(),
            seal_to: self.seal_to.clone(),
            receiving: self.receiving.clone(),
        }
    }

    /// Returns the key to seal to.
    pub(in crate::state) fn seal_to(&self) -> Option<&ReceivingPublic> {
        self.seal_to.as_ref().map(|(_, key)| key)
    }

    /// Returns the epoch whose key that is.
    pub(in crate::state) fn sealing_epoch(&self) -> Option<EpochId> {
        self.seal_to.as_ref().map(|(epoch, _)| *epoch)
    }

    /// Returns the devices that were removed and have not come back.
    pub(in crate::state) fn gone(&self) -> BTreeSet<DeviceId> {
        let all = self.retired.values().flatten().copied();
        all.filter(|device| !self.devices.contains_key(device)).collect()
    }

    /// Says whether nobody who was removed can open what is sealed to this key.
    pub(in crate::state) fn is_sound(&self, key: &KeyId) -> bool {
        self.receiving.contains(key)
    }
}

impl AuthorityGraph {
    /// Returns everything that ops at these heads name.
    pub(in crate::state) fn named_at<'a>(&self, heads: impl IntoIterator<Item = &'a OpId>) -> Named {
        let mut named = Named::default();
        if !self.nested.is_empty() {
            for at in heads.into_iter().filter_map(|head| self.nodes().find(head)) {
                named.union(&self.nodes().at(at).named);
            }
        }
        named
    }

    /// Returns everything that ops of a set name.
    pub(in crate::state) fn named_in(&self, set: &Bits) -> Named {
        let mut named = Named::default();
        if !self.nested.is_empty() {
            set.iter().for_each(|at| named.union(&self.nodes().at(at).named));
        }
        named
    }

    /// Returns the view under the ops of a set, which holds all ancestors of its members.
    pub(in crate::state) fn view_of(&mut self, set: &Bits) -> Arc<NestedView> {
        if let Some(view) = self.views.get(set) {
            return Arc::clone(view);
        }
        let state =
            if set.len() == self.len() { self.state() } else { self.folded_of(set.clone(), self.named_in(set)) };
        let view = Arc::new(self.view_from(state));
        while self.views.len() >= VIEWS_CACHED {
            self.views.pop_first();
        }
        self.views.insert(set.clone(), Arc::clone(&view));
        view
    }

    /// Returns the view of every identity that is named.
    pub(in crate::state) fn nested_views(&mut self, named: &Named) -> BTreeMap<Did, Arc<NestedView>> {
        let mut views = BTreeMap::new();
        for (did, set) in named.iter() {
            if let Some(graph) = self.nested.get_mut(did) {
                views.insert(*did, graph.view_of(set));
            }
        }
        views
    }

    fn view_from(&mut self, state: Arc<IdentityState>) -> NestedView {
        // Nobody acts for an identity that was ended.
        let goes_on = state.deactivated.is_none();
        let writers = state.controllers.values().filter(|controller| goes_on && controller.role.writes());
        let devices = writers.flat_map(|writer| writer.devices()).map(|(id, device)| (id, Arc::clone(device)));
        let sound: Vec<&EpochInfo> =
            state.epochs.values().filter(|epoch| epoch.counts && is_sound(self.nodes(), &state, epoch)).collect();
        let best = sound.iter().max_by_key(|epoch| (state.sending_epoch == Some(epoch.id), epoch.depth, epoch.id));
        let key_of = |id: &EpochId| Some(self.op(id)?.core().op.epoch()?.receiving.clone());
        let seal_to = best.and_then(|epoch| Some((epoch.id, key_of(&epoch.id)?)));
        NestedView {
            devices: devices.collect(),
            receiving: sound.iter().map(|epoch| epoch.key).collect(),
            seal_to,
            retired: self.retired(&state),
            state: Arc::clone(&state),
        }
    }

    /// Returns who was removed: directly, with an identity in between, or inside one.
    fn retired(&mut self, state: &IdentityState) -> BTreeMap<OpId, BTreeSet<DeviceId>> {
        let mut retired: BTreeMap<OpId, BTreeSet<DeviceId>> = BTreeMap::new();
        let removed = state.removals.iter().map(|removal| (removal.op, removal.target));
        let silenced = state.demotions.iter().filter(|demotion| !demotion.role.writes());
        for (op, target) in removed.chain(silenced.map(|demotion| (demotion.op, demotion.target))) {
            let devices = retired.entry(op).or_default();
            match target {
                ControllerId::Device(device) => drop(devices.insert(device)),
                ControllerId::Identity(did) => {
                    let view = state.evaluation.view(self.nodes());
                    devices.extend(view.introductions(&did).map(|(_, device)| device));
                }
            }
        }
        // Whoever is not on the list of a recovery is out, and at its end everybody.
        for recovery in &state.recoveries {
            retired.insert(recovery.op, self.left_out_by(&recovery.op));
        }
        if let Some(end) = &state.deactivated {
            retired.insert(end.op, self.devices_but(|_| false));
        }
        for view in self.nested_views(&state.evaluation.named.clone()).values() {
            for (removal, devices) in &view.retired {
                retired.entry(*removal).or_default().extend(devices);
            }
        }
        retired
    }

    /// Returns the devices of those whom a recovery does not list. Whoever came after it is among them, and named it.
    fn left_out_by(&self, recovery: &OpId) -> BTreeSet<DeviceId> {
        let op = self.nodes().find(recovery).map(|at| self.nodes().at(at).kind());
        let listed = |id: &ControllerId| match op {
            Some(Op::Recover(op)) => op.controllers.iter().any(|(record, _)| record.id() == *id),
            _ => false,
        };
        self.devices_but(listed)
    }

    /// Returns every device that ever was a controller, or acted for one, but for these.
    fn devices_but(&self, stays: impl Fn(&ControllerId) -> bool) -> BTreeSet<DeviceId> {
        let devices = self.nodes().records.keys().map(|device| (ControllerId::Device(*device), *device));
        let acting = self
            .nodes()
            .introductions
            .iter()
            .flat_map(|(did, shown)| shown.iter().map(|(_, device)| (ControllerId::Identity(*did), *device)));
        let (staying, going): (Vec<_>, Vec<_>) = devices.chain(acting).partition(|(controller, _)| stays(controller));
        let staying: BTreeSet<DeviceId> = staying.into_iter().map(|(_, device)| device).collect();
        going.into_iter().map(|(_, device)| device).filter(|device| !staying.contains(device)).collect()
    }

    /// Says whether a set of this graph's ops holds an op, of this identity or of one named below.
    pub(in crate::state) fn holds(&self, set: &Bits, op: &OpId) -> bool {
        if let Some(at) = self.nodes().find(op) {
            return set.has(at);
        }
        let named = self.named_in(set);
        named.iter().any(|(did, below)| self.nested.get(did).is_some_and(|graph| graph.holds(below, op)))
    }

    /// Says whether what entitled a device under `then` still counts under `now`, at every level.
    pub(in crate::state) fn still_entitled(&mut self, device: &DeviceId, then: &Bits, now: &Bits) -> bool {
        let (then, now) = (Arc::clone(&self.view_of(then).state), Arc::clone(&self.view_of(now).state));
        let Some(controller) = then.controller_of(device) else { return false };
        if !self.entitlement_counts(&controller.id, &then, &now) {
            return false;
        }
        let counts_now = now.evaluation.view(self.nodes());
        let counted_then = then.evaluation.view(self.nodes());
        let Subject::Identity(nested) = &controller.subject else { return true };
        let introduced = counted_then.introductions(&nested.did).any(|(at, id)| id == *device && counts_now.counts(at));
        let (named_then, named_now) = (then.evaluation.named.of(&nested.did), now.evaluation.named.of(&nested.did));
        let (Some(below_then), Some(below_now)) = (named_then.cloned(), named_now.cloned()) else { return false };
        let Some(graph) = self.nested.get_mut(&nested.did) else { return false };
        introduced && graph.still_entitled(device, &below_then, &below_now)
    }
}

/// Says whether only current controllers can open an epoch: it was dealt to nobody else, nobody else can have got it
/// with the history of a later one, and its slots for identities open for none of their removed devices.
fn is_sound(nodes: &Nodes, state: &IdentityState, epoch: &EpochInfo) -> bool {
    let Some(at) = nodes.find(&epoch.id) else { return false };
    let follows = |op: &OpId| nodes.find(op).is_some_and(|removal| removal == at || nodes.at(at).past.has(removal));
    let reads = |id: &ControllerId| state.role(id).is_some_and(Role::reads);
    let removed = state.removals.iter().map(|removal| (&removal.op, &removal.target));
    let blinded = state.demotions.iter().filter(|one| !one.role.reads()).map(|one| (&one.op, &one.target));
    let gone: Vec<(&OpId, &ControllerId)> = removed.chain(blinded).filter(|(_, target)| !reads(target)).collect();
    let outlives = |target: &ControllerId| gone.iter().any(|(op, other)| *other == target && follows(op));
    state.leaving.is_empty()
        && state.deactivated.is_none()
        && epoch.readers.iter().all(reads)
        && gone.iter().all(|(_, target)| outlives(target))
        && state.recoveries.iter().all(|recovery| follows(&recovery.op))
        && slots_are_sound(nodes.at(at).kind(), |did, key| match state.subject_of(did) {
            Some(nested) => nested.receiving.contains(key),
            None => false,
        })
}

/// Says whether every slot of an identity is sealed to one of its sound keys.
pub(in crate::state) fn slots_are_sound(op: &Op, is_sound: impl Fn(&Did, &KeyId) -> bool) -> bool {
    let slots = op.epoch().map(|epoch| epoch.slots.as_slice()).unwrap_or_default();
    slots.iter().all(|slot| match &slot.controller {
        ControllerId::Device(_) => true,
        ControllerId::Identity(did) => is_sound(did, &slot.key),
    })
}

impl View<'_> {
    /// Returns the counting ops by which devices of an identity have shown themselves, with the device.
    pub(in crate::state) fn introductions(&self, did: &Did) -> impl Iterator<Item = (usize, DeviceId)> {
        let view = *self;
        let ops = self.nodes.introductions.get(did).into_iter().flatten();
        ops.copied().filter(move |(at, _)| view.counts(*at))
    }
}
