//! The handle that applications and overlays work with.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use futures::stream::BoxStream;
use thiserror::Error;

use super::author::AuthorSlot;
use super::blob::{BlobEntry, ContentProgress};
use super::core::{ChainCore, Node};
use super::intake::{self, Nonce};
use super::reader::ContentStream;
use super::schema::{Tag, id_at_end};
use super::table::behind;
use super::write::{Prepared, PreparedBlock, Written};
use super::{blob, content, query, subscribe};
use crate::block::Block;
use crate::fault::Fault;
use crate::graph::GraphNode;
use crate::id::{BlockId, ChainId};
use crate::key::Signer;
use crate::ledger::{
    Ack, Author, BlockInfo, Content, ContentReader, Ledger, LedgerControl, LedgerError, LedgerRead, LedgerStatus,
    NewBlock, Page, Query, SubscribeFrom, Subscriber, Subscription,
};
use crate::limits::TOPICS_MAX;
use crate::store::{Direction, KeyRange};
use crate::topic::{Topic, TopicError};

/// First characters that every block id shares: multibase, CID version, codec, hash.
const ID_TEXT_PREFIX: &str = "bafkrei";

/// What a lookup did not find.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LookupError {
    /// Nothing of this name, id or prefix exists.
    #[error("no {kind} \"{text}\"")]
    Unknown {
        /// Block or chain.
        kind: &'static str,
        /// What was asked for.
        text: String,
    },
    /// Several have this prefix.
    #[error("\"{text}\" is ambiguous: more than one {kind} begins so")]
    Ambiguous {
        /// Block or chain.
        kind: &'static str,
        /// What was asked for.
        text: String,
    },
    /// Reading failed.
    #[error("the lookup failed")]
    Ledger(#[from] LedgerError),
}

impl LookupError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Unknown { .. } | Self::Ambiguous { .. } => Fault::Caller,
            Self::Ledger(error) => error.fault(),
        }
    }
}

/// A block that an overlay adds: reserved topics and a signer of its own are allowed.
#[derive(Debug)]
pub struct Append {
    /// Content, may be empty.
    pub content: Content,
    /// At most 16, no two the same.
    pub topics: Vec<Topic>,
    /// Who signs.
    pub signer: Arc<dyn Signer>,
}

/// Where content goes.
#[derive(Clone, Copy, Debug)]
enum Placing {
    /// Into the block if it is short, otherwise beside it.
    BySize,
    /// Into the block.
    Inline,
}

/// Removes a chain together with what its owner keeps of it.
#[async_trait]
pub(crate) trait ChainOwner: Send + Sync + fmt::Debug {
    /// Removes the chain.
    async fn delete(self: Arc<Self>, id: &ChainId) -> Result<(), LedgerError>;
}

/// One chain. Cheap to clone; all clones are the same chain.
///
/// Adding, reading and subscribing go through [`Ledger`] and [`LedgerRead`], status and end through [`LedgerControl`].
#[derive(Clone, Debug)]
pub struct Chain {
    core: ChainCore,
    /// Signs what `add` adds; empty while the vault is locked.
    author: AuthorSlot,
    owner: Option<Weak<dyn ChainOwner>>,
    /// Why nothing can be added, where that does not change while the chain is open.
    refusal: Option<&'static str>,
}

impl Chain {
    pub(crate) fn new(core: ChainCore, author: AuthorSlot, owner: Weak<dyn ChainOwner>) -> Self {
        Self { core, author, owner: Some(owner), refusal: None }
    }

    /// Returns the same chain for reading only.
    pub(crate) fn read_only(self, reason: &'static str) -> Self {
        Self { refusal: Some(reason), ..self }
    }

    /// Returns the handle of an open chain that no node owns.
    pub fn detached(core: ChainCore, author: Arc<dyn Signer>) -> Self {
        Self { core, author: author.into(), owner: None, refusal: None }
    }

    /// Returns what replication works on.
    pub const fn core(&self) -> &ChainCore {
        &self.core
    }

