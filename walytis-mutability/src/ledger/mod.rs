//! A mutable ledger: an overlay on any ledger, whose blocks can be edited, deleted and restored.
//!
//! ```text
//!   edit ─► op added to the ledger below
//!   ledger below ─► task: read op, judge, insert into the block's graph ─► index and events, one commit
//!   queries ─► index ─► ledger below
//! ```
//!
//! One task owns the index; everything else is read from the store. Cursors count the events of this ledger: a block's
//! cursor is that of the last event that changed what it shows.

mod apply;
mod filtered;
mod hot;
mod policy;
mod query;
mod read;
mod subscribe;
mod task;
mod version;
mod write;

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt as _};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use walytis_core::graph::GraphNode;
use walytis_core::id::{BlockId, ChainId};
use walytis_core::ledger::subscriber::Subscribers;
use walytis_core::ledger::{
    Ack, Author, BlockInfo, ContentReader, Cursor, Ledger, LedgerControl, LedgerError, LedgerRead, LedgerStatus,
    NewBlock, Page, PageCursor, Place, Query, SubscribeFrom, Subscriber, Subscription,
};
use walytis_core::store::{Batch, Durability, KvStore};
use walytis_core::topic::TopicError;

pub use version::{Current, CurrentPage, Erased, Version};

use crate::error::MutableError;
use crate::event::Events;
use crate::limits::EARLY_MAX;
use crate::op::OVERLAY;
use crate::rights::{Policy, Rights};
use crate::table::{Meta, Table};

/// What a mutable ledger is opened with.
#[derive(Debug)]
pub struct MutableParts<L: Ledger + ?Sized = dyn Ledger> {
    /// The ledger whose blocks become mutable.
    pub below: Arc<L>,
    /// Tells mutable ledgers over one chain apart in the store, e.g. by the private layer; any text.
    pub name: String,
    /// Who may change which block.
    pub rights: Arc<dyn Rights>,
    /// The node's store.
    pub store: Arc<dyn KvStore>,
}

/// A mutable ledger. Cheap to clone; all clones are the same ledger. Ends with the last handle or with
/// [`LedgerControl::shutdown`]; the ledger below stays open.
pub struct MutableLedger<L: Ledger + ?Sized + 'static = dyn Ledger>(Arc<Inner<L>>, Arc<DropGuard>);

pub(crate) struct Inner<L: Ledger + ?Sized> {
    below: Arc<L>,
    /// Tells it apart from others over the same chain.
    name: String,
    rights: Arc<dyn Rights>,
    table: Table,
    subscribers: Subscribers,
    state: watch::Sender<State>,
    /// One change of this node at a time: the next names the heads that the one before left.
    turn: Semaphore,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// Removes what a mutable ledger that is not open keeps in the store; see [`MutableParts`] for the name.
///
/// # Errors
/// [`LedgerError::Store`].
pub async fn remove_index(store: Arc<dyn KvStore>, chain: &ChainId, name: &str) -> Result<(), LedgerError> {
    let table = Table::new(store, chain, name);
    let mut batch = Batch::new();
    batch.delete_range(table.everything());
    Ok(table.store.commit(batch, Durability::Flushed).await?)
}

/// What the task publishes.
#[derive(Clone, Debug, Default)]
struct State {
    meta: Meta,
    damaged: Option<String>,
}

impl<L: Ledger + ?Sized> Clone for MutableLedger<L> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0), Arc::clone(&self.1))
    }
}

impl<L: Ledger + ?Sized> fmt::Debug for Inner<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MutableLedger({:?})", &self.below)
    }
}

