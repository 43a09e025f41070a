//! Writing own blocks.

use std::fmt;
use std::sync::Arc;

use super::schema::{Keys, Meta};
use super::stage::{Entry, Stage, Tip};
use super::task::Task;
use crate::access::Admission;
use crate::block::{Block, BlockDraft, DraftContent, Rule, RuleViolation};
use crate::clock::Clock;
use crate::graph::Antichain;
use crate::id::{BlockId, ChainId};
use crate::key::{SignError, Signer};
use crate::ledger::LedgerError;
use crate::limits::{ANTICHAIN_VISITS_MAX, INLINE_CONTENT_MAX, PARENTS_MAX};
use crate::store::Batch;
use crate::topic::Topic;

/// Blocks signed on the task's own thread at most; more go to another. Chosen: a millisecond of work.
const SIGN_HERE: usize = 32;

/// Own blocks ready to be placed: their large contents are stored already.
pub(super) struct Prepared {
    pub(super) blocks: Vec<PreparedBlock>,
    pub(super) signer: Arc<dyn Signer>,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prepared({} blocks)", self.blocks.len())
    }
}

#[derive(Debug)]
pub(super) struct PreparedBlock {
    pub(super) content: DraftContent,
    pub(super) topics: Vec<Topic>,
    /// Under which the stored content is marked as unclaimed; the commit removes the mark.
    pub(super) mark: Option<[u8; 16]>,
}

/// An own block, with its place in arrival order.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) block: Block,
    pub(super) arrival: u64,
}

/// Places, signs, checks and stages own blocks, each a child of the one before.
pub(super) async fn stage(task: &mut Task, stage: &mut Stage, prepared: Prepared) -> Result<Vec<Written>, LedgerError> {
    if prepared.blocks.is_empty() {
        return Ok(Vec::new());
    }
    let core = Arc::clone(&task.core);
    let (parents, highest) = choose_parents(task, stage).await?;
    let marks: Vec<_> = prepared.blocks.iter().filter_map(|block| block.mark).collect();
    let series = Series {
        chain: core.id,
        parents,
        generation: highest.checked_add(1).ok_or_else(too_long)?,
        clock: Arc::clone(&core.clock),
    };
    let blocks = sign_all(series, prepared).await?;
    for block in &blocks {
        match core.policy.judge(block).await {
            Admission::Admit => {}
            Admission::Wait => {
                return Err(LedgerError::Refused { reason: "the writer has no right to write here now".to_owned() });
            }
            Admission::Refuse(rule) => return Err(LedgerError::Refused { reason: format!("the block breaks {rule}") }),
        }
    }
    // Nothing below can fail: a command that fails has staged nothing.
    let mut insert = |block: Block| {
        let arrival = stage.insert(&core.table.keys, &mut task.tip, &block, Entry::Own);
        Written { block, arrival }
    };
    let written = blocks.into_iter().map(&mut insert).collect();
    for mark in marks {
        stage.batch().delete(core.table.keys.staged(&mark));
    }
    Ok(written)
}

fn too_long() -> LedgerError {
    LedgerError::Refused { reason: "the chain has reached its highest generation".to_owned() }
}

/// Returns the parents of the next block and their highest generation: the oldest heads, less those that cannot stand
/// beside the others within the visit budget of the antichain rule.
async fn choose_parents(task: &Task, stage: &Stage) -> Result<(Vec<BlockId>, u64), LedgerError> {
    let heads: Vec<_> = task.tip.heads.oldest().take(PARENTS_MAX).collect();
    let highest = heads.iter().map(|(_, generation)| *generation).max().unwrap_or(0);
    // A walk down from the highest visits at least one block per generation.
    let reach = highest.saturating_sub(ANTICHAIN_VISITS_MAX as u64);
    let ids: Vec<_> = heads.iter().filter(|(_, generation)| *generation >= reach).map(|(id, _)| *id).collect();
    let mut parents = task.admissions.graph_nodes(&task.core, stage, &ids).await?;
    while parents.len() > 1 {
        match task.admissions.check_antichain(&task.core, stage, &parents).await? {
            Antichain::Holds => break,
            Antichain::Redundant(id) => parents.remove(&id),
            Antichain::OverBudget => {
                // The lowest makes the walk long.
                let lowest = parents.iter().min_by_key(|(id, node)| (node.generation, **id)).map(|(id, _)| *id);
                lowest.and_then(|id| parents.remove(&id))
            }
        };
    }
    Ok((parents.keys().copied().collect(), highest))
}

/// Where a series of blocks begins.
#[derive(Debug)]
struct Series {
    chain: ChainId,
    parents: Vec<BlockId>,
    generation: u64,
    clock: Arc<dyn Clock>,
}

async fn sign_all(series: Series, prepared: Prepared) -> Result<Vec<Block>, LedgerError> {
    let runtime = tokio::runtime::Handle::current();
    let alone = runtime.runtime_flavor() == tokio::runtime::RuntimeFlavor::CurrentThread;
    if alone || prepared.blocks.len() <= SIGN_HERE {
        return sign_series(series, prepared);
    }
    runtime.spawn_blocking(move || sign_series(series, prepared)).await.map_err(|_| LedgerError::Closed)?
}

fn sign_series(series: Series, prepared: Prepared) -> Result<Vec<Block>, LedgerError> {
    let Series { chain, mut parents, mut generation, clock } = series;
    let mut blocks = Vec::with_capacity(prepared.blocks.len());
    for PreparedBlock { content, topics, .. } in prepared.blocks {
        let created_at_ms = clock.now_ms();
        let draft = BlockDraft { chain: Some(chain), parents, generation, created_at_ms, topics, content };
        let block = sign(draft, &*prepared.signer)?;
        parents = vec![block.id()];
        generation = generation.checked_add(1).ok_or_else(too_long)?;
        blocks.push(block);
    }
    Ok(blocks)
}

/// Signs a draft and checks it like a peer's block.
pub(crate) fn sign(draft: BlockDraft, signer: &dyn Signer) -> Result<Block, LedgerError> {
    let checked = draft.sign_checked(signer).map_err(|error| match error {
        SignError::Locked => LedgerError::Locked,
    })?;
    checked.map_err(|RuleViolation { rule, .. }| match rule {
        Rule::Topics => LedgerError::Topics,
        Rule::InlineContent | Rule::FileSize => LedgerError::TooLarge { max: INLINE_CONTENT_MAX as u64 },
        rule => LedgerError::Refused { reason: format!("the block breaks {rule}") },
    })
}

/// Returns the batch that stores a chain of only its genesis block.
pub(crate) fn genesis_batch(genesis: &Block) -> Batch {
    let mut tip = Tip { meta: Meta::default(), heads: super::heads::Heads::default() };
    let mut stage = Stage::new(&tip);
    let keys = Keys::new(&genesis.chain());
    stage.insert(&keys, &mut tip, genesis, Entry::Own);
    stage.into_batch(&keys, &tip)
}
