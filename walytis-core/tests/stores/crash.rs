//! The doubles that fail keep the contracts while they have power, and lose exactly what they should.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use test_harness::contract::blob::{BlobFixture, blob_contract};
use test_harness::contract::kv::{KvFixture, kv_contract};
use test_harness::store::{CountingStore, FailingBlobs, FailingStore, Failure, Power};
use walytis_core::id::{BlockId, ChainId};
use walytis_core::store::{
    Batch, BlobKey, BlobSpace, BlobStatus, BlobStore, BlobStoreError, Durability, KvStore, MemoryBlobs, MemoryStore,
    StoreError,
};

struct Steady;

#[async_trait]
impl KvFixture for Steady {
    async fn store(&self) -> Arc<dyn KvStore> {
        Arc::new(FailingStore::new(&MemoryStore::new(), Power::steady()))
    }
}

#[async_trait]
impl BlobFixture for Steady {
    async fn store(&self) -> Arc<dyn BlobStore> {
        Arc::new(FailingBlobs::new(&MemoryBlobs::new(), Power::steady()))
    }
}

struct Counting;

#[async_trait]
impl KvFixture for Counting {
    async fn store(&self) -> Arc<dyn KvStore> {
        Arc::new(CountingStore::new(Arc::new(MemoryStore::new())))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doubles_with_power_keep_the_contracts() {
    kv_contract(&Steady).await;
    kv_contract(&Counting).await;
    blob_contract(&Steady).await;
}

/// Commit `number` of the scenario; every third is flushed: 2, 5, 8.
async fn commit(store: &dyn KvStore, number: u8) -> Result<(), StoreError> {
    let mut batch = Batch::new();
    batch.put(vec![1, number], vec![number]);
    store.commit(batch, if number % 3 == 2 { Durability::Flushed } else { Durability::Buffered }).await
}

/// Which commits of the scenario a store holds.
async fn held(store: &dyn KvStore) -> Vec<u8> {
    let mut held = Vec::new();
    for number in 0..9 {
        if store.get(&[1, number]).await.unwrap().is_some() {
            held.push(number);
        }
    }
    held
}

#[tokio::test]
async fn each_failure_at_each_step_leaves_what_it_should() {
    for failure in Failure::ALL {
        for step in 0..9u8 {
            let power = Power::failing_at(step.into(), failure);
            let store = FailingStore::new(&MemoryStore::new(), power.clone());
            for number in 0..9 {
                let failed = commit(&store, number).await.is_err();
                let expected = number == step || (number > step && failure != Failure::Error);
                assert_eq!(failed, expected, "{failure:?} at {step}, commit {number}");
            }
            let left: Vec<u8> = match failure {
                Failure::Error => (0..9).filter(|number| *number != step).collect(),
                Failure::Full => (0..step).collect(),
                Failure::Kill { applied } => (0..step + u8::from(applied)).collect(),
                // Whole groups of three: those whose last commit was flushed.
                Failure::PowerCut { applied } => (0..(step + u8::from(applied)) / 3 * 3).collect(),
            };
            assert_eq!(held(&store.what_is_left()).await, left, "{failure:?} at {step}");
            assert_eq!(power.is_off(), failure.is_end());
            assert_eq!(store.get(&[1, 0]).await.is_err(), power.is_off(), "without power nothing answers");
            power.mend();
            assert_eq!(commit(&store, 0).await.is_ok(), !failure.is_end(), "a full disk takes writes again");
        }
    }
}

#[tokio::test]
async fn one_power_counts_and_ends_all_stores_of_a_node() {
    let key = BlobKey { space: BlobSpace::Envelope, chain: ChainId(BlockId::from_digest([1; 32])), digest: [2; 32] };
    for applied in [false, true] {
        let power = Power::failing_at(3, Failure::Kill { applied });
        let store = FailingStore::new(&MemoryStore::new(), power.clone());
        let blobs = FailingBlobs::new(&MemoryBlobs::new(), power.clone());
        commit(&store, 0).await.unwrap();
        blobs.begin(key, 2, 1).await.unwrap();
        blobs.write(key, 0, Bytes::from_static(b"a")).await.unwrap();
        let failed = blobs.write(key, 1, Bytes::from_static(b"b")).await;
        assert!(matches!(failed, Err(BlobStoreError::Io { .. })));
        assert_eq!(power.steps(), 4);
        assert!(
            commit(&store, 1).await.is_err() && blobs.status(key).await.is_err() && blobs.delete(key).await.is_err()
        );
        let left = blobs.what_is_left().status(key).await.unwrap();
        let partial = BlobStatus::Partial { len: 2, chunk: 1, have: vec![true, false] };
        assert_eq!(left, if applied { BlobStatus::Complete { len: 2 } } else { partial });
    }
}
