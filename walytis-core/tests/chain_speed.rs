//! Figures on disk, each beside what the machine allows, measured in the same run; run with
//! `--release -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a figure is printed, a failure panics")]

mod chain_parts;

use std::sync::Arc;
use std::time::Instant;

use chain_parts::{Bench, key};
use ed25519_zebra::{Signature, VerificationKeyBytes, batch};
use rand_core::SeedableRng as _;
use walytis_core::block::UnverifiedBlock;
use walytis_core::chain::{Chain, ChainCore};
use walytis_core::id::Digest;
use walytis_core::key::Signer as _;
use walytis_core::ledger::{Ledger as _, NewBlock};
use walytis_core::store::{Batch, Durability, FileBlobs, KvStore as _, RocksStore};

const BLOCKS: u32 = 20_000;
const DURABLE: u32 = 500;
/// Bytes of the file of a block with 256 bytes of content, about.
const FILE_BYTES: usize = 530;
/// Keys of the indices of a block without topics.
const INDEX_KEYS: u8 = 5;

async fn open(bench: &Bench, folder: &std::path::Path) -> Chain {
    let store = Arc::new(RocksStore::open(folder.join("db")).await.unwrap());
    let blobs = Arc::new(FileBlobs::open(folder.join("blobs")).await.unwrap());
    let core = ChainCore::create(bench.parts(store, blobs), &bench.genesis).await.unwrap();
    Chain::detached(core, Arc::new(key(1)))
}

fn per_second(count: u32, start: Instant) -> f64 {
    f64::from(count) / start.elapsed().as_secs_f64()
}

/// What of two steps in a row remains per second.
fn both(a: f64, b: f64) -> f64 {
    1.0 / (1.0 / a + 1.0 / b)
}

fn show(work: &str, got: f64, bound: f64) {
    println!("{work}: {got:.0}/s, bound {bound:.0}/s, ratio {:.2}", got / bound);
}

/// A file and its index entries, as raw keys and values.
fn raw(batch: &mut Batch, n: u32) {
    // Index keys end with digests, which are spread.
    let digest = Digest::of(&n.to_be_bytes()).0;
    batch.put([&[0][..], &digest].concat(), vec![1; FILE_BYTES]);
    for tag in 1..=INDEX_KEYS {
        batch.put([&[tag][..], &[7; 40], &digest].concat(), vec![1; 8]);
    }
}

/// Flushed commits of one block each, and blocks of one large commit, per second.
async fn store_bounds() -> (f64, f64) {
    let folder = tempfile::tempdir().unwrap();
    let store = RocksStore::open(folder.path().join("db")).await.unwrap();
    let mut batch = Batch::new();
    (0..BLOCKS).for_each(|n| raw(&mut batch, n));
    let start = Instant::now();
    store.commit(batch, Durability::Flushed).await.unwrap();
    let large = per_second(BLOCKS, start);
    // Behind it, so that the log has its size already, as it has for the chain.
    let start = Instant::now();
    for n in 0..DURABLE {
        let mut batch = Batch::new();
        raw(&mut batch, BLOCKS + n);
        store.commit(batch, Durability::Flushed).await.unwrap();
    }
    (per_second(DURABLE, start), large)
}

/// Signing with hashing, and verifying in batches on one core, per second.
fn crypto_bounds() -> (f64, f64) {
    let (key, message) = (key(1), [5; 200]);
    let start = Instant::now();
    let signatures: Vec<_> = (0..BLOCKS)
        .map(|_| {
            std::hint::black_box(Digest::of(&[1; FILE_BYTES]));
            key.sign(&message).unwrap()
        })
        .collect();
    let signing = per_second(BLOCKS, start);
    let start = Instant::now();
    for part in signatures.chunks(256) {
        let mut verifier = batch::Verifier::new();
        for signature in part {
            let creator = VerificationKeyBytes::from(*key.public_key().as_bytes());
            verifier.queue((creator, Signature::from(signature.0), &message));
        }
        verifier.verify(rand_chacha::ChaCha20Rng::seed_from_u64(1)).unwrap();
    }
    (signing, per_second(BLOCKS, start))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, asserts nothing"]
async fn blocks_per_second() {
    let bench = Bench::new();
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, two) = (open(&bench, a.path()).await, open(&bench, b.path()).await);
    let (flushed, put) = store_bounds().await;
    let (signing, verifying) = crypto_bounds();
    let cores = std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap());
    let new = |n: u32| NewBlock { content: vec![u8::try_from(n % 256).unwrap(); 256].into(), topics: vec![] };
    let start = Instant::now();
    one.add_many((0..BLOCKS).map(new).collect()).await.unwrap();
    // Each block names the one before, so a series is signed by one core.
    show("add_many", per_second(BLOCKS, start), both(signing, put));
    let ids = one.core().canonical_page(1, None, BLOCKS as usize).await.unwrap();
    let files = one.core().files(&ids).await.unwrap();
    let start = Instant::now();
    for part in files.chunks(1_000) {
        let blocks = part.iter().flatten().map(|file| UnverifiedBlock::decode(file.clone()).unwrap());
        two.core().offer(blocks.collect(), None).await.unwrap();
    }
    show("offer", per_second(BLOCKS, start), both(verifying * f64::from(cores), put));
    let start = Instant::now();
    for n in 0..DURABLE {
        one.add(new(n)).await.unwrap();
    }
    show("add", per_second(DURABLE, start), flushed);
}
