//! Recovery, renewed keys, the document's services and the end of an identity.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::collections::BTreeMap;

use support::{Actor, agreed, chain};
use walytis_core::clock::SeededEntropy;
use walytis_core::id::BlockId;
use walytis_core::key::Signer as _;
use walytis_identities::crypto::Label;
use walytis_identities::id::{ControllerId, OpId, Role};
use walytis_identities::identity::RecordRef;
use walytis_identities::op::{ChainCut, Op, SignedOp};
use walytis_identities::recovery::RecoveryCode;
use walytis_identities::signed::IdentitySignature;
use walytis_identities::state::{
    BuildError, Built, CreateOptions, Inserted, RecordVerdict, RecoveryPlan, Refusal, Rule, VoidReason, WriteRight,
};

fn code(seed: u64) -> RecoveryCode {
    RecoveryCode::generate(&SeededEntropy::new(1_000 + seed))
}

/// Founder admin, one more admin, one member, all in sync; recoverable with `code(1)`.
fn group() -> (Actor, Actor, Actor) {
    let options = CreateOptions { recovery: Some(code(1).key().digest()), ..CreateOptions::default() };
    let (mut a, mut b, mut c) = (Actor::founder_with(1, &options), Actor::new(2), Actor::new(3));
    a.admit(&mut b, Role::Admin);
    a.admit(&mut c, Role::Member);
    b.sync(&a);
    c.sync(&a);
    (a, b, c)
}

fn plan(staying: &[(ControllerId, Role)], next: Option<&RecoveryCode>) -> RecoveryPlan {
    RecoveryPlan {
        staying: staying.iter().copied().collect::<BTreeMap<_, _>>(),
        next_recovery: next.map(|code| code.key().digest()),
        ..RecoveryPlan::default()
    }
}

/// A device that nobody knows, with the code alone.
fn stranger(seed: u64, knows: &Actor) -> Actor {
    let mut stranger = Actor::new(seed);
    stranger.join(knows);
    stranger
}

const fn unauthorised(rule: Rule) -> Refusal {
    Refusal::Unauthorised { rule }
}

#[test]
fn recovery_by_a_new_device_leaves_whom_it_lists_and_voids_everything_beside_it() {
    let (mut a, mut b, mut c) = group();
    let mut own = stranger(50, &a);
    let c_id = c.id();
    // The thief of both admins' devices does everything it can, beside.
    let mut puppet = Actor::new(60);
    let thefts = [b.admit(&mut puppet, Role::Admin), b.remove(&[c_id]), a.remove(&[c_id])];
    let recovered =
        own.act(|make| make.recover(&code(1).key(), plan(&[(c_id, Role::Member)], Some(&code(2)))).unwrap());
    let state = agreed(&[&own, &a, &b]);
    assert_eq!(state.controllers.keys().copied().collect::<Vec<_>>(), support::sorted([own.id(), c_id]));
    assert_eq!(state.role(&own.id()), Some(Role::Admin));
    for theft in thefts {
        assert_eq!(state.void[&theft], VoidReason::RecoveredBeside { recovery: recovered });
    }
    assert_eq!(state.sending_epoch, Some(recovered));
    assert_eq!(state.recovery, Some(code(2).key().digest()));
    c.sync(&own);
    assert!(c.held[&recovered].epoch.is_some());
    for thief in [&mut a, &mut b] {
        thief.sync(&own);
        assert!(!thief.held.contains_key(&recovered));
        assert_eq!(thief.refused(|make| make.rekey().unwrap()), unauthorised(Rule::NoController));
    }
    // What is done afterwards, counts.
    let rekey = c.act(|make| make.rekey().unwrap());
    assert_eq!(agreed(&[&c]).sending_epoch, Some(rekey));
}

