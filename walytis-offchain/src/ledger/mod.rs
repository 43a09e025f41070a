//! A private ledger: an overlay on a chain whose blocks only the controllers of one identity can read.
//!
//! ```text
//!   add ─► seal ─► envelope flushed ─► record appended ─► pushed to whoever is connected
//!   chain ─► task: judge, verify, want ─► events ─► subscriptions
//!   peers ─► serve: judged at every request
//! ```
//!
//! One task per ledger owns what changes; everything else is read from the store. Cursors count the events of this
//! ledger: a block gets its cursor when its content can be read, 0 before.

mod checkpoints;
mod content_state;
mod envelopes;
mod fetching;
mod forget;
mod progress;
mod query;
mod read;
mod seal;
mod serve;
mod settle;
mod status;
mod subscribe;
mod sweep;
mod table;
mod task;
mod topics;
mod unopened;
mod vouched;

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt as _};
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use walytis_core::chain::{Chain, LookupError};
use walytis_core::clock::{Clock, Entropy};
use walytis_core::graph::GraphNode;
use walytis_core::id::{BlockId, ChainId};
use walytis_core::ledger::subscriber::Subscribers;
use walytis_core::ledger::{
    Ack, Author, BlockInfo, ContentReader, Ledger, LedgerControl, LedgerError, LedgerRead, LedgerStatus, NewBlock,
    Page, PageCursor, Place, Query, SubscribeFrom, Subscriber, Subscription,
};
use walytis_core::store::{Batch, BlobStore, Durability, KvStore, StoreError};
use walytis_core::topic::Topic;
use walytis_identities::bound::RecordRules;
use walytis_identities::identity::{Identity, IdentityError};

pub use checkpoints::Authorship;
pub use content_state::ContentState;
pub use forget::{Proposal, ProposalState};
pub use progress::Progress;
pub use status::BlockStatus;
pub use unopened::UnopenedRecord;

use crate::context::LedgerTag;
use crate::envelope::EnvelopeId;
use crate::exchange::frame_v1::Packed;
use crate::exchange::{Event, OffchainExchange, Port};
use crate::forget::ForgetRule;
pub(crate) use seal::INLINE_MAX;
use table::{Standing, Table};

/// Name of the overlay in topics.
const OVERLAY: &str = "offchain";
/// Name of the overlay of checkpoints.
const CHECKPOINTS: &str = "checkpoint";
/// Answers and pushes that wait for the task; when full, the peer's stream waits.
const INBOX: usize = 64;
/// Pushed envelopes that wait for the task; more are dropped and fetched.
const PUSHES: usize = 64;
/// Commands that wait for the task; when full, their callers wait.
const COMMANDS: usize = 16;
/// Changes of contents that a slow listener may lag behind; then it misses some.
const MOVES: usize = 1_024;
/// Longest layer name in bytes. Chosen: with its prefix it is a topic.
pub const LAYER_MAX: usize = 64;

/// What a private ledger is opened with.
#[derive(Clone, Debug)]
pub struct PrivateParts {
    /// The group; its controllers are the authorised peers.
    pub identity: Arc<dyn Identity>,
    /// Where the records stand: the identity's own chain, or one that was bound to it at its genesis. `identity` must judge
    /// records there ([`Identity::rules`]).
    pub chain: Chain,
    /// Tells private ledgers of one chain apart; 1..=64 bytes, visible on the chain.
    pub layer: String,
    /// The node's store.
    pub store: Arc<dyn KvStore>,
    /// The node's store of large objects.
    pub blobs: Arc<dyn BlobStore>,
    /// The node's exchange; nothing: contents stay here.
    pub exchange: Option<OffchainExchange>,
    /// Tells when contents expire.
    pub clock: Arc<dyn Clock>,
    /// For keys and nonces.
    pub entropy: Arc<dyn Entropy>,
}

/// A private ledger. Cheap to clone; all clones are the same ledger.
#[derive(Clone)]
pub struct PrivateLedger(
    Arc<Inner>,
    #[expect(dead_code, reason = "ends the task with the last handle")] Arc<DropGuard>,
);

pub(crate) struct Inner {
    identity: Arc<dyn Identity>,
    /// What the chain asks of records.
    rules: RecordRules,
    chain: Chain,
    layer: String,
    topic: Topic,
    /// Of records about forgetting.
    forget_topic: Topic,
    checkpoint_topic: Topic,
    table: Table,
    subscribers: Subscribers,
    exchange: Option<OffchainExchange>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    state: watch::Sender<State>,
    pushes: mpsc::Sender<(EnvelopeId, Packed)>,
    commands: mpsc::Sender<forget::Command>,
    /// Blocks whose contents came nearer, or went.
    moves: broadcast::Sender<BlockId>,
    /// Envelopes that no connected peer has.
    unavailable: Mutex<BTreeSet<EnvelopeId>>,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What the task publishes.
#[derive(Clone, Debug, Default)]
struct State {
    meta: table::Meta,
    /// Moves with every change of any record.
    version: u64,
    damaged: Option<String>,
    /// Why the task cannot go on now: its store failed, and failed again when it was asked once more.
    failing: Option<StoreError>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateLedger({:?}/{})", self.chain.id(), self.layer)
    }
}

