//! The interface of every block database: chains, and the overlays on them.

mod block;
mod cursor;
mod error;
pub mod handle;
mod query;
pub mod subscriber;
mod subscription;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt as _};
use tokio::io::AsyncReadExt as _;

pub use block::{Author, BlockInfo, BlockState, Content, ContentReader, Cursor, NewBlock};
pub use cursor::{CursorError, PageCursor, Place};
pub use error::LedgerError;
pub use query::{Order, Page, Query};
pub use subscription::{Ack, LedgerEvent, SubscribeFrom, Subscriber, Subscription};

use crate::graph::GraphNode;
use crate::id::{BlockId, ChainId};

/// How a ledger is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerStatus {
    /// Admitted blocks.
    pub blocks: u64,
    /// Heads.
    pub heads: Vec<BlockId>,
    /// Blocks held until an ancestor or a right is known.
    pub pending: u64,
    /// Contents known of and not here.
    pub missing_contents: u64,
    /// Why the ledger is damaged and read-only, if it is.
    pub damaged: Option<String>,
}

/// Reading a ledger.
#[async_trait]
pub trait LedgerRead: Send + Sync + fmt::Debug {
    /// Returns the id of the chain beneath.
    fn id(&self) -> ChainId;

    /// Returns a block without its content, or nothing.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn get(&self, id: &BlockId) -> Result<Option<BlockInfo>, LedgerError>;

    /// Streams the content; fetches it first if it is not here.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn content(&self, id: &BlockId) -> Result<ContentReader, LedgerError>;

    /// Streams the part of the content that lies in `range`, less where the content is shorter. By default everything
    /// before it is read and thrown away.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn content_range(&self, id: &BlockId, range: Range<u64>) -> Result<ContentReader, LedgerError> {
        let mut reader = self.content(id).await?;
        let mut skipped = (&mut reader).take(range.start);
        tokio::io::copy(&mut skipped, &mut tokio::io::sink()).await.map_err(LedgerError::Read)?;
        Ok(Box::new(reader.take(range.end.saturating_sub(range.start))))
    }

    /// Returns how many blocks the ledger shows.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn count(&self) -> Result<u64, LedgerError>;

    /// Returns the heads, ascending.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn heads(&self) -> Result<Vec<BlockId>, LedgerError>;

    /// Returns the blocks that match; read page by page from an index.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn query(&self, query: Query) -> Result<BoxStream<'static, Result<BlockInfo, LedgerError>>, LedgerError>;

    /// Returns the next page of blocks that match: at most [`Query::page_size`], behind [`Query::after`]. It costs what
    /// is on it, not what the ledger holds.
    ///
    /// # Errors
    /// [`LedgerError::Cursor`] for a cursor of another ledger or query; [`LedgerError`].
    async fn page(&self, query: Query) -> Result<Page, LedgerError> {
        let size = query.page_size();
        let mut found = self.query(Query { limit: Some(size.saturating_add(1)), ..query.clone() }).await?;
        let mut blocks: Vec<BlockInfo> = Vec::new();
        while let Some(info) = found.next().await {
            let info = info?;
            if blocks.len() == size {
                let next = blocks.last().map(|last| self.cursor_behind(&query, last));
                return Ok(Page { blocks, next });
            }
            blocks.push(info);
        }
        Ok(Page { blocks, next: None })
    }

    /// Returns the cursor behind a block of the query's answer.
    fn cursor_behind(&self, query: &Query, block: &BlockInfo) -> PageCursor {
        PageCursor::new(&self.id(), "", query, Place::of(query.order, block))
    }

    /// Returns generation and parents of any admitted block of the chain beneath, shown by this ledger or not.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn node(&self, id: &BlockId) -> Result<Option<GraphNode>, LedgerError> {
        let info = self.get(id).await?;
        Ok(info.map(|info| GraphNode { generation: info.generation, parents: info.parents }))
    }

    /// Begins a subscription.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn subscribe(&self, from: SubscribeFrom) -> Result<Box<dyn Subscription>, LedgerError>;

    /// Returns the durable subscribers, by name.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn subscribers(&self) -> Result<Vec<Subscriber>, LedgerError>;

    /// Acknowledges for a durable subscriber, whether or not it is being listened to.
    ///
    /// # Errors
    /// [`LedgerError::UnknownSubscriber`], [`LedgerError::NotDelivered`]; [`LedgerError`].
    async fn acknowledge(&self, name: &str, ack: Ack) -> Result<(), LedgerError>;

    /// Removes a durable subscriber and its position; one that listens is told.
    ///
    /// # Errors
    /// [`LedgerError::UnknownSubscriber`]; [`LedgerError`].
    async fn unsubscribe(&self, name: &str) -> Result<(), LedgerError>;
}