#[test]
fn recovery_needs_the_code_in_force_and_lists_its_author() {
    let (a, _, c) = group();
    let mut own = stranger(50, &a);
    let wrong = own.refused(|make| make.recover(&code(9).key(), plan(&[], None)).unwrap());
    assert_eq!(wrong, unauthorised(Rule::RecoveryKey));
    let no_device = Actor::new(70).id();
    let error = own.build(|make| make.recover(&code(1).key(), plan(&[(no_device, Role::Admin)], None)).unwrap_err());
    assert_eq!(error, BuildError::NoDevice { controller: no_device });
    // Somebody puts its own device into an op that the code signed for another plan.
    let op = own.build(|make| make.recover(&code(1).key(), plan(&[(c.id(), Role::Member)], None)).unwrap()).op;
    let mut core = op.core().clone();
    let Op::Recover(recover) = &mut core.op else { unreachable!() };
    recover.controllers.retain(|(record, _)| record.id() == own.id());
    let forged = core.sign(&own.keys, &own.entropy).unwrap();
    assert!(matches!(own.graph().insert(forged), Err(Refusal::Signature(_))));
    // An identity without a recovery key has no final word.
    let bare = Actor::founder(80);
    let mut other = stranger(81, &bare);
    assert_eq!(
        other.refused(|make| make.recover(&code(1).key(), plan(&[], None)).unwrap()),
        unauthorised(Rule::RecoveryKey)
    );
}

#[test]
fn recovery_can_follow_a_recovery_and_the_used_code_is_worth_nothing_after_it() {
    let (a, _, c) = group();
    let mut own = stranger(50, &a);
    own.act(|make| make.recover(&code(1).key(), plan(&[(c.id(), Role::Member)], Some(&code(2)))).unwrap());
    let mut next = stranger(51, &own);
    let used = next.refused(|make| make.recover(&code(1).key(), plan(&[], None)).unwrap());
    assert_eq!(used, unauthorised(Rule::RecoveryKey));
    next.act(|make| make.recover(&code(2).key(), plan(&[], None)).unwrap());
    let state = agreed(&[&next]);
    assert_eq!(state.controllers.keys().copied().collect::<Vec<_>>(), [next.id()]);
    assert_eq!((state.recoveries.len(), state.recovery), (2, None));
}

#[test]
fn recovery_judges_records_of_everybody_by_its_cut() {
    let (mut a, _, c) = group();
    let (early, late) = (BlockId::of_file(b"early"), BlockId::of_file(b"late"));
    let heads = a.graph().heads();
    let record = |block| RecordRef { block, creator: c.keys.public_key(), author: c.id(), auth_heads: heads.clone() };
    let cut = vec![ChainCut { chain: chain(), heads: vec![early] }];
    let mut own = stranger(50, &a);
    let plan = RecoveryPlan { cut, ..plan(&[(c.id(), Role::Member)], None) };
    own.act(|make| make.recover(&code(1).key(), plan).unwrap());
    let within = |block: &BlockId, cut: &[BlockId]| cut.contains(block);
    assert_eq!(own.graph().judge_with(&chain(), &record(early), within), RecordVerdict::Valid);
    assert_eq!(own.graph().judge_with(&chain(), &record(late), within), RecordVerdict::Void(Rule::BeyondCut));
    let now = RecordRef { auth_heads: own.graph().heads(), ..record(late) };
    assert_eq!(own.graph().judge(&chain(), &now), RecordVerdict::Valid);
}

#[test]
fn recovery_brings_a_deactivated_identity_back() {
    let (mut a, _, _) = group();
    a.act(|make| make.deactivate(vec![]).unwrap());
    let mut own = stranger(50, &a);
    own.act(|make| make.recover(&code(1).key(), plan(&[], None)).unwrap());
    let state = agreed(&[&own]);
    assert!(state.deactivated.is_none() && state.sending_epoch.is_some());
}

#[test]
fn deactivated_identity_writes_no_more_and_nothing_falls_due() {
    let (mut a, mut b, mut c) = group();
    let before = a.graph().heads();
    let refused = c.refused(|make| make.deactivate(vec![]).unwrap());
    assert_eq!(refused, unauthorised(Rule::NotAdmin));
    let early = BlockId::of_file(b"early");
    let ended = a.act(|make| make.deactivate(vec![ChainCut { chain: chain(), heads: vec![early] }]).unwrap());
    let rekey = b.act(|make| make.rekey().unwrap());
    let state = agreed(&[&a, &b]);
    assert_eq!(state.deactivated.as_ref().map(|end| end.op), Some(ended));
    assert!(state.epochs.contains_key(&rekey), "b had not heard");
    assert_eq!((state.sending_epoch, state.duty(&a.id())), (None, None));
    a.sync(&b);
    assert_eq!(a.refused(|make| make.rekey().unwrap()), unauthorised(Rule::Deactivated));
    let key = c.keys.public_key();
    let now = a.graph().heads();
    assert_eq!(a.graph().authorised_to_write(&now, &c.id(), &key), WriteRight::No(Rule::Deactivated));
    let within = |block: &BlockId, cut: &[BlockId]| cut.contains(block);
    let record = |block| RecordRef { block, creator: key, author: c.id(), auth_heads: before.clone() };
    assert_eq!(a.graph().judge_with(&chain(), &record(early), within), RecordVerdict::Valid);
    let late = record(BlockId::of_file(b"late"));
    assert_eq!(a.graph().judge_with(&chain(), &late, within), RecordVerdict::Void(Rule::BeyondCut));
}

