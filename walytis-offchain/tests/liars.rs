//! Members that send wrong bytes: nothing of it is shown, they are cut off, others serve.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use serde::{Deserialize, Serialize};
use support::{PATIENCE, Peer, World, add, pattern, read, until};
use walytis_core::clock::SeededEntropy;
use walytis_core::id::{BlockId, ChainId, Digest, PeerId};
use walytis_core::ledger::{BlockState, LedgerControl as _, LedgerRead as _, NewBlock};
use walytis_core::net::{IncomingStream, MemoryNetwork, Network as _, Stream};
use walytis_core::store::{
    BlobDraft, BlobKey, BlobSpace, BlobStatus, BlobStore, BlobStoreError, Direction, FileBlobs, KeyRange, KvStore as _,
    MemoryBlobs,
};
use walytis_core::topic::Topic;
use walytis_identities::claim::Claim;
use walytis_identities::id::Role;
use walytis_identities::identity::{EpochUse, Identity as _, MemoryIdentity};
use walytis_offchain::context::Context;
use walytis_offchain::envelope::{Binding, CHUNK, Manifest};
use walytis_offchain::padding::size_class;
use walytis_offchain::record::{PrivateHeader, Record};
use walytis_offchain::{ForgetRule, OFFCHAIN, PrivateLedger};

/// The messages of the protocol, as its format document describes them.
#[derive(Serialize, Deserialize)]
enum Message {
    Want([u8; 32], Vec<[u8; 32]>),
    Have([u8; 32], Vec<([u8; 32], bool)>),
    Get([u8; 32], [u8; 32], u32),
    Part([u8; 32], [u8; 32], u32, Vec<u8>),
    No([u8; 32], [u8; 32], u32),
    Push([u8; 32], [u8; 32], Vec<u8>),
}

async fn receive(stream: &mut Box<dyn Stream>) -> Option<Message> {
    let mut len = [0; 4];
    stream.read_exact(&mut len).await.ok()?;
    let mut body = vec![0; u32::from_be_bytes(len) as usize];
    stream.read_exact(&mut body).await.ok()?;
    postcard::from_bytes(body.strip_prefix(&[1])?).ok()
}

