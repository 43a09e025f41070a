//! The contract of ordered keys.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tempfile::TempDir;
use test_harness::contract::kv::{KvFixture, PersistentKvFixture, kv_contract, kv_persistence_contract};
use walytis_core::store::{KvStore, MemoryStore, RocksStore, open_schema};

struct Memory;

#[async_trait]
impl KvFixture for Memory {
    async fn store(&self) -> Arc<dyn KvStore> {
        let store = MemoryStore::new();
        open_schema(&store).await.unwrap();
        Arc::new(store)
    }
}

/// Each store in a folder of its own, all removed at the end.
#[derive(Default)]
struct Rocks {
    directories: Mutex<Vec<TempDir>>,
}

impl Rocks {
    async fn open(directory: PathBuf) -> Arc<dyn KvStore> {
        Arc::new(RocksStore::open(directory).await.unwrap())
    }
}

#[async_trait]
impl KvFixture for Rocks {
    async fn store(&self) -> Arc<dyn KvStore> {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("store");
        self.directories.lock().unwrap().push(directory);
        Self::open(path).await
    }
}

#[async_trait]
impl PersistentKvFixture for Rocks {
    async fn reopen(&self) -> Arc<dyn KvStore> {
        let path = self.directories.lock().unwrap().last().unwrap().path().join("store");
        Self::open(path).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_store_keeps_the_contract() {
    kv_contract(&Memory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rocks_store_keeps_the_contract() {
    kv_contract(&Rocks::default()).await;
}

#[tokio::test]
async fn rocks_store_keeps_the_contract_on_one_thread() {
    kv_contract(&Rocks::default()).await;
}

#[tokio::test]
async fn rocks_store_keeps_what_it_has() {
    kv_persistence_contract(&Rocks::default()).await;
}
