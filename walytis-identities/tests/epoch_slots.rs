//! Epochs: who opens what, and what happens when a slot is broken, swapped or missing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::collections::BTreeMap;

use support::{Actor, chain, group};
use walytis_core::clock::SeededEntropy;
use walytis_identities::crypto::{DeviceKeys, KeyId};
use walytis_identities::epoch::{
    EpochSecrets, EpochView, HistoryError, Predecessor, Recipient, SlotError, deal_slots, prepare,
};
use walytis_identities::id::{ControllerId, EpochId, OpId, Role};
use walytis_identities::identity::EpochUse;
use walytis_identities::op::{CONTROLLERS_MAX, HistoryPolicy, Op, OpCore, SIGNED_OP_MAX};
use walytis_identities::state::{AuthorityGraph, Builder, CreateOptions, DutyKind};

/// A rekey by `a` whose core a dishonest author may change before it signs.
fn forged(a: &mut Actor, change: impl FnOnce(&mut OpCore)) -> OpId {
    let mut core = a.build(|builder| builder.rekey().unwrap()).op.core().clone();
    change(&mut core);
    let op = core.sign(&a.keys, &a.entropy).unwrap();
    let id = op.id();
    a.graph().insert(op).unwrap();
    id
}

fn part(core: &mut OpCore) -> &mut walytis_identities::op::EpochPart {
    match &mut core.op {
        Op::Rekey(part) => part,
        other => panic!("{other:?} is no rekey"),
    }
}

fn open(actor: &Actor, of: &mut Actor, id: &OpId) -> Result<EpochSecrets, SlotError> {
    let op = of.graph().op(id).unwrap().clone();
    EpochView::open_slot(op.core(), &actor.id(), true, &[actor.keys.receiving()])
}

#[test]
fn broken_slot_makes_its_recipient_rekey() {
    let (mut a, b, c) = group();
    let b_id = b.id();
    let id = forged(&mut a, |core| {
        let slot = part(core).slots.iter_mut().find(|slot| slot.controller == b_id).unwrap();
        let last = slot.sealed.last_mut().unwrap();
        *last ^= 1;
    });
    assert_eq!(open(&b, &mut a, &id), Err(SlotError::Broken));
    assert!(SlotError::Broken.must_rekey());
    assert!(open(&c, &mut a, &id).is_ok(), "the slots of others are not concerned");
}

#[test]
fn swapped_slots_do_not_open() {
    let (mut a, b, c) = group();
    let (b_id, c_id) = (b.id(), c.id());
    let id = forged(&mut a, |core| {
        let slots = &mut part(core).slots;
        let sealed = |slots: &[walytis_identities::op::Slot], of| {
            slots.iter().find(|s| s.controller == of).unwrap().sealed.clone()
        };
        let (for_b, for_c) = (sealed(slots, b_id), sealed(slots, c_id));
        slots.iter_mut().find(|slot| slot.controller == b_id).unwrap().sealed = for_c;
        slots.iter_mut().find(|slot| slot.controller == c_id).unwrap().sealed = for_b;
    });
    assert_eq!(open(&b, &mut a, &id), Err(SlotError::Broken));
    assert_eq!(open(&c, &mut a, &id), Err(SlotError::Broken));
}

#[test]
fn slots_are_bound_to_their_op() {
    let (mut a, b, _) = group();
    let id = forged(&mut a, |core| part(core).salt[0] ^= 1);
    assert_eq!(open(&b, &mut a, &id), Err(SlotError::Broken));
}

#[test]
fn other_secrets_than_committed_are_a_mismatch() {
    let (mut a, b, _) = group();
    let chain = *chain().digest();
    let recipients: Vec<Recipient> = [&a, &b].iter().map(|to| recipient(to)).collect();
    let id = forged(&mut a, |core| {
        let (_, other) = prepare(&chain, &[], &SeededEntropy::new(77));
        deal_slots(core, &other, &recipients, &SeededEntropy::new(78)).unwrap();
    });
    assert_eq!(open(&b, &mut a, &id), Err(SlotError::Mismatch));
    assert!(SlotError::Mismatch.must_rekey());
}

fn recipient(to: &Actor) -> Recipient {
    let key = to.keys.public().receiving.clone();
    Recipient { controller: to.id(), key, reads: true, history: true }
}

