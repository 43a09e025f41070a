//! Private ledgers on chains of their own, bound to an identity at their genesis: found by every device, closed to everybody
//! else, under the rules that their genesis fixes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::time::Duration;

use test_harness::sim::{LinkConditions, simulate};
use test_harness::world::{Crash, PrivateNode, World};
use tokio::io::AsyncReadExt as _;
use walytis_core::block::{Block, Visibility};
use walytis_core::chain::Append;
use walytis_core::id::{BlockId, ChainId};
use walytis_core::ledger::{BlockState, Content, Ledger as _, LedgerError, LedgerRead as _, NewBlock};
use walytis_core::node::{GovernedGenesis, Listing, NodeError};
use walytis_core::topic::Topic;
use walytis_identities::bound::{Binding, RecordRules, announcement, bound_topic};
use walytis_identities::claim::Claim;
use walytis_identities::id::{Did, Role};
use walytis_identities::identity::Identity as _;
use walytis_identities::node::{IdentitiesError, IdentityHandle};
use walytis_offchain::hybrid::{RECORD_CONTEXT, attach, detach, message};
use walytis_offchain::{PrivateLedger, PrivateParts};

const PLAIN: RecordRules = RecordRules { hybrid: false };
const HYBRID: RecordRules = RecordRules { hybrid: true };

/// Joins as often as bad links make it necessary.
async fn admit(world: &World, by: &PrivateNode, other: &PrivateNode, did: &Did, role: Role) {
    let token = by.token(did, role).await;
    world.until("the joiner is in", async || other.join(&token).await.is_ok()).await;
}

async fn bind(node: &PrivateNode, did: &Did, name: &str, rules: RecordRules) -> ChainId {
    node.identities().create_chain(did, name, rules).await.unwrap().chain().core().id()
}

fn has(node: &PrivateNode, did: &Did, chain: &ChainId) -> bool {
    node.identities().identity_on(did, chain).is_ok()
}

async fn add(ledger: &PrivateLedger, text: &str) -> BlockId {
    ledger.add(NewBlock { content: text.to_owned().into(), topics: vec![] }).await.unwrap().id
}

async fn read(ledger: &PrivateLedger, id: &BlockId) -> Option<String> {
    let mut text = String::new();
    ledger.content(id).await.ok()?.read_to_string(&mut text).await.ok()?;
    Some(text)
}

async fn until_reads(world: &World, ledger: &PrivateLedger, id: &BlockId, text: &str) {
    world.until("the block is readable", async || read(ledger, id).await.as_deref() == Some(text)).await;
}

async fn end(world: World, nodes: Vec<PrivateNode>) {
    for node in nodes {
        node.stop().await;
    }
    world.end().await;
}

/// One device binds a chain, before and after the other joins; both write on it, layers apart; the other dies in between. Each
/// ledger shows its own blocks only, and nobody shows them under another chain or layer.
#[test]
fn every_device_finds_bound_chains_and_writes_on_them() {
    simulate("bound::every_device_finds_bound_chains_and_writes_on_them", &[1, 2, 3], async |seed| {
        let world = World::new(seed, LinkConditions::ROUGH);
        let (a, b) = (world.private_node("a").await, world.private_node("b").await);
        let did = a.create("home").await;
        let early = bind(&a, &did, "early", PLAIN).await;
        let first = add(&a.ledger_on(&did, &early, "notes").await, "first").await;
        admit(&world, &a, &b, &did, Role::Member).await;
        let late = bind(&a, &did, "late", PLAIN).await;
        for chain in [&early, &late] {
            world.until("the other device has found the chain", async || has(&b, &did, chain)).await;
        }
        let names = |node: &PrivateNode| -> Vec<String> {
            node.identities().bound_chains(&did).unwrap().into_iter().map(|chain| chain.name).collect()
        };
        assert_eq!(names(&a).len(), 2);
        assert_eq!(names(&a), names(&b));
        let theirs = b.ledger_on(&did, &early, "notes").await;
        until_reads(&world, &theirs, &first, "first").await;
        let (notes, chat) = (b.ledger_on(&did, &late, "notes").await, b.ledger_on(&did, &late, "chat").await);
        let (one, two) = (add(&notes, "one").await, add(&chat, "two").await);
        let home = b.add(&did, "home", &[]).await.unwrap();
        let ours = [a.ledger_on(&did, &late, "notes").await, a.ledger_on(&did, &late, "chat").await];
        until_reads(&world, &ours[0], &one, "one").await;
        until_reads(&world, &ours[1], &two, "two").await;
        world.until("the own chain goes on", async || a.read(&did, &home).await.is_ok()).await;
        for (ledger, foreign) in [(&ours[0], &two), (&ours[1], &one), (&ours[0], &home), (&a.ledger(&did).await, &one)]
        {
            assert!(ledger.get(foreign).await.unwrap().is_none(), "{ledger:?} shows a block of another one");
        }
        let disk = b.crash(if seed % 2 == 0 { Crash::Kill } else { Crash::PowerCut }).await;
        let three = add(&ours[0], "three").await;
        let b = world.start_private(disk).await;
        assert!(has(&b, &did, &early) && has(&b, &did, &late), "a restart opens what is bound");
        let notes = b.ledger_on(&did, &late, "notes").await;
        assert_eq!(read(&notes, &one).await.as_deref(), Some("one"), "acknowledged content is lost");
        until_reads(&world, &notes, &three, "three").await;
        end(world, vec![a, b]).await;
    });
}