impl<L: Ledger + ?Sized> fmt::Debug for MutableLedger<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<L: Ledger + ?Sized + 'static> MutableLedger<L> {
    /// Opens the ledger: takes in what the ledger below has got since the last time, nothing twice.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn open(parts: MutableParts<L>) -> Result<Self, LedgerError> {
        let MutableParts { below, name, rights, store } = parts;
        let table = Table::new(store, &below.id(), &name);
        let state = watch::Sender::new(State { meta: table.meta().await?, damaged: None });
        let subscribers = Subscribers::new(Arc::clone(&table.store), table.key(b's', &[]));
        let inner = Arc::new(Inner {
            below,
            name,
            rights,
            table,
            subscribers,
            state,
            turn: Semaphore::new(1),
            stop: CancellationToken::new(),
            task: Mutex::default(),
        });
        let mut task = task::Task::new(Arc::clone(&inner)).await?;
        task.catch_up().await?;
        let running = tokio::spawn(task.run());
        *inner.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
        let guard = Arc::new(inner.stop.clone().drop_guard());
        Ok(Self(inner, guard))
    }

    /// Returns the ledger below, which shows every block as it stands.
    pub fn below(&self) -> &Arc<L> {
        &self.0.below
    }

    /// Returns the position of the last event.
    pub fn cursor(&self) -> Cursor {
        Cursor(self.0.state.borrow().meta.sequence)
    }

    /// Returns the block that a version belongs to; the original belongs to itself.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn original_of(&self, version: &BlockId) -> Result<Option<BlockId>, LedgerError> {
        if self.0.table.original(version).await?.is_some() {
            return Ok(Some(*version));
        }
        Ok(self.0.table.original_of(version).await?)
    }

    /// Returns a block as it stands now, deleted or not; nothing if there is none of this id.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn current(&self, id: &BlockId) -> Result<Option<Current>, LedgerError> {
        self.0.current(id).await
    }

    /// Returns blocks as they stand now, in the order of the originals; with `deleted` also those that are deleted.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn blocks(
        &self,
        query: Query,
        deleted: bool,
    ) -> Result<BoxStream<'static, Result<Current, LedgerError>>, LedgerError> {
        query::run(Arc::clone(&self.0), query, deleted)
    }

    /// Returns the next page of blocks as they stand now: at most [`Query::page_size`], behind [`Query::after`]; with
    /// `deleted` also those that are deleted. Cursors with and without `deleted` are not the same.
    ///
    /// # Errors
    /// [`LedgerError::Cursor`]; [`LedgerError`].
    pub async fn blocks_page(&self, query: Query, deleted: bool) -> Result<CurrentPage, LedgerError> {
        self.0.page(&query, query.page_size(), deleted).await
    }

    /// Returns the cursor behind a block of the answer of [`Self::blocks`].
    pub fn blocks_cursor_behind(&self, query: &Query, block: &BlockInfo, deleted: bool) -> PageCursor {
        self.0.cursor_at(query, Place::of(query.order, block), deleted)
    }

    /// Begins to follow what happens to the blocks. The names of durable subscribers are shared with
    /// [`LedgerRead::subscribe`]: one name is one subscriber with one position, whichever it asks for.
    ///
    /// # Errors
    /// [`LedgerError`]; [`LedgerError::Refused`] for a bad name.
    pub async fn events(&self, from: SubscribeFrom) -> Result<Box<dyn Events>, LedgerError> {
        subscribe::events(&self.0, from).await
    }

    /// Says whether the ledger can be used.
    ///
    /// # Errors
    /// [`LedgerError::Closed`] once it or the ledger below is shut down; [`LedgerError::Damaged`].
    pub fn check(&self) -> Result<(), LedgerError> {
        self.0.check_open()
    }

    /// Waits until everything that stands in the ledger below now is taken in.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn level(&self) -> Result<(), LedgerError> {
        let end = self.0.end_below().await?;
        self.0.wait_for(end).await
    }

    /// Waits until what the ledger below had at `position` is taken in.
    ///
    /// # Errors
    /// [`LedgerError::Closed`], [`LedgerError::Damaged`].
    pub async fn wait_for(&self, position: Cursor) -> Result<(), LedgerError> {
        self.0.wait_for(position.0).await
    }
}

