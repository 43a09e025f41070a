//! The shared part of one chain: what replication and the handles work on.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::blob::BlobFetch;
use super::content::BlobFetcher;
use super::fresh::Fresh;
use super::schema::{Keys, Tag, id_at_end};
use super::table::{Table, behind};
use super::task::{self, Command, RepairJob};
use super::write::Written;
use super::{content, intake, sums, verify, write};
use crate::access::{AdmissionPolicy, ChainAccess};
use crate::block::{Block, Header, RuleViolation, UnverifiedBlock, Visibility};
use crate::clock::{Clock, Entropy};
use crate::graph::GraphNode;
use crate::id::{BlobId, BlockId, ChainId, PeerId};
use crate::ledger::LedgerError;
use crate::ledger::subscriber::Subscribers;
use crate::limits::{BLOB_FROM, CONTENT_MAX};
use crate::store::{Batch, BlobStore, Direction, Durability, KeyRange, KvStore};

/// Commands that wait for the task of a chain; when full, the caller waits.
const COMMANDS: usize = 64;
/// Admissions that a slow listener may lag behind; then it is told so and reads on from its cursor. Their places are
/// allocated when the chain opens. Chosen: 25 kB, most of what an open chain takes that is not used.
const ADMISSIONS: usize = 256;

/// The place of an admitted block in the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// 0 for genesis, otherwise 1 + the largest parent generation.
    pub generation: u64,
    /// Number in this replica's arrival order, from 1.
    pub arrival: u64,
    /// Parents, ascending.
    pub parents: Arc<[BlockId]>,
}

impl Node {
    pub(super) fn of(header: &Header, arrival: u64) -> Self {
        Self { generation: header.generation, arrival, parents: header.parents.as_slice().into() }
    }

    /// Returns what the pure parts of the graph need of it.
    pub fn graph(&self) -> GraphNode {
        GraphNode { generation: self.generation, parents: self.parents.to_vec() }
    }
}

/// What a replica says of its chain to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Admitted blocks.
    pub count: u64,
    /// Highest generation.
    pub generation: u64,
    /// Heads, ascending.
    pub heads: Vec<BlockId>,
}

/// What became of offered blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// Admitted now, in arrival order; also pending ones that were released.
    pub admitted: Vec<BlockId>,
    /// Admitted before.
    pub known: Vec<BlockId>,
    /// Held: an ancestor is unknown, or the policy says "not yet".
    pub pending: Vec<BlockId>,
    /// Ancestors to ask for.
    pub missing: Vec<BlockId>,
    /// Blocks that break a rule.
    pub rejected: Vec<RuleViolation>,
}

/// Blocks that were admitted and committed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Ids and generations, in arrival order.
    pub ids: Vec<(BlockId, u64)>,
    /// Who sent them; nothing for this node's own.
    pub origin: Option<PeerId>,
    /// Arrival number of the last.
    pub cursor: u64,
}

/// A blob that is to be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedBlob {
    /// The block whose content it is.
    pub block: BlockId,
    /// The blob.
    pub blob: BlobId,
    /// Bytes.
    pub len: u64,
}

/// Which blobs a replica fetches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FetchMode {
    /// All, in the background.
    #[default]
    All,
    /// What is read, when it is read.
    OnDemand,
}

/// Settings of a writer.
#[derive(Clone, Copy, Debug)]
pub struct ChainSettings {
    /// Content of so many bytes or more is written as a blob.
    pub blob_from: usize,
    /// Largest content in bytes.
    pub content_max: u64,
}

impl Default for ChainSettings {
    fn default() -> Self {
        Self { blob_from: BLOB_FROM, content_max: CONTENT_MAX }
    }
}

