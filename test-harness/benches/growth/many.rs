//! Opening a node that has many chains, in a process of its own.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use walytis_core::block::Visibility;
use walytis_core::clock::{SeededEntropy, SystemClock};
use walytis_core::ledger::Ledger as _;
use walytis_core::node::{Listing, Node, NodeConfig, NodeParts};
use walytis_core::store::{KvStore as _, MemoryBlobs, MemorySecrets, RocksStore};

use super::chain::block;
use super::memory::{megabytes, resident};

/// Names the folder that a child process opens.
pub(crate) const CHILD: &str = "WALYTIS_GROWTH_NODE";
/// Chains of the node; other numbers of them show what one costs.
const CHAINS: [u32; 3] = [0, 200, 1_000];
/// Blocks of each.
const BLOCKS: u32 = 10;

pub(crate) async fn measure() {
    for chains in CHAINS {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path(), chains).await;
        let program = std::env::current_exe().unwrap();
        let output = Command::new(program).env(CHILD, folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        println!("{{\"bench\":\"growth\",\"work\":\"open_node\",\"chains\":{chains},{}}}", text.trim());
    }
}

async fn node(folder: &Path) -> (Arc<RocksStore>, Node) {
    let store = Arc::new(RocksStore::open(folder.join("store")).await.unwrap());
    let parts = NodeParts {
        store: store.clone(),
        blobs: Arc::new(MemoryBlobs::new()),
        secrets: Arc::new(MemorySecrets::new()),
        replication: None,
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SeededEntropy::new(1)),
        config: NodeConfig::default(),
    };
    (store, Node::open(parts).await.unwrap())
}

async fn make(folder: &Path, chains: u32) {
    let (store, node) = node(folder).await;
    for n in 0..chains {
        // Public, for the secrets of the others would be gone with this process.
        let chain = node.create_chain(&format!("chain{n}"), Visibility::Public).await.unwrap();
        chain.add_many((0..BLOCKS).map(block).collect()).await.unwrap();
    }
    node.shutdown().await;
    store.close().await.unwrap();
}

/// What the child does.
pub(crate) async fn child(folder: &Path) {
    let before = resident();
    let start = Instant::now();
    let (store, node) = node(folder).await;
    let took = start.elapsed();
    println!(
        "\"open\":{},\"ms\":{:.2},\"mb\":{:.1}",
        node.chains(Listing::All).len(),
        took.as_secs_f64() * 1e3,
        megabytes(resident().saturating_sub(before)),
    );
    node.shutdown().await;
    store.close().await.unwrap();
}
