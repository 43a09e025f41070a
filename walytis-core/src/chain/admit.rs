//! Which verified blocks enter, which wait, which are refused.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use super::core::{Inner, Node, Offered};
use super::schema::Tag;
use super::stage::{Entry, Stage, Tip};
use crate::access::Admission;
use crate::block::{Block, ContentRef, Rule, RuleViolation, UnverifiedBlock};
use crate::graph::{
    Antichain, AntichainCheck, ChosenParents, GraphNode, ParentChoice, PendingBlock, PendingBlocks, PendingLimits,
    WaitingBlock, WaitingBlocks, check_generation,
};
use crate::id::{BlockId, PeerId};
use crate::ledger::LedgerError;
use crate::store::{BlobKey, BlobSpace, BlobStatus, StoreError};

/// Unknown ancestors named at once. Chosen: one request's worth.
const MISSING_MAX: usize = 1_024;
/// How long a block waits for an unknown ancestor. Chosen: long enough for a peer to come back from a restart; after it
/// the block can be asked for again.
const PENDING_AGE_MAX: Duration = Duration::from_secs(15 * 60);

/// Blocks that are not admitted yet, and the decision about every block that comes.
#[derive(Debug)]
pub(super) struct Admissions {
    pub(super) pending: PendingBlocks,
    /// Blocks whose rules hold and whose ancestors are admitted or waiting; the policy says "not yet".
    waiting: WaitingBlocks,
    /// What the blocks at hand name and the store does not have; while they are dealt with nothing else is committed.
    absent: BTreeSet<BlockId>,
    started: Instant,
}

/// Why the graph does not take a block.
pub(super) enum Misplaced {
    Rule(RuleViolation),
    Ledger(LedgerError),
}

impl From<RuleViolation> for Misplaced {
    fn from(violation: RuleViolation) -> Self {
        Self::Rule(violation)
    }
}

impl From<LedgerError> for Misplaced {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

impl Admissions {
    pub(super) fn new() -> Self {
        Self {
            pending: PendingBlocks::new(PendingLimits::default()),
            waiting: WaitingBlocks::new(PendingLimits::default()),
            absent: BTreeSet::new(),
            started: Instant::now(),
        }
    }

    /// Drops blocks whose ancestors did not come for long; says whether there were any.
    pub(super) fn expire(&mut self) -> bool {
        !self.pending.expire(self.started.elapsed(), PENDING_AGE_MAX).is_empty()
    }

    /// Returns unknown ancestors to ask for, ascending, as many as one request carries.
    pub(super) fn missing(&self) -> Vec<BlockId> {
        self.pending.missing().iter().take(MISSING_MAX).copied().collect()
    }

    pub(super) fn held(&self) -> usize {
        self.pending.len() + self.waiting.len()
    }

    /// Decides about verified blocks and stages those that enter. What became of blocks before a failure stands in
    /// `offered` all the same: they are staged and will be committed.
    pub(super) async fn offer(
        &mut self,
        core: &Inner,
        tip: &mut Tip,
        stage: &mut Stage,
        (blocks, from): (Vec<Block>, Option<&PeerId>),
        offered: &mut Offered,
    ) -> Result<(), LedgerError> {
        self.absent = absent(core, &blocks).await?;
        let decided = self.offer_known(core, tip, stage, (blocks, from), offered).await;
        self.absent.clear();
        decided
    }

    /// The same, once everything that is stored of the blocks and their parents is in memory.
    async fn offer_known(
        &mut self,
        core: &Inner,
        tip: &mut Tip,
        stage: &mut Stage,
        (blocks, from): (Vec<Block>, Option<&PeerId>),
        offered: &mut Offered,
    ) -> Result<(), LedgerError> {
        let mut queue: VecDeque<WaitingBlock> =
            blocks.into_iter().map(|block| WaitingBlock { block, from: from.cloned() }).collect();
        while let Some(offer) = queue.pop_front() {
            let id = offer.block.id();
            if self.waiting.contains(&id) || self.pending.contains(&id) {
                offered.pending.push(id);
                continue;
            }
            if stage.node(&id).is_some() || self.node(core, stage, &id).await?.is_some() {
                offered.known.push(id);
                continue;
            }
            let missing = self.unknown_parents(core, stage, &offer.block).await?;
            if !missing.is_empty() {
                let WaitingBlock { block, from } = offer;
                // A slice of a large frame would keep the whole frame in memory.
                if let Some(block) = copy(&block) {
                    let since = self.started.elapsed();
                    self.pending.insert(PendingBlock { block, from, since }, missing);
                    offered.pending.push(id);
                }
                continue;
            }
            match self.place(core, tip, stage, offer, offered).await {
                Ok(()) => {}
                Err(Misplaced::Rule(violation)) => {
                    offered.rejected.push(violation);
                    // What descends from a refused block can never enter.
                    self.pending.discard(&id);
                }
                Err(Misplaced::Ledger(error)) => return Err(error),
            }
            // One that was dropped at once to make room is an unknown ancestor as before.
            if stage.node(&id).is_some() || self.waiting.contains(&id) {
                let released = self.pending.resolve(&id).into_iter();
                queue.extend(released.map(|PendingBlock { block, from, .. }| WaitingBlock { block, from }));
            }
        }
        offered.missing = self.missing();
        Ok(())
    }