/// What a chain is opened with.
#[derive(Clone, Debug)]
pub struct ChainParts {
    /// The chain.
    pub id: ChainId,
    /// As its genesis block says.
    pub visibility: Visibility,
    /// Where its blocks stand.
    pub store: Arc<dyn KvStore>,
    /// Where its large contents stand.
    pub blobs: Arc<dyn BlobStore>,
    /// Who may sync.
    pub access: Arc<dyn ChainAccess>,
    /// Which blocks may enter.
    pub policy: Arc<dyn AdmissionPolicy>,
    /// For the informative time of own blocks.
    pub clock: Arc<dyn Clock>,
    /// For the names of contents on their way in.
    pub entropy: Arc<dyn Entropy>,
    /// Settings of the writer.
    pub settings: ChainSettings,
}

/// The stored graph of one chain; cheap to clone. One task owns what changes.
#[derive(Clone)]
pub struct ChainCore {
    pub(super) inner: Arc<Inner>,
}

impl fmt::Debug for ChainCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainCore({:?})", self.inner.id)
    }
}

/// What the task publishes beside the summary.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    pub(super) blocks: usize,
    pub(super) missing: Vec<BlockId>,
}

pub(super) struct Inner {
    pub(super) id: ChainId,
    pub(super) visibility: Visibility,
    pub(super) table: Table,
    pub(super) blobs: Arc<dyn BlobStore>,
    pub(super) access: Arc<dyn ChainAccess>,
    pub(super) policy: Arc<dyn AdmissionPolicy>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) settings: ChainSettings,
    pub(super) summary: watch::Sender<Summary>,
    /// The arrival number given out last.
    pub(super) arrivals: watch::Sender<u64>,
    pub(super) held: watch::Sender<Held>,
    pub(super) admissions: broadcast::Sender<Admitted>,
    pub(super) fetch_mode: watch::Sender<FetchMode>,
    /// What is being fetched, as replication says.
    pub(super) fetches: watch::Sender<BTreeMap<BlobId, BlobFetch>>,
    /// What the commits since then added to the list of wanted blobs.
    pub(super) fresh: Fresh,
    pub(super) fetcher: Mutex<Option<Arc<dyn BlobFetcher>>>,
    /// Moves whenever bytes of any blob of the chain have arrived.
    pub(super) blob_progress: watch::Sender<u64>,
    pub(super) subscribers: Subscribers,
    /// One claim or surrender of a blob at a time.
    pub(super) intake: Semaphore,
    pub(super) stop: CancellationToken,
    commands: mpsc::Sender<Command>,
    pub(super) repairs: mpsc::Sender<RepairJob>,
    task: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

impl ChainCore {
    /// Stores a chain that has only its genesis block, flushed, and opens it. What is stored of the chain already stays.
    ///
    /// # Errors
    /// [`LedgerError`]; [`LedgerError::Refused`] if `genesis` is not the genesis block of the chain that `parts` names.
    pub async fn create(parts: ChainParts, genesis: &Block) -> Result<Self, LedgerError> {
        if genesis.header().chain.is_some() || genesis.chain() != parts.id {
            return Err(LedgerError::Refused { reason: "this is not the genesis block of the chain".to_owned() });
        }
        let keys = Keys::new(&parts.id);
        if parts.store.get(&keys.meta()).await?.is_none() {
            parts.store.commit(write::genesis_batch(genesis), Durability::Flushed).await?;
        }
        Self::open(parts).await
    }

