//! Starting over with the recovery key.

use std::collections::BTreeMap;

use super::base::sort_cut;
use super::{BuildError, Builder, Built, RecoveryPlan};
use crate::crypto::HybridSignature;
use crate::epoch::{Recipient, deal_slots, prepare};
use crate::id::{ControllerId, Role};
use crate::op::{ControllerRecord, HistoryPolicy, Op, Recover};
use crate::recovery::RecoveryKey;
use crate::state::IdentityState;

impl Builder<'_> {
    /// Starts over with the recovery code: this builder's device, which the identity need not know, is an admin from now
    /// on, and beside it control those of `plan`.
    ///
    /// # Errors
    /// [`BuildError::NoDevice`] if a controller that is to stay is no device that the identity knows.
    pub fn recover(mut self, key: &RecoveryKey, plan: RecoveryPlan) -> Result<Built, BuildError> {
        let RecoveryPlan { staying, mut cut, mut kept, next_recovery } = plan;
        sort_cut(&mut cut);
        kept.sort_unstable();
        kept.dedup();
        let (parents, state) = self.base();
        let controllers = self.recovered(staying)?;
        let recipients: Vec<Recipient> = controllers
            .iter()
            .filter_map(|(id, (record, role))| self.recovered_recipient(&state, *id, record, *role))
            .collect();
        let predecessors = self.predecessors(&parents);
        let (epoch, secrets) = prepare(self.graph.chain().digest(), &predecessors, self.entropy);
        let op = Op::Recover(Box::new(Recover {
            controllers: controllers.into_values().collect(),
            cut,
            kept,
            recovery_key: key.public(),
            recovery_signature: HybridSignature::zero(),
            next_recovery,
            epoch,
        }));
        let mut core = self.core(parents, op);
        key.sign(&mut core, self.entropy);
        deal_slots(&mut core, &secrets, &recipients, self.entropy)?;
        Ok(Built { op: core.sign(self.keys, self.entropy)?, secrets: Some(secrets) })
    }

    /// Returns everybody who controls a recovered identity, with record and role.
    fn recovered(
        &self,
        staying: BTreeMap<ControllerId, Role>,
    ) -> Result<BTreeMap<ControllerId, (ControllerRecord, Role)>, BuildError> {
        let mut all = BTreeMap::new();
        for (controller, role) in staying {
            let ControllerId::Device(device) = controller else { return Err(BuildError::NoDevice { controller }) };
            let record = self.graph.device_record(&device).ok_or(BuildError::NoDevice { controller })?;
            all.insert(controller, (ControllerRecord::Device(record.clone()), role));
        }
        let first = self.graph.device_record(&self.keys.id()).unwrap_or_else(|| self.keys.public()).clone();
        all.insert(ControllerId::Device(self.keys.id()), (ControllerRecord::Device(first), Role::Admin));
        Ok(all)
    }

    fn recovered_recipient(
        &self,
        state: &IdentityState,
        controller: ControllerId,
        record: &ControllerRecord,
        role: Role,
    ) -> Option<Recipient> {
        let ControllerRecord::Device(public) = record else { return None };
        let own = controller == ControllerId::Device(self.keys.id());
        let key = match state.controllers.get(&controller) {
            _ if own => self.keys.public().receiving.clone(),
            Some(known) => self.receiving_key(known)?,
            None => self.receiving.get(&controller).unwrap_or(&public.receiving).clone(),
        };
        let history = role.reads() && (own || state.history == HistoryPolicy::All);
        Some(Recipient { controller, key, reads: role.reads(), history })
    }
}