/// A removal has a cut for each chain: what was written on a bound chain before counts, nothing after, and the removed gets
/// nothing any more. A stranger gets nothing at all.
#[test]
fn a_removal_ends_at_its_cut_on_bound_chains_too() {
    simulate("bound::a_removal_ends_at_its_cut_on_bound_chains_too", &[1, 2], async |seed| {
        let world = World::new(seed, LinkConditions::ROUGH);
        let (a, b, c) = (world.private_node("a").await, world.private_node("b").await, world.private_node("c").await);
        let did = a.create("home").await;
        let chain = bind(&a, &did, "archive", PLAIN).await;
        for node in [&b, &c] {
            admit(&world, &a, node, &did, Role::Member).await;
            world.until("the chain is found", async || has(node, &did, &chain)).await;
        }
        let [ours, theirs, third] = [
            a.ledger_on(&did, &chain, "notes").await,
            b.ledger_on(&did, &chain, "notes").await,
            c.ledger_on(&did, &chain, "notes").await,
        ];
        let before = add(&theirs, "before").await;
        for ledger in [&ours, &third] {
            until_reads(&world, ledger, &before, "before").await;
        }
        let removed = b.identity(&did).controller();
        let done = a.identities().remove(&did, removed).await.unwrap();
        let knows = async || c.identity(&did).sending_epoch().await.is_ok_and(|epoch| epoch == done.op);
        world.until("c writes under the new keys", knows).await;
        let after = add(&third, "after").await;
        // b may still believe that it is in.
        let block = NewBlock { content: "still here".to_owned().into(), topics: vec![] };
        let late = theirs.add(block).await.ok().map(|info| info.id);
        until_reads(&world, &ours, &after, "after").await;
        world.pass(Duration::from_secs(300)).await;
        assert_eq!(read(&theirs, &after).await, None, "a removed device reads what came after");
        for ledger in [&ours, &third] {
            assert_eq!(read(ledger, &before).await.as_deref(), Some("before"), "the cut takes what it should leave");
            if let Some(late) = &late {
                assert_eq!(read(ledger, late).await, None, "a removed device is listened to");
            }
        }
        end(world, vec![a, b, c]).await;
    });
}

