//! Epoch secrets sealed once more, for a controller whose slot is missing or cannot be opened any more.

use walytis_core::clock::Entropy;
use walytis_core::id::ChainId;

use super::{EpochSecrets, EpochView, SlotError};
use crate::crypto::{KeyId, Label, OpenError, ReceivingKey, ReceivingPublic, hpke_open, hpke_seal};
use crate::id::EpochId;
use crate::op::OpCore;

/// Seals `share` of an epoch to a device's receiving key.
///
/// # Errors
/// [`OpenError`] if the receiving key is no valid X-Wing key.
pub fn reseal(
    chain: &ChainId,
    epoch: &EpochId,
    share: &EpochSecrets,
    to: &ReceivingPublic,
    entropy: &dyn Entropy,
) -> Result<(KeyId, Vec<u8>), OpenError> {
    let key = KeyId::of(to);
    let sealed = hpke_seal(Label::EpochReseal, to, &context(chain, epoch, &key), share.encode().expose(), entropy)?;
    Ok((key, sealed))
}

/// Opens what [`reseal`] sealed and checks it against what the epoch commits to: whoever resealed may have put in
/// anything. `core`: the op that starts the epoch.
///
/// # Errors
/// [`SlotError`].
pub fn open_resealed(
    chain: &ChainId,
    epoch: (&EpochId, &OpCore),
    sealed: (&KeyId, &[u8]),
    keys: &[&ReceivingKey],
) -> Result<EpochSecrets, SlotError> {
    let ((id, core), (key_id, sealed)) = (epoch, sealed);
    let view = EpochView::of(core).ok_or(SlotError::NoEpoch)?;
    let key = keys.iter().find(|key| key.id() == *key_id).ok_or(SlotError::KeyMissing)?;
    let opened = hpke_open(Label::EpochReseal, key, &context(chain, id, key_id), sealed);
    let secrets = EpochSecrets::decode(&opened.map_err(|_| SlotError::Broken)?).ok_or(SlotError::Mismatch)?;
    if view.matches(&secrets) { Ok(secrets) } else { Err(SlotError::Mismatch) }
}

fn context(chain: &ChainId, epoch: &EpochId, key: &KeyId) -> Vec<u8> {
    [&chain.digest()[..], &epoch.0, &key.0].concat()
}
