//! A chain keeps the contract of every ledger, in memory and on disk.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

mod chain_parts;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chain_parts::{Bench, TestChain, key};
use test_harness::contract::ledger::{self, AnyLedger, LedgerFixture};
use walytis_core::chain::{Chain, ChainCore};
use walytis_core::store::{FileBlobs, RocksStore};

struct InMemory {
    bench: Bench,
    last: Mutex<Option<TestChain>>,
}

#[async_trait]
impl LedgerFixture for InMemory {
    async fn ledger(&self) -> Arc<dyn AnyLedger> {
        let made = self.bench.chain(1).await;
        let chain = made.chain.clone();
        *self.last.lock().unwrap() = Some(made);
        Arc::new(chain)
    }

    async fn reopen(&self) -> Arc<dyn AnyLedger> {
        let last = self.last.lock().unwrap().take().unwrap();
        Arc::new(self.bench.reopen(1, &last).await.chain)
    }
}

#[tokio::test]
async fn a_chain_in_memory_keeps_the_contract() {
    ledger::run(&InMemory { bench: Bench::new(), last: Mutex::default() }).await;
}

struct OnDisk {
    bench: Bench,
    folder: tempfile::TempDir,
    made: Mutex<u32>,
}

impl OnDisk {
    async fn open(&self) -> Chain {
        let folder = self.folder.path().join(self.made.lock().unwrap().to_string());
        let store = Arc::new(RocksStore::open(folder.join("db")).await.unwrap());
        let blobs = Arc::new(FileBlobs::open(folder.join("blobs")).await.unwrap());
        let core = ChainCore::create(self.bench.parts(store, blobs), &self.bench.genesis).await.unwrap();
        Chain::detached(core, Arc::new(key(1)))
    }
}

#[async_trait]
impl LedgerFixture for OnDisk {
    async fn ledger(&self) -> Arc<dyn AnyLedger> {
        *self.made.lock().unwrap() += 1;
        Arc::new(self.open().await)
    }

    async fn reopen(&self) -> Arc<dyn AnyLedger> {
        Arc::new(self.open().await)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_on_disk_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    ledger::run(&OnDisk { bench: Bench::new(), folder, made: Mutex::default() }).await;
}
