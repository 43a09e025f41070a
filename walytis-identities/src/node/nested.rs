//! Ops of identities that control an identity: they come and go with the ops that name them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use walytis_core::block::{Block, UnverifiedBlock};
use walytis_core::store::Batch;

use super::rows::Rows;
use super::shared::Known;
use crate::id::Did;
use crate::op::SignedOp;
use crate::state::{AuthorityGraph, Inserted, NESTED_MAX, Refusal, Travelling};

/// Genesis blocks in one exchange: the identity's own and those of identities below.
pub(super) const GENESIS_MAX: usize = 1 + NESTED_MAX;

/// Genesis blocks that somebody sent, verified, by the identity each would begin.
pub(super) type Candidates = BTreeMap<Did, Block>;

/// What became of an op.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// What entered, of the identity and of those below, to be stored in this order.
    pub(super) ops: Vec<Arc<SignedOp>>,
    /// Genesis blocks of identities below that began with it.
    pub(super) genesis: Vec<Block>,
    /// How many of them are the identity's own.
    pub(super) own: usize,
    /// Its parents are not here.
    pub(super) is_early: bool,
}

impl Taken {
    /// Puts everything into a batch: what an op names stands before it. Deletes what the graph threw out for it.
    pub(super) fn store(&self, rows: &mut Rows, graph: &mut AuthorityGraph, batch: &mut Batch) {
        let chain = graph.chain();
        let keys = rows.keys(&chain);
        rows.delete_thrown_out(graph, batch);
        for genesis in &self.genesis {
            batch.put(keys.nested_genesis(&genesis.chain()), genesis.file().clone());
        }
        for op in &self.ops {
            rows.put(&chain, op, batch);
        }
    }
}

/// Verifies genesis blocks; what is none is passed over.
pub(super) fn candidates(files: Vec<Bytes>) -> Candidates {
    let verified = files.into_iter().take(GENESIS_MAX).filter_map(|file| {
        let block = UnverifiedBlock::decode(file).ok().filter(|block| block.header().chain.is_none())?;
        let chain = walytis_core::id::ChainId(block.id());
        block.verify(&chain).ok()
    });
    verified.map(|block| (Did(block.chain()), block)).collect()
}

/// Offers an op of the identity, or of one below it, to a graph.
pub(super) fn offer(graph: &mut AuthorityGraph, op: SignedOp, candidates: &Candidates) -> Result<Taken, Refusal> {
    let mut taken = Taken::default();
    if graph.op(&op.id()).is_some() || graph.is_below(&op.id()) {
        return Ok(taken);
    }
    if op.core().chain == *graph.chain().digest() {
        let parents = op.core().auth_parents.clone();
        match graph.insert(op)? {
            Inserted::New(ids) => {
                taken.own = ids.len();
                taken.ops.extend(ids.iter().filter_map(|id| graph.op(id).cloned()));
            }
            Inserted::Pending(_) => taken.is_early = parents.iter().any(|parent| graph.op(parent).is_none()),
            Inserted::Known => {}
        }
    } else {
        let entered = graph.insert_nested(op)?;
        taken.own = entered.entered.len();
        taken.ops.extend(entered.nested);
        taken.ops.extend(entered.entered.iter().filter_map(|id| graph.op(id).cloned()));
    }
    for did in graph.wanted() {
        if let Some(genesis) = candidates.get(&did)
            && graph.add_nested(genesis)
        {
            taken.genesis.push(genesis.clone());
        }
    }
    if !taken.genesis.is_empty() {
        let ready = graph.admit_ready_everywhere();
        taken.own += ready.entered.len();
        taken.ops.extend(ready.nested);
        taken.ops.extend(ready.entered.iter().filter_map(|id| graph.op(id).cloned()));
    }
    Ok(taken)
}

/// Offers what is stored, in any order; returns the ops that found no place. Each round takes in at least one or ends.
pub(super) fn offer_all(graph: &mut AuthorityGraph, mut ops: Vec<SignedOp>, candidates: &Candidates) -> Vec<Refusal> {
    loop {
        let (before, mut refusals, mut rest) = (ops.len(), Vec::new(), Vec::new());
        for op in ops {
            match offer(graph, op.clone(), candidates) {
                Ok(_) if graph.op(&op.id()).is_some() || graph.is_below(&op.id()) => {}
                Ok(_) => rest.push(op),
                Err(refusal) => {
                    refusals.push(refusal);
                    rest.push(op);
                }
            }
        }
        if rest.is_empty() || rest.len() == before {
            return refusals;
        }
        ops = rest;
    }
}

/// Returns all ops of an identity and of those below, as they travel.
pub(super) fn all_ops(graph: &AuthorityGraph) -> Vec<Arc<SignedOp>> {
    let ops = graph.travelling(&[]).into_iter().filter_map(|one| match one {
        Travelling::Op(op) => Some(op),
        Travelling::Genesis(_) => None,
    });
    ops.collect()
}

impl Known {
    /// As [`Taken::store`].
    pub(super) fn store(&mut self, taken: &Taken, batch: &mut Batch) {
        taken.store(&mut self.rows, &mut self.graph, batch);
    }
}

impl Known {
    /// Takes over what another graph holds of an identity below, to name it in an op of one's own.
    pub(super) fn learn_nested(&mut self, theirs: &AuthorityGraph, batch: &mut Batch) -> Result<(), Refusal> {
        let is_new = self.graph.nested(&theirs.did()).is_none();
        let ops = self.graph.learn_nested(theirs)?;
        if is_new || !ops.is_empty() {
            let genesis = self.graph.nested_genesis().into_values().collect();
            self.store(&Taken { ops, genesis, ..Taken::default() }, batch);
        }
        Ok(())
    }
}
