//! Nodes over the network in memory.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "support of tests: a failure is a failed test"
)]

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use test_harness::store::CountingStore;
use tokio::io::AsyncReadExt as _;
use walytis_core::block::{BlockDraft, DraftContent, Visibility};
use walytis_core::chain::{Chain, Summary};
use walytis_core::clock::{ManualClock, SeededEntropy};
use walytis_core::id::{BlockId, ChainId, PeerId};
use walytis_core::join::{Invitation, JoinError, JoinService, Joined, join, members};
use walytis_core::key::SigningKey;
use walytis_core::ledger::{Ledger as _, LedgerRead as _, NewBlock, Query};
use walytis_core::net::{MemoryHub, MemoryNetwork, Network};
use walytis_core::node::{GenesisImport, InviteOptions, Listing, Node, NodeConfig, NodeParts};
use walytis_core::replica::Replicator;
use walytis_core::secret::Secret;
use walytis_core::store::{
    Direction, KeyRange, KvStore as _, MemoryBlobs, MemorySecrets, MemoryStore, SecretStore as _,
};

/// Virtual time after which a test that waits has failed.
const PATIENCE: Duration = Duration::from_secs(600);

pub struct World {
    pub hub: MemoryHub,
    pub clock: Arc<ManualClock>,
    /// Nodes started: no two runs share their randomness.
    starts: std::sync::atomic::AtomicU64,
}

/// What survives the end of a node.
#[derive(Clone)]
pub struct Disk {
    seed: u8,
    store: Arc<MemoryStore>,
    counter: Arc<CountingStore>,
    blobs: Arc<MemoryBlobs>,
    secrets: Arc<MemorySecrets>,
}

pub struct Peer {
    pub node: Node,
    pub network: Arc<MemoryNetwork>,
    pub replicator: Replicator,
    pub joins: JoinService,
    pub disk: Disk,
    pub entropy: Arc<SeededEntropy>,
    pub clock: Arc<ManualClock>,
}

impl Disk {
    pub fn store(&self) -> &Arc<MemoryStore> {
        &self.store
    }

    /// Counts what the node asks of the store.
    pub fn counter(&self) -> &CountingStore {
        &self.counter
    }

    pub fn blobs(&self) -> &Arc<MemoryBlobs> {
        &self.blobs
    }
}

impl World {
    pub fn new() -> Self {
        Self { hub: MemoryHub::new(), clock: Arc::new(ManualClock::new(1_000_000)), starts: Default::default() }
    }

    pub async fn peer(&self, seed: u8) -> Peer {
        let store = Arc::new(MemoryStore::new());
        let disk = Disk {
            seed,
            counter: Arc::new(CountingStore::new(store.clone())),
            store,
            blobs: Arc::new(MemoryBlobs::new()),
            secrets: Arc::new(MemorySecrets::new()),
        };
        self.start(disk).await
    }

    pub async fn start(&self, disk: Disk) -> Peer {
        let network = Arc::new(self.hub.join(&Secret::new([disk.seed; 32])));
        let start = self.starts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let entropy = Arc::new(SeededEntropy::new(start << 8 | u64::from(disk.seed)));
        let replicator = Replicator::start(network.clone(), entropy.clone()).unwrap();
        let parts = NodeParts {
            store: disk.counter.clone(),
            blobs: disk.blobs.clone(),
            secrets: disk.secrets.clone(),
            replication: Some(Arc::new(replicator.clone())),
            clock: self.clock.clone(),
            entropy: entropy.clone(),
            config: NodeConfig::default(),
        };
        let node = Node::open(parts).await.unwrap();
        let joins = JoinService::start(node.clone(), network.clone(), entropy.clone()).unwrap();
        Peer { node, network, replicator, joins, disk, entropy, clock: self.clock.clone() }
    }

    pub fn part(&self, a: &Peer, b: &Peer) {
        self.hub.cut(&a.id(), &b.id());
    }

    pub fn heal(&self, a: &Peer, b: &Peer) {
        self.hub.heal(&a.id(), &b.id());
    }

    pub fn disturb(&self, a: &Peer, b: &Peer) {
        self.hub.disturb(&a.id(), &b.id());
    }

    /// Waits until all show the same heads and count, and every blob is here.
    pub async fn until_level(&self, peers: &[&Peer], chain: &ChainId) {
        let level = async {
            loop {
                let first = peers[0].summary(chain);
                if peers.iter().all(|peer| peer.summary(chain) == first) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, level).await.is_err() {
            let shown: Vec<_> = peers.iter().map(|p| (p.summary(chain).count, p.replicator.status(chain))).collect();
            panic!("the replicas stay apart: {shown:?}");
        }
    }

    pub async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Ends the nodes in order and checks that no task of theirs is left.
    pub async fn stop(&self, peers: Vec<Peer>) {
        for peer in peers {
            peer.stop().await;
        }
        let alive = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        assert_eq!(alive, 0, "tasks are left");
    }
}

impl Peer {
    pub fn id(&self) -> PeerId {
        self.network.local_peer()
    }

    pub async fn create(&self, name: &str, visibility: Visibility) -> ChainId {
        self.node.create_chain(name, visibility).await.unwrap().id()
    }

