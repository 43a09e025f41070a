//! Random histories of all ops of a flat identity, without signatures: what is evaluated from a base, step by step, is what
//! is evaluated from nothing, whatever the order; and what may be left out was of no consequence.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod nested;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand_core::Rng;
use walytis_core::clock::{Entropy as _, SeededEntropy};
use walytis_core::id::{BlockId, ChainId};
use walytis_core::secret::Secret;

use super::bits::Bits;
use super::evaluate::evaluate_thoroughly;
use super::fold::fold;
use super::{AuthorityGraph, Builder, CreateOptions, IdentityState, Inserted};
use crate::crypto::{DeviceKeys, HybridSignature, KeyId};
use crate::id::{ControllerId, Did, OpId, Role};
use crate::op::{
    Admit, ControllerRecord, Deactivate, Document, EpochPart, InvitationProof, Invite, Op, OpCore, Recover, Remove,
    RevokeInvite, SetRole, SignedOp, Slot, Update,
};
use crate::recovery::RecoveryCode;
use crate::token::{InvitationKey, JoinRequest};

const ROLES: [Role; 4] = [Role::Admin, Role::Member, Role::Reader, Role::Keeper];

fn chain() -> ChainId {
    ChainId(BlockId::of_file(b"random"))
}

/// The chain of an identity that controls the other.
fn chain_within() -> ChainId {
    ChainId(BlockId::of_file(b"random, within"))
}

/// Devices that know different parts of one identity.
pub(super) struct World {
    chain: ChainId,
    pub(super) devices: Vec<DeviceKeys>,
    codes: Vec<RecoveryCode>,
    key: InvitationKey,
    proofs: BTreeMap<(OpId, usize, usize), InvitationProof>,
    part: EpochPart,
    pub(super) create: SignedOp,
    graphs: Vec<AuthorityGraph>,
    ops: Vec<SignedOp>,
    rng: Box<dyn FnMut(usize) -> usize>,
}

impl World {
    pub(super) fn new(seed: u64, devices: usize) -> Self {
        Self::on(chain(), seed, devices)
    }

    /// One of the identity that controls the other.
    pub(super) fn within(seed: u64, devices: usize) -> Self {
        Self::on(chain_within(), seed, devices)
    }

    fn on(chain: ChainId, seed: u64, devices: usize) -> Self {
        let entropy = SeededEntropy::new(seed);
        let devices: Vec<_> = (0..devices).map(|_| DeviceKeys::generate(&entropy)).collect();
        let codes: Vec<_> = (0..3).map(|_| RecoveryCode::generate(&entropy)).collect();
        let options = CreateOptions { recovery: Some(codes[0].key().digest()), ..CreateOptions::default() };
        let create = Builder::create(&devices[0], &options, &entropy).unwrap().op;
        let part = create.core().op.epoch().unwrap().clone();
        let graphs = devices.iter().map(|_| empty_on(chain, &create)).collect();
        let mut stream = entropy.rng();
        let rng = Box::new(move |below: usize| stream.next_u32() as usize % below);
        let key = InvitationKey::from_seed(&Secret::new([7; 32]), &chain);
        Self { chain, devices, codes, key, proofs: BTreeMap::new(), part, create, graphs, ops: Vec::new(), rng }
    }

    pub(super) fn id(&self, device: usize) -> ControllerId {
        ControllerId::Device(self.devices[device].id())
    }

    pub(super) fn epoch(&self, to: BTreeSet<ControllerId>) -> EpochPart {
        let slot = |controller| Slot { controller, key: KeyId([0; 32]), sealed: Vec::new() };
        EpochPart { slots: to.into_iter().map(slot).collect(), ..self.part.clone() }
    }

    /// Makes an op of one device.
    pub(super) fn make(&self, by: usize, auth_parents: Vec<OpId>, op: Op) -> SignedOp {
        let (author, device) = (self.id(by), self.devices[by].id());
        let core = OpCore { chain: *self.chain.digest(), author, device, auth_parents, op };
        SignedOp::unsigned(core, HybridSignature::zero())
    }

