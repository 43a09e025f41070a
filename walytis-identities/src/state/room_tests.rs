//! Rule 9: whoever fills the graph, the others go on.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeSet;

use super::random_tests::{World, differs_from_nothing, empty, without_what_has_no_consequence};
use super::room::Limits;
use super::{AuthorityGraph, Inserted, Refusal, Rule};
use crate::id::{ControllerId, OpId, Role};
use crate::op::{ControllerRecord, Document, Introduce, Op, Remove, RevokeInvite, SignedOp, Update};

const SMALL: Limits = Limits {
    ops: 96,
    reserved: 32,
    by_admin: 40,
    by_device: 12,
    reserved_by_device: 4,
    loose: 16,
    told: 8,
    built_on: 4,
};

fn say(world: &World, by: usize, on: Vec<OpId>, n: usize) -> SignedOp {
    world.make(by, on, Op::Document(Document { services: vec![(n.to_string(), String::new(), String::new())] }))
}

fn remove(world: &World, by: usize, on: Vec<OpId>, target: usize, staying: &[usize]) -> SignedOp {
    let epoch = world.epoch(staying.iter().map(|who| world.id(*who)).collect());
    let targets = vec![world.id(target)];
    let op = Remove { targets, cut: vec![], kept: vec![], co_signatures: vec![], epoch };
    world.make(by, on, Op::Remove(Box::new(op)))
}

fn rekey(world: &World, by: usize, on: Vec<OpId>, staying: &[usize]) -> SignedOp {
    world.make(by, on, Op::Rekey(Box::new(world.epoch(staying.iter().map(|who| world.id(*who)).collect()))))
}

/// Device 0 lets in the others as admins.
fn admins(world: &mut World, all: usize) -> AuthorityGraph {
    let mut graph = empty(&world.create);
    graph.nodes.limits = SMALL;
    for who in 1..all {
        let to: BTreeSet<ControllerId> = (0..=who).map(|one| world.id(one)).collect();
        let op = world.admit(0, who, Role::Admin, None, to);
        let op = world.make(0, graph.heads(), op);
        assert!(matches!(graph.insert(op), Ok(Inserted::New(_))));
    }
    graph
}

/// A removed device with its old keys says more than there is room for, beside its removal: the others go on, do not build
/// on it and tell nobody.
#[test]
fn rule_9_the_removed_cannot_fill_the_graph() {
    for forks in [false, true] {
        let mut world = World::new(2, 3);
        let mut graph = admins(&mut world, 3);
        let beginning = graph.heads();
        let mut on = beginning.clone();
        let removal = remove(&world, 0, beginning.clone(), 1, &[0, 2]);
        graph.insert(removal).unwrap();
        let mut refused = 0;
        for n in 0..300 {
            let op = say(&world, 1, on.clone(), n);
            let id = op.id();
            match graph.insert(op) {
                Ok(Inserted::New(_)) if !forks => on = vec![id],
                Ok(Inserted::New(_)) => {}
                // Its parent was thrown out, or it has had its share.
                Ok(Inserted::Pending(_)) => on.clone_from(&beginning),
                other => panic!("{other:?}"),
            }
            refused += usize::from(graph.op(&id).is_none());
            assert!(graph.len() <= 3 + SMALL.by_device + 1 + SMALL.loose, "{}", graph.len());
            let _state = graph.state();
            if n % 60 == 0 {
                let heads = graph.heads_to_build_on();
                graph.insert(rekey(&world, 2, heads, &[0, 2])).unwrap();
            }
        }
        assert!(refused > 100, "{refused}");
        assert_eq!(differs_from_nothing(&mut graph), None);
        let state = graph.state();
        assert!(state.controllers.len() == 2 && state.sending_epoch.is_some());
        let told = graph.ops_since(&[world.create.id()]);
        assert!(told.len() <= 2 + 1 + 5 + SMALL.told, "{} ops", told.len());
    }
}

