//! Starting over with the recovery key.

use std::collections::BTreeMap;

use super::base::sort_cut;
use super::{BuildError, Builder, Built, RecoveryPlan};
use crate::crypto::HybridSignature;
use crate::epoch::{Recipient, deal_slots, prepare};
use crate::id::{ControllerId, DeviceId, Did, OpId, Role};
use crate::op::{ControllerRecord, HistoryPolicy, Op, Recover};
use crate::recovery::RecoveryKey;
use crate::state::IdentityState;

impl Builder<'_> {
    /// Starts over with the recovery code: the author is an admin from now on, and beside it control those of `plan`. The
    /// author is this builder's device, which the identity need not know; or the identity that it acts for, which need not
    /// have been a controller, but whose ops must be here.
    ///
    /// # Errors
    /// [`BuildError::NoDevice`] if a controller that is to stay is no device that the identity knows, nor an identity of
    /// which something is here; [`BuildError::NestedKey`] if nothing can be sealed to such an identity now.
    pub fn recover(mut self, key: &RecoveryKey, plan: RecoveryPlan) -> Result<Built, BuildError> {
        let RecoveryPlan { staying, mut cut, mut kept, next_recovery } = plan;
        sort_cut(&mut cut);
        kept.sort_unstable();
        kept.dedup();
        let (parents, state) = self.base();
        let controllers = self.recovered(&state, staying)?;
        let mut recipients = Vec::new();
        for (id, (record, role)) in &controllers {
            recipients.push(self.recovered_recipient(&state, &parents, (*id, record, *role))?);
        }
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
        &mut self,
        state: &IdentityState,
        staying: BTreeMap<ControllerId, Role>,
    ) -> Result<BTreeMap<ControllerId, (ControllerRecord, Role)>, BuildError> {
        let mut all = BTreeMap::new();
        for (controller, role) in staying {
            let record = match controller {
                ControllerId::Device(device) => {
                    let record = self.graph.device_record(&device).ok_or(BuildError::NoDevice { controller })?;
                    ControllerRecord::Device(record.clone())
                }
                ControllerId::Identity(did) => {
                    let device = self.acting_device(state, &did).ok_or(BuildError::NoDevice { controller })?;
                    ControllerRecord::Identity { did, as_of: self.graph.nested_heads(&did), device }
                }
            };
            all.insert(controller, (record, role));
        }
        let own = match self.author {
            ControllerId::Device(device) => ControllerRecord::Device(
                self.graph.device_record(&device).unwrap_or_else(|| self.keys.public()).clone(),
            ),
            ControllerId::Identity(did) => {
                ControllerRecord::Identity { did, as_of: self.graph.nested_heads(&did), device: self.keys.id() }
            }
        };
        all.insert(self.author, (own, Role::Admin));
        Ok(all)
    }

    /// Returns a device by which an identity goes on: one that acts for it now, otherwise any that may.
    fn acting_device(&mut self, state: &IdentityState, did: &Did) -> Option<DeviceId> {
        let acting = state.subject_of(did).and_then(|nested| nested.devices.keys().next().copied());
        acting.or_else(|| self.graph.nested_devices(did).into_keys().next())
    }

    fn recovered_recipient(
        &mut self,
        state: &IdentityState,
        parents: &[OpId],
        (controller, record, role): (ControllerId, &ControllerRecord, Role),
    ) -> Result<Recipient, BuildError> {
        let own = controller == self.author;
        let key = match record {
            ControllerRecord::Device(_) if own => self.keys.public().receiving.clone(),
            ControllerRecord::Device(public) => {
                let known = state.controllers.get(&controller).and_then(|known| self.receiving_key(known));
                let newer = known.or_else(|| self.receiving.get(&controller).cloned());
                newer.unwrap_or_else(|| public.receiving.clone())
            }
            ControllerRecord::Identity { did, as_of, .. } => {
                self.graph.key_to_seal(did, as_of, parents).ok_or(BuildError::NestedKey { did: *did })?
            }
        };
        let history = role.reads() && (own || state.history == HistoryPolicy::All);
        Ok(Recipient { controller, key, reads: role.reads(), history })
    }
}
