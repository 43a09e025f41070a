//! The rules of `docs/identity-state.md`: each with what passes it and what breaks only it, in every order of delivery.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use support::{Actor, agreed, all_ops, chain, create_of, group, sorted};
use walytis_core::id::BlockId;
use walytis_identities::id::{ControllerId, OpId, Role};
use walytis_identities::identity::RecordRef;
use walytis_identities::op::{ChainCut, SignedOp};
use walytis_identities::state::{
    AuthorityGraph, DutyKind, IdentityState, Inserted, RecordVerdict, Refusal, Rule, VoidReason, WriteRight,
};

fn members(state: &IdentityState) -> Vec<ControllerId> {
    state.controllers.keys().copied().collect()
}

#[test]
fn group_shares_an_epoch_and_the_past() {
    let (mut a, mut b, mut c) = group();
    let state = agreed(&[&a, &b, &c]);
    assert_eq!(members(&state), sorted([a.id(), b.id(), c.id()]));
    assert_eq!(state.role(&a.id()), Some(Role::Admin));
    assert_eq!(state.role(&c.id()), Some(Role::Member));
    let epoch = state.sending_epoch.unwrap();
    for actor in [&mut a, &mut b, &mut c] {
        assert!(actor.held[&epoch].epoch.is_some());
        // The default policy: whoever joins reads everything, from the first epoch on.
        assert_eq!(actor.held.len(), 3);
    }
}

#[test]
fn rule_1_only_the_entitled_act() {
    let (mut a, _, mut c) = group();
    let mut outsider = Actor::new(9);
    outsider.join(&a);
    assert_eq!(outsider.refused(|builder| builder.rekey().unwrap()), Refusal::UnknownDevice);
    let unauthorised = |rule| Refusal::Unauthorised { rule };
    let request = outsider.request(&c, None);
    assert_eq!(c.refused(|b| b.admit(request, Role::Member).unwrap()), unauthorised(Rule::NotAdmin));
    let (a_id, unknown) = (a.id(), Actor::new(10).id());
    let remove =
        |target| move |b: walytis_identities::state::Builder<'_>| b.remove(vec![target], vec![], vec![]).unwrap();
    assert_eq!(c.refused(remove(a_id)), unauthorised(Rule::NotAdmin));
    assert_eq!(a.refused(remove(unknown)), unauthorised(Rule::NotController));
    let again = c.request(&a, None);
    assert_eq!(a.refused(|b| b.admit(again, Role::Member).unwrap()), unauthorised(Rule::AlreadyController));
    c.act(|builder| builder.rekey().unwrap());
    assert_eq!(c.refused(|b| b.revoke_invite(OpId([1; 32])).unwrap()), unauthorised(Rule::NotAdmin));
}

#[test]
fn removed_member_reads_nothing_new_and_acts_no_more() {
    let (mut a, mut b, mut c) = group();
    a.remove(&[c.id()]);
    c.sync(&a);
    b.sync(&a);
    let state = agreed(&[&a]);
    let epoch = state.sending_epoch.unwrap();
    assert!(!c.held.contains_key(&epoch) && b.held.contains_key(&epoch));
    let refusal = c.refused(|builder| builder.rekey().unwrap());
    assert_eq!(refusal, Refusal::Unauthorised { rule: Rule::NoController });
}

#[test]
fn rule_3_senior_wins_a_mutual_removal() {
    let (mut a, mut b, _) = group();
    let (a_id, b_id) = (a.id(), b.id());
    let kept = a.remove(&[b_id]);
    let lost = b.remove(&[a_id]);
    let state = agreed(&[&a, &b]);
    assert_eq!(state.void[&lost], VoidReason::RemovedBeside { removal: kept });
    assert!(state.role(&a_id).is_some() && state.role(&b_id).is_none());
    assert!(!state.has_provisional_removal());
}

