//! Serving one peer on one channel: walks, missing blocks, blobs. Stateless but for what is being streamed; each
//! request's work is bounded, and the peer's right is judged again before anything is sent.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::codec_v1::{FILES_MAX, Message, WALK_IDS_MAX};
use super::line::{Line, LinkCommand};
use crate::access::Access;
use crate::chain::ChainCore;
use crate::graph::{Difference, GraphNode};
use crate::id::BlockId;
use crate::ledger::LedgerError;

/// Bytes of block files in one frame, about. Chosen: large enough to amortise a frame, small enough to overlap
/// reading, sending and verifying.
const FRAME_BYTES: usize = 256 * 1024;
/// Block files read at once before their size is known.
const READ_FIRST: usize = 32;
/// Most blocks found in one walk of a difference; what is above follows in the next round. Chosen: bounds the memory of
/// one request to some 20 MB, and what a round sends to far more than it costs to ask again.
const DIFFERENCE_MAX: usize = 131_072;
/// Ids read at once of a whole chain.
const PAGE: usize = 512;
/// Most credit a peer can gather. Chosen: sixteen windows; more is not honest.
const CREDIT_MAX: u64 = 64 * 1024 * 1024;

/// A request of the peer.
#[derive(Debug)]
pub(crate) enum ServeInput {
    /// Stream everything above `have`.
    Stream { round: u32, have: Vec<BlockId>, credit: u32 },
    /// Go on.
    Credit { round: u32, bytes: u32 },
    /// Ids on the way down.
    Walk { round: u32, from: Vec<BlockId>, limit: u32 },
}

/// Where the blocks to stream come from.
#[derive(Debug)]
enum Source {
    /// Everything but genesis, page by page: for a peer that has nothing yet.
    Whole { after: Option<(u64, BlockId)>, page: VecDeque<BlockId>, ended: bool },
    /// A difference, parents first.
    List(VecDeque<BlockId>),
}

/// The task of one channel.
#[derive(Debug)]
pub(crate) struct ServeTask {
    core: ChainCore,
    line: Line,
    source: Option<Source>,
    round: u32,
    credit: u64,
    /// Running mean of the size of a block file.
    mean: usize,
    /// Walks that this node makes at once, for all peers: a short request can cost much work.
    heavy: Arc<Semaphore>,
}

impl ServeTask {
    pub(crate) const fn new(core: ChainCore, line: Line, heavy: Arc<Semaphore>) -> Self {
        let mean = FRAME_BYTES / READ_FIRST;
        Self { core, line, source: None, round: 0, credit: 0, mean, heavy }
    }

    /// Serves until the channel is closed.
    pub(crate) async fn run(mut self, mut requests: mpsc::Receiver<ServeInput>, stop: CancellationToken) {
        loop {
            let ready = self.credit > 0 && self.source.is_some();
            let step = async {
                tokio::select! {
                    biased;
                    request = requests.recv() => match request {
                        Some(request) => Step::Request(request),
                        None => Step::End,
                    },
                    () = std::future::ready(()), if ready => Step::Produce,
                }
            };
            let step = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                step = step => step,
            };
            let work = async {
                match step {
                    Step::Request(request) => self.handle(request).await,
                    Step::Produce => self.produce().await,
                    Step::End => Ok(false),
                }
            };
            let done = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                done = work => done,
            };
            match done {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    warn!(chain = ?self.core.id(), %error, "serving a peer failed");
                    self.source = None;
                }
            }
        }
    }

    /// Judges the peer again; ends the channel if its right is gone.
    async fn may_sync(&self) -> bool {
        let granted = self.core.access().may_sync(&self.line.peer).await == Access::Granted;
        if !granted {
            self.line.wire.command(LinkCommand::Drop(self.line.channel));
        }
        granted
    }

    async fn handle(&mut self, request: ServeInput) -> Result<bool, LedgerError> {
        if !self.may_sync().await {
            return Ok(false);
        }
        match request {
            ServeInput::Credit { round, bytes } => {
                if round == self.round {
                    self.credit = self.credit.saturating_add(u64::from(bytes)).min(CREDIT_MAX);
                }
                Ok(true)
            }
            ServeInput::Stream { round, have, credit } => {
                self.source = None;
                self.source = Some(self.find_source(&have).await?);
                (self.round, self.credit) = (round, u64::from(credit));
                Ok(true)
            }
            ServeInput::Walk { round, from, limit } => {
                let (passed, frontier) = walk(&self.core, &from, limit as usize).await?;
                Ok(self.line.stream(Message::Ids { round, passed, frontier }).await)
            }
        }
    }

    async fn find_source(&self, have: &[BlockId]) -> Result<Source, LedgerError> {
        if have.iter().all(|id| *id == self.core.id().0) {
            return Ok(Source::Whole { after: None, page: VecDeque::new(), ended: false });
        }
        let _turn = self.heavy.acquire().await.map_err(|_| LedgerError::Closed)?;
        Ok(Source::List(difference(&self.core, have).await?))
    }

    /// Sends the next frame of block files.
    async fn produce(&mut self) -> Result<bool, LedgerError> {
        if !self.may_sync().await {
            return Ok(false);
        }
        let mut files = Vec::new();
        let mut bytes = 0;
        let mut last = false;
        while bytes < FRAME_BYTES && files.len() < FILES_MAX && !last {
            let room = (FRAME_BYTES - bytes) / self.mean.max(1);
            let ids = self.take(room.clamp(1, FILES_MAX - files.len())).await?;
            last = ids.is_empty();
            let mut found = self.core.files(&ids).await?.into_iter().zip(ids);
            for (file, id) in found.by_ref() {
                let Some(file) = file else { continue };
                if bytes > 0 && bytes + file.len() > FRAME_BYTES {
                    self.give_back(std::iter::once(id).chain(found.map(|(_, id)| id)).collect());
                    return Ok(self.send(false, files, bytes).await);
                }
                bytes += file.len();
                self.mean = (self.mean * 7 + file.len()) / 8;
                files.push(file);
            }
        }
        Ok(self.send(last, files, bytes).await)
    }

    async fn send(&mut self, last: bool, files: Vec<Bytes>, bytes: usize) -> bool {
        self.credit = self.credit.saturating_sub(bytes as u64);
        if last {
            self.source = None;
        }
        self.line.stream(Message::Blocks { round: self.round, last, files }).await
    }

    /// Returns the next ids; none at the end.
    async fn take(&mut self, count: usize) -> Result<Vec<BlockId>, LedgerError> {
        match &mut self.source {
            None => Ok(Vec::new()),
            Some(Source::List(ids)) => Ok(ids.drain(..count.min(ids.len())).collect()),
            Some(Source::Whole { after, page, ended }) => {
                if page.is_empty() && !*ended {
                    let ids = self.core.canonical_page(1, *after, PAGE).await?;
                    *ended = ids.len() < PAGE;
                    if let Some(last) = ids.last()
                        && let Some(node) = self.core.node(last).await?
                    {
                        *after = Some((node.generation, *last));
                    }
                    page.extend(ids);
                }
                Ok(page.drain(..count.min(page.len())).collect())
            }
        }
    }

    fn give_back(&mut self, ids: Vec<BlockId>) {
        let queue = match &mut self.source {
            Some(Source::List(queue)) => queue,
            Some(Source::Whole { page, .. }) => page,
            None => return,
        };
        ids.into_iter().rev().for_each(|id| queue.push_front(id));
    }
}

