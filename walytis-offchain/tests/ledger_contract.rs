//! A private ledger keeps the contract of every ledger.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

mod support;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use support::{Peer, World};
use test_harness::contract::ledger::{self, AnyLedger, LedgerFixture};
use walytis_core::id::ChainId;
use walytis_identities::id::Role;
use walytis_identities::identity::MemoryIdentity;

struct Private {
    peer: Peer,
    chain: ChainId,
    identity: MemoryIdentity,
    made: Mutex<u32>,
}

impl Private {
    async fn open(&self) -> Arc<dyn AnyLedger> {
        let layer = self.made.lock().unwrap().to_string();
        Arc::new(self.peer.open(&self.chain, &self.identity, &layer).await)
    }
}

#[async_trait]
impl LedgerFixture for Private {
    async fn ledger(&self) -> Arc<dyn AnyLedger> {
        *self.made.lock().unwrap() += 1;
        self.open().await
    }

    async fn reopen(&self) -> Arc<dyn AnyLedger> {
        self.open().await
    }
}

/// All ledgers of the suite stand on one chain, each in its own layer.
#[tokio::test(start_paused = true)]
async fn a_private_ledger_keeps_the_contract() {
    let world = World::new();
    let (mut peers, chain, group) = world.peers(1).await;
    let peer = peers.remove(0);
    let identity = peer.join(&group, Role::Admin);
    ledger::run(&Private { peer, chain, identity, made: Mutex::default() }).await;
}
