//! What only a store on disk can suffer: being opened twice, newer schemas, damaged files.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tempfile::TempDir;
use walytis_core::store::{Batch, Direction, Durability, KeyRange, KvStore, RocksStore, StoreError};

pub(crate) async fn put(store: &RocksStore, key: &[u8], value: &[u8], durability: Durability) {
    let mut batch = Batch::new();
    batch.put(key.to_vec(), value.to_vec());
    store.commit(batch, durability).await.unwrap();
}

/// Twenty values of incompressible bytes, under keys `k0`…
pub(crate) async fn fill(store: &RocksStore) {
    for number in 0..20u32 {
        let noise: Vec<u8> =
            (0..5000u32).map(|at| (at ^ (number << 16)).wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        put(store, format!("k{number}").as_bytes(), &noise, Durability::Flushed).await;
    }
}

/// A folder with a filled and closed store.
pub(crate) async fn closed_store() -> TempDir {
    let directory = TempDir::new().unwrap();
    let store = RocksStore::open(directory.path()).await.unwrap();
    fill(&store).await;
    store.close().await.unwrap();
    directory
}

pub(crate) fn files(directory: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = names.filter(|path| wanted(path.file_name().unwrap().to_str().unwrap())).collect();
    files.sort();
    assert!(!files.is_empty(), "the folder holds such a file");
    files
}

fn truncate_to_half(path: &Path) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
}

fn flip_byte(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x55;
    fs::write(path, bytes).unwrap();
}