    pub(super) const fn did(&self) -> Did {
        Did(self.chain)
    }

    /// Returns a graph of this identity with nothing but its beginning.
    pub(super) fn empty(&self) -> AuthorityGraph {
        empty_on(self.chain, &self.create)
    }

    /// Makes an op of one device on the outer identity, in the name of this one.
    pub(super) fn make_above(&self, by: usize, auth_parents: Vec<OpId>, op: Op) -> SignedOp {
        let (author, device) = (ControllerId::Identity(self.did()), self.devices[by].id());
        let core = OpCore { chain: *chain().digest(), author, device, auth_parents, op };
        SignedOp::unsigned(core, HybridSignature::zero())
    }

    /// One device does one thing, mostly on all it knows, sometimes on an older head: it equivocates.
    fn act(&mut self) {
        let by = (self.rng)(self.devices.len());
        if (self.rng)(3) == 0 {
            let from = (self.rng)(self.devices.len());
            let ops: Vec<SignedOp> = self.graphs[from].ops().skip(1).map(|op| (**op).clone()).collect();
            for op in ops {
                drop(self.graphs[by].insert(op));
            }
            return;
        }
        let all: Vec<OpId> = self.graphs[by].ops().map(|op| op.id()).collect();
        let heads = if (self.rng)(6) == 0 { vec![all[(self.rng)(all.len())]] } else { self.graphs[by].heads() };
        let state = self.graphs[by].state_at(&heads).unwrap();
        let Some(op) = self.op(by, &state) else { return };
        let op = self.make(by, heads, op);
        if matches!(self.graphs[by].insert(op.clone()), Ok(Inserted::New(_))) {
            self.ops.push(op);
        }
    }

    fn op(&mut self, by: usize, state: &IdentityState) -> Option<Op> {
        let other = (self.rng)(self.devices.len());
        let role = ROLES[(self.rng)(4)];
        let mut to: BTreeSet<ControllerId> = state.controllers.keys().copied().collect();
        let target = self.id(other);
        let invite = state.invitations.keys().copied().nth((self.rng)(3));
        Some(match (self.rng)(20) {
            0..5 => self.admit(by, other, role, None, to),
            5 | 6 => {
                let role = state.invitations.get(&invite?)?.role;
                self.admit(by, other, role, invite, to)
            }
            7 => {
                let uses = ((self.rng)(2) == 0).then_some(1);
                self.invite(role, uses)
            }
            8 => Op::RevokeInvite(RevokeInvite { invite: invite? }),
            9 | 10 if other != by => {
                to.remove(&target);
                let kept: Vec<OpId> = invite.into_iter().collect();
                let epoch = self.epoch(to);
                Op::Remove(Box::new(Remove { targets: vec![target], cut: vec![], kept, co_signatures: vec![], epoch }))
            }
            11 | 12 => Op::Rekey(Box::new(self.epoch(to))),
            13 => Op::Leave,
            14..17 => Op::SetRole(SetRole { controller: target, role, cut: vec![] }),
            17 => Op::Document(Document { services: vec![(by.to_string(), role.to_string(), String::new())] }),
            18 => {
                let keys = self.devices[by].renew(&SeededEntropy::new((self.rng)(1_000) as u64));
                let keys = Some((keys.public().clone(), HybridSignature::zero()));
                Op::Update(Box::new(Update { keys, as_of: vec![], cut: vec![] }))
            }
            _ => match (self.rng)(6) {
                0 => Op::Deactivate(Deactivate { cut: vec![] }),
                1 => self.recover(by, other, role),
                _ => return None,
            },
        })
    }

    pub(super) fn invite(&self, role: Role, uses: Option<u32>) -> Op {
        Op::Invite(Invite { key: self.key.public(), role, uses, expires_at_ms: None })
    }

