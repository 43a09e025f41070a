//! A node of the real parts: RocksDB, blob files, libp2p on loopback.

use std::sync::Arc;

use tempfile::TempDir;
use walytis_core::clock::{Clock, Entropy, SeededEntropy, SystemClock};
use walytis_core::join::JoinService;
use walytis_core::net::Network;
use walytis_core::node::{Node, NodeConfig, NodeParts};
use walytis_core::replica::Replicator;
use walytis_core::store::{BlobStore, FileBlobs, KvStore, MemorySecrets, RocksStore, SecretStore};
use walytis_ipfs::{Libp2pNode, NodeKey};

/// A node and its folder, which goes with it.
pub(crate) struct Stack {
    pub(crate) store: Arc<dyn KvStore>,
    pub(crate) blobs: Arc<dyn BlobStore>,
    pub(crate) secrets: Arc<dyn SecretStore>,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) replicator: Replicator,
    pub(crate) node: Node,
    pub(crate) joins: JoinService,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    _dir: TempDir,
}

impl Stack {
    pub(crate) async fn start(seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(seed));
        let store: Arc<dyn KvStore> = Arc::new(RocksStore::open(dir.path().join("store")).await.unwrap());
        let blobs: Arc<dyn BlobStore> = Arc::new(FileBlobs::open(dir.path().join("blobs")).await.unwrap());
        let secrets: Arc<dyn SecretStore> = Arc::new(MemorySecrets::new());
        let key = NodeKey::load_or_create(&dir.path().join("node.key"), &*entropy).unwrap();
        let config = walytis_ipfs::NodeConfig::loopback();
        let network = Libp2pNode::start(config, key, Arc::clone(&store), Arc::clone(&clock), &*entropy).await.unwrap();
        let network: Arc<dyn Network> = Arc::new(network);
        let replicator = Replicator::start(Arc::clone(&network), Arc::clone(&entropy)).unwrap();
        let node = Node::open(NodeParts {
            store: Arc::clone(&store),
            blobs: Arc::clone(&blobs),
            secrets: Arc::clone(&secrets),
            replication: Some(Arc::new(replicator.clone())),
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
            config: NodeConfig::default(),
        })
        .await
        .unwrap();
        let joins = JoinService::start(node.clone(), Arc::clone(&network), Arc::clone(&entropy)).unwrap();
        Self { store, blobs, secrets, network, replicator, node, joins, clock, entropy, _dir: dir }
    }

    pub(crate) async fn stop(self) {
        self.joins.shutdown().await;
        self.node.shutdown().await;
        self.replicator.shutdown().await;
        self.network.shutdown().await;
        self.store.close().await.unwrap();
    }
}
