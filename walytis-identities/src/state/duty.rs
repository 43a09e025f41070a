//! Who has to publish what nobody asked for: the removal after a leave, new keys when none fit. Ranked, so that one acts
//! and the next takes over: rank r waits r slots of monotonic time. No clock, no quorum.

use super::IdentityState;
use crate::crypto::{Label, digest};
use crate::id::{ControllerId, EpochId, OpId};

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
    /// Returns what is due and this controller's turn; nothing if nothing is, or if it may not write.
    pub fn duty(&self, me: &ControllerId) -> Option<Duty> {
        if self.deactivated.is_some() {
            return None;
        }
        if let Some(about) = self.leaving.values().min().copied() {
            let gone = self.leaving.keys().copied().collect();
            return Some(Duty { kind: DutyKind::RemoveLeft(gone), about, rank: self.rank_of(&about, me)? });
        }
        if self.sending_epoch.is_some() {
            return None;
        }
        let about = self.latest_epochs.first().or(self.heads.first()).copied()?;
        Some(Duty { kind: DutyKind::Rekey, about, rank: self.rank_of(&about, me)? })
    }

    /// Returns this controller's turn to renew an epoch by age; nothing if it may not.
    pub fn renewal_rank(&self, epoch: &EpochId, me: &ControllerId) -> Option<usize> {
        self.rank_of(epoch, me)
    }

    /// Writers in the order of hash(subject, controller).
    fn rank_of(&self, subject: &OpId, me: &ControllerId) -> Option<usize> {
        let writers = self.controllers.values().filter(|controller| controller.role.writes());
        let mut ranked: Vec<([u8; 32], ControllerId)> = writers
            .map(|controller| (digest(Label::Rank, &[&subject.0, controller.id.to_string().as_bytes()]), controller.id))
            .collect();
        ranked.sort_unstable();
        ranked.iter().position(|(_, id)| id == me)
    }
}
