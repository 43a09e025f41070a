//! Large content: kept once, fetched when it is not here, swept away when nobody names it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

mod chain_parts;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chain_parts::{Bench, TestChain, check, content, file_of};
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use walytis_core::chain::{BlobFetcher, ChainCore, WantedBlob};
use walytis_core::id::{BlockId, ChainId};
use walytis_core::ledger::{BlockState, Ledger as _, LedgerControl as _, LedgerError, LedgerRead as _, NewBlock};
use walytis_core::limits::BLOB_LEAF;
use walytis_core::store::{BlobSpace, BlobStore as _};

fn large(len: usize) -> Bytes {
    (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect::<Vec<_>>().into()
}

async fn add(chain: &TestChain, bytes: &Bytes) -> BlockId {
    chain.chain.add(NewBlock { content: bytes.clone().into(), topics: vec![] }).await.unwrap().id
}

/// A writer with one large block, and a replica that has the block only.
async fn replicas(bytes: &Bytes) -> (TestChain, TestChain, WantedBlob) {
    let bench = Bench::new();
    let (a, b) = (bench.chain(1).await, bench.chain(2).await);
    let id = add(&a, bytes).await;
    b.core.offer(vec![file_of(&a, &id).await], None).await.unwrap();
    let wanted = b.core.wanted_blobs().await.unwrap();
    assert_eq!(wanted.len(), 1);
    (a, b, wanted[0])
}

/// Brings one leaf each time the test says so.
#[derive(Debug)]
struct Courier {
    to: ChainCore,
    bytes: Bytes,
    go: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

#[async_trait]
impl BlobFetcher for Courier {
    async fn fetch(&self, _chain: ChainId, wanted: WantedBlob) -> Result<(), &'static str> {
        let key = self.to.blob_key(&wanted.blob);
        let blobs = self.to.blobs();
        blobs.begin(key, wanted.len, u32::try_from(BLOB_LEAF).unwrap()).await.unwrap();
        for (index, leaf) in self.bytes.chunks(BLOB_LEAF).enumerate() {
            self.go.lock().await.recv().await.ok_or("the courier left")?;
            blobs.write(key, u32::try_from(index).unwrap(), Bytes::copy_from_slice(leaf)).await.unwrap();
            self.to.blob_progressed();
        }
        self.to.blob_arrived(&wanted.block).await.unwrap();
        Ok(())
    }
}

fn courier(to: &TestChain, bytes: &Bytes) -> mpsc::Sender<()> {
    let (go, receiver) = mpsc::channel(8);
    let (to_core, bytes) = (to.core.clone(), bytes.clone());
    to.core.set_fetcher(Some(Arc::new(Courier { to: to_core, bytes, go: receiver.into() })));
    go
}

#[tokio::test]
async fn content_streams_while_it_arrives() {
    let bytes = large(2 * BLOB_LEAF + 5);
    let (_, b, wanted) = replicas(&bytes).await;
    let info = b.chain.get(&wanted.block).await.unwrap().unwrap();
    assert_eq!((info.state, info.size), (BlockState::Wanted, bytes.len() as u64));
    let go = courier(&b, &bytes);
    let mut reader = b.chain.content(&wanted.block).await.unwrap();
    go.send(()).await.unwrap();
    let mut first = vec![0; BLOB_LEAF];
    reader.read_exact(&mut first).await.unwrap();
    assert!(first == bytes[..BLOB_LEAF]);
    let state = b.chain.get(&wanted.block).await.unwrap().unwrap().state;
    let (bytes_done, bytes_total) = (BLOB_LEAF as u64, bytes.len() as u64);
    assert_eq!(state, BlockState::Partial { bytes_done, bytes_total });
    go.send(()).await.unwrap();
    go.send(()).await.unwrap();
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).await.unwrap();
    assert!(rest == bytes[BLOB_LEAF..]);
    assert_eq!(b.core.wanted_blobs().await.unwrap(), []);
    assert_eq!(b.chain.status().await.unwrap().missing_contents, 0);
    check(&b).await;
}

#[tokio::test]
async fn a_fetch_that_ends_early_is_an_error_and_not_a_short_content() {
    let bytes = large(2 * BLOB_LEAF);
    let (_, b, wanted) = replicas(&bytes).await;
    let go = courier(&b, &bytes);
    let mut reader = b.chain.content(&wanted.block).await.unwrap();
    go.send(()).await.unwrap();
    drop(go);
    let mut got = Vec::new();
    let error = reader.read_to_end(&mut got).await.unwrap_err();
    assert!(error.to_string().contains("the courier left"), "{error}");
    assert_eq!(got.len(), BLOB_LEAF);
}

#[tokio::test]
async fn without_a_fetcher_absent_content_is_unavailable_with_the_reason() {
    let (_, b, wanted) = replicas(&large(100_000)).await;
    let Err(error) = b.chain.content(&wanted.block).await else { panic!("content from nowhere") };
    assert!(matches!(error, LedgerError::Unavailable { id, .. } if id == wanted.block), "{error}");
}

#[tokio::test]
async fn wanted_blobs_survive_a_restart() {
    let (_, b, wanted) = replicas(&large(100_000)).await;
    b.core.shutdown().await;
    let again = Bench::new().reopen(2, &b).await;
    assert_eq!(again.core.wanted_blobs().await.unwrap(), [wanted]);
    assert_eq!(again.core.blob_len(&wanted.blob).await.unwrap(), Some(100_000));
}

#[tokio::test]
async fn the_same_content_is_kept_once_and_outlives_a_failed_twin() {
    let bench = Bench::new();
    let chain = bench.chain(1).await;
    let bytes = large(BLOB_LEAF + 1);
    let (one, two) = tokio::join!(add(&chain, &bytes), add(&chain, &bytes));
    assert_ne!(one, two);
    let stored = chain.blobs.list(BlobSpace::Blob, chain.core.id()).await.unwrap();
    assert_eq!(stored.len(), 1);
    // A block too many topics away from being valid, with the same content.
    let twice = vec![walytis_core::topic::Topic::user("t").unwrap(); 2];
    chain.chain.add(NewBlock { content: bytes.clone().into(), topics: twice }).await.unwrap_err();
    assert!(content(&chain, &one).await == bytes);
    check(&chain).await;
}

#[tokio::test]
async fn a_blob_that_no_block_names_is_not_served() {
    let chain = Bench::new().chain(1).await;
    let id = walytis_core::id::BlobId::Raw([1; 32]);
    assert_eq!(chain.core.blob_len(&id).await.unwrap(), None);
}
