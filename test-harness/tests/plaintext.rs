//! The search for plaintext finds what was planted, wherever it was, and nothing else; and of an invited chain nothing
//! but its members' streams and stores shows anything.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use test_harness::invariant::{Places, no_plaintext};
use test_harness::sim::{LinkConditions, simulate};
use test_harness::world::World;
use walytis_core::block::Visibility;
use walytis_core::ledger::{Ledger as _, NewBlock};
use walytis_core::store::{MemoryBlobs, MemoryStore};
use walytis_core::topic::Topic;

/// Text of 64 letters that nothing contains by chance; also allowed in topics.
fn marker(world: &World) -> String {
    world.draw(|dice| dice.bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Markers in inline content, in a topic and at the end of large content of a plain public chain are found in the
/// stores of both members, in the large content and on the wire; one that was never written is found nowhere.
#[test]
fn planted_markers_are_found_in_every_place_and_others_in_none() {
    simulate("plaintext::planted_markers_are_found_in_every_place_and_others_in_none", &[1], async |seed| {
        let world = World::new(seed, LinkConditions::CALM);
        let [small, topic, large, unwritten] = [(); 4].map(|()| marker(&world));
        world.hub().tap();
        let (nodes, chain) = world.members(2, Visibility::Public).await;
        // With a session open blocks travel on it; gossip is sealed even on public chains.
        let has_session = || nodes[0].sync(&chain).is_some_and(|status| !status.peers.is_empty());
        world.until("a session is open", async || has_session()).await;
        let topics = vec![Topic::user(&topic).unwrap()];
        let block = NewBlock { content: format!("before {small} behind").into(), topics };
        nodes[0].chain(&chain).add(block).await.unwrap();
        let mut bytes = vec![7; 1_500_000];
        bytes.extend_from_slice(large.as_bytes());
        let file = nodes[0].add(&chain, bytes).await;
        world.until_level(&[&nodes[0], &nodes[1]], &chain).await;
        world.until("the content comes", async || nodes[1].read(&chain, &file).await.is_ok()).await;
        let stores: Vec<MemoryStore> = nodes.iter().map(|node| node.stored()).collect();
        let blobs: Vec<MemoryBlobs> = nodes.iter().map(|node| node.stored_blobs()).collect();
        let wire = world.hub().tapped();
        let chains = [chain];
        for (store, blobs) in stores.iter().zip(&blobs) {
            let in_store = Places { stores: &[store], ..Places::default() };
            let in_blobs = Places { blobs: &[blobs], chains: &chains, ..Places::default() };
            no_plaintext(in_store, &[small.as_bytes()]).await.unwrap_err();
            no_plaintext(in_store, &[topic.as_bytes()]).await.unwrap_err();
            no_plaintext(in_blobs, &[large.as_bytes()]).await.unwrap_err();
            no_plaintext(in_store, &[unwritten.as_bytes(), large.as_bytes()]).await.unwrap();
            no_plaintext(in_blobs, &[unwritten.as_bytes(), small.as_bytes()]).await.unwrap();
        }
        // The simulated network shows what runs within the transport's encryption.
        let on_wire = Places { wire: &wire, ..Places::default() };
        for found in [&small, &topic, &large] {
            no_plaintext(on_wire, &[unwritten.as_bytes(), found.as_bytes()]).await.unwrap_err();
        }
        no_plaintext(on_wire, &[unwritten.as_bytes()]).await.unwrap();
        world.stop(nodes).await;
    });
}

#[test]
fn a_search_of_nothing_or_for_nothing_is_no_success() {
    simulate("plaintext::a_search_of_nothing_or_for_nothing_is_no_success", &[1], async |_| {
        let (store, wire) = (MemoryStore::new(), [vec![1; 100]]);
        let empty = Places { stores: &[&store], ..Places::default() };
        no_plaintext(empty, &[&[9; 32]]).await.unwrap_err();
        let full = Places { wire: &wire, ..Places::default() };
        no_plaintext(full, &[]).await.unwrap_err();
        no_plaintext(full, &[b"short"]).await.unwrap_err();
        no_plaintext(full, &[&[9; 32]]).await.unwrap();
    });
}

/// A member's secrets and a joiner's invitation are nowhere in plain sight, not even on its own disk beside the vault.
#[test]
fn no_secret_of_a_chain_stands_in_a_store_or_travels_but_for_the_join() {
    simulate("plaintext::no_secret_of_a_chain_stands_in_a_store_or_travels_but_for_the_join", &[1], async |seed| {
        let world = World::new(seed, LinkConditions::CALM);
        let (nodes, chain) = world.members(2, Visibility::Invited).await;
        let invitation = nodes[0].invite(&chain, Default::default()).await.unwrap();
        world.hub().tap();
        nodes[0].add(&chain, "something to talk about").await;
        nodes[1].add(&chain, "and more").await;
        world.until_level(&[&nodes[0], &nodes[1]], &chain).await;
        let access = nodes[0].chain(&chain).core().access();
        let (session, gossip) = (access.session_secret(), access.gossip_keys().remove(0).secret);
        let stores = [nodes[0].stored(), nodes[1].stored()];
        let wire = world.hub().tapped();
        let places = Places { stores: &[&stores[0], &stores[1]], wire: &wire, ..Places::default() };
        let secrets = [&session.expose()[..], gossip.expose(), invitation.seed.expose()];
        no_plaintext(places, &secrets).await.unwrap();
        drop(access);
        world.stop(nodes).await;
    });
}
