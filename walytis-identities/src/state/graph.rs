//! The set of authority ops: taken in any order, checked once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use thiserror::Error;
use walytis_core::block::Block;
use walytis_core::fault::Fault;
use walytis_core::id::ChainId;

use super::bits::Bits;
use super::evaluate::{Evaluation, evaluate};
use super::fold::fold;
use super::kept::Kept;
use super::nested::{Named, NestedView};
use super::nodes::{Dealt, Node, Nodes, admitted};
use super::room::OPS_MAX;
use super::signatures::KeyRing;
use super::{IdentityState, Rule};
use crate::crypto::{DecodedKeys, DevicePublic, KeyId, SignatureInvalid};
use crate::id::{ControllerId, DeviceId, Did, EpochId, OpId};
use crate::op::{AUTH_PARENTS_MAX, Op, OpError, SignedOp};

/// Most ops held until their parents arrive. Chosen: exchanges send parents first, so few ever wait.
pub const PENDING_OPS_MAX: usize = 256;
/// Bytes of the ops held. Chosen: bounds memory.
const PENDING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// States of past heads kept. Chosen: records name few different heads at a time.
const STATES_CACHED: usize = 64;
/// Last states of everything kept, to begin from. Chosen: ops come that do not know of the last ones.
const FOLDED_KEPT: usize = 4;

/// Why an op cannot enter, for ever unless stated.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The bytes are no op.
    #[error(transparent)]
    Op(#[from] OpError),
    /// Made for another identity.
    #[error("the authority op belongs to another chain")]
    OtherChain,
    /// The author is no device that its past knows.
    #[error("the authority op is by a device that its past does not know")]
    UnknownDevice,
    /// A signature of the author or of the newcomer does not verify.
    #[error("the authority op is not signed as it must be")]
    Signature(#[from] SignatureInvalid),
    /// The newcomer's receiving key cannot be sealed to: nobody could deal it an epoch.
    #[error("the newcomer's receiving key is no X-Wing key")]
    ReceivingKey,
    /// Rule 1: the author had no right to it in its own past.
    #[error("the authority op is unauthorised: {rule}")]
    Unauthorised {
        /// What is missing.
        rule: Rule,
    },
    /// The genesis block carries no `Create` by its creator.
    #[error("the chain is no identity's: its genesis block carries no creation signed by its creator")]
    Genesis,
    /// Rule 9: there is no room for more ops of this device, or of anybody. Not for ever: removing who fills the graph
    /// makes room.
    #[error("there is no room for the op: an identity has at most {OPS_MAX} authority ops")]
    Full,
}

impl Refusal {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Full => Fault::Local,
            _ => Fault::Peer,
        }
    }
}

/// What became of an offered op.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It entered, and with it those that waited for it: all ids, parents first.
    New(Vec<OpId>),
    /// It is in already.
    Known,
    /// It waits for these; for none: for somebody to build on it, as there is no room for more of its device.
    Pending(Vec<OpId>),
}

/// The authority ops of one identity.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct AuthorityGraph {
    chain: ChainId,
    pub(super) nodes: Nodes,
    pub(super) pending: BTreeMap<OpId, SignedOp>,
    /// The block that it began with; none if it began with a bare `Create`.
    pub(super) genesis: Option<Block>,
    /// The identities above, the outermost first, where this one is looked at as a controller of another.
    pub(super) above: Vec<Did>,
    /// The identities below.
    pub(super) nested: BTreeMap<Did, Self>,
    /// What this identity amounted to for those above, by what they named.
    pub(super) views: BTreeMap<Bits, Arc<NestedView>>,
    pub(super) keys: KeyRing,
    pub(super) heads: BTreeSet<OpId>,
    pub(super) evaluated: Option<Arc<Evaluation>>,
    pub(super) kept: Kept,
    pub(super) current: Option<Arc<IdentityState>>,
    /// The last states of everything, the newest last.
    pub(super) folded: VecDeque<Arc<IdentityState>>,
    pub(super) states: BTreeMap<Vec<OpId>, Arc<IdentityState>>,
    /// Where [`Self::make_room`] looked last.
    pub(super) looked_at: usize,
    pub(super) thrown_out: Vec<OpId>,
    /// The model takes signatures for granted.
    #[cfg(test)]
    pub(super) unsigned: bool,
}