#[test]
fn rule_3_a_cycle_of_removals_has_one_end() {
    let (mut a, mut b, mut c) = (Actor::founder(1), Actor::new(2), Actor::new(3));
    a.admit(&mut b, Role::Admin);
    a.admit(&mut c, Role::Admin);
    b.sync(&a);
    let (a_id, b_id, c_id) = (a.id(), b.id(), c.id());
    a.remove(&[b_id]);
    let voided = b.remove(&[c_id]);
    c.remove(&[a_id]);
    let state = agreed(&[&a, &b, &c]);
    assert!(state.void.contains_key(&voided) && state.void.len() == 1);
    assert_eq!(members(&state), [c_id]);
    // Rule 5: the junior's removal of the founder can be contested, and the state says so.
    assert!(state.has_provisional_removal());
    assert!(state.sending_epoch.is_none(), "nobody dealt to c alone");
    assert_eq!(state.duty(&c_id).unwrap().kind, DutyKind::Rekey);
}

#[test]
fn rule_3_backdated_op_of_a_removed_is_void_and_what_rests_on_it() {
    let (mut a, mut b, _) = group();
    let mut friend = Actor::new(7);
    // b does not know of its removal, or pretends not to.
    let admitted = b.admit(&mut friend, Role::Admin);
    let rests = friend.act(|builder| builder.rekey().unwrap());
    let b_id = b.id();
    let removal = a.remove(&[b_id]);
    let state = agreed(&[&a, &friend]);
    assert_eq!(state.void[&admitted], VoidReason::RemovedBeside { removal });
    assert_eq!(state.void[&rests], VoidReason::Unfounded { rule: Rule::NoController });
    assert!(state.role(&friend.id()).is_none());
    assert_eq!(state.sending_epoch, Some(removal));
}

#[test]
fn rule_3_unrelated_ops_beside_a_removal_stand() {
    let (mut a, mut b, mut c) = group();
    let rekey = c.act(|builder| builder.rekey().unwrap());
    let b_id = b.id();
    a.remove(&[b_id]);
    let state = agreed(&[&a, &c]);
    assert!(state.void.is_empty());
    assert!(state.epochs[&rekey].counts);
    b.sync(&a);
}

#[test]
fn rule_4_last_of_two_leaving_admins_stays() {
    let (mut a, mut b, _) = group();
    let lost = a.act(|builder| builder.leave().unwrap());
    let stays = b.act(|builder| builder.leave().unwrap());
    let state = agreed(&[&a, &b]);
    // Junior first: b goes, then a would leave nobody.
    assert_eq!(state.void.get(&lost), Some(&VoidReason::LastAdmin));
    assert!(!state.void.contains_key(&stays));
    assert_eq!(state.role(&a.id()), Some(Role::Admin));
    assert_eq!(state.leaving.len(), 1);
}

#[test]
fn rule_4_the_only_admin_does_not_leave() {
    let (mut a, mut b) = (Actor::founder(1), Actor::new(2));
    a.admit(&mut b, Role::Member);
    let refusal = a.refused(|builder| builder.leave().unwrap());
    assert_eq!(refusal, Refusal::Unauthorised { rule: Rule::LastAdmin });
    b.act(|builder| builder.leave().unwrap());
}

#[test]
fn leave_stops_writing_until_any_member_removes() {
    let (mut a, mut b, mut c) = group();
    b.act(|builder| builder.leave().unwrap());
    a.sync(&b);
    c.sync(&b);
    let state = c.graph().state();
    assert!(state.sending_epoch.is_none());
    let duties = [state.duty(&a.id()).unwrap(), state.duty(&c.id()).unwrap()];
    assert_eq!(duties[0].rank + duties[1].rank, 1, "one acts, the other waits a slot");
    assert_eq!(duties[0].kind, DutyKind::RemoveLeft(vec![b.id()]));
    assert!(state.duty(&b.id()).is_none());
    let b_id = b.id();
    let removal = c.remove(&[b_id]);
    let state = agreed(&[&a, &c]);
    assert_eq!(state.sending_epoch, Some(removal));
    assert!(state.leaving.is_empty() && !state.has_provisional_removal());
}

