//! Epoch secrets: opened from slots and histories, kept in the vault.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{debug, warn};
use walytis_core::store::SecretError;

use super::error::{IdentitiesError, IdentitiesResult};
use super::shared::{Known, Shared};
use crate::crypto::{DeviceKeys, ReceivingKey};
use crate::epoch::{EpochSecrets, EpochView};
use crate::id::{Did, EpochId, OpId};

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

/// Loads device keys and epoch secrets; with a locked vault it fails and changes nothing.
pub(super) async fn load(shared: &Shared) -> IdentitiesResult<()> {
    let secrets = &shared.tools.secrets;
    let damaged = || IdentitiesError::Secret(SecretError::Damaged);
    let keys = secrets.get(&device_name(&shared.did)).await?.ok_or_else(damaged)?;
    let keys = DeviceKeys::decode(&keys).map_err(|_| damaged())?;
    if keys.id() != shared.me {
        return Err(damaged());
    }
    let prefix = epoch_prefix(&shared.did);
    let mut ring = BTreeMap::new();
    for name in secrets.list(&prefix).await? {
        let Some(id) = name.strip_prefix(&prefix).and_then(|id| id.parse::<OpId>().ok()) else { continue };
        let Some(bytes) = secrets.get(&name).await? else { continue };
        ring.insert(id, EpochSecrets::decode(bytes.expose()).ok_or_else(damaged)?);
    }
    shared.known().ring.append(&mut ring);
    shared.set_keys(keys);
    if shared.is_locked() {
        // Locked meanwhile: the task may have wiped already.
        shared.wipe();
        return Err(IdentitiesError::Locked);
    }
    Ok(())
}

/// Opens every epoch that is not open yet: by this device's slot, and what their histories carry. Notes in `broken` whose
/// slot does not open. Returns what is new or more than was held.
pub(super) fn open_new(shared: &Shared, broken: &mut BTreeSet<EpochId>) -> BTreeMap<EpochId, EpochSecrets> {
    let Ok(keys) = shared.keys() else { return BTreeMap::new() };
    let known = shared.known();
    let mut opened = BTreeMap::new();
    open_slots(shared, &known, keys.receiving(), broken, &mut opened);
    open_histories(&known, &mut opened);
    opened
}

fn open_slots(
    shared: &Shared,
    known: &Known,
    key: &ReceivingKey,
    broken: &mut BTreeSet<EpochId>,
    opened: &mut BTreeMap<EpochId, EpochSecrets>,
) {
    let me = shared.controller();
    for op in known.graph.ops() {
        let id = op.id();
        let mine = op.core().op.epoch().is_some_and(|epoch| epoch.recipients().any(|to| to == me));
        let held = known.ring.get(&id).is_some_and(|held| held.transport.is_some());
        if !mine || held || broken.contains(&id) {
            continue;
        }
        // A slot without the epoch secret is complete for a keeper only.
        let reads = known.graph.epoch_readers(&id).is_some_and(|readers| readers.contains(&me));
        match EpochView::open_slot(op.core(), &me, reads, &[key]) {
            Ok(secrets) => {
                opened.insert(id, secrets);
            }
            Err(error) => {
                warn!(did = ?shared.did, epoch = ?id, %error, "the own slot of an epoch does not open");
                broken.insert(id);
            }
        }
    }
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
