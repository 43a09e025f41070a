//! A chain without a node, on disk.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use walytis_core::access::{AdmitAll, SecretAccess};
use walytis_core::block::{Block, BlockDraft, DraftContent, GenesisV1, Visibility};
use walytis_core::chain::{Chain, ChainCore, ChainParts, ChainSettings};
use walytis_core::clock::{SeededEntropy, SystemClock};
use walytis_core::key::{Signer as _, SigningKey};
use walytis_core::ledger::{Ledger as _, NewBlock};
use walytis_core::secret::Secret;
use walytis_core::store::{KvStore as _, MemoryBlobs, RocksStore};
use walytis_core::topic::Topic;

/// Blocks of one `add_many` while a chain is made.
const FILL: u32 = 5_000;
/// Every so many blocks one has the rare topic and comes from the other author.
const RARE_EVERY: u32 = 10;

/// An open chain.
pub(crate) struct Open {
    pub(crate) chain: Chain,
    pub(crate) core: ChainCore,
    pub(crate) store: Arc<RocksStore>,
    /// Opening the store, then the chain.
    pub(crate) took: (Duration, Duration),
}

impl Open {
    pub(crate) async fn close(self) {
        self.core.shutdown().await;
        self.store.close().await.unwrap();
    }
}

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Secret::new([seed; 32]))
}

pub(crate) fn topic(name: &str) -> Topic {
    Topic::user(name).unwrap()
}

pub(crate) fn block(n: u32) -> NewBlock {
    let mut content = vec![7; 256];
    content[..4].copy_from_slice(&n.to_be_bytes());
    let name = if n.is_multiple_of(RARE_EVERY) { "rare" } else { "common" };
    NewBlock { content: content.into(), topics: vec![topic(name)] }
}

pub(crate) fn genesis() -> Block {
    let content =
        GenesisV1 { nonce: [9; 32], visibility: Visibility::Public, name: None, overlay: Vec::new().into() }.encode();
    let draft = BlockDraft {
        chain: None,
        parents: Vec::new(),
        generation: 0,
        created_at_ms: 0,
        topics: Vec::new(),
        content: DraftContent::Inline(content.into()),
    };
    draft.sign_checked(&key(0)).unwrap().unwrap()
}

/// Opens the chain in `folder`, creating it with its genesis block alone if there is none.
pub(crate) async fn open(folder: &Path) -> Open {
    let genesis = genesis();
    let id = genesis.chain();
    let start = Instant::now();
    let store = Arc::new(RocksStore::open(folder.join("store")).await.unwrap());
    let opened_store = start.elapsed();
    let parts = ChainParts {
        id,
        visibility: Visibility::Public,
        store: store.clone(),
        blobs: Arc::new(MemoryBlobs::new()),
        access: Arc::new(SecretAccess::public(&id)),
        policy: Arc::new(AdmitAll::default()),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SeededEntropy::new(1)),
        settings: ChainSettings::default(),
    };
    let start = Instant::now();
    let core = ChainCore::create(parts, &genesis).await.unwrap();
    let took = (opened_store, start.elapsed());
    let chain = Chain::detached(core.clone(), Arc::new(key(1)));
    Open { chain, core, store, took }
}

/// Makes a chain of `blocks` blocks, one tenth of them by another author.
pub(crate) async fn fill(folder: &Path, blocks: u32) {
    let open = open(folder).await;
    let other = Chain::detached(open.core.clone(), Arc::new(key(2)));
    let start = Instant::now();
    for (n, first) in (0..blocks).step_by(FILL as usize).enumerate() {
        let some = (first..blocks.min(first + FILL)).map(block).collect();
        let writer = if n % RARE_EVERY as usize == 0 { &other } else { &open.chain };
        writer.add_many(some).await.unwrap();
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{{\"bench\":\"growth\",\"work\":\"fill\",\"blocks\":{blocks},\"blocks_per_s\":{:.0},\"bytes\":{}}}",
        f64::from(blocks) / seconds,
        open.store.size_bytes().await.unwrap()
    );
    open.close().await;
}

/// Waits until the tables of the store are merged: what is measured next is not to share the disk with that.
pub(crate) async fn settle(folder: &Path) {
    let open = open(folder).await;
    let mut bytes = 0;
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = open.store.size_bytes().await.unwrap();
        if now == bytes {
            break;
        }
        bytes = now;
    }
    assert!(!open.core.summary().heads.is_empty() && key(1).public_key() != key(2).public_key());
    open.close().await;
}
