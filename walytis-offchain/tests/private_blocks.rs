//! Private blocks between real nodes over the network in memory, in paused time.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

mod support;

use std::time::Duration;

use futures::StreamExt as _;
use support::{World, add, pattern, read, topic, until};
use walytis_core::ledger::{
    BlockState, Ledger as _, LedgerControl as _, LedgerEvent, LedgerRead as _, Query, SubscribeFrom,
};
use walytis_core::store::{BlobKey, BlobSpace, BlobStatus, BlobStore as _, Direction, KeyRange, KvStore as _};
use walytis_identities::id::Role;
use walytis_identities::identity::Identity as _;

#[tokio::test(start_paused = true)]
async fn a_text_and_a_file_arrive_with_author_and_topics() {
    let world = World::new();
    let (peers, chain, group) = world.peers(2).await;
    let (a, b) = (peers[0].join(&group, Role::Admin), peers[1].join(&group, Role::Member));
    let ours = peers[0].open(&chain, &a, "notes").await;
    let theirs = peers[1].open(&chain, &b, "notes").await;
    let text = add(&ours, "hello", &["greeting", "日本"]).await;
    let got = until(&theirs, &text.id, BlockState::Available).await;
    assert_eq!((got.topics, got.size), (vec![topic("greeting"), topic("日本")], 5));
    assert_eq!(got.author.0, a.controller().to_string().into());
    assert_eq!(read(&theirs, &text.id).await, b"hello");
    let bytes = pattern(5_000_000);
    let file = add(&ours, bytes.clone(), &["file"]).await;
    let got = until(&theirs, &file.id, BlockState::Available).await;
    assert_eq!(got.size, 5_000_000);
    assert!(read(&theirs, &file.id).await == bytes, "the file differs");
    let query = Query { topics_any: vec![topic("greeting")], ..Query::default() };
    let found: Vec<_> = theirs.query(query).await.unwrap().map(|info| info.unwrap().id).collect().await;
    assert_eq!(found, [text.id]);
}

/// The member that wrote it is gone before the third has heard of it.
#[tokio::test(start_paused = true)]
async fn another_member_serves_while_the_author_is_offline() {
    let world = World::new();
    let (peers, chain, group) = world.peers(3).await;
    let [a, b, c] = [0, 1, 2].map(|n| peers[n].join(&group, Role::Member));
    let ours = peers[0].open(&chain, &a, "x").await;
    let second = peers[1].open(&chain, &b, "x").await;
    world.hub.partition(&[peers[2].id()], &[peers[0].id(), peers[1].id()]);
    let bytes = pattern(2_500_000);
    let (small, large) = (add(&ours, "small", &[]).await, add(&ours, bytes.clone(), &[]).await);
    until(&second, &large.id, BlockState::Available).await;
    until(&second, &small.id, BlockState::Available).await;
    let third = peers[2].open(&chain, &c, "x").await;
    world.hub.cut(&peers[0].id(), &peers[1].id());
    world.hub.heal(&peers[1].id(), &peers[2].id());
    until(&third, &large.id, BlockState::Available).await;
    until(&third, &small.id, BlockState::Available).await;
    assert!(read(&third, &large.id).await == bytes);
}

#[tokio::test(start_paused = true)]
async fn one_unavailable_envelope_delays_no_other_and_comes_later() {
    let world = World::new();
    let (peers, chain, group) = world.peers(2).await;
    let (a, b) = (peers[0].join(&group, Role::Member), peers[1].join(&group, Role::Member));
    let ours = peers[0].open(&chain, &a, "x").await;
    // Written before the reader's ledger listens, then hidden from serving by taking the ledger away.
    let hidden = add(&ours, pattern(100_000), &[]).await;
    ours.shutdown().await;
    let theirs = peers[1].open(&chain, &b, "x").await;
    until(&theirs, &hidden.id, BlockState::Unavailable).await;
    let own = add(&theirs, "another", &[]).await;
    let mut events = theirs.subscribe(SubscribeFrom::Name("s".into())).await.unwrap();
    assert!(matches!(events.next().await.unwrap(), Some(LedgerEvent::Block(info)) if info.id == own.id));
    let ours = peers[0].open(&chain, &a, "x").await;
    until(&theirs, &hidden.id, BlockState::Available).await;
    assert!(matches!(events.next().await.unwrap(), Some(LedgerEvent::Block(info)) if info.id == hidden.id));
    drop(ours);
}

