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
use walytis_core::id::PeerId;
use walytis_core::ledger::{BlockState, LedgerControl as _};
use walytis_core::net::{IncomingStream, MemoryNetwork, Network as _, Stream};
use walytis_core::store::{Direction, KeyRange, KvStore as _};
use walytis_identities::id::Role;
use walytis_offchain::OFFCHAIN;

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
