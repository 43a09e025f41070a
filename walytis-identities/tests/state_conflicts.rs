//! Well-known conflicts of decentralised groups, each with its one outcome in every order of delivery. The list with
//! results is in `docs/identity-state.md`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use support::{Actor, agreed_shuffled as agreed, chain, sorted};
use walytis_core::clock::SeededEntropy;
use walytis_core::id::BlockId;
use walytis_core::key::Signer as _;
use walytis_identities::id::{ControllerId, OpId, Role};
use walytis_identities::identity::RecordRef;
use walytis_identities::op::ChainCut;
use walytis_identities::recovery::RecoveryCode;
use walytis_identities::state::{CreateOptions, IdentityState, RecordVerdict, RecoveryPlan, Refusal, Rule, VoidReason};

fn code(seed: u64) -> RecoveryCode {
    RecoveryCode::generate(&SeededEntropy::new(500 + seed))
}

/// a founded it, b and c became admins after it in this order, d is a member; all in sync.
fn group() -> [Actor; 4] {
    let options = CreateOptions { recovery: Some(code(1).key().digest()), ..CreateOptions::default() };
    let mut a = Actor::founder_with(1, &options);
    let (mut b, mut c, mut d) = (Actor::new(2), Actor::new(3), Actor::new(4));
    a.admit(&mut b, Role::Admin);
    a.admit(&mut c, Role::Admin);
    a.admit(&mut d, Role::Member);
    b.sync(&a);
    c.sync(&a);
    [a, b, c, d]
}

fn stand(state: &IdentityState) -> Vec<ControllerId> {
    state.controllers.keys().copied().collect()
}

#[test]
fn of_a_mutual_removal_the_senior_stays() {
    let [mut a, mut b, c, d] = group();
    let (a_id, b_id) = (a.id(), b.id());
    a.remove(&[b_id]);
    b.remove(&[a_id]);
    assert_eq!(stand(&agreed(&[&a, &b])), sorted([a_id, c.id(), d.id()]));
}

#[test]
fn of_a_removal_cycle_of_three_one_removal_is_void() {
    let [mut a, mut b, mut c, d] = group();
    let (a_id, b_id, c_id) = (a.id(), b.id(), c.id());
    a.remove(&[b_id]);
    let void = b.remove(&[c_id]);
    c.remove(&[a_id]);
    let state = agreed(&[&a, &b, &c]);
    assert_eq!(stand(&state), sorted([c_id, d.id()]));
    assert_eq!(state.void.keys().copied().collect::<Vec<_>>(), [void]);
    assert!(state.has_provisional_removal(), "the founder can contest");
}

#[test]
fn demotion_of_the_remover_by_its_senior_undoes_the_removal_beside_it() {
    let [mut a, mut b, c, _] = group();
    let (b_id, c_id) = (b.id(), c.id());
    let demotion = a.set_role(b_id, Role::Member);
    let removal = b.remove(&[c_id]);
    let state = agreed(&[&a, &b]);
    assert_eq!(state.void[&removal], VoidReason::DemotedBeside { demotion });
    assert_eq!((state.role(&b_id), state.role(&c_id)), (Some(Role::Member), Some(Role::Admin)));
}

#[test]
fn demotion_of_the_remover_by_its_junior_comes_after_the_removal() {
    let [mut a, mut b, c, _] = group();
    let (a_id, c_id) = (a.id(), c.id());
    b.set_role(a_id, Role::Member);
    a.remove(&[c_id]);
    let state = agreed(&[&a, &b]);
    assert!(state.void.is_empty() && state.role(&c_id).is_none());
    assert_eq!(state.role(&a_id), Some(Role::Member));
    assert!(state.has_provisional_removal(), "a is senior and can contest");
}

#[test]
fn who_is_demoted_and_removed_at_once_is_removed() {
    let [mut a, mut b, c, _] = group();
    let c_id = c.id();
    a.set_role(c_id, Role::Reader);
    b.remove(&[c_id]);
    assert!(agreed(&[&a, &b]).role(&c_id).is_none());
}

#[test]
fn who_is_added_and_removed_at_once_is_removed() {
    let [mut a, mut b, _, mut d] = group();
    let d_id = d.id();
    a.remove(&[d_id]);
    b.remove(&[d_id]);
    b.admit(&mut d, Role::Member);
    assert!(agreed(&[&a, &b]).role(&d_id).is_none());
}

