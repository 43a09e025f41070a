//! A whole block graph in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::{
    AntichainCheck, CanonicalKey, Difference, DifferencePage, GraphNode, Heads, Hold, PendingBlock, PendingBlocks,
    PendingLimits, check_generation,
};
use crate::block::{Block, Rule, RuleViolation};
use crate::id::{BlockId, ChainId, PeerId};

/// What an insertion did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inserted {
    /// Blocks that were admitted, parents first: the block itself and what waited for it.
    pub admitted: Vec<BlockId>,
    /// Blocks that were refused by a rule that needs the graph.
    pub rejected: Vec<RuleViolation>,
    /// Pending blocks that were dropped to make room.
    pub dropped: Vec<BlockId>,
}

/// A block graph in memory: the parts of this module put together, for tests (as the oracle beside a stored chain) and
/// for users who need no store. Admits whatever is valid.
#[derive(Debug)]
pub struct BlockGraph {
    chain: ChainId,
    nodes: BTreeMap<BlockId, GraphNode>,
    canonical: BTreeSet<CanonicalKey>,
    arrival: Vec<BlockId>,
    heads: Heads,
    pending: PendingBlocks,
}

impl BlockGraph {
    /// Returns an empty graph of one chain.
    pub fn new(chain: ChainId, limits: PendingLimits) -> Self {
        Self {
            chain,
            nodes: BTreeMap::new(),
            canonical: BTreeSet::new(),
            arrival: Vec::new(),
            heads: Heads::default(),
            pending: PendingBlocks::new(limits),
        }
    }

    /// Inserts a block in any order; harmless when it is known. Its cost does not depend on the length of the chain.
    ///
    /// # Errors
    /// [`RuleViolation`] with [`Rule::Chain`] when the block belongs to another chain. Later violations stand in
    /// [`Inserted::rejected`].
    pub fn insert(&mut self, block: Block, from: Option<PeerId>, now: Duration) -> Result<Inserted, RuleViolation> {
        if block.chain() != self.chain {
            return Err(RuleViolation { rule: Rule::Chain, block: block.id() });
        }
        let mut inserted = Inserted::default();
        let mut ready = VecDeque::from([PendingBlock { block, from, since: now }]);
        while let Some(next) = ready.pop_front() {
            let id = next.block.id();
            if self.nodes.contains_key(&id) {
                continue;
            }
            let missing: BTreeSet<_> =
                next.block.header().parents.iter().filter(|parent| !self.nodes.contains_key(parent)).copied().collect();
            if !missing.is_empty() {
                if let Hold::Held { dropped } = self.pending.insert(next, missing) {
                    inserted.dropped.extend(dropped);
                }
                continue;
            }
            match self.check(&next.block) {
                Ok(()) => {
                    self.admit(&next.block);
                    inserted.admitted.push(id);
                    ready.extend(self.pending.resolve(&id));
                }
                Err(violation) => {
                    self.pending.discard(&id);
                    inserted.rejected.push(violation);
                }
            }
        }
        Ok(inserted)
    }

    /// Returns the node of an admitted block.
    pub fn node(&self, id: &BlockId) -> Option<&GraphNode> {
        self.nodes.get(id)
    }

    /// Returns the heads.
    pub const fn heads(&self) -> &Heads {
        &self.heads
    }

    /// Returns the pending blocks.
    pub const fn pending(&self) -> &PendingBlocks {
        &self.pending
    }

    /// Returns the blocks in canonical order: the same on every replica that holds the same blocks.
    pub fn canonical(&self) -> impl DoubleEndedIterator<Item = CanonicalKey> + '_ {
        self.canonical.iter().copied()
    }

    /// Returns the blocks in the order they were admitted here, parents first.
    pub fn arrival(&self) -> &[BlockId] {
        &self.arrival
    }

    /// Returns how many blocks are admitted.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Says whether no block is admitted.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Says whether `ancestor` is an ancestor of `block`; false when they are the same or unknown. Walks only between
    /// their generations.
    pub fn is_ancestor(&self, ancestor: &BlockId, block: &BlockId) -> bool {
        let Some(lowest) = self.nodes.get(ancestor).map(|node| node.generation) else { return false };
        let mut todo = vec![*block];
        let mut seen = BTreeSet::new();
        while let Some(node) = todo.pop().and_then(|id| self.nodes.get(&id)) {
            if node.generation <= lowest {
                continue;
            }
            if node.parents.contains(ancestor) {
                return true;
            }
            todo.extend(node.parents.iter().filter(|parent| seen.insert(**parent)));
        }
        false
    }

    /// Returns the blocks at or below `want` that are not at or below `have`, see [`Difference`]. Unknown ids are
    /// ignored.
    pub fn difference(&self, want: &[BlockId], have: &[BlockId], limit: usize) -> DifferencePage {
        let known = |ids: &[BlockId]| ids.iter().filter(|id| self.nodes.contains_key(id)).copied().collect::<Vec<_>>();
        let mut walk = Difference::new(known(want), known(have), limit);
        loop {
            if let Some(page) = walk.page() {
                return page;
            }
            for id in walk.needs() {
                if let Some(node) = self.nodes.get(&id) {
                    walk.supply(&id, node);
                }
            }
        }
    }

    fn check(&self, block: &Block) -> Result<(), RuleViolation> {
        let ids = &block.header().parents;
        let parents: BTreeMap<_, _> =
            ids.iter().filter_map(|id| self.nodes.get(id).map(|node| (*id, node.clone()))).collect();
        check_generation(block, parents.values().map(|node| node.generation))?;
        let mut check = AntichainCheck::new(&parents);
        loop {
            if let Some(outcome) = check.outcome() {
                return outcome.into_result(block.id());
            }
            for id in check.needs() {
                if let Some(node) = self.nodes.get(&id) {
                    check.supply(&id, node);
                }
            }
        }
    }

    fn admit(&mut self, block: &Block) {
        let (id, node) = (block.id(), GraphNode::of(block));
        self.heads.insert(id, node.generation, &node.parents);
        self.canonical.insert(CanonicalKey { generation: node.generation, id });
        self.arrival.push(id);
        self.nodes.insert(id, node);
    }
}