#[test]
fn rule_6_of_concurrent_admissions_the_lesser_role_wins() {
    let (mut a, mut b, _) = group();
    let mut d = Actor::new(8);
    a.admit(&mut d, Role::Admin);
    b.admit(&mut d, Role::Member);
    assert_eq!(agreed(&[&a, &b]).role(&d.id()), Some(Role::Member));
}

#[test]
fn rule_6_admission_beside_a_removal_is_removed_and_after_it_stands() {
    let (mut a, mut b, mut c) = group();
    let c_id = c.id();
    a.remove(&[c_id]);
    let only_removed = b.graph().state().role(&c_id);
    assert!(only_removed.is_some(), "b has not heard");
    b.remove(&[c_id]);
    b.admit(&mut c, Role::Member);
    // Beside a's removal: removed.
    let state = agreed(&[&a, &b]);
    assert!(state.role(&c_id).is_none());
    // After both: stands.
    a.sync(&b);
    a.admit(&mut c, Role::Member);
    assert_eq!(agreed(&[&a, &b]).role(&c_id), Some(Role::Member));
}

#[test]
fn rule_7_member_honours_an_invitation_once() {
    let (mut a, mut b, mut c) = group();
    let (invite, key) = a.invite(Role::Member, Some(1));
    c.sync(&a);
    let (mut d, e) = (Actor::new(8), Actor::new(9));
    c.honour(&mut d, &invite, &key);
    let state = agreed(&[&c]);
    assert_eq!(state.role(&d.id()), Some(Role::Member));
    assert!(!state.invitations[&invite].is_open());
    assert!(d.held[&state.sending_epoch.unwrap()].epoch.is_some());
    let request = e.request(&c, Some((&invite, &key)));
    let refusal = c.refused(|builder| builder.honour(request).unwrap());
    assert_eq!(refusal, Refusal::Unauthorised { rule: Rule::InvitationUsedUp });
    b.sync(&c);
}

#[test]
fn rule_7_proof_is_for_this_newcomer_and_this_controller() {
    let (mut a, _, mut c) = group();
    let (invite, key) = a.invite(Role::Member, None);
    c.sync(&a);
    let (d, e) = (Actor::new(8), Actor::new(9));
    // Made for a, honoured by c: the possession proof names a as well, so both fail; the signature is checked first.
    let elsewhere = d.request(&a, Some((&invite, &key)));
    assert!(matches!(c.refused(|b| b.honour(elsewhere).unwrap()), Refusal::Signature(_)));
    let mut stolen = e.request(&c, Some((&invite, &key)));
    stolen.invitation = d.request(&c, Some((&invite, &key))).invitation;
    let refusal = c.refused(|builder| builder.honour(stolen).unwrap());
    assert_eq!(refusal, Refusal::Unauthorised { rule: Rule::InvitationProof });
    let (_, other_key) = a.invite(Role::Member, None);
    let wrong_seed = e.request(&c, Some((&invite, &other_key)));
    let refusal = c.refused(|builder| builder.honour(wrong_seed).unwrap());
    assert_eq!(refusal, Refusal::Unauthorised { rule: Rule::InvitationProof });
    let role = e.request(&c, Some((&invite, &key)));
    let refusal = c.refused(|builder| builder.admit(role, Role::Admin).unwrap());
    assert_eq!(refusal, Refusal::Unauthorised { rule: Rule::InvitationRole });
}

#[test]
fn rule_7_over_use_voids_the_admission_of_the_junior() {
    let (mut a, mut b, _) = group();
    let (invite, key) = a.invite(Role::Member, Some(1));
    b.sync(&a);
    let (mut d, mut e) = (Actor::new(8), Actor::new(9));
    a.honour(&mut d, &invite, &key);
    let lost = b.honour(&mut e, &invite, &key);
    let state = agreed(&[&a, &b]);
    assert_eq!(state.void[&lost], VoidReason::UsedUp { invite });
    assert!(state.role(&d.id()).is_some() && state.role(&e.id()).is_none());
}

