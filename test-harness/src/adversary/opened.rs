//! Which epochs somebody can come by who holds old keys.

use std::collections::{BTreeMap, BTreeSet};

use walytis_identities::crypto::ReceivingKey;
use walytis_identities::epoch::{EpochSecrets, EpochView};
use walytis_identities::id::{ControllerId, Did, EpochId};
use walytis_identities::op::SignedOp;

use super::{Known, OldKeys};

type Held = BTreeMap<EpochId, EpochSecrets>;

/// Returns the epochs whose secrets some former controllers can come by together: held, by their slots, by the slots of
/// persons whose own epochs they can come by, and by what histories carry on.
pub fn opened_by(gone: &[&OldKeys], known: &Known) -> BTreeSet<EpochId> {
    let gone: Vec<&OldKeys> = gone.iter().flat_map(|old| [Some(*old), old.person()]).flatten().collect();
    let held = come_by(&gone, &known.did(), known, &BTreeSet::new());
    held.into_iter().filter(|(_, secrets)| secrets.epoch.is_some()).map(|(id, _)| id).collect()
}

/// `above`: the identities that this one is looked at from. As deep as identities stand in each other.
fn come_by(gone: &[&OldKeys], did: &Did, known: &Known, above: &BTreeSet<Did>) -> Held {
    let ops = known.of(did);
    let mut held = Held::new();
    for old in gone.iter().filter(|old| old.did() == *did) {
        old.held.iter().for_each(|(id, secrets)| held.entry(*id).or_default().merge(secrets));
    }
    for keys in gone.iter().flat_map(|old| old.devices()) {
        open_slots(&ops, &ControllerId::Device(keys.id()), &[keys.receiving()], &mut held);
    }
    let path: BTreeSet<Did> = above.iter().copied().chain([*did]).collect();
    let everybody = known.below().chain([known.did()]);
    for person in everybody.filter(|person| !path.contains(person)) {
        let me = ControllerId::Identity(person);
        if ops.iter().any(|op| op.core().op.epoch().is_some_and(|epoch| epoch.recipients().any(|one| one == me))) {
            let theirs = come_by(gone, &person, known, &path);
            let keys = receiving(&known.of(&person), &theirs);
            open_slots(&ops, &me, &keys.iter().collect::<Vec<_>>(), &mut held);
        }
    }
    // Children come after their parents, so one pass backwards follows every chain of histories.
    for op in ops.iter().rev() {
        let (Some(view), Some(secrets)) = (EpochView::of(op.core()), held.get(&op.id())) else { continue };
        for earlier in view.open_history(secrets).unwrap_or_default() {
            let found = EpochSecrets { transport: None, epoch: Some(earlier.epoch), history: earlier.history };
            held.entry(earlier.id).or_default().merge(&found);
        }
    }
    held
}

fn open_slots(ops: &[SignedOp], me: &ControllerId, keys: &[&ReceivingKey], held: &mut Held) {
    for op in ops {
        // Not asked whether it must hold the epoch secret: what it holds is held.
        if let Ok(secrets) = EpochView::open_slot(op.core(), me, false, keys) {
            held.entry(op.id()).or_default().merge(&secrets);
        }
    }
}

/// Returns the receiving keys of the epochs of an identity whose secrets are held.
fn receiving(ops: &[SignedOp], held: &Held) -> Vec<ReceivingKey> {
    let key = |op: &SignedOp| EpochView::of(op.core())?.receiving_key(held.get(&op.id())?);
    ops.iter().filter_map(key).collect()
}
