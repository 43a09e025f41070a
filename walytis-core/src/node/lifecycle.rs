//! The node itself: opening, creating, taking in, removing chains, ordered end.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use super::error::{NodeError, NodeResult};
use super::join_record::JoinRecord;
use super::names::{check_name, find};
use super::opening::secret_name;
use super::records::{self, ChainRecord};
use crate::block::{Block, GenesisV1, UnverifiedBlock, Visibility};
use crate::chain::{AuthorSlot, Chain, ChainCore, ChainOwner, ChainSettings};
use crate::clock::{Clock, Entropy};
use crate::id::ChainId;
use crate::key::Signer;
use crate::ledger::LedgerError;
use crate::secret::Secret;
use crate::store::{Batch, BlobStore, Direction, Durability, KvStore, SecretError, SecretStore, open_schema};

/// Most uses of an invitation. Chosen: bounds the list of peers that joined with it to 64 KiB.
pub const INVITATION_USES_MAX: u32 = 1_000;
/// Chain records read at once.
const CHAINS_PAGE: usize = 1_024;

/// Keeps chains in step with other peers; the replicator implements it.
#[async_trait]
pub trait Replication: Send + Sync + fmt::Debug {
    /// Begins to keep a chain in step.
    async fn attach(&self, chain: ChainCore);

    /// Ends it; nothing of it runs any more when this returns. Unknown chains are ignored.
    async fn detach(&self, chain: &ChainId);

    /// Returns the bytes of blocks and blobs that came for a chain since it was attached.
    fn received(&self, _chain: &ChainId) -> u64 {
        0
    }

    /// Returns how many peers are in session about a chain.
    fn in_session(&self, _chain: &ChainId) -> usize {
        0
    }

    /// Ends everything. Idempotent.
    async fn shutdown(&self);
}

/// Settings of a node.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeConfig {
    /// Settings of the writer of every chain.
    pub chain: ChainSettings,
}

/// What a node is opened with.
#[derive(Clone, Debug)]
pub struct NodeParts {
    /// Where everything small stands.
    pub store: Arc<dyn KvStore>,
    /// Where large contents stand.
    pub blobs: Arc<dyn BlobStore>,
    /// Where secrets stand.
    pub secrets: Arc<dyn SecretStore>,
    /// Keeps chains in step with others; nothing on a node without network.
    pub replication: Option<Arc<dyn Replication>>,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Settings.
    pub config: NodeConfig,
}

/// A node. Cheap to clone; all clones are the same node.
#[derive(Clone, Debug)]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    parts: NodeParts,
    author: AuthorSlot,
    slots: Mutex<BTreeMap<ChainId, Slot>>,
    /// One change of the list of chains, or of an invitation, at a time: they read, decide and write.
    turn: Semaphore,
    /// Moves when a join begins.
    joins: watch::Sender<u64>,
    /// Long work, such as imports; ended by `stop`.
    work: TaskTracker,
    stop: CancellationToken,
}

/// A chain of the node as its list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainEntry {
    /// The chain.
    pub id: ChainId,
    /// Its local name, unique on the node.
    pub name: String,
    /// As its genesis block says.
    pub visibility: Visibility,
    /// How it is.
    pub state: ChainState,
}

/// How a chain of the list is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChainState {
    /// Open.
    Open,
    /// Waits for the overlay that governs it.
    Waiting,
    /// The locked vault keeps its secret back.
    Locked,
    /// Open for reading: its secret is not here, as after an import without it.
    Offline,
    /// It is being imported.
    Importing,
    /// It cannot be opened.
    Damaged {
        /// What was found.
        reason: String,
    },
}

/// Which chains to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// Those that no overlay governs.
    Plain,
    /// All.
    All,
}

/// A chain to be taken in from others: its genesis block, as a join brings it.
#[derive(Debug)]
pub struct GenesisImport {
    /// The chain that was asked for.
    pub expected: ChainId,
    /// The genesis block file.
    pub file: Bytes,
    /// The chain secret; needed on an invited chain.
    pub secret: Option<Secret<32>>,
    /// Its local name.
    pub name: String,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) visibility: Visibility,
    pub(super) seat: Seat,
}

