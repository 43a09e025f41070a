//! An always-on keeper between members who are never up at the same time, with the identity of real nodes: it holds and
//! serves what it cannot open, and nobody else gets anything from it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::TryStreamExt as _;
use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use test_harness::invariant::{Places, no_plaintext};
use test_harness::sim::{LinkConditions, simulate};
use test_harness::world::{PrivateNode, World};
use tokio::task::JoinSet;
use walytis_core::id::BlockId;
use walytis_core::ledger::{BlockState, LedgerRead as _};
use walytis_core::net::Network as _;
use walytis_core::secret::Secret;
use walytis_identities::id::{Did, Role};
use walytis_identities::identity::{EpochUse, Identity as _, IdentityError};
use walytis_identities::token::TokenPeer;
use walytis_offchain::inbox::{INBOX, OutgoingState};

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

/// A keeper, and a node that only the contact card names, say that they have taken a message which they cannot even open: it
/// waits until a device that can takes it.
#[test]
fn a_message_that_only_a_keeper_claims_to_have_taken_still_arrives() {
    simulate("keeper::a_message_that_only_a_keeper_claims_to_have_taken_still_arrives", &[1, 2], async |seed| {
        let world = World::new(seed, LinkConditions::CALM);
        let (a, k, s) = (world.private_node("a").await, world.private_node("k").await, world.private_node("s").await);
        let (did, sender) = (a.create("home").await, s.create("sender").await);
        admit(&world, &a, &k, &did, Role::Keeper).await;
        let both = async || a.identities().contact_card(&did).unwrap().peers.len() == 2;
        world.until("the member knows the keeper", both).await;
        let mut to = a.identities().contact_card(&did).unwrap();
        s.identities().resolve_card(&to).await.unwrap();
        let asleep = a.stop().await;

        let other = world.hub().join(&Secret::new([100; 32]));
        to.peers.push(TokenPeer { peer: other.local_peer(), addresses: other.addresses() });
        k.inbox().shutdown().await;
        let keeper = Arc::clone(k.base().network());
        let (claims, mut claimed) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
        for mut letters in [keeper.accept(INBOX).unwrap(), other.accept(INBOX).unwrap()] {
            let claims = Arc::clone(&claims);
            claimed.spawn(async move {
                while let Some(mut incoming) = letters.recv().await {
                    let mut len = [0; 4];
                    let _read = incoming.stream.read_exact(&mut len).await;
                    let mut letter = vec![0; u32::from_be_bytes(len) as usize];
                    let _read = incoming.stream.read_exact(&mut letter).await;
                    claims.fetch_add(1, Ordering::Relaxed);
                    // Accepted.
                    let _sent = incoming.stream.write_all(&[0, 0, 0, 2, 1, 0]).await;
                    let _sent = incoming.stream.flush().await;
                    let _closed = incoming.stream.read(&mut [0; 1]).await;
                }
            });
        }
        let id = s.inbox().send(&sender, &to, b"to whoever can read it").await.unwrap();
        world.until("both were asked", async || claims.load(Ordering::Relaxed) >= 2).await;
        world.pass(Duration::from_secs(10)).await;
        let state = async || s.inbox().outbox().await.unwrap().iter().find(|one| one.id == id).map(|one| one.state);
        assert_eq!(state().await, Some(OutgoingState::Waiting));

        let a = world.start_private(asleep).await;
        a.base().meet(s.base()).await;
        world.until("a member takes it", async || state().await == Some(OutgoingState::Accepted)).await;
        let messages: Vec<_> = a.inbox().messages(&did).await.unwrap().try_collect().await.unwrap();
        assert_eq!(messages.iter().map(|one| &one.message[..]).collect::<Vec<_>>(), [b"to whoever can read it"]);
        claimed.shutdown().await;
        drop(keeper);
        other.shutdown().await;
        for node in [a, k, s] {
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