/// Puppets that a removed device let in, beside its removal, have no more room together.
#[test]
fn rule_9_puppets_of_the_removed_make_room() {
    let mut world = World::new(3, 14);
    let mut graph = admins(&mut world, 2);
    let beginning = graph.heads();
    graph.insert(remove(&world, 0, beginning.clone(), 1, &[0])).unwrap();
    for puppet in 2..14 {
        let to: BTreeSet<ControllerId> = [0, 1, puppet].map(|one| world.id(one)).into();
        let op = world.admit(1, puppet, Role::Admin, None, to);
        let admit = world.make(1, beginning.clone(), op);
        let on = admit.id();
        drop(graph.insert(admit).unwrap());
        for n in 0..20 {
            drop(graph.insert(say(&world, puppet, vec![on], n)).unwrap());
            let _state = graph.state();
        }
        assert!(graph.len() <= SMALL.ops - SMALL.reserved, "{}", graph.len());
    }
    let heads = graph.heads_to_build_on();
    graph.insert(rekey(&world, 0, heads, &[0])).unwrap();
    assert_eq!(differs_from_nothing(&mut graph), None);
    assert_eq!(graph.state().controllers.len(), 1);
}

/// Forks of one that stands come in up to its share; what somebody else builds on comes in all the same.
#[test]
fn rule_9_a_device_has_a_share() {
    let mut world = World::new(4, 3);
    let mut graph = admins(&mut world, 3);
    let beginning = graph.heads();
    let forks: Vec<SignedOp> = (0..SMALL.by_admin + 3).map(|n| say(&world, 1, beginning.clone(), n)).collect();
    for (n, fork) in forks.iter().enumerate() {
        let expected = n < SMALL.by_admin;
        assert_eq!(matches!(graph.insert(fork.clone()), Ok(Inserted::New(_))), expected, "{n}");
    }
    let before = graph.len();
    let built_on = &forks[SMALL.by_admin];
    let own = say(&world, 1, vec![built_on.id()], 99);
    assert!(matches!(graph.insert(own), Ok(Inserted::Pending(_))), "nobody else builds on it");
    assert_eq!(graph.len(), before);
    let mut parents = vec![built_on.id(), forks[0].id()];
    parents.sort_unstable();
    let other = say(&world, 2, parents, 100);
    let id = other.id();
    // Whichever comes first.
    drop(graph.insert(other).unwrap());
    drop(graph.insert(built_on.clone()).unwrap());
    assert!(graph.op(&id).is_some() && graph.len() == before + 2);
    assert_eq!(differs_from_nothing(&mut graph), None);
}

/// V-ID-22: fixed for ever by what an op knows of.
#[test]
fn rule_9_a_device_has_only_so_much_behind_it() {
    let mut world = World::new(5, 2);
    let mut graph = admins(&mut world, 1);
    let op = world.admit(0, 1, Role::Member, None, [0, 1].map(|one| world.id(one)).into());
    graph.insert(world.make(0, graph.heads(), op)).unwrap();
    for n in 0..SMALL.by_device {
        let op = rekey(&world, 1, graph.heads(), &[0, 1]);
        assert!(matches!(graph.insert(op), Ok(Inserted::New(_))), "{n}");
    }
    let mut other = graph.clone();
    other.nodes.limits.by_device += 1;
    let more = rekey(&world, 1, other.heads(), &[0, 1]);
    assert!(matches!(other.insert(more.clone()), Ok(Inserted::New(_))), "one more would do");
    assert_eq!(graph.insert(more), Err(Refusal::Unauthorised { rule: Rule::DeviceOps }));
    let leave = world.make(1, graph.heads(), Op::Leave);
    assert!(matches!(graph.insert(leave), Ok(Inserted::New(_))), "whoever stands may go");
}

/// Lets the identity within in, proved by one of its devices.
fn let_in(outer: &mut World, inner: &World, device: usize, on: Vec<OpId>, as_of: Vec<OpId>) -> SignedOp {
    let person = ControllerId::Identity(inner.did());
    let Op::Admit(mut admit) = outer.admit(0, 0, Role::Member, None, [person].into()) else { unreachable!() };
    admit.controller = ControllerRecord::Identity { did: inner.did(), as_of, device: inner.devices[device].id() };
    outer.make(0, on, Op::Admit(admit))
}

/// A team whose founder let a person in, both of whose devices act, and the person.
fn team_with_a_person(outer: &mut World, inner: &mut World) -> (AuthorityGraph, AuthorityGraph) {
    let (mut graph, mut below) = (empty(&outer.create), inner.empty());
    graph.nodes.limits = SMALL;
    let op = inner.admit(0, 1, Role::Admin, None, [inner.id(0)].into());
    below.insert(inner.make(0, below.heads(), op)).unwrap();
    graph.learn_nested(&below).unwrap();
    graph.insert(let_in(outer, inner, 0, graph.heads(), below.heads())).unwrap();
    let introduce = Op::Introduce(Introduce { as_of: below.heads() });
    let introduced = graph.insert(inner.make_above(1, graph.heads(), introduce));
    assert!(matches!(introduced, Ok(Inserted::New(_))), "{introduced:?}");
    (graph, below)
}

