//! Whether an op is signed as it must be, by keys that its own past knows.

use std::collections::BTreeMap;

use super::bits::Bits;
use super::nested::Named;
use super::nodes::{Node, Nodes};
use super::{AuthorityGraph, Refusal};
use crate::crypto::{DecodedKeys, DevicePublic, Label, SignatureInvalid};
use crate::id::{ControllerId, DeviceId, OpId};
use crate::op::{Admit, ControllerRecord, Op, OpCore, Recover, SignedOp, Update};
use crate::recovery::verify_recovery;
use crate::token::{possession_message, renewal_message};

/// Decoded signing keys of devices: the first ones, and those that some op renewed.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyRing {
    first: BTreeMap<DeviceId, DecodedKeys>,
    renewed: BTreeMap<DeviceId, Vec<(OpId, DecodedKeys)>>,
}

impl KeyRing {
    /// Returns every key pair of a device's lineage that `knows` allows, as one.
    fn lineage(&self, device: &DeviceId, knows: impl Fn(&OpId) -> bool) -> Option<DecodedKeys> {
        let mut keys = self.first.get(device)?.clone();
        let renewed = self.renewed.get(device).into_iter().flatten();
        renewed.filter(|(op, _)| knows(op)).for_each(|(_, later)| keys.extend(later));
        Some(keys)
    }

    /// Decodes the first keys of a device once. Keeps only what verifies something: keys of refused newcomers are
    /// dropped with the next that are decoded.
    pub(super) fn first(&mut self, public: &DevicePublic, nodes: &Nodes) -> Result<DecodedKeys, SignatureInvalid> {
        let id = public.device_id();
        if let Some(keys) = self.first.get(&id) {
            return Ok(keys.clone());
        }
        self.first.retain(|device, _| nodes.records.contains_key(device));
        let keys = DecodedKeys::decode(public)?;
        self.first.insert(id, keys.clone());
        Ok(keys)
    }

    fn note(&mut self, id: OpId, core: &OpCore) {
        let Op::Update(op) = &core.op else { return };
        let Some((public, _)) = &op.keys else { return };
        if let Ok(keys) = DecodedKeys::decode_renewed(core.device, public) {
            self.renewed.entry(core.device).or_default().push((id, keys));
        }
    }
}

impl AuthorityGraph {
    /// Returns the decoded keys of a device that some admitted op introduced, here or in an identity below: its first
    /// ones and all that it renewed.
    pub fn device_keys(&self, device: &DeviceId) -> Option<DecodedKeys> {
        let own = self.nodes().records.get(device).and_then(|_| self.keys.lineage(device, |_| true));
        own.or_else(|| self.nested.values().find_map(|graph| graph.device_keys(device)))
    }

    /// Returns the decoded keys of a device as some heads know them; nothing if they do not know the device, or are not
    /// all here.
    pub fn device_keys_at(&self, device: &DeviceId, heads: &[OpId]) -> Option<DecodedKeys> {
        let past = self.nodes().past_of(heads).ok()?;
        self.keys_under(device, &past)
    }

    /// Takes in the keys of an op that entered.
    pub(super) fn note_keys(&mut self, node: &Node) {
        #[cfg(test)]
        if self.nodes.proved {
            return;
        }
        self.keys.note(node.id(), node.op.core());
    }

    /// Returns the keys of a device as a set of ops knows them, of this identity or of one that they name.
    pub(super) fn keys_under(&self, device: &DeviceId, set: &Bits) -> Option<DecodedKeys> {
        let below = || {
            let named = self.named_in(set);
            named.iter().find_map(|(did, below)| self.nested.get(did)?.keys_under(device, below))
        };
        self.known_keys(device, set).or_else(below)
    }

    fn known_keys(&self, device: &DeviceId, past: &Bits) -> Option<DecodedKeys> {
        self.nodes().records.get(device)?.iter().find(|at| past.has(**at))?;
        self.keys.lineage(device, |op| self.nodes().find(op).is_some_and(|at| past.has(at)))
    }

    /// Checks every signature of an op whose ancestors are `past`; `named`: what it and they name.
    pub(super) fn check_signatures(&mut self, op: &SignedOp, past: &Bits, named: &Named) -> Result<(), Refusal> {
        self.check_author(op, past, named)?;
        #[cfg(test)]
        if self.unsigned {
            return self.note_newcomer(op.core());
        }
        let core = op.core();
        match &core.op {
            Op::Admit(admit) => self.check_newcomer(core, admit, named),
            Op::Update(update) => check_renewal(core, update),
            Op::Recover(recover) => self.check_recovery(core, recover),
            _ => Ok(()),
        }
    }

