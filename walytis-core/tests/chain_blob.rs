//! Large content: kept once, fetched when it is not here, swept away when nobody names it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

mod chain_parts;

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chain_parts::{Bench, TestChain, check, content, file_of};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::{mpsc, watch};
use walytis_core::chain::{BlobFetcher, ChainCore, FetchMode, FetchState, FetchTicket, WantedBlob};
use walytis_core::id::{BlockId, ChainId};
use walytis_core::ledger::{BlockState, Ledger as _, LedgerControl as _, LedgerError, LedgerRead as _, NewBlock};
use walytis_core::limits::BLOB_LEAF;
use walytis_core::store::{BlobSpace, BlobStatus, BlobStore as _};

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

/// Brings one leaf each time the test says so: the next one that is needed.
#[derive(Debug)]
struct Courier {
    to: ChainCore,
    bytes: Bytes,
    go: Arc<tokio::sync::Mutex<mpsc::Receiver<()>>>,
}

#[async_trait]
impl BlobFetcher for Courier {
    async fn fetch(
        &self,
        _chain: ChainId,
        wanted: WantedBlob,
        need: watch::Receiver<Range<u64>>,
    ) -> Result<FetchTicket, &'static str> {
        let (state, view) = watch::channel(FetchState::Running);
        let (to, bytes, go) = (self.to.clone(), self.bytes.clone(), Arc::clone(&self.go));
        tokio::spawn(async move {
            let (key, blobs) = (to.blob_key(&wanted.blob), to.blobs());
            let mut status = blobs.begin(key, wanted.len, u32::try_from(BLOB_LEAF).unwrap()).await.unwrap();
            while let BlobStatus::Partial { have, .. } = &status {
                if go.lock().await.recv().await.is_none() {
                    state.send_replace(FetchState::Failed("the courier left"));
                    return;
                }
                let from = usize::try_from(need.borrow().start).unwrap() / BLOB_LEAF;
                let next = (from..have.len()).chain(0..from).find(|index| !have[*index]).unwrap();
                let leaf = Bytes::copy_from_slice(bytes.chunks(BLOB_LEAF).nth(next).unwrap());
                status = blobs.write(key, u32::try_from(next).unwrap(), leaf).await.unwrap();
                to.blob_progressed();
            }
            to.blob_arrived(&wanted.block).await.unwrap();
            state.send_replace(FetchState::Complete);
        });
        Ok(FetchTicket { state: view, nudge: Arc::default() })
    }
}

fn courier(to: &TestChain, bytes: &Bytes) -> mpsc::Sender<()> {
    let (go, receiver) = mpsc::channel(8);
    let (to_core, bytes) = (to.core.clone(), bytes.clone());
    to.core.set_fetcher(Some(Arc::new(Courier { to: to_core, bytes, go: Arc::new(receiver.into()) })));
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

#[tokio::test]
async fn what_is_read_next_is_fetched_next() {
    let bytes = large(4 * BLOB_LEAF + 5);
    let (_, b, wanted) = replicas(&bytes).await;
    let go = courier(&b, &bytes);
    let mut reader = b.chain.open(&wanted.block, 0..u64::MAX).await.unwrap();
    assert_eq!(reader.len(), bytes.len() as u64);
    let end = 4 * BLOB_LEAF as u64;
    assert_eq!(reader.seek(std::io::SeekFrom::End(-5)).await.unwrap(), end);
    // One leaf is brought: the one that is read.
    let mut last = Vec::new();
    let (read, sent) = tokio::join!(reader.read_to_end(&mut last), async {
        tokio::task::yield_now().await;
        go.send(()).await
    });
    read.unwrap();
    sent.unwrap();
    assert!(last == bytes[4 * BLOB_LEAF..]);
    let state = b.chain.get(&wanted.block).await.unwrap().unwrap().state;
    assert!(matches!(state, BlockState::Partial { .. }), "{state:?}");
    // What is here is read without anybody's help.
    b.core.set_fetcher(None);
    let mut again = b.chain.open(&wanted.block, end + 2..u64::MAX).await.unwrap();
    let mut two = Vec::new();
    again.read_to_end(&mut two).await.unwrap();
    assert!(two == bytes[4 * BLOB_LEAF + 2..]);
    let Err(error) = b.chain.open(&wanted.block, end - 1..end + 1).await else { panic!("content from nowhere") };
    assert!(matches!(error, LedgerError::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn ranges_give_what_there_is_of_them() {
    let chain = Bench::new().chain(1).await;
    for bytes in [Bytes::from_static(b"inline"), large(BLOB_LEAF + 7)] {
        let id = add(&chain, &bytes).await;
        let len = bytes.len() as u64;
        for range in [0..3, 2..5, len - 1..len, len - 2..len + 9, len..len + 1, len + 5..u64::MAX, 4..4, 0..u64::MAX] {
            let part = |at: u64| usize::try_from(at.min(len)).unwrap();
            let wanted = &bytes[part(range.start)..part(range.end)];
            let mut read = Vec::new();
            let mut reader = chain.chain.content_range(&id, range.clone()).await.unwrap();
            reader.read_to_end(&mut read).await.unwrap();
            assert!(read == wanted, "{range:?} of {len}");
        }
        let mut reader = chain.chain.open(&id, 1..5).await.unwrap();
        let mut two = [0; 2];
        for at in [2, 0, 2] {
            reader.seek(std::io::SeekFrom::Start(at)).await.unwrap();
            reader.read_exact(&mut two).await.unwrap();
            assert_eq!(two, bytes[usize::try_from(at).unwrap() + 1..][..2]);
        }
        assert_eq!(reader.seek(std::io::SeekFrom::End(9)).await.unwrap(), 13);
        assert_eq!(reader.read(&mut two).await.unwrap(), 0);
        reader.seek(std::io::SeekFrom::Current(-14)).await.unwrap_err();
    }
}

#[tokio::test]
async fn progress_moves_with_every_leaf_and_ends_with_the_last() {
    let bytes = large(2 * BLOB_LEAF + 5);
    let (_, b, wanted) = replicas(&bytes).await;
    let go = courier(&b, &bytes);
    let mut progress = b.chain.progress(&wanted.block).await.unwrap();
    assert_eq!(progress.next().await.unwrap().unwrap().state, BlockState::Wanted);
    let _reader = b.chain.open(&wanted.block, 0..u64::MAX).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        go.send(()).await.unwrap();
        loop {
            let entry = progress.next().await.unwrap().unwrap();
            if entry.bytes_done() > 0 {
                seen.push(entry.bytes_done());
                break;
            }
        }
    }
    assert_eq!(seen, [BLOB_LEAF as u64, 2 * BLOB_LEAF as u64, bytes.len() as u64]);
    assert!(progress.next().await.unwrap().is_none());
}

#[tokio::test]
async fn the_way_of_fetching_and_the_list_of_blobs_survive_a_restart() {
    use futures::TryStreamExt as _;
    let (_, b, wanted) = replicas(&large(100_000)).await;
    assert_eq!(b.core.fetch_mode(), FetchMode::All);
    b.core.set_fetch_mode(FetchMode::OnDemand).await.unwrap();
    b.core.shutdown().await;
    let again = Bench::new().reopen(2, &b).await;
    assert_eq!(again.core.fetch_mode(), FetchMode::OnDemand);
    let listed: Vec<_> = again.chain.blobs().try_collect().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].block, listed[0].blob, listed[0].len), (wanted.block, wanted.blob, wanted.len));
    assert_eq!((listed[0].state, listed[0].bytes_done()), (BlockState::Wanted, 0));
}