/// A share is a device's: of an identity that is a controller each device that acts has one, and the others' ops are none of
/// it.
#[test]
fn rule_9_every_device_of_an_identity_has_a_share_of_its_own() {
    let (mut outer, mut inner) = (World::new(7, 1), World::within(8, 2));
    let (mut graph, _) = team_with_a_person(&mut outer, &mut inner);
    let person = ControllerId::Identity(inner.did());
    let everybody = [outer.id(0), person];
    for (by, made) in [(0, 0), (1, 1)] {
        let rekey = |graph: &AuthorityGraph| {
            inner.make_above(by, graph.heads(), Op::Rekey(Box::new(outer.epoch(everybody.into()))))
        };
        for n in made..SMALL.by_device {
            let entered = graph.insert(rekey(&graph));
            assert!(matches!(entered, Ok(Inserted::New(_))), "device {by}, op {n}: {entered:?}");
        }
        let more = rekey(&graph);
        assert_eq!(graph.insert(more), Err(Refusal::Unauthorised { rule: Rule::DeviceOps }), "device {by}");
    }
    assert_eq!(graph.state().role(&person), Some(Role::Member));
    assert_eq!(differs_from_nothing(&mut graph), None);
}

/// When everything else is full who is an admin can still remove, and renew keys; each of them a little.
#[test]
fn rule_9_what_keeps_order_has_room() {
    let mut world = World::new(6, 5);
    let mut graph = admins(&mut world, 4);
    let admitted = world.admit(0, 4, Role::Member, None, (0..5).map(|one| world.id(one)).collect());
    graph.insert(world.make(0, graph.heads(), admitted)).unwrap();
    let mut n = 0;
    while graph.len() < SMALL.ops - SMALL.reserved {
        n += 1;
        graph.insert(say(&world, 1 + n % 2, graph.heads(), n)).unwrap();
    }
    let everybody = [0, 1, 2, 3, 4];
    let full = Err(Refusal::Full);
    assert_eq!(graph.insert(say(&world, 0, graph.heads(), 999)), full, "not for this");
    assert_eq!(graph.insert(rekey(&world, 4, graph.heads(), &everybody)), full, "not for a member");
    for _ in 0..SMALL.reserved_by_device {
        assert!(matches!(graph.insert(rekey(&world, 2, graph.heads(), &everybody)), Ok(Inserted::New(_))));
    }
    assert_eq!(graph.insert(rekey(&world, 2, graph.heads(), &everybody)), full, "not for one alone");
    for (target, staying) in [(1, &[0, 2, 3, 4][..]), (2, &[0, 3, 4])] {
        assert!(matches!(graph.insert(remove(&world, 0, graph.heads(), target, staying)), Ok(Inserted::New(_))));
    }
    assert!(graph.state().controllers.len() == 3 && graph.state().sending_epoch.is_some());
    assert_eq!(differs_from_nothing(&mut graph), None);
}

