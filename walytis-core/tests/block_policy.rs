//! V-BLOCK-17: the rule that a chain's admission policy speaks.

mod chain_parts;

use std::sync::Arc;

use async_trait::async_trait;
use chain_parts::{Bench, key};
use tokio::sync::watch;
use walytis_core::access::{Admission, AdmissionPolicy};
use walytis_core::block::{Block, Rule};
use walytis_core::key::{PublicKey, Signer as _};

/// Admits one creator, lets another wait, refuses the rest.
#[derive(Debug)]
struct ByCreator {
    admit: PublicKey,
    wait: PublicKey,
    changes: watch::Sender<u64>,
}

#[async_trait]
impl AdmissionPolicy for ByCreator {
    async fn judge(&self, block: &Block) -> Admission {
        match block.header().creator {
            creator if creator == self.admit => Admission::Admit,
            creator if creator == self.wait => Admission::Wait,
            _ => Admission::Refuse("V-TEST-01"),
        }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

#[tokio::test]
async fn v_block_17_policy_passes_waits_and_breaks() {
    let bench = Bench::new();
    let policy = ByCreator { admit: key(1).public_key(), wait: key(2).public_key(), changes: watch::Sender::new(0) };
    let chain = bench.chain_with(1, Arc::new(policy)).await;
    let by = |seed| bench.block(seed, vec![bench.genesis.id()], 1, b"same but for its creator");
    let (good, waiting, bad) = (by(1), by(2), by(3));
    let offered = chain.core.offer(vec![bad.clone(), waiting.clone(), good.clone()], None).await.unwrap();
    assert_eq!(offered.admitted, [good.id()]);
    assert_eq!(offered.pending, [waiting.id()]);
    assert_eq!(offered.rejected.iter().map(|no| (no.rule, no.block)).collect::<Vec<_>>(), [(Rule::Policy, bad.id())]);
    assert_eq!(chain.core.node(&waiting.id()).await.unwrap(), None);
}
