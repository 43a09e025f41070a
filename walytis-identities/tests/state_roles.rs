//! Roles: who may give which, what a demotion undoes, and what a keeper can open.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use support::{Actor, agreed, chain, group};
use walytis_core::id::BlockId;
use walytis_core::key::Signer as _;
use walytis_identities::id::Role;
use walytis_identities::identity::RecordRef;
use walytis_identities::op::{ChainCut, OpError};
use walytis_identities::state::{BuildError, DutyKind, RecordVerdict, Refusal, Rule, VoidReason};

const fn unauthorised(rule: Rule) -> Refusal {
    Refusal::Unauthorised { rule }
}

#[test]
fn admin_promotes_and_demotes_and_nobody_else_does() {
    let (mut a, mut b, mut c) = group();
    let (a_id, b_id, c_id) = (a.id(), b.id(), c.id());
    assert_eq!(c.refused(|make| make.set_role(b_id, Role::Reader, vec![]).unwrap()), unauthorised(Rule::NotAdmin));
    assert_eq!(c.refused(|make| make.set_role(c_id, Role::Admin, vec![]).unwrap()), unauthorised(Rule::NotAdmin));
    let same = a.refused(|make| make.set_role(c_id, Role::Member, vec![]).unwrap());
    assert_eq!(same, unauthorised(Rule::SameRole));
    let stranger = Actor::new(9).id();
    assert_eq!(
        a.refused(|make| make.set_role(stranger, Role::Reader, vec![]).unwrap()),
        unauthorised(Rule::NotController)
    );
    let promoted = a.set_role(c_id, Role::Admin);
    c.sync(&a);
    c.set_role(b_id, Role::Reader);
    b.sync(&c);
    let state = agreed(&[&a, &b, &c]);
    assert_eq!(state.role(&c_id), Some(Role::Admin));
    assert_eq!(state.role(&b_id), Some(Role::Reader));
    // A promotion gives the seniority of the promotion, so whoever was admin before is senior.
    assert_eq!(state.controllers[&c_id].rank.1, promoted);
    assert!(state.controllers[&a_id].rank < state.controllers[&c_id].rank);
    assert!(state.demotions[0].provisional, "b was admin before c was");
    assert_eq!(b.refused(|make| make.rekey().unwrap()), unauthorised(Rule::NotWriter));
}

#[test]
fn promoted_keeper_reads_after_new_keys_and_demoted_reader_opens_nothing_new() {
    let (mut a, _, mut c) = group();
    let mut keeper = Actor::new(8);
    let admitted = a.admit(&mut keeper, Role::Keeper);
    let held = &keeper.held[&admitted];
    assert!(held.transport.is_some() && held.epoch.is_none() && held.history.is_none());
    assert_eq!(agreed(&[&a]).sending_epoch, Some(admitted), "a keeper is no reader, and none is missing");
    let (c_id, keeper_id) = (c.id(), keeper.id());
    a.set_role(c_id, Role::Keeper);
    let state = agreed(&[&a]);
    assert_eq!(state.sending_epoch, None, "what is there, c reads");
    assert_eq!(state.duty(&a.id()).unwrap().kind, DutyKind::Rekey);
    let renewed = a.act(|make| make.rekey().unwrap());
    c.sync(&a);
    assert_eq!(agreed(&[&a]).sending_epoch, Some(renewed));
    assert!(c.held[&renewed].transport.is_some() && c.held[&renewed].epoch.is_none());
    a.set_role(keeper_id, Role::Reader);
    assert_eq!(agreed(&[&a]).sending_epoch, None, "nobody dealt the secret to the new reader");
    let again = a.act(|make| make.rekey().unwrap());
    keeper.sync(&a);
    assert!(keeper.held[&again].epoch.is_some() && keeper.held[&admitted].epoch.is_some(), "and all before it");
    c.sync(&a);
    assert!(c.held[&again].epoch.is_none());
}

/// Whoever rekeys beside a demotion to keeper deals the secret to the demoted: nothing is sent under that epoch.
#[test]
fn rekey_beside_a_demotion_to_keeper_is_never_sent_under() {
    let (mut a, mut b, mut c) = group();
    let c_id = c.id();
    a.set_role(c_id, Role::Keeper);
    let rekey = b.act(|make| make.rekey().unwrap());
    let state = agreed(&[&a, &b]);
    assert!(state.void.is_empty() && state.epochs[&rekey].counts);
    assert_eq!(state.sending_epoch, None);
    a.sync(&b);
    let renewed = a.act(|make| make.rekey().unwrap());
    c.sync(&a);
    assert_eq!(agreed(&[&a]).sending_epoch, Some(renewed));
    assert!(c.held[&renewed].epoch.is_none() && c.held[&rekey].epoch.is_some());
}

