//! Chains on a node: names, life, removal, invitations.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use std::sync::Arc;

use walytis_core::block::Visibility;
use walytis_core::clock::{ManualClock, SeededEntropy};
use walytis_core::id::PeerId;
use walytis_core::ledger::{Ledger as _, LedgerControl as _, LedgerError, LedgerRead as _, NewBlock, SubscribeFrom};
use walytis_core::node::{
    ChainState, GenesisImport, InvitationError, InviteOptions, Listing, Node, NodeConfig, NodeError, NodeParts,
};
use walytis_core::store::{
    Batch, Direction, Durability, KeyRange, KvStore as _, MemoryBlobs, MemorySecrets, MemoryStore, SecretStore as _,
};

struct Bench {
    store: Arc<MemoryStore>,
    blobs: Arc<MemoryBlobs>,
    secrets: Arc<MemorySecrets>,
    clock: Arc<ManualClock>,
}

impl Bench {
    fn new() -> Self {
        Self {
            store: Arc::new(MemoryStore::new()),
            blobs: Arc::new(MemoryBlobs::new()),
            secrets: Arc::new(MemorySecrets::new()),
            clock: Arc::new(ManualClock::new(1_000)),
        }
    }

    async fn open(&self, seed: u64) -> Node {
        Node::open(NodeParts {
            store: self.store.clone(),
            blobs: self.blobs.clone(),
            secrets: self.secrets.clone(),
            replication: None,
            clock: self.clock.clone(),
            entropy: Arc::new(SeededEntropy::new(seed)),
            config: NodeConfig::default(),
        })
        .await
        .unwrap()
    }

    async fn keys(&self) -> usize {
        self.store.scan(KeyRange { start: vec![], end: None }, Direction::Forward, 100_000).await.unwrap().len()
    }
}

fn text(text: &str) -> NewBlock {
    NewBlock { content: text.to_owned().into(), topics: Vec::new() }
}

#[tokio::test]
async fn chains_are_found_by_name_id_and_prefix_after_reopening_too() {
    let bench = Bench::new();
    let node = bench.open(1).await;
    let notes = node.create_chain("notes", Visibility::Invited).await.unwrap().id();
    let photos = node.create_chain("photos", Visibility::Public).await.unwrap().id();
    let author = node.author().unwrap().public_key();
    node.shutdown().await;
    let node = bench.open(2).await;
    assert_eq!(node.author().unwrap().public_key(), author);
    let listed: Vec<_> = node.chains(Listing::All).into_iter().map(|entry| (entry.name, entry.id)).collect();
    assert!(listed.contains(&("notes".to_owned(), notes)) && listed.contains(&("photos".to_owned(), photos)));
    assert_eq!(listed.len(), 2);
    assert!(node.chains(Listing::All).iter().all(|entry| entry.state == ChainState::Open));
    let id = notes.to_string();
    for text in ["notes", "not", &id, &id[..30], &id[7..20]] {
        assert_eq!(node.chain(text).unwrap().id(), notes, "{text}");
    }
}

#[tokio::test]
async fn unknown_ambiguous_taken_and_bad_names_are_told_apart() {
    let bench = Bench::new();
    let node = bench.open(1).await;
    let id = node.create_chain("work", Visibility::Public).await.unwrap().id();
    node.create_chain("world", Visibility::Public).await.unwrap();
    assert!(matches!(node.chain("x").unwrap_err(), NodeError::UnknownChain { .. }));
    assert!(matches!(node.chain("").unwrap_err(), NodeError::UnknownChain { .. }));
    assert!(matches!(node.chain("wor").unwrap_err(), NodeError::AmbiguousChain { count: 2, .. }));
    assert!(matches!(node.chain("bafkrei").unwrap_err(), NodeError::AmbiguousChain { count: 2, .. }));
    let before = (bench.keys().await, bench.secrets.list("").await.unwrap());
    let taken = node.create_chain("work", Visibility::Invited).await.unwrap_err();
    assert!(matches!(taken, NodeError::NameTaken { .. }));
    for bad in ["", "a\nb", &"x".repeat(257), &id.to_string()] {
        let error = node.create_chain(bad, Visibility::Invited).await.unwrap_err();
        assert!(matches!(error, NodeError::BadName { .. }), "{bad:?}");
    }
    assert_eq!((bench.keys().await, bench.secrets.list("").await.unwrap()), before);
}

#[tokio::test]
async fn a_name_that_begins_another_still_means_itself() {
    let bench = Bench::new();
    let node = bench.open(1).await;
    let short = node.create_chain("team", Visibility::Public).await.unwrap().id();
    node.create_chain("team 2", Visibility::Public).await.unwrap();
    assert_eq!(node.chain("team").unwrap().id(), short);
}

#[tokio::test]
async fn deletion_leaves_no_byte_of_the_chain() {
    let bench = Bench::new();
    let node = bench.open(1).await;
    node.create_chain("kept", Visibility::Invited).await.unwrap();
    let before = (bench.keys().await, bench.secrets.list("").await.unwrap());
    let chain = node.create_chain("gone", Visibility::Invited).await.unwrap();
    let id = chain.id();
    chain.add(text("hello")).await.unwrap();
    let mut follower = chain.subscribe(SubscribeFrom::Name("me".to_owned())).await.unwrap();
    let event = follower.next().await.unwrap().unwrap();
    follower.ack(event.cursor()).await.unwrap();
    node.invite(&id, InviteOptions::default()).await.unwrap();
    chain.delete().await.unwrap();
    assert_eq!((bench.keys().await, bench.secrets.list("").await.unwrap()), before);
    assert!(matches!(node.chain("gone").unwrap_err(), NodeError::UnknownChain { .. }));
    assert!(matches!(chain.add(text("late")).await.unwrap_err(), LedgerError::Closed));
    assert_eq!(follower.next().await.unwrap(), None);
    node.create_chain("gone", Visibility::Invited).await.unwrap();
}