    pub fn chain(&self, chain: &ChainId) -> Chain {
        self.node.chain_by_id(chain).unwrap()
    }

    /// Takes in the chain of another member, secret and all.
    pub async fn take_in(&self, from: &Self, chain: &ChainId) {
        let invitation = from.node.invite(chain, InviteOptions::default()).await.unwrap();
        let honoured = from.node.honour(chain, &invitation.record.key, &self.id()).await.unwrap();
        self.take_in_with(from, chain, honoured.secret.map(|secret| *secret.expose())).await;
    }

    pub async fn take_in_with(&self, from: &Self, chain: &ChainId, secret: Option<[u8; 32]>) {
        let file = from.chain(chain).core().file(&chain.0).await.unwrap().unwrap();
        let import = GenesisImport { expected: *chain, file, secret: secret.map(Secret::new), name: "taken".into() };
        self.node.import_genesis(import).await.unwrap();
    }

    /// Issues an invitation that names this node and, if they may honour it, those that sync the chain.
    pub async fn invite(&self, chain: &ChainId, options: InviteOptions) -> Invitation {
        let new = self.node.invite(chain, options).await.unwrap();
        let others = if options.shareable { self.sync_peers(chain) } else { Vec::new() };
        let members = members(&*self.network, &others);
        Invitation { chain: *chain, seed: new.seed, expires_at_ms: options.expires_at_ms, members }
    }

    pub async fn join(&self, invitation: &Invitation) -> Result<Joined, JoinError> {
        let network: Arc<dyn Network> = self.network.clone();
        join(&self.node, &network, &*self.entropy, invitation, "joined").await
    }

    /// Says whether nothing at all of this chain is here.
    pub async fn knows_nothing_of(&self, chain: &ChainId) -> bool {
        let listed = self.node.chains(Listing::All).iter().any(|entry| entry.id == *chain);
        let range = KeyRange { start: Vec::new(), end: None };
        let all = self.disk.store.scan(range, Direction::Forward, 10_000).await.unwrap();
        let digest = chain.digest();
        let stored = all.iter().any(|(key, _)| key.windows(32).any(|part| part == digest));
        let names = self.disk.secrets.list("core/chain/").await.unwrap();
        !listed && !stored && !names.iter().any(|name| name.contains(&chain.to_string()))
    }

    pub async fn meet(&self, other: &Self) {
        self.network.connect(Some(&other.id()), &other.network.addresses()).await.unwrap();
    }

    pub fn summary(&self, chain: &ChainId) -> Summary {
        self.chain(chain).core().summary()
    }

    pub fn sync_peers(&self, chain: &ChainId) -> Vec<PeerId> {
        self.replicator.status(chain).unwrap().peers.into_iter().map(|peer| peer.peer).collect()
    }

    pub async fn add(&self, chain: &ChainId, text: &str) -> BlockId {
        self.add_bytes(chain, text.as_bytes().to_vec()).await
    }

    pub async fn add_bytes(&self, chain: &ChainId, bytes: Vec<u8>) -> BlockId {
        self.chain(chain).add(NewBlock { content: bytes.into(), topics: vec![] }).await.unwrap().id
    }

    pub async fn add_many(&self, chain: &ChainId, texts: &[String]) {
        let blocks = texts.iter().map(|text| NewBlock { content: text.clone().into(), topics: vec![] }).collect();
        self.chain(chain).add_many(blocks).await.unwrap();
    }

    /// Makes many concurrent children of genesis.
    pub async fn fan(&self, chain: &ChainId, count: usize) -> Vec<BlockId> {
        let blocks = (0..count).map(|index| {
            let draft = BlockDraft {
                chain: Some(*chain),
                parents: vec![chain.0],
                generation: 1,
                created_at_ms: 0,
                topics: vec![],
                content: DraftContent::Inline(format!("{index}").into()),
            };
            draft.sign(&SigningKey::from_seed(&Secret::new([77; 32]))).unwrap()
        });
        self.chain(chain).core().offer(blocks.collect(), None).await.unwrap().admitted
    }

    pub async fn until_count(&self, chain: &ChainId, count: u64) {
        let wait = async {
            while self.summary(chain).count < count {
                // Time stands still while anything can run: this stops in the middle of a transfer.
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the blocks do not come");
    }

    pub async fn read(&self, chain: &ChainId, id: &BlockId) -> Vec<u8> {
        let read = async {
            let mut bytes = Vec::new();
            self.chain(chain).content(id).await.unwrap().read_to_end(&mut bytes).await.unwrap();
            bytes
        };
        tokio::time::timeout(PATIENCE, read).await.expect("the content does not come")
    }

    /// Ends the node as a user does; what it stored stays.
    pub async fn stop(self) -> Disk {
        self.joins.shutdown().await;
        self.node.shutdown().await;
        self.network.shutdown().await;
        self.disk
    }
}

/// The contents in canonical order, but for genesis.
pub async fn contents(peer: &Peer, chain: &ChainId) -> Vec<String> {
    let blocks: Vec<_> =
        peer.chain(chain).query(Query::default()).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
    let mut texts = Vec::new();
    for info in blocks.iter().filter(|info| info.generation > 0) {
        texts.push(String::from_utf8(peer.read(chain, &info.id).await).unwrap());
    }
    texts
}
