//! A disk that is full, and has room again: the store goes on by itself. Needs the right to mount a small file system;
//! skipped where a test may not.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tempfile::TempDir;
use walytis_core::store::{Batch, Direction, Durability, KeyRange, KvStore, RocksStore, StoreError};

/// Commits until the disk must be full. More than it holds.
const COMMITS_MAX: u32 = 20_000;
/// How long a store may take to notice that there is room again.
const PATIENCE: Duration = Duration::from_secs(30);

/// A small file system of its own.
pub(crate) struct SmallDisk(TempDir);

impl SmallDisk {
    pub(crate) fn new(megabytes: u32) -> Option<Self> {
        let dir = TempDir::new().unwrap();
        let options = format!("size={megabytes}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "walytis-test"]).arg(dir.path());
        let mounted = mount.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        if !mounted {
            eprintln!("skipped: a small file system cannot be mounted here (needs the right to mount tmpfs)");
        }
        mounted.then(|| Self(dir))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Fills it but for `room` bytes.
    pub(crate) fn fill_but(&self, room: u64) {
        let mut file = fs::File::create(self.ballast()).unwrap();
        // Bounded by the size of the disk.
        while file.write_all(&[7; 4096]).is_ok() {}
        let end = file.stream_position().unwrap();
        file.set_len(end.checked_sub(room).unwrap()).unwrap();
    }

    pub(crate) fn make_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> std::path::PathBuf {
        self.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// A store on a disk, with everything that it acknowledged and everything that it refused.
struct Writer {
    store: RocksStore,
    acknowledged: BTreeMap<Vec<u8>, Vec<u8>>,
    refused: Vec<Vec<u8>>,
    next: u32,
}

impl Writer {
    /// One commit of `size` bytes that cannot be stored smaller.
    async fn put(&mut self, size: usize, durability: Durability) -> Result<(), StoreError> {
        let key = format!("k{:08}", self.next).into_bytes();
        let mut state = u64::from(self.next).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut word = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        let value: Vec<u8> = (0..size.div_ceil(8)).flat_map(|_| word()).collect();
        self.next += 1;
        let mut batch = Batch::new();
        batch.put(key.clone(), value.clone());
        let done = self.store.commit(batch, durability).await;
        match &done {
            Ok(()) => drop(self.acknowledged.insert(key, value)),
            Err(_) => self.refused.push(key),
        }
        done
    }

    async fn put_until_full(&mut self, size: usize, durability: Durability) {
        for _ in 0..COMMITS_MAX {
            if let Err(error) = self.put(size, durability).await {
                assert!(matches!(error, StoreError::Full { .. }), "{error}");
                return;
            }
        }
        panic!("the disk is never full");
    }

    /// The store holds what it acknowledged and nothing else.
    async fn check(&self) {
        let all = self.store.scan(KeyRange::prefix(b"k"), Direction::Forward, usize::MAX).await.unwrap();
        let wanted: Vec<(Bytes, Bytes)> =
            self.acknowledged.iter().map(|(key, value)| (key.clone().into(), value.clone().into())).collect();
        assert_eq!(all.len(), wanted.len(), "as many values as were acknowledged");
        assert!(all == wanted, "the values that were acknowledged");
        for key in &self.refused {
            assert_eq!(self.store.get(key).await.unwrap(), None, "what was refused is not there");
        }
    }

    /// Commits until it works again.
    async fn put_again(&mut self) -> Duration {
        let begun = Instant::now();
        while let Err(error) = self.put(100, Durability::Flushed).await {
            assert!(begun.elapsed() < PATIENCE, "still refused: {error}");
            // The store waits between attempts by the real clock.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        begun.elapsed()
    }
}

/// Writes of several sizes meet the end of the disk at other places: in the log, in a table, in the manifest.
async fn fill_and_free(sizes: &[usize], room: u64, durability: Durability) {
    let Some(disk) = SmallDisk::new(64) else { return };
    let folder = disk.path().join("store");
    let store = RocksStore::open(&folder).await.unwrap();
    let mut writer = Writer { store, acknowledged: BTreeMap::new(), refused: Vec::new(), next: 0 };
    for round in 0..3 {
        disk.fill_but(room);
        for size in sizes {
            writer.put_until_full(*size, durability).await;
        }
        writer.check().await;
        // Still full: it goes on refusing, clearly.
        let again = writer.put(*sizes.last().unwrap(), durability).await;
        assert!(matches!(again, Err(StoreError::Full { .. })), "{again:?}");
        disk.make_room();
        let took = writer.put_again().await;
        eprintln!("room {room}, round {round}: {} acknowledged, goes on after {took:?}", writer.acknowledged.len());
        writer.check().await;
    }
    writer.store.close().await.unwrap();
    let store = RocksStore::open(&folder).await.unwrap();
    writer.store = store;
    writer.check().await;
    writer.store.close().await.unwrap();
}

#[tokio::test]
async fn a_store_goes_on_by_itself_when_a_full_disk_has_room_again() {
    fill_and_free(&[60_000, 3_000, 100], 3 << 20, Durability::Flushed).await;
}

/// With this much room the buffer is written out before the disk is full, so that it is a table that fails.
#[tokio::test]
async fn a_table_that_could_not_be_written_is_written_when_there_is_room_again() {
    fill_and_free(&[500_000, 20_000, 1_000], 11 << 20, Durability::Buffered).await;
}

/// A store that nobody writes to is mended in its pauses, and reading goes on all the while.
#[tokio::test]
async fn a_store_that_is_only_read_is_mended_too() {
    let Some(disk) = SmallDisk::new(48) else { return };
    let folder = disk.path().join("store");
    let store = RocksStore::open(&folder).await.unwrap();
    let mut writer = Writer { store, acknowledged: BTreeMap::new(), refused: Vec::new(), next: 0 };
    disk.fill_but(2 << 20);
    writer.put_until_full(50_000, Durability::Flushed).await;
    disk.make_room();
    writer.check().await;
    // The first write after a pause is not the one that has to mend it.
    let begun = Instant::now();
    let log = |folder: &Path| {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".log")).max().unwrap()
    };
    let before = log(&folder);
    while log(&folder) == before {
        assert!(begun.elapsed() < PATIENCE, "the store is not opened again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    writer.put(100, Durability::Flushed).await.unwrap();
    writer.check().await;
    writer.store.close().await.unwrap();
}