/// A void use of one invitation gave the order in which uses of another one had their turn: without it somebody else would be
/// in. Its author has left, so that nothing else keeps it.
#[test]
fn rule_9_a_void_op_that_decided_stays() {
    let mut world = World::new(9, 8);
    let mut graph = admins(&mut world, 3);
    let invite = |graph: &mut AuthorityGraph| {
        let op = world.make(0, graph.heads(), world.invite(Role::Member, Some(1)));
        let id = op.id();
        graph.insert(op).unwrap();
        id
    };
    let (one, other) = (invite(&mut graph), invite(&mut graph));
    let base = graph.heads();
    let mut honour = |graph: &mut AuthorityGraph, by: usize, who: usize, on: &[OpId], invite: OpId| {
        let op = world.admit(by, who, Role::Member, Some(invite), (0..3).map(|one| world.id(one)).collect());
        let op = world.make(by, on.to_vec(), op);
        let id = op.id();
        assert!(matches!(graph.insert(op), Ok(Inserted::New(_))));
        id
    };
    let by_middle = honour(&mut graph, 1, 3, &base, one);
    let by_junior = honour(&mut graph, 2, 4, &base, one);
    let by_senior = honour(&mut graph, 0, 5, &base, other);
    assert_eq!(void(&mut graph), [by_junior], "the senior of two goes first");
    // The founder knows of the junior's use: that comes before its own. By then the other invitation is used up.
    let decided = honour(&mut graph, 0, 6, &[by_junior], other);
    graph.insert(world.make(0, base, Op::Leave)).unwrap();
    let state = graph.state();
    assert!(state.role(&world.id(0)).is_none() && !state.void.contains_key(&by_senior));
    let mut expected = [by_middle, decided];
    expected.sort_unstable();
    assert_eq!(void(&mut graph), expected, "what is void decided");
    assert!(!loose(&mut graph).contains(&decided));
    assert_eq!(without_what_has_no_consequence(empty(&world.create), &mut graph, "uses"), 0);
}

/// What a void op names of an identity below is named: by it a device that was removed inside is out.
#[test]
fn rule_9_a_void_op_that_shows_a_removal_stays() {
    let (mut outer, mut inner) = (World::new(10, 1), World::within(11, 2));
    let (mut graph, mut below) = team_with_a_person(&mut outer, &mut inner);
    let (person, base, early) = (ControllerId::Identity(inner.did()), graph.heads(), below.heads());
    below.insert(remove(&inner, 1, early.clone(), 0, &[1])).unwrap();
    graph.learn_nested(&below).unwrap();
    let showing = Update { keys: None, as_of: below.heads(), cut: vec![] };
    let update = inner.make_above(1, base.clone(), Op::Update(Box::new(showing)));
    // Removed beside it the person comes back, by one who has not heard of what happened inside.
    let epoch = outer.epoch([outer.id(0)].into());
    let gone = Remove { targets: vec![person], cut: vec![], kept: vec![], co_signatures: vec![], epoch };
    graph.insert(outer.make(0, base, Op::Remove(Box::new(gone)))).unwrap();
    graph.insert(let_in(&mut outer, &inner, 0, graph.heads(), early)).unwrap();
    let acts = |graph: &mut AuthorityGraph| graph.state().device(&inner.devices[0].id()).is_some();
    assert!(acts(&mut graph));
    let shows = update.id();
    assert!(matches!(graph.insert(update), Ok(Inserted::New(_))));
    assert_eq!(void(&mut graph), [shows]);
    assert!(!acts(&mut graph), "it is named all the same");
    assert!(loose(&mut graph).is_empty());
    let mut fewer = empty(&outer.create);
    fewer.learn_nested(&below).unwrap();
    assert_eq!(without_what_has_no_consequence(fewer, &mut graph, "names"), 0);
}

/// A void admission by one who stands carried the epochs before it on to somebody: they are not sent under, so it stays.
#[test]
fn rule_9_a_void_op_that_exposes_an_epoch_stays() {
    let mut world = World::new(12, 3);
    let mut graph = admins(&mut world, 2);
    let invite = world.make(0, graph.heads(), world.invite(Role::Member, None));
    let id = invite.id();
    graph.insert(invite).unwrap();
    let base = graph.heads();
    let revocation = Op::RevokeInvite(RevokeInvite { invite: id });
    graph.insert(world.make(0, base.clone(), revocation)).unwrap();
    assert!(graph.state().sending_epoch.is_some());
    let op = world.admit(1, 2, Role::Member, Some(id), [0, 1].map(|one| world.id(one)).into());
    let honour = world.make(1, base, op);
    let exposing = honour.id();
    assert!(matches!(graph.insert(honour), Ok(Inserted::New(_))));
    assert_eq!(void(&mut graph), [exposing]);
    assert_eq!(graph.state().sending_epoch, None);
    assert!(loose(&mut graph).is_empty());
    assert_eq!(without_what_has_no_consequence(empty(&world.create), &mut graph, "exposed"), 0);
}

fn void(graph: &mut AuthorityGraph) -> Vec<OpId> {
    graph.state().void.keys().copied().collect()
}

fn loose(graph: &mut AuthorityGraph) -> Vec<OpId> {
    let loose = graph.loose();
    loose.iter().map(|at| graph.nodes.at(at).id()).collect()
}