impl fmt::Debug for PrivateLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PrivateLedger {
    /// Opens the ledger: reads on where it stopped, removes envelopes whose record never came onto the chain, and begins
    /// to fetch and serve.
    ///
    /// # Errors
    /// [`LedgerError`]; [`LedgerError::Refused`] for a bad layer name, for a chain that is not the identity's, or if the ledger
    /// is open already.
    pub async fn open(parts: PrivateParts) -> Result<Self, LedgerError> {
        let PrivateParts { identity, chain, layer, store, blobs, exchange, clock, entropy } = parts;
        if layer.is_empty() || layer.len() > LAYER_MAX {
            return Err(LedgerError::Refused { reason: format!("a layer's name has 1 to {LAYER_MAX} bytes") });
        }
        let Some(rules) = identity.rules(&chain.id()) else {
            let reason = "the chain is not the identity's own and was not bound to it at its genesis";
            return Err(LedgerError::Refused { reason: reason.to_owned() });
        };
        let topic = Topic::overlay(OVERLAY, &layer)?;
        let forget_topic = Topic::overlay(crate::forget::OVERLAY, &layer)?;
        let checkpoint_topic = Topic::overlay(CHECKPOINTS, &layer)?;
        let tag = LedgerTag::new(&chain.id(), &layer);
        let table = Table::new(store, blobs, chain.id(), tag);
        let subscribers = Subscribers::new(Arc::clone(&table.store), table.key(b'n', &[]));
        let (pushes, pushed) = mpsc::channel(PUSHES);
        let (inbox_tx, inbox) = mpsc::channel::<Event>(INBOX);
        let (commands, commanded) = mpsc::channel(COMMANDS);
        let state = watch::Sender::new(State { meta: table.meta().await?, ..State::default() });
        let inner = Arc::new(Inner {
            identity,
            rules,
            chain,
            layer,
            topic,
            forget_topic,
            checkpoint_topic,
            table,
            subscribers,
            exchange,
            clock,
            entropy,
            state,
            pushes,
            commands,
            moves: broadcast::Sender::new(MOVES),
            unavailable: Mutex::default(),
            stop: CancellationToken::new(),
            task: Mutex::default(),
        });
        let peers = Arc::new(Notify::new());
        let inputs = task::Inputs { inbox, peers: Arc::clone(&peers), pushed, commands: commanded };
        let mut task = task::Task::new(Arc::clone(&inner), inputs).await?;
        task.catch_up().await?;
        task.clear_away().await?;
        if let Some(exchange) = &inner.exchange {
            let server: Arc<dyn crate::exchange::Serve> = Arc::new(serve::Server(Arc::downgrade(&inner)));
            if !exchange.attach(tag, Port { server, inbox: inbox_tx, peers }) {
                return Err(LedgerError::Refused { reason: "this private ledger is open already".to_owned() });
            }
        }
        let running = tokio::spawn(task.run());
        *inner.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
        let guard = Arc::new(inner.stop.clone().drop_guard());
        Ok(Self(inner, guard))
    }

    /// Returns the layer's name.
    pub fn layer(&self) -> &str {
        &self.0.layer
    }

    /// Returns how far a block's content is, or nothing if the ledger has no such block or it does not count.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn block_status(&self, id: &BlockId) -> Result<Option<BlockStatus>, LedgerError> {
        Ok(self.get(id).await?.as_ref().and_then(BlockStatus::of))
    }

    /// Returns how far the content of each block is that counts, in canonical order, page by page.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn statuses(&self) -> Result<BoxStream<'static, Result<BlockStatus, LedgerError>>, LedgerError> {
        let blocks = self.query(Query::default()).await?;
        let statuses =
            blocks.filter_map(|info| std::future::ready(info.map(|info| BlockStatus::of(&info)).transpose()));
        Ok(statuses.boxed())
    }

    /// Returns the block of this ledger whose id begins with `text`: a whole id, its first characters, or the first of
    /// those that differ between blocks. A prefix that several blocks of the chain share is ambiguous even if only one of
    /// them belongs to this ledger.
    ///
    /// # Errors
    /// [`LookupError`].
    pub async fn find(&self, text: &str) -> Result<BlockId, LookupError> {
        let id = self.0.chain.find(text).await?;
        let found = self.get(&id).await?.map(|info| info.id);
        found.ok_or_else(|| LookupError::Unknown { kind: "block", text: text.to_owned() })
    }
}

impl Inner {
    /// What tells this ledger from others on the same chain.
    fn overlay(&self) -> String {
        format!("{OVERLAY}/{}", self.layer)
    }

    /// Returns a block as it shows, or nothing for one that is not here or waits.
    async fn shown_block(&self, id: &BlockId) -> Result<Option<BlockInfo>, LedgerError> {
        match self.table.record(id).await? {
            Some(record) if record.standing != Standing::Waiting => self.info(id, &record).await.map(Some),
            _ => Ok(None),
        }
    }

