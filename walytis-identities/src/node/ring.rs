//! Epoch secrets: opened from slots and histories, kept in the vault.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{debug, warn};
use walytis_core::store::SecretError;

use super::error::{IdentitiesError, IdentitiesResult};
use super::keyring::Keyring;
use super::shared::{Known, Shared};
use super::wire_v1::RESEALED_MAX;
use crate::crypto::{DeviceKeys, KeyId, ReceivingKey};
use crate::epoch::{EpochSecrets, EpochView, SlotError};
use crate::id::{ControllerId, Did, EpochId, OpId};
use crate::op::OpCore;

/// What the names of all secrets of this crate begin with.
pub(super) const SECRETS: &str = "identities/";

/// Returns the name of an epoch's secrets in the vault.
pub(super) fn secret_name(did: &Did, epoch: &EpochId) -> String {
    format!("{}{epoch}", epoch_prefix(did))
}

pub(super) fn epoch_prefix(did: &Did) -> String {
    format!("{SECRETS}epoch/{}/", did.chain())
}

/// Returns the name of the device keys in the vault.
pub(super) fn device_name(did: &Did) -> String {
    format!("{SECRETS}device/{}", did.chain())
}

/// Returns the name of what stands beside the device keys: receiving keys that are in force no more.
pub(super) fn receiving_name(did: &Did) -> String {
    format!("{SECRETS}receiving/{}", did.chain())
}

/// Returns the name of keys that take over when the op that names them is stored.
pub(super) fn next_device_name(did: &Did) -> String {
    format!("{SECRETS}next-device/{}", did.chain())
}

/// Stores a keyring: what stands beside first, so that no key is ever without a place.
pub(super) async fn store(shared: &Shared, keys: &Keyring) -> IdentitiesResult<()> {
    let secrets = &shared.tools.secrets;
    secrets.put(&receiving_name(&shared.did), keys.encode_beside()).await?;
    Ok(secrets.put(&device_name(&shared.did), keys.device.encode()).await?)
}

/// Loads device keys and epoch secrets; with a locked vault it fails and changes nothing.
pub(super) async fn load(shared: &Shared) -> IdentitiesResult<()> {
    let secrets = &shared.tools.secrets;
    let damaged = || IdentitiesError::Secret(SecretError::Damaged);
    // A device that acts for another identity has its keys there.
    let keys = match &shared.person {
        Some(_) => None,
        None => Some(load_keys(shared).await?),
    };
    let prefix = epoch_prefix(&shared.did);
    let mut ring = BTreeMap::new();
    for name in secrets.list(&prefix).await? {
        let Some(id) = name.strip_prefix(&prefix).and_then(|id| id.parse::<OpId>().ok()) else { continue };
        let Some(bytes) = secrets.get(&name).await? else { continue };
        ring.insert(id, EpochSecrets::decode(bytes.expose()).ok_or_else(damaged)?);
    }
    shared.known().ring.append(&mut ring);
    if let Some(keys) = keys {
        shared.set_keys(keys);
    }
    if shared.is_locked() {
        // Locked meanwhile: the task may have wiped already.
        shared.wipe();
        return Err(IdentitiesError::Locked);
    }
    Ok(())
}

async fn load_keys(shared: &Shared) -> IdentitiesResult<Keyring> {
    let secrets = &shared.tools.secrets;
    let damaged = || IdentitiesError::Secret(SecretError::Damaged);
    let keys = secrets.get(&device_name(&shared.did)).await?.ok_or_else(damaged)?;
    let keys = DeviceKeys::decode(&keys).map_err(|_| damaged())?;
    if keys.id() != shared.me {
        return Err(damaged());
    }
    let clock = &*shared.tools.clock;
    let keys = match secrets.get(&receiving_name(&shared.did)).await? {
        Some(beside) => Keyring::decode(keys, &beside, clock).ok_or_else(damaged)?,
        None => {
            let keys = Keyring::new(keys, clock);
            secrets.put(&receiving_name(&shared.did), keys.encode_beside()).await?;
            keys
        }
    };
    finish_renewal(shared, keys).await
}

/// Finishes a renewal that a crash interrupted: the next keys take over if the op that names them was stored, otherwise
/// they are forgotten.
async fn finish_renewal(shared: &Shared, keys: Keyring) -> IdentitiesResult<Keyring> {
    let secrets = &shared.tools.secrets;
    let name = next_device_name(&shared.did);
    let Some(next) = secrets.get(&name).await? else { return Ok(keys) };
    let next = DeviceKeys::decode(&next).map_err(|_| IdentitiesError::Secret(SecretError::Damaged))?;
    let in_force = shared.block_key() == Some(next.public().block_key());
    let adopt = in_force && keys.device.public().block_key() != next.public().block_key();
    let keys = if adopt { keys.renewed_device(next, &*shared.tools.clock) } else { keys };
    if adopt {
        store(shared, &keys).await?;
    }
    secrets.delete(&name).await?;
    Ok(keys)
}