    /// Opens a stored chain and starts its task; reads heads and counters only.
    ///
    /// # Errors
    /// [`LedgerError`]; [`LedgerError::Damaged`] if it is not stored at all.
    pub async fn open(parts: ChainParts) -> Result<Self, LedgerError> {
        let subscribers = Subscribers::new(Arc::clone(&parts.store), Keys::new(&parts.id).key(Tag::Cursor, &[]));
        let table = Table::new(parts.id, parts.store);
        table.load_mark().await?;
        let tip = table.tip().await?;
        if !table.damage.is_set()
            && let Err(error) = sums::ensure(&table, &tip.meta).await
        {
            // As below.
            if !table.damage.is_set() {
                return Err(error);
            }
            table.keep_mark().await;
        }
        if !table.damage.is_set()
            && let Err(error) = intake::remove_orphans(&table, &*parts.blobs, parts.id).await
        {
            // Damage met here makes the chain read-only, not unreadable.
            if !table.damage.is_set() {
                return Err(error);
            }
            table.keep_mark().await;
        }
        let fetch_mode = match table.fetch_mode().await {
            Ok(mode) => mode,
            Err(_) if table.damage.is_set() => {
                table.keep_mark().await;
                FetchMode::OnDemand
            }
            Err(error) => return Err(error),
        };
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let (repairs, jobs) = mpsc::channel(1);
        let summary = tip.summary();
        let inner = Arc::new(Inner {
            id: parts.id,
            visibility: parts.visibility,
            table,
            blobs: parts.blobs,
            access: parts.access,
            policy: parts.policy,
            clock: parts.clock,
            entropy: parts.entropy,
            settings: parts.settings,
            summary: watch::Sender::new(summary),
            arrivals: watch::Sender::new(tip.arrival),
            held: watch::Sender::default(),
            admissions: broadcast::Sender::new(ADMISSIONS),
            fetch_mode: watch::Sender::new(fetch_mode),
            fetches: watch::Sender::default(),
            fresh: Fresh::default(),
            fetcher: Mutex::new(None),
            blob_progress: watch::Sender::new(0),
            subscribers,
            intake: Semaphore::new(1),
            stop: CancellationToken::new(),
            commands,
            repairs,
            task: tokio::sync::Mutex::new(None),
        });
        let task = tokio::spawn(task::run(Arc::clone(&inner), tip, receiver, jobs));
        *inner.task.lock().await = Some(task);
        Ok(Self { inner })
    }

    /// Returns the chain's id.
    pub fn id(&self) -> ChainId {
        self.inner.id
    }

    /// Returns who may take part, as fixed at genesis.
    pub fn visibility(&self) -> Visibility {
        self.inner.visibility
    }

    /// Returns counters and heads as of the last commit, from memory.
    pub fn summary(&self) -> Summary {
        self.inner.summary.borrow().clone()
    }