/// Who removes b has not heard yet of the chain that a bound and b wrote on: the cut names no heads of it. So nothing that b
/// wrote there counts, with nobody and not after a restart either; what the others write there does.
#[test]
fn a_removal_by_who_did_not_know_the_chain_takes_all_that_the_removed_wrote_on_it() {
    simulate("bound::a_removal_by_who_did_not_know_the_chain_takes…", &[1, 2], async |seed| {
        let world = World::new(seed, LinkConditions::CALM);
        let (a, b, c) = (world.private_node("a").await, world.private_node("b").await, world.private_node("c").await);
        let did = a.create("home").await;
        admit(&world, &a, &b, &did, Role::Member).await;
        admit(&world, &a, &c, &did, Role::Admin).await;
        let removed = b.identity(&did).controller();
        world.until("c knows b", async || c.identity(&did).role_of(&removed).is_some()).await;
        world.hub().partition(&[a.base().peer(), b.base().peer()], &[c.base().peer()]);
        let chain = bind(&a, &did, "archive", PLAIN).await;
        world.until("b has found the chain", async || has(&b, &did, &chain)).await;
        let (ours, theirs) = (a.ledger_on(&did, &chain, "notes").await, b.ledger_on(&did, &chain, "notes").await);
        let (one, two) = (add(&ours, "one").await, add(&theirs, "two").await);
        until_reads(&world, &ours, &two, "two").await;
        c.identities().remove(&did, removed).await.unwrap();
        assert!(!has(&c, &did, &chain), "c knew of it: the test shows nothing");
        world.hub().heal_all();
        world.until("c has found the chain", async || has(&c, &did, &chain)).await;
        let third = c.ledger_on(&did, &chain, "notes").await;
        until_reads(&world, &third, &one, "one").await;
        let void = async |ledger: &PrivateLedger| {
            let info = ledger.get(&two).await.unwrap();
            info.is_some_and(|info| matches!(info.state, BlockState::Void { .. }))
        };
        world.until("what the removed wrote is void", async || void(&ours).await).await;
        let three = add(&third, "three").await;
        until_reads(&world, &ours, &three, "three").await;
        world.pass(Duration::from_secs(60)).await;
        assert!(third.get(&two).await.unwrap().is_none_or(|info| matches!(info.state, BlockState::Void { .. })));
        assert_eq!(read(&theirs, &three).await, None, "a removed device reads what came after");
        assert_eq!((ours.count().await.unwrap(), third.count().await.unwrap()), (2, 2));
        drop(ours);
        let a = world.start_private(a.stop().await).await;
        let ours = a.ledger_on(&did, &chain, "notes").await;
        assert!(void(&ours).await && read(&ours, &two).await.is_none());
        assert_eq!(read(&ours, &one).await.as_deref(), Some("one"));
        end(world, vec![a, b, c]).await;
    });
}

/// A device leaves and deletes the identity while a chain is bound to it that it then opens, at one moment or another on its slow
/// disk: nothing of either chain is left, nor after a restart, and the device can come back.
#[test]
fn nothing_is_left_of_a_chain_that_was_being_opened_when_its_identity_was_deleted() {
    let seeds: Vec<u64> = (1..=24).collect();
    simulate("bound::nothing_is_left_of_a_chain_that_was_being_opened…", &seeds, async |seed| {
        let world = World::new(seed, LinkConditions::CALM);
        let (a, b) = (world.private_node("a").await, world.private_node("b").await);
        let did = a.create("home").await;
        admit(&world, &a, &b, &did, Role::Member).await;
        let b = world.start_private(b.stop().await.slow(Duration::from_secs(2))).await;
        let first = a.add(&did, "first", &[]).await.unwrap();
        world.until("they hear each other", async || b.read(&did, &first).await.is_ok()).await;
        bind(&a, &did, "archive", PLAIN).await;
        world.pass(world.draw(|dice| dice.within(Duration::from_secs(4)))).await;
        b.identities().leave(&did).await.unwrap();
        b.identities().forget(&did).await.unwrap();
        world.pass(Duration::from_secs(60)).await;
        assert_eq!(b.base().node().chains(Listing::All), [], "a chain is left");
        let b = world.start_private(b.stop().await).await;
        assert_eq!(b.base().node().chains(Listing::All), [], "a chain comes back");
        admit(&world, &a, &b, &did, Role::Member).await;
        world.until("the chain is found again", async || b.identities().bound_chains(&did).unwrap().len() == 1).await;
        end(world, vec![a, b]).await;
    });
}

/// Publishes on the identity's chain that a chain is bound to it.
async fn announce(by: &IdentityHandle, genesis: &Block) {
    let claim = Claim { author: by.controller(), auth_heads: by.auth_heads().await };
    let content = Content::Bytes(announcement(&claim, genesis).into());
    let append = Append { content, topics: vec![bound_topic().unwrap()], signer: by.device_signer() };
    by.chain().append_inline(append).await.unwrap();
}