/// A stranger and a removed member hold the whole chain, run the same layer and want everything: they get one flat no.
#[tokio::test(start_paused = true)]
async fn outsiders_and_removed_members_get_the_flat_refusal() {
    let world = World::new();
    let (peers, chain, group) = world.peers(3).await;
    let [a, b] = [0, 1].map(|n| peers[n].join(&group, Role::Admin));
    let ours = peers[0].open(&chain, &a, "x").await;
    let removed = peers[1].open(&chain, &b, "x").await;
    // The outsider's own idea of the group: it believes that the member would serve it.
    let outside_group = walytis_identities::identity::MemoryGroup::new(walytis_identities::id::Did(chain));
    outside_group.admit([101; 32], peers[0].id(), Role::Admin);
    let c = peers[2].join(&outside_group, Role::Admin);
    let outside = peers[2].open(&chain, &c, "x").await;
    let before = add(&ours, "before", &[]).await;
    until(&removed, &before.id, BlockState::Available).await;
    b.hold();
    group.remove(b.device(), []);
    let after = add(&ours, pattern(200_000), &[]).await;
    let pushed = add(&ours, "small", &[]).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    // The record is void or waits there: no content of it came.
    for ledger in [&removed, &outside] {
        for id in [&after.id, &pushed.id] {
            assert!(ledger.content(id).await.is_err());
        }
    }
    for peer in &peers[1..] {
        let envelopes = peer.disk.blobs.list(BlobSpace::Envelope, chain).await.unwrap();
        assert_eq!(envelopes, []);
    }
    // Believing that it may read, the outsider asks for what it knows of: refused and counted.
    assert!(outside.get(&before.id).await.unwrap().is_some());
    assert!(outside.content(&before.id).await.is_err());
    assert!(peers[0].exchange.status().refused > 0);
    assert_eq!(peers[0].exchange.status().faults, 0);
}

#[tokio::test(start_paused = true)]
async fn a_removed_members_later_records_are_void_and_shown_ones_retracted() {
    let world = World::new();
    let (peers, chain, group) = world.peers(2).await;
    let (a, b) = (peers[0].join(&group, Role::Admin), peers[1].join(&group, Role::Member));
    let ours = peers[0].open(&chain, &a, "x").await;
    let theirs = peers[1].open(&chain, &b, "x").await;
    let kept = add(&theirs, "kept", &[]).await;
    let late = add(&theirs, "late", &[]).await;
    until(&ours, &late.id, BlockState::Available).await;
    let mut events = ours.subscribe(SubscribeFrom::Now).await.unwrap();
    group.remove(b.device(), [kept.id]);
    let event = events.next().await.unwrap();
    assert!(matches!(event, Some(LedgerEvent::Retracted { id, .. }) if id == late.id), "{event:?}");
    assert_eq!(ours.count().await.unwrap(), 1);
    let all = Query { include_void: true, ..Query::default() };
    assert_eq!(ours.query(Query::default()).await.unwrap().count().await, 1);
    assert_eq!(ours.query(all).await.unwrap().count().await, 2);
    let state = ours.get(&late.id).await.unwrap().unwrap().state;
    assert_eq!(state, BlockState::Void { reason: "I-RECORD-03" });
    assert!(ours.content(&late.id).await.is_err());
    assert_eq!(read(&ours, &kept.id).await, b"kept");
}