    /// Checks the recovery key's signature, and that every listed device can be sealed to.
    pub(super) fn check_recovery(&self, core: &OpCore, recover: &Recover) -> Result<(), Refusal> {
        #[cfg(test)]
        if self.unsigned {
            return Ok(());
        }
        check_recovery(core, recover)
    }

    /// Checks that the author signed, with a device that the past knows as one that may act for it.
    pub(super) fn check_author(&mut self, op: &SignedOp, past: &Bits, named: &Named) -> Result<(), Refusal> {
        let core = op.core();
        let founds = recovers_with_own_device(core);
        let known = founds || self.acts_for(&core.device, &core.author, past, named)?;
        #[cfg(test)]
        if self.unsigned {
            return if known { Ok(()) } else { Err(Refusal::UnknownDevice) };
        }
        let keys = match (self.known_keys(&core.device, past), &core.author) {
            (_, ControllerId::Identity(did)) => self.nested_keys(&core.device, did, named)?,
            (Some(keys), _) if known => keys,
            // A device that nobody has seen yet recovers the identity. Its keys are kept: it goes on from here.
            (None, _) if founds => self.decoded(own_record(core).ok_or(Refusal::UnknownDevice)?)?,
            _ => return Err(Refusal::UnknownDevice),
        };
        Ok(op.verify(&keys)?)
    }

    /// Decodes keys of a device that comes in though nobody verifies anything by them: a device of an identity below is one
    /// whose keys are known.
    #[cfg(test)]
    fn note_newcomer(&mut self, core: &OpCore) -> Result<(), Refusal> {
        let newcomer = match &core.op {
            Op::Admit(admit) => match &admit.controller {
                ControllerRecord::Device(public) => Some(public),
                ControllerRecord::Identity { .. } => None,
            },
            Op::Recover(_) => own_record(core),
            _ => None,
        };
        if let Some(public) = newcomer.filter(|_| !self.nodes.proved) {
            self.decoded(public)?;
        }
        Ok(())
    }

    fn check_newcomer(&mut self, core: &OpCore, admit: &Admit, named: &Named) -> Result<(), Refusal> {
        let keys = match &admit.controller {
            ControllerRecord::Device(public) if !public.receiving_is_valid() => return Err(Refusal::ReceivingKey),
            ControllerRecord::Device(public) => self.decoded(public)?,
            // In this place it is void, and the identity is none of those looked at.
            ControllerRecord::Identity { did, .. } if self.ignores(did) => return Ok(()),
            ControllerRecord::Identity { did, device, .. } => self.nested_keys(device, did, named)?,
        };
        let invite = admit.invitation.as_ref().map(|proof| proof.invite);
        let message = possession_message(&core.chain, invite.as_ref(), &admit.controller, &core.author);
        Ok(keys.verify(Label::Possession, &message, &admit.possession)?)
    }

    /// Says whether the past knows the device as one that may act for the author.
    fn acts_for(
        &mut self,
        device: &DeviceId,
        author: &ControllerId,
        past: &Bits,
        named: &Named,
    ) -> Result<bool, Refusal> {
        match author {
            ControllerId::Device(author) => {
                let mut records = self.nodes().records.get(device).into_iter().flatten();
                Ok(author == device && records.any(|at| past.has(*at)))
            }
            ControllerId::Identity(did) => self.nested_keys(device, did, named).map(|_| true),
        }
    }
}

/// Says whether the op is a recovery by a device that it lists itself.
fn recovers_with_own_device(core: &OpCore) -> bool {
    core.author == ControllerId::Device(core.device) && own_record(core).is_some()
}

fn own_record(core: &OpCore) -> Option<&DevicePublic> {
    let Op::Recover(op) = &core.op else { return None };
    op.controllers.iter().find_map(|(record, _)| match record {
        ControllerRecord::Device(public) if public.device_id() == core.device => Some(public),
        _ => None,
    })
}

/// The renewed keys sign, too: their device holds them. The predecessors' signature is the op's own.
fn check_renewal(core: &OpCore, update: &Update) -> Result<(), Refusal> {
    let Some((public, signature)) = &update.keys else { return Ok(()) };
    if !public.receiving_is_valid() {
        return Err(Refusal::ReceivingKey);
    }
    let message = renewal_message(&core.chain, &core.device, public);
    Ok(DecodedKeys::decode_renewed(core.device, public)?.verify(Label::KeyRenewal, &message, signature)?)
}

fn check_recovery(core: &OpCore, recover: &Recover) -> Result<(), Refusal> {
    let sealable = recover.controllers.iter().all(|(record, _)| match record {
        ControllerRecord::Device(public) => public.receiving_is_valid(),
        ControllerRecord::Identity { .. } => true,
    });
    if !sealable {
        return Err(Refusal::ReceivingKey);
    }
    Ok(verify_recovery(core, recover)?)
}
