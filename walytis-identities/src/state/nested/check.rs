//! Checks of ops that have to do with identities below, as they enter.

use std::collections::BTreeMap;
use walytis_core::key::PublicKey;

use super::super::{AuthorityGraph, Refusal, Rule, rights};
use super::{Named, names};
use crate::crypto::{DecodedKeys, ReceivingPublic};
use crate::id::{ControllerId, DeviceId, Did, EpochId, OpId};
use crate::op::{Op, SignedOp};

impl AuthorityGraph {
    /// Checks what can be checked of an op while ops of an identity that it names are missing: so that nobody without a
    /// right makes others ask for them.
    pub(in crate::state) fn check_before_names(&mut self, op: &SignedOp) -> Result<(), Refusal> {
        let core = op.core();
        let past = self.nodes.past_of(&core.auth_parents).map_err(|_| Refusal::UnknownDevice)?;
        let named = self.named_at(&core.auth_parents);
        if matches!(core.author, ControllerId::Device(_)) {
            self.check_author(op, &past, &named)?;
        }
        let evaluation = self.evaluated(past, named);
        let view = evaluation.view(&self.nodes);
        rights::check(core, &view, true).map_err(|rule| Refusal::Unauthorised { rule })?;
        match &core.op {
            // The public key alone, which everybody knows after its use, gives no right.
            Op::Recover(recover) => self.check_recovery(core, recover),
            _ => Ok(()),
        }
    }

    /// Checks that a tree of identities stays within its bound, if the op names any.
    pub(in crate::state) fn check_tree(&self, op: &SignedOp, named: &Named) -> Result<(), Refusal> {
        if names(op.core()).is_empty() || self.tree_size(named) <= super::NESTED_MAX {
            return Ok(());
        }
        Err(Refusal::Unauthorised { rule: Rule::NestedMax })
    }

    fn tree_size(&self, named: &Named) -> usize {
        let mut size = 0;
        for (did, below) in named.iter() {
            let graph = self.nested.get(did);
            size += 1 + graph.map_or(0, |graph| graph.tree_size(&graph.named_in(below)));
        }
        size
    }

    /// Returns the keys of a device that acts for an identity below under what is named of it.
    pub(in crate::state) fn nested_keys(
        &mut self,
        device: &DeviceId,
        did: &Did,
        named: &Named,
    ) -> Result<DecodedKeys, Refusal> {
        let stranger = Refusal::Unauthorised { rule: Rule::NestedDevice };
        let (Some(set), Some(graph)) = (named.of(did), self.nested.get_mut(did)) else { return Err(stranger) };
        if !graph.view_of(set).devices.contains_key(device) {
            return Err(stranger);
        }
        graph.keys_under(device, set).ok_or(stranger)
    }

    /// Returns the key to seal to an identity below as of these heads, on top of what `parents` name; none if a removed
    /// device could open that, or the heads are not here.
    pub(in crate::state) fn key_to_seal(
        &mut self,
        did: &Did,
        as_of: &[OpId],
        parents: &[OpId],
    ) -> Option<ReceivingPublic> {
        let mut named = self.named_at(parents);
        let graph = self.nested.get_mut(did)?;
        named.add(*did, &graph.nodes().past_of(as_of).ok()?);
        graph.view_of(named.of(did)?).seal_to().cloned()
    }

    /// Says whether a device signs blocks with this key: its first one, or one that it renewed, here or in an identity
    /// below.
    pub fn signs_blocks(&self, device: &DeviceId, key: &PublicKey) -> bool {
        let renewed = self.nodes.updates.get(device).into_iter().flatten().any(|at| match self.nodes.at(*at).kind() {
            Op::Update(op) => op.keys.as_ref().is_some_and(|(public, _)| public.block_key() == *key),
            _ => false,
        });
        renewed
            || self.device_record(device).is_some_and(|public| public.block_key() == *key)
            || self.nested.values().any(|graph| graph.signs_blocks(device, key))
    }

    /// Drops ops that wait for an identity that they name without having a right to.
    pub(in crate::state) fn drop_without_right(&mut self) {
        let waiting: Vec<SignedOp> =
            self.pending.values().filter(|op| self.unknown_parents(op).is_empty()).cloned().collect();
        for op in waiting {
            if self.check_before_names(&op).is_err() {
                self.pending.remove(&op.id());
            }
        }
    }

    /// Returns the heads to name of an identity below: of everything of it that is here.
    pub fn nested_heads(&self, did: &Did) -> Vec<OpId> {
        self.nested.get(did).map(Self::named_heads).unwrap_or_default()
    }

    /// Returns the devices that act for an identity below under everything of it that is here, named or not, each with
    /// role member or above.
    pub fn nested_devices(&mut self, did: &Did) -> BTreeMap<DeviceId, OpId> {
        let Some(graph) = self.nested.get_mut(did) else { return BTreeMap::new() };
        let state = graph.state();
        let writers = state.controllers.values().filter(|controller| controller.role.writes());
        writers.flat_map(|writer| writer.devices().map(|(id, _)| (id, writer.since))).collect()
    }

    /// Returns the key that a device signs blocks with under everything that is here of the identity below that it acts for.
    pub(in crate::state) fn nested_block_key(&mut self, did: &Did, device: &DeviceId) -> Option<PublicKey> {
        Some(self.nested.get_mut(did)?.state().device(device)?.block_key())
    }

    /// Returns the device that made an op of an identity below.
    pub(in crate::state) fn made_below(&self, did: &Did, op: &OpId) -> Option<DeviceId> {
        let graph = self.nested.get(did)?;
        let below = || graph.nested.keys().find_map(|inner| graph.made_below(inner, op));
        graph.op(op).map(|op| op.core().device).or_else(below)
    }

    /// Returns the epoch of an identity below that can be sealed to under everything of it that is here, named or not.
    pub(in crate::state) fn nested_key(&mut self, did: &Did) -> Option<EpochId> {
        let graph = self.nested.get_mut(did)?;
        let everything = graph.everything();
        graph.view_of(&everything).sealing_epoch()
    }

    /// Returns the lowest removal inside an identity below, among all that is known here of it, that no `Update` shows
    /// yet: one of the identity's devices has to.
    pub fn unshown_removal(&mut self, did: &Did) -> Option<OpId> {
        let graph = self.nested.get_mut(did)?;
        let everything = graph.everything();
        let view = graph.view_of(&everything);
        let shown = |removal: &&OpId| {
            let updates = self.nodes.naming.get(did).into_iter().flatten();
            let named = updates.filter_map(|at| self.nodes.at(*at).named.of(did));
            named.into_iter().any(|named| self.nested.get(did).is_some_and(|graph| graph.holds(named, removal)))
        };
        let admitted = self.nodes.identities.get(did).and_then(|ops| ops.first());
        let before = admitted.and_then(|at| self.nodes.at(*at).named.of(did));
        let graph = self.nested.get(did)?;
        // What the identity had behind it when it was admitted needs no showing.
        let news = view.retired.keys().filter(|removal| !before.is_some_and(|before| graph.holds(before, removal)));
        news.copied().find(|removal| !shown(&removal))
    }
}
