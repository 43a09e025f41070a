//! Opening an epoch: one's own slot, and the epochs before.

use thiserror::Error;
use walytis_core::fault::Fault;
use walytis_core::secret::Secret;

use super::{EpochSecrets, EpochView, HistoryEntryV1, Predecessor, history_context, slot_context};
use crate::crypto::{Label, ReceivingKey, aead_open, derive, hpke_open};
use crate::id::ControllerId;
use crate::op::{OpCore, PREDECESSORS_MAX};

/// Why an epoch's secrets could not be taken from its slot.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlotError {
    /// The op starts no epoch.
    #[error("the op starts no epoch")]
    NoEpoch,
    /// There is no slot for this controller.
    #[error("the epoch has no slot for this controller")]
    NoSlot,
    /// The slot is sealed to a receiving key that is not here (destroyed, or never was).
    #[error("the slot is sealed to a receiving key that is not here")]
    KeyMissing,
    /// The slot does not open.
    #[error("the slot does not open")]
    Broken,
    /// The slot opens, but to other secrets than were committed to, or to too few.
    #[error("the slot's secrets are not those that the epoch commits to")]
    Mismatch,
}

impl SlotError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::NoEpoch => Fault::Caller,
            Self::KeyMissing => Fault::Local,
            Self::NoSlot | Self::Broken | Self::Mismatch => Fault::Peer,
        }
    }

    /// Says whether the recipient must rekey at once and never use this epoch.
    pub const fn must_rekey(&self) -> bool {
        matches!(self, Self::Broken | Self::Mismatch | Self::KeyMissing)
    }
}

/// Why an epoch's history could not be read.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HistoryError {
    /// This controller does not hold the history key.
    #[error("the history key of the epoch is not here")]
    NoKey,
    /// It does not open, or not to one entry for each predecessor.
    #[error("the history of the epoch is damaged")]
    Damaged,
}

impl HistoryError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::NoKey => Fault::Local,
            Self::Damaged => Fault::Peer,
        }
    }
}

impl EpochView<'_> {
    /// Opens the slot of `controller` and checks its secrets against all commitments and the public receiving key.
    /// `core` is the op that starts this epoch; `reads`: whether the controller's role must get the epoch secret.
    ///
    /// # Errors
    /// [`SlotError`]; where [`SlotError::must_rekey`], the epoch is never used.
    pub fn open_slot(
        core: &OpCore,
        controller: &ControllerId,
        reads: bool,
        keys: &[&ReceivingKey],
    ) -> Result<EpochSecrets, SlotError> {
        let view = Self::of_core(core)?;
        let slot = view.part.slots.iter().find(|slot| slot.controller == *controller).ok_or(SlotError::NoSlot)?;
        let key = keys.iter().find(|key| key.id() == slot.key).ok_or(SlotError::KeyMissing)?;
        let context = slot_context(&core.chain, &core.digest_without_slots(), &slot.key);
        let opened = hpke_open(Label::EpochSlot, key, &context, &slot.sealed).map_err(|_| SlotError::Broken)?;
        let secrets = EpochSecrets::decode(&opened).ok_or(SlotError::Mismatch)?;
        let complete = secrets.transport.is_some() && (!reads || secrets.epoch.is_some());
        if complete && view.matches(&secrets) { Ok(secrets) } else { Err(SlotError::Mismatch) }
    }

    fn of_core(core: &OpCore) -> Result<EpochView<'_>, SlotError> {
        EpochView::of(core).ok_or(SlotError::NoEpoch)
    }

    /// Opens the secrets of the epochs before. The caller checks each with [`EpochView::matches`] of that epoch before
    /// it stores it: a dishonest author may have put in anything.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn open_history(&self, secrets: &EpochSecrets) -> Result<Vec<Predecessor>, HistoryError> {
        let key = secrets.history.as_ref().ok_or(HistoryError::NoKey)?;
        if self.part.predecessors.is_empty() {
            return Ok(Vec::new());
        }
        let context = history_context(&self.chain, self.part);
        let key = derive(Label::EpochHistory, key, &self.part.salt, &context);
        let plain = aead_open(Label::EpochHistory, &key, &context, &self.part.history).ok_or(HistoryError::Damaged)?;
        let (entries, rest): (Vec<HistoryEntryV1>, _) =
            postcard::take_from_bytes(&plain).map_err(|_| HistoryError::Damaged)?;
        let fits = entries.len() == self.part.predecessors.len() && entries.len() <= PREDECESSORS_MAX;
        if !rest.is_empty() || !fits {
            return Err(HistoryError::Damaged);
        }
        let with_id = self.part.predecessors.iter().zip(&entries);
        Ok(with_id
            .map(|(id, entry)| Predecessor {
                id: *id,
                epoch: Secret::new(entry.epoch),
                history: entry.history.map(Secret::new),
            })
            .collect())
    }
}
