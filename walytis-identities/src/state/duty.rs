//! Who has to publish what nobody asked for: the removal after a leave, new keys when none fit. Ranked, so that one acts
//! and the next takes over: rank r waits r slots of monotonic time. No clock, no quorum.

use super::IdentityState;
use crate::crypto::{Label, digest};
use crate::id::{ControllerId, DeviceId, EpochId, OpId};

/// What is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DutyKind {
    /// Remove those who left.
    RemoveLeft(Vec<ControllerId>),
    /// Rekey: no epoch fits the controllers.
    Rekey,
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
