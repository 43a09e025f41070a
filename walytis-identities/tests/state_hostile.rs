//! What dishonest or unlucky authors cannot bring about.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use support::{Actor, all_ops, create_of, graph_of, group};
use walytis_identities::id::Role;
use walytis_identities::op::SignedOp;
use walytis_identities::state::{AuthorityGraph, DutyKind, IdentityState, Inserted, Refusal, Rule};

/// The state of everything, which must be the same forwards and backwards.
fn agreed(actors: &[&Actor]) -> IdentityState {
    let create = create_of(actors[0]);
    let mut ops = all_ops(actors);
    let state = graph_of(&create, &ops).state();
    ops.reverse();
    assert_eq!(*graph_of(&create, &ops).state(), *state);
    (*state).clone()
}

/// A member may publish anything; an admission that its newcomer did not sign enters nowhere, in whatever order it comes.
#[test]
fn admission_without_possession_is_skipped_by_every_replica() {
    let (mut a, b, mut c) = group();
    let (invite, key) = a.invite(Role::Member, None);
    c.sync(&a);
    let (d, e) = (Actor::new(8), Actor::new(9));
    let mut forged = d.request(&c, Some((&invite, &key)));
    forged.possession = e.request(&c, Some((&invite, &key))).possession;
    let op = c.build(|builder| builder.honour(forged).unwrap()).op;
    let parent = a.graph().op(&invite).unwrap().clone();
    for actor in [&a, &b] {
        let mut known: Vec<SignedOp> = all_ops(&[actor]);
        known.retain(|known| known.id() != parent.id());
        let mut graph = graph_of(&create_of(&a), &known);
        assert!(matches!(graph.insert(op.clone()), Ok(Inserted::Pending(_))), "held, not believed");
        graph.insert((*parent).clone()).unwrap();
        assert!(graph.op(&op.id()).is_none() && graph.state().role(&d.id()).is_none());
        assert!(matches!(graph.insert(op.clone()), Err(Refusal::Signature(_))));
    }
}

/// Rule 3's exception: what the remover saw and built on, where it did not know of its own removal, stands. A device
/// comes to this when it is restored from a copy.
#[test]
fn rule_3_what_the_remover_built_on_stands() {
    let (mut a, mut b, _) = group();
    let mut restored = Actor::new(1);
    restored.join(&a);
    assert_eq!(restored.id(), a.id());
    let (mut d, mut e) = (Actor::new(8), Actor::new(9));
    let seen = b.admit(&mut d, Role::Member);
    restored.sync(&b);
    restored.act(|builder| builder.rekey().unwrap());
    let unseen = b.admit(&mut e, Role::Member);
    let b_id = b.id();
    a.remove(&[b_id]);
    let state = agreed(&[&a, &restored, &b]);
    assert!(state.role(&b_id).is_none());
    assert!(!state.void.contains_key(&seen) && state.role(&d.id()) == Some(Role::Member));
    assert!(state.void.contains_key(&unseen) && state.role(&e.id()).is_none());
}

#[test]
fn concurrent_removals_of_one_by_two_admins_agree() {
    let (mut a, mut b, mut c) = group();
    let c_id = c.id();
    let (one, other) = (a.remove(&[c_id]), b.remove(&[c_id]));
    let state = agreed(&[&a, &b]);
    assert!(state.void.is_empty() && state.role(&c_id).is_none());
    assert_eq!(state.sending_epoch, Some(one.min(other)));
    c.sync(&a);
    c.sync(&b);
    assert!(!c.held.contains_key(&one) && !c.held.contains_key(&other));
}

#[test]
fn concurrent_removals_of_two_by_two_admins_are_followed_by_new_keys() {
    let (mut a, mut b, mut c) = group();
    let mut d = Actor::new(8);
    a.admit(&mut d, Role::Member);
    b.sync(&a);
    c.sync(&a);
    let (c_id, d_id) = (c.id(), d.id());
    let (without_c, without_d) = (a.remove(&[c_id]), b.remove(&[d_id]));
    let state = agreed(&[&a, &b]);
    assert!(state.role(&c_id).is_none() && state.role(&d_id).is_none());
    // Each epoch was dealt to one of the removed, who reads it for ever: nothing is sent under either.
    assert_eq!(state.sending_epoch, None);
    assert_eq!(state.duty(&a.id()).unwrap().kind, DutyKind::Rekey);
    a.sync(&b);
    let renewed = a.act(|builder| builder.rekey().unwrap());
    assert_eq!(agreed(&[&a]).sending_epoch, Some(renewed));
    for removed in [&mut c, &mut d] {
        removed.sync(&a);
        assert!(!removed.held.contains_key(&renewed));
    }
    assert!(d.held.contains_key(&without_c) && c.held.contains_key(&without_d));
}

/// With every key it ever had, a removed admin can say things on its old heads, on the new ones, and beside its removal.
#[test]
fn removed_admin_with_all_its_keys_regains_nothing() {
    let (mut a, mut b, c) = group();
    let (invite, key) = a.invite(Role::Member, None);
    b.sync(&a);
    let mut friend = Actor::new(9);
    let b_id = b.id();
    // Before it hears: everything an admin can do.
    let stale = [
        b.act(|builder| {
            builder
                .invite(Role::Admin, None, None)
                .map(|made| walytis_identities::state::Built { op: made.op, secrets: None })
                .unwrap()
        }),
        b.honour(&mut friend, &invite, &key),
    ];
    let again = friend.act(|builder| builder.rekey().unwrap());
    let removal = a.remove(&[b_id]);
    let state = agreed(&[&a, &friend, &b]);
    assert!(stale.iter().chain([&again]).all(|op| state.void.contains_key(op)), "{:?}", state.void);
    assert!(state.role(&b_id).is_none() && state.role(&friend.id()).is_none());
    assert_eq!(state.sending_epoch, Some(removal));
    assert!(!state.invitations[&invite].is_open(), "it knows the seed");
    // Afterwards, on what is: nothing enters.
    b.sync(&a);
    let no_controller = Refusal::Unauthorised { rule: Rule::NoController };
    assert_eq!(b.refused(|builder| builder.rekey().unwrap()), no_controller);
    let request = b.request(&b, None);
    assert_eq!(b.refused(|builder| builder.admit(request, Role::Admin).unwrap()), no_controller);
    let c_id = c.id();
    assert_eq!(b.refused(|builder| builder.remove(vec![c_id], vec![], vec![]).unwrap()), no_controller);
    assert!(!b.held.contains_key(&removal));
}

/// An op's id covers the identity, so it enters no other one, not even one with the same founder.
#[test]
fn op_enters_no_other_identity_of_the_same_devices() {
    let (mut a, ..) = group();
    let op = a.build(|builder| builder.rekey().unwrap()).op;
    let other = walytis_core::id::ChainId(walytis_core::id::BlockId::of_file(b"the founder's second identity"));
    let mut second = AuthorityGraph::new(other, create_of(&a)).unwrap();
    assert_eq!(second.insert(op), Err(Refusal::OtherChain));
    assert_eq!(second.state().controllers.len(), 1);
}
