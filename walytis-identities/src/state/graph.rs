//! The set of authority ops: taken in any order, checked once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use thiserror::Error;
use walytis_core::block::Block;
use walytis_core::fault::Fault;
use walytis_core::id::ChainId;

use super::bits::Bits;
use super::evaluate::{Evaluation, evaluate};
use super::fold::fold;
use super::nested::{Named, NestedView, slots_are_sound};
use super::nodes::{Dealt, Node, Nodes, Order};
use super::signatures::KeyRing;
use super::view::View;
use super::{IdentityState, Rule, rights};
use crate::crypto::{DecodedKeys, DevicePublic, KeyId, Label, SignatureInvalid};
use crate::id::{ControllerId, DeviceId, Did, EpochId, OpId, Role};
use crate::op::{AUTH_PARENTS_MAX, Op, OpError, SignedOp};

/// Most ops of one identity. Chosen: some years of a large group; the ancestor sets then take 8 MiB.
pub const OPS_MAX: usize = 8_192;
/// Most ops held until their parents arrive. Chosen: exchanges send parents first, so few ever wait.
pub const PENDING_OPS_MAX: usize = 256;
/// Bytes of the ops held. Chosen: bounds memory.
const PENDING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// States of past heads kept. Chosen: records name few different heads at a time.
const STATES_CACHED: usize = 64;

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
    /// [`OPS_MAX`] reached. Not for ever: a later version may hold more.
    #[error("the identity has {OPS_MAX} authority ops, which is the most this version holds")]
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
    /// It waits for these.
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
    heads: BTreeSet<OpId>,
    evaluated: Option<Arc<Evaluation>>,
    current: Option<Arc<IdentityState>>,
    states: BTreeMap<Vec<OpId>, Arc<IdentityState>>,
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
            current: None,
            states: BTreeMap::new(),
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
        graph.decoded(&op.device)?.verify(Label::Op, create.core_bytes(), create.signature())?;
        let node = Node {
            depth: 0,
            rank: (0, create.id()),
            precedence: (0, create.id()),
            by_admin: true,
            past: Bits::default(),
            void_in_past: Vec::new(),
            dealt: Some(Dealt { fits: op.epoch.recipients().eq([core.author]), readers: [core.author].into() }),
            demotes: false,
            recoveries: 0,
            named: Named::default(),
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
    /// passed over.
    pub fn ops_since(&self, known: &[OpId]) -> Vec<Arc<SignedOp>> {
        let known: Vec<OpId> = known.iter().copied().filter(|id| self.nodes.find(id).is_some()).collect();
        let has = self.nodes.past_of(&known).unwrap_or_default();
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
        let mut missing = self.unknown_parents(&op);
        if missing.is_empty()
            && let Err(unknown) = self.naming(op.core())
        {
            self.check_before_names(&op)?;
            missing = unknown;
        }
        if !missing.is_empty() {
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
        let state = Arc::new(fold(&self.nodes, evaluation, &nested));
        self.current = Some(state.clone());
        state
    }

    fn evaluation(&mut self) -> Arc<Evaluation> {
        if let Some(evaluation) = &self.evaluated {
            return evaluation.clone();
        }
        let (all, named) = (self.everything(), self.named_at(&self.heads));
        let evaluation = Arc::new(self.evaluated(all, named));
        self.evaluated = Some(evaluation.clone());
        evaluation
    }

    /// Returns the set of all ops that are in.
    pub(super) fn everything(&self) -> Bits {
        let mut all = Bits::default();
        (0..self.nodes.len()).for_each(|at| all.insert(at));
        all
    }

    /// Decides which ops of a set are void; `named`: all that the set names.
    pub(super) fn evaluated(&mut self, set: Bits, named: Named) -> Evaluation {
        let nested = self.nested_voids(&set, &named);
        evaluate(&self.nodes, set, named, &nested)
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
        let named = self.named_at(heads);
        let evaluation = Arc::new(self.evaluated(past, named));
        let nested = self.nested_views(&evaluation.named);
        let state = Arc::new(fold(&self.nodes, evaluation, &nested));
        if self.states.len() >= STATES_CACHED {
            self.states.pop_first();
        }
        self.states.insert(heads.to_vec(), state.clone());
        Ok(state)
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
            match self.pending.pop_last() {
                Some((_, dropped)) => held -= bytes(&dropped),
                None => return,
            }
        }
    }

    fn next_ready(&mut self) -> Option<SignedOp> {
        let is_ready = |op: &&SignedOp| self.unknown_parents(op).is_empty() && self.naming(op.core()).is_ok();
        let ready = self.pending.values().find(is_ready).map(SignedOp::id)?;
        self.pending.remove(&ready)
    }

    fn admit(&mut self, op: SignedOp) -> Result<(), Refusal> {
        if self.nodes.len() >= OPS_MAX {
            return Err(Refusal::Full);
        }
        let core = op.core();
        let past = self.nodes.past_of(&core.auth_parents).map_err(|_| Refusal::UnknownDevice)?;
        let named = self.naming(core).map_err(|_| Refusal::UnknownDevice)?;
        self.check_signatures(&op, &past, &named)?;
        let whole = past.len() == self.nodes.len();
        let evaluation = match self.states.get(&core.auth_parents) {
            _ if whole => self.evaluation(),
            Some(state) => state.evaluation.clone(),
            None => Arc::new(self.evaluated(past.clone(), self.named_at(&core.auth_parents))),
        };
        let nested = self.nested_views(&named);
        let view = evaluation.view(&self.nodes);
        rights::check(core, &view, true).map_err(|rule| Refusal::Unauthorised { rule })?;
        self.check_tree(&op, &named)?;
        let rank = match core.op {
            // Needs no right in its past.
            Op::Recover(_) => Some((0, op.id())),
            _ => view.standing(&core.author).map(|standing| standing.rank),
        };
        let rank = rank.ok_or(Refusal::Unauthorised { rule: Rule::NoController })?;
        let parents = core.auth_parents.iter().filter_map(|id| self.nodes.find(id));
        let node = Node {
            depth: 1 + parents.map(|at| self.nodes.at(at).depth).max().unwrap_or(0),
            rank,
            precedence: precedence(&core.op, rank, &view),
            by_admin: view.role(&core.author) == Some(Role::Admin),
            void_in_past: past.iter().filter(|at| evaluation.void.get(*at).is_some_and(Option::is_some)).collect(),
            dealt: dealt(&core.op, &view, &nested),
            demotes: demotes(&core.op, &view),
            recoveries: recoveries(&core.op, &view),
            past,
            named,
            op: Arc::new(op),
        };
        self.push(node);
        Ok(())
    }

    pub(super) fn decoded(&mut self, public: &DevicePublic) -> Result<DecodedKeys, SignatureInvalid> {
        self.keys.first(public, &self.nodes)
    }

    fn push(&mut self, node: Node) {
        for parent in &node.op.core().auth_parents {
            self.heads.remove(parent);
        }
        self.heads.insert(node.id());
        self.keys.note(node.id(), node.op.core());
        self.current = None;
        let (at, follows_all) = (self.nodes.len(), node.past.len() == self.nodes.len());
        let evaluated = self.evaluated.take().filter(|_| follows_all);
        self.evaluated =
            evaluated.and_then(|mut evaluation| Arc::make_mut(&mut evaluation).append(at, &node).then_some(evaluation));
        self.nodes.push(node);
    }
}