#[test]
fn wrong_public_receiving_key_is_a_mismatch() {
    let (mut a, b, c) = group();
    let (foreign, recipients) = (c.keys.public().receiving.clone(), [recipient(&b)]);
    let (mut epoch, secrets) = prepare(chain().digest(), &[], &a.entropy);
    epoch.receiving = foreign;
    let id = forged(&mut a, |core| {
        core.op = Op::Rekey(Box::new(epoch));
        deal_slots(core, &secrets, &recipients, &SeededEntropy::new(79)).unwrap();
    });
    assert_eq!(open(&b, &mut a, &id), Err(SlotError::Mismatch));
}

#[test]
fn epoch_without_a_recipient_or_with_one_too_many_does_not_count() {
    let (mut a, b, c) = group();
    let before = a.graph().state().sending_epoch;
    let b_id = b.id();
    let missing = forged(&mut a, |core| part(core).slots.retain(|slot| slot.controller != b_id));
    let outsider = Actor::new(50);
    let extra = forged(&mut a, |core| {
        let mut slot = part(core).slots[0].clone();
        slot.controller = outsider.id();
        part(core).slots.push(slot);
        part(core).slots.sort_by_key(|slot| slot.controller);
    });
    let state = a.graph().state();
    assert!(!state.epochs[&missing].counts && !state.epochs[&extra].counts);
    assert_eq!(state.sending_epoch, before, "the epoch before stays in force");
    assert_eq!(open(&b, &mut a, &missing), Err(SlotError::NoSlot));
    assert!(open(&c, &mut a, &missing).is_ok());
}

#[test]
fn keeper_gets_the_transport_secret_only() {
    let mut a = Actor::founder(1);
    let keeper = Actor::new(2);
    let request = keeper.request(&a, None);
    let id = a.act(|builder| builder.admit(request, Role::Keeper).unwrap());
    let op = a.graph().op(&id).unwrap().clone();
    let keys = [keeper.keys.receiving()];
    let secrets = EpochView::open_slot(op.core(), &keeper.id(), false, &keys).unwrap();
    assert!(secrets.transport.is_some() && secrets.epoch.is_none() && secrets.history.is_none());
    assert_eq!(EpochView::open_slot(op.core(), &keeper.id(), true, &keys), Err(SlotError::Mismatch));
    let view = EpochView::of(op.core()).unwrap();
    assert!(view.derive(&secrets, EpochUse::ContentWrap).is_none() && view.gossip_secret(&secrets).is_some());
}

#[test]
fn missing_receiving_key_is_told_apart() {
    let (mut a, b, c) = group();
    let id = a.act(|builder| builder.rekey().unwrap());
    let op = a.graph().op(&id).unwrap().clone();
    assert_eq!(EpochView::open_slot(op.core(), &b.id(), true, &[c.keys.receiving()]), Err(SlotError::KeyMissing));
    assert_eq!(EpochView::open_slot(op.core(), &b.id(), true, &[]), Err(SlotError::KeyMissing));
}

#[test]
fn without_history_a_newcomer_opens_its_own_epochs_only() {
    let entropy = SeededEntropy::new(5);
    let options = CreateOptions { history: HistoryPolicy::None, ..CreateOptions::default() };
    let mut a = Actor::new(1);
    let built = Builder::create(&a.keys, &options, &entropy).unwrap();
    let first = built.op.id();
    a.held.insert(first, built.secrets.unwrap());
    a.graph = Some(AuthorityGraph::new(chain(), built.op).unwrap());
    let mut b = Actor::new(2);
    let own = a.admit(&mut b, Role::Member);
    assert!(b.held[&own].epoch.is_some() && b.held[&own].history.is_none());
    assert!(!b.held.contains_key(&first));
    // Its own renewal carries on what it has, and a still reads everything.
    let next = b.act(|builder| builder.rekey().unwrap());
    a.sync(&b);
    assert!(a.held[&next].history.is_some() && a.held[&first].epoch.is_some());
    let op = b.graph().op(&next).unwrap().clone();
    let secrets = EpochView::open_slot(op.core(), &b.id(), true, &[b.keys.receiving()]).unwrap();
    assert!(secrets.history.is_none());
    assert_eq!(EpochView::of(op.core()).unwrap().open_history(&secrets), Err(HistoryError::NoKey));
}

