//! Real nodes over the network in memory, in paused time: what one adds reaches all the others.

mod support;

use support::{Peer, World, contents};
use walytis_core::block::Visibility;

#[tokio::test(start_paused = true)]
async fn a_new_block_reaches_the_other_member() {
    let world = World::new();
    let (a, b) = (world.peer(1).await, world.peer(2).await);
    let chain = a.create("notes", Visibility::Public).await;
    b.take_in(&a, &chain).await;
    a.meet(&b).await;
    world.until_level(&[&a, &b], &chain).await;
    a.add(&chain, "first").await;
    world.until_level(&[&a, &b], &chain).await;
    b.add(&chain, "second").await;
    world.until_level(&[&a, &b], &chain).await;
    assert_eq!(contents(&b, &chain).await, ["first", "second"]);
    world.stop(vec![a, b]).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_joiner_has_everything() {
    let world = World::new();
    let (a, b) = (world.peer(1).await, world.peer(2).await);
    let chain = a.create("notes", Visibility::Invited).await;
    for round in 0..3 {
        let texts: Vec<_> = (0..400).map(|index| format!("{round}-{index}")).collect();
        a.add_many(&chain, &texts).await;
    }
    b.take_in(&a, &chain).await;
    a.meet(&b).await;
    world.until_level(&[&a, &b], &chain).await;
    assert_eq!(b.summary(&chain).count, 1_201);
    world.stop(vec![a, b]).await;
}

#[tokio::test(start_paused = true)]
async fn offline_additions_merge_to_the_same_canonical_order() {
    let world = World::new();
    let (a, b) = (world.peer(1).await, world.peer(2).await);
    let chain = a.create("notes", Visibility::Invited).await;
    b.take_in(&a, &chain).await;
    for text in ["a1", "a2", "a3"] {
        a.add(&chain, text).await;
    }
    for text in ["b1", "b2", "b3"] {
        b.add(&chain, text).await;
    }
    a.meet(&b).await;
    world.until_level(&[&a, &b], &chain).await;
    assert_eq!(contents(&a, &chain).await.len(), 6);
    assert_eq!(contents(&a, &chain).await, contents(&b, &chain).await);
    assert_eq!(a.summary(&chain).heads.len(), 2);
    world.stop(vec![a, b]).await;
}

#[tokio::test(start_paused = true)]
async fn partitions_that_heal_pairwise_converge() {
    let world = World::new();
    let peers = [world.peer(1).await, world.peer(2).await, world.peer(3).await];
    let [a, b, c] = &peers;
    let chain = a.create("notes", Visibility::Invited).await;
    b.take_in(a, &chain).await;
    c.take_in(a, &chain).await;
    a.meet(b).await;
    b.meet(c).await;
    a.meet(c).await;
    world.until_level(&[a, b, c], &chain).await;
    world.part(a, b);
    world.part(b, c);
    world.part(a, c);
    for (peer, name) in [(a, "a"), (b, "b"), (c, "c")] {
        for index in 0..20 {
            peer.add(&chain, &format!("{name}{index}")).await;
        }
    }
    world.heal(a, b);
    world.until_level(&[a, b], &chain).await;
    assert_eq!(a.summary(&chain).count, 41);
    world.heal(b, c);
    world.until_level(&[b, c], &chain).await;
    // What c knows reaches a through b, although the two cannot see each other.
    world.until_level(&[a, b, c], &chain).await;
    assert_eq!(c.summary(&chain).count, 61);
    let order = contents(a, &chain).await;
    assert_eq!(order, contents(b, &chain).await);
    assert_eq!(order, contents(c, &chain).await);
    world.stop(Vec::from(peers)).await;
}

#[tokio::test(start_paused = true)]
async fn more_concurrent_heads_than_a_block_has_parents_sync() {
    let world = World::new();
    let mut peers: Vec<Peer> = Vec::new();
    for seed in 1..=3 {
        peers.push(world.peer(seed).await);
    }
    let chain = peers[0].create("notes", Visibility::Public).await;
    for peer in &peers[1..] {
        peer.take_in(&peers[0], &chain).await;
    }
    let ids = peers[0].fan(&chain, 100).await;
    assert_eq!(ids.len(), 100);
    peers[0].meet(&peers[1]).await;
    peers[1].meet(&peers[2]).await;
    world.until_level(&peers.iter().collect::<Vec<_>>(), &chain).await;
    assert_eq!(peers[2].summary(&chain).heads.len(), 100);
    world.stop(peers).await;
}

#[tokio::test(start_paused = true)]
async fn a_blob_of_five_megabytes_arrives_and_equals() {
    let world = World::new();
    let (a, b) = (world.peer(1).await, world.peer(2).await);
    let chain = a.create("files", Visibility::Invited).await;
    b.take_in(&a, &chain).await;
    a.meet(&b).await;
    let bytes: Vec<u8> = (0..5_000_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let id = a.add_bytes(&chain, bytes.clone()).await;
    world.until_level(&[&a, &b], &chain).await;
    assert!(b.read(&chain, &id).await == bytes, "the bytes differ");
    world.stop(vec![a, b]).await;
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_resumes() {
    let world = World::new();
    let (a, b) = (world.peer(1).await, world.peer(2).await);
    let chain = a.create("notes", Visibility::Invited).await;
    let texts: Vec<_> = (0..2_000).map(|index| format!("{index} {}", "x".repeat(1_000))).collect();
    a.add_many(&chain, &texts).await;
    b.take_in(&a, &chain).await;
    a.meet(&b).await;
    let mut seen = 1;
    for _ in 0..3 {
        b.until_count(&chain, seen + 1).await;
        seen = b.summary(&chain).count;
        world.disturb(&a, &b);
    }
    world.until_level(&[&a, &b], &chain).await;
    assert_eq!(b.summary(&chain).count, 2_001);
    world.stop(vec![a, b]).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_knows_ids_but_not_the_secret_gets_no_block() {
    let world = World::new();
    let (a, outsider) = (world.peer(1).await, world.peer(9).await);
    let chain = a.create("notes", Visibility::Invited).await;
    a.add(&chain, "private").await;
    // It knows the chain id, even the genesis file, but not the secret.
    outsider.take_in_with(&a, &chain, Some([0xee; 32])).await;
    a.meet(&outsider).await;
    world.pass(std::time::Duration::from_secs(300)).await;
    assert_eq!(outsider.summary(&chain).count, 1, "a block reached an outsider");
    assert!(a.sync_peers(&chain).is_empty() && outsider.sync_peers(&chain).is_empty());
    world.stop(vec![a, outsider]).await;
}

/// a – b – c: what a adds travels to c by gossip that b relays, well before b would tell its heads.
#[tokio::test(start_paused = true)]
async fn gossip_reaches_members_without_a_session_to_the_author() {
    let world = World::new();
    let (a, b, c) = (world.peer(1).await, world.peer(2).await, world.peer(3).await);
    let chain = a.create("notes", Visibility::Invited).await;
    b.take_in(&a, &chain).await;
    c.take_in(&a, &chain).await;
    a.meet(&b).await;
    b.meet(&c).await;
    world.until_level(&[&a, &b, &c], &chain).await;
    world.pass(std::time::Duration::from_secs(2)).await;
    let start = tokio::time::Instant::now();
    a.add(&chain, "quick").await;
    world.until_level(&[&a, &b, &c], &chain).await;
    assert!(start.elapsed() < std::time::Duration::from_millis(100), "{:?}", start.elapsed());
    assert!(world.hub.delivered(&c.id()) > 0);
    for peer in [&a, &b, &c] {
        assert_eq!(world.hub.rejected(&peer.id()), 0, "an honest message was rejected");
    }
    world.stop(vec![a, b, c]).await;
}

/// Gossip is a hint only: with all of it lost, everything arrives all the same.
#[tokio::test(start_paused = true)]
async fn everything_arrives_although_all_gossip_is_lost() {
    let world = World::new();
    world.hub.filter_gossip(|_, _, _| false);
    let (a, b, c) = (world.peer(1).await, world.peer(2).await, world.peer(3).await);
    let chain = a.create("notes", Visibility::Invited).await;
    b.take_in(&a, &chain).await;
    c.take_in(&a, &chain).await;
    a.meet(&b).await;
    b.meet(&c).await;
    for index in 0..30 {
        a.add(&chain, &format!("a{index}")).await;
        c.add_bytes(&chain, vec![index; 60_000]).await;
    }
    world.until_level(&[&a, &b, &c], &chain).await;
    assert_eq!(b.summary(&chain).count, 61);
    world.stop(vec![a, b, c]).await;
}

/// Whoever waits for content that nobody has hears so, and gets it once somebody has it.
#[tokio::test(start_paused = true)]
async fn a_blob_arrives_when_its_holder_returns() {
    let world = World::new();
    let (a, b) = (world.peer(1).await, world.peer(2).await);
    let chain = a.create("files", Visibility::Invited).await;
    b.take_in(&a, &chain).await;
    a.meet(&b).await;
    world.until_level(&[&a, &b], &chain).await;
    let bytes = vec![7; 3_000_000];
    let id = a.add_bytes(&chain, bytes.clone()).await;
    b.until_count(&chain, 2).await;
    world.part(&a, &b);
    let mut start = Vec::new();
    let mut reader = walytis_core::ledger::LedgerRead::content(&b.chain(&chain), &id).await.unwrap();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut start).await;
    assert!(read.is_err(), "nobody connected has it");
    world.heal(&a, &b);
    world.pass(std::time::Duration::from_secs(120)).await;
    assert!(b.read(&chain, &id).await == bytes);
    world.stop(vec![a, b]).await;
}