#[tokio::test]
async fn a_damaged_chain_harms_no_other() {
    let bench = Bench::new();
    let node = bench.open(1).await;
    let bad = node.create_chain("bad", Visibility::Public).await.unwrap().id();
    node.create_chain("good", Visibility::Public).await.unwrap();
    node.shutdown().await;
    let mut meta = vec![1];
    meta.extend_from_slice(bad.digest());
    meta.push(0);
    let mut batch = Batch::new();
    batch.put(meta.clone(), vec![1, 2, 3]);
    bench.store.commit(batch, Durability::Flushed).await.unwrap();
    let node = bench.open(2).await;
    let NodeError::Damaged { reason, .. } = node.chain("bad").unwrap_err() else { panic!("not damaged") };
    let hex: String = meta.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(reason.contains(&hex), "{reason}");
    node.chain("good").unwrap().add(text("still works")).await.unwrap();
    node.delete_chain(&bad).await.unwrap();
    assert_eq!(node.chains(Listing::All).len(), 1);
}

#[tokio::test]
async fn a_genesis_of_another_chain_is_refused_and_leaves_nothing() {
    let (a, b) = (Bench::new(), Bench::new());
    let (from, to) = (a.open(1).await, b.open(2).await);
    let one = from.create_chain("one", Visibility::Public).await.unwrap();
    let two = from.create_chain("two", Visibility::Public).await.unwrap().id();
    let file = one.core().file(&one.id().0).await.unwrap().unwrap();
    let added = one.add(text("no genesis")).await.unwrap().id;
    let later = one.core().file(&added).await.unwrap().unwrap();
    let before = b.keys().await;
    let import = |expected, file| GenesisImport { expected, file, secret: None, name: "one".to_owned() };
    let wrong = to.import_genesis(import(two, file.clone())).await.unwrap_err();
    assert!(matches!(wrong, NodeError::WrongChain { .. }));
    let wrong = to.import_genesis(import(one.id(), later)).await.unwrap_err();
    assert!(matches!(wrong, NodeError::WrongChain { .. }));
    assert_eq!(b.keys().await, before);
    assert!(to.chains(Listing::All).is_empty());
    let chain = to.import_genesis(import(one.id(), file.clone())).await.unwrap();
    assert_eq!(chain.count().await.unwrap(), 1);
    let again = to.import_genesis(GenesisImport { name: "other".to_owned(), ..import(one.id(), file) }).await;
    assert!(matches!(again.unwrap_err(), NodeError::AlreadyHere { .. }));
}

fn peer(n: u8) -> PeerId {
    PeerId::from_bytes(&[n]).unwrap()
}

#[tokio::test]
async fn an_invitation_is_good_for_its_uses_across_a_restart_and_no_more() {
    let bench = Bench::new();
    let node = bench.open(1).await;
    let id = node.create_chain("club", Visibility::Invited).await.unwrap().id();
    let options = InviteOptions { uses: 2, expires_at_ms: None, ..InviteOptions::default() };
    let key = node.invite(&id, options).await.unwrap().record.key;
    let secret = node.honour(&id, &key, &peer(1)).await.unwrap().secret.unwrap();
    // The same peer again: it crashed half-way.
    assert_eq!(node.honour(&id, &key, &peer(1)).await.unwrap().uses_left, 1);
    node.shutdown().await;
    let node = bench.open(2).await;
    assert_eq!(node.honour(&id, &key, &peer(2)).await.unwrap().secret.unwrap(), secret);
    assert!(matches!(node.honour(&id, &key, &peer(3)).await.unwrap_err(), InvitationError::UsedUp));
    assert_eq!(node.honour(&id, &key, &peer(2)).await.unwrap().uses_left, 0);
}

#[tokio::test]
async fn expired_revoked_and_foreign_invitations_are_told_apart() {
    let bench = Bench::new();
    let node = bench.open(1).await;
    let id = node.create_chain("club", Visibility::Invited).await.unwrap().id();
    let other = node.create_chain("other", Visibility::Invited).await.unwrap().id();
    let options = InviteOptions { uses: 5, expires_at_ms: Some(2_000), ..InviteOptions::default() };
    let key = node.invite(&id, options).await.unwrap().record.key;
    assert!(matches!(node.honour(&other, &key, &peer(1)).await.unwrap_err(), InvitationError::Unknown));
    node.honour(&id, &key, &peer(1)).await.unwrap();
    bench.clock.set_ms(2_000);
    assert!(matches!(node.honour(&id, &key, &peer(2)).await.unwrap_err(), InvitationError::Expired));
    bench.clock.set_ms(1_500);
    node.revoke(&id, &key).await.unwrap();
    assert!(matches!(node.honour(&id, &key, &peer(1)).await.unwrap_err(), InvitationError::Revoked));
    assert!(node.invitations(&id).await.unwrap()[0].revoked);
}

#[tokio::test]
async fn concurrent_joins_never_exceed_the_uses() {
    let bench = Bench::new();
    let node = bench.open(1).await;
    let id = node.create_chain("club", Visibility::Invited).await.unwrap().id();
    let key = node
        .invite(&id, InviteOptions { uses: 3, expires_at_ms: None, ..InviteOptions::default() })
        .await
        .unwrap()
        .record
        .key;
    let peers: Vec<_> = (0..20).map(peer_of).collect();
    let joins = peers.iter().map(|peer| node.honour(&id, &key, peer));
    let honoured = futures::future::join_all(joins).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(honoured, 3);
}

fn peer_of(n: u8) -> PeerId {
    peer(n + 100)
}