#[test]
fn damaged_history_is_told_and_forged_entries_do_not_match() {
    let entropy = SeededEntropy::new(6);
    let chain = [3; 32];
    let (first, first_secrets) = prepare(&chain, &[], &entropy);
    let lie = Predecessor { id: OpId([1; 32]), epoch: walytis_core::secret::Secret::new([9; 32]), history: None };
    let (mut part, secrets) = prepare(&chain, &[lie], &entropy);
    let core = |part| OpCore {
        chain,
        author: ControllerId::Device(walytis_identities::id::DeviceId([1; 32])),
        device: walytis_identities::id::DeviceId([1; 32]),
        auth_parents: vec![OpId([1; 32])],
        op: Op::Rekey(Box::new(part)),
    };
    let good = core(part.clone());
    let found = EpochView::of(&good).unwrap().open_history(&secrets).unwrap();
    let found = EpochSecrets { epoch: Some(found[0].epoch.clone()), ..EpochSecrets::default() };
    let of_first = core(first);
    let view = EpochView::of(&of_first).unwrap();
    assert!(view.matches(&first_secrets) && !view.matches(&found));
    part.history[30] ^= 1;
    let bad = core(part);
    assert_eq!(EpochView::of(&bad).unwrap().open_history(&secrets), Err(HistoryError::Damaged));
}

#[test]
fn uses_chains_and_epochs_give_different_keys() {
    let entropy = SeededEntropy::new(7);
    let keys = DeviceKeys::generate(&entropy);
    let device = keys.id();
    let (part, secrets) = prepare(&[1; 32], &[], &entropy);
    let core = |chain| OpCore {
        chain,
        author: ControllerId::Device(device),
        device,
        auth_parents: vec![],
        op: Op::Rekey(Box::new(part.clone())),
    };
    let (here, there) = (core([1; 32]), core([2; 32]));
    let (here, there) = (EpochView::of(&here).unwrap(), EpochView::of(&there).unwrap());
    let wrap = here.derive(&secrets, EpochUse::ContentWrap);
    assert_ne!(wrap, here.derive(&secrets, EpochUse::RecordHeader));
    assert_ne!(wrap, there.derive(&secrets, EpochUse::ContentWrap));
    assert!(here.matches(&secrets) && !there.matches(&secrets));
    assert_eq!(EpochSecrets::decode(secrets.encode().expose()).as_ref(), Some(&secrets));
    assert!(EpochSecrets::decode(&secrets.encode().expose()[..40]).is_none());
    assert_eq!(format!("{secrets:?}").matches("***").count(), 3);
}

#[test]
fn epoch_for_256_controllers_fits_a_block() {
    let entropy = SeededEntropy::new(8);
    let keys = DeviceKeys::generate(&entropy);
    let (part, secrets) = prepare(&[1; 32], &[], &entropy);
    let device = keys.id();
    let author = ControllerId::Device(device);
    let mut core =
        OpCore { chain: [1; 32], author, device, auth_parents: vec![OpId([1; 32]); 1], op: Op::Rekey(Box::new(part)) };
    let one = Recipient { controller: author, key: keys.public().receiving.clone(), reads: true, history: true };
    deal_slots(&mut core, &secrets, &[one], &entropy).unwrap();
    let Op::Rekey(part) = &mut core.op else { panic!("a rekey") };
    let slot = part.slots[0].clone();
    part.slots = (0..=255u8)
        .map(|n| walytis_identities::op::Slot {
            controller: ControllerId::Device(walytis_identities::id::DeviceId([n; 32])),
            key: KeyId([n; 32]),
            ..slot.clone()
        })
        .collect();
    assert_eq!(part.slots.len(), CONTROLLERS_MAX);
    let len = core.sign(&keys, &entropy).unwrap().encode().len();
    assert!(len < SIGNED_OP_MAX && len > 300_000, "{len} bytes");
}

#[test]
fn renewal_keeps_every_earlier_epoch_readable() {
    let (mut a, ..) = group();
    let mut epochs: Vec<EpochId> = a.held.keys().copied().collect();
    for _ in 0..5 {
        epochs.push(a.act(|builder| builder.rekey().unwrap()));
    }
    let mut late = Actor::new(9);
    a.admit(&mut late, Role::Member);
    let readable: BTreeMap<_, _> = late.held.iter().filter(|(_, secrets)| secrets.epoch.is_some()).collect();
    assert!(epochs.iter().all(|epoch| readable.contains_key(epoch)));
    let me = late.id();
    assert!(late.graph().state().duty(&me).is_none());
    late.graph().insert(a.build(|builder| builder.leave().unwrap()).op).unwrap();
    assert!(matches!(late.graph().state().duty(&me).map(|duty| duty.kind), Some(DutyKind::RemoveLeft(_))));
}
