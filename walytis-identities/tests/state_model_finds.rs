//! Histories in which the model check found a rule wanting, each as it found it. The rules were mended; these stay.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use support::{Actor, all_ops, create_of, graph_of, group};
use walytis_identities::id::{ControllerId, Role};
use walytis_identities::op::SignedOp;
use walytis_identities::state::{DutyKind, IdentityState, VoidReason};

/// The state of everything, which must be the same forwards and backwards.
fn agreed(actors: &[&Actor]) -> IdentityState {
    let create = create_of(actors[0]);
    let mut ops: Vec<SignedOp> = all_ops(actors);
    let state = graph_of(&create, &ops).state();
    ops.reverse();
    assert_eq!(*graph_of(&create, &ops).state(), *state);
    (*state).clone()
}

fn restored(seed: u64, from: &Actor) -> Actor {
    let mut copy = Actor::new(seed);
    copy.join(from);
    assert_eq!(copy.id(), from.id());
    copy
}

/// An admission beside the revocation of its invitation is void, and a revocation starts no epoch. But the void
/// admission's history had carried the epoch before it on to the newcomer.
#[test]
fn epoch_that_a_void_admission_carried_on_is_not_sent_under() {
    let (mut a, mut b, _) = group();
    let (invite, key) = a.invite(Role::Member, Some(1));
    b.sync(&a);
    let mut newcomer = Actor::new(8);
    let before = a.graph().state().sending_epoch.unwrap();
    let admitted = b.honour(&mut newcomer, &invite, &key);
    a.act(|builder| builder.revoke_invite(invite).unwrap());
    let state = agreed(&[&a, &b]);
    assert_eq!(state.void[&admitted], VoidReason::RevokedBeside { invite });
    assert!(newcomer.held[&before].epoch.is_some(), "it reads what was sealed before, for ever");
    assert_eq!(state.sending_epoch, None, "so nothing more is");
    assert_eq!(state.duty(&a.id()).unwrap().kind, DutyKind::Rekey);
    a.sync(&b);
    let renewed = a.act(|builder| builder.rekey().unwrap());
    newcomer.sync(&a);
    assert_eq!(agreed(&[&a]).sending_epoch, Some(renewed));
    assert!(!newcomer.held.contains_key(&renewed));
}

/// Of concurrent admissions the lesser role counts; the epoch of the other one was dealt to a reader all the same.
#[test]
fn epoch_dealt_to_one_who_is_a_keeper_now_is_not_sent_under() {
    // Of the two epochs the lower id would win: now one, now the other.
    for seed in 8..14 {
        let (mut a, mut b, _) = group();
        let mut newcomer = Actor::new(seed);
        a.admit(&mut newcomer, Role::Reader);
        b.admit(&mut newcomer, Role::Keeper);
        let state = agreed(&[&a, &b]);
        assert_eq!(state.role(&newcomer.id()), Some(Role::Keeper));
        let reads = |epoch| newcomer.held.get(&epoch).is_some_and(|held| held.epoch.is_some());
        assert!(state.sending_epoch.is_none_or(|epoch| !reads(epoch)));
        a.sync(&b);
        let renewed = a.act(|builder| builder.rekey().unwrap());
        assert_eq!(agreed(&[&a]).sending_epoch, Some(renewed));
    }
}

/// A device that was restored from a copy leaves twice; which of the leaves is named must not depend on which came first.
#[test]
fn one_who_leaves_twice_is_named_the_same_by_all() {
    let (mut a, mut b, c) = group();
    let (create, begun) = (create_of(&a), all_ops(&[&a]));
    let mut copy = restored(2, &b);
    let one = b.act(|builder| builder.leave().unwrap());
    let c_id = c.id();
    let removal = a.remove(&[c_id]);
    copy.sync(&a);
    let other = copy.act(|builder| builder.leave().unwrap());
    let op = |id| all_ops(&[&a, &b, &copy]).into_iter().find(|op| op.id() == id).unwrap();
    let mut states = Vec::new();
    for order in [[one, removal, other], [removal, other, one]] {
        let mut graph = graph_of(&create, &begun);
        for id in order {
            graph.insert(op(id)).unwrap();
        }
        states.push(graph.state());
    }
    assert_eq!(states[0], states[1]);
    assert_eq!(states[0].leaving.len(), 1);
}

