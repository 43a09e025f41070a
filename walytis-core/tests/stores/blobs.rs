//! The contract of large content, and what only files can suffer.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use tempfile::TempDir;
use test_harness::contract::blob::{BlobFixture, PersistentBlobFixture, blob_contract, blob_persistence_contract};
use walytis_core::id::{BlockId, ChainId};
use walytis_core::store::{BlobKey, BlobSpace, BlobStatus, BlobStore, FileBlobs, MemoryBlobs};

struct Memory;

#[async_trait]
impl BlobFixture for Memory {
    async fn store(&self) -> Arc<dyn BlobStore> {
        Arc::new(MemoryBlobs::new())
    }
}

/// Each store in a folder of its own, all removed at the end.
#[derive(Default)]
struct Files {
    directories: Mutex<Vec<TempDir>>,
}

#[async_trait]
impl BlobFixture for Files {
    async fn store(&self) -> Arc<dyn BlobStore> {
        self.directories.lock().unwrap().push(TempDir::new().unwrap());
        self.reopen().await
    }
}

#[async_trait]
impl PersistentBlobFixture for Files {
    async fn reopen(&self) -> Arc<dyn BlobStore> {
        let path = self.directories.lock().unwrap().last().unwrap().path().join("a/blobs");
        Arc::new(FileBlobs::open(path).await.unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_blobs_keep_the_contract() {
    blob_contract(&Memory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn file_blobs_keep_the_contract() {
    blob_contract(&Files::default()).await;
}

#[tokio::test]
async fn file_blobs_keep_what_they_have() {
    blob_persistence_contract(&Files::default()).await;
}

const KEY: BlobKey =
    BlobKey { space: BlobSpace::Blob, chain: ChainId(BlockId::from_digest([1; 32])), digest: [0xab; 32] };

/// The example's file with this ending.
fn file(folder: &Path, ending: &str) -> PathBuf {
    folder.join("blob").join("01".repeat(32)).join(format!("{}{ending}", "ab".repeat(32)))
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// A folder with the chunks 0 and 2 of the example (10 bytes in chunks of 4), as a kill leaves it.
async fn partial() -> TempDir {
    let folder = TempDir::new().unwrap();
    let store = FileBlobs::open(folder.path()).await.unwrap();
    store.begin(KEY, 10, 4).await.unwrap();
    store.write(KEY, 0, Bytes::from_static(b"0123")).await.unwrap();
    store.write(KEY, 2, Bytes::from_static(b"89")).await.unwrap();
    folder
}

/// Fetches what is missing and reads the whole.
async fn finish(store: &FileBlobs) {
    let chunks = [&b"0123"[..], b"4567", b"89"];
    let status = store.begin(KEY, 10, 4).await.unwrap();
    if let BlobStatus::Partial { have, .. } = status {
        for (index, have) in (0..).zip(have) {
            if !have {
                store.write(KEY, index, Bytes::from_static(chunks[index as usize])).await.unwrap();
            }
        }
    }
    assert_eq!(store.status(KEY).await.unwrap(), BlobStatus::Complete { len: 10 });
    assert_eq!(store.read(KEY, 0, 10).await.unwrap(), &b"0123456789"[..]);
}

#[tokio::test]
async fn a_map_torn_anywhere_only_costs_chunks() {
    let folder = partial().await;
    let whole = fs::read(file(folder.path(), ".map")).unwrap();
    for len in 0..whole.len() {
        let copy = TempDir::new().unwrap();
        copy_folder(folder.path(), copy.path());
        fs::write(file(copy.path(), ".map"), &whole[..len]).unwrap();
        let store = FileBlobs::open(copy.path()).await.unwrap();
        match store.status(KEY).await.unwrap() {
            BlobStatus::Partial { have, .. } => assert!(!have[2] && !have[1], "the last record is torn: {have:?}"),
            status => assert_eq!(status, BlobStatus::Absent),
        }
        finish(&store).await;
    }
}

/// Every state that a crash inside `begin`, the last `write` or `delete` can leave.
#[tokio::test]
async fn files_left_by_a_crash_are_no_obstacle() {
    type Crash = fn(&Path);
    let crashes: [(&str, Crash); 5] = [
        ("begin: data file short", |folder| fs::write(file(folder, ".part"), b"01").unwrap()),
        ("begin: no map", |folder| fs::remove_file(file(folder, ".map")).unwrap()),
        ("begin: map empty", |folder| fs::write(file(folder, ".map"), b"").unwrap()),
        ("data file gone", |folder| fs::remove_file(file(folder, ".part")).unwrap()),
        ("last write: renamed, map still there", |folder| {
            fs::write(file(folder, ".part"), b"0123456789").unwrap();
            fs::rename(file(folder, ".part"), file(folder, "")).unwrap();
        }),
    ];
    for (what, crash) in crashes {
        let folder = partial().await;
        crash(folder.path());
        let store = FileBlobs::open(folder.path()).await.unwrap();
        let status = store.status(KEY).await.unwrap();
        assert!(!matches!(status, BlobStatus::Partial { .. }), "{what}: {status:?}");
        finish(&store).await;
        store.delete(KEY).await.unwrap();
        for ending in ["", ".part", ".map"] {
            assert!(!file(folder.path(), ending).exists(), "{what}: {ending}");
        }
        finish(&store).await;
    }
}

#[tokio::test]
async fn a_partial_object_has_its_full_length_from_the_start() {
    let folder = TempDir::new().unwrap();
    let store = FileBlobs::open(folder.path()).await.unwrap();
    store.begin(KEY, 300_000, 1000).await.unwrap();
    assert_eq!(fs::metadata(file(folder.path(), ".part")).unwrap().len(), 300_000);
}

#[tokio::test]
async fn foreign_files_in_the_folder_are_ignored() {
    let folder = partial().await;
    for name in ["notes.txt", &"AB".repeat(32), &"é".repeat(32), &"+f".repeat(32)] {
        fs::write(file(folder.path(), "").with_file_name(name), b"x").unwrap();
    }
    let store = FileBlobs::open(folder.path()).await.unwrap();
    assert_eq!(store.list(KEY.space, KEY.chain).await.unwrap(), [KEY]);
}

/// What an upload leaves behind that was killed is gone when the store opens; a dropped one takes its space back at once.
#[tokio::test]
async fn drafts_leave_nothing_behind() {
    let folder = TempDir::new().unwrap();
    let drafts = folder.path().join("draft");
    let count = || fs::read_dir(&drafts).unwrap().count();
    let store = FileBlobs::open(folder.path()).await.unwrap();
    let mut draft = store.draft().await.unwrap();
    draft.append(Bytes::from(vec![1; 100_000])).await.unwrap();
    assert_eq!(count(), 1);
    assert!(store.size_bytes().await.unwrap() >= 100_000);
    std::mem::forget(draft);
    let store = FileBlobs::open(folder.path()).await.unwrap();
    assert_eq!((count(), store.size_bytes().await.unwrap()), (0, 0));
    drop(store.draft().await.unwrap());
    while count() > 0 {
        tokio::task::yield_now().await;
    }
}

/// Sparse objects take what they have; the rest is reserved when the whole is wanted, and given back by deleting.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn space_is_reserved_when_the_whole_is_wanted() {
    let folder = TempDir::new().unwrap();
    let store = FileBlobs::open(folder.path()).await.unwrap();
    let (len, chunk) = (8_000_000, 1_000_000);
    store.begin_sparse(KEY, len, chunk).await.unwrap();
    store.write(KEY, 3, Bytes::from(vec![3; 1_000_000])).await.unwrap();
    let sparse = store.size_bytes().await.unwrap();
    assert!((1_000_000..2_000_000).contains(&sparse), "{sparse}");
    store.begin(KEY, len, chunk).await.unwrap();
    assert!(store.size_bytes().await.unwrap() >= len);
    store.delete(KEY).await.unwrap();
    assert_eq!(store.size_bytes().await.unwrap(), 0);
    // More than any disk has: refused, and nothing is left of it.
    let error = store.begin(KEY, 1 << 42, 1 << 22).await.unwrap_err();
    assert!(matches!(error, walytis_core::store::BlobStoreError::Full { .. }), "{error}");
    assert_eq!((store.size_bytes().await.unwrap(), store.status(KEY).await.unwrap()), (0, BlobStatus::Absent));
}
