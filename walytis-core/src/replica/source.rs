//! What a peer asked for, found in the graph: walks, differences, lists. Each call says what it cost.

use std::collections::{BTreeSet, VecDeque};

use super::codec_v1::{LIST_IDS_MAX, ShortId, Span, WALK_IDS_MAX};
use crate::chain::ChainCore;
use crate::graph::{CanonicalKey, Difference, GraphNode};
use crate::id::BlockId;
use crate::ledger::LedgerError;

/// Most blocks found in one walk of a difference; what is above follows in the next round. Chosen: bounds the memory of
/// one request to some 20 MB, and what a round sends to far more than it costs to ask again.
const DIFFERENCE_MAX: usize = 131_072;
/// Ids read at once of a whole chain.
const PAGE: usize = 512;
/// What finding a block by a short id counts as, in look-ups.
const SHORT_COSTS: u64 = 8;

/// Where the blocks to stream come from.
#[derive(Debug)]
pub(super) enum Source {
    /// Everything but genesis, or a part of it, page by page: for a peer that has nothing yet.
    Whole { after: Option<(u64, BlockId)>, until: u64, page: VecDeque<BlockId>, ended: bool },
    /// A difference, parents first.
    List(VecDeque<BlockId>),
}

impl Source {
    /// Returns everything but genesis.
    pub(super) fn whole(span: Option<Span>) -> Self {
        let after = span.map(|span| span.after);
        let until = span.map_or(u64::MAX, |span| span.until);
        Self::Whole { after, until, page: VecDeque::new(), ended: false }
    }

    /// Returns the next ids; none at the end.
    pub(super) async fn take(&mut self, core: &ChainCore, count: usize) -> Result<Vec<BlockId>, LedgerError> {
        match self {
            Self::List(ids) => Ok(ids.drain(..count.min(ids.len())).collect()),
            Self::Whole { after, until, page, ended } => {
                if page.is_empty() && !*ended {
                    let ids = core.canonical_page(1, *after, PAGE).await?;
                    *ended = ids.len() < PAGE;
                    for (id, node) in ids.iter().zip(core.nodes(&ids).await?) {
                        let Some(node) = node else { continue };
                        if node.generation >= *until {
                            *ended = true;
                            break;
                        }
                        *after = Some((node.generation, *id));
                        page.push_back(*id);
                    }
                }
                Ok(page.drain(..count.min(page.len())).collect())
            }
        }
    }

    /// Puts ids back in front.
    pub(super) fn give_back(&mut self, ids: Vec<BlockId>) {
        let queue = match self {
            Self::List(queue) => queue,
            Self::Whole { page, .. } => page,
        };
        ids.into_iter().rev().for_each(|id| queue.push_front(id));
    }
}

/// Returns the ids that are meant; nothing if one of them is not here.
pub(super) async fn resolve(core: &ChainCore, shorts: &[ShortId]) -> Result<(Option<Vec<BlockId>>, u64), LedgerError> {
    let mut ids = Vec::with_capacity(shorts.len());
    let cost = shorts.len() as u64 * SHORT_COSTS;
    for short in shorts {
        match core.by_prefix(&short.0).await? {
            Some(id) => ids.push(id),
            None => return Ok((None, cost)),
        }
    }
    Ok((Some(ids), cost))
}

/// Returns what is in `want` or an ancestor of it, and neither in `have` nor an ancestor of that, parents first. Every id
/// is here.
pub(super) async fn difference(
    core: &ChainCore,
    want: Vec<BlockId>,
    have: Vec<BlockId>,
) -> Result<(Vec<CanonicalKey>, u64), LedgerError> {
    let mut walk = Difference::new(want, have, DIFFERENCE_MAX);
    let mut cost: u64 = 0;
    let mut steps: u32 = 0;
    loop {
        let needs = walk.needs();
        if needs.is_empty() {
            break;
        }
        cost += needs.len() as u64;
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
    Ok((walk.page().map(|page| page.blocks).unwrap_or_default(), cost))
}

/// Returns the part of a difference.
pub(super) fn part(blocks: &[CanonicalKey], span: Option<Span>) -> VecDeque<BlockId> {
    let Some(span) = span else { return blocks.iter().map(|key| key.id).collect() };
    let from = blocks.partition_point(|key| (key.generation, key.id) <= span.after);
    let rest = blocks.iter().skip(from);
    rest.take_while(|key| key.generation < span.until).map(|key| key.id).collect()
}

/// What a walk came by.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// Blocks whose parents were followed, nearest first.
    pub(super) passed: Vec<ShortId>,
    /// Blocks where it stopped.
    pub(super) frontier: Vec<ShortId>,
    pub(super) cost: u64,
}

/// Walks down from `from`, or if it is empty from all heads but those that the peer `told`, until about `limit` blocks were
/// seen; those it starts from are not among them. All branches are followed equally far: the highest first would follow
/// one of them only.
pub(super) async fn walk(
    core: &ChainCore,
    from: &[ShortId],
    told: &[BlockId],
    limit: usize,
) -> Result<Walked, LedgerError> {
    let limit = limit.clamp(1, WALK_IDS_MAX / 2);
    let mut start = Vec::new();
    if from.is_empty() {
        start = core.summary().heads;
        // What lies below a head of both is known to both; one that merges many branches would fill the answer.
        start.retain(|head| told.binary_search(head).is_err());
        start.truncate(WALK_IDS_MAX);
    }
    for short in from {
        start.extend(core.by_prefix(&short.0).await?);
    }
    let mut cost = from.len() as u64 * SHORT_COSTS + start.len() as u64;
    let mut seen: BTreeSet<BlockId> = start.iter().copied().collect();
    let mut level = start;
    let mut passed = Vec::new();
    let mut first = true;
    loop {
        cost += level.len() as u64;
        let mut next: VecDeque<BlockId> = VecDeque::new();
        let mut left = level.iter();
        for (id, node) in level.iter().zip(core.nodes(&level).await?) {
            left.next();
            if !first {
                passed.push(ShortId::of(id));
            }
            let parents = node.map(|node| node.parents).unwrap_or_default();
            next.extend(parents.iter().filter(|parent| seen.insert(**parent)));
            if passed.len() + next.len() + left.len() >= limit && !first {
                break;
            }
        }
        let stopped = passed.len() + next.len() + left.len() >= limit;
        if stopped || next.is_empty() {
            let frontier: Vec<_> = left.chain(&next).take(WALK_IDS_MAX).map(ShortId::of).collect();
            passed.truncate(WALK_IDS_MAX);
            return Ok(Walked { passed, frontier, cost });
        }
        level = next.into();
        first = false;
    }
}

/// Returns a page of all ids in canonical order, and the generation of the last.
pub(super) async fn list(core: &ChainCore, after: (u64, BlockId)) -> Result<(Vec<BlockId>, u64), LedgerError> {
    let ids = core.canonical_page(0, Some(after), LIST_IDS_MAX / 2).await?;
    let last = ids.last().copied();
    let generation = match last {
        Some(last) => core.node(&last).await?.map_or(0, |node| node.generation),
        None => 0,
    };
    Ok((ids, generation))
}

/// Returns those of `ids` that are here, parents first.
pub(super) async fn sorted(core: &ChainCore, ids: Vec<BlockId>) -> Result<VecDeque<BlockId>, LedgerError> {
    let nodes = core.nodes(&ids).await?;
    let known = ids.into_iter().zip(nodes).filter_map(|(id, node)| Some((node?.generation, id)));
    let known: BTreeSet<_> = known.collect();
    Ok(known.into_iter().map(|(_, id)| id).collect())
}
