//! The bytes of a forgotten content are gone from the files of the stores on disk.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

use std::path::Path;
use std::sync::Arc;

use tokio::io::AsyncReadExt as _;
use walytis_core::block::Visibility;
use walytis_core::clock::{ManualClock, SeededEntropy};
use walytis_core::id::PeerId;
use walytis_core::ledger::{BlockState, Ledger as _, LedgerControl as _, LedgerRead as _, NewBlock};
use walytis_core::node::{Node, NodeConfig, NodeParts};
use walytis_core::store::keys::Space;
use walytis_core::store::{
    BlobSpace, BlobStatus, BlobStore, Direction, FileBlobs, KeyRange, KvStore, MemorySecrets, RocksStore,
};
use walytis_identities::id::{Did, Role};
use walytis_identities::identity::MemoryGroup;
use walytis_offchain::context::Context;
use walytis_offchain::envelope::EnvelopeId;
use walytis_offchain::record::Record;
use walytis_offchain::{PrivateLedger, PrivateParts};

/// Bytes searched for at a time. Short enough that a value cut into the blocks of a log has whole ones.
const PIECE: usize = 48;

/// Every third stretch of `bytes`.
fn pieces(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.chunks_exact(PIECE).step_by(3).map(<[u8]>::to_vec).collect()
}

/// Returns how many of the pieces stand in any file below a folder.
fn found_in_files(folder: &Path, pieces: &[Vec<u8>]) -> usize {
    let (mut folders, mut found) = (vec![folder.to_path_buf()], std::collections::BTreeSet::new());
    let wanted: std::collections::BTreeMap<&[u8], usize> = pieces.iter().map(Vec::as_slice).zip(0..).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // A file may go while the folder is read: then it holds nothing any more.
            let Ok(bytes) = std::fs::read(&path) else { continue };
            found.extend(bytes.windows(PIECE).filter_map(|window| wanted.get(window)).copied());
        }
    }
    found.len()
}

struct Disk {
    folder: tempfile::TempDir,
    store: Arc<dyn KvStore>,
    blobs: Arc<dyn BlobStore>,
    node: Node,
    ledger: PrivateLedger,
}

async fn open() -> Disk {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn KvStore> = Arc::new(RocksStore::open(folder.path().join("store")).await.unwrap());
    let blobs: Arc<dyn BlobStore> = Arc::new(FileBlobs::open(folder.path().join("blobs")).await.unwrap());
    let (clock, entropy) = (Arc::new(ManualClock::new(1_000)), Arc::new(SeededEntropy::new(7)));
    let node = Node::open(NodeParts {
        store: store.clone(),
        blobs: blobs.clone(),
        secrets: Arc::new(MemorySecrets::new()),
        replication: None,
        clock: clock.clone(),
        entropy: entropy.clone(),
        config: NodeConfig::default(),
    })
    .await
    .unwrap();
    let chain = node.create_chain("c", Visibility::Invited).await.unwrap();
    let group = MemoryGroup::new(Did(chain.id()));
    let me = group.admit([1; 32], PeerId::from_bytes(&[1; 38]).unwrap(), Role::Admin);
    let ledger = PrivateLedger::open(PrivateParts {
        identity: Arc::new(me),
        chain,
        layer: "x".to_owned(),
        store: store.clone(),
        blobs: blobs.clone(),
        exchange: None,
        clock,
        entropy,
    })
    .await
    .unwrap();
    Disk { folder, store, blobs, node, ledger }
}

impl Disk {
    async fn add(&self, content: Vec<u8>) -> walytis_core::id::BlockId {
        self.ledger.add(NewBlock { content: content.into(), topics: vec![] }).await.unwrap().id
    }

    /// The stored envelope of a block, read from the stores: its row, and what of the blob store is new.
    async fn sealed(&self, id: &walytis_core::id::BlockId, large: bool) -> (Vec<u8>, Vec<u8>) {
        let chain = self.node.chain_by_id(&self.ledger.id()).unwrap();
        let block = chain.block(id).await.unwrap().unwrap();
        let record = Record::decode(block.inline().unwrap()).unwrap();
        let creator = block.header().creator;
        let context = Context::new(&chain.id(), "x", &record.claim, &creator, &record.epoch, &record.nonce);
        let envelope = EnvelopeId::of(&context, &record);
        let space = KeyRange::prefix(&Space::Offchain.key(&[]));
        let rows = self.store.scan(space, Direction::Forward, usize::MAX).await.unwrap();
        let row = rows.iter().find(|(key, _)| key[33] == b'm' && key.ends_with(&envelope.0)).unwrap().1.to_vec();
        let mut chunks = Vec::new();
        for key in self.blobs.list(BlobSpace::Envelope, chain.id()).await.unwrap().into_iter().filter(|_| large) {
            let BlobStatus::Complete { len } = self.blobs.status(key).await.unwrap() else { panic!("incomplete") };
            chunks.extend(self.blobs.read(key, 0, usize::try_from(len).unwrap()).await.unwrap());
        }
        (row, chunks)
    }
}

/// One content in the key-value store, one in the blob store, each forgotten in one of the two ways; before, the same search
/// finds them, and it goes on to find what was not forgotten. Real files and threads, so no paused time.
#[tokio::test]
async fn forgotten_bytes_are_gone_from_every_file() {
    let disk = open().await;
    let plain: Vec<u8> = (0..40_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    let small = disk.add(plain[..20_000].to_vec()).await;
    let large = disk.add(plain.repeat(10)).await;
    let kept = disk.add(plain[1..20_001].to_vec()).await;
    let (small_row, _) = disk.sealed(&small, false).await;
    let (large_row, large_chunks) = disk.sealed(&large, true).await;
    let (kept_row, _) = disk.sealed(&kept, false).await;
    assert!(large_chunks.len() > 1_500_000);
    let gone = [pieces(&small_row), pieces(&large_row), pieces(&large_chunks)];
    let count = |pieces: &[Vec<u8>]| found_in_files(disk.folder.path(), pieces);
    for pieces in &gone {
        assert!(count(pieces) > pieces.len() / 2, "the search finds {} of {}", count(pieces), pieces.len());
    }
    disk.ledger.forget_local(&small).await.unwrap();
    let proposal = disk.ledger.propose_forget(&[large], "all of us").await.unwrap();
    // Said when everything is removed; a real disk takes what it takes, a minute at most.
    for _ in 0..600 {
        if disk.ledger.proposal(&proposal).await.unwrap().unwrap().done.len() == 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    for id in [&small, &large] {
        assert_eq!(disk.ledger.get(id).await.unwrap().unwrap().state, BlockState::Forgotten);
    }
    assert_eq!(
        disk.ledger.proposal(&proposal).await.unwrap().unwrap().state,
        walytis_offchain::ProposalState::Forgotten
    );
    for pieces in &gone {
        assert_eq!(count(pieces), 0, "of {} pieces some are left", pieces.len());
    }
    let pieces = pieces(&kept_row);
    assert!(count(&pieces) > pieces.len() / 2, "what was not forgotten is gone");
    let mut content = Vec::new();
    disk.ledger.content(&kept).await.unwrap().read_to_end(&mut content).await.unwrap();
    assert!(content == plain[1..20_001]);
    disk.ledger.shutdown().await;
    disk.node.shutdown().await;
    disk.store.close().await.unwrap();
}