fn genesis(node: &PrivateNode, by: &IdentityHandle, to: &Did) -> Block {
    let genesis = GovernedGenesis {
        chain_name: Some("sneaked in".to_owned()),
        overlay: Binding { did: *to, rules: PLAIN }.encode().into(),
        topics: vec![bound_topic().unwrap()],
        signer: by.device_signer(),
    };
    node.base().node().sign_genesis(genesis).unwrap()
}

/// Only an admin binds, and only to the identity that the genesis names; records stand on no other chain.
#[test]
fn what_was_not_bound_at_its_genesis_by_an_admin_is_no_chain_of_the_identity() {
    simulate("bound::what_was_not_bound_at_its_genesis_by_an_admin…", &[1], async |seed| {
        let world = World::new(seed, LinkConditions::CALM);
        let (a, b) = (world.private_node("a").await, world.private_node("b").await);
        let (did, other) = (a.create("home").await, a.create("work").await);
        admit(&world, &a, &b, &did, Role::Member).await;
        let (admin, member) = (a.identity(&did), b.identity(&did));
        let refused = b.identities().create_chain(&did, "mine", PLAIN).await.unwrap_err();
        assert!(refused.to_string().contains("admin"), "{refused}");
        let taken = a.identities().create_chain(&did, "work", PLAIN).await.unwrap_err();
        assert!(matches!(taken, IdentitiesError::Node(NodeError::NameTaken { .. })), "{taken:?}");
        for bad in ["", "a\nb", &"x".repeat(257), &did.chain().to_string()] {
            let refused = a.identities().create_chain(&did, bad, PLAIN).await.unwrap_err();
            assert!(matches!(refused, IdentitiesError::Node(NodeError::BadName { .. })), "{refused:?}");
        }
        // By a member; of another identity's chain; of a chain that is bound to nobody.
        announce(&member, &genesis(&b, &member, &did)).await;
        announce(&admin, &genesis(&a, &admin, &other)).await;
        let unbound = a.base().node().create_chain("plain", Visibility::Invited).await.unwrap();
        announce(&admin, &unbound.block(&unbound.id().0).await.unwrap().unwrap()).await;
        let good = bind(&a, &did, "archive", PLAIN).await;
        world.until("the good one is found", async || has(&b, &did, &good)).await;
        for node in [&a, &b] {
            assert_eq!(node.identities().bound_chains(&did).unwrap().len(), 1, "something was sneaked in");
        }
        assert!(a.identities().bound_chains(&other).unwrap().is_empty());
        // Neither the ledger nor the identity takes another chain.
        assert!(a.identities().identity_on(&did, &unbound.id()).is_err());
        let parts = |identity: IdentityHandle, chain: &walytis_core::chain::Chain| PrivateParts {
            identity: std::sync::Arc::new(identity),
            chain: chain.clone(),
            layer: "notes".to_owned(),
            store: a.base().store(),
            blobs: a.base().blobs(),
            exchange: None,
            clock: a.base().clock().clone(),
            entropy: a.base().entropy(),
        };
        let bound = a.identities().identity_on(&did, &good).unwrap();
        for parts in [
            parts(a.identity(&did), &unbound),
            parts(a.identity(&other), a.identity(&did).chain()),
            // Bound, but judged by somebody who looks at another chain.
            parts(a.identity(&did), bound.chain()),
        ] {
            let opened = PrivateLedger::open(parts).await;
            assert!(matches!(opened, Err(LedgerError::Refused { .. })), "{opened:?}");
        }
        // Authority ops do not enter on it, whoever writes them.
        let op = admin.chain().block(&did.chain().0).await.unwrap().unwrap();
        let append = Append {
            content: Content::Bytes(op.inline().unwrap().clone()),
            topics: vec![Topic::overlay("identity", "").unwrap()],
            signer: bound.device_signer(),
        };
        let appended = bound.chain().append_inline(append).await;
        assert!(appended.is_err(), "{appended:?}");
        drop((admin, member, bound, unbound));
        end(world, vec![a, b]).await;
    });
}

