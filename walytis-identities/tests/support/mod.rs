//! Actors with one device each and a graph of their own, for tests of the identity state.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeMap;

use walytis_core::clock::{Entropy as _, SeededEntropy};
use walytis_core::id::{BlockId, ChainId};
use walytis_identities::crypto::DeviceKeys;
use walytis_identities::epoch::{EpochSecrets, EpochView};
use walytis_identities::id::{ControllerId, EpochId, OpId, Role};
use walytis_identities::op::{ChainCut, SignedOp};
use walytis_identities::state::{
    AuthorityGraph, Builder, Built, CreateOptions, IdentityState, Inserted, NewInvitation, Refusal,
};
use walytis_identities::token::{InvitationKey, JoinRequest};

/// The chain of every test identity.
pub(crate) fn chain() -> ChainId {
    ChainId(BlockId::of_file(b"genesis"))
}

pub(crate) struct Actor {
    pub(crate) keys: DeviceKeys,
    pub(crate) graph: Option<AuthorityGraph>,
    pub(crate) held: BTreeMap<EpochId, EpochSecrets>,
    pub(crate) entropy: SeededEntropy,
}

impl Actor {
    pub(crate) fn new(seed: u64) -> Self {
        let entropy = SeededEntropy::new(seed);
        Self { keys: DeviceKeys::generate(&entropy), graph: None, held: BTreeMap::new(), entropy }
    }

    pub(crate) fn founder(seed: u64) -> Self {
        Self::founder_with(seed, &CreateOptions::default())
    }

    pub(crate) fn founder_with(seed: u64, options: &CreateOptions) -> Self {
        let mut founder = Self::new(seed);
        let built = Builder::create(&founder.keys, options, &founder.entropy).unwrap();
        founder.held.insert(built.op.id(), built.secrets.unwrap());
        founder.graph = Some(AuthorityGraph::new(chain(), built.op).unwrap());
        founder
    }

    pub(crate) fn id(&self) -> ControllerId {
        ControllerId::Device(self.keys.id())
    }

    pub(crate) fn graph(&mut self) -> &mut AuthorityGraph {
        self.graph.as_mut().unwrap()
    }