async fn send(stream: &mut Box<dyn Stream>, message: &Message) {
    let body = [vec![1], postcard::to_stdvec(message).unwrap()].concat();
    let frame = [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat();
    // The other side may have cut us off already.
    let _sent = stream.write_all(&frame).await.is_ok() && stream.flush().await.is_ok();
}

/// Claims to have everything and answers with noise; with `manifest`, that is told truly and the chunks are noise.
async fn lie(network: Arc<MemoryNetwork>, manifest: Option<Vec<u8>>) {
    let mut incoming = network.accept(OFFCHAIN).unwrap();
    while let Some(IncomingStream { mut stream, .. }) = incoming.recv().await {
        while let Some(message) = receive(&mut stream).await {
            match message {
                Message::Want(ledger, ids) => {
                    let all = ids.into_iter().map(|id| (id, true)).collect();
                    send(&mut stream, &Message::Have(ledger, all)).await;
                }
                Message::Get(ledger, id, part) => {
                    let noise = || pattern(if part == 0 { 500 } else { 1024 * 1024 + 16 });
                    let bytes = manifest.clone().filter(|_| part == 0).unwrap_or_else(noise);
                    send(&mut stream, &Message::Part(ledger, id, part, bytes)).await;
                }
                _ => {}
            }
        }
    }
}

async fn until_gone(at: &Peer, peer: &PeerId) {
    let gone = async {
        while at.network.peers().iter().any(|status| status.peer == *peer) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the liar stays connected");
}

/// The author's ledger is closed, so that the reader can ask the liar only; then it opens and serves.
#[tokio::test(start_paused = true)]
async fn a_member_that_serves_wrong_bytes_is_cut_off_and_another_serves() {
    let world = World::new();
    let (mut peers, chain, group) = world.peers(3).await;
    let (c, b, a) = (peers.pop().unwrap(), peers.pop().unwrap(), peers.pop().unwrap());
    let (at_a, at_b) = (a.join(&group, Role::Admin), b.join(&group, Role::Member));
    let _liar = c.join(&group, Role::Member);
    let author = a.open(&chain, &at_a, "notes").await;
    let id = add(&author, "true", &["t"]).await.id;
    author.shutdown().await;
    c.exchange.shutdown().await;
    let liar = tokio::spawn(lie(c.network.clone(), None));
    let reader = b.open(&chain, &at_b, "notes").await;
    until_gone(&b, &c.id()).await;
    assert_eq!(b.exchange.status().faults, 1);
    assert_ne!(reader.block_status(&id).await.unwrap().unwrap().state, walytis_offchain::ContentState::Available);
    let author = a.open(&chain, &at_a, "notes").await;
    until(&reader, &id, BlockState::Available).await;
    assert_eq!(read(&reader, &id).await, b"true");
    assert!(b.network.peers().iter().any(|status| status.peer == a.id()), "an honest peer was cut off");
    liar.abort();
    b.stop(&[&reader]).await;
    a.stop(&[&author]).await;
    c.stop(&[]).await;
}

/// The same with a large content whose manifest the liar tells truly: what was right of it stays, and the wrong chunk is
/// fetched from the author.
#[tokio::test(start_paused = true)]
async fn a_member_that_serves_a_wrong_chunk_is_cut_off_and_another_serves() {
    let world = World::new();
    let (mut peers, chain, group) = world.peers(3).await;
    let (c, b, a) = (peers.pop().unwrap(), peers.pop().unwrap(), peers.pop().unwrap());
    let (at_a, at_b) = (a.join(&group, Role::Admin), b.join(&group, Role::Member));
    let _liar = c.join(&group, Role::Member);
    let author = a.open(&chain, &at_a, "notes").await;
    let id = add(&author, pattern(3_000_000), &[]).await.id;
    author.shutdown().await;
    // 0x20 ‖ ledger tag (32) ‖ 'm' ‖ envelope id (32).
    let everything = KeyRange { start: vec![], end: None };
    let rows = a.disk.store.scan(everything, Direction::Forward, usize::MAX).await.unwrap();
    let manifest = rows.iter().find(|(key, _)| key.len() == 66 && key[33] == b'm').unwrap().1.to_vec();
    c.exchange.shutdown().await;
    let liar = tokio::spawn(lie(c.network.clone(), Some(manifest)));
    let reader = b.open(&chain, &at_b, "notes").await;
    until_gone(&b, &c.id()).await;
    assert!(b.exchange.status().faults >= 1);
    let seen = reader.block_status(&id).await.unwrap().unwrap();
    assert_eq!(seen.bytes_done, 0, "a wrong chunk was stored");
    let author = a.open(&chain, &at_a, "notes").await;
    until(&reader, &id, BlockState::Available).await;
    assert!(read(&reader, &id).await == pattern(3_000_000));
    liar.abort();
    b.stop(&[&reader]).await;
    a.stop(&[&author]).await;
    c.stop(&[]).await;
}

/// Ledger tags are known to every member; here the liar overhears one from a request for an envelope.
#[tokio::test(start_paused = true)]
async fn a_member_that_pushes_wrong_bytes_is_cut_off() {
    let world = World::new();
    let (mut peers, chain, group) = world.peers(2).await;
    let (c, b) = (peers.pop().unwrap(), peers.pop().unwrap());
    let at_b = b.join(&group, Role::Admin);
    let _liar = c.join(&group, Role::Member);
    c.exchange.shutdown().await;
    let mut incoming = c.network.accept(OFFCHAIN).unwrap();
    let ledger = b.open(&chain, &at_b, "notes").await;
    add(&ledger, "honest", &[]).await;
    // The honest push of an own block names the ledger.
    let mut pushed = tokio::time::timeout(PATIENCE, incoming.recv()).await.unwrap().unwrap().stream;
    let Some(Message::Push(tag, _, _)) = receive(&mut pushed).await else { panic!("no push") };
    let mut stream = c.network.open(&b.id(), OFFCHAIN).await.unwrap();
    send(&mut stream, &Message::Push(tag, [7; 32], pattern(400))).await;
    until_gone(&b, &c.id()).await;
    assert_eq!(b.exchange.status().faults, 1);
    drop((pushed, stream, incoming));
    b.stop(&[&ledger]).await;
    c.stop(&[]).await;
}

/// A manifest that anybody can make up: of `len` bytes, with digests of chunks that nobody has and a key that nobody wrapped.
fn made_up_manifest(len: u64) -> Manifest {
    let count = len.div_ceil(u64::from(CHUNK));
    let digests = pattern(usize::try_from(count * 32).unwrap());
    // H(label, digests), as the format document says.
    let labelled = [b"walytis/offchain/chunk-root/v1", &(digests.len() as u64).to_le_bytes()[..], &digests].concat();
    let fields = ([1_u8; 24], ([2_u8; 32], [3_u8; 16]), [4_u8; 32], CHUNK, len, Digest::of(&labelled).0);
    let header = [vec![1], postcard::to_stdvec(&fields).unwrap()].concat();
    Manifest::decode_unnamed(&header, &digests).unwrap()
}

/// Puts a record on the chain that says it is of `class` bytes and names such a manifest; returns its block, and part 0 of the
/// envelope as the liar serves it.
async fn made_up_record(
    peer: &Peer,
    chain: &ChainId,
    by: &MemoryIdentity,
    manifest: &Manifest,
    class: u64,
) -> (BlockId, Vec<u8>) {
    let (signer, epoch) = (by.device_signer(), by.sending_epoch().await.unwrap());
    let claim = Claim { author: by.controller(), auth_heads: by.auth_heads().await };
    let (nonce, forget) = ([8; 32], ForgetRule::default());
    let context = Context::new(chain, "notes", &claim, &signer.public_key(), &epoch, &nonce);
    let header = PrivateHeader { len: class, ..PrivateHeader::default() };
    let key = by.derive(&epoch, EpochUse::RecordHeader).await.unwrap();
    let envelope = manifest.digest();
    let sealed_header = header.seal(&key, &context, &envelope, &forget, &SeededEntropy::new(3));
    let record = Record { claim, epoch, envelope, size_class: class, nonce, forget, sealed_header };
    let binding = Binding::new(&context, &record);
    let packed = (binding, manifest.header().to_vec(), manifest.digests(), None::<Vec<u8>>);
    let part = [vec![1], postcard::to_stdvec(&packed).unwrap()].concat();
    let topics = vec![Topic::overlay("offchain", "notes").unwrap()];
    let block = NewBlock { content: record.encode().into(), topics };
    let added = peer.chain(chain).append_many(vec![block], signer).await.unwrap();
    (added[0].id, part)
}

/// Waits until a ledger has this part 0 in its store, or has refused it: true if it stands there.
async fn until_looked_at(at: &Peer, ledger: &PrivateLedger, id: &BlockId) -> bool {
    let looked = async {
        loop {
            let all = KeyRange { start: vec![0x20], end: Some(vec![0x21]) };
            let rows = at.disk.store.scan(all, Direction::Forward, usize::MAX).await.unwrap();
            let stored = rows.iter().any(|(key, _)| key[33] == b'm');
            let state = ledger.get(id).await.unwrap().map(|info| info.state);
            if stored || state == Some(BlockState::Void { reason: "O-RECORD-01" }) {
                return stored;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looked).await.expect("the manifest never comes")
}

/// One says that its content is small and serves a manifest of 64 MiB, or serves a manifest that no key of its epoch opens.
/// A member, who has the keys, keeps neither bytes nor places for them; a keeper no manifest of another length.
#[tokio::test(start_paused = true)]
async fn what_is_served_beside_a_record_takes_no_place() {
    for (class, role) in [(256, Role::Member), (256, Role::Keeper), (64 << 20, Role::Member)] {
        let world = World::new();
        let (mut peers, chain, group) = world.peers(2).await;
        let (c, b) = (peers.pop().unwrap(), peers.pop().unwrap());
        let (at_b, at_c) = (b.join(&group, role), c.join(&group, Role::Admin));
        c.exchange.shutdown().await;
        let manifest = made_up_manifest(64 << 20);
        let (id, part) = made_up_record(&c, &chain, &at_c, &manifest, class).await;
        let liar = tokio::spawn(lie(c.network.clone(), Some(part)));
        let reader = b.open(&chain, &at_b, "notes").await;
        until(&reader, &id, BlockState::Void { reason: "O-RECORD-01" }).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(b.disk.blobs.list(BlobSpace::Envelope, chain).await.unwrap(), [], "{class} {role:?}");
        assert!(!until_looked_at(&b, &reader, &id).await, "a manifest stays: {class} {role:?}");
        // It is not asked for again, with other heads and after a restart, either.
        group.rekey();
        let disk = b.stop(&[&reader]).await;
        let b = world.start(disk).await;
        b.meet(&c).await;
        let reader = b.open(&chain, &at_b, "notes").await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(reader.get(&id).await.unwrap().unwrap().state, BlockState::Void { reason: "O-RECORD-01" });
        assert!(!until_looked_at(&b, &reader, &id).await, "a manifest came back: {class} {role:?}");
        liar.abort();
        b.stop(&[&reader]).await;
        c.stop(&[]).await;
    }
}

/// A record says that its content has 1 GiB, and a manifest comes that says so too; no chunk ever comes. It takes what the
/// manifest takes, not 1 GiB at every keeper. Real files, in paused time.
#[tokio::test(start_paused = true)]
async fn a_length_alone_takes_no_space() {
    let world = World::new();
    let (mut peers, chain, group) = world.peers(2).await;
    let (c, b) = (peers.pop().unwrap(), peers.pop().unwrap());
    let (at_b, at_c) = (b.join(&group, Role::Keeper), c.join(&group, Role::Admin));
    c.exchange.shutdown().await;
    let folder = tempfile::tempdir().unwrap();
    let blobs = Arc::new(FileBlobs::open(folder.path()).await.unwrap());
    let room = blobs.room_bytes().await.unwrap().unwrap_or(u64::MAX);
    // As much as there is room for, so that it is begun.
    let len = size_class((room / 2).min(1 << 30));
    let (id, part) = made_up_record(&c, &chain, &at_c, &made_up_manifest(len), len).await;
    let liar = tokio::spawn(lie(c.network.clone(), Some(part)));
    let reader =
        PrivateLedger::open(walytis_offchain::PrivateParts { blobs: blobs.clone(), ..b.parts(&chain, &at_b, "notes") });
    let reader = reader.await.unwrap();
    assert!(until_looked_at(&b, &reader, &id).await);
    while blobs.list(BlobSpace::Envelope, chain).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let taken = blobs.size_bytes().await.unwrap();
    assert!(taken < 4 << 20, "{taken} bytes for nothing");
    liar.abort();
    b.stop(&[&reader]).await;
    c.stop(&[]).await;
}

/// What a disk has no room for is not begun.
#[tokio::test(start_paused = true)]
async fn a_content_that_does_not_fit_is_refused_before_a_chunk_of_it_comes() {
    let world = World::new();
    let (mut peers, chain, group) = world.peers(2).await;
    let (b, a) = (peers.pop().unwrap(), peers.pop().unwrap());
    let (at_a, at_b) = (a.join(&group, Role::Admin), b.join(&group, Role::Member));
    let author = a.open(&chain, &at_a, "notes").await;
    let small = Arc::new(Small::default());
    let parts = walytis_offchain::PrivateParts { blobs: small.clone(), ..b.parts(&chain, &at_b, "notes") };
    let reader = PrivateLedger::open(parts).await.unwrap();
    let large = add(&author, pattern(3_000_000), &[]).await.id;
    let fits = add(&author, pattern(1_500_000), &[]).await.id;
    until(&reader, &fits, BlockState::Available).await;
    assert!(read(&reader, &fits).await == pattern(1_500_000), "one that has no room holds up another");
    let seen = reader.block_status(&large).await.unwrap().unwrap();
    assert!(seen.state != walytis_offchain::ContentState::Available && seen.bytes_done == 0, "{seen:?}");
    assert_eq!(small.list(BlobSpace::Envelope, chain).await.unwrap().len(), 1, "it was begun");
    b.stop(&[&reader]).await;
    a.stop(&[&author]).await;
}

/// A disk of 2 MB.
#[derive(Debug, Default)]
struct Small(MemoryBlobs);

#[async_trait::async_trait]
impl BlobStore for Small {
    async fn begin(&self, key: BlobKey, len: u64, chunk: u32) -> Result<BlobStatus, BlobStoreError> {
        self.0.begin(key, len, chunk).await
    }

    async fn draft(&self) -> Result<Box<dyn BlobDraft>, BlobStoreError> {
        self.0.draft().await
    }

    async fn write(&self, key: BlobKey, index: u32, bytes: bytes::Bytes) -> Result<BlobStatus, BlobStoreError> {
        self.0.write(key, index, bytes).await
    }

    async fn status(&self, key: BlobKey) -> Result<BlobStatus, BlobStoreError> {
        self.0.status(key).await
    }

    async fn read(&self, key: BlobKey, offset: u64, len: usize) -> Result<bytes::Bytes, BlobStoreError> {
        self.0.read(key, offset, len).await
    }

    async fn delete(&self, key: BlobKey) -> Result<(), BlobStoreError> {
        self.0.delete(key).await
    }

    async fn list(&self, space: BlobSpace, chain: ChainId) -> Result<Vec<BlobKey>, BlobStoreError> {
        self.0.list(space, chain).await
    }

    async fn size_bytes(&self) -> Result<u64, BlobStoreError> {
        self.0.size_bytes().await
    }

    async fn room_bytes(&self) -> Result<Option<u64>, BlobStoreError> {
        Ok(Some(2_000_000_u64.saturating_sub(self.size_bytes().await?)))
    }
}
