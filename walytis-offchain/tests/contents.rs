//! Contents over their life: found by topic, locked and opened, read in part, forgotten; bound to their place.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod support;

use std::time::Duration;

use futures::StreamExt as _;
use support::{PATIENCE, Peer, World, add, pattern, read, topic, until};
use tokio::io::AsyncReadExt as _;
use walytis_core::clock::SeededEntropy;
use walytis_core::id::{BlockId, ChainId};
use walytis_core::ledger::{
    BlockState, LedgerControl as _, LedgerError, LedgerEvent, LedgerRead as _, NewBlock, Order, Query, SubscribeFrom,
};
use walytis_core::store::{BlobSpace, BlobStore as _, Direction, KeyRange, KvStore as _};
use walytis_core::topic::Topic;
use walytis_identities::claim::Claim;
use walytis_identities::id::{OpId, Role};
use walytis_identities::identity::{EpochUse, Identity as _, MemoryIdentity};
use walytis_offchain::context::Context;
use walytis_offchain::record::{PrivateHeader, Record};
use walytis_offchain::{Consent, ContentState, ForgetRule, PrivateLedger};

async fn found(ledger: &PrivateLedger, text: &str) -> Result<Vec<BlockId>, LedgerError> {
    let query = Query { topics_any: vec![topic(text)], ..Query::default() };
    Ok(ledger.page(query).await?.blocks.into_iter().map(|info| info.id).collect())
}

/// Keys of one table of everything in a peer's store: 0x20 ‖ ledger tag (32) ‖ table ‖ the rest, of `len` bytes.
async fn keys(peer: &Peer, table: u8, len: usize) -> Vec<Vec<u8>> {
    let everything = KeyRange { start: vec![], end: None };
    let rows = peer.disk.store.scan(everything, Direction::Forward, usize::MAX).await.unwrap();
    let keys = rows.into_iter().map(|(key, _)| key.to_vec());
    keys.filter(|key| key.len() == 34 + len && key[33] == table).collect()
}

/// Entries of the topic index: hash (16) ‖ generation (8) ‖ block id (32).
async fn index_entries(peer: &Peer) -> Vec<Vec<u8>> {
    keys(peer, b't', 56).await
}

#[tokio::test(start_paused = true)]
async fn topics_are_found_across_epochs_and_restarts_and_each_device_hides_them_under_its_own_hash() {
    let world = World::new();
    let (mut peers, chain, group) = world.peers(2).await;
    let (a, b) = (peers[0].join(&group, Role::Admin), peers[1].join(&group, Role::Member));
    let ours = peers[0].open(&chain, &a, "x").await;
    let theirs = peers[1].open(&chain, &b, "x").await;
    let mut wanted = Vec::new();
    for n in 0..6 {
        let added = add(&ours, format!("{n}"), &[["even", "odd"][n % 2], "all"]).await;
        until(&theirs, &added.id, BlockState::Available).await;
        wanted.push(added.id);
        group.rekey();
    }
    for ledger in [&ours, &theirs] {
        assert_eq!(found(ledger, "all").await.unwrap(), wanted);
        assert_eq!(found(ledger, "odd").await.unwrap(), [wanted[1], wanted[3], wanted[5]]);
        assert_eq!(found(ledger, "none").await.unwrap(), []);
    }
    let (mine, others) = (index_entries(&peers[0]).await, index_entries(&peers[1]).await);
    assert_eq!((mine.len(), others.len()), (12, 12));
    let hash = |key: &Vec<u8>| key[34..50].to_vec();
    assert!(mine.iter().all(|entry| others.iter().all(|other| hash(entry) != hash(other))), "hashes are not keyed");
    let disk = peers.remove(1).stop(&[&theirs]).await;
    let peer = world.start(disk).await;
    let theirs = peer.open(&chain, &b, "x").await;
    assert_eq!(found(&theirs, "even").await.unwrap(), [wanted[0], wanted[2], wanted[4]]);
}