/// What stands behind an entry of the list.
#[derive(Clone, Debug)]
pub(super) enum Seat {
    Open(Chain),
    /// Open without access.
    Offline(Chain),
    /// Being imported.
    Importing,
    Waiting,
    Locked,
    Damaged(String),
}

impl Node {
    /// Opens a node: checks the store's schema, finishes removals that a crash interrupted, makes the author key at the
    /// first start, opens every chain that it can.
    ///
    /// # Errors
    /// [`NodeError::Store`]; the failure of one chain is no error but stands in its entry.
    pub async fn open(parts: NodeParts) -> NodeResult<Self> {
        open_schema(&*parts.store).await?;
        let inner = Inner {
            parts,
            author: AuthorSlot::default(),
            slots: Mutex::new(BTreeMap::new()),
            turn: Semaphore::new(1),
            joins: watch::Sender::default(),
            work: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        let node = Self { inner: Arc::new(inner) };
        node.load_author().await?;
        let mut range = records::chains();
        loop {
            let page = node.parts().store.scan(range.clone(), Direction::Forward, CHAINS_PAGE).await?;
            for (key, value) in &page {
                if let Some(id) = records::chain_of(key) {
                    node.load(id, ChainRecord::decode(key, value)).await;
                }
            }
            match page.last() {
                Some((key, _)) if page.len() == CHAINS_PAGE => range.start = [key, &[0][..]].concat(),
                _ => break,
            }
        }
        node.remove_stray_secrets().await?;
        Ok(node)
    }

    /// Tries again what the locked vault prevented: call it after unlocking.
    ///
    /// # Errors
    /// [`NodeError::Store`], [`NodeError::Secret`].
    pub async fn unlocked(&self) -> NodeResult<()> {
        let _turn = self.turn().await?;
        self.load_author().await?;
        let locked =
            |(id, slot): (&ChainId, &Slot)| matches!(slot.seat, Seat::Locked).then_some((*id, slot.visibility));
        let locked: Vec<_> = self.slots().iter().filter_map(locked).collect();
        for (id, visibility) in locked {
            self.try_open(id, visibility).await;
        }
        Ok(())
    }

    /// Forgets the author key: call it after locking the vault. What members write still arrives and is passed on.
    pub fn locked(&self) {
        self.inner.author.clear();
    }

    /// Returns the key that signs blocks on plain chains.
    ///
    /// # Errors
    /// [`NodeError::Locked`].
    pub fn author(&self) -> NodeResult<Arc<dyn Signer>> {
        self.inner.author.get().ok_or(NodeError::Locked)
    }

    /// Returns the chains, by id.
    pub fn chains(&self, listing: Listing) -> Vec<ChainEntry> {
        let wanted = |slot: &Slot| listing == Listing::All || slot.visibility != Visibility::Governed;
        self.slots().iter().filter(|(_, slot)| wanted(slot)).map(|(id, slot)| slot.entry(*id)).collect()
    }

    /// Returns the entry of the chain that `text` means: a name, an id, or the beginning of exactly one.
    ///
    /// # Errors
    /// [`NodeError::UnknownChain`], [`NodeError::AmbiguousChain`].
    pub fn find(&self, text: &str) -> NodeResult<ChainEntry> {
        find(&self.chains(Listing::All), text).cloned()
    }

    /// Returns the open chain that `text` means, see [`Node::find`].
    ///
    /// # Errors
    /// [`NodeError`]; also why a chain that exists is not open.
    pub fn chain(&self, text: &str) -> NodeResult<Chain> {
        self.chain_by_id(&self.find(text)?.id)
    }

    /// Returns an open chain.
    ///
    /// # Errors
    /// [`NodeError`]; also why a chain that exists is not open.
    pub fn chain_by_id(&self, id: &ChainId) -> NodeResult<Chain> {
        match self.seat(id)? {
            Seat::Open(chain) | Seat::Offline(chain) => Ok(chain),
            Seat::Importing => Err(NodeError::Busy { id: *id, what: "imported" }),
            Seat::Waiting => Err(NodeError::Governed { id: *id }),
            Seat::Locked => Err(NodeError::Locked),
            Seat::Damaged(reason) => Err(NodeError::Damaged { id: *id, reason }),
        }
    }

    /// Creates a chain; flushed when it returns. Its name stands in the genesis block too, for those who join.
    ///
    /// # Errors
    /// [`NodeError`]; then nothing is left behind. [`NodeError::Governed`] for that visibility.
    pub async fn create_chain(&self, name: &str, visibility: Visibility) -> NodeResult<Chain> {
        check_name(name)?;
        let author = self.author()?;
        let genesis = self.genesis(visibility, Some(name.to_owned()), Bytes::new(), Vec::new(), &*author)?;
        let id = genesis.chain();
        let secret = match visibility {
            Visibility::Governed => return Err(NodeError::Governed { id }),
            Visibility::Public => None,
            Visibility::Invited => {
                let mut bytes = zeroize::Zeroizing::new([0; 32]);
                self.parts().entropy.fill(bytes.as_mut());
                Some(Secret::new(*bytes))
            }
        };
        self.take_in(&genesis, name, visibility, secret, None).await
    }

    /// Takes in a chain of others: verifies its genesis block, stores it under `name`, opens it. Its blocks come by
    /// replication.
    ///
    /// # Errors
    /// [`NodeError`]; then nothing is left behind.
    pub async fn import_genesis(&self, import: GenesisImport) -> NodeResult<Chain> {
        self.take_genesis(import, None).await
    }

    /// As [`Self::import_genesis`], as the beginning of a join: a restart goes on with it.
    pub(crate) async fn import_join(&self, import: GenesisImport, join: &JoinRecord) -> NodeResult<Chain> {
        let chain = self.take_genesis(import, Some(join)).await?;
        self.inner.joins.send_modify(|count| *count = count.wrapping_add(1));
        Ok(chain)
    }

    async fn take_genesis(&self, import: GenesisImport, join: Option<&JoinRecord>) -> NodeResult<Chain> {
        let GenesisImport { expected, file, secret, name } = import;
        check_name(&name)?;
        let genesis = UnverifiedBlock::decode(file)?;
        let got = genesis.header().chain.unwrap_or(ChainId(genesis.id()));
        if got != expected || genesis.header().chain.is_some() {
            return Err(NodeError::WrongChain { expected, got });
        }
        let genesis = genesis.verify(&expected)?;
        let visibility = visibility(&genesis)?;
        match (visibility, &secret) {
            (Visibility::Governed, _) => Err(NodeError::Governed { id: expected }),
            (Visibility::Invited, None) => {
                Err(NodeError::Ledger(LedgerError::Refused { reason: "the chain secret is missing".to_owned() }))
            }
            (Visibility::Public | Visibility::Invited, _) => {
                self.take_in(&genesis, &name, visibility, secret, join).await
            }
        }
    }

    /// Removes a chain: blocks, indices, cursors, blobs, name, invitations, secret. A removal that a crash interrupts is
    /// finished at the next start.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn delete_chain(&self, id: &ChainId) -> NodeResult<()> {
        let _turn = self.turn().await?;
        if matches!(self.seat(id)?, Seat::Importing) {
            return Err(NodeError::Busy { id: *id, what: "imported" });
        }
        let entry = self.entry(id)?;
        let record = ChainRecord { deleting: true, name: entry.name, visibility: entry.visibility };
        let mut batch = Batch::new();
        batch.put(records::chain(id), record.encode());
        self.parts().store.commit(batch, Durability::Flushed).await?;
        let seat = self.seat(id)?;
        if let Some(replication) = &self.parts().replication {
            replication.detach(id).await;
        }
        if let Seat::Open(chain) | Seat::Offline(chain) = seat {
            chain.core().shutdown().await;
        }
        self.finish_removal(id).await?;
        self.slots().remove(id);
        info!(chain = ?id, "chain removed");
        Ok(())
    }