#[test]
fn removal_by_a_senior_undoes_a_deactivation_beside_it() {
    let (mut a, mut b, _) = group();
    let ended = b.act(|make| make.deactivate(vec![]).unwrap());
    let b_id = b.id();
    a.remove(&[b_id]);
    let state = agreed(&[&a, &b]);
    assert!(state.void.contains_key(&ended) && state.deactivated.is_none());
}

#[test]
fn renewed_keys_sign_for_the_same_device_and_old_signatures_stay_good() {
    let (mut a, _, mut c) = group();
    let (c_id, old) = (c.id(), c.keys.clone());
    let before = c.graph().heads();
    let signature = IdentitySignature::sign(c.graph.as_ref().unwrap(), &c.keys, "t", b"m", &c.entropy).unwrap();
    let next = c.keys.renew(&c.entropy);
    c.act(|make| make.update(&next).unwrap());
    c.keys = next;
    assert_eq!(c.id(), c_id, "the same device");
    let rekey = c.act(|make| make.rekey().unwrap());
    a.sync(&c);
    let state = agreed(&[&a, &c]);
    assert!(state.void.is_empty() && state.epochs[&rekey].counts);
    let device = state.device(&old.id()).unwrap();
    assert_eq!((&device.first, &device.current), (old.public(), c.keys.public()));
    // Blocks: under heads that know the renewal by either key, under earlier ones by the first only.
    let now = a.graph().heads();
    let right = |a: &mut Actor, heads: &[OpId], key| a.graph().authorised_to_write(heads, &c_id, &key);
    assert_eq!(right(&mut a, &now, c.keys.public_key()), WriteRight::Yes);
    assert_eq!(right(&mut a, &now, old.public_key()), WriteRight::Yes);
    assert_eq!(right(&mut a, &before, old.public_key()), WriteRight::Yes);
    assert_eq!(right(&mut a, &before, c.keys.public_key()), WriteRight::No(Rule::Creator));
    // Signatures alike.
    assert!(signature.verify(a.graph(), "t", b"m").is_ok());
    let renewed = IdentitySignature::sign(c.graph.as_ref().unwrap(), &c.keys, "t", b"m", &c.entropy).unwrap();
    assert!(renewed.verify(a.graph(), "t", b"m").is_ok());
    let backdated = IdentitySignature { auth_heads: before, ..renewed };
    assert!(backdated.verify(a.graph(), "t", b"m").is_err());
    // The next epoch is dealt to the renewed receiving key.
    let epoch = a.act(|make| make.rekey().unwrap());
    c.sync(&a);
    assert!(c.held.contains_key(&epoch));
}

/// A device renews its keys and has no others any more; a recovery beside that keeps it.
#[test]
fn renewal_beside_a_recovery_is_void_and_its_device_writes_on() {
    let (mut a, _, mut c) = group();
    let (c_id, old) = (c.id(), c.keys.clone());
    a.act(|make| make.recover(&code(1).key(), plan(&[(c_id, Role::Member)], None)).unwrap());
    let next = c.keys.renew(&c.entropy);
    c.act(|make| make.update(&next).unwrap());
    c.keys = next;
    c.sync(&a);
    let rekey = c.act(|make| make.rekey().unwrap());
    a.sync(&c);
    let state = agreed(&[&a, &c]);
    assert_eq!(state.void.len(), 1);
    assert_eq!(state.sending_epoch, Some(rekey), "its ops are accepted");
    assert_eq!(state.device(&old.id()).unwrap().current, *old.public(), "nothing is sealed to what is void");
    let now = a.graph().heads();
    for key in [old.public_key(), c.keys.public_key()] {
        assert_eq!(a.graph().authorised_to_write(&now, &c_id, &key), WriteRight::Yes);
    }
}

