//! Random histories of an identity that another identity controls, too: the other one's own history goes on meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use super::{ROLES, World, differs_from_nothing, empty, shuffled, without_what_has_no_consequence};
use crate::crypto::{HybridSignature, KeyId};
use crate::id::{ControllerId, Did, OpId, Role};
use crate::op::{Admit, ControllerRecord, Document, EpochPart, Introduce, Op, Remove, SetRole, SignedOp, Update};
use crate::state::{AuthorityGraph, IdentityState, VoidReason};

/// An identity that an identity within controls too: the history of that goes on, and the outer one's ops name parts of it.
struct Nest {
    outer: World,
    inner: World,
    all: AuthorityGraph,
    ops: Vec<SignedOp>,
}

impl Nest {
    fn new(seed: u64) -> Self {
        let (outer, inner) = (World::new(seed, 3), World::within(seed + 1_000, 4));
        let all = empty(&outer.create);
        let mut nest = Self { outer, inner, all, ops: Vec::new() };
        // Mostly it is in, with all its devices: alone it would rarely come to what ends inside it.
        if !seed.is_multiple_of(4) {
            nest.let_all_in();
            nest.all.learn_nested(&nest.inner.graphs[0]).unwrap();
            let as_of = nest.inner.graphs[0].heads();
            let op = nest.admit_within(0, Role::Admin, as_of, [nest.outer.id(0)].into());
            nest.all.insert(nest.outer.make(0, nest.all.heads(), op)).unwrap();
        }
        nest
    }

    /// All devices within but the last are admins there, and know it.
    fn let_all_in(&mut self) {
        for who in 1..3 {
            let to = (0..who).map(|one| self.inner.id(one)).collect();
            let op = self.inner.admit(0, who, Role::Admin, None, to);
            let op = self.inner.make(0, self.inner.graphs[0].heads(), op);
            self.inner.ops.push(op.clone());
            self.inner.graphs[0].insert(op).unwrap();
        }
        for knows in 1..3 {
            let ops: Vec<SignedOp> = self.inner.ops.clone();
            ops.into_iter().for_each(|op| drop(self.inner.graphs[knows].insert(op).unwrap()));
        }
    }

    const fn did(&self) -> Did {
        self.inner.did()
    }

    /// Some heads that are known of the identity within.
    fn as_of(&mut self) -> Vec<OpId> {
        let Some(graph) = self.all.nested(&self.did()) else { return vec![self.inner.create.id()] };
        let ops: Vec<OpId> = graph.ops().map(|op| op.id()).collect();
        if (self.outer.rng)(2) == 0 { graph.named_heads() } else { vec![ops[(self.outer.rng)(ops.len())]] }
    }

    fn epoch(&self, to: BTreeSet<ControllerId>) -> EpochPart {
        let mut part = self.outer.epoch(to);
        for slot in &mut part.slots {
            if matches!(slot.controller, ControllerId::Identity(_)) {
                slot.key = KeyId::of(&self.inner.part.receiving);
            }
        }
        part
    }

    fn admit_within(&self, device: usize, role: Role, as_of: Vec<OpId>, to: BTreeSet<ControllerId>) -> Op {
        let device = self.inner.devices[device].id();
        let controller = ControllerRecord::Identity { did: self.did(), as_of, device };
        let to = to.into_iter().chain([controller.id()]).collect();
        let (possession, invitation, epoch) = (HybridSignature::zero(), None, self.epoch(to));
        Op::Admit(Box::new(Admit { controller, role, possession, invitation, epoch }))
    }

    fn act(&mut self) {
        if (self.outer.rng)(3) == 0 {
            self.inner.act();
            let known = (self.outer.rng)(4);
            self.all.learn_nested(&self.inner.graphs[known]).unwrap();
            return;
        }
        let all: Vec<OpId> = self.all.ops().map(|op| op.id()).collect();
        let heads = if (self.outer.rng)(4) == 0 { vec![all[(self.outer.rng)(all.len())]] } else { self.all.heads() };
        let state = self.all.state_at(&heads).unwrap();
        let within = (self.outer.rng)(2) == 0;
        let by = (self.outer.rng)(if within { 4 } else { 3 });
        let op = self.op(&state, within, by);
        let op = if within { self.inner.make_above(by, heads, op) } else { self.outer.make(by, heads, op) };
        drop(self.all.insert(op));
        // What waited for the identity within may have come in with it.
        self.ops = self.all.ops().skip(1).map(|op| (**op).clone()).collect();
    }