    pub(crate) fn build<T>(&mut self, make: impl FnOnce(Builder<'_>) -> T) -> T {
        make(Builder::new(self.graph.as_mut().unwrap(), &self.keys, &self.held, &self.entropy))
    }

    /// Builds an op, enters it into the own graph and keeps its secrets.
    pub(crate) fn act(&mut self, make: impl FnOnce(Builder<'_>) -> Built) -> OpId {
        let built = self.build(make);
        let id = built.op.id();
        self.graph().insert(built.op).unwrap();
        if let Some(secrets) = built.secrets {
            self.held.insert(id, secrets);
        }
        id
    }

    /// Builds an op and returns why the own graph refuses it.
    pub(crate) fn refused(&mut self, make: impl FnOnce(Builder<'_>) -> Built) -> Refusal {
        let built = self.build(make);
        self.graph().insert(built.op).unwrap_err()
    }

    pub(crate) fn request(&self, honouring: &Self, invitation: Option<(&OpId, &InvitationKey)>) -> JoinRequest {
        JoinRequest::new(&self.keys, &chain(), &honouring.id(), invitation, &self.entropy)
    }

    pub(crate) fn admit(&mut self, other: &mut Self, role: Role) -> OpId {
        let request = other.request(self, None);
        let id = self.act(|builder| builder.admit(request, role).unwrap());
        other.join(self);
        id
    }

    pub(crate) fn honour(&mut self, other: &mut Self, invite: &OpId, key: &InvitationKey) -> OpId {
        let request = other.request(self, Some((invite, key)));
        let id = self.act(|builder| builder.honour(request).unwrap());
        other.join(self);
        id
    }

    pub(crate) fn invite(&mut self, role: Role, uses: Option<u32>) -> (OpId, InvitationKey) {
        let NewInvitation { op, seed } = self.build(|builder| builder.invite(role, uses, None).unwrap());
        let id = op.id();
        self.graph().insert(op).unwrap();
        (id, InvitationKey::from_seed(&seed, &chain()))
    }

    pub(crate) fn remove(&mut self, targets: &[ControllerId]) -> OpId {
        self.act(|builder| builder.remove(targets.to_vec(), Vec::new(), Vec::new()).unwrap())
    }

    pub(crate) fn remove_at(&mut self, targets: &[ControllerId], cut: Vec<ChainCut>) -> OpId {
        self.act(|builder| builder.remove(targets.to_vec(), cut, Vec::new()).unwrap())
    }

    pub(crate) fn set_role(&mut self, controller: ControllerId, role: Role) -> OpId {
        self.act(|builder| builder.set_role(controller, role, Vec::new()).unwrap())
    }

    /// Takes over everything `other` has, and opens what it can.
    pub(crate) fn sync(&mut self, other: &Self) {
        for op in other.graph.as_ref().unwrap().ops() {
            self.graph.as_mut().unwrap().insert((**op).clone()).unwrap();
        }
        self.open_slots();
    }

    pub(crate) fn join(&mut self, other: &Self) {
        if self.graph.is_none() {
            let create = (**other.graph.as_ref().unwrap().ops().next().unwrap()).clone();
            self.graph = Some(AuthorityGraph::new(chain(), create).unwrap());
        }
        self.sync(other);
    }

    /// Opens own slots, and behind them the history.
    pub(crate) fn open_slots(&mut self) {
        let ops: Vec<SignedOp> = self.graph.as_ref().unwrap().ops().map(|op| (**op).clone()).collect();
        let me = self.id();
        for op in ops.iter().rev() {
            let readers = self.graph.as_ref().unwrap().epoch_readers(&op.id());
            let reads = readers.is_some_and(|readers| readers.contains(&me));
            if let Ok(secrets) = EpochView::open_slot(op.core(), &me, reads, &[self.keys.receiving()]) {
                self.held.entry(op.id()).or_default().merge(&secrets);
            }
            let (Some(view), Some(secrets)) = (EpochView::of(op.core()), self.held.get(&op.id())) else { continue };
            for earlier in view.open_history(secrets).unwrap_or_default() {
                let found = EpochSecrets { transport: None, epoch: Some(earlier.epoch), history: earlier.history };
                let of = ops.iter().find(|op| op.id() == earlier.id).unwrap();
                assert!(EpochView::of(of.core()).unwrap().matches(&found));
                self.held.entry(earlier.id).or_default().merge(&found);
            }
        }
    }
}

/// Founder admin, one more admin, one member, all in sync.
pub(crate) fn group() -> (Actor, Actor, Actor) {
    let (mut a, mut b, mut c) = (Actor::founder(1), Actor::new(2), Actor::new(3));
    a.admit(&mut b, Role::Admin);
    a.admit(&mut c, Role::Member);
    b.sync(&a);
    c.sync(&a);
    (a, b, c)
}

/// All ops that any of the actors has, without the `Create`.
pub(crate) fn all_ops(actors: &[&Actor]) -> Vec<SignedOp> {
    let mut ops: BTreeMap<OpId, SignedOp> = BTreeMap::new();
    for actor in actors {
        ops.extend(actor.graph.as_ref().unwrap().ops().skip(1).map(|op| (op.id(), (**op).clone())));
    }
    ops.into_values().collect()
}

pub(crate) fn create_of(actor: &Actor) -> SignedOp {
    (**actor.graph.as_ref().unwrap().ops().next().unwrap()).clone()
}

/// Enters ops in this order.
pub(crate) fn graph_of(create: &SignedOp, ops: &[SignedOp]) -> AuthorityGraph {
    let mut graph = AuthorityGraph::new(chain(), create.clone()).unwrap();
    for op in ops {
        match graph.insert(op.clone()).unwrap() {
            Inserted::New(_) | Inserted::Pending(_) => {}
            Inserted::Known => panic!("offered once"),
        }
    }
    graph
}

/// Enters the ops of all actors in every order if there are at most 6, otherwise in the first 720, and returns the
/// state that all of them must give.
pub(crate) fn agreed(actors: &[&Actor]) -> IdentityState {
    let create = create_of(actors[0]);
    let ops = all_ops(actors);
    let expected = graph_of(&create, &ops).state();
    let mut order: Vec<usize> = (0..ops.len()).collect();
    let mut seen = 0;
    loop {
        let permuted: Vec<SignedOp> = order.iter().map(|at| ops[*at].clone()).collect();
        let mut graph = graph_of(&create, &permuted);
        assert_eq!(*graph.state(), *expected, "order {order:?}");
        assert_eq!(graph.len(), ops.len() + 1);
        seen += 1;
        if seen >= 720 || !next_permutation(&mut order) {
            return (*expected).clone();
        }
    }
}

/// As [`agreed`], in 24 shuffled orders.
pub(crate) fn agreed_shuffled(actors: &[&Actor]) -> IdentityState {
    let create = create_of(actors[0]);
    let mut ops = all_ops(actors);
    let expected = graph_of(&create, &ops).state();
    let mut rng = SeededEntropy::new(4).rng();
    for _ in 0..24 {
        for at in (1..ops.len()).rev() {
            ops.swap(at, rand_core::Rng::next_u32(&mut rng) as usize % (at + 1));
        }
        let mut graph = graph_of(&create, &ops);
        assert_eq!(*graph.state(), *expected);
        assert_eq!(graph.len(), ops.len() + 1);
    }
    (*expected).clone()
}

pub(crate) fn next_permutation(order: &mut [usize]) -> bool {
    let Some(at) = (1..order.len()).rev().find(|at| order[at - 1] < order[*at]) else { return false };
    let swap = (at..order.len()).rev().find(|other| order[*other] > order[at - 1]).unwrap();
    order.swap(at - 1, swap);
    order[at..].reverse();
    true
}

pub(crate) fn sorted<const N: usize>(mut ids: [ControllerId; N]) -> Vec<ControllerId> {
    ids.sort_unstable();
    ids.to_vec()
}
