//! One node of a simulated world, and what is left of it when it ends.

#![expect(clippy::expect_used, reason = "helpers of tests fail by panicking")]

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, timeout};
use walytis_core::block::Visibility;
use walytis_core::chain::{Chain, Summary};
use walytis_core::clock::{Entropy, SeededEntropy};
use walytis_core::id::{BlockId, ChainId, PeerId};
use walytis_core::join::{Invitation, JoinError, JoinService, join};
use walytis_core::ledger::{BlockInfo, Ledger as _, LedgerError, LedgerRead as _, NewBlock, Order, Query};
use walytis_core::net::Network;
use walytis_core::node::{InviteOptions, Node, NodeConfig, NodeError, NodeParts};
use walytis_core::replica::{Replicator, SyncStatus};
use walytis_core::secret::Secret;
#[cfg(feature = "identities")]
use walytis_core::store::open_schema;
use walytis_core::store::{BlobStore, KvStore, MemoryBlobs, MemorySecrets, MemoryStore, SecretStore};

use super::PATIENCE;
use super::secrets::PoweredSecrets;
use crate::sim::{Dice, SimClock, SimHub, SimNetwork};
use crate::store::{FailingBlobs, FailingStore, Power};

/// What is left of a node when it ends.
#[derive(Debug)]
pub struct Disk {
    name: String,
    seed: u64,
    skew_ms: i64,
    /// How often a node ran on it: no two runs share their randomness.
    starts: u32,
    store: MemoryStore,
    blobs: MemoryBlobs,
    secrets: Arc<MemorySecrets>,
    /// Secrets stand in a vault in the store instead.
    vault: bool,
    /// How long a write takes at most.
    slow: Duration,
}

impl Disk {
    /// Returns the empty disk of a node of this name, whose secrets will stand in a vault.
    #[cfg(feature = "identities")]
    pub fn with_vault(seed: u64, name: &str, skew_ms: i64) -> Self {
        Self { vault: true, ..Self::new(seed, name, skew_ms) }
    }

    /// Returns the empty disk of a node of this name.
    pub fn new(seed: u64, name: &str, skew_ms: i64) -> Self {
        Self {
            name: name.to_owned(),
            seed,
            skew_ms,
            starts: 0,
            store: MemoryStore::new(),
            blobs: MemoryBlobs::new(),
            secrets: Arc::new(MemorySecrets::new()),
            vault: false,
            slow: Duration::ZERO,
        }
    }

    /// Makes it slow: a write takes up to so long.
    #[must_use]
    pub fn slow(mut self, longest: Duration) -> Self {
        self.slow = longest;
        self
    }

    #[cfg(feature = "identities")]
    async fn secrets(&self, store: Arc<dyn KvStore>, entropy: Arc<dyn Entropy>, power: &Power) -> Arc<dyn SecretStore> {
        use walytis_identities::vault::{Argon2Settings, KeyFile, KeyVault, Unlock};
        if !self.vault {
            return self.plain_secrets(power);
        }
        open_schema(&*store).await.expect("what a node left can be opened");
        let key = Dice::new(self.seed, &format!("vault of {}", self.name)).bytes();
        let unlock = Unlock::KeyFile(KeyFile::from_key(Secret::new(key)));
        let vault = KeyVault::new(store, entropy);
        let opened = match vault.exists().await.expect("the store can be read") {
            true => vault.unlock(unlock).await,
            false => vault.create(unlock, Argon2Settings::default()).await,
        };
        opened.expect("the key is the right one");
        Arc::new(vault)
    }

    #[cfg(not(feature = "identities"))]
    #[expect(clippy::unused_async, reason = "as with a vault")]
    async fn secrets(
        &self,
        _store: Arc<dyn KvStore>,
        _entropy: Arc<dyn Entropy>,
        power: &Power,
    ) -> Arc<dyn SecretStore> {
        assert!(!self.vault, "there is no vault without identities");
        self.plain_secrets(power)
    }

    fn plain_secrets(&self, power: &Power) -> Arc<dyn SecretStore> {
        Arc::new(PoweredSecrets { power: power.clone(), secrets: self.secrets.clone() })
    }

    /// Returns the ordered keys.
    pub const fn store(&self) -> &MemoryStore {
        &self.store
    }

    /// Returns the large contents.
    pub const fn blobs(&self) -> &MemoryBlobs {
        &self.blobs
    }
}

/// How a node ends that is not shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process dies: what was written is left.
    Kill,
    /// The power goes: of the commits those up to the last flushed one are left.
    PowerCut,
}

