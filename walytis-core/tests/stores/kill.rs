//! SIGKILL in the middle of committing: everything acknowledged is there afterwards.
//!
//! The test starts its own program again as a child that runs [`child`] alone: four tasks commit one key after the other
//! and print each key once it is acknowledged. The parent kills the child after some hundred lines, opens the store and
//! looks for every printed key.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use tempfile::TempDir;
use walytis_core::store::{Batch, Direction, Durability, KeyRange, KvStore, RocksStore, StoreError};

/// Names the store's folder for the child.
const DIRECTORY: &str = "WALYTIS_KILL_TEST_DIRECTORY";
/// Names the round, which the keys start with.
const ROUND: &str = "WALYTIS_KILL_TEST_ROUND";
/// Commits of one task of the child, should nobody kill it.
const COMMITS_MAX: u32 = 50_000;
/// Acknowledgements after which the child is killed, one per round.
const KILLED_AFTER: [usize; 3] = [1, 300, 900];

#[test]
fn acknowledged_commits_survive_sigkill() {
    let directory = TempDir::new().unwrap();
    let mut acknowledged = BTreeSet::new();
    for (round, count) in KILLED_AFTER.into_iter().enumerate() {
        let killed = run_and_kill(directory.path(), round, count);
        assert!(killed.len() >= count);
        acknowledged.extend(killed);
        assert_all_stored(directory.path(), &acknowledged);
    }
}

/// Returns the keys that the child printed.
fn run_and_kill(directory: &Path, round: usize, count: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut keys = Vec::new();
    // What still stands in the pipe after the kill was acknowledged as well.
    for line in lines.map_while(Result::ok) {
        let Some(key) = line.split_once("acknowledged ").map(|(_, key)| key) else { continue };
        if !key.ends_with('.') {
            break;
        }
        keys.push(key.to_owned());
        if keys.len() == count {
            assert_in_use(directory);
            child.kill().unwrap();
        }
    }
    let status = child.wait().unwrap();
    assert!(!status.success(), "the child was killed, it did not finish");
    keys
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Another process holds the store.
fn assert_in_use(directory: &Path) {
    let error = runtime().block_on(RocksStore::open(directory)).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
}

fn assert_all_stored(directory: &Path, acknowledged: &BTreeSet<String>) {
    runtime().block_on(async {
        let store = RocksStore::open(directory).await.unwrap();
        let entries = store.scan(KeyRange::prefix(b"r"), Direction::Forward, usize::MAX).await.unwrap();
        let stored: BTreeSet<String> =
            entries.iter().map(|(key, _)| String::from_utf8(key.to_vec()).unwrap()).collect();
        let lost: Vec<_> = acknowledged.difference(&stored).collect();
        assert!(lost.is_empty(), "of {} acknowledged {} are lost: {lost:?}", acknowledged.len(), lost.len());
        // Every commit has two keys; none stands alone.
        let halves = stored.iter().filter(|key| !stored.contains(&twin(key))).count();
        assert_eq!(halves, 0, "no batch is there in part");
        store.close().await.unwrap();
    });
}

/// The other key of the same batch.
fn twin(key: &str) -> String {
    match key.strip_suffix('.') {
        Some(stem) => format!("{stem}+"),
        None => format!("{}.", key.trim_end_matches('+')),
    }
}

#[test]
#[ignore = "the child of acknowledged_commits_survive_sigkill"]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let round = std::env::var(ROUND).unwrap();
    runtime().block_on(async {
        let store = Arc::new(RocksStore::open(directory).await.unwrap());
        let tasks =
            ["a", "b", "c", "d"].map(|task| tokio::spawn(commit_all(Arc::clone(&store), format!("r{round}{task}"))));
        for task in tasks {
            task.await.unwrap();
        }
    });
}

async fn commit_all(store: Arc<RocksStore>, name: String) {
    for number in 0..COMMITS_MAX {
        let key = format!("{name}{number:06}.");
        let mut batch = Batch::new();
        batch.put(key.clone().into_bytes(), vec![7; 200]).put(twin(&key).into_bytes(), vec![7; 200]);
        // A kill takes neither: buffered writes are with the operating system already.
        let durability = if number % 4 == 3 { Durability::Buffered } else { Durability::Flushed };
        store.commit(batch, durability).await.unwrap();
        // One write of a short line to a pipe is never torn.
        std::io::stdout().write_all(format!("acknowledged {key}\n").as_bytes()).unwrap();
    }
}
