//! Long series of own blocks, which are staged while they are signed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod chain_parts;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use chain_parts::{Bench, TestChain, check, key};
use tokio::sync::watch;
use walytis_core::access::{Admission, AdmissionPolicy, AdmitAll};
use walytis_core::block::Block;
use walytis_core::key::{PublicKey, SignError, Signature, Signer};
use walytis_core::ledger::{Ledger as _, LedgerError, LedgerRead as _, NewBlock};

/// Blocks of a series: more than are signed before the first are staged.
const LONG: u32 = 300;

fn blocks(count: u32) -> Vec<NewBlock> {
    (0..count).map(|n| NewBlock { content: n.to_be_bytes().to_vec().into(), topics: vec![] }).collect()
}

/// Nothing above this generation enters.
#[derive(Debug)]
struct UpTo(u64, watch::Sender<u64>);

#[async_trait]
impl AdmissionPolicy for UpTo {
    async fn judge(&self, block: &Block) -> Admission {
        if block.header().generation > self.0 { Admission::Wait } else { Admission::Admit }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.1.subscribe()
    }
}

/// A key whose vault is locked after so many signatures.
#[derive(Debug)]
struct Locking(AtomicU32);

impl Signer for Locking {
    fn public_key(&self) -> PublicKey {
        key(1).public_key()
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        let left = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        left.map_err(|_| SignError::Locked)?;
        key(1).sign(message)
    }
}

/// What the chain says is what it said, and what a restart finds.
async fn assert_unchanged(bench: &Bench, chain: &TestChain, count: u64) {
    assert_eq!(chain.chain.count().await.unwrap(), count);
    let listed = chain.core.canonical_page(0, None, 10_000).await.unwrap();
    assert_eq!(listed.len() as u64, count);
    let reopened = bench.reopen(1, chain).await;
    assert_eq!(reopened.core.summary(), chain.core.summary());
    reopened.core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_series_that_is_refused_half_way_nothing_is_added() {
    let bench = Bench::new();
    let chain = bench.chain_with(1, Arc::new(UpTo(200, watch::Sender::new(0)))).await;
    for round in 0..3u64 {
        let refused = chain.chain.add_many(blocks(LONG)).await;
        assert!(matches!(refused, Err(LedgerError::Refused { .. })), "{refused:?}");
        assert_unchanged(&bench, &chain, 1 + 40 * round).await;
        assert_eq!(chain.chain.add_many(blocks(40)).await.unwrap().len(), 40);
    }
    assert_unchanged(&bench, &chain, 121).await;
    check(&chain).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_series_that_cannot_be_signed_to_its_end_nothing_is_added() {
    let bench = Bench::new();
    let chain = bench.chain_with(1, Arc::new(AdmitAll::default())).await;
    for signed in [0, 1, 127, 128, 129, LONG - 1] {
        let signer = Arc::new(Locking(AtomicU32::new(signed)));
        let failed = chain.chain.append_many(blocks(LONG), signer).await;
        assert!(matches!(failed, Err(LedgerError::Locked)), "{signed}: {failed:?}");
        assert_eq!(chain.chain.count().await.unwrap(), 1);
    }
    let signer = Arc::new(Locking(AtomicU32::new(LONG)));
    assert_eq!(chain.chain.append_many(blocks(LONG), signer).await.unwrap().len(), LONG as usize);
    assert_unchanged(&bench, &chain, 1 + u64::from(LONG)).await;
}

/// Writers that add at the same time, some of them long series: each series stays whole and in its order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn series_of_several_writers_do_not_mix() {
    let bench = Bench::new();
    let chain = bench.chain(1).await;
    let writers: Vec<_> = [1, 200, 3, 140, 32, 33]
        .into_iter()
        .map(|count| {
            let chain = chain.chain.clone();
            tokio::spawn(async move { chain.add_many(blocks(count)).await.unwrap() })
        })
        .collect();
    for writer in writers {
        let added = writer.await.unwrap();
        for pair in added.windows(2) {
            assert_eq!(pair[1].parents, [pair[0].id]);
            assert_eq!(pair[1].cursor.0, pair[0].cursor.0 + 1);
        }
    }
    assert_unchanged(&bench, &chain, 1 + 1 + 200 + 3 + 140 + 32 + 33).await;
}
