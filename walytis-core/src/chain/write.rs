//! Writing own blocks.

use std::fmt;
use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::debug;

use super::core::Inner;
use super::schema::{Keys, Meta};
use super::stage::{Entry, Stage, Tip};
use super::task::Task;
use crate::access::Admission;
use crate::block::{Block, BlockDraft, DraftContent, Rule, RuleViolation};
use crate::clock::Clock;
use crate::graph::ChosenParents;
use crate::id::{BlockId, ChainId};
use crate::key::{SignError, Signer};
use crate::ledger::LedgerError;
use crate::limits::{INLINE_CONTENT_MAX, PARENTS_MAX};
use crate::store::Batch;
use crate::topic::Topic;

/// Blocks signed on the task's own thread at most; a longer series goes to another. Chosen: a millisecond of work.
const SIGN_HERE: usize = 32;
/// Blocks of a long series that are handed on at once. Chosen: some milliseconds of signing.
const SIGNED_CHUNK: usize = 128;
/// Chunks that may wait to be staged; then signing waits. Chosen: staging is faster, so few ever do.
const SIGNED_CHUNKS: usize = 4;

/// Own blocks ready to be placed: their large contents are stored already.
pub(super) struct Prepared {
    pub(super) blocks: Vec<PreparedBlock>,
    pub(super) signer: Arc<dyn Signer>,
}

impl Prepared {
    /// Says whether the series is signed on another thread while its first blocks are staged.
    pub(super) fn is_long(&self) -> bool {
        self.blocks.len() > SIGN_HERE
    }
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

/// Places, signs, checks and stages own blocks, each a child of the one before. If it fails, nothing of a short series is
/// staged; of a long one something may be.
pub(super) async fn stage(task: &mut Task, stage: &mut Stage, prepared: Prepared) -> Result<Vec<Written>, LedgerError> {
    if prepared.blocks.is_empty() {
        return Ok(Vec::new());
    }
    let core = Arc::clone(&task.core);
    let (parents, highest) = choose_parents(task, stage).await?;
    let marks: Vec<_> = prepared.blocks.iter().filter_map(|block| block.mark).collect();
    let count = prepared.blocks.len();
    let series = Series {
        chain: core.id,
        parents,
        generation: highest.checked_add(1).ok_or_else(too_long)?,
        clock: Arc::clone(&core.clock),
    };
    let mut written = Vec::with_capacity(count);
    let mut signing = Signing::start(series, prepared);
    while let Some(blocks) = signing.next().await? {
        for block in &blocks {
            judge(&core, block).await?;
        }
        for block in blocks {
            let arrival = stage.insert(&core.table.keys, &mut task.tip, &block, Entry::Own);
            written.push(Written { block, arrival });
        }
    }
    if written.len() != count {
        // The thread that signs ended early.
        return Err(LedgerError::Closed);
    }
    for mark in marks {
        stage.batch().delete(core.table.keys.staged(&mark));
    }
    Ok(written)
}

async fn judge(core: &Inner, block: &Block) -> Result<(), LedgerError> {
    match core.policy.judge(block).await {
        Admission::Admit => Ok(()),
        Admission::Wait => Err(LedgerError::Refused { reason: "the writer has no right to write here now".to_owned() }),
        Admission::Refuse(rule) => Err(LedgerError::Refused { reason: format!("the block breaks {rule}") }),
    }
}

fn too_long() -> LedgerError {
    LedgerError::Refused { reason: "the chain has reached its highest generation".to_owned() }
}

/// Returns the parents of the next block and their highest generation: the highest head and the oldest others, less
/// those that cannot stand beside them within the visit budget of the antichain rule. Those are not tried again.
async fn choose_parents(task: &mut Task, stage: &Stage) -> Result<(Vec<BlockId>, u64), LedgerError> {
    let candidates = task.tip.heads.candidates(PARENTS_MAX);
    let heads = task.admissions.graph_nodes(&task.core, stage, &candidates).await?;
    let highest = heads.values().map(|node| node.generation).max().unwrap_or(0);
    let ChosenParents { parents, left_out } = task.admissions.choose_parents(&task.core, stage, &heads).await?;
    for id in &left_out {
        debug!(chain = ?task.core.id, head = ?id, "a head is too far below the others to become a parent");
        task.tip.heads.set_aside(id);
    }
    Ok((parents, highest))
}

/// Where a series of blocks begins.
#[derive(Debug)]
struct Series {
    chain: ChainId,
    parents: Vec<BlockId>,
    generation: u64,
    clock: Arc<dyn Clock>,
}

/// A series being signed. Each block names the one before, so only one thread can sign; what is done with signed blocks
/// goes on beside it.
enum Signing {
    Here(Option<Result<Vec<Block>, LedgerError>>),
    Apart(mpsc::Receiver<Result<Vec<Block>, LedgerError>>),
}

impl Signing {
    fn start(series: Series, prepared: Prepared) -> Self {
        let runtime = tokio::runtime::Handle::current();
        let alone = runtime.runtime_flavor() == tokio::runtime::RuntimeFlavor::CurrentThread;
        if alone || !prepared.is_long() {
            let mut all = Vec::with_capacity(prepared.blocks.len());
            let signed = sign_series(series, prepared, |block| {
                all.push(block);
                true
            });
            return Self::Here(Some(signed.map(|()| all)));
        }
        let (chunks, receiver) = mpsc::channel(SIGNED_CHUNKS);
        // It ends with the series, or when nobody takes its blocks any more.
        drop(runtime.spawn_blocking(move || sign_apart(series, prepared, &chunks)));
        Self::Apart(receiver)
    }

    /// Returns the next signed blocks; nothing when there are no more.
    async fn next(&mut self) -> Result<Option<Vec<Block>>, LedgerError> {
        match self {
            Self::Here(blocks) => blocks.take().transpose(),
            Self::Apart(chunks) => chunks.recv().await.transpose(),
        }
    }
}

fn sign_apart(series: Series, prepared: Prepared, chunks: &mpsc::Sender<Result<Vec<Block>, LedgerError>>) {
    let mut chunk = Vec::with_capacity(SIGNED_CHUNK);
    let signed = sign_series(series, prepared, |block| {
        chunk.push(block);
        if chunk.len() < SIGNED_CHUNK {
            return true;
        }
        let full = std::mem::replace(&mut chunk, Vec::with_capacity(SIGNED_CHUNK));
        chunks.blocking_send(Ok(full)).is_ok()
    });
    // Nobody waits any more: nothing to tell.
    let _unheard = chunks.blocking_send(signed.map(|()| chunk));
}

/// Signs block after block and hands each on, until `take` wants no more.
fn sign_series(series: Series, prepared: Prepared, mut take: impl FnMut(Block) -> bool) -> Result<(), LedgerError> {
    let Series { chain, mut parents, mut generation, clock } = series;
    for PreparedBlock { content, topics, .. } in prepared.blocks {
        let created_at_ms = clock.now_ms();
        let draft = BlockDraft { chain: Some(chain), parents, generation, created_at_ms, topics, content };
        let block = sign(draft, &*prepared.signer)?;
        parents = vec![block.id()];
        generation = generation.checked_add(1).ok_or_else(too_long)?;
        if !take(block) {
            break;
        }
    }
    Ok(())
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
    let mut tip = Tip {
        meta: Meta::default(),
        heads: super::heads::Heads::default(),
        arrival: 0,
        sums: super::sums::Sums::default(),
    };
    let mut stage = Stage::new(&tip);
    let keys = Keys::new(&genesis.chain());
    stage.insert(&keys, &mut tip, genesis, Entry::Own);
    stage.into_batch(&keys, &tip)
}