#[test]
fn rule_7_same_newcomer_at_two_controllers_costs_one_use() {
    let (mut a, mut b, _) = group();
    let (invite, key) = a.invite(Role::Member, Some(1));
    b.sync(&a);
    let mut d = Actor::new(8);
    a.honour(&mut d, &invite, &key);
    b.honour(&mut d, &invite, &key);
    let state = agreed(&[&a, &b]);
    assert!(state.void.is_empty());
    assert_eq!(state.invitations[&invite].used_by, [d.id()]);
}

#[test]
fn rule_7_admission_beside_a_revocation_is_void_and_after_it_refused() {
    let (mut a, mut b, mut c) = group();
    let (invite, key) = a.invite(Role::Member, None);
    c.sync(&a);
    b.sync(&a);
    let (mut d, e) = (Actor::new(8), Actor::new(9));
    let lost = c.honour(&mut d, &invite, &key);
    b.act(|builder| builder.revoke_invite(invite).unwrap());
    let state = agreed(&[&c, &b]);
    assert_eq!(state.void[&lost], VoidReason::RevokedBeside { invite });
    let request = e.request(&b, Some((&invite, &key)));
    let refusal = b.refused(|builder| builder.honour(request).unwrap());
    assert_eq!(refusal, Refusal::Unauthorised { rule: Rule::InvitationRevoked });
}

#[test]
fn rule_7_removal_revokes_what_it_does_not_keep() {
    let (mut a, _, c) = group();
    let (kept, _) = a.invite(Role::Member, None);
    let (dropped, _) = a.invite(Role::Member, None);
    let targets = vec![c.id()];
    let removal = a.act(|builder| builder.remove(targets, vec![], vec![kept]).unwrap());
    let (after, _) = a.invite(Role::Member, None);
    let state = agreed(&[&a]);
    assert!(state.invitations[&kept].is_open() && state.invitations[&after].is_open());
    assert_eq!(state.invitations[&dropped].revoked_by, Some(removal));
}

#[test]
fn rule_8_records_count_up_to_the_cut() {
    let (mut a, _, c) = group();
    let (early, late) = (BlockId::of_file(b"early"), BlockId::of_file(b"late"));
    let record = |block, heads: Vec<OpId>| RecordRef {
        block,
        creator: walytis_core::key::Signer::public_key(&c.keys),
        author: c.id(),
        auth_heads: heads,
    };
    let heads = a.graph().heads();
    let within = |block: &BlockId, cut: &[BlockId]| cut.contains(block);
    assert_eq!(a.graph().judge(&chain(), &record(late, heads.clone())), RecordVerdict::Valid);
    a.remove_at(&[c.id()], vec![ChainCut { chain: chain(), heads: vec![early] }]);
    let judge =
        |a: &mut Actor, block, heads: &[OpId]| a.graph().judge_with(&chain(), &record(block, heads.to_vec()), within);
    assert_eq!(judge(&mut a, early, &heads), RecordVerdict::Valid);
    assert_eq!(judge(&mut a, late, &heads), RecordVerdict::Void(Rule::BeyondCut));
    let elsewhere = walytis_core::id::ChainId(BlockId::of_file(b"other"));
    assert_eq!(a.graph().judge(&elsewhere, &record(early, heads.clone())), RecordVerdict::Within(vec![vec![]]));
    let now = a.graph().heads();
    assert_eq!(judge(&mut a, early, &now), RecordVerdict::Void(Rule::NoController));
    let unknown = OpId([7; 32]);
    assert_eq!(judge(&mut a, early, &[unknown]), RecordVerdict::Wait(vec![unknown]));
    let forged = RecordRef { creator: walytis_core::key::Signer::public_key(&a.keys), ..record(early, heads) };
    assert_eq!(a.graph().judge(&chain(), &forged), RecordVerdict::Void(Rule::Creator));
}