/// A running node.
#[derive(Debug)]
pub struct SimNode {
    node: Node,
    network: Arc<SimNetwork>,
    replicator: Replicator,
    joins: JoinService,
    clock: Arc<SimClock>,
    entropy: Arc<SeededEntropy>,
    power: Power,
    store: Arc<FailingStore>,
    blobs: Arc<FailingBlobs>,
    secrets: Arc<dyn SecretStore>,
    disk: Disk,
}

pub(super) async fn start(hub: &SimHub, beginning: Instant, mut disk: Disk, power: Power) -> SimNode {
    disk.starts += 1;
    let node_key = Secret::new(Dice::new(disk.seed, &format!("key of {}", disk.name)).bytes());
    let network = Arc::new(hub.join(&node_key));
    let randomness = Dice::new(disk.seed, &format!("run {} of {}", disk.starts, disk.name)).seed();
    let entropy = Arc::new(SeededEntropy::new(randomness));
    let clock = Arc::new(SimClock::new(beginning, disk.skew_ms));
    let dice = Dice::new(disk.seed, &format!("disk {} of {}", disk.starts, disk.name));
    let store =
        Arc::new(FailingStore::new(&disk.store, power.clone()).slow(disk.slow, dice).traced(hub.clone(), &disk.name));
    let blobs = Arc::new(FailingBlobs::new(&disk.blobs, power.clone()));
    let secrets = disk.secrets(store.clone(), entropy.clone(), &power).await;
    let replicator = Replicator::start(network.clone(), entropy.clone()).expect("a new network is up");
    let parts = NodeParts {
        store: store.clone(),
        blobs: blobs.clone(),
        secrets: secrets.clone(),
        replication: Some(Arc::new(replicator.clone())),
        clock: clock.clone(),
        entropy: entropy.clone(),
        config: NodeConfig::default(),
    };
    let node = Node::open(parts).await.expect("what a node left can be opened");
    let joins = JoinService::start(node.clone(), network.clone(), entropy.clone()).expect("a new network is up");
    SimNode { node, network, replicator, joins, clock, entropy, power, store, blobs, secrets, disk }
}

