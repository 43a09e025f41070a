//! What all builders share: parents, recipients, predecessors.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{BuildError, Builder, Built};
use crate::crypto::ReceivingPublic;
use crate::epoch::{EpochSecrets, Predecessor, Recipient, deal_slots, prepare};
use crate::id::{ControllerId, EpochId, OpId};
use crate::op::{AUTH_PARENTS_MAX, ChainCut, EpochPart, Op, OpCore};
use crate::state::{Controller, IdentityState, Subject};

impl Builder<'_> {
    /// Returns the parents to name and the state they amount to: the heads, but for void ops without consequence if there
    /// are more than a few; naming them would keep them for ever (rule 9). Of more than 64 heads those that hold the
    /// author's own ops come first; the rest is named by later ops.
    pub(super) fn base(&mut self) -> (Vec<OpId>, Arc<IdentityState>) {
        let mut heads = self.graph.heads_to_build_on();
        if heads.len() > AUTH_PARENTS_MAX {
            let void = self.graph.state().void.clone();
            let own = self.graph.nodes().by_author.get(&self.author).cloned().unwrap_or_default();
            let nodes = self.graph.nodes();
            let covers = |id: &OpId| {
                nodes
                    .find(id)
                    .map_or(0, |at| own.iter().filter(|own| **own == at || nodes.at(at).past.has(**own)).count())
            };
            // Forks of the removed come last, or they would crowd out what counts.
            heads.sort_by_cached_key(|id| (void.contains_key(id), std::cmp::Reverse(covers(id))));
            heads.truncate(AUTH_PARENTS_MAX);
            heads.sort_unstable();
        }
        let state = match self.graph.state_at(&heads) {
            Ok(state) => state,
            // Heads are always known.
            Err(_) => self.graph.state(),
        };
        (heads, state)
    }

    pub(super) fn core(&self, auth_parents: Vec<OpId>, op: Op) -> OpCore {
        OpCore { chain: *self.graph.chain().digest(), author: self.author, device: self.keys.id(), auth_parents, op }
    }

    pub(super) fn recipients(&self, state: &IdentityState, without: &BTreeSet<ControllerId>) -> Vec<Recipient> {
        let staying = state.controllers.values().filter(|controller| !without.contains(&controller.id));
        staying
            .filter_map(|controller| {
                Some(Recipient {
                    controller: controller.id,
                    key: self.receiving_key(controller)?,
                    reads: controller.role.reads(),
                    history: controller.history,
                })
            })
            .collect()
    }

    /// Returns the key that a controller's slots are sealed to; none if nothing can be sealed to it.
    pub(super) fn receiving_key(&self, controller: &Controller) -> Option<ReceivingPublic> {
        match &controller.subject {
            Subject::Device(device) => {
                Some(self.receiving.get(&controller.id).unwrap_or(&device.current.receiving).clone())
            }
            Subject::Identity(nested) => nested.seal_to.as_ref().map(|(_, key)| key.clone()),
        }
    }

    pub(super) fn without_epoch(&self, parents: Vec<OpId>, op: Op) -> Result<Built, BuildError> {
        Ok(Built { op: self.core(parents, op).sign(self.keys, self.entropy)?, secrets: None })
    }

    pub(super) fn with_epoch(
        &self,
        parents: Vec<OpId>,
        recipients: &[Recipient],
        op: impl FnOnce(EpochPart) -> Op,
    ) -> Result<Built, BuildError> {
        let predecessors = self.predecessors(&parents);
        let (epoch, secrets) = prepare(self.graph.chain().digest(), &predecessors, self.entropy);
        let mut core = self.core(parents, op(epoch));
        deal_slots(&mut core, &secrets, recipients, self.entropy)?;
        Ok(Built { op: core.sign(self.keys, self.entropy)?, secrets: Some(secrets) })
    }

    /// Returns every epoch of the past whose secret is held and which no other such epoch carries on already: void and
    /// losing epochs too, so that nothing sealed under them is lost.
    pub(super) fn predecessors(&self, parents: &[OpId]) -> Vec<Predecessor> {
        let nodes = self.graph.nodes();
        let past = nodes.past_of(parents).unwrap_or_default();
        let mut held: BTreeMap<EpochId, (&EpochSecrets, &[EpochId])> = BTreeMap::new();
        for at in past.iter() {
            let node = nodes.at(at);
            if let (Some(part), Some(secrets)) = (node.kind().epoch(), self.held.get(&node.id())) {
                held.insert(node.id(), (secrets, &part.predecessors));
            }
        }
        let carrying = held.values().filter(|(secrets, _)| secrets.history.is_some());
        let carried: BTreeSet<EpochId> = carrying.flat_map(|(_, predecessors)| predecessors.iter().copied()).collect();
        let open = held.into_iter().filter(|(id, _)| !carried.contains(id));
        open.filter_map(|(id, (secrets, _))| {
            Some(Predecessor { id, epoch: secrets.epoch.clone()?, history: secrets.history.clone() })
        })
        .collect()
    }
}

pub(super) fn sort_cut(cut: &mut [ChainCut]) {
    cut.sort_unstable_by_key(|cut| cut.chain);
    cut.iter_mut().for_each(|cut| cut.heads.sort_unstable());
}