/// The founder leaves, an admin publishes the removal; then the founder's keys remove that admin, as if it had been before.
#[test]
fn one_who_left_cannot_come_back_by_removing_whoever_removed_it() {
    for remover_is_admin in [true, false] {
        let (mut a, b, c) = group();
        let mut copy = restored(1, &a);
        let (mut remover, other) = if remover_is_admin { (b, c) } else { (c, b) };
        a.act(|builder| builder.leave().unwrap());
        remover.sync(&a);
        let (a_id, remover_id): (ControllerId, ControllerId) = (a.id(), remover.id());
        let removal = remover.remove(&[a_id]);
        let before = agreed(&[&a, &remover]);
        let contest = copy.remove(&[remover_id]);
        let state = agreed(&[&a, &remover, &copy, &other]);
        assert_eq!(state.void.get(&contest), Some(&VoidReason::RemovedBeside { removal }));
        assert_eq!(state.controllers, before.controllers);
        assert_eq!(state.sending_epoch, Some(removal));
        assert!(state.role(&a_id).is_none() && !state.has_provisional_removal());
    }
}

/// Any member may publish the removal of one who left. It must not take with it whoever came by invitation meanwhile.
#[test]
fn member_that_removes_one_who_left_revokes_no_invitation() {
    let (mut a, mut b, mut c) = group();
    let (invite, key) = a.invite(Role::Member, Some(1));
    b.sync(&a);
    b.act(|builder| builder.leave().unwrap());
    c.sync(&b);
    let b_id = b.id();
    c.remove(&[b_id]);
    let mut newcomer = Actor::new(8);
    let admitted = a.honour(&mut newcomer, &invite, &key);
    let state = agreed(&[&a, &b, &c]);
    assert!(!state.void.contains_key(&admitted) && state.role(&newcomer.id()) == Some(Role::Member));
    assert!(state.role(&b_id).is_none() && state.invitations[&invite].revoked_by.is_none());
}

/// Whoever puts on record that somebody left, it is on record; but one who is removed beside that takes nothing else with it.
#[test]
fn one_who_is_removed_revokes_no_invitation_by_removing_one_who_left() {
    let (mut a, mut b, mut c) = group();
    let (a_id, c_id) = (a.id(), c.id());
    a.set_role(c_id, Role::Admin);
    let (invite, key) = a.invite(Role::Member, Some(1));
    b.sync(&a);
    c.sync(&a);
    a.act(|builder| builder.leave().unwrap());
    c.sync(&a);
    b.act(|builder| builder.remove(vec![c_id], vec![], vec![invite]).unwrap());
    let mut newcomer = Actor::new(8);
    let admitted = b.honour(&mut newcomer, &invite, &key);
    let before = agreed(&[&a, &b]);
    assert!(before.leaving.contains_key(&a_id) && before.role(&newcomer.id()) == Some(Role::Member));
    // Backdated: it does not know of its own removal.
    c.remove(&[a_id]);
    let state = agreed(&[&a, &b, &c]);
    assert!(state.leaving.is_empty() && state.role(&a_id).is_none(), "that a left is on record");
    assert!(!state.void.contains_key(&admitted) && state.controllers == before.controllers);
    assert_eq!(state.invitations, before.invitations);
}

/// An admin that stands revokes by the removal of who had left, too.
#[test]
fn admin_that_removes_one_who_left_revokes_invitations() {
    let (mut a, mut b, mut c) = group();
    let (invite, key) = a.invite(Role::Member, Some(1));
    c.sync(&a);
    a.act(|builder| builder.leave().unwrap());
    b.sync(&a);
    let a_id = a.id();
    let removal = b.remove(&[a_id]);
    let mut newcomer = Actor::new(8);
    let admitted = c.honour(&mut newcomer, &invite, &key);
    let state = agreed(&[&a, &b, &c]);
    assert_eq!(state.void.get(&admitted), Some(&VoidReason::RevokedBeside { invite }));
    assert_eq!(state.invitations[&invite].revoked_by, Some(removal));
}

/// Who came back and leaves again is leaving again: the removal that settled its first leave does not settle this one.
#[test]
fn one_who_comes_back_and_leaves_again_is_leaving() {
    let (mut a, mut b, mut c) = group();
    let b_id = b.id();
    b.act(|builder| builder.leave().unwrap());
    a.sync(&b);
    a.remove(&[b_id]);
    b.sync(&a);
    a.admit(&mut b, Role::Member);
    b.sync(&a);
    let again = b.act(|builder| builder.leave().unwrap());
    c.sync(&b);
    assert_eq!(agreed(&[&a, &b]).leaving.get(&b_id), Some(&again));
    c.remove(&[b_id]);
    let state = agreed(&[&a, &b, &c]);
    assert!(state.leaving.is_empty() && state.role(&b_id).is_none());
}