/// Appends the content of a record as whoever has this device's Ed25519 key could.
async fn forge(by: &IdentityHandle, overlay: &str, content: Vec<u8>) -> BlockId {
    let topics = vec![Topic::overlay(overlay, "notes").unwrap()];
    let blocks = vec![NewBlock { content: content.into(), topics }];
    by.chain().append_many(blocks, by.device_signer()).await.unwrap()[0].id
}

async fn content_of(by: &IdentityHandle, id: &BlockId) -> Vec<u8> {
    by.chain().block(id).await.unwrap().unwrap().inline().unwrap().to_vec()
}

/// Where the genesis asks for hybrid records, the Ed25519 key of a device alone makes none that count: neither content nor
/// consents.
#[test]
fn on_a_hybrid_chain_no_record_counts_without_its_post_quantum_signature() {
    simulate("bound::on_a_hybrid_chain_no_record_counts_without…", &[1], async |seed| {
        let world = World::new(seed, LinkConditions::CALM);
        let (a, b) = (world.private_node("a").await, world.private_node("b").await);
        let did = a.create("home").await;
        let chain = bind(&a, &did, "archive", HYBRID).await;
        admit(&world, &a, &b, &did, Role::Member).await;
        world.until("the chain is found", async || has(&b, &did, &chain)).await;
        assert_eq!(b.identities().bound_chains(&did).unwrap()[0].rules, HYBRID);
        let (ours, theirs) = (a.ledger_on(&did, &chain, "notes").await, b.ledger_on(&did, &chain, "notes").await);
        let (one, two) = (add(&ours, "one").await, add(&theirs, "two").await);
        until_reads(&world, &theirs, &one, "one").await;
        until_reads(&world, &ours, &two, "two").await;
        let who = theirs.authorship(&one).await.unwrap().unwrap();
        assert!(who.hybrid && who.checkpoint.is_none(), "{who:?}");

        let forger = b.identities().identity_on(&did, &chain).unwrap();
        let three = content_of(&forger, &add(&theirs, "three").await).await;
        let two_signed = content_of(&forger, &two).await;
        let (record, signature) = detach(&two_signed).unwrap();
        let other = forger.sign("another context", b"anything").await.unwrap();
        // The same record, signed for the topic of another layer.
        let topic = Topic::overlay("offchain", "elsewhere").unwrap();
        let elsewhere = message(&chain, &topic, &forger.device_signer().public_key(), record);
        let elsewhere = forger.sign(RECORD_CONTEXT, &elsewhere).await.unwrap();
        let bad = [
            record.to_vec(),
            attach(record.to_vec(), &other),
            attach(record.to_vec(), &elsewhere),
            // A signature that holds, of another record.
            attach(detach(&three).unwrap().0.to_vec(), &signature),
        ];
        for content in bad {
            let id = forge(&forger, "offchain", content).await;
            for ledger in [&ours, &theirs] {
                world.until("the forged record is judged", async || ledger.get(&id).await.unwrap().is_some()).await;
                let state = ledger.get(&id).await.unwrap().unwrap().state;
                assert_eq!(state, BlockState::Void { reason: "O-RECORD-02" });
                assert!(read(ledger, &id).await.is_none());
            }
        }
        assert_eq!((ours.count().await.unwrap(), theirs.count().await.unwrap()), (3, 3));

        // Votes need it, too: b's word alone is not enough if b's post-quantum key did not sign it.
        let proposal = ours.propose_forget(&[one], "").await.unwrap();
        world.until("it is proposed", async || theirs.proposal(&proposal).await.unwrap().is_some()).await;
        theirs.consent(&proposal).await.unwrap();
        world.until("all have consented", async || read(&ours, &one).await.is_none()).await;
        let second = ours.propose_forget(&[two], "").await.unwrap();
        let claim = Claim { author: forger.controller(), auth_heads: forger.auth_heads().await };
        let unsigned = [claim.encode(), vec![0x01, 0x01], second.digest().to_vec()].concat();
        forge(&forger, "forget", unsigned).await;
        world.pass(Duration::from_secs(60)).await;
        assert_eq!(read(&ours, &two).await.as_deref(), Some("two"), "a forged consent counts");
        assert_eq!(ours.proposal(&second).await.unwrap().unwrap().consents.len(), 1);
        drop(forger);
        end(world, vec![a, b]).await;
    });
}