/// While the vault is locked records and envelopes still come; nothing can be read, and nobody can look for a topic.
#[tokio::test(start_paused = true)]
async fn a_vault_locked_at_run_time_shows_nothing_and_everything_still_comes() {
    let world = World::new();
    let (peers, chain, group) = world.peers(2).await;
    let (a, b) = (peers[0].join(&group, Role::Admin), peers[1].join(&group, Role::Member));
    let ours = peers[0].open(&chain, &a, "x").await;
    let theirs = peers[1].open(&chain, &b, "x").await;
    let before = add(&ours, "before", &["t"]).await;
    until(&theirs, &before.id, BlockState::Available).await;
    b.lock(true);
    let mut events = theirs.subscribe(SubscribeFrom::Now).await.unwrap();
    let small = add(&ours, "small", &["t"]).await;
    let large = add(&ours, pattern(2_500_000), &["t"]).await;
    for id in [&before.id, &small.id, &large.id] {
        let seen = until(&theirs, id, BlockState::Locked).await;
        assert_eq!(seen.topics, [], "a topic shows");
        assert!(theirs.content(id).await.is_err());
    }
    for order in [Order::Canonical, Order::Arrival] {
        let query = Query { topics_all: vec![topic("t")], order, ..Query::default() };
        let refused = theirs.page(query).await;
        assert!(matches!(refused, Err(LedgerError::Locked)), "{refused:?}");
    }
    assert!(matches!(theirs.content(&before.id).await.map(drop), Err(LedgerError::Locked)));
    b.lock(false);
    for id in [&small.id, &large.id] {
        let event = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap();
        assert!(
            matches!(&event, Some(LedgerEvent::Block(info)) if [small.id, large.id].contains(&info.id)),
            "{event:?}"
        );
        until(&theirs, id, BlockState::Available).await;
    }
    assert!(read(&theirs, &large.id).await == pattern(2_500_000));
    assert_eq!(found(&theirs, "t").await.unwrap(), [before.id, small.id, large.id]);
}

#[tokio::test(start_paused = true)]
async fn every_part_of_a_content_can_be_read_alone() {
    let world = World::new();
    let (mut peers, chain, group) = world.peers(1).await;
    let peer = peers.remove(0);
    let a = peer.join(&group, Role::Admin);
    let ledger = peer.open(&chain, &a, "x").await;
    let chunk = 1024 * 1024_u64;
    for len in [0, 300, chunk, 2 * chunk + 7] {
        let bytes = pattern(usize::try_from(len).unwrap());
        let id = add(&ledger, bytes.clone(), &[]).await.id;
        assert!(read(&ledger, &id).await == bytes, "{len}");
        let edges = [0, chunk - 1, chunk, chunk + 1, len.saturating_sub(1), len, u64::MAX];
        for start in edges {
            for end in edges {
                let mut part = Vec::new();
                ledger.content_range(&id, start..end).await.unwrap().read_to_end(&mut part).await.unwrap();
                let within = |at: u64| usize::try_from(at.min(len)).unwrap();
                let expected = bytes.get(within(start)..within(end)).unwrap_or_default();
                assert!(part == expected, "{start}..{end} of {len}");
            }
        }
    }
}

async fn objects(peer: &Peer, chain: ChainId) -> usize {
    peer.disk.blobs.list(BlobSpace::Envelope, chain).await.unwrap().len()
}