    /// Ends everything in order: replication, then each chain with what it has begun; no task is left when it returns.
    /// Idempotent. Store, secrets and network belong to whoever opened them.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.inner.work.close();
        self.inner.work.wait().await;
        self.inner.turn.close();
        if let Some(replication) = &self.parts().replication {
            replication.shutdown().await;
        }
        let open = |slot: &Slot| match &slot.seat {
            Seat::Open(chain) | Seat::Offline(chain) => Some(chain.clone()),
            _ => None,
        };
        let chains: Vec<_> = self.slots().values().filter_map(open).collect();
        futures::future::join_all(chains.iter().map(|chain| chain.core().shutdown())).await;
    }

    pub(super) fn joins_begun(&self) -> &watch::Sender<u64> {
        &self.inner.joins
    }

    pub(super) fn work(&self) -> (&TaskTracker, &CancellationToken) {
        (&self.inner.work, &self.inner.stop)
    }

    pub(super) fn parts(&self) -> &NodeParts {
        &self.inner.parts
    }

    pub(super) async fn turn(&self) -> NodeResult<SemaphorePermit<'_>> {
        self.inner.turn.acquire().await.map_err(|_| NodeError::Closed)
    }

    pub(super) fn author_slot(&self) -> &AuthorSlot {
        &self.inner.author
    }

    pub(super) fn owner(&self) -> Weak<dyn ChainOwner> {
        let owner: Weak<Inner> = Arc::downgrade(&self.inner);
        owner
    }

    pub(super) fn slots(&self) -> MutexGuard<'_, BTreeMap<ChainId, Slot>> {
        self.inner.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn entry(&self, id: &ChainId) -> NodeResult<ChainEntry> {
        let unknown = || NodeError::UnknownChain { text: id.to_string() };
        self.slots().get(id).map(|slot| slot.entry(*id)).ok_or_else(unknown)
    }

    pub(super) fn seat(&self, id: &ChainId) -> NodeResult<Seat> {
        let unknown = || NodeError::UnknownChain { text: id.to_string() };
        let seat = self.slots().get(id).map(|slot| slot.seat.clone()).ok_or_else(unknown)?;
        // The overlay may have shut its chain down by itself and open it again.
        Ok(match seat {
            Seat::Open(chain) if chain.core().is_closed() => Seat::Waiting,
            seat => seat,
        })
    }

    /// Checks that a chain exists and that no overlay governs it.
    pub(super) fn plain_chain(&self, id: &ChainId) -> NodeResult<()> {
        match self.entry(id)?.visibility {
            Visibility::Governed => Err(NodeError::Governed { id: *id }),
            Visibility::Public | Visibility::Invited => Ok(()),
        }
    }

    /// Returns the secret of an invited chain; nothing for others.
    pub(super) async fn chain_secret(&self, id: &ChainId) -> NodeResult<Option<Secret<32>>> {
        let found = self.parts().secrets.get(&secret_name(id)).await?;
        let damaged = || NodeError::Secret(SecretError::Damaged);
        found.map(|bytes| Secret::from_slice(bytes.expose()).ok_or_else(damaged)).transpose()
    }
}

