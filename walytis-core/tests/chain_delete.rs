//! Deleting a chain gives its space back and leaves none of its bytes on the disk.

#![cfg(feature = "rocksdb")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use walytis_core::block::Visibility;
use walytis_core::clock::{Entropy as _, ManualClock, SeededEntropy};
use walytis_core::ledger::{Ledger as _, LedgerRead as _, NewBlock, SubscribeFrom};
use walytis_core::node::{InviteOptions, Node, NodeConfig, NodeParts};
use walytis_core::store::{
    BlobKey, BlobSpace, BlobStore as _, FileBlobs, KvStore as _, MemorySecrets, RocksStore, SecretStore as _,
};
use walytis_core::topic::Topic;

async fn open(folder: &Path, secrets: &Arc<MemorySecrets>) -> (Node, Arc<RocksStore>, Arc<FileBlobs>) {
    let store = Arc::new(RocksStore::open(folder.join("store")).await.unwrap());
    let blobs = Arc::new(FileBlobs::open(folder.join("blobs")).await.unwrap());
    let node = Node::open(NodeParts {
        store: store.clone(),
        blobs: blobs.clone(),
        secrets: secrets.clone(),
        replication: None,
        clock: Arc::new(ManualClock::new(1_000)),
        entropy: Arc::new(SeededEntropy::new(1)),
        config: NodeConfig::default(),
    })
    .await
    .unwrap();
    (node, store, blobs)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut folders = vec![folder.to_path_buf()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}

fn bytes(folder: &Path) -> u64 {
    files(folder).iter().map(|path| path.metadata().unwrap().len()).sum()
}

fn holding(folder: &Path, marker: &[u8]) -> Vec<PathBuf> {
    let holds = |path: &PathBuf| std::fs::read(path).unwrap().windows(marker.len()).any(|window| window == marker);
    files(folder).into_iter().filter(holds).collect()
}

#[tokio::test]
async fn a_deleted_chain_gives_its_space_back_and_none_of_its_bytes_stay() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = Arc::new(MemorySecrets::new());
    let (node, store, blobs) = open(folder.path(), &secrets).await;
    let kept = node.create_chain("kept", Visibility::Invited).await.unwrap();
    kept.add(NewBlock { content: "kept".to_owned().into(), topics: Vec::new() }).await.unwrap();
    let before = bytes(folder.path());

    // Contents that do not compress, in blocks and beside them, behind one marker each.
    let entropy = SeededEntropy::new(9);
    let (mut inside, mut beside) = (vec![0; 20_000], vec![0; 2_000_000]);
    entropy.fill(&mut inside);
    entropy.fill(&mut beside);
    let gone = node.create_chain("gone", Visibility::Invited).await.unwrap();
    let topic = Topic::user("a topic that must not stay").unwrap();
    for n in 0..100u8 {
        inside[100] = n;
        gone.add(NewBlock { content: inside.clone().into(), topics: vec![topic.clone()] }).await.unwrap();
    }
    gone.add(NewBlock { content: beside.clone().into(), topics: Vec::new() }).await.unwrap();
    let partial = BlobKey { space: BlobSpace::Blob, chain: gone.id(), digest: [7; 32] };
    blobs.begin(partial, 3_000_000, 1 << 20).await.unwrap();
    let mut follower = gone.subscribe(SubscribeFrom::Name("me".to_owned())).await.unwrap();
    let event = follower.next().await.unwrap().unwrap();
    follower.ack(event.cursor()).await.unwrap();
    node.invite(&gone.id(), InviteOptions::default()).await.unwrap();
    let full = bytes(folder.path());
    assert!(full > before + 6_000_000, "{before} {full}");
    assert!(!holding(folder.path(), &inside[..32]).is_empty() && !holding(folder.path(), &beside[..32]).is_empty());

    let id = gone.id();
    drop(follower);
    node.delete_chain(&id).await.unwrap();
    let after = bytes(folder.path());
    assert!(after < before + 100_000, "{before} before, {full} with the chain, {after} after");
    assert_eq!(store.size_bytes().await.unwrap(), bytes(&folder.path().join("store")));
    for marker in [&inside[..32], &beside[..32], topic.as_str().as_bytes()] {
        assert_eq!(holding(folder.path(), marker), Vec::<PathBuf>::new());
    }
    assert_eq!(secrets.list("core/chain/").await.unwrap().len(), 1);
    assert_eq!(kept.count().await.unwrap(), 2);
    node.shutdown().await;
    store.close().await.unwrap();
    drop((node, store, kept, gone));
    let (node, ..) = open(folder.path(), &secrets).await;
    assert!(node.find("gone").is_err());
    assert_eq!(node.chain("kept").unwrap().count().await.unwrap(), 2);
}
