//! Starting an epoch.

use thiserror::Error;
use walytis_core::clock::Entropy;
use walytis_core::fault::Fault;
use walytis_core::secret::Secret;
use zeroize::Zeroizing;

use super::{EpochSecrets, EpochView, HistoryEntryV1, commitment, history_context, slot_context};
use crate::crypto::{FixedBytes, KeyId, Label, ReceivingPublic, aead_seal, hpke_seal, random};
use crate::id::{ControllerId, EpochId};
use crate::op::{EpochPart, OpCore, PREDECESSORS_MAX, Slot};

/// Who gets what of an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Whose slot.
    pub controller: ControllerId,
    /// Sealed to this key.
    pub key: ReceivingPublic,
    /// Gets the epoch secret: everybody but keepers.
    pub reads: bool,
    /// Gets the history key.
    pub history: bool,
}

/// An earlier epoch whose secrets the new one carries on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predecessor {
    /// Which.
    pub id: EpochId,
    /// Its epoch secret.
    pub epoch: Secret<32>,
    /// Its history key, if its author holds it.
    pub history: Option<Secret<32>>,
}

/// An epoch could not be dealt.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DealError {
    /// The op starts no epoch.
    #[error("an op without an epoch has no slots")]
    NoEpoch,
    /// A recipient's receiving key cannot be sealed to.
    #[error("the receiving key of {controller:?} is no X-Wing key")]
    ReceivingKey {
        /// Whose.
        controller: ControllerId,
    },
}

impl DealError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::NoEpoch => Fault::Bug,
            Self::ReceivingKey { .. } => Fault::Peer,
        }
    }
}

/// Makes fresh secrets and their public part, without slots. `chain` as in the op's core; of the predecessors at most
/// 64 are carried on.
pub fn prepare(chain: &[u8; 32], predecessors: &[Predecessor], entropy: &dyn Entropy) -> (EpochPart, EpochSecrets) {
    let (transport, epoch, history) = (random(entropy), random(entropy), random(entropy));
    let mut salt = [0u8; 32];
    entropy.fill(&mut salt);
    let mut carried: Vec<&Predecessor> = predecessors.iter().collect();
    carried.sort_by_key(|predecessor| predecessor.id);
    carried.dedup_by_key(|predecessor| predecessor.id);
    carried.truncate(PREDECESSORS_MAX);
    let mut part = EpochPart {
        salt,
        receiving: FixedBytes::new([0; crate::crypto::X_WING_PUBLIC]),
        commit_epoch: commitment(Label::CommitEpoch, &salt, &epoch),
        commit_history: commitment(Label::CommitHistory, &salt, &history),
        commit_transport: commitment(Label::CommitTransport, &salt, &transport),
        predecessors: carried.iter().map(|predecessor| predecessor.id).collect(),
        history: Vec::new(),
        slots: Vec::new(),
    };
    if !carried.is_empty() {
        part.history = seal_history(chain, &part, &history, &carried, entropy);
    }
    let secrets = EpochSecrets { transport: Some(transport), epoch: Some(epoch), history: Some(history) };
    if let Some(key) = (EpochView { chain: *chain, part: &part }).receiving_key(&secrets) {
        part.receiving = key.public().clone();
    }
    (part, secrets)
}

fn seal_history(
    chain: &[u8; 32],
    part: &EpochPart,
    history: &Secret<32>,
    carried: &[&Predecessor],
    entropy: &dyn Entropy,
) -> Vec<u8> {
    let entries: Vec<HistoryEntryV1> = carried
        .iter()
        .map(|from| HistoryEntryV1 {
            epoch: *from.epoch.expose(),
            history: from.history.as_ref().map(|key| *key.expose()),
        })
        .collect();
    #[expect(clippy::expect_used, reason = "a list of fixed arrays always encodes")]
    let plain = Zeroizing::new(postcard::to_stdvec(&entries).expect("always encodes"));
    let context = history_context(chain, part);
    let key = crate::crypto::derive(Label::EpochHistory, history, &part.salt, &context);
    aead_seal(Label::EpochHistory, &key, &context, &plain, entropy)
}

/// Seals one slot per recipient into the op's epoch. Everything else of the op must stand already: slots are bound to it.
///
/// # Errors
/// [`DealError`].
pub fn deal_slots(
    core: &mut OpCore,
    secrets: &EpochSecrets,
    recipients: &[Recipient],
    entropy: &dyn Entropy,
) -> Result<(), DealError> {
    let bound_to = core.digest_without_slots();
    let chain = core.chain;
    let mut slots = Vec::with_capacity(recipients.len());
    for recipient in recipients {
        let share = EpochSecrets {
            transport: secrets.transport.clone(),
            epoch: secrets.epoch.clone().filter(|_| recipient.reads),
            history: secrets.history.clone().filter(|_| recipient.reads && recipient.history),
        };
        let key = KeyId::of(&recipient.key);
        let context = slot_context(&chain, &bound_to, &key);
        let sealed = hpke_seal(Label::EpochSlot, &recipient.key, &context, share.encode().expose(), entropy)
            .map_err(|_| DealError::ReceivingKey { controller: recipient.controller })?;
        slots.push(Slot { controller: recipient.controller, key, sealed });
    }
    slots.sort_by_key(|slot| slot.controller);
    core.op.epoch_mut().ok_or(DealError::NoEpoch)?.slots = slots;
    Ok(())
}
