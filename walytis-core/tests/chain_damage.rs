//! Damage of what is stored: one chain is read-only, says why, and stays so; everything else goes on.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use std::sync::Arc;

use futures::StreamExt as _;
use walytis_core::block::Visibility;
use walytis_core::clock::{ManualClock, SeededEntropy};
use walytis_core::id::ChainId;
use walytis_core::ledger::{Ledger as _, LedgerControl as _, LedgerError, LedgerRead as _, NewBlock, Query};
use walytis_core::node::{ChainState, Node, NodeConfig, NodeParts};
use walytis_core::store::{
    Batch, Direction, Durability, KeyRange, KvStore as _, MemoryBlobs, MemorySecrets, MemoryStore,
};

/// One node's disk.
struct Bench {
    store: Arc<MemoryStore>,
    blobs: Arc<MemoryBlobs>,
    secrets: Arc<MemorySecrets>,
}

impl Bench {
    fn new() -> Self {
        Self {
            store: Arc::new(MemoryStore::new()),
            blobs: Arc::new(MemoryBlobs::new()),
            secrets: Arc::new(MemorySecrets::new()),
        }
    }

    async fn open(&self) -> Node {
        Node::open(NodeParts {
            store: self.store.clone(),
            blobs: self.blobs.clone(),
            secrets: self.secrets.clone(),
            replication: None,
            clock: Arc::new(ManualClock::new(1_000)),
            entropy: Arc::new(SeededEntropy::new(1)),
            config: NodeConfig::default(),
        })
        .await
        .unwrap()
    }

    /// Keys of a chain with this tag.
    async fn keys(&self, id: &ChainId, tag: u8) -> Vec<Vec<u8>> {
        let range = KeyRange::prefix(&[&[1], &id.digest()[..], &[tag]].concat());
        let found = self.store.scan(range, Direction::Forward, 10_000).await.unwrap();
        found.into_iter().map(|(key, _)| key.to_vec()).collect()
    }

    async fn put(&self, key: &[u8], value: &[u8]) {
        let mut batch = Batch::new();
        batch.put(key.to_vec(), value.to_vec());
        self.store.commit(batch, Durability::Flushed).await.unwrap();
    }
}

fn text(text: &str) -> NewBlock {
    let topics = vec![walytis_core::topic::Topic::user("t").unwrap()];
    NewBlock { content: text.to_owned().into(), topics }
}

/// Opening, reading and writing, as far as they come.
async fn use_up(node: &Node, id: &ChainId) -> Vec<String> {
    let Ok(chain) = node.chain_by_id(id) else { return vec!["cannot be opened".to_owned()] };
    let mut errors = Vec::new();
    for reverse in [false, true] {
        let infos: Vec<_> = chain.query(Query { reverse, ..Query::default() }).await.unwrap().collect().await;
        for info in infos {
            match info {
                Ok(info) => errors.extend(chain.block(&info.id).await.err().map(|error| format!("{error:?}"))),
                Err(error) => errors.push(format!("{error:?}")),
            }
        }
    }
    errors.extend(chain.add(text("more")).await.err().map(|error| format!("{error:?}")));
    errors
}

/// Tags of counters, heads, files, nodes, canonical and arrival order, each with the bytes that take the value's place.
#[tokio::test]
async fn every_kind_of_damage_is_named_stops_one_chain_and_outlives_a_restart() {
    let damaged = [(0x00u8, &b"\x01\x02"[..]), (0x01, b"x"), (0x02, b"garbage"), (0x03, b""), (0x05, b"short")];
    for (tag, garbage) in damaged {
        let bench = Bench::new();
        let node = bench.open().await;
        let chain = node.create_chain("hurt", Visibility::Public).await.unwrap();
        let id = chain.id();
        let well = node.create_chain("well", Visibility::Public).await.unwrap().id();
        chain.add_many((0..5).map(|n| text(&n.to_string())).collect()).await.unwrap();
        node.shutdown().await;
        let key = bench.keys(&id, tag).await.pop().unwrap();
        bench.put(&key, garbage).await;

        let node = bench.open().await;
        if tag == 0x05 {
            // Only those who follow in arrival order meet it.
            let chain = node.chain_by_id(&id).unwrap();
            let order = walytis_core::ledger::Order::Arrival;
            let infos: Vec<_> = chain.query(Query { order, ..Query::default() }).await.unwrap().collect().await;
            assert!(infos.last().unwrap().is_err());
        }
        let errors = use_up(&node, &id).await;
        let state = node.find("hurt").unwrap().state;
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(
            matches!(&state, ChainState::Damaged { reason } if reason.contains(&hex)),
            "{tag}: {state:?} {errors:?}"
        );
        assert!(!errors.is_empty(), "{tag}");
        node.chain_by_id(&well).unwrap().add(text("on")).await.unwrap();
        node.shutdown().await;

        // Nobody reads the damaged value now, and all the same nothing may be written.
        let node = bench.open().await;
        let state = node.find("hurt").unwrap().state;
        assert!(matches!(&state, ChainState::Damaged { reason } if reason.contains(&hex)), "{tag}: {state:?}");
        if let Ok(chain) = node.chain_by_id(&id) {
            assert!(matches!(chain.add(text("no")).await.unwrap_err(), LedgerError::Damaged { .. }));
            assert!(chain.status().await.unwrap().damaged.unwrap().contains(&hex));
        }
        node.chain_by_id(&well).unwrap().add(text("on")).await.unwrap();
        node.shutdown().await;
    }
}

#[tokio::test]
async fn a_chain_whose_record_or_counters_are_lost_lets_the_node_start() {
    let bench = Bench::new();
    let node = bench.open().await;
    let ids: Vec<_> = {
        let mut ids = Vec::new();
        for name in ["one", "two", "three"] {
            ids.push(node.create_chain(name, Visibility::Public).await.unwrap().id());
        }
        ids
    };
    node.shutdown().await;
    bench.put(&[&[2, 0], &ids[0].digest()[..]].concat(), b"garbage").await;
    let mut batch = Batch::new();
    batch.delete([&[1], &ids[1].digest()[..], &[0]].concat());
    bench.store.commit(batch, Durability::Flushed).await.unwrap();
    let node = bench.open().await;
    let states: Vec<_> = ids.iter().map(|id| node.find(&id.to_string()).unwrap().state).collect();
    assert!(matches!(&states[0], ChainState::Damaged { .. }), "{states:?}");
    assert!(matches!(&states[1], ChainState::Damaged { reason } if reason.contains("counters")), "{states:?}");
    assert_eq!(states[2], ChainState::Open);
    node.create_chain("four", Visibility::Public).await.unwrap();
}