    /// Judges the waiting blocks again, parents first.
    pub(super) async fn judge_again(
        &mut self,
        core: &Inner,
        tip: &mut Tip,
        stage: &mut Stage,
    ) -> Result<Offered, LedgerError> {
        let mut offered = Offered::default();
        for id in self.waiting.canonical() {
            let Some(block) = self.waiting.get(&id).cloned() else { continue };
            match core.policy.judge(&block).await {
                Admission::Wait => {}
                Admission::Admit => self.admit(core, tip, stage, &block, &mut offered).await?,
                Admission::Refuse(rule) => {
                    debug!(chain = ?core.id, block = ?id, rule, "policy refuses a waiting block");
                    self.waiting.discard(&id);
                    self.pending.discard(&id);
                    offered.rejected.push(RuleViolation { rule: Rule::Policy, block: id });
                }
            }
        }
        Ok(offered)
    }

    /// Stages an admissible block, and before it its waiting ancestors as skeletons, parents first.
    async fn admit(
        &mut self,
        core: &Inner,
        tip: &mut Tip,
        stage: &mut Stage,
        block: &Block,
        offered: &mut Offered,
    ) -> Result<(), LedgerError> {
        let entry = entry(core, block).await?;
        self.waiting.remove(&block.id());
        for id in self.waiting.closure(&block.header().parents) {
            if let Some(held) = self.waiting.remove(&id) {
                stage.insert(&core.table.keys, tip, &held.block, Entry::Skeleton);
                offered.admitted.push(id);
            }
        }
        stage.insert(&core.table.keys, tip, block, entry);
        offered.admitted.push(block.id());
        Ok(())
    }

    /// Checks the rules of the graph, asks the policy, stages or holds the block.
    async fn place(
        &mut self,
        core: &Inner,
        tip: &mut Tip,
        stage: &mut Stage,
        offer: WaitingBlock,
        offered: &mut Offered,
    ) -> Result<(), Misplaced> {
        let id = offer.block.id();
        self.check(core, stage, &offer.block).await?;
        match core.policy.judge(&offer.block).await {
            Admission::Admit => Ok(self.admit(core, tip, stage, &offer.block, offered).await?),
            Admission::Wait => {
                if let Some(block) = copy(&offer.block) {
                    let dropped = self.waiting.insert(WaitingBlock { block, from: offer.from });
                    debug!(chain = ?core.id, block = ?id, dropped = dropped.len(), "a block waits for the policy");
                }
                offered.pending.push(id);
                Ok(())
            }
            Admission::Refuse(rule) => {
                debug!(chain = ?core.id, block = ?id, rule, "policy refuses a block");
                Err(RuleViolation { rule: Rule::Policy, block: id }.into())
            }
        }
    }

    /// Checks generation and antichain of a block whose parents are all known.
    async fn check(&self, core: &Inner, stage: &Stage, block: &Block) -> Result<(), Misplaced> {
        let header = block.header();
        if header.chain.is_none() {
            // A genesis block of this chain is this chain's and known; any other failed the chain rule.
            return Err(RuleViolation { rule: Rule::Chain, block: block.id() }.into());
        }
        let parents = self.graph_nodes(core, stage, &header.parents).await?;
        check_generation(block, parents.values().map(|node| node.generation))?;
        self.check_antichain(core, stage, &parents).await?.into_result(block.id())?;
        Ok(())
    }

