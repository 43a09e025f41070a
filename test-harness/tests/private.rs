//! Identities and private blocks through every layer but the transport: create, invite, join, add, read, crash, remove,
//! over bad simulated links; nothing private stands anywhere in plain sight.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::time::Duration;

use test_harness::invariant::{Places, no_plaintext};
use test_harness::sim::{LinkConditions, TraceHash, simulate};
use test_harness::world::{Crash, PrivateNode, World};
use tokio::io::AsyncWriteExt as _;
use walytis_core::id::{BlockId, ChainId};
use walytis_core::ledger::{BlockState, Content, Ledger as _, LedgerRead as _, NewBlock};
use walytis_identities::id::{Did, Role};
use walytis_identities::identity::Identity as _;
use walytis_identities::token::IdentityToken;

fn marker(world: &World) -> String {
    world.draw(|dice| dice.bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Joins as often as bad links make it necessary.
async fn admit(world: &World, by: &PrivateNode, other: &PrivateNode, did: &Did, role: Role) {
    let token = by.token(did, role).await;
    world.until("the joiner is in", async || other.join(&token).await.is_ok()).await;
}

async fn until_reads(world: &World, node: &PrivateNode, did: &Did, id: &BlockId, text: &str) {
    world
        .until("the private block is readable", async || node.read(did, id).await.is_ok_and(|read| read == text))
        .await;
}

async fn end(world: World, nodes: Vec<PrivateNode>) -> TraceHash {
    for node in nodes {
        node.stop().await;
    }
    world.end().await
}

/// Two devices of one identity write to each other over rough links; one of them dies in between.
async fn story(seed: u64) -> TraceHash {
    let world = World::new(seed, LinkConditions::ROUGH);
    world.hub().tap();
    let (a, b) = (world.private_node("a").await, world.private_node("b").await);
    let did = a.create("home").await;
    let [early, topic, late, lost] = [(); 4].map(|()| marker(&world));
    let one = a.add(&did, &early, &[&topic]).await.unwrap();
    admit(&world, &a, &b, &did, Role::Member).await;
    until_reads(&world, &b, &did, &one, &early).await;
    let info = b.ledger(&did).await.get(&one).await.unwrap().unwrap();
    assert_eq!(info.topics.iter().map(ToString::to_string).collect::<Vec<_>>(), [topic.as_str()]);
    assert_eq!(info.author.to_string(), a.ledger(&did).await.get(&one).await.unwrap().unwrap().author.to_string());
    let two = b.add(&did, &late, &[]).await.unwrap();
    until_reads(&world, &a, &did, &two, &late).await;
    // What is written while b is dead is there when it is back; what it had is there, too.
    let disk = b.crash(if seed.is_multiple_of(2) { Crash::Kill } else { Crash::PowerCut }).await;
    let three = a.add(&did, &lost, &[]).await.unwrap();
    let b = world.start_private(disk).await;
    assert_eq!(b.read(&did, &two).await.unwrap(), late, "acknowledged content is lost");
    for (id, text) in [(&one, &early), (&three, &lost)] {
        until_reads(&world, &b, &did, id, text).await;
    }
    nothing_in_plain_sight(&world, &[&a, &b], did.chain(), &[&early, &topic, &late, &lost]).await;
    end(world, vec![a, b]).await
}

async fn nothing_in_plain_sight(world: &World, nodes: &[&PrivateNode], chain: ChainId, markers: &[&str]) {
    let markers: Vec<_> = markers.iter().map(|marker| marker.as_bytes()).collect();
    let (chains, wire) = ([chain], world.hub().tapped());
    no_plaintext(Places { wire: &wire, ..Places::default() }, &markers).await.unwrap();
    for node in nodes {
        let (store, blobs) = (node.base().stored(), node.base().stored_blobs());
        let places = Places { stores: &[&store], blobs: &[&blobs], chains: &chains, ..Places::default() };
        no_plaintext(places, &markers).await.unwrap();
    }
}

#[test]
fn private_blocks_travel_between_devices_and_stand_nowhere_in_plain_sight() {
    const NAME: &str = "private::private_blocks_travel_between_devices_and_stand_nowhere_in_plain_sight";
    simulate(NAME, &[1, 2, 3, 4], story);
}

#[test]
fn the_same_seed_gives_the_same_story() {
    const NAME: &str = "private::the_same_seed_gives_the_same_story";
    let traces = simulate(NAME, &[5, 5, 5], story);
    assert!(traces.iter().all(|trace| *trace == traces[0]) || test_harness::sim::seeds(&[0]) != [0], "{traces:?}");
}

/// b is removed while the network is bad: it keeps what it had, reads nothing new, and nobody takes what it writes.
#[test]
fn a_removed_device_reads_nothing_new_and_nobody_takes_what_it_writes() {
    simulate("private::a_removed_device_reads_nothing_new_and_nobody_takes_what_it_writes", &[1, 2, 3], async |seed| {
        let world = World::new(seed, LinkConditions::ROUGH);
        let (a, b, c) = (world.private_node("a").await, world.private_node("b").await, world.private_node("c").await);
        let did = a.create("home").await;
        admit(&world, &a, &b, &did, Role::Member).await;
        admit(&world, &a, &c, &did, Role::Member).await;
        let before = a.add(&did, "before", &[]).await.unwrap();
        for node in [&b, &c] {
            until_reads(&world, node, &did, &before, "before").await;
        }
        let removed = b.identity(&did).controller();
        let done = a.identities().remove(&did, removed).await.unwrap();
        let knows = async || c.identity(&did).sending_epoch().await.is_ok_and(|epoch| epoch == done.op);
        world.until("c writes under the new keys", knows).await;
        let after = [a.add(&did, "after, a", &[]).await.unwrap(), c.add(&did, "after, c", &[]).await.unwrap()];
        // b may still believe that it is in; whatever it writes then counts nowhere.
        let forged = b.add(&did, "still here", &[]).await.ok();
        until_reads(&world, &c, &did, &after[0], "after, a").await;
        until_reads(&world, &a, &did, &after[1], "after, c").await;
        world.pass(Duration::from_secs(300)).await;
        for id in &after {
            assert!(b.read(&did, id).await.is_err(), "a removed device reads what came after");
        }
        assert_eq!(b.read(&did, &before).await.unwrap(), "before");
        for (node, id) in [&a, &c].into_iter().flat_map(|node| forged.iter().map(move |id| (node, id))) {
            assert!(node.read(&did, id).await.is_err(), "a removed device is listened to");
        }
        end(world, vec![a, b, c]).await;
    });
}

/// Somebody who knows DID, addresses and every block id, but has no invitation.
#[test]
fn an_outsider_with_a_forged_or_used_token_gets_in_nowhere() {
    simulate("private::an_outsider_with_a_forged_or_used_token_gets_in_nowhere", &[1], async |seed| {
        let world = World::new(seed, LinkConditions::CALM);
        let (a, b, out) =
            (world.private_node("a").await, world.private_node("b").await, world.private_node("outsider").await);
        let did = a.create("home").await;
        let secret = marker(&world);
        let block = a.add(&did, &secret, &[]).await.unwrap();
        let token = a.token(&did, Role::Member).await;
        b.join(&token).await.unwrap();
        until_reads(&world, &b, &did, &block, &secret).await;
        out.join(&token).await.unwrap_err();
        let mut forged: IdentityToken = token.parse().unwrap();
        forged.seed = walytis_core::secret::Secret::new(world.draw(|dice| dice.bytes()));
        out.join(&forged.to_text()).await.unwrap_err();
        out.base().meet(a.base()).await;
        out.base().meet(b.base()).await;
        world.pass(Duration::from_secs(120)).await;
        assert!(out.identities().list().is_empty());
        let stored = out.base().stored();
        let places = Places { stores: &[&stored], ..Places::default() };
        no_plaintext(places, &[secret.as_bytes(), block.digest()]).await.unwrap();
        end(world, vec![a, b, out]).await;
    });
}

/// Every 256 records a device signs the heads of the chain under its hybrid keys: every device then shows it for each of
/// them, and not for what came later.
#[test]
fn a_device_vouches_for_its_records_under_its_hybrid_keys() {
    simulate("private::a_device_vouches_for_its_records_under_its_hybrid_keys", &[1], async |seed| {
        let world = World::new(seed, LinkConditions::CALM);
        let (a, b) = (world.private_node("a").await, world.private_node("b").await);
        let did = a.create("home").await;
        admit(&world, &a, &b, &did, Role::Member).await;
        let blocks = (0..256).map(|n: u32| NewBlock { content: n.to_string().into(), topics: vec![] }).collect();
        let added = a.ledger(&did).await.add_many(blocks).await.unwrap();
        let (first, last) = (added[0].id, added[255].id);
        let of_b = b.add(&did, "of b", &[]).await.unwrap();
        let own = a.ledger(&did).await;
        let vouched = async || own.authorship(&first).await.unwrap().unwrap().checkpoint.is_some();
        world.until("a has made its checkpoint", vouched).await;
        let later = a.add(&did, "later", &[]).await.unwrap();
        until_reads(&world, &a, &did, &of_b, "of b").await;
        let (author, device) = (a.identity(&did).controller(), a.identity(&did).device_signer().public_key());
        for node in [&a, &b] {
            let ledger = node.ledger(&did).await;
            let here = async || ledger.authorship(&later).await.unwrap().is_some();
            world.until("the last record is here", here).await;
            for id in [&first, &last] {
                let who = ledger.authorship(id).await.unwrap().unwrap();
                assert_eq!((who.controller.to_string(), who.device), (author.to_string(), device));
                assert!(who.checkpoint.is_some(), "a checkpoint covers it");
            }
            for id in [&later, &of_b] {
                assert_eq!(ledger.authorship(id).await.unwrap().unwrap().checkpoint, None);
            }
            assert_eq!(ledger.authorship(&did.chain().0).await.unwrap(), None);
            assert_eq!(ledger.count().await.unwrap(), 258, "a checkpoint is no private block");
        }
        drop(own);
        end(world, vec![a, b]).await;
    });
}

/// A content of several chunks is under way over rough links. The sender and a reader die, another reader is removed.
#[test]
fn contents_arrive_through_deaths_and_a_removal_in_the_middle() {
    simulate("private::contents_arrive_through_deaths_and_a_removal_in_the_middle", &[1, 2, 3], async |seed| {
        let world = World::new(seed, LinkConditions::ROUGH);
        let (a, b, c) = (world.private_node("a").await, world.private_node("b").await, world.private_node("c").await);
        let did = a.create("home").await;
        admit(&world, &a, &b, &did, Role::Admin).await;
        admit(&world, &a, &c, &did, Role::Member).await;
        let text = "0123456789abcdef".repeat(400_000);
        let id = a.add(&did, &text, &[]).await.unwrap();
        let ledger = b.ledger(&did).await;
        let begun = async || {
            let state = ledger.get(&id).await.unwrap().map(|info| info.state);
            matches!(state, Some(BlockState::Partial { .. } | BlockState::Available))
        };
        world.until("b has some of it", begun).await;
        drop(ledger);
        let removed = c.identity(&did).controller();
        let done = a.identities().remove(&did, removed).await.unwrap();
        let knows = async || b.identity(&did).sending_epoch().await.is_ok_and(|epoch| epoch == done.op);
        world.until("b knows of the removal", knows).await;
        let late = a.add(&did, &text, &[]).await.unwrap();
        let (of_a, of_b) = (a.crash(Crash::Kill).await, b.crash(Crash::PowerCut).await);
        let (a, b) = (world.start_private(of_a).await, world.start_private(of_b).await);
        for block in [&id, &late] {
            until_reads(&world, &b, &did, block, &text).await;
            assert_eq!(a.read(&did, block).await.unwrap(), text);
        }
        world.pass(Duration::from_secs(120)).await;
        assert!(c.read(&did, &late).await.is_err(), "a removed device reads what came after");
        end(world, vec![a, b, c]).await;
    });
}

/// A device renews its signing keys while a content of its own is still being read: the block is whole, everybody reads
/// it, and the device itself still does after a restart.
#[test]
fn what_is_written_while_the_keys_are_renewed_is_read_by_all() {
    simulate("private::what_is_written_while_the_keys_are_renewed_is_read_by_all", &[1], async |seed| {
        let world = World::new(seed, LinkConditions::CALM);
        let (a, b) = (world.private_node("a").await, world.private_node("b").await);
        let did = a.create("home").await;
        admit(&world, &a, &b, &did, Role::Member).await;
        let mut written = Vec::new();
        for text in ["a short one".to_owned(), "0123456789abcdef".repeat(200_000)] {
            let (mut input, output) = tokio::io::duplex(64);
            let ledger = a.ledger(&did).await;
            let (begins, ends) = text.as_bytes().split_at(text.len() / 2);
            let content = Content::Reader(Box::new(output));
            let adding = ledger.add(NewBlock { content, topics: Vec::new() });
            let renewing = async {
                input.write_all(begins).await.unwrap();
                let before = a.identity(&did).device_signer().public_key();
                a.identities().renew_keys(&did).await.unwrap();
                assert_ne!(a.identity(&did).device_signer().public_key(), before);
                input.write_all(ends).await.unwrap();
                drop(input);
            };
            let (added, ()) = futures::join!(adding, renewing);
            let id = added.unwrap().id;
            drop(ledger);
            until_reads(&world, &a, &did, &id, &text).await;
            until_reads(&world, &b, &did, &id, &text).await;
            written.push((id, text));
        }
        // b is away: what a restart clears away here comes from nowhere.
        let of_b = b.stop().await;
        let a = world.start_private(a.stop().await).await;
        for (id, text) in &written {
            let info = a.ledger(&did).await.get(id).await.unwrap().unwrap();
            assert_eq!(info.state, BlockState::Available, "own content is gone");
            assert_eq!(a.read(&did, id).await.unwrap(), *text);
        }
        drop(of_b);
        end(world, vec![a]).await;
    });
}