    /// Adds a block of an overlay; flushed when it returns. Not cancel-safe: dropped, it may or may not be added.
    ///
    /// # Errors
    /// [`LedgerError`]; then nothing was added.
    pub async fn append(&self, append: Append) -> Result<BlockInfo, LedgerError> {
        let Append { content, topics, signer } = append;
        let mut added = self.write(vec![NewBlock { content, topics }], signer, Placing::BySize).await?;
        added.pop().ok_or(LedgerError::Closed)
    }

    /// As [`Self::append`], with the whole content in the block however long it is: what must be read before the block
    /// can be admitted. At most
    /// [`INLINE_CONTENT_MAX`](crate::limits::INLINE_CONTENT_MAX) bytes.
    ///
    /// # Errors
    /// [`LedgerError::TooLarge`], also for a stream; [`LedgerError`]. Then nothing was added.
    pub async fn append_inline(&self, append: Append) -> Result<BlockInfo, LedgerError> {
        let Append { content, topics, signer } = append;
        let mut added = self.write(vec![NewBlock { content, topics }], signer, Placing::Inline).await?;
        added.pop().ok_or(LedgerError::Closed)
    }

    /// Adds blocks of an overlay, each a child of the one before, in one atomic commit and one flush.
    ///
    /// # Errors
    /// [`LedgerError`]; then none was added.
    pub async fn append_many(
        &self,
        blocks: Vec<NewBlock>,
        signer: Arc<dyn Signer>,
    ) -> Result<Vec<BlockInfo>, LedgerError> {
        self.write(blocks, signer, Placing::BySize).await
    }

    /// Returns the whole block, with its exact bytes, or nothing.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn block(&self, id: &BlockId) -> Result<Option<Block>, LedgerError> {
        self.core.block(id).await
    }

    /// Returns the block whose id begins with `text`: a whole id, its first characters, or the first of those that
    /// differ between blocks (behind `bafkrei`).
    ///
    /// # Errors
    /// [`LookupError`].
    pub async fn find(&self, text: &str) -> Result<BlockId, LookupError> {
        let unknown = || LookupError::Unknown { kind: "block", text: text.to_owned() };
        let whole = if text.starts_with(ID_TEXT_PREFIX) { text.to_owned() } else { format!("{ID_TEXT_PREFIX}{text}") };
        let inner = &self.core.inner;
        let (lowest, highest) = digest_range(&whole).ok_or_else(unknown)?;
        let range = KeyRange {
            start: inner.table.keys.key(Tag::Node, &[&lowest]),
            end: Some(behind(&inner.table.keys.key(Tag::Node, &[&highest]))),
        };
        let found = inner.table.scan(range, Direction::Forward, 2).await?;
        match found.as_slice() {
            // All ids begin with it, though no short form does.
            [] if text.len() > 1 && ID_TEXT_PREFIX.starts_with(text) => {
                Err(LookupError::Ambiguous { kind: "block", text: text.to_owned() })
            }
            [] => Err(unknown()),
            [(key, _)] => Ok(inner.table.note(id_at_end(key))?),
            _ => Err(LookupError::Ambiguous { kind: "block", text: text.to_owned() }),
        }
    }

    /// Returns the block at a place of canonical order: 0 is genesis, -1 the last. Costs some hundred
    /// index keys, however long the chain is.
    ///
    /// # Errors
    /// [`LookupError`].
    pub async fn at(&self, index: i64) -> Result<BlockInfo, LookupError> {
        let unknown = || LookupError::Unknown { kind: "block", text: index.to_string() };
        let id = self.core.at(index).await?.ok_or_else(unknown)?;
        query::infos(&self.core.inner, &[id]).await?.pop().ok_or_else(unknown)
    }

    /// Opens the content of a block, or the part of `range` that there is, for reading and seeking. What is not here is
    /// fetched as it is read, what is read next first; under
    /// [`FetchMode::OnDemand`](super::FetchMode::OnDemand) nothing else is.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn open(&self, id: &BlockId, range: Range<u64>) -> Result<ContentStream, LedgerError> {
        content::open(&self.core.inner, id, range).await
    }

    /// Follows how much of a block's content is here.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn progress(&self, id: &BlockId) -> Result<ContentProgress, LedgerError> {
        blob::progress(&self.core.inner, id).await
    }

    /// Lists the blobs that the blocks of the chain name, and what is here of each; in the order of the blobs.
    pub fn blobs(&self) -> BoxStream<'static, Result<BlobEntry, LedgerError>> {
        blob::list(Arc::clone(&self.core.inner))
    }

    fn signer(&self) -> Result<Arc<dyn Signer>, LedgerError> {
        self.author.get().ok_or(LedgerError::Locked)
    }

    async fn write(
        &self,
        blocks: Vec<NewBlock>,
        signer: Arc<dyn Signer>,
        placing: Placing,
    ) -> Result<Vec<BlockInfo>, LedgerError> {
        let inner = &self.core.inner;
        // Everything that can be refused is refused before any content is read or written.
        blocks.iter().try_for_each(|block| check_topics(&block.topics))?;
        if let Some(reason) = self.refusal {
            return Err(LedgerError::Refused { reason: reason.to_owned() });
        }
        if let Some(reason) = self.core.damage() {
            return Err(LedgerError::Damaged { reason });
        }
        if self.core.is_closed() {
            return Err(LedgerError::Closed);
        }
        let mut marks = Vec::new();
        let added = match self.prepare(blocks, placing, &mut marks).await {
            Ok(blocks) => self.core.append(Prepared { blocks, signer }).await,
            Err(error) => Err(error),
        };
        if added.is_err() {
            for mark in &marks {
                intake::give_up(inner, mark).await;
            }
        }
        let mut infos = Vec::new();
        for Written { block, arrival } in added? {
            infos.push(query::info(inner, block.id(), block.header().clone(), arrival, false).await?);
        }
        Ok(infos)
    }

    /// Takes in the contents; what was stored beside the chain is noted in `marks`.
    async fn prepare(
        &self,
        blocks: Vec<NewBlock>,
        placing: Placing,
        marks: &mut Vec<Nonce>,
    ) -> Result<Vec<PreparedBlock>, LedgerError> {
        let mut prepared = Vec::with_capacity(blocks.len());
        for NewBlock { content, topics } in blocks {
            let taken = match placing {
                Placing::BySize => content::take(&self.core.inner, content).await?,
                Placing::Inline => content::take_inline(content)?,
            };
            marks.extend(taken.mark);
            prepared.push(PreparedBlock { content: taken.content, topics, mark: taken.mark });
        }
        Ok(prepared)
    }
}