/// Forgotten at one of three devices: gone there and found by no topic, neither served nor fetched again, now and after a
/// restart; the other keeps it.
#[tokio::test(start_paused = true)]
async fn what_is_forgotten_here_is_gone_and_stays_gone() {
    let world = World::new();
    let (mut peers, chain, group) = world.peers(3).await;
    let [a, b, c] = [0, 1, 2].map(|n| peers[n].join(&group, Role::Member));
    world.hub.partition(&[peers[2].id()], &[peers[0].id(), peers[1].id()]);
    let ours = peers[0].open(&chain, &a, "x").await;
    let theirs = peers[1].open(&chain, &b, "x").await;
    let small = add(&ours, "small secret", &["t"]).await;
    let large = add(&ours, pattern(1_500_000), &["t"]).await;
    let kept = add(&ours, "kept", &["t"]).await;
    for id in [&small.id, &large.id, &kept.id] {
        until(&theirs, id, BlockState::Available).await;
    }
    assert_eq!(keys(&peers[1], b'm', 32).await.len(), 3);
    for id in [&small.id, &large.id, &small.id] {
        theirs.forget_local(id).await.unwrap();
        assert_eq!(theirs.get(id).await.unwrap().unwrap().state, BlockState::Forgotten);
        assert!(theirs.content(id).await.is_err());
    }
    assert!(matches!(theirs.forget_local(&chain.0).await, Err(LedgerError::UnknownBlock { .. })));
    assert_eq!((objects(&peers[1], chain).await, objects(&peers[0], chain).await), (0, 1));
    assert_eq!(keys(&peers[1], b'm', 32).await.len(), 1, "the small envelope still stands in the store");
    assert_eq!(found(&theirs, "t").await.unwrap(), [kept.id]);
    assert_eq!(theirs.status().await.unwrap().missing_contents, 0);
    // The third reaches only the device that has forgotten.
    let third = peers[2].open(&chain, &c, "x").await;
    world.hub.cut(&peers[0].id(), &peers[1].id());
    world.hub.heal(&peers[1].id(), &peers[2].id());
    until(&third, &kept.id, BlockState::Available).await;
    until(&third, &large.id, BlockState::Unavailable).await;
    until(&third, &small.id, BlockState::Unavailable).await;
    world.hub.heal(&peers[0].id(), &peers[1].id());
    let disk = peers.remove(1).stop(&[&theirs]).await;
    let peer = world.start(disk).await;
    let theirs = peer.open(&chain, &b, "x").await;
    peer.meet(&peers[0]).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    for id in [&small.id, &large.id] {
        let status = theirs.block_status(id).await.unwrap().unwrap();
        assert_eq!((status.state, status.bytes_done), (ContentState::Forgotten, 0));
    }
    assert_eq!(objects(&peer, chain).await, 0);
    assert!(read(&ours, &large.id).await == pattern(1_500_000));
}

#[tokio::test(start_paused = true)]
async fn forgetting_in_the_middle_of_a_transfer_ends_it() {
    let world = World::new();
    let (peers, chain, group) = world.peers(2).await;
    let (a, b) = (peers[0].join(&group, Role::Admin), peers[1].join(&group, Role::Admin));
    let ours = peers[0].open(&chain, &a, "x").await;
    let theirs = peers[1].open(&chain, &b, "x").await;
    let added = add(&ours, pattern(20 * 1024 * 1024), &[]).await;
    while objects(&peers[1], chain).await == 0 {
        tokio::task::yield_now().await;
    }
    theirs.forget_local(&added.id).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(objects(&peers[1], chain).await, 0);
    assert_eq!(theirs.get(&added.id).await.unwrap().unwrap().state, BlockState::Forgotten);
    let next = add(&ours, "next", &[]).await;
    until(&theirs, &next.id, BlockState::Available).await;
}

#[tokio::test(start_paused = true)]
async fn progress_is_told_for_each_block_and_in_all() {
    let world = World::new();
    let (peers, chain, group) = world.peers(2).await;
    let (a, b) = (peers[0].join(&group, Role::Admin), peers[1].join(&group, Role::Member));
    let ours = peers[0].open(&chain, &a, "x").await;
    let theirs = peers[1].open(&chain, &b, "x").await;
    let mut steps = theirs.progress();
    let len = 6 * 1024 * 1024;
    let added = add(&ours, pattern(len), &[]).await;
    let (mut bytes, mut states) = (Vec::new(), Vec::new());
    loop {
        let step = tokio::time::timeout(PATIENCE, steps.next()).await.unwrap().unwrap().unwrap();
        assert_eq!((step.block.id, step.block.bytes_total), (added.id, len as u64));
        bytes.push(step.block.bytes_done);
        states.push(step.block.state);
        if step.block.state == ContentState::Available {
            assert_eq!((step.missing_contents, step.missing_bytes), (0, 0));
            break;
        }
        assert_eq!((step.missing_contents, step.missing_bytes), (1, len as u64));
    }
    assert!(bytes.is_sorted() && states.contains(&ContentState::Partial), "{bytes:?} {states:?}");
    theirs.shutdown().await;
    assert!(steps.next().await.is_none(), "the stream outlives the ledger");
}

