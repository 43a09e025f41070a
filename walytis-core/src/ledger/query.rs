//! Which blocks a query returns, and in which pages.

use super::block::{BlockInfo, BlockState, Cursor};
use super::cursor::PageCursor;
use crate::key::PublicKey;
use crate::limits::{PAGE_BLOCKS, PAGE_BLOCKS_MAX};
use crate::topic::Topic;

/// In which order a query returns blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By (generation, id): the same on every replica.
    #[default]
    Canonical,
    /// As this replica admitted them.
    Arrival,
}

/// Which blocks to return; the default is all but those of overlays, in canonical order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// At least one of these topics, if any is given.
    pub topics_any: Vec<Topic>,
    /// All of these topics.
    pub topics_all: Vec<Topic>,
    /// Signed by this key.
    pub creator: Option<PublicKey>,
    /// Created at or after this, by the creator's clock.
    pub since_ms: Option<i64>,
    /// Created before this, by the creator's clock.
    pub until_ms: Option<i64>,
    /// Of this generation or a later one.
    pub generation_from: Option<u64>,
    /// Of an earlier generation than this.
    pub generation_to: Option<u64>,
    /// Arrived after this position, on this replica.
    pub arrived_after: Option<Cursor>,
    /// Behind this place of the same query: where an earlier page ended, or behind one of its blocks.
    pub after: Option<PageCursor>,
    /// At most so many.
    pub limit: Option<usize>,
    /// Last first.
    pub reverse: bool,
    /// Order.
    pub order: Order,
    /// Also blocks that do not count.
    pub include_void: bool,
    /// Also blocks that overlays added for themselves (those with a reserved topic), e.g. notes about shared
    /// invitations. They are also shown when the query names a reserved topic.
    pub include_overlays: bool,
}

impl Query {
    /// Says whether a block belongs to the answer, wherever it stands; `after` and `limit` are not looked at.
    pub fn matches(&self, block: &BlockInfo) -> bool {
        self.matches_labels(&block.topics, &block.creator)
            && self.matches_windows(block.created_at_ms, block.generation, block.cursor)
            && (self.include_void || !matches!(block.state, BlockState::Void { .. }))
    }

    /// Says whether topics and creator match.
    pub fn matches_labels(&self, topics: &[Topic], creator: &PublicKey) -> bool {
        let any = self.topics_any.is_empty() || self.topics_any.iter().any(|topic| topics.contains(topic));
        any && self.topics_all.iter().all(|topic| topics.contains(topic))
            && self.creator.is_none_or(|wanted| wanted == *creator)
            && (self.shows_overlays() || !topics.iter().any(Topic::is_reserved))
    }

    /// Says whether time, generation and arrival match.
    pub fn matches_windows(&self, created_at_ms: i64, generation: u64, cursor: Cursor) -> bool {
        self.since_ms.is_none_or(|since| created_at_ms >= since)
            && self.until_ms.is_none_or(|until| created_at_ms < until)
            && self.generation_from.is_none_or(|from| generation >= from)
            && self.generation_to.is_none_or(|to| generation < to)
            && self.arrived_after.is_none_or(|after| cursor > after)
    }

    /// Says whether blocks of overlays are shown.
    pub fn shows_overlays(&self) -> bool {
        self.include_overlays || self.topics_all.iter().chain(&self.topics_any).any(Topic::is_reserved)
    }

    /// Returns how many blocks a page of this query has at most: the limit, [`PAGE_BLOCKS`] without one, never more than
    /// [`PAGE_BLOCKS_MAX`].
    pub fn page_size(&self) -> usize {
        self.limit.unwrap_or(PAGE_BLOCKS).min(PAGE_BLOCKS_MAX)
    }
}

/// One page of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The blocks, in the order of the query. There may be fewer than asked for, even none, before the end: a page reads
    /// a bounded number of index entries, however few of them match.
    pub blocks: Vec<BlockInfo>,
    /// Where the next page begins; nothing at the end.
    pub next: Option<PageCursor>,
}
