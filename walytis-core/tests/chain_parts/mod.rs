//! Chains without a node or a network.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of this module")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::sync::Arc;

use walytis_core::access::{AdmissionPolicy, AdmitAll, SecretAccess};
use walytis_core::block::{Block, BlockDraft, DraftContent, GenesisV1, UnverifiedBlock, Visibility};
use walytis_core::chain::{Chain, ChainCore, ChainParts, ChainSettings};
use walytis_core::clock::{ManualClock, SeededEntropy};
use walytis_core::id::{BlockId, ChainId};
use walytis_core::key::{Signer, SigningKey};
use walytis_core::secret::Secret;
use walytis_core::store::{BlobStore, KvStore, MemoryBlobs, MemoryStore};

/// One chain's genesis, and replicas of it.
pub struct Bench {
    pub genesis: Block,
    pub clock: Arc<ManualClock>,
}

/// A replica.
pub struct TestChain {
    pub core: ChainCore,
    pub chain: Chain,
    pub store: Arc<MemoryStore>,
    pub blobs: Arc<MemoryBlobs>,
}

pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Secret::new([seed; 32]))
}

impl Bench {
    pub fn new() -> Self {
        let content = GenesisV1 {
            nonce: [3; 32],
            visibility: Visibility::Public,
            name: Some("test".to_owned()),
            overlay: Vec::new().into(),
        };
        let draft = BlockDraft {
            chain: None,
            parents: Vec::new(),
            generation: 0,
            created_at_ms: 0,
            topics: Vec::new(),
            content: DraftContent::Inline(content.encode().into()),
        };
        let genesis = draft.sign_checked(&key(0)).unwrap().unwrap();
        Self { genesis, clock: Arc::new(ManualClock::new(1_000)) }
    }

    pub fn id(&self) -> ChainId {
        self.genesis.chain()
    }

    pub fn parts(&self, store: Arc<dyn KvStore>, blobs: Arc<dyn BlobStore>) -> ChainParts {
        ChainParts {
            id: self.id(),
            visibility: Visibility::Public,
            store,
            blobs,
            access: Arc::new(SecretAccess::public(&self.id())),
            policy: Arc::new(AdmitAll::default()),
            clock: self.clock.clone(),
            entropy: Arc::new(SeededEntropy::new(1)),
            settings: ChainSettings::default(),
        }
    }

    pub async fn chain(&self, seed: u8) -> TestChain {
        self.chain_with(seed, Arc::new(AdmitAll::default())).await
    }

    pub async fn chain_with(&self, seed: u8, policy: Arc<dyn AdmissionPolicy>) -> TestChain {
        let (store, blobs) = (Arc::new(MemoryStore::new()), Arc::new(MemoryBlobs::new()));
        let parts = ChainParts { policy, ..self.parts(store.clone(), blobs.clone()) };
        let core = ChainCore::create(parts, &self.genesis).await.unwrap();
        let chain = Chain::detached(core.clone(), Arc::new(key(seed)));
        TestChain { core, chain, store, blobs }
    }

    /// Opens what another run left behind.
    pub async fn reopen(&self, seed: u8, old: &TestChain) -> TestChain {
        let (store, blobs) = (old.store.clone(), old.blobs.clone());
        let core = ChainCore::open(self.parts(store.clone(), blobs.clone())).await.unwrap();
        let chain = Chain::detached(core.clone(), Arc::new(key(seed)));
        TestChain { core, chain, store, blobs }
    }

    /// A block as a peer sends it, true or not.
    pub fn block(&self, seed: u8, parents: Vec<BlockId>, generation: u64, content: &[u8]) -> UnverifiedBlock {
        self.block_with(&key(seed), parents, generation, content)
    }

    pub fn block_with(
        &self,
        signer: &dyn Signer,
        parents: Vec<BlockId>,
        generation: u64,
        content: &[u8],
    ) -> UnverifiedBlock {
        let draft = BlockDraft {
            chain: Some(self.id()),
            parents,
            generation,
            created_at_ms: 0,
            topics: Vec::new(),
            content: DraftContent::Inline(content.to_vec().into()),
        };
        draft.sign(signer).unwrap()
    }
}

pub async fn file_of(chain: &TestChain, id: &BlockId) -> UnverifiedBlock {
    UnverifiedBlock::decode(chain.core.file(id).await.unwrap().unwrap()).unwrap()
}

/// Checks that everything stored of a chain agrees: counters, heads, orders, indices, files, contents, blobs.
pub async fn check(chain: &TestChain) {
    use futures::StreamExt as _;
    use walytis_core::ledger::{BlockState, LedgerRead as _, Order, Query};
    use walytis_core::store::BlobSpace;

    let list = async |query: Query| -> Vec<_> {
        chain.chain.query(query).await.unwrap().map(|info| info.unwrap()).collect().await
    };
    let canonical = list(Query::default()).await;
    let arrival = list(Query { order: Order::Arrival, ..Query::default() }).await;
    assert_eq!(canonical.len() as u64, chain.chain.count().await.unwrap());
    assert_eq!(
        arrival.iter().map(|info| info.cursor.0).collect::<Vec<_>>(),
        (1..=arrival.len() as u64).collect::<Vec<_>>()
    );
    let mut sorted = arrival.clone();
    sorted.sort_by_key(|info| (info.generation, info.id));
    assert_eq!(sorted, canonical);
    let mut heads: std::collections::BTreeSet<BlockId> = std::collections::BTreeSet::new();
    let mut blobs = std::collections::BTreeSet::new();
    for info in &arrival {
        for parent in &info.parents {
            assert!(arrival.iter().any(|other| other.id == *parent && other.cursor < info.cursor));
            heads.remove(parent);
        }
        heads.insert(info.id);
        let block = file_of(chain, &info.id).await.verify(&chain.core.id()).unwrap();
        for topic in &info.topics {
            for order in [Order::Canonical, Order::Arrival] {
                let query = Query { topics_any: vec![topic.clone()], order, ..Query::default() };
                assert!(list(query).await.contains(info));
            }
        }
        let query = Query { creator: Some(info.creator), ..Query::default() };
        assert!(list(query).await.contains(info));
        if let walytis_core::block::ContentRef::Blob { root, .. } = &block.header().content {
            blobs.insert(*root.digest());
        }
        if info.state == BlockState::Available {
            assert_eq!(content(chain, &info.id).await.len() as u64, info.size);
        }
    }
    assert_eq!(heads.into_iter().collect::<Vec<_>>(), chain.core.summary().heads);
    let stored: Vec<_> = chain.blobs.list(BlobSpace::Blob, chain.core.id()).await.unwrap();
    assert!(stored.iter().all(|key| blobs.contains(&key.digest)), "blobs that no block names");
}

pub async fn content(chain: &TestChain, id: &BlockId) -> Vec<u8> {
    use tokio::io::AsyncReadExt as _;
    use walytis_core::ledger::LedgerRead as _;
    let mut bytes = Vec::new();
    chain.chain.content(id).await.unwrap().read_to_end(&mut bytes).await.unwrap();
    bytes
}