/// An admin steps down, a later one removes it. With its keys it can still speak as the admin it was, beside that, and undo
/// what made an admin of its remover: until a recovery the removal is not final, and must not be shown as if it were.
#[test]
fn removal_of_one_who_had_stepped_down_is_provisional() {
    let (mut a, mut b, mut c) = group();
    let mut copy = restored(2, &b);
    let (a_id, b_id, c_id) = (a.id(), b.id(), c.id());
    a.set_role(c_id, Role::Admin);
    b.set_role(b_id, Role::Member);
    c.sync(&a);
    c.sync(&b);
    let removal = c.remove(&[b_id]);
    let before = agreed(&[&a, &b, &c]);
    assert!(before.role(&b_id).is_none() && before.has_provisional_removal());
    copy.set_role(a_id, Role::Member);
    let state = agreed(&[&a, &b, &c, &copy]);
    assert!(state.void.contains_key(&removal) && state.role(&b_id).is_some());
}

/// Who stepped down, was removed by its senior and came back as a junior cannot speak as what it was: the founder's removal
/// lies in between.
#[test]
fn removal_after_a_seniors_removal_is_final() {
    let (mut a, mut b, mut c) = group();
    let (b_id, c_id) = (b.id(), c.id());
    a.set_role(c_id, Role::Admin);
    a.remove(&[b_id]);
    b.sync(&a);
    a.admit(&mut b, Role::Member);
    c.sync(&a);
    c.remove(&[b_id]);
    let state = agreed(&[&a, &b, &c]);
    assert!(state.removals.len() == 2 && !state.has_provisional_removal());
}

/// Who left and was let in again stays, whichever member puts the leave on record beside that; an admin's removal counts.
#[test]
fn member_that_puts_a_leave_on_record_does_not_put_out_who_came_back() {
    let (mut a, mut b, mut c) = group();
    let b_id = b.id();
    b.act(|builder| builder.leave().unwrap());
    a.sync(&b);
    c.sync(&b);
    let mut copy = restored(1, &a);
    let admission = a.admit(&mut b, Role::Admin);
    let removal = c.remove(&[b_id]);
    let state = agreed(&[&a, &b, &c]);
    assert_eq!(state.void.get(&removal), Some(&VoidReason::CameBack { admission }));
    assert_eq!((state.role(&b_id), state.removals.len(), state.leaving.len()), (Some(Role::Admin), 0, 0));
    copy.remove(&[b_id]);
    let state = agreed(&[&a, &b, &c, &copy]);
    assert_eq!(state.role(&b_id), None);
}

/// An admin that its senior demotes is a member beside that, too: what it puts on record puts nobody out who came back.
#[test]
fn demoted_admin_that_puts_a_leave_on_record_does_not_put_out_who_came_back() {
    let (mut a, mut b, mut c) = group();
    let (b_id, c_id) = (b.id(), c.id());
    c.act(|builder| builder.leave().unwrap());
    a.sync(&c);
    b.sync(&c);
    a.set_role(b_id, Role::Member);
    let admission = a.admit(&mut c, Role::Member);
    let removal = b.remove(&[c_id]);
    let state = agreed(&[&a, &b, &c]);
    assert_eq!(state.void.get(&removal), Some(&VoidReason::CameBack { admission }));
    assert_eq!(state.role(&c_id), Some(Role::Member));
}

/// A junior that removes its remover beside that does not make a member of it.
#[test]
fn one_who_came_back_does_not_undo_its_removal_by_removing_its_senior() {
    let (mut a, mut b, c) = group();
    let (a_id, b_id) = (a.id(), b.id());
    b.act(|builder| builder.leave().unwrap());
    a.sync(&b);
    let mut copy = restored(1, &a);
    copy.admit(&mut b, Role::Admin);
    let removal = a.remove(&[b_id]);
    b.sync(&copy);
    let contest = b.remove(&[a_id]);
    let state = agreed(&[&a, &b, &c, &copy]);
    assert_eq!(state.void.get(&contest), Some(&VoidReason::RemovedBeside { removal }));
    assert!(state.role(&b_id).is_none() && state.role(&a_id) == Some(Role::Admin));
}