impl SimNode {
    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.disk.name
    }

    /// Returns its peer id.
    pub fn peer(&self) -> PeerId {
        self.network.local_peer()
    }

    /// Returns its chains and invitations.
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// Returns its network.
    pub const fn network(&self) -> &Arc<SimNetwork> {
        &self.network
    }

    /// Returns its clock.
    pub const fn clock(&self) -> &Arc<SimClock> {
        &self.clock
    }

    /// Returns its randomness.
    pub fn entropy(&self) -> Arc<dyn Entropy> {
        self.entropy.clone()
    }

    /// Returns its power.
    pub const fn power(&self) -> &Power {
        &self.power
    }

    /// Returns the store that it runs on.
    pub fn store(&self) -> Arc<dyn KvStore> {
        self.store.clone()
    }

    /// Returns the store of large content that it runs on.
    pub fn blobs(&self) -> Arc<dyn BlobStore> {
        self.blobs.clone()
    }

    /// Returns where its secrets stand.
    pub fn secrets(&self) -> Arc<dyn SecretStore> {
        self.secrets.clone()
    }

    /// Returns its store, as it stands now.
    pub fn stored(&self) -> MemoryStore {
        self.store.what_is_left()
    }

    /// Returns its large contents, as they stand now.
    pub fn stored_blobs(&self) -> MemoryBlobs {
        self.blobs.what_is_left()
    }

    /// Creates a chain.
    pub async fn create(&self, name: &str, visibility: Visibility) -> ChainId {
        self.node.create_chain(name, visibility).await.expect("a chain can be created").core().id()
    }

    /// Returns an open chain.
    ///
    /// # Panics
    /// If it is not open here.
    pub fn chain(&self, id: &ChainId) -> Chain {
        self.node.chain_by_id(id).expect("the chain is open")
    }

    /// Connects to another node, as often as it takes.
    pub async fn meet(&self, other: &Self) {
        let connect =
            async { while self.network.connect(Some(&other.peer()), &other.network.addresses()).await.is_err() {} };
        timeout(PATIENCE, connect).await.expect("the other node can be reached");
    }

    /// Issues an invitation with this node's address.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn invite(&self, chain: &ChainId, options: InviteOptions) -> Result<Invitation, NodeError> {
        let new = self.node.invite(chain, options).await?;
        let members = self.network.addresses().into_iter().map(|address| (self.peer(), address)).collect();
        Ok(Invitation { chain: *chain, seed: new.seed, expires_at_ms: options.expires_at_ms, members })
    }

    /// Joins with an invitation, once.
    ///
    /// # Errors
    /// [`JoinError`].
    pub async fn accept(&self, invitation: &Invitation) -> Result<(), JoinError> {
        let network: Arc<dyn Network> = self.network.clone();
        let name = format!("joined {}", invitation.chain.short());
        join(&self.node, &network, &*self.entropy, invitation, &name).await.map(drop)
    }

    /// Gets an invitation from a member and joins, as often as bad links make it necessary.
    pub async fn join(&self, member: &Self, chain: &ChainId) {
        let invitation = member.invite(chain, InviteOptions::default()).await.expect("a member can invite");
        self.join_with(&invitation).await;
    }

    /// Joins with an invitation, as often as bad links make it necessary.
    pub async fn join_with(&self, invitation: &Invitation) {
        let joining = async {
            while let Err(error) = self.accept(invitation).await {
                assert!(matches!(error, JoinError::Unreachable { .. }), "{error:?}");
            }
        };
        timeout(PATIENCE, joining).await.expect("the member can be reached");
    }

    /// Returns counters and heads.
    pub fn summary(&self, chain: &ChainId) -> Summary {
        self.chain(chain).core().summary()
    }

    /// Returns how many blocks wait for others.
    pub fn pending(&self, chain: &ChainId) -> usize {
        self.chain(chain).core().pending()
    }

    /// Returns how replication stands.
    pub fn sync(&self, chain: &ChainId) -> Option<SyncStatus> {
        self.replicator.status(chain)
    }

    /// Adds a block.
    pub async fn add(&self, chain: &ChainId, content: impl Into<bytes::Bytes>) -> BlockId {
        let block = NewBlock { content: content.into().into(), topics: vec![] };
        self.chain(chain).add(block).await.expect("a block can be added").id
    }

    /// Adds blocks in one commit.
    pub async fn add_many(&self, chain: &ChainId, contents: impl IntoIterator<Item = String>) -> Vec<BlockId> {
        let blocks = contents.into_iter().map(|text| NewBlock { content: text.into(), topics: vec![] }).collect();
        let added = self.chain(chain).add_many(blocks).await.expect("blocks can be added");
        added.into_iter().map(|info| info.id).collect()
    }

    /// Returns the blocks.
    pub async fn blocks(&self, chain: &ChainId, order: Order) -> Vec<BlockInfo> {
        let query = Query { order, include_overlays: true, ..Query::default() };
        let found = self.chain(chain).query(query).await.expect("a query can be run");
        found.try_collect().await.expect("blocks can be read")
    }

    /// Returns the content of a block; waits for it if it is not here.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn read(&self, chain: &ChainId, id: &BlockId) -> Result<Vec<u8>, LedgerError> {
        let mut bytes = Vec::new();
        let mut reader = self.chain(chain).content(id).await?;
        reader.read_to_end(&mut bytes).await.map_err(LedgerError::Read)?;
        Ok(bytes)
    }

    /// Returns the contents in canonical order, but for genesis, as texts.
    pub async fn texts(&self, chain: &ChainId) -> Vec<String> {
        let mut texts = Vec::new();
        for info in self.blocks(chain, Order::Canonical).await.iter().filter(|info| info.generation > 0) {
            let bytes = self.read(chain, &info.id).await.expect("the content is here");
            texts.push(String::from_utf8_lossy(&bytes).into_owned());
        }
        texts
    }

    /// Ends it as a user does.
    pub async fn stop(self) -> Disk {
        self.joins.shutdown().await;
        self.node.shutdown().await;
        self.network.shutdown().await;
        Disk { store: self.store.what_is_left(), blobs: self.blobs.what_is_left(), ..self.disk }
    }

    /// Takes power and network away, as a crash does; [`Self::crash`] then clears up.
    pub(super) fn die(&self, crash: Crash) {
        match crash {
            Crash::Kill => self.power.kill(),
            Crash::PowerCut => self.power.cut(),
        }
        self.network.vanish();
    }

    /// Clears up after a node whose power failed as planned.
    pub async fn crash_as_it_is(self) -> Disk {
        self.network.vanish();
        let (store, blobs) = (self.store.what_is_left(), self.blobs.what_is_left());
        self.joins.shutdown().await;
        self.node.shutdown().await;
        Disk { store, blobs, ..self.disk }
    }

    /// Lets it die: peers see broken connections, later writes reach no disk.
    pub async fn crash(self, crash: Crash) -> Disk {
        self.die(crash);
        let (store, blobs) = (self.store.what_is_left(), self.blobs.what_is_left());
        // Only so that no task is left: the dead can neither write nor speak.
        self.joins.shutdown().await;
        self.node.shutdown().await;
        Disk { store, blobs, ..self.disk }
    }
}
