//! Devices, and identities as each of them sees them, for tests of rule 10.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeMap;

use walytis_core::clock::SeededEntropy;
use walytis_core::id::{BlockId, ChainId};
use walytis_identities::crypto::{DeviceKeys, ReceivingKey};
use walytis_identities::epoch::{EpochSecrets, EpochView};
use walytis_identities::id::{ControllerId, Did, EpochId, OpId, Role};
use walytis_identities::op::{ChainCut, Op, SignedOp};
use walytis_identities::state::{AuthorityGraph, Builder, Built, CreateOptions, Refusal, Travelling};
use walytis_identities::token::JoinRequest;

pub(crate) type Held = BTreeMap<EpochId, EpochSecrets>;

/// One identity as one device sees it.
pub(crate) struct Seen {
    pub(crate) graph: AuthorityGraph,
    pub(crate) held: Held,
    pub(crate) me: ControllerId,
}

pub(crate) struct Device {
    pub(crate) keys: DeviceKeys,
    pub(crate) entropy: SeededEntropy,
}

pub(crate) fn chain(name: &str) -> ChainId {
    ChainId(BlockId::of_file(name.as_bytes()))
}

impl Device {
    pub(crate) fn new(seed: u64) -> Self {
        let entropy = SeededEntropy::new(seed);
        Self { keys: DeviceKeys::generate(&entropy), entropy }
    }

    pub(crate) fn id(&self) -> ControllerId {
        ControllerId::Device(self.keys.id())
    }

    pub(crate) fn create(&self, name: &str) -> Seen {
        let built = Builder::create(&self.keys, &CreateOptions::default(), &self.entropy).unwrap();
        let held = Held::from([(built.op.id(), built.secrets.unwrap())]);
        Seen { graph: AuthorityGraph::new(chain(name), built.op).unwrap(), held, me: self.id() }
    }

    /// A copy of what somebody else sees, for this device; `me`: for whom it acts.
    pub(crate) fn view(&self, of: &Seen, me: ControllerId) -> Seen {
        let create = of.graph.ops().next().unwrap();
        let mut seen =
            Seen { graph: AuthorityGraph::new(of.graph.chain(), (**create).clone()).unwrap(), held: Held::new(), me };
        seen.sync(of);
        seen
    }

    pub(crate) fn make<T>(&self, seen: &mut Seen, make: impl FnOnce(Builder<'_>) -> T) -> T {
        make(Builder::new(&mut seen.graph, &self.keys, &seen.held, &self.entropy).acting_for(seen.me))
    }

    pub(crate) fn build(&self, seen: &mut Seen, make: impl FnOnce(Builder<'_>) -> Built) -> Built {
        self.make(seen, make)
    }

    pub(crate) fn act(&self, seen: &mut Seen, make: impl FnOnce(Builder<'_>) -> Built) -> OpId {
        let built = self.build(seen, make);
        let id = built.op.id();
        seen.graph.insert(built.op).unwrap();
        seen.held.extend(built.secrets.map(|secrets| (id, secrets)));
        id
    }

    pub(crate) fn admit(&self, seen: &mut Seen, other: &Self, role: Role) -> OpId {
        let request = JoinRequest::new(&other.keys, &seen.graph.chain(), &seen.me, None, &other.entropy);
        self.act(seen, |builder| builder.admit(request, role).unwrap())
    }

    /// Admits the identity that `proving` is a device of, as it sees it.
    pub(crate) fn admit_identity(&self, seen: &mut Seen, person: &Seen, proving: &Self, role: Role) -> OpId {
        seen.graph.learn_nested(&person.graph).unwrap();
        let as_of = (person.graph.did(), person.graph.named_heads());
        let chain = seen.graph.chain();
        let request = JoinRequest::as_identity(as_of, &proving.keys, &chain, &seen.me, None, &proving.entropy);
        self.act(seen, |builder| builder.admit(request, role).unwrap())
    }

    pub(crate) fn rekey(&self, seen: &mut Seen) -> OpId {
        self.act(seen, |builder| builder.rekey().unwrap())
    }

    pub(crate) fn remove(&self, seen: &mut Seen, target: ControllerId) -> OpId {
        self.act(seen, |builder| builder.remove(vec![target], Vec::new(), Vec::new()).unwrap())
    }

    pub(crate) fn introduce(&self, seen: &mut Seen, person: &Seen) -> OpId {
        seen.graph.learn_nested(&person.graph).unwrap();
        self.act(seen, |builder| builder.introduce().unwrap())
    }

    pub(crate) fn update(&self, seen: &mut Seen, person: &Seen, cut: Vec<ChainCut>) -> OpId {
        seen.graph.learn_nested(&person.graph).unwrap();
        self.act(seen, |builder| builder.name_heads(cut).unwrap())
    }
}

impl Seen {
    pub(crate) fn did(&self) -> Did {
        self.graph.did()
    }

    pub(crate) fn controller(&self) -> ControllerId {
        ControllerId::Identity(self.did())
    }

    /// Takes over what `other` has, with what stands below.
    pub(crate) fn sync(&mut self, other: &Self) {
        self.graph_sync(&other.graph);
    }

    pub(crate) fn graph_sync(&mut self, other: &AuthorityGraph) {
        for (_, nested) in below(other) {
            // As the genesis blocks travel with an exchange.
            self.graph.learn_nested(&bare(nested)).unwrap();
        }
        for travelling in other.travelling(&[]) {
            if let Travelling::Op(op) = travelling {
                self.take((*op).clone()).unwrap();
            }
        }
    }

    pub(crate) fn take(&mut self, op: SignedOp) -> Result<(), Refusal> {
        if op.core().chain == *self.graph.chain().digest() {
            self.graph.insert(op).map(drop)
        } else {
            self.graph.insert_nested(op).map(drop)
        }
    }

    pub(crate) fn open(&self, epoch: &EpochId, keys: &[&ReceivingKey]) -> Option<EpochSecrets> {
        EpochView::open_slot(self.graph.op(epoch).unwrap().core(), &self.me, true, keys).ok()
    }

    /// The receiving keys that a device of this identity derives from the epochs it holds.
    pub(crate) fn receiving(&self) -> Vec<ReceivingKey> {
        let key = |(id, secrets): (&EpochId, &EpochSecrets)| {
            EpochView::of(self.graph.op(id).unwrap().core()).unwrap().receiving_key(secrets)
        };
        self.held.iter().filter_map(key).collect()
    }

    pub(crate) fn epoch(&mut self) -> Option<EpochId> {
        self.graph.state().sending_epoch
    }
}

pub(crate) fn below(graph: &AuthorityGraph) -> Vec<(Did, &AuthorityGraph)> {
    let state = graph.ops().flat_map(|op| match &op.core().op {
        Op::Admit(admit) => match admit.controller.id() {
            ControllerId::Identity(did) => Some(did),
            ControllerId::Device(_) => None,
        },
        _ => None,
    });
    state.filter_map(|did| Some((did, graph.nested(&did)?))).collect()
}

pub(crate) fn bare(graph: &AuthorityGraph) -> AuthorityGraph {
    AuthorityGraph::new(graph.chain(), (**graph.ops().next().unwrap()).clone()).unwrap()
}