#[test]
fn re_added_after_its_removal_it_stands_with_old_records_cut() {
    let [mut a, _, _, mut d] = group();
    let d_id = d.id();
    let before = a.graph().heads();
    let (early, late) = (BlockId::of_file(b"early"), BlockId::of_file(b"late"));
    a.remove_at(&[d_id], vec![ChainCut { chain: chain(), heads: vec![early] }]);
    a.admit(&mut d, Role::Reader);
    let after = a.set_role(d_id, Role::Member);
    let state = agreed(&[&a]);
    assert_eq!(state.role(&d_id), Some(Role::Member));
    let record = |block, heads: &[OpId]| RecordRef {
        block,
        creator: d.keys.public_key(),
        author: d_id,
        auth_heads: heads.to_vec(),
    };
    let within = |block: &BlockId, cut: &[BlockId]| cut.contains(block);
    let mut judge = |record| a.graph().judge_with(&chain(), &record, within);
    assert_eq!(judge(record(early, &before)), RecordVerdict::Valid);
    assert_eq!(judge(record(late, &before)), RecordVerdict::Void(Rule::BeyondCut));
    assert_eq!(judge(record(late, &[after])), RecordVerdict::Valid);
}

#[test]
fn a_ban_beats_a_change_of_role_beside_it() {
    let [mut a, mut b, _, d] = group();
    let d_id = d.id();
    b.set_role(d_id, Role::Admin);
    a.remove(&[d_id]);
    assert!(agreed(&[&a, &b]).role(&d_id).is_none());
    // The junior's ban, too, beside the senior's promotion.
    let [mut a, mut b, _, d] = group();
    let d_id = d.id();
    a.set_role(d_id, Role::Admin);
    b.remove(&[d_id]);
    assert!(agreed(&[&a, &b]).role(&d_id).is_none());
}

#[test]
fn backdated_ops_and_records_of_a_removed_admin_are_void() {
    let [mut a, mut b, mut c, mut d] = group();
    let (b_id, heads) = (b.id(), b.graph().heads());
    let removal = a.remove(&[b_id]);
    let backdated = [
        b.act(|make| make.rekey().unwrap()),
        b.set_role(d.id(), Role::Admin),
        b.remove(&[c.id()]),
        b.act(|make| make.document(vec![]).unwrap()),
        b.act(|make| make.deactivate(vec![]).unwrap()),
    ];
    let state = agreed(&[&a, &b]);
    assert!(backdated.iter().all(|op| state.void[op] == VoidReason::RemovedBeside { removal }));
    assert_eq!(stand(&state), sorted([a.id(), c.id(), d.id()]));
    assert!(state.deactivated.is_none() && state.sending_epoch == Some(removal));
    let record = RecordRef {
        block: BlockId::of_file(b"backdated"),
        creator: b.keys.public_key(),
        author: b_id,
        auth_heads: heads,
    };
    for honest in [&mut c, &mut d] {
        honest.sync(&b);
        honest.sync(&a);
        let verdict = honest.graph().judge_with(&chain(), &record, |_, _| false);
        assert_eq!(verdict, RecordVerdict::Void(Rule::BeyondCut));
    }
}

#[test]
fn backdated_admission_of_a_puppet_admin_is_void_with_all_it_does() {
    let [mut a, mut b, c, _] = group();
    let (b_id, c_id) = (b.id(), c.id());
    a.remove(&[b_id]);
    let mut puppet = Actor::new(9);
    b.admit(&mut puppet, Role::Admin);
    let (a_id, mut friend) = (a.id(), Actor::new(10));
    puppet.remove(&[a_id, c_id]);
    puppet.admit(&mut friend, Role::Admin);
    let state = agreed(&[&a, &friend]);
    assert_eq!(state.void.len(), 3);
    assert!(state.role(&puppet.id()).is_none() && state.role(&friend.id()).is_none());
    assert_eq!((state.role(&a_id), state.role(&c_id)), (Some(Role::Admin), Some(Role::Admin)));
}

#[test]
fn a_removed_senior_contests_and_is_back() {
    let [mut a, mut b, _, _] = group();
    let (a_id, b_id) = (a.id(), b.id());
    let removal = b.remove(&[a_id]);
    let state = agreed(&[&b]);
    assert!(state.has_provisional_removal() && state.role(&a_id).is_none());
    a.remove(&[b_id]);
    let state = agreed(&[&a, &b]);
    assert!(state.void.contains_key(&removal) && !state.has_provisional_removal());
    assert!(state.role(&a_id).is_some() && state.role(&b_id).is_none());
}

#[test]
fn a_juniors_backdated_removal_of_its_remover_is_void() {
    let [mut a, mut b, mut c, _] = group();
    let (a_id, b_id) = (a.id(), b.id());
    a.remove(&[b_id]);
    c.sync(&a);
    c.act(|make| make.rekey().unwrap());
    let late = b.remove(&[a_id]);
    let state = agreed(&[&b, &c]);
    assert!(state.void.contains_key(&late));
    assert!(state.role(&a_id).is_some() && state.role(&b_id).is_none());
}

