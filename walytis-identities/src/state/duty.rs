//! Who has to publish what nobody asked for: the removal after a leave, new keys when none fit. Ranked, so that one acts
//! and the next takes over: rank r waits r slots of monotonic time. No clock, no quorum.

use super::{AuthorityGraph, IdentityState, Subject};
use crate::crypto::{Label, digest};
use crate::id::{ControllerId, DeviceId, Did, EpochId, OpId};

/// What is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DutyKind {
    /// Remove those who left.
    RemoveLeft(Vec<ControllerId>),
    /// Rekey: no epoch fits the controllers.
    Rekey,
    /// Introduce this device: the identity it acts for is a controller, and the device has not shown itself.
    Introduce,
    /// Name newer heads of the identity that this device acts for: they show a removal, keys that it renewed, or the first
    /// epoch of it that can be sealed to again.
    Update,
}

/// Something that one of the writers has to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duty {
    /// What.
    pub kind: DutyKind,
    /// What it is about; a duty with the same `about` is the same duty.
    pub about: OpId,
    /// How many slots this controller waits: 0 acts at once.
    pub rank: usize,
}

impl IdentityState {
    /// Returns what is due and the turn of a controller that is a device; nothing if nothing is, or if it may not write.
    pub fn duty(&self, me: &ControllerId) -> Option<Duty> {
        match me {
            ControllerId::Device(device) => self.duty_of(me, device),
            ControllerId::Identity(_) => None,
        }
    }

    /// Returns what is due and the turn of this device of a controller; nothing if nothing is, or if it may not write.
    pub fn duty_of(&self, me: &ControllerId, device: &DeviceId) -> Option<Duty> {
        if self.deactivated.is_some() {
            return None;
        }
        if let Some(about) = self.leaving.values().min().copied() {
            let gone = self.leaving.keys().copied().collect();
            return Some(Duty { kind: DutyKind::RemoveLeft(gone), about, rank: self.rank_of(&about, me, device)? });
        }
        if self.sending_epoch.is_some() {
            return None;
        }
        let about = self.latest_epochs.first().or(self.heads.first()).copied()?;
        Some(Duty { kind: DutyKind::Rekey, about, rank: self.rank_of(&about, me, device)? })
    }

    /// Returns the turn of a controller that is a device to renew an epoch by age; nothing if it may not.
    pub fn renewal_rank(&self, epoch: &EpochId, me: &ControllerId) -> Option<usize> {
        match me {
            ControllerId::Device(device) => self.rank_of(epoch, me, device),
            ControllerId::Identity(_) => None,
        }
    }

    /// Returns the turn of this device of a controller to renew an epoch by age; nothing if it may not.
    pub fn renewal_rank_of(&self, epoch: &EpochId, me: &ControllerId, device: &DeviceId) -> Option<usize> {
        self.rank_of(epoch, me, device)
    }

    /// Writers in the order of hash(subject, controller), and of an identity each device, in the order of hash(subject,
    /// device).
    fn rank_of(&self, subject: &OpId, me: &ControllerId, device: &DeviceId) -> Option<usize> {
        let hash = |text: &dyn std::fmt::Display| digest(Label::Rank, &[&subject.0, text.to_string().as_bytes()]);
        let mut ranked = Vec::new();
        for writer in self.controllers.values().filter(|controller| controller.role.writes()) {
            let place = hash(&writer.id);
            ranked.extend(writer.devices().map(|(device, _)| (place, hash(&device), writer.id, device)));
        }
        ranked.sort_unstable();
        ranked.iter().position(|(_, _, controller, acting)| controller == me && acting == device)
    }
}

impl AuthorityGraph {
    /// Returns what a device owes to the identity here because it acts for another one, `of`, by all that is known of
    /// that one, named or not: to show itself, to show a removal, to show an epoch that can be sealed to where none is
    /// named, to show keys that it renewed.
    pub fn nested_duty(&mut self, of: &Did, device: &DeviceId) -> Option<Duty> {
        let (state, me) = (self.state(), ControllerId::Identity(*of));
        if state.deactivated.is_some() {
            return None;
        }
        let controller = state.controllers.get(&me)?;
        let acting = self.nested_devices(of);
        let since = acting.get(device).copied()?;
        let Some(shown) = controller.device(device) else {
            return Some(Duty { kind: DutyKind::Introduce, about: since, rank: 0 });
        };
        if let Some(about) = self.unshown_removal(of) {
            // A device that is about to be shown as removed has no turn.
            let shown = controller.devices().map(|(id, _)| id).filter(|id| acting.contains_key(id));
            let rank = rank_among(&about, shown, device)?;
            // Who removed it tells first. Of what the removed device says beside that, whoever tells lets stand what it has
            // seen; another one has rather heard by its turn.
            let rank = if self.made_below(of, &about) == Some(*device) { 0 } else { rank + 1 };
            return Some(Duty { kind: DutyKind::Update, about, rank });
        }
        let sealable = !matches!(&controller.subject, Subject::Identity(nested) if nested.seal_to.is_none());
        if let Some(about) = self.nested_key(of).filter(|_| !sealable) {
            // Until it is named nobody can make an epoch here: what was named last leaves nothing to seal to.
            let acting = controller.devices().map(|(id, _)| id).filter(|id| acting.contains_key(id));
            return Some(Duty { kind: DutyKind::Update, about, rank: rank_among(&about, acting, device)? });
        }
        let renewed = self.nested_block_key(of, device).is_some_and(|key| !shown.block_keys.contains(&key));
        renewed.then_some(Duty { kind: DutyKind::Update, about: since, rank: 0 })
    }
}

/// Returns the turn of a device among those that act for the same controller.
fn rank_among(subject: &OpId, devices: impl Iterator<Item = DeviceId>, device: &DeviceId) -> Option<usize> {
    let hash = |id: &DeviceId| digest(Label::Rank, &[&subject.0, id.to_string().as_bytes()]);
    let mut ranked: Vec<_> = devices.map(|id| (hash(&id), id)).collect();
    ranked.sort_unstable();
    ranked.iter().position(|(_, id)| id == device)
}
