//! The numbered rules of `docs/validation.md`.

use std::fmt;

use thiserror::Error;

use super::{ContentRef, Header, UnverifiedBlock};
use crate::fault::Fault;
use crate::id::{BlockId, ChainId, Digest};
use crate::limits::{INLINE_CONTENT_MAX, PARENTS_MAX, TOPICS_MAX};

/// A validation rule of a block; the number is the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// V-BLOCK-01: the format version is known.
    Version,
    /// V-BLOCK-02: the file decodes, and encoding it again gives the same bytes.
    Canonical,
    /// V-BLOCK-03: the file has at most `BLOCK_FILE_MAX` bytes.
    FileSize,
    /// V-BLOCK-04: the block names this chain; a genesis block is the chain.
    Chain,
    /// V-BLOCK-05: a genesis block has no parents, any other 1..=`PARENTS_MAX`.
    ParentCount,
    /// V-BLOCK-06: parents are strictly ascending.
    ParentOrder,
    /// V-BLOCK-07: no parent is the block itself.
    SelfParent,
    /// V-BLOCK-08: the generation is 0 for genesis, otherwise 1 + the largest parent generation.
    Generation,
    /// V-BLOCK-09: at most `TOPICS_MAX` topics, none twice.
    Topics,
    /// V-BLOCK-10: each topic has 1..=`TOPIC_BYTES_MAX` bytes of UTF-8 without control characters.
    TopicText,
    /// V-BLOCK-11: inline content has at most `INLINE_CONTENT_MAX` bytes and the stated length and digest.
    InlineContent,
    /// V-BLOCK-12: a blob has at least one byte, and no inline content beside it.
    Blob,
    /// V-BLOCK-13: the creator key is a canonically encoded point, not of small order.
    CreatorKey,
    /// V-BLOCK-14: the signature is canonical and verifies.
    Signature,
    /// V-BLOCK-15: no parent is an ancestor of another, and that can be seen within the visit budget.
    Antichain,
    /// V-BLOCK-16: the genesis content decodes and is within its limits.
    Genesis,
    /// V-BLOCK-17: the admission policy of the chain does not refuse the block.
    Policy,
}

impl Rule {
    /// Every rule, in order of number.
    pub const ALL: [Self; 17] = [
        Self::Version,
        Self::Canonical,
        Self::FileSize,
        Self::Chain,
        Self::ParentCount,
        Self::ParentOrder,
        Self::SelfParent,
        Self::Generation,
        Self::Topics,
        Self::TopicText,
        Self::InlineContent,
        Self::Blob,
        Self::CreatorKey,
        Self::Signature,
        Self::Antichain,
        Self::Genesis,
        Self::Policy,
    ];

    /// Returns the number, e.g. `V-BLOCK-07`.
    pub const fn number(self) -> &'static str {
        match self {
            Self::Version => "V-BLOCK-01",
            Self::Canonical => "V-BLOCK-02",
            Self::FileSize => "V-BLOCK-03",
            Self::Chain => "V-BLOCK-04",
            Self::ParentCount => "V-BLOCK-05",
            Self::ParentOrder => "V-BLOCK-06",
            Self::SelfParent => "V-BLOCK-07",
            Self::Generation => "V-BLOCK-08",
            Self::Topics => "V-BLOCK-09",
            Self::TopicText => "V-BLOCK-10",
            Self::InlineContent => "V-BLOCK-11",
            Self::Blob => "V-BLOCK-12",
            Self::CreatorKey => "V-BLOCK-13",
            Self::Signature => "V-BLOCK-14",
            Self::Antichain => "V-BLOCK-15",
            Self::Genesis => "V-BLOCK-16",
            Self::Policy => "V-BLOCK-17",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.number())
    }
}

/// A block breaks a rule; always the sender's fault.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("block {block:?} breaks {rule}")]
pub struct RuleViolation {
    /// The rule.
    pub rule: Rule,
    /// The block.
    pub block: BlockId,
}

impl RuleViolation {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        Fault::Peer
    }
}

/// Checks all rules that need neither another block nor the signature, cheapest first.
pub(super) fn check(block: &UnverifiedBlock, chain: &ChainId) -> Result<(), RuleViolation> {
    let header = &block.header;
    check_chain(block, chain)
        .and_then(|()| check_parents(header, block.id))
        .and_then(|()| check_topics(header))
        .and_then(|()| check_content(header, block.inline.as_deref()))
        .and_then(|()| check_genesis(header, block.inline.as_deref()))
        .map_err(|rule| RuleViolation { rule, block: block.id })
}

fn check_chain(block: &UnverifiedBlock, chain: &ChainId) -> Result<(), Rule> {
    let named = block.header.chain.unwrap_or(ChainId(block.id));
    if named == *chain { Ok(()) } else { Err(Rule::Chain) }
}

fn check_parents(header: &Header, id: BlockId) -> Result<(), Rule> {
    let genesis = header.chain.is_none();
    let count = header.parents.len();
    if genesis != (count == 0) || count > PARENTS_MAX {
        return Err(Rule::ParentCount);
    }
    if !header.parents.is_sorted_by(|a, b| a < b) {
        return Err(Rule::ParentOrder);
    }
    if header.parents.contains(&id) {
        return Err(Rule::SelfParent);
    }
    // The exact generation needs the parents; what is impossible for any parents is refused here.
    if genesis != (header.generation == 0) {
        return Err(Rule::Generation);
    }
    Ok(())
}

fn check_topics(header: &Header) -> Result<(), Rule> {
    // The text of each topic is checked while it is decoded: `Topic` cannot hold another.
    let unique: std::collections::BTreeSet<_> = header.topics.iter().collect();
    if header.topics.len() > TOPICS_MAX || unique.len() != header.topics.len() {
        return Err(Rule::Topics);
    }
    Ok(())
}

fn check_content(header: &Header, inline: Option<&[u8]>) -> Result<(), Rule> {
    match (&header.content, inline) {
        (ContentRef::Inline { len, digest }, Some(content)) => {
            let fits = content.len() <= INLINE_CONTENT_MAX && u64::try_from(content.len()) == Ok(*len);
            if fits && Digest::of(content) == *digest { Ok(()) } else { Err(Rule::InlineContent) }
        }
        (ContentRef::Inline { .. }, None) => Err(Rule::InlineContent),
        (ContentRef::Blob { len, .. }, None) if *len > 0 => Ok(()),
        (ContentRef::Blob { .. }, _) => Err(Rule::Blob),
    }
}

fn check_genesis(header: &Header, inline: Option<&[u8]>) -> Result<(), Rule> {
    if header.chain.is_some() {
        return Ok(());
    }
    let content = inline.ok_or(Rule::Genesis)?;
    super::codec_v1::GenesisV1::decode(content).map(|_| ()).ok_or(Rule::Genesis)
}