#[test]
fn rule_8_what_a_void_admission_wrote_is_void() {
    let (mut a, mut b, _) = group();
    let mut friend = Actor::new(7);
    b.admit(&mut friend, Role::Member);
    let heads = friend.graph().heads();
    let key = walytis_core::key::Signer::public_key(&friend.keys);
    let block = BlockId::of_file(b"record");
    let record = RecordRef { block, creator: key, author: friend.id(), auth_heads: heads.clone() };
    assert_eq!(friend.graph().judge(&chain(), &record), RecordVerdict::Valid);
    let b_id = b.id();
    a.remove(&[b_id]);
    friend.sync(&a);
    assert_eq!(friend.graph().judge(&chain(), &record), RecordVerdict::Void(Rule::EntitlementVoid));
    // Admission into the chain never changes its mind; only what counts does.
    assert_eq!(friend.graph().authorised_to_write(&heads, &record.author, &key), WriteRight::Yes);
}

#[test]
fn concurrent_renewals_agree_on_the_lower_id() {
    let (mut a, mut b, mut c) = group();
    let one = a.act(|builder| builder.rekey().unwrap());
    let other = b.act(|builder| builder.rekey().unwrap());
    let state = agreed(&[&a, &b]);
    assert_eq!(state.sending_epoch, Some(one.min(other)));
    // The next epoch carries both on, so nothing sealed under the losing one is lost to a newcomer.
    c.sync(&a);
    c.sync(&b);
    let mut d = Actor::new(8);
    a.sync(&b);
    a.open_slots();
    a.admit(&mut d, Role::Member);
    assert!(d.held[&one].epoch.is_some() && d.held[&other].epoch.is_some());
}

#[test]
fn replay_on_another_chain_is_refused() {
    let (mut a, _, _) = group();
    let other = walytis_core::id::ChainId(BlockId::of_file(b"another genesis"));
    let mut graph = AuthorityGraph::new(other, create_of(&a)).unwrap();
    let op = a.build(|builder| builder.rekey().unwrap()).op;
    assert_eq!(graph.insert(op.clone()), Err(Refusal::OtherChain));
    assert!(matches!(a.graph().insert(op.clone()), Ok(Inserted::New(_))));
    assert_eq!(a.graph().insert(op), Ok(Inserted::Known));
}

#[test]
fn ops_in_any_order_wait_for_their_parents() {
    let (a, ..) = group();
    let ops = all_ops(&[&a]);
    let mut graph = AuthorityGraph::new(chain(), create_of(&a)).unwrap();
    let ordered: Vec<SignedOp> = a.graph.as_ref().unwrap().ops().skip(1).map(|op| (**op).clone()).collect();
    assert_eq!(ops.len(), 2);
    assert_eq!(graph.insert(ordered[1].clone()), Ok(Inserted::Pending(vec![ordered[0].id()])));
    assert_eq!(graph.missing(), [ordered[0].id()]);
    let entered = vec![ordered[0].id(), ordered[1].id()];
    assert_eq!(graph.insert(ordered[0].clone()), Ok(Inserted::New(entered)));
    assert!(graph.missing().is_empty());
    assert_eq!(graph.ops_since(&[ordered[0].id()]).len(), 1);
}

/// Random acts of five admins and members that sync at random: all that hold the same ops agree, in the order
/// of ids and in reverse, as of now and as of every op, and nobody who was removed stands.
#[test]
fn thousand_ops_are_handled() {
    let mut a = Actor::founder(1);
    for _ in 0..1_000 {
        a.invite(Role::Member, Some(1));
    }
    assert_eq!(a.graph().state().invitations.len(), 1_000);
    assert_eq!(a.graph().len(), 1_001);
}