enum Step {
    Request(ServeInput),
    Produce,
    End,
}

/// Returns what is here and neither in `have` nor an ancestor of it, parents first. Unknown ids are left out.
async fn difference(core: &ChainCore, have: &[BlockId]) -> Result<VecDeque<BlockId>, LedgerError> {
    let nodes = core.nodes(have).await?;
    let known: Vec<_> = have.iter().zip(&nodes).filter(|(_, node)| node.is_some()).map(|(id, _)| *id).collect();
    let mut walk = Difference::new(core.summary().heads, known, DIFFERENCE_MAX);
    let mut steps: u32 = 0;
    loop {
        let needs = walk.needs();
        if needs.is_empty() {
            break;
        }
        for (id, node) in needs.iter().zip(core.nodes(&needs).await?) {
            let Some(node) = node else {
                return Err(LedgerError::Damaged { reason: format!("the node of block {id} is missing") });
            };
            walk.supply(id, &GraphNode { generation: node.generation, parents: node.parents.to_vec() });
        }
        steps = steps.wrapping_add(1);
        if steps.is_multiple_of(256) {
            tokio::task::yield_now().await;
        }
    }
    Ok(walk.page().map(|page| page.blocks.into_iter().map(|key| key.id).collect()).unwrap_or_default())
}

type Ids = Vec<(BlockId, u64)>;

/// Walks down from `from`, highest first, past at most `limit` blocks; returns those passed and where it stopped.
async fn walk(core: &ChainCore, from: &[BlockId], limit: usize) -> Result<(Ids, Ids), LedgerError> {
    let limit = limit.clamp(1, WALK_IDS_MAX / 2);
    let mut frontier: BTreeMap<(u64, BlockId), Arc<[BlockId]>> = BTreeMap::new();
    let add = |ids: &[BlockId], nodes: Vec<Option<crate::chain::Node>>, frontier: &mut BTreeMap<_, _>| {
        for (id, node) in ids.iter().zip(nodes) {
            if let Some(node) = node {
                frontier.insert((node.generation, *id), node.parents);
            }
        }
    };
    add(from, core.nodes(from).await?, &mut frontier);
    let mut passed = Vec::new();
    while passed.len() < limit {
        let Some(((generation, id), parents)) = frontier.pop_last() else { break };
        passed.push((id, generation));
        add(&parents, core.nodes(&parents).await?, &mut frontier);
        // A wide graph stops early: the frontier must fit the answer.
        if frontier.len() > WALK_IDS_MAX / 2 {
            break;
        }
    }
    // Highest first, so that a cut keeps what is nearest to the heads.
    let frontier = frontier.into_keys().rev().take(WALK_IDS_MAX).map(|(generation, id)| (id, generation)).collect();
    Ok((passed, frontier))
}