/// Opens every epoch that is not open yet: by the slot of this device, or of the identity that it acts for, and what their
/// histories carry. Notes in `broken` whose slot does not open. Returns what is new or more than was held.
pub(super) fn open_new(shared: &Shared, broken: &mut BTreeSet<EpochId>) -> BTreeMap<EpochId, EpochSecrets> {
    let Ok(keys) = shared.keyring() else { return BTreeMap::new() };
    let mut known = shared.known();
    let mut opened = BTreeMap::new();
    match &shared.person {
        None => open_slots(shared, &mut known, &keys.receiving(), broken, &mut opened),
        Some(person) => {
            let keys = receiving_keys(person, &wanted_keys(shared, &known));
            open_slots(shared, &mut known, &keys.iter().collect::<Vec<_>>(), broken, &mut opened);
        }
    }
    open_histories(&known, &mut opened);
    opened
}

/// Returns the keys that own slots are sealed to whose epochs are not open.
fn wanted_keys(shared: &Shared, known: &Known) -> BTreeSet<KeyId> {
    let me = shared.controller();
    let closed = known.graph.ops().filter(|op| known.ring.get(&op.id()).is_none_or(|held| held.transport.is_none()));
    closed.filter_map(|op| slot_key(op.core(), &me)).collect()
}

/// Returns those receiving keys of an identity that this node holds the epochs of.
fn receiving_keys(person: &Shared, wanted: &BTreeSet<KeyId>) -> Vec<ReceivingKey> {
    if wanted.is_empty() {
        return Vec::new();
    }
    let known = person.known();
    let key = |(epoch, secrets): (&EpochId, &EpochSecrets)| {
        let view = EpochView::of(known.graph.op(epoch)?.core())?;
        let found = wanted.contains(&KeyId::of(&view.part().receiving));
        found.then(|| view.receiving_key(secrets)).flatten()
    };
    known.ring.iter().filter_map(key).collect()
}

fn open_slots(
    shared: &Shared,
    known: &mut Known,
    keys: &[&ReceivingKey],
    broken: &mut BTreeSet<EpochId>,
    opened: &mut BTreeMap<EpochId, EpochSecrets>,
) {
    let me = shared.controller();
    let mine: Vec<_> = known.graph.ops().filter(|op| slot_key(op.core(), &me).is_some()).cloned().collect();
    for op in mine {
        let id = op.id();
        let held = known.ring.get(&id).is_some_and(|held| held.transport.is_some());
        if held || broken.contains(&id) {
            continue;
        }
        // A slot without the epoch secret is complete for a keeper only.
        let reads = known.graph.epoch_readers(&id).is_some_and(|readers| readers.contains(&me));
        match EpochView::open_slot(op.core(), &me, reads, keys) {
            Ok(secrets) => {
                opened.insert(id, secrets);
            }
            // Sealed to a key that is not here any more, or not here yet: others are asked to seal it once more.
            Err(SlotError::KeyMissing) => {}
            Err(error) => {
                warn!(did = ?shared.did, epoch = ?id, %error, "the own slot of an epoch does not open");
                broken.insert(id);
            }
        }
    }
}

/// Returns the key that a controller's slot is sealed to, if the op starts an epoch with one.
pub(super) fn slot_key(core: &OpCore, controller: &ControllerId) -> Option<KeyId> {
    core.op.epoch()?.slots.iter().find(|slot| slot.controller == *controller).map(|slot| slot.key)
}

/// Returns the epochs whose secrets this device may hold by the state and does not: at most 64, the newest, ascending.
pub(super) fn missing(shared: &Shared) -> Vec<EpochId> {
    let me = shared.controller();
    let mut known = shared.known();
    let epochs: Vec<EpochId> =
        known.graph.ops().filter(|op| op.core().op.epoch().is_some()).map(|op| op.id()).collect();
    let mut missing = Vec::new();
    for id in epochs.into_iter().rev() {
        let may = known.graph.share_of(&me, &id);
        let held = known.ring.get(&id);
        let has_epoch = held.is_some_and(|held| held.epoch.is_some());
        let has_transport = held.is_some_and(|held| held.transport.is_some());
        if (may.epoch && !has_epoch) || (!may.epoch && may.transport && !has_transport) {
            missing.push(id);
        }
        if missing.len() >= RESEALED_MAX {
            break;
        }
    }
    missing.sort_unstable();
    missing
}

/// Newest first, so that one pass reaches everything: an epoch's history names older ones only.
fn open_histories(known: &Known, opened: &mut BTreeMap<EpochId, EpochSecrets>) {
    if opened.is_empty() {
        return;
    }
    let ops: Vec<_> = known.graph.ops().filter(|op| op.core().op.epoch().is_some()).cloned().collect();
    for op in ops.iter().rev() {
        let id = op.id();
        let (Some(view), Some(secrets)) = (EpochView::of(op.core()), opened.get(&id).or_else(|| known.ring.get(&id)))
        else {
            continue;
        };
        let predecessors = match view.open_history(secrets) {
            Ok(predecessors) => predecessors,
            Err(error) => {
                debug!(epoch = ?id, %error, "history not opened");
                continue;
            }
        };
        for predecessor in predecessors {
            let Some(older) = known.graph.op(&predecessor.id) else { continue };
            let found = EpochSecrets { transport: None, epoch: Some(predecessor.epoch), history: predecessor.history };
            // Whoever dealt this may have put in anything.
            if !EpochView::of(older.core()).is_some_and(|view| view.matches(&found)) {
                continue;
            }
            let before = opened.get(&predecessor.id).or_else(|| known.ring.get(&predecessor.id)).cloned();
            let mut merged = before.clone().unwrap_or_default();
            merged.merge(&found);
            if before.as_ref() != Some(&merged) {
                opened.insert(predecessor.id, merged);
            }
        }
    }
}