/// Appends a record that was made for another place.
async fn append(peer: &Peer, chain: &ChainId, layer: &str, record: &Record, by: &MemoryIdentity) -> BlockId {
    let topics = vec![Topic::overlay("offchain", layer).unwrap()];
    let blocks = vec![NewBlock { content: record.encode().into(), topics }];
    peer.chain(chain).append_many(blocks, by.device_signer()).await.unwrap()[0].id
}

/// The record of a block, as it stands on its chain.
async fn record(peer: &Peer, chain: &ChainId, id: &BlockId) -> Record {
    let mut bytes = Vec::new();
    peer.chain(chain).content(id).await.unwrap().read_to_end(&mut bytes).await.unwrap();
    Record::decode(&bytes).unwrap()
}

/// Members replay a record on another layer and on another chain, claim it for another author, under other heads or
/// another epoch, and put another envelope or nonce beside its header. None of it counts, and what it names is not
/// fetched for it.
#[tokio::test(start_paused = true)]
async fn records_and_envelopes_moved_elsewhere_are_refused() {
    let world = World::new();
    let (mut peers, chain, group) = world.peers(1).await;
    let peer = peers.remove(0);
    let (a, b) = (peer.join(&group, Role::Admin), group.admit([77; 32], peer.id(), Role::Member));
    let ledger = peer.open(&chain, &a, "x").await;
    let first = add(&ledger, "first", &["t"]).await;
    let second = add(&ledger, "second", &["t"]).await;
    let one = record(&peer, &chain, &first.id).await;
    let two = record(&peer, &chain, &second.id).await;
    let elsewhere = peer.open(&chain, &a, "other layer").await;
    let other_chain = peer.node.create_chain("other", walytis_core::block::Visibility::Public).await.unwrap().id();
    // On a chain that is not bound to the identity there are no records of it at all.
    let unbound = PrivateLedger::open(peer.parts(&other_chain, &a, "x")).await;
    assert!(matches!(unbound, Err(walytis_core::ledger::LedgerError::Refused { .. })), "{unbound:?}");
    group.bind(other_chain, walytis_identities::bound::RecordRules::default());
    let abroad = peer.open(&other_chain, &a, "x").await;
    let void = async |ledger: &PrivateLedger, id: BlockId| {
        let event = async {
            while ledger.get(&id).await.unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, event).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let state = ledger.get(&id).await.unwrap().unwrap().state;
        assert!(ledger.content(&id).await.is_err());
        state
    };
    let foreign = BlockState::Void { reason: "O-RECORD-01" };
    let replayed = append(&peer, &chain, "other layer", &one, &a).await;
    assert_eq!(void(&elsewhere, replayed).await, foreign);
    let replayed = append(&peer, &other_chain, "x", &one, &a).await;
    assert_eq!(void(&abroad, replayed).await, foreign);
    // Claimed by another author: for the true one the signature is wrong, for oneself the context.
    let stolen = append(&peer, &chain, "x", &one, &b).await;
    assert_eq!(void(&ledger, stolen).await, BlockState::Void { reason: "I-RECORD-02" });
    let mut claimed = one.clone();
    claimed.claim.author = b.controller();
    let claimed = append(&peer, &chain, "x", &claimed, &b).await;
    assert_eq!(void(&ledger, claimed).await, foreign);
    let mut changed = vec![one.clone(), one.clone(), one.clone()];
    changed[0].envelope = two.envelope;
    changed[1].nonce = two.nonce;
    changed[2].sealed_header.clone_from(&two.sealed_header);
    group.rekey();
    let heads = a.auth_heads().await;
    changed.push(Record {
        claim: walytis_identities::claim::Claim { auth_heads: heads.clone(), ..one.claim.clone() },
        ..one.clone()
    });
    changed.push(Record { epoch: heads[0], ..one.clone() });
    for record in changed {
        let id = append(&peer, &chain, "x", &record, &a).await;
        assert_eq!(void(&ledger, id).await, foreign, "{record:?}");
    }
    assert_eq!((ledger.count().await.unwrap(), elsewhere.count().await.unwrap()), (2, 0));
    assert_eq!(found(&ledger, "t").await.unwrap(), [first.id, second.id]);
    assert_eq!(read(&ledger, &first.id).await, b"first");
}