    fn unavailable(&self) -> MutexGuard<'_, BTreeSet<EnvelopeId>> {
        self.unavailable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whoever looks on that a block's content came nearer.
    fn moved(&self, id: BlockId) {
        // Nobody may be looking on.
        let _nobody = self.moves.send(id).is_err();
    }

    fn check_open(&self) -> Result<(), LedgerError> {
        if self.stop.is_cancelled() {
            return Err(LedgerError::Closed);
        }
        match &self.state.borrow().damaged {
            Some(reason) => Err(LedgerError::Damaged { reason: reason.clone() }),
            None => Ok(()),
        }
    }
}

fn of_identity(error: IdentityError) -> LedgerError {
    match error {
        IdentityError::Locked => LedgerError::Locked,
        IdentityError::Store(error) => LedgerError::Store(error),
        IdentityError::Refused { reason } => LedgerError::Refused { reason },
        other => LedgerError::Refused { reason: other.to_string() },
    }
}

#[async_trait]
impl LedgerRead for PrivateLedger {
    fn id(&self) -> ChainId {
        self.0.chain.id()
    }

    async fn get(&self, id: &BlockId) -> Result<Option<BlockInfo>, LedgerError> {
        self.0.shown_block(id).await
    }

    async fn content(&self, id: &BlockId) -> Result<ContentReader, LedgerError> {
        self.0.content(id, 0..u64::MAX).await
    }

    async fn content_range(&self, id: &BlockId, range: Range<u64>) -> Result<ContentReader, LedgerError> {
        self.0.content(id, range).await
    }

    async fn count(&self) -> Result<u64, LedgerError> {
        Ok(self.0.state.borrow().meta.valid)
    }

    async fn heads(&self) -> Result<Vec<BlockId>, LedgerError> {
        self.0.chain.heads().await
    }

    async fn query(&self, query: Query) -> Result<BoxStream<'static, Result<BlockInfo, LedgerError>>, LedgerError> {
        query::run(Arc::clone(&self.0), query)
    }

    async fn subscribe(&self, from: SubscribeFrom) -> Result<Box<dyn Subscription>, LedgerError> {
        subscribe::subscribe(&self.0, from).await
    }

    async fn page(&self, query: Query) -> Result<Page, LedgerError> {
        self.0.page(&query, query.page_size()).await
    }

    fn cursor_behind(&self, query: &Query, block: &BlockInfo) -> PageCursor {
        PageCursor::new(&self.id(), &self.0.overlay(), query, Place::of(query.order, block))
    }

    async fn node(&self, id: &BlockId) -> Result<Option<GraphNode>, LedgerError> {
        self.0.chain.node(id).await
    }

    async fn subscribers(&self) -> Result<Vec<Subscriber>, LedgerError> {
        let end = self.0.state.borrow().meta.sequence;
        self.0.subscribers.list(end).await
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
impl Ledger for PrivateLedger {
    async fn add(&self, block: NewBlock) -> Result<BlockInfo, LedgerError> {
        self.add_many(vec![block]).await?.pop().ok_or(LedgerError::Closed)
    }

    async fn add_many(&self, blocks: Vec<NewBlock>) -> Result<Vec<BlockInfo>, LedgerError> {
        seal::add(&self.0, blocks, ForgetRule::default()).await
    }

    async fn add_overlay(&self, blocks: Vec<NewBlock>) -> Result<Vec<BlockInfo>, LedgerError> {
        seal::add_overlay(&self.0, blocks).await
    }

    async fn author(&self) -> Result<Author, LedgerError> {
        Ok(Author(self.0.identity.controller().to_string().into()))
    }

    /// Proposes it to the other controllers, by [`Self::propose_forget`]; passes over what all have forgotten already.
    async fn forget(&self, ids: &[BlockId]) -> Result<(), LedgerError> {
        forget::propose_all(self, ids).await
    }
}

#[async_trait]
impl LedgerControl for PrivateLedger {
    async fn status(&self) -> Result<LedgerStatus, LedgerError> {
        let (meta, damaged) = {
            let state = self.0.state.borrow();
            (state.meta, state.damaged.clone())
        };
        Ok(LedgerStatus {
            blocks: meta.valid,
            heads: self.0.chain.heads().await?,
            pending: meta.waiting,
            missing_contents: meta.missing,
            damaged,
        })
    }

    async fn shutdown(&self) {
        self.0.stop.cancel();
        if let Some(exchange) = &self.0.exchange {
            exchange.detach(&self.0.table.tag);
        }
        let task = self.0.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // A task that panicked has nothing left to finish.
            let _ended = task.await.is_ok();
        }
    }

    async fn delete(&self) -> Result<(), LedgerError> {
        self.shutdown().await;
        let table = &self.0.table;
        for id in table.ids(table.all(b'm')).await? {
            table.blobs.delete(table.object(&EnvelopeId(*id.digest()))).await?;
        }
        self.0.remove_remains().await?;
        for nonce in table.ids(table.all(b's')).await? {
            table.remove_orphan(nonce.digest()).await?;
        }
        let mut batch = Batch::new();
        batch.delete_range(table.everything());
        Ok(table.store.commit(batch, Durability::Flushed).await?)
    }
}
