//! Private ledgers on real nodes over the network in memory.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of this module")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use walytis_core::block::Visibility;
use walytis_core::chain::Chain;
use walytis_core::clock::{ManualClock, SeededEntropy};
use walytis_core::id::{BlockId, ChainId, PeerId};
use walytis_core::ledger::{BlockInfo, BlockState, Ledger as _, LedgerControl as _, LedgerRead as _, NewBlock};
use walytis_core::net::{MemoryHub, MemoryNetwork, Network as _};
use walytis_core::node::{GenesisImport, Node, NodeConfig, NodeParts};
use walytis_core::replica::Replicator;
use walytis_core::secret::Secret;
use walytis_core::store::{MemoryBlobs, MemorySecrets, MemoryStore};
use walytis_core::topic::Topic;
use walytis_identities::id::{Did, Role};
use walytis_identities::identity::{MemoryGroup, MemoryIdentity};
use walytis_offchain::{OffchainExchange, PrivateLedger, PrivateParts};

/// How long a test waits before it fails; paused time, so it costs nothing.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub struct World {
    pub hub: MemoryHub,
    pub clock: Arc<ManualClock>,
}

pub struct Disk {
    pub seed: u8,
    pub store: Arc<MemoryStore>,
    pub blobs: Arc<MemoryBlobs>,
    pub secrets: Arc<MemorySecrets>,
    pub clock: Arc<ManualClock>,
}

pub struct Peer {
    pub node: Node,
    pub network: Arc<MemoryNetwork>,
    pub exchange: OffchainExchange,
    pub disk: Disk,
}

impl World {
    pub fn new() -> Self {
        Self { hub: MemoryHub::new(), clock: Arc::new(ManualClock::new(1_000_000)) }
    }

    pub async fn peer(&self, seed: u8) -> Peer {
        let disk = Disk {
            seed,
            store: Arc::new(MemoryStore::new()),
            blobs: Arc::new(MemoryBlobs::new()),
            secrets: Arc::new(MemorySecrets::new()),
            clock: self.clock.clone(),
        };
        self.start(disk).await
    }

    pub async fn start(&self, disk: Disk) -> Peer {
        let network = Arc::new(self.hub.join(&Secret::new([disk.seed; 32])));
        let entropy = Arc::new(SeededEntropy::new(u64::from(disk.seed)));
        let replicator = Replicator::start(network.clone(), entropy.clone()).unwrap();
        let parts = NodeParts {
            store: disk.store.clone(),
            blobs: disk.blobs.clone(),
            secrets: disk.secrets.clone(),
            replication: Some(Arc::new(replicator)),
            clock: self.clock.clone(),
            entropy,
            config: NodeConfig::default(),
        };
        let node = Node::open(parts).await.unwrap();
        let exchange = OffchainExchange::start(network.clone()).unwrap();
        Peer { node, network, exchange, disk }
    }

    /// Peers of one public chain, all connected, and a group without members.
    pub async fn peers(&self, count: u8) -> (Vec<Peer>, ChainId, MemoryGroup) {
        let mut peers = Vec::new();
        for seed in 1..=count {
            peers.push(self.peer(seed).await);
        }
        let chain = peers[0].node.create_chain("group", Visibility::Public).await.unwrap().id();
        for peer in &peers[1..] {
            peer.take_in(&peers[0], &chain).await;
        }
        for (number, peer) in peers.iter().enumerate() {
            for other in &peers[..number] {
                peer.meet(other).await;
            }
        }
        (peers, chain, MemoryGroup::new(Did(chain)))
    }
}

impl Peer {
    pub fn id(&self) -> PeerId {
        self.network.local_peer()
    }

    pub fn chain(&self, id: &ChainId) -> Chain {
        self.node.chain_by_id(id).unwrap()
    }

    pub async fn take_in(&self, from: &Self, chain: &ChainId) {
        let file = from.chain(chain).core().file(&chain.0).await.unwrap().unwrap();
        let import = GenesisImport { expected: *chain, file, secret: None, name: "taken".into() };
        self.node.import_genesis(import).await.unwrap();
    }

    pub async fn meet(&self, other: &Self) {
        self.network.connect(Some(&other.id()), &other.network.addresses()).await.unwrap();
    }

    pub fn join(&self, group: &MemoryGroup, role: Role) -> MemoryIdentity {
        group.admit([self.disk.seed + 100; 32], self.id(), role)
    }

    pub async fn open(&self, chain: &ChainId, identity: &MemoryIdentity, layer: &str) -> PrivateLedger {
        PrivateLedger::open(self.parts(chain, identity, layer)).await.unwrap()
    }

    pub fn parts(&self, chain: &ChainId, identity: &MemoryIdentity, layer: &str) -> PrivateParts {
        PrivateParts {
            identity: Arc::new(identity.clone()),
            chain: self.chain(chain),
            layer: layer.to_owned(),
            store: self.disk.store.clone(),
            blobs: self.disk.blobs.clone(),
            exchange: Some(self.exchange.clone()),
            clock: self.disk.clock.clone(),
            entropy: Arc::new(SeededEntropy::new(u64::from(self.disk.seed) + 1_000)),
        }
    }

    pub async fn stop(self, ledgers: &[&PrivateLedger]) -> Disk {
        for ledger in ledgers {
            ledger.shutdown().await;
        }
        self.exchange.shutdown().await;
        self.node.shutdown().await;
        self.network.shutdown().await;
        self.disk
    }
}

pub fn topic(text: &str) -> Topic {
    Topic::user(text).unwrap()
}

pub async fn add(ledger: &PrivateLedger, content: impl Into<Vec<u8>>, topics: &[&str]) -> BlockInfo {
    let topics = topics.iter().map(|text| topic(text)).collect();
    ledger.add(NewBlock { content: content.into().into(), topics }).await.unwrap()
}

pub async fn until(ledger: &PrivateLedger, id: &BlockId, state: BlockState) -> BlockInfo {
    let wait = async {
        loop {
            if let Some(info) = ledger.get(id).await.unwrap()
                && info.state == state
            {
                return info;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, wait).await {
        Ok(info) => info,
        Err(_) => panic!("expected {state:?}, it stays {:?}", ledger.get(id).await),
    }
}

pub async fn read(ledger: &PrivateLedger, id: &BlockId) -> Vec<u8> {
    let mut bytes = Vec::new();
    ledger.content(id).await.expect("content").read_to_end(&mut bytes).await.unwrap();
    bytes
}

/// Bytes that do not repeat.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}