#[tokio::test(start_paused = true)]
async fn a_record_under_unknown_authority_waits_and_opens_by_itself() {
    let world = World::new();
    let (peers, chain, group) = world.peers(2).await;
    let (a, b) = (peers[0].join(&group, Role::Admin), peers[1].join(&group, Role::Member));
    let ours = peers[0].open(&chain, &a, "x").await;
    let theirs = peers[1].open(&chain, &b, "x").await;
    b.hold();
    group.rekey();
    let added = add(&ours, "under the new epoch", &[]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(theirs.get(&added.id).await.unwrap(), None);
    assert_eq!(theirs.status().await.unwrap().pending, 1);
    b.release();
    until(&theirs, &added.id, BlockState::Available).await;
    assert_eq!(read(&theirs, &added.id).await, b"under the new epoch");
}

#[tokio::test(start_paused = true)]
async fn a_keeper_holds_and_serves_what_it_cannot_open() {
    let world = World::new();
    let (peers, chain, group) = world.peers(3).await;
    let a = peers[0].join(&group, Role::Admin);
    let keeper = peers[1].join(&group, Role::Keeper);
    let c = peers[2].join(&group, Role::Member);
    let ours = peers[0].open(&chain, &a, "x").await;
    let kept = peers[1].open(&chain, &keeper, "x").await;
    world.hub.cut(&peers[0].id(), &peers[2].id());
    let added = add(&ours, pattern(100_000), &["secret topic"]).await;
    let seen = until(&kept, &added.id, BlockState::Locked).await;
    assert_eq!(seen.topics, []);
    assert!(kept.content(&added.id).await.is_err());
    let theirs = peers[2].open(&chain, &c, "x").await;
    until(&theirs, &added.id, BlockState::Available).await;
    assert!(read(&theirs, &added.id).await == pattern(100_000));
}

#[tokio::test(start_paused = true)]
async fn two_layers_of_one_chain_do_not_see_each_other() {
    let world = World::new();
    let (peers, chain, group) = world.peers(1).await;
    let a = peers[0].join(&group, Role::Admin);
    let (one, two) = (peers[0].open(&chain, &a, "one").await, peers[0].open(&chain, &a, "two").await);
    let added = add(&one, "in one", &["t"]).await;
    let other = add(&two, "in two", &["t"]).await;
    assert_eq!(two.get(&added.id).await.unwrap(), None);
    assert!(two.content(&added.id).await.is_err());
    assert_eq!((one.count().await.unwrap(), two.count().await.unwrap()), (1, 1));
    let found: Vec<_> = two.query(Query::default()).await.unwrap().map(|info| info.unwrap().id).collect().await;
    assert_eq!(found, [other.id]);
    // Deleting one takes nothing from the other.
    one.delete().await.unwrap();
    assert_eq!(read(&two, &other.id).await, b"in two");
}

/// Random markers in content and topics are found nowhere in what either side stores, after the same scan has found one
/// that was planted in a plain block.
#[tokio::test(start_paused = true)]
async fn no_plaintext_stands_in_any_store() {
    let world = World::new();
    let (peers, chain, group) = world.peers(2).await;
    let (a, b) = (peers[0].join(&group, Role::Admin), peers[1].join(&group, Role::Member));
    let ours = peers[0].open(&chain, &a, "x").await;
    let theirs = peers[1].open(&chain, &b, "x").await;
    let marker = "b1946ac92492d2347c6235b4d2611184";
    let mut large = pattern(1_500_000);
    large[700_000..700_032].copy_from_slice(marker.as_bytes());
    let one = add(&ours, marker, &[marker]).await;
    let two = add(&ours, large, &[marker]).await;
    until(&theirs, &one.id, BlockState::Available).await;
    until(&theirs, &two.id, BlockState::Available).await;
    let planted = "591785b794601e212b260e25925636fd";
    peers[0]
        .chain(&chain)
        .add(walytis_core::ledger::NewBlock { content: planted.into(), topics: vec![] })
        .await
        .unwrap();
    for (number, peer) in peers.iter().enumerate() {
        let mut found_planted = false;
        let everything = KeyRange { start: vec![], end: None };
        for (key, value) in peer.disk.store.scan(everything, Direction::Forward, usize::MAX).await.unwrap() {
            for bytes in [&key, &value] {
                assert!(!contains(bytes, marker.as_bytes()), "plaintext in the store of peer {number}");
                found_planted |= contains(bytes, planted.as_bytes());
            }
        }
        assert!(found_planted || number > 0);
        for space in [BlobSpace::Blob, BlobSpace::Envelope] {
            for key in peer.disk.blobs.list(space, chain).await.unwrap() {
                assert!(!contains(&whole(peer, key).await, marker.as_bytes()), "plaintext in a blob");
            }
        }
    }
}

fn contains(bytes: &[u8], marker: &[u8]) -> bool {
    bytes.windows(marker.len()).any(|window| window == marker)
}

async fn whole(peer: &support::Peer, key: BlobKey) -> Vec<u8> {
    let BlobStatus::Complete { len } = peer.disk.blobs.status(key).await.unwrap() else { panic!("incomplete") };
    peer.disk.blobs.read(key, 0, usize::try_from(len).unwrap()).await.unwrap().to_vec()
}

#[tokio::test(start_paused = true)]
async fn everything_is_readable_after_a_restart_and_no_task_remains() {
    let world = World::new();
    let (mut peers, chain, group) = world.peers(2).await;
    let (a, b) = (peers[0].join(&group, Role::Admin), peers[1].join(&group, Role::Member));
    let ours = peers[0].open(&chain, &a, "x").await;
    let theirs = peers[1].open(&chain, &b, "x").await;
    let (small, large) = (add(&ours, "small", &["t"]).await, add(&ours, pattern(3_000_000), &[]).await);
    until(&theirs, &large.id, BlockState::Available).await;
    until(&theirs, &small.id, BlockState::Available).await;
    let before = theirs.get(&large.id).await.unwrap();
    let disk = peers.remove(1).stop(&[&theirs]).await;
    peers.remove(0).stop(&[&ours]).await;
    drop((ours, theirs));
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0, "tasks are left");
    let peer = world.start(disk).await;
    let theirs = peer.open(&chain, &b, "x").await;
    assert_eq!(theirs.get(&large.id).await.unwrap(), before);
    assert!(read(&theirs, &large.id).await == pattern(3_000_000));
    assert_eq!(read(&theirs, &small.id).await, b"small");
}