    pub(super) fn admit(
        &mut self,
        by: usize,
        who: usize,
        role: Role,
        invite: Option<OpId>,
        mut to: BTreeSet<ControllerId>,
    ) -> Op {
        to.insert(self.id(who));
        let honouring = self.id(by);
        let invitation = invite.map(|invite| {
            let proof = self.proofs.entry((invite, who, by)).or_insert_with(|| {
                let with = Some((&invite, &self.key));
                let request =
                    JoinRequest::new(&self.devices[who], &self.chain, &honouring, with, &SeededEntropy::new(1));
                request.invitation.unwrap()
            });
            proof.clone()
        });
        let controller = ControllerRecord::Device(self.devices[who].public().clone());
        let epoch = self.epoch(to);
        Op::Admit(Box::new(Admit { controller, role, possession: HybridSignature::zero(), invitation, epoch }))
    }

    fn recover(&mut self, by: usize, other: usize, role: Role) -> Op {
        let code = (self.rng)(2);
        let listed = BTreeMap::from([(other, role), (by, Role::Admin)]);
        let to = listed.keys().map(|device| self.id(*device)).collect();
        let record =
            |(device, role): (&usize, &Role)| (ControllerRecord::Device(self.devices[*device].public().clone()), *role);
        let mut controllers: Vec<_> = listed.iter().map(record).collect();
        controllers.sort_by_key(|(record, _)| record.id());
        Op::Recover(Box::new(Recover {
            controllers,
            cut: vec![],
            kept: vec![],
            recovery_key: self.codes[code].key().public(),
            recovery_signature: HybridSignature::zero(),
            next_recovery: Some(self.codes[code + 1].key().digest()),
            epoch: self.epoch(to),
        }))
    }
}

pub(super) fn empty(create: &SignedOp) -> AuthorityGraph {
    empty_on(chain(), create)
}

fn empty_on(chain: ChainId, create: &SignedOp) -> AuthorityGraph {
    let mut graph = AuthorityGraph::new(chain, create.clone()).unwrap();
    graph.unsigned = true;
    graph
}

/// Returns what all ops amount to, evaluated from nothing and asking every op after every step.
pub(super) fn from_nothing(graph: &mut AuthorityGraph) -> IdentityState {
    let all = graph.everything();
    let named = graph.named_in(&all);
    let nested = graph.nested_voids(&Bits::new(), &all, &named);
    let views = graph.nested_views(&named);
    let outcome = evaluate_thoroughly(graph.nodes(), all, named, &nested);
    fold(graph.nodes(), None, Arc::new(outcome), &views)
}

/// Says what differs between what was come to step by step and what all ops amount to from nothing.
pub(super) fn differs_from_nothing(graph: &mut AuthorityGraph) -> Option<String> {
    let (state, anew) = (graph.state(), from_nothing(graph));
    let (one, other) = (&state.evaluation, &anew.evaluation);
    let same = *state == anew
        && (&one.set, &one.void, &one.accepted, &one.pinned)
            == (&other.set, &other.void, &other.accepted, &other.pinned);
    (!same).then(|| format!("step by step {state:#?}\nfrom nothing {anew:#?}"))
}

/// Returns what the ops amount to in this order, checking after each that nothing depends on how it came about.
fn replayed(create: &SignedOp, ops: &[SignedOp], context: &str) -> AuthorityGraph {
    let mut graph = empty(create);
    for op in ops {
        graph.insert(op.clone()).unwrap();
        if let Some(what) = differs_from_nothing(&mut graph) {
            panic!("{context}: {what}\nat {op:?}");
        }
        assert_eq!(graph.state().heads, graph.heads(), "{context}");
    }
    assert_eq!(graph.len(), ops.len() + 1, "{context}: all enter");
    graph
}

fn shuffled(ops: &[SignedOp], pick: &mut dyn FnMut(usize) -> usize) -> Vec<SignedOp> {
    let mut ops = ops.to_vec();
    for at in (1..ops.len()).rev() {
        ops.swap(at, pick(at + 1));
    }
    ops
}