    /// Returns those of `ids` that are known.
    pub(super) async fn graph_nodes(
        &self,
        core: &Inner,
        stage: &Stage,
        ids: &[BlockId],
    ) -> Result<BTreeMap<BlockId, GraphNode>, LedgerError> {
        let mut nodes = BTreeMap::new();
        for id in ids {
            if let Some(node) = self.node(core, stage, id).await? {
                nodes.insert(*id, node.graph());
            }
        }
        Ok(nodes)
    }

    /// Checks rule V-BLOCK-15.
    async fn check_antichain(
        &self,
        core: &Inner,
        stage: &Stage,
        parents: &BTreeMap<BlockId, GraphNode>,
    ) -> Result<Antichain, LedgerError> {
        let mut check = AntichainCheck::new(parents);
        loop {
            if let Some(outcome) = check.outcome() {
                return Ok(outcome);
            }
            for id in check.needs() {
                check.supply(&id, &self.ancestor(core, stage, &id).await?);
            }
        }
    }

    /// Returns the node of an ancestor of what is here; that it is not here itself is damage.
    async fn ancestor(&self, core: &Inner, stage: &Stage, id: &BlockId) -> Result<GraphNode, LedgerError> {
        match self.node(core, stage, id).await? {
            Some(node) => Ok(node.graph()),
            None => {
                let key = core.table.keys.of_block(Tag::Node, id);
                core.table.note(Err(StoreError::corrupt(&key, "an ancestor is not here")))
            }
        }
    }

    /// Chooses parents among heads, see [`ParentChoice`].
    pub(super) async fn choose_parents(
        &self,
        core: &Inner,
        stage: &Stage,
        heads: &BTreeMap<BlockId, GraphNode>,
    ) -> Result<ChosenParents, LedgerError> {
        let mut choice = ParentChoice::new(heads);
        loop {
            if let Some(chosen) = choice.outcome() {
                return Ok(chosen);
            }
            for id in choice.needs() {
                choice.supply(&id, &self.ancestor(core, stage, &id).await?);
            }
        }
    }

    async fn unknown_parents(
        &self,
        core: &Inner,
        stage: &Stage,
        block: &Block,
    ) -> Result<BTreeSet<BlockId>, LedgerError> {
        let mut unknown = BTreeSet::new();
        for parent in &block.header().parents {
            if self.node(core, stage, parent).await?.is_none() {
                unknown.insert(*parent);
            }
        }
        Ok(unknown)
    }

    /// Returns the node of a block that is staged, waiting or admitted.
    async fn node(&self, core: &Inner, stage: &Stage, id: &BlockId) -> Result<Option<Node>, LedgerError> {
        if let Some(node) = stage.node(id) {
            return Ok(Some(node.clone()));
        }
        if let Some(block) = self.waiting.get(id) {
            return Ok(Some(Node::of(block.header(), 0)));
        }
        if self.absent.contains(id) {
            return Ok(None);
        }
        Ok(core.table.nodes(std::slice::from_ref(id)).await?.pop().flatten())
    }
}

/// Reads the nodes of blocks and their parents into memory, in one go; returns those that are not stored.
async fn absent(core: &Inner, blocks: &[Block]) -> Result<BTreeSet<BlockId>, LedgerError> {
    let named = blocks.iter().flat_map(|block| block.header().parents.iter().copied().chain([block.id()]));
    let named: Vec<_> = named.collect::<BTreeSet<_>>().into_iter().collect();
    let nodes = core.table.nodes(&named).await?;
    Ok(named.into_iter().zip(nodes).filter(|(_, node)| node.is_none()).map(|(id, _)| id).collect())
}

/// Says how a peer's block enters.
pub(super) async fn entry(core: &Inner, block: &Block) -> Result<Entry, LedgerError> {
    let ContentRef::Blob { root, .. } = &block.header().content else { return Ok(Entry::PeerComplete) };
    let key = BlobKey { space: BlobSpace::Blob, chain: core.id, digest: *root.digest() };
    let complete = matches!(core.blobs.status(key).await?, BlobStatus::Complete { .. });
    Ok(if complete { Entry::PeerComplete } else { Entry::Peer })
}

/// Returns the block with bytes of its own.
fn copy(block: &Block) -> Option<Block> {
    UnverifiedBlock::decode(bytes::Bytes::copy_from_slice(block.file())).ok().map(UnverifiedBlock::trust_stored)
}