/// Returns to whom an op's epoch had to be dealt: to exactly the controllers of its own past after it, of whom those that
/// read get the epoch secret.
fn dealt(op: &Op, past: &View<'_>, nested: &BTreeMap<Did, Arc<NestedView>>) -> Option<Dealt> {
    let epoch = op.epoch()?;
    let mut after: BTreeMap<ControllerId, Role> =
        past.controllers().into_iter().map(|(id, standing)| (id, standing.role)).collect();
    match op {
        Op::Admit(admit) => {
            after.insert(admit.controller.id(), admit.role);
        }
        Op::Remove(remove) => remove.targets.iter().for_each(|target| {
            after.remove(target);
        }),
        Op::Recover(recover) => {
            after = recover.controllers.iter().map(|(record, role)| (record.id(), *role)).collect();
        }
        _ => {}
    }
    let readers = after.iter().filter(|(_, role)| role.reads()).map(|(id, _)| *id).collect();
    let is_sound = |did: &Did, key: &KeyId| nested.get(did).is_some_and(|view| view.is_sound(key));
    let fits = epoch.recipients().eq(after.into_keys()) && slots_are_sound(op, is_sound);
    Some(Dealt { fits, readers })
}

/// Returns how many recoveries a `Recover` completes: one more than its past knows.
fn recoveries(op: &Op, past: &View<'_>) -> u32 {
    match op {
        Op::Recover(_) => 1 + past.recovered().map_or(0, |at| past.nodes.at(at).recoveries),
        _ => 0,
    }
}

/// Returns when a removal comes to its turn: that of those who left as early as what they might say against it.
fn precedence(op: &Op, rank: Order, past: &View<'_>) -> Order {
    let Op::Remove(remove) = op else { return rank };
    let leaving = past.leaving();
    let left = remove.targets.iter().map(|target| leaving.get(target).map(|leave| past.nodes.at(*leave).rank));
    let seniors: Option<Vec<Order>> = left.collect();
    seniors.and_then(|ranks| ranks.into_iter().min()).map_or(rank, |senior| senior.min(rank))
}

fn demotes(op: &Op, past: &View<'_>) -> bool {
    match op {
        Op::SetRole(op) => past.role(&op.controller).is_some_and(|had| op.role.is_below(had)),
        _ => false,
    }
}