/// Sealed, but never appended: what is on its way in is no object yet, and nothing of it is left.
#[tokio::test(start_paused = true)]
async fn a_content_that_never_ends_leaves_nothing_behind() {
    let world = World::new();
    let (peers, chain, group) = world.peers(1).await;
    let a = peers[0].join(&group, Role::Admin);
    let ledger = peers[0].open(&chain, &a, "x").await;
    let kept = add(&ledger, pattern(1_500_000), &[]).await;
    let blobs = &peers[0].disk.blobs;
    let before = blobs.list(BlobSpace::Envelope, chain).await.unwrap();
    // The call is dropped in the middle, as a crash does.
    let (mut source, content) = tokio::io::duplex(4_000_000);
    tokio::io::AsyncWriteExt::write_all(&mut source, &pattern(2_500_000)).await.unwrap();
    let content = walytis_core::ledger::Content::Reader(Box::new(content));
    let adding = ledger.add(walytis_core::ledger::NewBlock { content, topics: vec![] });
    assert!(tokio::time::timeout(Duration::from_secs(60), adding).await.is_err());
    ledger.shutdown().await;
    let ledger = peers[0].open(&chain, &a, "x").await;
    assert_eq!(blobs.list(BlobSpace::Envelope, chain).await.unwrap(), before);
    assert_eq!(ledger.count().await.unwrap(), 1);
    assert!(read(&ledger, &kept.id).await == pattern(1_500_000));
}

/// Named and marked, but never appended: the envelope is gone after the next opening.
#[tokio::test(start_paused = true)]
async fn envelopes_without_a_record_are_collected_at_the_next_opening() {
    let world = World::new();
    let (peers, chain, group) = world.peers(1).await;
    let a = peers[0].join(&group, Role::Admin);
    let ledger = peers[0].open(&chain, &a, "x").await;
    add(&ledger, pattern(1_500_000), &[]).await;
    let blobs = &peers[0].disk.blobs;
    let before = blobs.list(BlobSpace::Envelope, chain).await.unwrap();
    let block = walytis_core::ledger::NewBlock { content: pattern(1_500_000).into(), topics: vec![] };
    let mut adding = Box::pin(ledger.add(block));
    // Until the envelope has its name, and not one step further.
    while blobs.list(BlobSpace::Envelope, chain).await.unwrap().len() == before.len() {
        assert!(futures::poll!(&mut adding).is_pending());
        tokio::task::yield_now().await;
    }
    drop(adding);
    let appended = peers[0].chain(&chain).count().await.unwrap() > 2;
    ledger.shutdown().await;
    let ledger = peers[0].open(&chain, &a, "x").await;
    let left = blobs.list(BlobSpace::Envelope, chain).await.unwrap().len();
    assert_eq!(left, before.len() + usize::from(appended));
    assert_eq!(ledger.count().await.unwrap(), 1 + u64::from(appended));
}