/// Records in which `by` names the envelope of `one` and gives it a rule of its own, by which it is over at once or may be
/// destroyed by `by` alone: under an epoch that nobody knows, and under the true one with a header that opens.
async fn claims_on(chain: &ChainId, one: &Record, len: u64, by: &MemoryIdentity) -> Vec<Record> {
    let claim = Claim { author: by.controller(), auth_heads: by.auth_heads().await };
    let header_key = by.derive(&one.epoch, EpochUse::RecordHeader).await.unwrap();
    let mut claims = Vec::new();
    for (n, expires_at_ms) in (0..).zip([None, Some(1)]) {
        let forget = ForgetRule { consent: Consent::Author, expires_at_ms };
        let unknown = Record { claim: claim.clone(), epoch: OpId([9; 32]), nonce: [n; 32], forget, ..one.clone() };
        let nonce = [n + 100; 32];
        let context = Context::new(chain, "x", &claim, &by.device_signer().public_key(), &one.epoch, &nonce);
        let header = PrivateHeader { len, ..PrivateHeader::default() };
        let sealed_header = header.seal(&header_key, &context, &one.envelope, &forget, &SeededEntropy::new(3));
        let opens = Record { claim: claim.clone(), nonce, forget, sealed_header, ..one.clone() };
        claims.extend([unknown, opens]);
    }
    // Many under epochs that nobody knows.
    for n in 0..if len < 100 { 20 } else { 0 } {
        let (forget, epoch) = (ForgetRule::default(), OpId([n + 50; 32]));
        claims.push(Record { claim: claim.clone(), epoch, nonce: [n + 50; 32], forget, ..one.clone() });
    }
    // Its own author cannot have it under another rule than at first, either.
    if one.claim.author == by.controller() {
        let forget = ForgetRule { consent: Consent::Author, expires_at_ms: None };
        let key = by.device_signer().public_key();
        let context = Context::new(chain, "x", &one.claim, &key, &one.epoch, &one.nonce);
        let header = PrivateHeader { len, ..PrivateHeader::default() };
        let sealed_header = header.seal(&header_key, &context, &one.envelope, &forget, &SeededEntropy::new(3));
        claims.push(Record { forget, sealed_header, ..one.clone() });
    }
    claims
}