#[test]
fn random_histories_are_the_same_step_by_step_from_scratch_and_in_any_order() {
    let (mut seen, mut void, mut left_out) = (BTreeSet::new(), 0, 0);
    for seed in 0..60 {
        let mut world = World::new(seed, 5);
        for _ in 0..200 {
            if world.ops.len() < 30 {
                world.act();
            }
        }
        let context = format!("seed {seed}");
        let mut one = replayed(&world.create, &world.ops, &context);
        for _ in 0..2 {
            let mut graph = empty(&world.create);
            for op in shuffled(&world.ops, &mut *world.rng) {
                graph.insert(op).unwrap();
            }
            assert_eq!(*graph.state(), *one.state(), "{context}: another order");
            assert_eq!(differs_from_nothing(&mut graph), None, "{context}: another order");
            let picked = (world.rng)(world.ops.len());
            let at = world.ops[picked].id();
            assert_eq!(*graph.state_at(&[at]).unwrap(), *one.state_at(&[at]).unwrap(), "{context}: as of {at:?}");
        }
        seen.extend(world.ops.iter().map(|op| op.core().op.name()));
        void += one.state().void.len();
        left_out += without_what_has_no_consequence(empty(&world.create), &mut one, &context);
    }
    assert_eq!(seen.len(), 11, "every op occurs: {seen:?}");
    assert!(void > 100 && left_out > 25, "{void} void, {left_out} left out");
}

/// Who never heard of the loose ops has the same state but for them, and has nothing loose. `fewer`: holds none of the ops.
pub(super) fn without_what_has_no_consequence(
    mut fewer: AuthorityGraph,
    graph: &mut AuthorityGraph,
    context: &str,
) -> usize {
    let (state, loose) = (graph.state(), graph.loose());
    for (at, op) in graph.ops().enumerate().skip(1) {
        if !loose.has(at) {
            fewer.insert((**op).clone()).unwrap();
        }
    }
    let less = fewer.state();
    assert_eq!(fewer.len() + loose.len(), graph.len(), "{context}: nothing builds on what is loose");
    let kept: BTreeMap<_, _> = state.void.iter().filter(|(id, _)| fewer.op(id).is_some()).collect();
    assert_eq!(kept, less.void.iter().collect(), "{context}");
    let same = IdentityState { void: less.void.clone(), heads: less.heads.clone(), ..(*state).clone() };
    assert_eq!(same, *less, "{context}: what was left out had consequences");
    assert!(fewer.loose().is_empty(), "{context}");
    loose.len()
}

/// Every order in which up to 8 random ops can arrive, parents first or held until their parents come.
#[test]
fn all_orders_of_small_graphs_give_one_state() {
    for seed in 100..106 {
        let mut world = World::new(seed, 4);
        let mut tries = 0;
        while world.ops.len() < 8 && tries < 400 {
            world.act();
            tries += 1;
        }
        let mut whole = replayed(&world.create, &world.ops, "small");
        let expected = whole.state();
        let mut orders = 0;
        extensions(&empty(&world.create), &world.ops, &mut |graph| {
            assert_eq!(*graph.state(), *expected, "seed {seed}");
            orders += 1;
            orders < 3_000
        });
        assert!(orders > 0);
    }
}

/// Calls `end` with the graph after each order that respects parents, until it says to stop.
fn extensions(graph: &AuthorityGraph, left: &[SignedOp], end: &mut dyn FnMut(&mut AuthorityGraph) -> bool) -> bool {
    if left.is_empty() {
        return end(&mut graph.clone());
    }
    for (at, op) in left.iter().enumerate() {
        let mut next = graph.clone();
        if !matches!(next.insert(op.clone()), Ok(Inserted::New(_))) {
            continue;
        }
        let rest: Vec<SignedOp> =
            left.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, op)| op.clone()).collect();
        if !extensions(&next, &rest, end) {
            return false;
        }
    }
    true
}