/// Who left, was removed beside that by one who had also built on the leave, and was let in again by somebody who had not
/// heard of it, is out. So somebody has to put the leave on record: without a cut its records under the new admission
/// would count for ever.
#[test]
fn one_who_was_let_in_again_beside_its_leave_is_leaving() {
    let (mut a, mut b, mut c) = group();
    let c_id = c.id();
    let (mut c_copy, mut b_copy) = (restored(3, &c), restored(2, &b));
    let leave = c.act(|builder| builder.leave().unwrap());
    b_copy.sync(&c);
    b_copy.act(|builder| builder.rekey().unwrap());
    b.remove(&[c_id]);
    a.sync(&b);
    a.admit(&mut c_copy, Role::Member);
    let state = agreed(&[&a, &b, &c, &b_copy]);
    assert_eq!((state.role(&c_id), state.leaving.get(&c_id)), (None, Some(&leave)));
    assert_eq!(state.duty(&a.id()).unwrap().kind, DutyKind::RemoveLeft(vec![c_id]));
    a.sync(&b_copy);
    a.remove(&[c_id]);
    let state = agreed(&[&a, &b, &c, &b_copy]);
    assert!(state.leaving.is_empty() && state.role(&c_id).is_none());
}

/// Two admins leave beside each other. To whoever knows both, and that the one let in a third, the other is the admin that is
/// left: its removal is a junior's, which it can contest.
#[test]
fn removal_of_one_whose_leave_was_void_is_provisional() {
    let (mut a, mut b, c) = group();
    let a_id = a.id();
    let (mut copy, mut a_copy) = (restored(2, &b), restored(1, &a));
    a.act(|builder| builder.leave().unwrap());
    b.act(|builder| builder.leave().unwrap());
    copy.sync(&a);
    let mut d = Actor::new(8);
    copy.admit(&mut d, Role::Admin);
    d.sync(&b);
    let removal = d.remove(&[a_id]);
    let state = agreed(&[&a, &b, &c, &copy, &d]);
    assert!(state.role(&a_id).is_none() && state.has_provisional_removal());
    a_copy.sync(&b);
    let d_id = d.id();
    a_copy.sync(&copy);
    a_copy.remove(&[d_id]);
    let state = agreed(&[&a, &b, &c, &copy, &d, &a_copy]);
    assert!(state.void.contains_key(&removal) && state.role(&a_id) == Some(Role::Admin));
}

/// An admin and its accomplice: the one lets in a puppet, the other removes it beside that, and is demoted by its senior. What it
/// says late, as of before both, does not bring the puppet back.
#[test]
fn demoted_admin_does_not_let_stand_late_what_its_removal_made_void() {
    let (mut a, mut b, mut c) = group();
    let (b_id, c_id) = (b.id(), c.id());
    a.set_role(c_id, Role::Admin);
    b.sync(&a);
    c.sync(&a);
    let mut copy = restored(2, &b);
    let mut puppet = Actor::new(8);
    let admission = c.admit(&mut puppet, Role::Admin);
    let removal = b.remove(&[c_id]);
    let late = |copy: &mut Actor, c: &Actor| {
        copy.sync(c);
        copy.act(|builder| builder.rekey().unwrap())
    };
    // While it governs, what it had built on stands.
    let mut other = restored(2, &copy);
    late(&mut other, &c);
    assert_eq!(agreed(&[&a, &b, &c, &other]).role(&puppet.id()), Some(Role::Admin));
    a.sync(&b);
    a.set_role(b_id, Role::Member);
    late(&mut copy, &c);
    let state = agreed(&[&a, &b, &c, &copy]);
    assert_eq!(state.void.get(&admission), Some(&VoidReason::RemovedBeside { removal }));
    assert_eq!(state.role(&puppet.id()), None);
}

/// Of what one says that contradicts itself the leave stands, whoever had built on the rest.
#[test]
fn nothing_that_one_says_beside_its_leave_is_kept() {
    let (mut a, b, mut c) = group();
    let a_id = a.id();
    let (mut a_copy, mut c_copy) = (restored(1, &a), restored(3, &c));
    a.act(|builder| builder.leave().unwrap());
    let mut d = Actor::new(8);
    let admission = a_copy.admit(&mut d, Role::Member);
    c_copy.sync(&a_copy);
    c_copy.act(|builder| builder.rekey().unwrap());
    c.sync(&a);
    let removal = c.remove(&[a_id]);
    let state = agreed(&[&a, &b, &c, &a_copy, &c_copy]);
    assert_eq!(state.void.get(&admission), Some(&VoidReason::RemovedBeside { removal }));
    assert_eq!(state.role(&d.id()), None);
}
