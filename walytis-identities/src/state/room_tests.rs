//! Rule 9: whoever fills the graph, the others go on.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeSet;

use super::random_tests::{World, differs_from_nothing, empty};
use super::room::Limits;
use super::{AuthorityGraph, Inserted, Refusal, Rule};
use crate::id::{ControllerId, OpId, Role};
use crate::op::{Document, Op, Remove, SignedOp};

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