/// The ledger ends between the append and the answer: the call fails, the record is on the chain, its content stays.
#[tokio::test(start_paused = true)]
async fn an_add_that_fails_after_the_append_keeps_its_envelope() {
    for len in [10, 1_500_000] {
        let world = World::new();
        let (peers, chain, group) = world.peers(1).await;
        let a = peers[0].join(&group, Role::Admin);
        let ledger = peers[0].open(&chain, &a, "x").await;
        let block = walytis_core::ledger::NewBlock { content: pattern(len).into(), topics: vec![] };
        let mut adding = Box::pin(ledger.add(block));
        while peers[0].chain(&chain).count().await.unwrap() == 1 {
            assert!(futures::poll!(&mut adding).is_pending());
            tokio::task::yield_now().await;
        }
        ledger.shutdown().await;
        let failed = adding.await;
        assert!(matches!(failed, Err(walytis_core::ledger::LedgerError::Closed)), "{failed:?}");
        assert_eq!(peers[0].chain(&chain).count().await.unwrap(), 2, "no record was appended");
        let ledger = peers[0].open(&chain, &a, "x").await;
        let blocks: Vec<_> = ledger.query(Query::default()).await.unwrap().map(|info| info.unwrap()).collect().await;
        assert_eq!(blocks.iter().map(|info| &info.state).collect::<Vec<_>>(), [&BlockState::Available]);
        assert!(read(&ledger, &blocks[0].id).await == pattern(len));
    }
}

/// The reader is removed in the middle of a long transfer: it gets no further part.
#[tokio::test(start_paused = true)]
async fn a_removal_stops_a_transfer_that_runs() {
    let world = World::new();
    let (peers, chain, group) = world.peers(2).await;
    let (a, b) = (peers[0].join(&group, Role::Admin), peers[1].join(&group, Role::Admin));
    let ours = peers[0].open(&chain, &a, "x").await;
    let theirs = peers[1].open(&chain, &b, "x").await;
    let chunks = 20;
    let added = add(&ours, pattern(chunks * 1024 * 1024), &[]).await;
    let blobs = &peers[1].disk.blobs;
    let count = async || blobs.list(BlobSpace::Envelope, chain).await.unwrap().len();
    while count().await == 0 {
        tokio::task::yield_now().await;
    }
    b.hold();
    group.remove(b.device(), [added.id]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(count().await < chunks, "the transfer went on to its end");
    assert!(peers[0].exchange.status().refused > 0);
    assert!(theirs.content(&added.id).await.is_err());
}

/// A block that has become void is not served any more, not even to a member.
#[tokio::test(start_paused = true)]
async fn the_envelope_of_a_void_record_is_not_served() {
    let world = World::new();
    let (peers, chain, group) = world.peers(3).await;
    let [a, b, c] = [0, 1, 2].map(|n| peers[n].join(&group, Role::Admin));
    let ours = peers[0].open(&chain, &a, "x").await;
    let theirs = peers[1].open(&chain, &b, "x").await;
    let late = add(&theirs, pattern(1_500_000), &[]).await;
    until(&ours, &late.id, BlockState::Available).await;
    theirs.shutdown().await;
    c.hold();
    group.remove(b.device(), []);
    tokio::time::sleep(Duration::from_secs(1)).await;
    // It does not know of the removal yet and asks.
    let third = peers[2].open(&chain, &c, "x").await;
    until(&third, &late.id, BlockState::Unavailable).await;
    assert!(peers[0].exchange.status().refused > 0);
    assert_eq!(peers[2].disk.blobs.list(BlobSpace::Envelope, chain).await.unwrap(), []);
}