#[test]
fn renewal_needs_both_the_old_and_the_new_keys() {
    let (mut a, _, mut c) = group();
    let next = c.keys.renew(&c.entropy);
    let update = c.build(|make| make.update(&next).unwrap()).op;
    // Signed by the new keys alone: they are not known yet.
    let alone = update.core().clone().sign(&next, &c.entropy).unwrap();
    assert!(matches!(a.graph().insert(alone), Err(Refusal::Signature(_))));
    // Signed by the old keys alone: somebody else's keys are claimed.
    let mut core = update.core().clone();
    let Op::Update(op) = &mut core.op else { unreachable!() };
    op.keys.as_mut().unwrap().1 = c.keys.sign_hybrid(Label::KeyRenewal, b"claim", &c.entropy);
    let claimed = core.sign(&c.keys, &c.entropy).unwrap();
    assert!(matches!(a.graph().insert(claimed), Err(Refusal::Signature(_))));
    let mut core = update.core().clone();
    let Op::Update(op) = &mut core.op else { unreachable!() };
    op.keys = None;
    let empty = core.sign(&c.keys, &c.entropy).unwrap();
    assert_eq!(a.graph().insert(empty), Err(unauthorised(Rule::UpdateKeys)));
    assert!(matches!(a.graph().insert(update), Ok(Inserted::New(_))));
}

/// A device restored from a copy renews twice: every replica takes the same keys to be in force, and both verify.
#[test]
fn concurrent_renewals_of_one_device_have_one_outcome() {
    let (_, _, mut c) = group();
    let mut copy = Actor::new(3);
    copy.join(&c);
    let (one, other) = (c.keys.renew(&SeededEntropy::new(5)), copy.keys.renew(&SeededEntropy::new(6)));
    let first = c.act(|make| make.update(&one).unwrap());
    let second = copy.act(|make| make.update(&other).unwrap());
    let state = agreed(&[&c, &copy]);
    let device = state.device(&copy.keys.id()).unwrap();
    let in_force = if first < second { one.public() } else { other.public() };
    assert_eq!(&device.current, in_force);
    c.sync(&copy);
    let (heads, c_id) = (c.graph().heads(), c.id());
    for keys in [&one, &other] {
        let right = c.graph().authorised_to_write(&heads, &c_id, &keys.public_key());
        assert_eq!(right, WriteRight::Yes);
    }
}

#[test]
fn services_are_an_admins_to_name_and_concurrent_ones_have_one_outcome() {
    let (mut a, mut b, mut c) = group();
    let service = |name: &str| vec![(name.to_owned(), "kind".to_owned(), "https://example.org".to_owned())];
    assert_eq!(c.refused(|make| make.document(service("c")).unwrap()), unauthorised(Rule::NotAdmin));
    let one = a.act(|make| make.document(service("a")).unwrap());
    let other = b.act(|make| make.document(service("b")).unwrap());
    let expected = if one < other { "a" } else { "b" };
    assert_eq!(agreed(&[&a, &b]).services, service(expected));
    a.sync(&b);
    a.act(|make| make.document(Vec::new()).unwrap());
    assert!(agreed(&[&a]).services.is_empty());
    let many = (0..33).map(|n| (n.to_string(), String::new(), String::new())).collect();
    assert!(matches!(a.build(|make| make.document(many)), Err(BuildError::Op(_))));
}

/// Every op of this file survives its encoding.
#[test]
fn new_ops_round_trip() {
    let (mut a, _, _) = group();
    let next = a.keys.renew(&a.entropy);
    let make = |a: &mut Actor| -> Vec<Built> {
        vec![
            a.build(|make| make.update(&next).unwrap()),
            a.build(|make| make.document(vec![]).unwrap()),
            a.build(|make| make.deactivate(vec![]).unwrap()),
            a.build(|make| make.recover(&code(1).key(), plan(&[], None)).unwrap()),
        ]
    };
    for built in make(&mut a) {
        assert_eq!(SignedOp::decode(&built.op.encode()), Ok(built.op.clone()));
    }
}
