//! The op: what a block of this overlay says, version 1. Frozen at release 0.1.0.
//!
//! ```text
//! content of a block with the topic walytis.mutable = 0x01 ‖ postcard(OpV1) ‖ content of the version, if it is inline
//! content of a block with the topic walytis.mutable/content = content of the version, whole
//! content of a block with the topic walytis.mutable/rights = 0x01 ‖ postcard(PolicyV1)
//! ```

use serde::{Deserialize, Serialize};
use walytis_core::id::BlockId;
use walytis_core::topic::Topic;

use crate::limits::{OP_BYTES_MAX, SUPERSEDES_MAX};
use crate::rights::Policy;

/// Name of the overlay in topics: `walytis.mutable`.
pub const OVERLAY: &str = "mutable";
/// What follows the overlay's name in the topic of a block that only holds content.
const CONTENT: &str = "content";
/// What follows it in the topic of a block that says who may change blocks.
const RIGHTS: &str = "rights";
const VERSION: u8 = 0x01;

/// What an op does to its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Act {
    /// Gives it another content.
    Edit,
    /// Deletes it.
    Delete,
    /// Gives it the content of an earlier version again.
    Restore {
        /// The original, or an edit.
        version: BlockId,
    },
}

/// Where the content of an edit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Place {
    /// Behind the op, in its block.
    Inline,
    /// In a block of its own.
    Beside(BlockId),
}

/// One change of one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// The block that is changed: the first version, and the name of the mutable block.
    pub original: BlockId,
    /// The version heads that its author knew: 1..=64, strictly ascending.
    pub supersedes: Vec<BlockId>,
    /// What it does.
    pub act: Act,
    /// Where the content of an edit stands; [`Place::Inline`] for other acts.
    pub place: Place,
}

#[derive(Serialize, Deserialize)]
struct OpV1 {
    original: BlockId,
    supersedes: Vec<BlockId>,
    act: ActV1,
}

#[derive(Serialize, Deserialize)]
enum ActV1 {
    Edit,
    EditBeside(BlockId),
    Delete,
    Restore(BlockId),
}

impl Op {
    /// Encodes it; the content of an inline edit follows.
    pub fn encode(&self) -> Vec<u8> {
        let act = match (self.act, self.place) {
            (Act::Edit, Place::Inline) => ActV1::Edit,
            (Act::Edit, Place::Beside(block)) => ActV1::EditBeside(block),
            (Act::Delete, _) => ActV1::Delete,
            (Act::Restore { version }, _) => ActV1::Restore(version),
        };
        crate::codec::versioned(&OpV1 { original: self.original, supersedes: self.supersedes.clone(), act })
    }

    /// Decodes what a block of this overlay begins with, and says how many bytes that were; nothing if it is malformed,
    /// not canonical or over its limits (V-MUT-01, V-MUT-02).
    pub fn split(bytes: &[u8]) -> Option<(Self, usize)> {
        let front = bytes.get(..OP_BYTES_MAX).unwrap_or(bytes);
        let body = front.strip_prefix(&[VERSION])?;
        let (wire, rest) = postcard::take_from_bytes::<OpV1>(body).ok()?;
        let (act, place) = match wire.act {
            ActV1::Edit => (Act::Edit, Place::Inline),
            ActV1::EditBeside(block) => (Act::Edit, Place::Beside(block)),
            ActV1::Delete => (Act::Delete, Place::Inline),
            ActV1::Restore(version) => (Act::Restore { version }, Place::Inline),
        };
        let op = Self { original: wire.original, supersedes: wire.supersedes, act, place };
        let len = front.len() - rest.len();
        let ascending = op.supersedes.is_sorted_by(|a, b| a < b);
        let bounded = (1..=SUPERSEDES_MAX).contains(&op.supersedes.len());
        // Only an inline edit is followed by anything.
        let ends = (op.act == Act::Edit && place == Place::Inline) || len == bytes.len();
        (ascending && bounded && ends && front.get(..len) == Some(&op.encode()[..])).then_some((op, len))
    }
}

#[derive(Serialize, Deserialize)]
enum PolicyV1 {
    Author,
    Anyone,
    AdminsMayDelete,
}

/// Encodes the content of a block that says who may change blocks.
pub fn encode_policy(policy: Policy) -> Vec<u8> {
    crate::codec::versioned(&match policy {
        Policy::Author => PolicyV1::Author,
        Policy::Anyone => PolicyV1::Anyone,
        Policy::AdminsMayDelete => PolicyV1::AdminsMayDelete,
    })
}

/// Decodes it; nothing if it is malformed or not canonical (V-MUT-13).
pub fn decode_policy(bytes: &[u8]) -> Option<Policy> {
    let policy = match crate::codec::exactly(bytes)? {
        PolicyV1::Author => Policy::Author,
        PolicyV1::Anyone => Policy::Anyone,
        PolicyV1::AdminsMayDelete => Policy::AdminsMayDelete,
    };
    (encode_policy(policy) == bytes).then_some(policy)
}

/// What a block is to this overlay, by its topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A block like any other.
    Block,
    /// An op.
    Op,
    /// Says who may change blocks.
    Rights,
    /// The content of an edit, or something of a later version of this overlay: never shown by itself.
    Hidden,
}

impl Part {
    /// Returns what a block with these topics is.
    pub fn of(topics: &[Topic]) -> Self {
        let texts: Vec<&str> = topics.iter().filter_map(|topic| topic.overlay_text(OVERLAY)).collect();
        match texts.as_slice() {
            [] => Self::Block,
            texts if texts.contains(&"") => Self::Op,
            [RIGHTS] => Self::Rights,
            _ => Self::Hidden,
        }
    }
}

/// Returns the topics of an edit without the overlay's own.
pub fn user_topics(topics: &[Topic]) -> Vec<Topic> {
    topics.iter().filter(|topic| topic.overlay_text(OVERLAY).is_none()).cloned().collect()
}

/// Says whether these are the topics of a block that holds the content of an edit.
pub fn is_content(topics: &[Topic]) -> bool {
    topics.iter().any(|topic| topic.overlay_text(OVERLAY) == Some(CONTENT))
}

#[expect(clippy::expect_used, reason = "a short constant text is a topic")]
pub(crate) fn op_topic() -> Topic {
    Topic::overlay(OVERLAY, "").expect("a topic")
}

#[expect(clippy::expect_used, reason = "a short constant text is a topic")]
pub(crate) fn content_topic() -> Topic {
    Topic::overlay(OVERLAY, CONTENT).expect("a topic")
}

#[expect(clippy::expect_used, reason = "a short constant text is a topic")]
pub(crate) fn rights_topic() -> Topic {
    Topic::overlay(OVERLAY, RIGHTS).expect("a topic")
}