#[async_trait]
impl ChainOwner for Inner {
    async fn delete(self: Arc<Self>, id: &ChainId) -> Result<(), LedgerError> {
        Node { inner: self }.delete_chain(id).await.map_err(|error| match error {
            NodeError::Store(error) => LedgerError::Store(error),
            NodeError::Blob(error) => LedgerError::Blob(error),
            NodeError::Ledger(error) => error,
            NodeError::Locked => LedgerError::Locked,
            NodeError::UnknownChain { .. } | NodeError::Closed => LedgerError::Closed,
            other => LedgerError::Refused { reason: other.to_string() },
        })
    }
}

impl Slot {
    fn entry(&self, id: ChainId) -> ChainEntry {
        let state = match &self.seat {
            Seat::Open(chain) => match chain.core().damage() {
                Some(reason) => ChainState::Damaged { reason },
                None => ChainState::Open,
            },
            Seat::Offline(chain) => match chain.core().damage() {
                Some(reason) => ChainState::Damaged { reason },
                None => ChainState::Offline,
            },
            Seat::Importing => ChainState::Importing,
            Seat::Waiting => ChainState::Waiting,
            Seat::Locked => ChainState::Locked,
            Seat::Damaged(reason) => ChainState::Damaged { reason: reason.clone() },
        };
        ChainEntry { id, name: self.name.clone(), visibility: self.visibility, state }
    }
}

fn visibility(genesis: &Block) -> NodeResult<Visibility> {
    let content = genesis.inline().and_then(|content| GenesisV1::decode(content));
    let rule = crate::block::Rule::Genesis;
    content
        .map(|content| content.visibility)
        .ok_or(NodeError::Genesis(crate::block::RuleViolation { rule, block: genesis.id() }))
}
