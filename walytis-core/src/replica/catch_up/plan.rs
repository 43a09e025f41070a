//! Several peers that have the same blocks fetch one long difference together: each gets its own part.

use std::collections::{BTreeMap, VecDeque};

use super::lane::Lane;
use crate::graph::CanonicalKey;
use crate::id::{BlockId, PeerId};
use crate::replica::codec_v1::{ShortId, Span};

/// Peers that hand over blocks at the same time. Chosen: more do not make a link faster.
pub(super) const LANES_MAX: usize = 4;
/// Blocks of one part, about. Chosen: [`LANES_MAX`] parts ahead of the lowest stay within the bounds of pending blocks.
const PART_BLOCKS: u64 = 1_024;
/// Parts that may be begun above the lowest that is not done.
const PARTS_AHEAD: u64 = 6;
/// Parts of one difference, whatever its size is said to be.
const PARTS_MAX: u64 = 4_096;
/// Blocks that must be left for others to be asked to help. Chosen: fewer are over before they answer.
pub(super) const SHARED_FROM: u64 = 4 * PART_BLOCKS;
/// Most heads that a shared difference may have: each request names them.
pub(super) const TARGET_MAX: usize = 64;

const LAST_ID: BlockId = BlockId::from_digest([0xff; 32]);

#[derive(Debug)]
pub(super) struct Plan {
    /// Everything up to these is fetched.
    pub(super) target: Vec<BlockId>,
    /// What is here already of it.
    pub(super) have: Vec<ShortId>,
    /// Parts that nobody fetches yet, ascending.
    todo: VecDeque<Span>,
    /// Generations of a part.
    width: u64,
    /// Blocks entered since it began.
    pub(super) admitted: usize,
    /// Turns below this number began before it.
    pub(super) since: u32,
}

impl Plan {
    /// `left` blocks are expected above `reached`, up to generation `highest`.
    pub(super) fn new(
        target: Vec<BlockId>,
        have: Vec<ShortId>,
        reached: CanonicalKey,
        highest: u64,
        left: u64,
        since: u32,
    ) -> Self {
        let generations = highest.saturating_sub(reached.generation).max(1);
        let width = u128::from(generations) * u128::from(PART_BLOCKS) / u128::from(left.max(1));
        let width = width.max(u128::from(generations / PARTS_MAX));
        let until = highest.max(reached.generation).saturating_add(1);
        let everything = Span { after: (reached.generation, reached.id), until };
        Self {
            target,
            have,
            todo: VecDeque::from([everything]),
            width: u64::try_from(width).unwrap_or(u64::MAX).max(1),
            admitted: 0,
            since,
        }
    }

    /// Says whether every part is done or under way.
    pub(super) fn is_handed_out(&self) -> bool {
        self.todo.is_empty()
    }

    /// Returns the next part, or nothing while too much stands above one that is not done. `alone`: nobody else helps,
    /// so that there is no reason to cut anything.
    pub(super) fn take(&mut self, lanes: &BTreeMap<PeerId, Lane>, alone: bool) -> Option<Span> {
        let span = *self.todo.front()?;
        let lowest = lanes.values().filter_map(|lane| lane.span).map(|span| span.after.0).min().unwrap_or(span.after.0);
        if span.after.0.saturating_sub(lowest) > self.width.saturating_mul(PARTS_AHEAD) {
            return None;
        }
        self.todo.pop_front();
        let cut = span.after.0.saturating_add(self.width).saturating_add(1);
        if alone || cut >= span.until {
            return Some(span);
        }
        self.todo.push_front(Span { after: (cut - 1, LAST_ID), until: span.until });
        Some(Span { until: cut, ..span })
    }

    /// Takes a part back that was not finished.
    pub(super) fn give_back(&mut self, span: Span) {
        let at = self.todo.partition_point(|other| other.after < span.after);
        self.todo.insert(at, span);
    }
}
