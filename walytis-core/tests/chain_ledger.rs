//! A chain keeps the contract of every ledger, in memory and on disk.

mod chain_parts;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chain_parts::{Bench, TestChain};
use test_harness::contract::ledger::{self, AnyLedger, LedgerFixture};

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