impl<L: Ledger + ?Sized + 'static> Inner<L> {
    fn check_open(&self) -> Result<(), LedgerError> {
        if self.stop.is_cancelled() {
            return Err(LedgerError::Closed);
        }
        match &self.state.borrow().damaged {
            Some(reason) => Err(LedgerError::Damaged { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Waits until the task has taken in what the ledger below had at a position.
    async fn wait_for(&self, position: u64) -> Result<(), LedgerError> {
        let mut state = self.state.subscribe();
        let reached = state.wait_for(|state| state.meta.position >= position || state.damaged.is_some());
        tokio::select! {
            biased;
            reached = reached => reached.map(drop).map_err(|_| LedgerError::Closed)?,
            () = self.stop.cancelled() => return Err(LedgerError::Closed),
        }
        self.check_open()
    }

    async fn add(&self, blocks: Vec<NewBlock>, overlay: bool) -> Result<Vec<BlockInfo>, LedgerError> {
        self.check_open()?;
        // An overlay above this one must not write what this one would take for its own.
        if blocks.iter().flat_map(|block| &block.topics).any(|topic| topic.overlay_text(OVERLAY).is_some()) {
            return Err(LedgerError::Topic(TopicError::Reserved));
        }
        let added = if overlay { self.below.add_overlay(blocks).await? } else { self.below.add_many(blocks).await? };
        self.wait_for(added.last().map_or(0, |info| info.cursor.0)).await?;
        let mut infos = Vec::with_capacity(added.len());
        for info in added {
            // The ledger below has it: that it cannot be shown as it stands now makes no failure of its addition.
            infos.push(self.current(&info.id).await?.map_or(info, |current| current.info));
        }
        Ok(infos)
    }
}

#[async_trait]
impl<L: Ledger + ?Sized + 'static> LedgerRead for MutableLedger<L> {
    fn id(&self) -> ChainId {
        self.0.below.id()
    }

    /// Returns a block as it stands now; nothing if it is deleted, or only a version of another.
    async fn get(&self, id: &BlockId) -> Result<Option<BlockInfo>, LedgerError> {
        Ok(self.0.current(id).await?.filter(|current| !current.deleted).map(|current| current.info))
    }

    /// Streams the content of a block as it stands now; of a version, its own.
    async fn content(&self, id: &BlockId) -> Result<ContentReader, LedgerError> {
        self.0.content(id, None).await
    }

    async fn content_range(&self, id: &BlockId, range: Range<u64>) -> Result<ContentReader, LedgerError> {
        self.0.content(id, Some(range)).await
    }

    async fn count(&self) -> Result<u64, LedgerError> {
        Ok(self.0.state.borrow().meta.shown)
    }

    async fn heads(&self) -> Result<Vec<BlockId>, LedgerError> {
        self.0.below.heads().await
    }

    async fn query(&self, query: Query) -> Result<BoxStream<'static, Result<BlockInfo, LedgerError>>, LedgerError> {
        let found = self.blocks(query, false)?;
        Ok(found.map(|current| current.map(|current| current.info)).boxed())
    }

    async fn page(&self, query: Query) -> Result<Page, LedgerError> {
        let page = self.blocks_page(query, false).await?;
        Ok(Page { blocks: page.blocks.into_iter().map(|current| current.info).collect(), next: page.next })
    }

    fn cursor_behind(&self, query: &Query, block: &BlockInfo) -> PageCursor {
        self.blocks_cursor_behind(query, block, false)
    }

    async fn node(&self, id: &BlockId) -> Result<Option<GraphNode>, LedgerError> {
        self.0.below.node(id).await
    }

    /// Begins a subscription: a block comes again when it is edited or restored, and is retracted when it is deleted.
    async fn subscribe(&self, from: SubscribeFrom) -> Result<Box<dyn Subscription>, LedgerError> {
        subscribe::blocks(&self.0, from).await
    }

    async fn subscribers(&self) -> Result<Vec<Subscriber>, LedgerError> {
        let end = self.cursor();
        self.0.subscribers.list(end.0).await
    }

    async fn acknowledge(&self, name: &str, ack: Ack) -> Result<(), LedgerError> {
        self.0.check_open()?;
        self.0.subscribers.acknowledge(name, ack).await
    }

    async fn unsubscribe(&self, name: &str) -> Result<(), LedgerError> {
        self.0.check_open()?;
        self.0.subscribers.remove(name).await
    }
}

#[async_trait]
impl<L: Ledger + ?Sized + 'static> Ledger for MutableLedger<L> {
    async fn add(&self, block: NewBlock) -> Result<BlockInfo, LedgerError> {
        self.add_many(vec![block]).await?.pop().ok_or(LedgerError::Closed)
    }

    async fn add_many(&self, blocks: Vec<NewBlock>) -> Result<Vec<BlockInfo>, LedgerError> {
        self.0.add(blocks, false).await
    }

    async fn add_overlay(&self, blocks: Vec<NewBlock>) -> Result<Vec<BlockInfo>, LedgerError> {
        self.0.add(blocks, true).await
    }

    async fn author(&self) -> Result<Author, LedgerError> {
        self.0.below.author().await
    }

    /// Has all versions of the blocks forgotten, where the ledger below can.
    async fn forget(&self, ids: &[BlockId]) -> Result<(), LedgerError> {
        self.0.forget(ids).await
    }
}