fn check_topics(topics: &[Topic]) -> Result<(), LedgerError> {
    let unique: std::collections::BTreeSet<_> = topics.iter().collect();
    if topics.len() > TOPICS_MAX || unique.len() != topics.len() {
        return Err(LedgerError::Topics);
    }
    Ok(())
}

fn check_user_topics(block: &NewBlock) -> Result<(), LedgerError> {
    if block.topics.iter().any(Topic::is_reserved) {
        return Err(LedgerError::Topic(TopicError::Reserved));
    }
    Ok(())
}

/// Returns the lowest and the highest digest whose block id begins with `text`, or nothing if none can.
fn digest_range(text: &str) -> Option<([u8; 32], [u8; 32])> {
    const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz234567";
    // Base32 of CIDv1 (0x01), raw (0x55), SHA-256 (0x12), 32 bytes (0x20), digest.
    const HEADER: [u8; 4] = [0x01, 0x55, 0x12, 0x20];
    let symbols = text.strip_prefix('b')?.as_bytes();
    let (mut low, mut high) = ([0u8; 37], [0xffu8; 37]);
    if symbols.len() > 58 {
        return None;
    }
    for (at, symbol) in symbols.iter().enumerate() {
        let value = ALPHABET.iter().position(|letter| letter == symbol)?;
        for bit in 0..5 {
            let place = at * 5 + bit;
            let mask = 0x80u8 >> (place % 8);
            let set = value & (0x10 >> bit) != 0;
            if let Some(byte) = low.get_mut(place / 8).filter(|_| set) {
                *byte |= mask;
            }
            if let Some(byte) = high.get_mut(place / 8).filter(|_| !set) {
                *byte &= !mask;
            }
        }
    }
    let digest = |bytes: &[u8; 37]| bytes.get(4..36).and_then(|digest| digest.try_into().ok());
    (low.first_chunk() == Some(&HEADER)).then(|| Some((digest(&low)?, digest(&high)?))).flatten()
}

