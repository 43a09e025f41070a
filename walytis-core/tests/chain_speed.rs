//! Figures for orientation, on disk; run with `--release -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a figure is printed, a failure panics")]

mod chain_parts;

use std::sync::Arc;
use std::time::Instant;

use chain_parts::{Bench, key};
use walytis_core::block::UnverifiedBlock;
use walytis_core::chain::{Chain, ChainCore};
use walytis_core::ledger::{Ledger as _, NewBlock};
use walytis_core::store::{FileBlobs, RocksStore};

const BLOCKS: u32 = 20_000;

async fn open(bench: &Bench, folder: &std::path::Path) -> Chain {
    let store = Arc::new(RocksStore::open(folder.join("db")).await.unwrap());
    let blobs = Arc::new(FileBlobs::open(folder.join("blobs")).await.unwrap());
    let core = ChainCore::create(bench.parts(store, blobs), &bench.genesis).await.unwrap();
    Chain::detached(core, Arc::new(key(1)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, asserts nothing"]
async fn blocks_per_second() {
    let bench = Bench::new();
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, two) = (open(&bench, a.path()).await, open(&bench, b.path()).await);
    let new = |n: u32| NewBlock { content: vec![u8::try_from(n % 256).unwrap(); 256].into(), topics: vec![] };
    let start = Instant::now();
    one.add_many((0..BLOCKS).map(new).collect()).await.unwrap();
    println!("add_many: {:.0} blocks/s", f64::from(BLOCKS) / start.elapsed().as_secs_f64());
    let ids = one.core().canonical_page(1, None, BLOCKS as usize).await.unwrap();
    let files = one.core().files(&ids).await.unwrap();
    let start = Instant::now();
    for part in files.chunks(1_000) {
        let blocks = part.iter().flatten().map(|file| UnverifiedBlock::decode(file.clone()).unwrap());
        two.core().offer(blocks.collect(), None).await.unwrap();
    }
    println!("offer: {:.0} blocks/s", f64::from(BLOCKS) / start.elapsed().as_secs_f64());
    let start = Instant::now();
    for n in 0..500 {
        one.add(new(n)).await.unwrap();
    }
    println!("add: {:.0} blocks/s", 500.0 / start.elapsed().as_secs_f64());
}