#[test]
fn of_all_admins_leaving_at_once_the_most_senior_stays() {
    let [mut a, mut b, mut c, d] = group();
    let leaves = [&mut a, &mut b, &mut c].map(|admin| admin.act(|make| make.leave().unwrap()));
    let state = agreed(&[&a, &b, &c]);
    assert_eq!(state.void.keys().copied().collect::<Vec<_>>(), [leaves[0]]);
    assert_eq!(stand(&state), sorted([a.id(), d.id()]));
}

#[test]
fn an_over_used_invitation_serves_whom_the_senior_let_in() {
    let [mut a, mut b, _, _] = group();
    let (invite, key) = a.invite(Role::Member, Some(1));
    b.sync(&a);
    let (mut e, mut f) = (Actor::new(9), Actor::new(10));
    let late = b.honour(&mut f, &invite, &key);
    let rests = f.act(|make| make.rekey().unwrap());
    a.honour(&mut e, &invite, &key);
    let state = agreed(&[&a, &f]);
    assert_eq!(state.void[&late], VoidReason::UsedUp { invite });
    assert!(state.void.contains_key(&rests));
    assert!(state.role(&e.id()).is_some() && state.role(&f.id()).is_none());
}

#[test]
fn an_admission_beside_the_revocation_of_its_invitation_is_void() {
    let [mut a, mut b, _, mut d] = group();
    let (invite, key) = a.invite(Role::Member, None);
    b.sync(&a);
    d.sync(&a);
    let mut e = Actor::new(9);
    let void = d.honour(&mut e, &invite, &key);
    b.act(|make| make.revoke_invite(invite).unwrap());
    let state = agreed(&[&b, &d]);
    assert_eq!(state.void[&void], VoidReason::RevokedBeside { invite });
    assert!(state.role(&e.id()).is_none());
}

#[test]
fn an_equivocating_device_gives_one_state() {
    let [mut a, _, mut c, mut d] = group();
    let mut copy = Actor::new(4);
    copy.join(&d);
    let one = d.act(|make| make.rekey().unwrap());
    let other = copy.act(|make| make.rekey().unwrap());
    assert_ne!(one, other);
    a.sync(&d);
    c.sync(&copy);
    let state = agreed(&[&a, &c]);
    assert!(state.void.is_empty());
    assert_eq!(state.sending_epoch, Some(one.min(other)));
}

#[test]
fn of_conflicting_recoveries_the_longer_chain_counts_then_the_lower_id() {
    let [a, _, _, _] = group();
    let recover = |actor: &mut Actor, with: u64, next: u64| {
        let plan = RecoveryPlan { next_recovery: Some(code(next).key().digest()), ..RecoveryPlan::default() };
        actor.act(|make| make.recover(&code(with).key(), plan).unwrap())
    };
    let [mut own, mut thief] = [50, 51].map(|seed| {
        let mut device = Actor::new(seed);
        device.join(&a);
        device
    });
    let (mine, stolen) = (recover(&mut own, 1, 2), recover(&mut thief, 1, 3));
    let state = agreed(&[&own, &thief]);
    let winner = if mine < stolen { own.id() } else { thief.id() };
    assert_eq!(stand(&state), [winner]);
    assert_eq!(state.void[&mine.max(stolen)], VoidReason::RecoveredBeside { recovery: mine.min(stolen) });
    // The code that the first recovery named has the last word.
    recover(&mut own, 2, 4);
    let state = agreed(&[&own, &thief]);
    assert_eq!(stand(&state), [own.id()]);
    assert!(state.void.contains_key(&stolen) && state.recoveries.len() == 2);
    thief.sync(&own);
    let refusal = thief.refused(|make| make.rekey().unwrap());
    let by_nobody = Refusal::Unauthorised { rule: Rule::NoController };
    assert!(refusal == by_nobody || refusal == Refusal::UnknownDevice, "{refusal}");
}

/// Rule 2: c removed d, void where b removed c beside it: d goes on. When a removes b beside that, c's removal counts after
/// all, also for what d said knowing it as void.
#[test]
fn a_removal_that_was_known_as_void_takes_effect_when_it_counts_after_all() {
    let [mut a, mut b, mut c, mut d] = group();
    let (b_id, c_id, d_id) = (b.id(), c.id(), d.id());
    c.remove(&[d_id]);
    b.remove(&[c_id]);
    d.sync(&b);
    d.sync(&c);
    let later = d.act(|builder| builder.rekey().unwrap());
    let before = agreed(&[&b, &c, &d]);
    assert!(before.role(&d_id) == Some(Role::Member) && !before.void.contains_key(&later));
    a.remove(&[b_id]);
    let state = agreed(&[&a, &b, &c, &d]);
    assert_eq!(state.void.get(&later), Some(&VoidReason::Unfounded { rule: Rule::NoController }));
    assert_eq!(stand(&state), sorted([a.id(), c_id]));
}