    /// Returns the node of an admitted block, or nothing.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub async fn node(&self, id: &BlockId) -> Result<Option<Node>, LedgerError> {
        Ok(self.nodes(&[*id]).await?.pop().flatten())
    }

    /// Returns the nodes of admitted blocks, in the order of `ids`.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub async fn nodes(&self, ids: &[BlockId]) -> Result<Vec<Option<Node>>, LedgerError> {
        self.inner.table.nodes(ids).await
    }

    /// Returns the block file of an admitted block, or nothing.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub async fn file(&self, id: &BlockId) -> Result<Option<Bytes>, LedgerError> {
        Ok(self.files(&[*id]).await?.pop().flatten())
    }

    /// Returns the block files of admitted blocks, in the order of `ids`; the caller bounds their number.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub async fn files(&self, ids: &[BlockId]) -> Result<Vec<Option<Bytes>>, LedgerError> {
        self.inner.table.files(ids).await
    }

    /// Returns a stored block, or nothing.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub async fn block(&self, id: &BlockId) -> Result<Option<Block>, LedgerError> {
        self.inner.table.block(id).await
    }

    /// Returns ids in canonical order: at most `limit`, with generation at least `generation` and behind `after`.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub async fn canonical_page(
        &self,
        generation: u64,
        after: Option<(u64, BlockId)>,
        limit: usize,
    ) -> Result<Vec<BlockId>, LedgerError> {
        let keys = &self.inner.table.keys;
        let start = match after {
            Some((generation, id)) => behind(&keys.canonical(generation, &id)),
            None => keys.key(Tag::Canonical, &[&generation.to_be_bytes()]),
        };
        let range = KeyRange { start, end: keys.all(Tag::Canonical).end };
        let page = self.inner.table.scan(range, Direction::Forward, limit).await?;
        self.inner.table.note(page.iter().map(|(key, _)| id_at_end(key)).collect())
    }

    /// Verifies blocks (on all cores where they are many), admits them or holds them as pending, and commits what was
    /// admitted in one batch. Blocks in canonical order cost least. Not cancel-safe: dropped, the blocks may or may not
    /// be admitted.
    ///
    /// # Errors
    /// [`LedgerError`]; blocks that break a rule are no error but reported as rejected.
    pub async fn offer(&self, blocks: Vec<UnverifiedBlock>, from: Option<PeerId>) -> Result<Offered, LedgerError> {
        let mut offered = Offered::default();
        let ids: Vec<_> = blocks.iter().map(UnverifiedBlock::id).collect();
        let mut new = Vec::with_capacity(blocks.len());
        for (block, node) in blocks.into_iter().zip(self.nodes(&ids).await?) {
            match node {
                Some(_) => offered.known.push(block.id()),
                None => new.push(block),
            }
        }
        let (verified, rejected) = verify::verify(self.inner.id, new, &self.inner.entropy).await;
        offered.rejected = rejected;
        if verified.is_empty() {
            offered.missing = self.missing();
            return Ok(offered);
        }
        let (reply, answer) = oneshot::channel();
        self.command(Command::Offer { blocks: verified, from, reply }).await?;
        let mut judged = answer.await.map_err(|_| LedgerError::Closed)??;
        judged.known.append(&mut offered.known);
        judged.rejected.append(&mut offered.rejected);
        Ok(judged)
    }

    /// Returns unknown ancestors of the pending blocks, bounded; to be asked for.
    pub fn missing(&self) -> Vec<BlockId> {
        self.inner.held.borrow().missing.clone()
    }

    /// Returns how many blocks are held as pending.
    pub fn pending(&self) -> usize {
        self.inner.held.borrow().blocks
    }

    /// Returns a stream of admissions from now on, each after its commit. One that lags is told so by the channel and
    /// can read what it missed from the store.
    pub fn admissions(&self) -> broadcast::Receiver<Admitted> {
        self.inner.admissions.subscribe()
    }

    /// Returns a view of the summary that moves with every commit.
    pub fn watch(&self) -> watch::Receiver<Summary> {
        self.inner.summary.subscribe()
    }

    /// Returns who may sync.
    pub fn access(&self) -> Arc<dyn ChainAccess> {
        Arc::clone(&self.inner.access)
    }

    /// Returns why the chain is damaged and read-only, if it is.
    pub fn damage(&self) -> Option<String> {
        self.inner.table.damage()
    }

    /// Says whether the chain has been shut down.
    pub fn is_closed(&self) -> bool {
        self.inner.stop.is_cancelled()
    }

    pub(super) async fn append(&self, append: write::Prepared) -> Result<Vec<Written>, LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Append { append, reply }).await?;
        answer.await.map_err(|_| LedgerError::Closed)?
    }

    async fn command(&self, command: Command) -> Result<(), LedgerError> {
        if let Some(reason) = self.inner.table.damage() {
            return Err(LedgerError::Damaged { reason });
        }
        if self.is_closed() {
            return Err(LedgerError::Closed);
        }
        self.inner.commands.send(command).await.map_err(|_| LedgerError::Closed)
    }

    /// Finishes what was begun, flushes, ends the task. Idempotent.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.set_fetcher(None);
        let mut task = self.inner.task.lock().await;
        if let Some(handle) = task.as_mut() {
            // A panic of the task was reported by the runtime; the store is as the last commit left it.
            let _ended = handle.await;
        }
        *task = None;
    }

    /// Shuts down and removes blocks, indices, cursors and blobs.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn delete(&self) -> Result<(), LedgerError> {
        self.shutdown().await;
        content::remove_all(&*self.inner.blobs, self.inner.id).await?;
        self.inner.table.clear().await
    }
}

/// Removes the blobs of a chain that is not open, and returns the batch that removes the rest.
pub(crate) async fn remove_chain(blobs: &dyn BlobStore, id: &ChainId) -> Result<Batch, LedgerError> {
    content::remove_all(blobs, *id).await?;
    let mut batch = Batch::new();
    batch.delete_range(Keys::new(id).everything());
    Ok(batch)
}