#[async_trait]
impl LedgerRead for Chain {
    fn id(&self) -> ChainId {
        self.core.id()
    }

    async fn get(&self, id: &BlockId) -> Result<Option<BlockInfo>, LedgerError> {
        if self.core.node(id).await?.is_none() {
            return Ok(None);
        }
        Ok(query::infos(&self.core.inner, &[*id]).await?.pop())
    }

    async fn content(&self, id: &BlockId) -> Result<ContentReader, LedgerError> {
        Ok(Box::new(self.open(id, 0..u64::MAX).await?))
    }

    async fn content_range(&self, id: &BlockId, range: Range<u64>) -> Result<ContentReader, LedgerError> {
        Ok(Box::new(self.open(id, range).await?))
    }

    async fn count(&self) -> Result<u64, LedgerError> {
        Ok(self.core.inner.summary.borrow().count)
    }

    async fn heads(&self) -> Result<Vec<BlockId>, LedgerError> {
        Ok(self.core.summary().heads)
    }

    async fn query(&self, query: Query) -> Result<BoxStream<'static, Result<BlockInfo, LedgerError>>, LedgerError> {
        query::run(Arc::clone(&self.core.inner), query)
    }

    async fn subscribe(&self, from: SubscribeFrom) -> Result<Box<dyn Subscription>, LedgerError> {
        subscribe::subscribe(&self.core.inner, from).await
    }

    async fn page(&self, query: Query) -> Result<Page, LedgerError> {
        query::page(&self.core.inner, &query, query.page_size()).await
    }

    async fn node(&self, id: &BlockId) -> Result<Option<GraphNode>, LedgerError> {
        Ok(self.core.node(id).await?.as_ref().map(Node::graph))
    }

    async fn subscribers(&self) -> Result<Vec<Subscriber>, LedgerError> {
        subscribe::subscribers(&self.core.inner).await
    }

    async fn acknowledge(&self, name: &str, ack: Ack) -> Result<(), LedgerError> {
        subscribe::acknowledge(&self.core.inner, name, ack).await
    }

    async fn unsubscribe(&self, name: &str) -> Result<(), LedgerError> {
        subscribe::unsubscribe(&self.core.inner, name).await
    }
}

#[async_trait]
impl Ledger for Chain {
    async fn add(&self, block: NewBlock) -> Result<BlockInfo, LedgerError> {
        let mut added = self.add_many(vec![block]).await?;
        added.pop().ok_or(LedgerError::Closed)
    }

    async fn add_many(&self, blocks: Vec<NewBlock>) -> Result<Vec<BlockInfo>, LedgerError> {
        blocks.iter().try_for_each(check_user_topics)?;
        self.add_overlay(blocks).await
    }

    async fn add_overlay(&self, blocks: Vec<NewBlock>) -> Result<Vec<BlockInfo>, LedgerError> {
        let signer = self.signer()?;
        self.write(blocks, signer, Placing::BySize).await
    }

    async fn author(&self) -> Result<Author, LedgerError> {
        Ok(Author(self.signer()?.public_key().to_string().into()))
    }
}

#[async_trait]
impl LedgerControl for Chain {
    async fn status(&self) -> Result<LedgerStatus, LedgerError> {
        let summary = self.core.summary();
        Ok(LedgerStatus {
            blocks: summary.count,
            heads: summary.heads,
            pending: self.core.pending() as u64,
            missing_contents: self.core.wanted_blobs().await?.len() as u64,
            damaged: self.core.damage(),
        })
    }

    async fn shutdown(&self) {
        self.core.shutdown().await;
    }

    async fn delete(&self) -> Result<(), LedgerError> {
        match self.owner.as_ref().map(Weak::upgrade) {
            Some(Some(owner)) => owner.delete(&self.id()).await,
            Some(None) => Err(LedgerError::Closed),
            None => self.core.delete().await,
        }
    }
}