    fn op(&mut self, state: &IdentityState, within: bool, by: usize) -> Op {
        let (other, role) = ((self.outer.rng)(3), ROLES[(self.outer.rng)(3)]);
        let to: BTreeSet<ControllerId> = state.controllers.keys().copied().collect();
        let target = if (self.outer.rng)(3) == 0 { ControllerId::Identity(self.did()) } else { self.outer.id(other) };
        let as_of = self.as_of();
        match (self.outer.rng)(12) {
            0..3 if within => Op::Introduce(Introduce { as_of }),
            3..6 if within => Op::Update(Box::new(Update { keys: None, as_of, cut: vec![] })),
            0..3 => self.admit_within(by, ROLES[other % 2], as_of, to),
            3..5 => self.outer.admit(by, other, role, None, to),
            5 | 6 => Op::SetRole(SetRole { controller: target, role, cut: vec![] }),
            7 => {
                let epoch = self.epoch(to.into_iter().filter(|id| *id != target).collect());
                let (cut, kept, co_signatures) = (vec![], vec![], vec![]);
                Op::Remove(Box::new(Remove { targets: vec![target], cut, kept, co_signatures, epoch }))
            }
            8 => Op::Leave,
            9 => Op::Document(Document { services: vec![(other.to_string(), role.to_string(), String::new())] }),
            _ => Op::Rekey(Box::new(self.epoch(to))),
        }
    }
}

/// What a reason is called; what is counted must be void by itself, not for what it rests on.
const fn name_of(reason: &VoidReason) -> &'static str {
    match reason {
        VoidReason::NestedRemoved { .. } => "removed inside",
        VoidReason::NestedUnfounded => "never entitled inside",
        VoidReason::Nesting => "stands above itself",
        VoidReason::Unfounded { .. } => "rests on what is void",
        _ => "by the rules of a flat identity",
    }
}

/// The numbers at the end say what was reached: should the histories stop getting there, the test says so.
#[test]
fn random_histories_with_an_identity_within_have_no_memory() {
    let (mut seen, mut void, mut left_out) = (BTreeSet::new(), BTreeMap::<_, usize>::new(), 0);
    for seed in 0..60 {
        let mut nest = Nest::new(seed);
        for _ in 0..400 {
            let before = nest.ops.len();
            if before < 24 {
                nest.act();
            }
            if nest.ops.len() > before {
                assert_eq!(differs_from_nothing(&mut nest.all), None, "seed {seed}");
            }
        }
        seen.extend(nest.ops.iter().map(|op| op.core().op.name()));
        let Some(within) = nest.all.nested(&nest.did()).cloned() else { continue };
        for reason in nest.all.state().void.values() {
            *void.entry(name_of(reason)).or_default() += 1;
        }
        let mut fewer = empty(&nest.outer.create);
        fewer.learn_nested(&within).unwrap();
        left_out += without_what_has_no_consequence(fewer, &mut nest.all, &format!("seed {seed}"));
        for _ in 0..2 {
            let mut graph = empty(&nest.outer.create);
            let learns_at = (nest.outer.rng)(nest.ops.len());
            for (n, op) in shuffled(&nest.ops, &mut *nest.outer.rng).into_iter().enumerate() {
                if n == learns_at {
                    graph.learn_nested(&within).unwrap();
                    graph.admit_ready();
                }
                graph.insert(op).unwrap();
            }
            assert_eq!(*graph.state(), *nest.all.state(), "seed {seed}: another order");
            assert_eq!(differs_from_nothing(&mut graph), None, "seed {seed}: another order");
        }
    }
    assert!(seen.len() >= 8, "{seen:?}");
    let reached = |reason: &str| void.get(reason).copied().unwrap_or_default();
    assert!(reached("removed inside") >= 10 && reached("never entitled inside") >= 5, "{void:?}");
    assert!(left_out >= 4, "{left_out} left out");
}