/// A member names other records' envelopes in records of its own that are over, or that it may have destroyed alone, and
/// proposes that; an author does so with its own content under a kinder rule. Nothing is destroyed, at members that have the
/// content, at a keeper, which cannot open anything, and at one who comes later. What all give up is gone all the same,
/// however many records name it.
#[tokio::test(start_paused = true)]
async fn a_record_that_names_an_envelope_of_another_neither_destroys_nor_keeps_it() {
    let world = World::new();
    let (peers, chain, group) = world.peers(4).await;
    let roles = [Role::Admin, Role::Member, Role::Keeper];
    let [a, b, k] = [0, 1, 2].map(|n| peers[n].join(&group, roles[n]));
    let ours = peers[0].open(&chain, &a, "x").await;
    let theirs = peers[1].open(&chain, &b, "x").await;
    let kept = peers[2].open(&chain, &k, "x").await;
    let mut blocks = Vec::new();
    for content in [b"small".to_vec(), pattern(1_500_000)] {
        let id = add(&ours, content.clone(), &["t"]).await.id;
        until(&theirs, &id, BlockState::Available).await;
        until(&kept, &id, BlockState::Locked).await;
        blocks.push((id, content));
    }
    let mut hostile = Vec::new();
    for (id, content) in &blocks {
        let one = record(&peers[0], &chain, id).await;
        for (peer, ledger, by) in [(&peers[1], &theirs, &b), (&peers[0], &ours, &a)] {
            let mut named = Vec::new();
            for claim in claims_on(&chain, &one, content.len() as u64, by).await {
                named.push(append(peer, &chain, "x", &claim, by).await);
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
            ledger.propose_forget(&named, "").await.unwrap();
            hostile.extend(named);
        }
    }
    tokio::time::sleep(Duration::from_secs(90)).await;
    for (id, content) in &blocks {
        for ledger in [&ours, &theirs] {
            assert!(
                ledger.get(id).await.unwrap().unwrap().state == BlockState::Available
                    && read(ledger, id).await == *content
            );
        }
        assert_eq!(kept.get(id).await.unwrap().unwrap().state, BlockState::Locked);
    }
    // Who comes later can have it of the keeper alone.
    for peer in [0, 1] {
        world.hub.cut(&peers[peer].id(), &peers[3].id());
    }
    let c = peers[3].join(&group, Role::Member);
    let later = peers[3].open(&chain, &c, "x").await;
    for (id, content) in &blocks {
        until(&later, id, BlockState::Available).await;
        assert!(read(&later, id).await == *content);
    }
    for id in &hostile {
        assert!(later.content(id).await.is_err(), "a stolen envelope can be read");
    }
    let proposal = ours.propose_forget(&blocks.iter().map(|(id, _)| *id).collect::<Vec<_>>(), "").await.unwrap();
    for ledger in [&theirs, &later] {
        let seen = async {
            while ledger.proposal(&proposal).await.unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.unwrap();
        ledger.consent(&proposal).await.unwrap();
    }
    for (ledger, peer) in [&ours, &theirs, &kept, &later].into_iter().zip(&peers) {
        for (id, _) in &blocks {
            until(ledger, id, BlockState::Forgotten).await;
        }
        tokio::time::sleep(Duration::from_secs(90)).await;
        assert_eq!((objects(peer, chain).await, keys(peer, b'm', 32).await.len()), (0, 0), "something is left");
    }
}

/// One record in 200 blocks, by its own author: one content, fetched once, shown in all of them, and gone for all of them.
#[tokio::test(start_paused = true)]
async fn a_record_that_stands_on_the_chain_many_times_has_one_content() {
    let world = World::new();
    let (peers, chain, group) = world.peers(2).await;
    let (a, b) = (peers[0].join(&group, Role::Admin), peers[1].join(&group, Role::Member));
    let ours = peers[0].open(&chain, &a, "x").await;
    let first = add(&ours, pattern(1_500_000), &["t"]).await.id;
    let one = record(&peers[0], &chain, &first).await;
    let mut all = vec![first];
    for _ in 1..200 {
        all.push(append(&peers[0], &chain, "x", &one, &a).await);
    }
    let theirs = peers[1].open(&chain, &b, "x").await;
    for id in &all {
        until(&theirs, id, BlockState::Available).await;
    }
    assert!(read(&theirs, &all[199]).await == pattern(1_500_000));
    assert_eq!((objects(&peers[1], chain).await, keys(&peers[1], b'm', 32).await.len()), (1, 1));
    theirs.forget_local(&all[7]).await.unwrap();
    for id in &all {
        assert_eq!(theirs.get(id).await.unwrap().unwrap().state, BlockState::Forgotten);
    }
    assert_eq!((objects(&peers[1], chain).await, keys(&peers[1], b'm', 32).await.len()), (0, 0));
    assert_eq!(found(&theirs, "t").await.unwrap(), []);
}

/// A removal that becomes known while a ledger is closed takes effect at the next opening.
#[tokio::test(start_paused = true)]
async fn what_became_void_while_the_ledger_was_closed_is_retracted() {
    let world = World::new();
    let (peers, chain, group) = world.peers(2).await;
    let (a, b) = (peers[0].join(&group, Role::Admin), peers[1].join(&group, Role::Member));
    let ours = peers[0].open(&chain, &a, "x").await;
    let theirs = peers[1].open(&chain, &b, "x").await;
    let late = add(&theirs, "late", &["t"]).await;
    until(&ours, &late.id, BlockState::Available).await;
    let mut events = ours.subscribe(SubscribeFrom::Name("s".into())).await.unwrap();
    let shown = events.next().await.unwrap().unwrap();
    events.ack(shown.cursor()).await.unwrap();
    drop(events);
    // Under which heads all this was judged is written down a moment later.
    tokio::time::sleep(Duration::from_secs(5)).await;
    ours.shutdown().await;
    group.remove(b.device(), []);
    let ours = peers[0].open(&chain, &a, "x").await;
    let mut events = ours.subscribe(SubscribeFrom::Name("s".into())).await.unwrap();
    let event = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap();
    assert!(matches!(event, Some(LedgerEvent::Retracted { id, .. }) if id == late.id), "{event:?}");
    assert_eq!(ours.count().await.unwrap(), 0);
}