#[async_trait]
impl<L: Ledger + ?Sized + 'static> LedgerControl for MutableLedger<L> {
    async fn status(&self) -> Result<LedgerStatus, LedgerError> {
        let (blocks, damaged) = {
            let state = self.0.state.borrow();
            (state.meta.shown, state.damaged.clone())
        };
        let heads = self.0.below.heads().await?;
        let missing = self.0.not_arrived(EARLY_MAX).await?.len() as u64;
        let unread = self.0.unread().await?;
        Ok(LedgerStatus { blocks, heads, pending: unread, missing_contents: missing, damaged })
    }

    async fn shutdown(&self) {
        self.0.stop.cancel();
        let task = self.0.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // A task that panicked has nothing left to finish.
            let _ended = task.await.is_ok();
        }
    }

    /// Shuts down and removes the index; the blocks stay in the ledger below.
    async fn delete(&self) -> Result<(), LedgerError> {
        self.shutdown().await;
        let mut batch = Batch::new();
        batch.delete_range(self.0.table.everything());
        Ok(self.0.table.store.commit(batch, Durability::Flushed).await?)
    }
}

/// Blocks of this ledger can be changed.
impl<L: Ledger + ?Sized + 'static> MutableLedger<L> {
    /// Gives a block another content, and other topics if some are given (at most
    /// [`EDIT_TOPICS_MAX`](crate::limits::EDIT_TOPICS_MAX)); what stood beside each other before is merged.
    ///
    /// # Errors
    /// [`MutableError`]; then nothing was changed.
    pub async fn edit(
        &self,
        id: &BlockId,
        content: walytis_core::ledger::Content,
        topics: Option<Vec<walytis_core::topic::Topic>>,
    ) -> Result<Current, MutableError> {
        self.0.edit(id, content, topics).await
    }

    /// Deletes a block; its versions stay in the history.
    ///
    /// # Errors
    /// [`MutableError`]; then nothing was changed.
    pub async fn delete_block(&self, id: &BlockId) -> Result<Current, MutableError> {
        self.0.delete_block(id).await
    }

    /// Shows an earlier version again: the original, an edit, or what an earlier restore showed. Also of a deleted block.
    ///
    /// # Errors
    /// [`MutableError`]; then nothing was changed.
    pub async fn restore(&self, id: &BlockId, version: &BlockId) -> Result<Current, MutableError> {
        self.0.restore(id, version).await
    }

    /// Deletes a block, if it is not deleted yet, and asks the ledger below to forget the contents of all its versions.
    ///
    /// # Errors
    /// [`MutableError`]; that the ledger below cannot forget is no error, see [`Erased`].
    pub async fn erase(&self, id: &BlockId) -> Result<Erased, MutableError> {
        self.0.erase(id).await
    }

    /// Returns every version that counts, the original first, in canonical order; nothing for an unknown block.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn versions(&self, id: &BlockId) -> Result<Vec<Version>, LedgerError> {
        self.0.versions(id).await
    }

    /// Returns the version that `block` is, or else the one that was current where `block` stands in canonical order;
    /// nothing if `id` came later or either is unknown.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn version_at(&self, id: &BlockId, block: &BlockId) -> Result<Option<Version>, LedgerError> {
        self.0.version_at(id, block).await
    }

    /// Returns the versions beside the current one that no later version took into account, the next best first.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn conflicts(&self, id: &BlockId) -> Result<Vec<Version>, LedgerError> {
        self.0.conflicts(id).await
    }

    /// Streams the content of a version of a block; of a restore what it restored.
    ///
    /// # Errors
    /// [`MutableError::NoVersion`], [`MutableError::NoContent`], [`LedgerError`].
    pub async fn version_content(&self, id: &BlockId, version: &BlockId) -> Result<ContentReader, MutableError> {
        self.0.version_content(id, version, None).await
    }

    /// Streams the part of a version's content that lies in `range`, less where the content is shorter.
    ///
    /// # Errors
    /// As [`Self::version_content`].
    pub async fn version_content_range(
        &self,
        id: &BlockId,
        version: &BlockId,
        range: Range<u64>,
    ) -> Result<ContentReader, MutableError> {
        self.0.version_content(id, version, Some(range)).await
    }

    /// Returns the policy for what is changed next.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn policy(&self) -> Result<Policy, LedgerError> {
        Ok(self.0.table.policy(None).await?)
    }

    /// Says who may change blocks from now on; what was changed before stays as it is. Only an admin may.
    ///
    /// # Errors
    /// [`MutableError::PolicyNotAllowed`]; [`MutableError`]. Then nothing was changed.
    pub async fn set_policy(&self, policy: Policy) -> Result<(), MutableError> {
        self.0.set_policy(policy).await
    }
}