/// Reading and writing a ledger.
#[async_trait]
pub trait Ledger: LedgerRead {
    /// Adds a block; flushed and on its way to others when it returns.
    ///
    /// # Errors
    /// [`LedgerError`]; then nothing was added.
    async fn add(&self, block: NewBlock) -> Result<BlockInfo, LedgerError>;

    /// Adds blocks, each a child of the one before, in one atomic commit and one flush.
    ///
    /// # Errors
    /// [`LedgerError`]; then none was added.
    async fn add_many(&self, blocks: Vec<NewBlock>) -> Result<Vec<BlockInfo>, LedgerError>;

    /// Adds blocks of an overlay: as [`Ledger::add_many`], with reserved topics allowed.
    ///
    /// # Errors
    /// [`LedgerError::Unsupported`] by default; [`LedgerError`]. Then none was added.
    async fn add_overlay(&self, _blocks: Vec<NewBlock>) -> Result<Vec<BlockInfo>, LedgerError> {
        Err(LedgerError::Unsupported { what: "blocks of overlays" })
    }

    /// Returns as whom blocks are added.
    ///
    /// # Errors
    /// [`LedgerError::Unsupported`] by default; [`LedgerError::Locked`] while nothing can be signed.
    async fn author(&self) -> Result<Author, LedgerError> {
        Err(LedgerError::Unsupported { what: "naming its author" })
    }

    /// Destroys the contents of blocks, where the ledger can; where others have a say, proposes it to them and returns.
    ///
    /// # Errors
    /// [`LedgerError::Unsupported`] by default.
    async fn forget(&self, _ids: &[BlockId]) -> Result<(), LedgerError> {
        Err(LedgerError::Unsupported { what: "forgetting" })
    }
}

/// Life and death of a ledger.
#[async_trait]
pub trait LedgerControl: Send + Sync + fmt::Debug {
    /// Returns how it is.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn status(&self) -> Result<LedgerStatus, LedgerError>;

    /// Finishes what was begun, flushes, ends all tasks. Idempotent.
    async fn shutdown(&self);

    /// Shuts down and removes all local data.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn delete(&self) -> Result<(), LedgerError>;
}

#[async_trait]
impl<L: LedgerRead + ?Sized> LedgerRead for Arc<L> {
    fn id(&self) -> ChainId {
        (**self).id()
    }

    async fn get(&self, id: &BlockId) -> Result<Option<BlockInfo>, LedgerError> {
        (**self).get(id).await
    }

    async fn content(&self, id: &BlockId) -> Result<ContentReader, LedgerError> {
        (**self).content(id).await
    }

    async fn content_range(&self, id: &BlockId, range: Range<u64>) -> Result<ContentReader, LedgerError> {
        (**self).content_range(id, range).await
    }

    async fn count(&self) -> Result<u64, LedgerError> {
        (**self).count().await
    }

    async fn heads(&self) -> Result<Vec<BlockId>, LedgerError> {
        (**self).heads().await
    }

    async fn query(&self, query: Query) -> Result<BoxStream<'static, Result<BlockInfo, LedgerError>>, LedgerError> {
        (**self).query(query).await
    }

    async fn page(&self, query: Query) -> Result<Page, LedgerError> {
        (**self).page(query).await
    }

    fn cursor_behind(&self, query: &Query, block: &BlockInfo) -> PageCursor {
        (**self).cursor_behind(query, block)
    }

    async fn node(&self, id: &BlockId) -> Result<Option<GraphNode>, LedgerError> {
        (**self).node(id).await
    }

    async fn subscribe(&self, from: SubscribeFrom) -> Result<Box<dyn Subscription>, LedgerError> {
        (**self).subscribe(from).await
    }

    async fn subscribers(&self) -> Result<Vec<Subscriber>, LedgerError> {
        (**self).subscribers().await
    }

    async fn acknowledge(&self, name: &str, ack: Ack) -> Result<(), LedgerError> {
        (**self).acknowledge(name, ack).await
    }

    async fn unsubscribe(&self, name: &str) -> Result<(), LedgerError> {
        (**self).unsubscribe(name).await
    }
}

#[async_trait]
impl<L: Ledger + ?Sized> Ledger for Arc<L> {
    async fn add(&self, block: NewBlock) -> Result<BlockInfo, LedgerError> {
        (**self).add(block).await
    }

    async fn add_many(&self, blocks: Vec<NewBlock>) -> Result<Vec<BlockInfo>, LedgerError> {
        (**self).add_many(blocks).await
    }

    async fn add_overlay(&self, blocks: Vec<NewBlock>) -> Result<Vec<BlockInfo>, LedgerError> {
        (**self).add_overlay(blocks).await
    }

    async fn author(&self) -> Result<Author, LedgerError> {
        (**self).author().await
    }

    async fn forget(&self, ids: &[BlockId]) -> Result<(), LedgerError> {
        (**self).forget(ids).await
    }
}