impl AuthorityGraph {
    /// Starts from the genesis block, which must carry a `Create` by the device that signed the block. The block itself
    /// was checked against the chain's id, so the DID certifies the founder.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn from_genesis(genesis: &Block) -> Result<Self, Refusal> {
        let content = genesis.inline().filter(|_| genesis.header().chain.is_none()).ok_or(Refusal::Genesis)?;
        let content = walytis_core::block::GenesisV1::decode(content).ok_or(Refusal::Genesis)?;
        let create = SignedOp::decode(&content.overlay)?;
        match &create.core().op {
            Op::Create(op) if op.device.block_key() == genesis.header().creator => {
                let mut graph = Self::new(genesis.chain(), create)?;
                graph.genesis = Some(genesis.clone());
                Ok(graph)
            }
            _ => Err(Refusal::Genesis),
        }
    }

    /// Starts from a `Create` whose chain the caller knows to be `chain`.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn new(chain: ChainId, create: SignedOp) -> Result<Self, Refusal> {
        let mut graph = Self {
            chain,
            nodes: Nodes::default(),
            pending: BTreeMap::new(),
            genesis: None,
            above: Vec::new(),
            nested: BTreeMap::new(),
            views: BTreeMap::new(),
            keys: KeyRing::default(),
            heads: BTreeSet::new(),
            evaluated: None,
            kept: Kept::default(),
            current: None,
            folded: VecDeque::new(),
            states: BTreeMap::new(),
            looked_at: 0,
            thrown_out: Vec::new(),
            #[cfg(test)]
            unsigned: false,
        };
        let core = create.core();
        let Op::Create(op) = &core.op else { return Err(Refusal::Genesis) };
        let founder = op.device.device_id();
        if core.device != founder || core.author != ControllerId::Device(founder) {
            return Err(Refusal::UnknownDevice);
        }
        if !op.device.receiving_is_valid() {
            return Err(Refusal::ReceivingKey);
        }
        create.verify(&graph.decoded(&op.device)?)?;
        let node = Node {
            depth: 0,
            rank: (0, create.id()),
            precedence: (0, create.id()),
            concludes: false,
            by_admin: true,
            past: Bits::default(),
            void_in_past: Arc::default(),
            dealt: Some(Dealt {
                fits: op.epoch.recipients().eq([core.author]),
                recipients: op.epoch.recipients().collect(),
                key: KeyId::of(&op.epoch.receiving),
                readers: [core.author].into(),
            }),
            demotes: false,
            admitted: admitted(&core.op),
            recoveries: 0,
            named: Named::default(),
            retires: BTreeSet::new(),
            op: Arc::new(create),
        };
        graph.push(node);
        Ok(graph)
    }

    /// Returns the identity.
    pub const fn did(&self) -> Did {
        Did(self.chain)
    }

    /// Returns the identity's chain.
    pub const fn chain(&self) -> ChainId {
        self.chain
    }

    /// Returns the heads, strictly ascending.
    pub fn heads(&self) -> Vec<OpId> {
        self.heads.iter().copied().collect()
    }

    /// Returns the heads to name where at most [`AUTH_PARENTS_MAX`] fit: those that count first, then those with the most
    /// behind them, so that nobody's forks crowd out what matters. Strictly ascending.
    pub fn named_heads(&self) -> Vec<OpId> {
        let mut heads = self.heads();
        if heads.len() > AUTH_PARENTS_MAX {
            let counts = |at: usize| !self.evaluated.as_ref().is_some_and(|found| found.is_void(at));
            let weight = |at: usize| (counts(at), self.nodes.at(at).past.len());
            heads.sort_by_cached_key(|id| std::cmp::Reverse(self.nodes.find(id).map(weight)));
            heads.truncate(AUTH_PARENTS_MAX);
            heads.sort_unstable();
        }
        heads
    }

    /// Returns how many ops are in.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Returns false: there is always the `Create`.
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Returns an op that is in.
    pub fn op(&self, id: &OpId) -> Option<&Arc<SignedOp>> {
        self.nodes.find(id).map(|at| &self.nodes.at(at).op)
    }

    /// Returns all ops, parents before children.
    pub fn ops(&self) -> impl Iterator<Item = &Arc<SignedOp>> {
        self.nodes.iter().map(|node| &node.op)
    }

    /// Returns the ops that somebody who has `known` and all before it lacks, parents before children. Unknown ids are
    /// passed over; and void ops without consequence, if there are many (rule 9).
    pub fn ops_since(&self, known: &[OpId]) -> Vec<Arc<SignedOp>> {
        let known: Vec<OpId> = known.iter().copied().filter(|id| self.nodes.find(id).is_some()).collect();
        let mut has = self.nodes.past_of(&known).unwrap_or_default();
        has.union(&self.untold());
        self.nodes.iter().enumerate().filter(|(at, _)| !has.has(*at)).map(|(_, node)| node.op.clone()).collect()
    }

    /// Returns the unknown parents of all that waits, strictly ascending.
    pub fn missing(&self) -> Vec<OpId> {
        let parents = self.pending.values().flat_map(|op| &op.core().auth_parents);
        let unknown = parents.filter(|id| self.nodes.find(id).is_none() && !self.pending.contains_key(id));
        unknown.copied().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Returns who has to get the secret of an epoch, ascending: the readers of its own past after its op. All other
    /// recipients, keepers, get the transport secret only. Nothing if the op is not in or starts no epoch.
    pub fn epoch_readers(&self, epoch: &EpochId) -> Option<&[ControllerId]> {
        Some(&self.nodes.at(self.nodes.find(epoch)?).dealt.as_ref()?.readers)
    }

    /// Returns the first keys of a device that some admitted op introduced, here or in an identity below.
    pub fn device_record(&self, device: &DeviceId) -> Option<&DevicePublic> {
        let own = self.nodes.records.get(device).and_then(|ops| ops.first());
        let own = own.and_then(|at| self.nodes.at(*at).device_of(&ControllerId::Device(*device)));
        let own = own.map(|device| &device.first);
        own.or_else(|| self.nested.values().find_map(|graph| graph.device_record(device)))
    }

    /// Offers an op. Signatures and the author's right in the op's own past are checked before it enters.
    ///
    /// # Errors
    /// [`Refusal`]. An op that waited and is refused when its parents come is dropped silently.
    pub fn insert(&mut self, op: SignedOp) -> Result<Inserted, Refusal> {
        let id = op.id();
        if self.nodes.find(&id).is_some() {
            return Ok(Inserted::Known);
        }
        if op.core().chain != *self.chain.digest() {
            return Err(Refusal::OtherChain);
        }
        // It may have waited for room.
        self.pending.remove(&id);
        let mut missing = self.unknown_parents(&op);
        if missing.is_empty()
            && let Err(unknown) = self.naming(op.core())
        {
            self.check_before_names(&op)?;
            missing = unknown;
        }
        let has_share = !missing.is_empty() || self.has_share(&op);
        if !has_share {
            self.check_before_names(&op)?;
        }
        if !missing.is_empty() || !has_share {
            self.hold(op);
            return Ok(Inserted::Pending(missing));
        }
        self.admit(op)?;
        let mut entered = vec![id];
        entered.extend(self.admit_ready());
        Ok(Inserted::New(entered))
    }

    /// Admits what waited and need not wait any more. Each round admits or drops at least one, or ends.
    pub(crate) fn admit_ready(&mut self) -> Vec<OpId> {
        let mut entered = Vec::new();
        while let Some(ready) = self.next_ready() {
            let ready_id = ready.id();
            if self.admit(ready).is_ok() {
                entered.push(ready_id);
            }
        }
        self.drop_without_right();
        entered
    }

    /// Returns the state of everything that is in.
    pub fn state(&mut self) -> Arc<IdentityState> {
        if let Some(state) = &self.current {
            return state.clone();
        }
        let evaluation = self.evaluation();
        let nested = self.nested_views(&evaluation.named);
        let is_base =
            |state: &&Arc<IdentityState>| state.evaluation.is_base_of(&self.nodes, &evaluation.set, &evaluation.named);
        let base = self.folded.iter().rev().find(is_base).cloned();
        let state = Arc::new(fold(&self.nodes, base.as_deref(), evaluation, &nested));
        if self.folded.len() >= FOLDED_KEPT {
            self.folded.pop_front();
        }
        self.folded.push_back(state.clone());
        self.current = Some(state.clone());
        state
    }

    /// Returns the outcome for all ops that are in.
    pub(super) fn evaluation(&mut self) -> Arc<Evaluation> {
        if let Some(evaluation) = &self.evaluated {
            return evaluation.clone();
        }
        let evaluation = self.evaluated(self.everything(), self.named_at(&self.heads));
        self.evaluated = Some(evaluation.clone());
        evaluation
    }

    /// Returns the set of all ops that are in.
    pub(super) fn everything(&self) -> Bits {
        Bits::below(self.nodes.len())
    }

    /// Decides which ops of a set are void; `named`: all that the set names.
    pub(super) fn evaluated(&mut self, set: Bits, named: Named) -> Arc<Evaluation> {
        let base = self.kept.base_of(&self.nodes, &set, &named).unwrap_or_default();
        if base.set == set {
            return base;
        }
        let nested = self.nested_voids(&base.set, &set, &named);
        let evaluation = Arc::new(evaluate(&self.nodes, &base, set, named, &nested));
        self.kept.keep(&evaluation);
        evaluation
    }

    /// Returns the state as of some heads: of those ops and all before them.
    ///
    /// # Errors
    /// The heads that are not here yet.
    pub fn state_at(&mut self, heads: &[OpId]) -> Result<Arc<IdentityState>, Vec<OpId>> {
        if let Some(state) = self.states.get(heads) {
            return Ok(state.clone());
        }
        let past = self.nodes.past_of(heads)?;
        if past.len() == self.nodes.len() {
            return Ok(self.state());
        }
        let state = self.folded_of(past, self.named_at(heads));
        if self.states.len() >= STATES_CACHED {
            self.states.pop_first();
        }
        self.states.insert(heads.to_vec(), state.clone());
        Ok(state)
    }

    /// Returns the state of a set that is not everything; `named`: all that it names.
    pub(super) fn folded_of(&mut self, set: Bits, named: Named) -> Arc<IdentityState> {
        let evaluation = self.evaluated(set, named);
        let nested = self.nested_views(&evaluation.named);
        Arc::new(fold(&self.nodes, None, evaluation, &nested))
    }

    pub(super) const fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    pub(super) fn unknown_parents(&self, op: &SignedOp) -> Vec<OpId> {
        op.core().auth_parents.iter().copied().filter(|id| self.nodes.find(id).is_none()).collect()
    }

    /// Holds an op; when there is no room, the one with the highest id goes: it comes again with the next exchange.
    fn hold(&mut self, op: SignedOp) {
        self.pending.insert(op.id(), op);
        let bytes = |op: &SignedOp| op.core_bytes().len();
        let mut held: usize = self.pending.values().map(bytes).sum();
        while self.pending.len() > PENDING_OPS_MAX || held > PENDING_BYTES_MAX {
            // What waits for room rather than for parents goes first.
            let crowding = self.pending.values().rev().find(|op| self.is_crowding(op)).map(SignedOp::id);
            match crowding.and_then(|id| self.pending.remove(&id)).or_else(|| Some(self.pending.pop_last()?.1)) {
                Some(dropped) => held -= bytes(&dropped),
                None => return,
            }
        }
    }

    fn next_ready(&mut self) -> Option<SignedOp> {
        let is_ready = |op: &&SignedOp| self.unknown_parents(op).is_empty() && self.naming(op.core()).is_ok();
        let ready: Vec<OpId> = self.pending.values().filter(is_ready).map(SignedOp::id).collect();
        for id in ready {
            let op = self.pending.remove(&id)?;
            if self.has_share(&op) {
                return Some(op);
            }
            self.pending.insert(id, op);
        }
        None
    }

    pub(super) fn decoded(&mut self, public: &DevicePublic) -> Result<DecodedKeys, SignatureInvalid> {
        self.keys.first(public, &self.nodes)
    }
}