/// The folder as a kill leaves it: nothing closed, nothing tidied.
pub(crate) fn copy_of_running(directory: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    for path in files(directory, |name| name != "LOCK") {
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

pub(crate) async fn assert_damaged(directory: &Path, what: &str) {
    match RocksStore::open(directory).await {
        Err(StoreError::Damaged { directory: named, .. }) => assert_eq!(Path::new(&named), directory, "{what}"),
        other => panic!("{what}: {other:?}"),
    }
}

#[tokio::test]
async fn a_second_opening_is_refused_naming_the_directory() {
    let directory = TempDir::new().unwrap();
    let store = RocksStore::open(directory.path()).await.unwrap();
    let error = RocksStore::open(directory.path()).await.unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    assert!(error.to_string().contains(directory.path().to_str().unwrap()));
    put(&store, b"k", b"1", Durability::Flushed).await;
    store.close().await.unwrap();
    RocksStore::open(directory.path()).await.unwrap();
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_the_folder_stays_free() {
    let directory = TempDir::new().unwrap();
    let store = RocksStore::open(directory.path()).await.unwrap();
    put(&store, &[0], &[0, 0, 0, 9], Durability::Flushed).await;
    store.close().await.unwrap();
    for _ in 0..2 {
        let error = RocksStore::open(directory.path()).await.unwrap_err();
        assert!(matches!(error, StoreError::NewerSchema { found: 9, .. }), "{error}");
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_an_io_error() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, b"not a folder").unwrap();
    for path in [file.clone(), file.join("store")] {
        assert!(matches!(RocksStore::open(&path).await, Err(StoreError::Io { .. })), "{path:?}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"not a folder");
}

#[tokio::test]
async fn missing_and_truncated_files_are_found_when_opening() {
    type Damage = fn(&Path);
    let remove: Damage = |path| fs::remove_file(path).unwrap();
    let empty: Damage = |path| fs::write(path, b"").unwrap();
    let cases: [(&str, Damage); 8] = [
        ("CURRENT", remove),
        ("CURRENT", empty),
        ("MANIFEST", remove),
        ("MANIFEST", empty),
        ("MANIFEST", |path| flip_byte(path, 30)),
        (".sst", remove),
        (".sst", empty),
        (".sst", truncate_to_half),
    ];
    for (number, (name, damage)) in cases.into_iter().enumerate() {
        let directory = closed_store().await;
        damage(&files(directory.path(), |file| file.contains(name))[0]);
        let what = format!("case {number}: {name}");
        assert_damaged(directory.path(), &what).await;
        assert_damaged(directory.path(), &format!("{what}, again: opening changed nothing")).await;
    }
}

#[tokio::test]
async fn flipped_bytes_in_a_table_never_reach_a_reader() {
    let directory = closed_store().await;
    let table = files(directory.path(), |name| name.ends_with(".sst")).pop().unwrap();
    flip_byte(&table, 20_000);
    let store = RocksStore::open(directory.path()).await.unwrap();
    let everything = KeyRange { start: vec![1], end: None };
    let error = store.scan(everything, Direction::Forward, 99).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    let mut damaged = 0;
    for number in 0..20 {
        match store.get(format!("k{number}").as_bytes()).await {
            Ok(value) => assert_eq!(value.unwrap().len(), 5000),
            Err(StoreError::Damaged { .. }) => damaged += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!((1..5).contains(&damaged), "only what stands in the damaged block is lost: {damaged}");
}

#[tokio::test]
async fn a_log_that_breaks_off_in_what_was_not_flushed_loses_that_only() {
    let directory = TempDir::new().unwrap();
    let store = RocksStore::open(directory.path()).await.unwrap();
    fill(&store).await;
    put(&store, b"k20", &[7; 5000], Durability::Buffered).await;
    let copy = copy_of_running(directory.path());
    let log = files(copy.path(), |name| name.ends_with(".log")).pop().unwrap();
    let file = fs::OpenOptions::new().write(true).open(&log).unwrap();
    file.set_len(file.metadata().unwrap().len() - 100).unwrap();

    let reopened = RocksStore::open(copy.path()).await.unwrap();
    for number in 0..20 {
        assert!(reopened.get(format!("k{number}").as_bytes()).await.unwrap().is_some(), "k{number}");
    }
    assert_eq!(reopened.get(b"k20").await.unwrap(), None);
}

#[tokio::test]
async fn a_log_damaged_before_its_end_is_not_silently_cut() {
    let directory = TempDir::new().unwrap();
    let store = RocksStore::open(directory.path()).await.unwrap();
    fill(&store).await;
    let copy = copy_of_running(directory.path());
    flip_byte(&files(copy.path(), |name| name.ends_with(".log")).pop().unwrap(), 20_000);
    assert_damaged(copy.path(), "log").await;
}

#[tokio::test]
async fn a_closed_store_needs_no_log() {
    // After a clean close everything stands in tables, so that the log holds nothing.
    let directory = closed_store().await;
    for log in files(directory.path(), |name| name.ends_with(".log")) {
        assert_eq!(fs::metadata(log).unwrap().len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_waits_for_commits_and_reads_under_way() {
    let directory = TempDir::new().unwrap();
    let store = std::sync::Arc::new(RocksStore::open(directory.path()).await.unwrap());
    let tasks: Vec<_> = (0..100u8)
        .map(|number| {
            let store = std::sync::Arc::clone(&store);
            tokio::spawn(async move {
                let mut batch = Batch::new();
                batch.put(vec![b'c', number], vec![number]);
                let committed = store.commit(batch, Durability::Flushed).await;
                drop(store.scan(KeyRange::prefix(b"c"), Direction::Forward, 99).await);
                committed.is_ok()
            })
        })
        .collect();
    tokio::task::yield_now().await;
    let (first, second) = tokio::join!(store.close(), store.close());
    first.unwrap();
    second.unwrap();
    let reopened = RocksStore::open(directory.path()).await.unwrap();
    for (number, task) in (0u8..).zip(tasks) {
        let acknowledged = task.await.unwrap();
        let stored = reopened.get(&[b'c', number]).await.unwrap().is_some();
        assert!(stored || !acknowledged, "an acknowledged commit is there");
        assert!(acknowledged || !stored, "a refused commit is not");
    }
}

/// Prints what a read costs on the calling thread and on a blocking one, and what grouping saves. To run:
/// `cargo test --release -p walytis-core --test stores -- --ignored measure --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, not a test"]
async fn measure_reads_and_commits() {
    const KEYS: u32 = 50_000;
    let directory = TempDir::new().unwrap();
    let store = RocksStore::open(directory.path()).await.unwrap();
    let key = |number: u32| [b"m", &number.wrapping_mul(2_654_435_761).to_be_bytes()[..]].concat();
    let started = Instant::now();
    for chunk in 0..KEYS / 1000 {
        let mut batch = Batch::new();
        for at in 0..1000 {
            batch.put(key(chunk * 1000 + at), vec![7; 250]);
        }
        store.commit(batch, Durability::Flushed).await.unwrap();
    }
    eprintln!("commit of 1,000: {:?} a record", started.elapsed() / KEYS);
    let started = Instant::now();
    for number in 0..1000u32 {
        put(&store, &number.to_be_bytes(), &[7; 250], Durability::Flushed).await;
    }
    eprintln!("flushed commit, one at a time: {:?}", started.elapsed() / 1000);
    let started = Instant::now();
    let commits = (0..5000u32).map(|number| {
        let mut batch = Batch::new();
        batch.put(number.to_be_bytes().to_vec(), vec![7; 250]);
        store.commit(batch, Durability::Flushed)
    });
    futures::future::join_all(commits).await.into_iter().for_each(|done| done.unwrap());
    eprintln!("flushed commit, 5,000 at once: {:?}", started.elapsed() / 5000);
    for _ in 0..2 {
        let started = Instant::now();
        for number in 0..KEYS {
            assert!(store.get(&key(number)).await.unwrap().is_some());
        }
        eprintln!("get: {:?}", started.elapsed() / KEYS);
    }
    let started = Instant::now();
    for number in 0..KEYS / 100 {
        let keys: Vec<Vec<u8>> = (0..100).map(|at| key(number * 100 + at)).collect();
        assert_eq!(store.get_many(&keys).await.unwrap().iter().flatten().count(), 100);
    }
    eprintln!("get_many of 100: {:?} a key", started.elapsed() / KEYS);
    let started = Instant::now();
    for _ in 0..5000u32 {
        store.scan(KeyRange::prefix(b"m"), Direction::Forward, 1).await.unwrap();
    }
    eprintln!("scan of 1 (on a blocking thread): {:?}", started.elapsed() / 5000);
}
