//! What the machine allows, measured in the same run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use walytis_core::block::{BlockDraft, DraftContent, UnverifiedBlock};
use walytis_core::clock::{Entropy as _, SeededEntropy};
use walytis_core::id::ChainId;
use walytis_core::key::{Signer as _, SigningKey};
use walytis_core::secret::Secret;
use walytis_core::store::{Batch, Durability, KvStore as _, RocksStore, keys::Space};

/// Flushed commits of one small record each, per second.
pub(crate) async fn flushed_commits_per_s(commits: u32) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let store = RocksStore::open(dir.path().join("db")).await.unwrap();
    let start = Instant::now();
    for n in 0..commits {
        let mut batch = Batch::new();
        batch.put(Space::Program.key(&[&n.to_be_bytes()]), vec![7; 400]);
        store.commit(batch, Durability::Flushed).await.unwrap();
    }
    let rate = f64::from(commits) / start.elapsed().as_secs_f64();
    store.close().await.unwrap();
    rate
}

/// Blocks signed and hashed on so many cores and put in one batch, per second.
pub(crate) async fn sign_and_put_per_s(blocks: u32, cores: usize) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(RocksStore::open(dir.path().join("db")).await.unwrap());
    let start = Instant::now();
    let share = blocks / u32::try_from(cores).unwrap();
    let workers: Vec<_> = (0..cores)
        .map(|worker| {
            tokio::task::spawn_blocking(move || {
                let key = SigningKey::from_seed(&Secret::new([u8::try_from(worker).unwrap(); 32]));
                (0..share).map(|n| sign_one(&key, n)).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut batch = Batch::new();
    for worker in workers {
        for file in worker.await.unwrap() {
            batch.put(Space::Program.key(&[walytis_core::id::BlockId::of_file(&file).digest()]), file);
        }
    }
    store.commit(batch, Durability::Flushed).await.unwrap();
    let rate = f64::from(blocks) / start.elapsed().as_secs_f64();
    store.close().await.unwrap();
    rate
}

fn sign_one(key: &SigningKey, n: u32) -> Bytes {
    let genesis = walytis_core::id::BlockId::from_digest([1; 32]);
    let draft = BlockDraft {
        chain: Some(ChainId(genesis)),
        parents: vec![genesis],
        generation: 1,
        created_at_ms: i64::from(n),
        topics: vec![],
        content: DraftContent::Inline(vec![7; 256].into()),
    };
    draft.sign(key).unwrap().file().clone()
}

/// Blocks decoded and verified on all cores, per second, one signature at a time.
pub(crate) async fn verify_per_s(blocks: u32) -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let key = SigningKey::from_seed(&Secret::new([3; 32]));
    assert!(key.sign(b"warm").is_ok());
    let share = blocks / u32::try_from(cores).unwrap();
    let files: Vec<Bytes> = (0..share).map(|n| sign_one(&key, n)).collect();
    let start = Instant::now();
    let chain = ChainId(walytis_core::id::BlockId::from_digest([1; 32]));
    let workers: Vec<_> = (0..cores)
        .map(|_| {
            let files = files.clone();
            tokio::task::spawn_blocking(move || {
                for file in files {
                    UnverifiedBlock::decode(file).unwrap().verify(&chain).unwrap();
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    f64::from(blocks) / start.elapsed().as_secs_f64()
}

/// Blocks decoded and verified in batches of 256 on all cores.
pub(crate) async fn verify_together_per_s(blocks: u32) -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let key = SigningKey::from_seed(&Secret::new([3; 32]));
    let share = blocks / u32::try_from(cores).unwrap();
    let files: Vec<Bytes> = (0..share).map(|n| sign_one(&key, n)).collect();
    let start = Instant::now();
    let chain = ChainId(walytis_core::id::BlockId::from_digest([1; 32]));
    let workers: Vec<_> = (0..cores)
        .map(|_| {
            let files = files.clone();
            tokio::task::spawn_blocking(move || {
                for part in files.chunks(256) {
                    let blocks = part.iter().map(|file| UnverifiedBlock::decode(file.clone()).unwrap()).collect();
                    let rng = SeededEntropy::new(1).rng();
                    assert!(UnverifiedBlock::verify_all(blocks, &chain, rng).iter().all(Result::is_ok));
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    f64::from(blocks) / start.elapsed().as_secs_f64()
}

/// Median round trip of a small message over TCP on loopback.
pub(crate) async fn loopback_round_trip() -> Duration {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let echo = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut buffer = [0; 64];
        while stream.read_exact(&mut buffer).await.is_ok() {
            stream.write_all(&buffer).await.unwrap();
        }
    });
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut times = Vec::new();
    let mut buffer = [0; 64];
    for _ in 0..1_000 {
        let start = Instant::now();
        stream.write_all(&buffer).await.unwrap();
        stream.read_exact(&mut buffer).await.unwrap();
        times.push(start.elapsed());
    }
    drop(stream);
    echo.await.unwrap();
    percentile(&mut times, 50)
}

/// Returns the percentile of some times.
pub(crate) fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() * percent / 100).min(times.len() - 1)]
}
