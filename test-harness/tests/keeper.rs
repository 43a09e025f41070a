//! An always-on keeper between members who are never up at the same time, with the identity of real nodes: it holds and
//! serves what it cannot open, and nobody else gets anything from it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use test_harness::invariant::{Places, no_plaintext};
use test_harness::sim::{LinkConditions, simulate};
use test_harness::world::{PrivateNode, World};
use walytis_core::id::BlockId;
use walytis_core::ledger::{BlockState, LedgerRead as _};
use walytis_identities::id::{Did, Role};
use walytis_identities::identity::{EpochUse, Identity as _, IdentityError};

async fn admit(world: &World, by: &PrivateNode, other: &PrivateNode, did: &Did, role: Role) {
    let token = by.token(did, role).await;
    world.until("the joiner is in", async || other.join(&token).await.is_ok()).await;
}

async fn until_kept(world: &World, keeper: &PrivateNode, did: &Did, id: &BlockId) {
    let state = async || keeper.ledger(did).await.get(id).await.unwrap().map(|info| info.state);
    world.until("the keeper holds it", async || state().await == Some(BlockState::Locked)).await;
}

async fn until_reads(world: &World, node: &PrivateNode, did: &Did, id: &BlockId, text: &str) {
    world.until("it is readable", async || node.read(did, id).await.is_ok_and(|read| read == text)).await;
}

/// What was written before the keeper came, a short and a long content after; the author goes before the reader comes and
/// the other way round. Then all of them consent, one after the other, and the keeper destroys what it held.
#[test]
fn a_keeper_serves_members_who_are_never_up_together() {
    simulate("keeper::a_keeper_serves_members_who_are_never_up_together", &[1, 2], async |seed| {
        let world = World::new(seed, LinkConditions::ROUGH);
        let (a, k, r) = (world.private_node("a").await, world.private_node("k").await, world.private_node("r").await);
        let did = a.create("home").await;
        let marker: String = world.draw(|dice| dice.bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        let long = marker.repeat(2_000);
        let before = a.add(&did, &marker, &[&marker]).await.unwrap();
        admit(&world, &a, &r, &did, Role::Member).await;
        admit(&world, &a, &k, &did, Role::Keeper).await;
        until_kept(&world, &k, &did, &before).await;
        let at_reader = r.stop().await;

        let (short, long_one) = (a.add(&did, &marker, &[]).await.unwrap(), a.add(&did, &long, &[]).await.unwrap());
        for id in [&short, &long_one] {
            until_kept(&world, &k, &did, id).await;
        }
        let at_author = a.stop().await;

        let r = world.start_private(at_reader).await;
        until_reads(&world, &r, &did, &before, &marker).await;
        until_reads(&world, &r, &did, &short, &marker).await;
        until_reads(&world, &r, &did, &long_one, &long).await;
        let answer = r.add(&did, "answer", &[]).await.unwrap();
        until_kept(&world, &k, &did, &answer).await;
        let at_reader = r.stop().await;

        let a = world.start_private(at_author).await;
        until_reads(&world, &a, &did, &answer, "answer").await;
        let proposal = a.ledger(&did).await.propose_forget(&[long_one], "").await.unwrap();
        let proposed = async || k.ledger(&did).await.proposal(&proposal).await.unwrap().is_some();
        world.until("the keeper has the proposal", proposed).await;
        a.stop().await;
        let r = world.start_private(at_reader).await;
        let theirs = r.ledger(&did).await;
        world.until("the reader has the proposal", async || theirs.proposal(&proposal).await.unwrap().is_some()).await;
        theirs.consent(&proposal).await.unwrap();
        let kept = k.ledger(&did).await;
        let gone = async || kept.get(&long_one).await.unwrap().unwrap().state == BlockState::Forgotten;
        world.until("the keeper has destroyed it", gone).await;

        // It opens nothing, writes nothing, and its disk holds no word of it.
        assert_eq!(kept.get(&before).await.unwrap().unwrap().topics, []);
        assert!(k.read(&did, &short).await.is_err() && k.add(&did, "by a keeper", &[]).await.is_err());
        let identity = k.identity(&did);
        let epoch = r.identity(&did).sending_epoch().await.unwrap();
        let derived = identity.derive(&epoch, EpochUse::ContentWrap).await;
        assert!(matches!(derived, Err(IdentityError::NoEpochSecret { .. })), "a keeper has a content key");
        let (store, blobs) = (k.base().stored(), k.base().stored_blobs());
        let chains = [did.chain()];
        let places = Places { stores: &[&store], blobs: &[&blobs], chains: &chains, ..Places::default() };
        no_plaintext(places, &[marker.as_bytes()]).await.unwrap();
        drop((kept, theirs, identity));
        for node in [k, r] {
            node.stop().await;
        }
        world.end().await;
    });
}

/// The rule about who may hold ciphertext, asked of the real state: a keeper all of it, a reader and a member what the history
/// policy lets them, a stranger and a removed keeper nothing.
#[test]
fn a_keeper_may_hold_every_epoch_until_it_is_removed() {
    simulate("keeper::a_keeper_may_hold_every_epoch_until_it_is_removed", &[1], async |seed| {
        let world = World::new(seed, LinkConditions::CALM);
        let (a, k, out) =
            (world.private_node("a").await, world.private_node("k").await, world.private_node("out").await);
        let did = a.create("home").await;
        let handle = a.identity(&did);
        let first = handle.sending_epoch().await.unwrap();
        admit(&world, &a, &k, &did, Role::Keeper).await;
        let second = handle.sending_epoch().await.unwrap();
        assert_ne!(first, second);
        let (keeper, stranger) = (k.base().peer(), out.base().peer());
        world.until("the keeper's card is here", async || handle.may_read(&keeper, &second).await).await;
        assert!(handle.may_read(&keeper, &first).await, "what was written before it came is kept, too");
        let none = walytis_identities::id::OpId([7; 32]);
        assert!(!handle.may_read(&keeper, &none).await && !handle.may_read(&stranger, &second).await);
        let controller = k.identity(&did).controller();
        a.identities().remove(&did, controller).await.unwrap();
        assert!(!handle.may_read(&keeper, &first).await && !handle.may_read(&keeper, &second).await);
        drop(handle);
        for node in [a, k, out] {
            node.stop().await;
        }
        world.end().await;
    });
}