#[test]
fn demotion_voids_beside_it_only_what_needs_the_lost_right() {
    let (mut a, mut b, _) = group();
    let (b_id, mut friend) = (b.id(), Actor::new(7));
    let kept = b.act(|make| make.rekey().unwrap());
    let lost = b.admit(&mut friend, Role::Member);
    let demotion = a.set_role(b_id, Role::Member);
    let state = agreed(&[&a, &b]);
    assert_eq!(state.void[&lost], VoidReason::DemotedBeside { demotion });
    assert!(!state.void.contains_key(&kept));
    assert_eq!(state.role(&b_id), Some(Role::Member));
    assert!(state.role(&friend.id()).is_none());
}

#[test]
fn of_concurrent_changes_of_role_the_lesser_wins_and_a_later_one_replaces_both() {
    let (mut a, mut b, c) = group();
    let c_id = c.id();
    a.set_role(c_id, Role::Admin);
    b.set_role(c_id, Role::Reader);
    assert_eq!(agreed(&[&a, &b]).role(&c_id), Some(Role::Reader));
    a.sync(&b);
    a.set_role(c_id, Role::Member);
    assert_eq!(agreed(&[&a, &b]).role(&c_id), Some(Role::Member));
}

#[test]
fn rule_4_of_two_admins_that_step_down_at_once_the_senior_stays() {
    let (mut a, mut b, _) = group();
    let (a_id, b_id) = (a.id(), b.id());
    let lost = a.set_role(a_id, Role::Member);
    b.set_role(b_id, Role::Reader);
    let state = agreed(&[&a, &b]);
    assert_eq!(state.void[&lost], VoidReason::LastAdmin);
    assert_eq!((state.role(&a_id), state.role(&b_id)), (Some(Role::Admin), Some(Role::Reader)));
    let mut alone = Actor::founder(20);
    let alone_id = alone.id();
    assert_eq!(
        alone.refused(|make| make.set_role(alone_id, Role::Member, vec![]).unwrap()),
        unauthorised(Rule::LastAdmin)
    );
}

/// Rule 8 for demotions: below the role member what the controller wrote counts up to the cut.
#[test]
fn records_of_a_demoted_count_up_to_the_cut() {
    let (mut a, _, c) = group();
    let (early, late) = (BlockId::of_file(b"early"), BlockId::of_file(b"late"));
    let heads = a.graph().heads();
    let record = |block| RecordRef { block, creator: c.keys.public_key(), author: c.id(), auth_heads: heads.clone() };
    let cut = vec![ChainCut { chain: chain(), heads: vec![early] }];
    a.act(|make| make.set_role(c.id(), Role::Reader, cut).unwrap());
    let within = |block: &BlockId, cut: &[BlockId]| cut.contains(block);
    assert_eq!(a.graph().judge_with(&chain(), &record(early), within), RecordVerdict::Valid);
    assert_eq!(a.graph().judge_with(&chain(), &record(late), within), RecordVerdict::Void(Rule::BeyondCut));
    // Promoted again it writes under the new heads.
    a.set_role(c.id(), Role::Member);
    let now = RecordRef { auth_heads: a.graph().heads(), ..record(late) };
    assert_eq!(a.graph().judge(&chain(), &now), RecordVerdict::Valid);
}

/// Whoever still writes has no cut: the builder leaves it out, and bytes that carry one are no op.
#[test]
fn cut_with_a_writing_role_is_malformed() {
    let (mut a, mut b, c) = group();
    let c_id = c.id();
    let cut = vec![ChainCut { chain: chain(), heads: vec![BlockId::of_file(b"head")] }];
    a.act(|make| make.set_role(c_id, Role::Admin, cut.clone()).unwrap());
    let mut core = b.build(|make| make.set_role(c_id, Role::Admin, vec![]).unwrap()).op.core().clone();
    if let walytis_identities::op::Op::SetRole(op) = &mut core.op {
        op.cut = cut;
    }
    let error = core.sign(&b.keys, &b.entropy).unwrap_err();
    assert_eq!(BuildError::from(error), BuildError::Op(OpError::Limit { what: "cut" }));
}
