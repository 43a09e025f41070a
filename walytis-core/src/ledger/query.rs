//! Which blocks a query returns.

use super::block::Cursor;
use crate::key::PublicKey;
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

/// Which blocks to return; the default is all, in canonical order.
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
    /// Arrived after this position.
    pub after: Option<Cursor>,
    /// At most so many.
    pub limit: Option<usize>,
    /// Last first.
    pub reverse: bool,
    /// Order.
    pub order: Order,
    /// Also blocks that do not count.
    pub include_void: bool,
}
