//! Messages between identities over bad links: every controller gets each once, whoever is offline, lies or is blocked.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::time::Duration;

use futures::TryStreamExt as _;
use test_harness::sim::{LinkConditions, SimNetwork, simulate};
use test_harness::world::{Crash, PrivateNode, World};
use walytis_core::id::Address;
use walytis_core::net::{Network as _, NetworkError};
use walytis_core::secret::Secret;
use walytis_core::store::{Direction, KeyRange};
use walytis_identities::contact::ContactCard;
use walytis_identities::id::{Did, Role};
use walytis_identities::token::TokenPeer;
use walytis_offchain::inbox::{INBOX, InboxError, MESSAGE_MAX, MessageId, OutgoingState, Policy, Received};

async fn messages(node: &PrivateNode, did: &Did) -> Vec<Received> {
    node.inbox().messages(did).await.unwrap().try_collect().await.unwrap()
}

async fn texts(node: &PrivateNode, did: &Did) -> Vec<String> {
    messages(node, did).await.iter().map(|one| String::from_utf8_lossy(&one.message).into_owned()).collect()
}

async fn outgoing(node: &PrivateNode, id: &MessageId) -> Option<OutgoingState> {
    node.inbox().outbox().await.unwrap().iter().find(|one| one.id == *id).map(|one| one.state)
}

async fn until_out(world: &World, node: &PrivateNode, id: &MessageId, wanted: OutgoingState) {
    world.until("the outbox shows it", async || outgoing(node, id).await == Some(wanted)).await;
}

async fn until_reads(world: &World, node: &PrivateNode, did: &Did, text: &str) {
    world.until("the message is here", async || texts(node, did).await.contains(&text.to_owned())).await;
}

async fn admit(world: &World, by: &PrivateNode, other: &PrivateNode, did: &Did) {
    let token = by.token(did, Role::Member).await;
    world.until("the joiner is in", async || other.join(&token).await.is_ok()).await;
}

fn card(node: &PrivateNode, did: &Did) -> ContactCard {
    node.identities().contact_card(did).unwrap()
}

/// Sends, asking again as long as the links keep the receiver from being resolved.
async fn send(world: &World, node: &PrivateNode, from: &Did, to: &ContactCard, text: &str) -> MessageId {
    loop {
        match node.inbox().send(from, to, text.as_bytes()).await {
            Ok(id) => return id,
            Err(InboxError::Identities(_)) => world.pass(Duration::from_secs(1)).await,
            Err(error) => panic!("{error}"),
        }
    }
}

async fn end(world: World, nodes: Vec<PrivateNode>) {
    for node in nodes {
        node.stop().await;
    }
    world.end().await;
}

/// The receiver has two devices; the sender is a stranger with a contact card. Receipts come back; both devices show each
/// message once, also when the sender delivers it a second time, to the other device.
#[test]
fn a_message_of_a_stranger_reaches_every_controller_once_and_receipts_come_back() {
    const NAME: &str = "inbox::a_message_of_a_stranger_reaches_every_controller_once_and_receipts_come_back";
    simulate(NAME, &[1, 2], async |seed| {
        let world = World::new(seed, LinkConditions::CALM);
        let (a, b, s) = (world.private_node("a").await, world.private_node("b").await, world.private_node("s").await);
        let (home, stranger) = (a.create("home").await, s.create("stranger").await);
        admit(&world, &a, &b, &home).await;
        let to = card(&a, &home);
        let id = send(&world, &s, &stranger, &to, "hello, both of you").await;
        until_out(&world, &s, &id, OutgoingState::Accepted).await;
        for node in [&a, &b] {
            until_reads(&world, node, &home, "hello, both of you").await;
            let got = messages(node, &home).await;
            assert_eq!((got.len(), got[0].from, got[0].id, got[0].opened), (1, stranger, id, false));
            assert_eq!(got[0].reply.did, stranger);
        }
        let read = messages(&b, &home).await.remove(0);
        b.inbox().mark_opened(&home, &read).await.unwrap();
        b.inbox().mark_opened(&home, &read).await.unwrap();
        until_out(&world, &s, &id, OutgoingState::Opened).await;
        world.until("a sees that it was opened", async || messages(&a, &home).await[0].opened).await;
        assert_eq!(messages(&a, &home).await.len(), 1);
        // Too long, and taking back.
        let long = s.inbox().send(&stranger, &to, &vec![0; MESSAGE_MAX + 1]).await;
        assert!(matches!(long, Err(InboxError::TooLong)));
        s.inbox().discard(&id).await.unwrap();
        assert!(matches!(s.inbox().discard(&id).await, Err(InboxError::Unknown)));
        end(world, vec![a, b, s]).await;
    });
}

/// Nobody of the receiver is there when the message is sent, then the sender dies too; both come back.
#[test]
fn a_message_waits_for_an_offline_receiver_and_outlives_its_sender() {
    const NAME: &str = "inbox::a_message_waits_for_an_offline_receiver_and_outlives_its_sender";
    simulate(NAME, &[1, 2], async |seed| {
        let world = World::new(seed, LinkConditions::ROUGH);
        let (a, s) = (world.private_node("a").await, world.private_node("s").await);
        let (home, stranger) = (a.create("home").await, s.create("stranger").await);
        let to = card(&a, &home);
        // Known once, the receiver need not be resolved again.
        let first = send(&world, &s, &stranger, &to, "first").await;
        until_out(&world, &s, &first, OutgoingState::Accepted).await;
        let asleep = a.crash(Crash::Kill).await;
        let second = s.inbox().send(&stranger, &to, b"second").await.unwrap();
        world.pass(Duration::from_secs(300)).await;
        assert_eq!(outgoing(&s, &second).await, Some(OutgoingState::Waiting));
        let attempts = s.inbox().outbox().await.unwrap().iter().map(|one| one.attempts).max().unwrap();
        assert!((2..12).contains(&attempts), "{attempts} attempts in five minutes");
        let s = world.start_private(s.crash(Crash::PowerCut).await).await;
        assert_eq!(outgoing(&s, &second).await, Some(OutgoingState::Waiting), "the outbox forgot it");
        let a = world.start_private(asleep).await;
        until_reads(&world, &a, &home, "second").await;
        until_out(&world, &s, &second, OutgoingState::Accepted).await;
        assert_eq!(texts(&a, &home).await.len(), 2);
        end(world, vec![a, s]).await;
    });
}

/// What one device decides holds on the other, which is the one that is asked.
#[test]
fn blocked_and_unknown_senders_are_refused_by_every_device() {
    const NAME: &str = "inbox::blocked_and_unknown_senders_are_refused_by_every_device";
    simulate(NAME, &[1, 2], async |seed| {
        let world = World::new(seed, LinkConditions::ROUGH);
        let (a, b, s) = (world.private_node("a").await, world.private_node("b").await, world.private_node("s").await);
        let (home, stranger) = (a.create("home").await, s.create("stranger").await);
        admit(&world, &a, &b, &home).await;
        let to = card(&b, &home);
        let blocked = async |wanted: bool| {
            let knows = async || b.inbox().rules(&home).await.unwrap().blocked.contains(&stranger) == wanted;
            world.until("the other device knows", knows).await;
        };
        a.inbox().block(&home, stranger).await.unwrap();
        blocked(true).await;
        let refused = send(&world, &s, &stranger, &to, "let me in").await;
        until_out(&world, &s, &refused, OutgoingState::Refused).await;
        a.inbox().unblock(&home, stranger).await.unwrap();
        a.inbox().set_policy(&home, Policy::Known).await.unwrap();
        blocked(false).await;
        let known = async || b.inbox().rules(&home).await.unwrap().policy == Policy::Known;
        world.until("the other device knows", known).await;
        let unknown = send(&world, &s, &stranger, &to, "it is me").await;
        until_out(&world, &s, &unknown, OutgoingState::Refused).await;
        a.inbox().allow(&home, stranger).await.unwrap();
        let allowed = async || b.inbox().rules(&home).await.unwrap().allowed.contains(&stranger);
        world.until("the other device knows", allowed).await;
        let taken = send(&world, &s, &stranger, &to, "a friend").await;
        until_out(&world, &s, &taken, OutgoingState::Accepted).await;
        until_reads(&world, &a, &home, "a friend").await;
        assert_eq!(texts(&a, &home).await, ["a friend"]);
        end(world, vec![a, b, s]).await;
    });
}

/// A stranger seals to the receiver what nobody signed, what somebody else signed for another, what is damaged, and floods.
#[test]
fn forged_letters_are_refused_and_floods_end_at_the_limit() {
    const NAME: &str = "inbox::forged_letters_are_refused_and_floods_end_at_the_limit";
    simulate(NAME, &[1], async |seed| {
        let world = World::new(seed, LinkConditions::default());
        let (a, s) = (world.private_node("a").await, world.private_node("s").await);
        let (home, stranger) = (a.create("home").await, s.create("stranger").await);
        let to = card(&a, &home);
        let good = send(&world, &s, &stranger, &to, "honest").await;
        until_out(&world, &s, &good, OutgoingState::Accepted).await;
        let context = "walytis/offchain/inbox/v1";
        let anonymous = s.identities().seal_known(&home, context, b"no letter", None).await.unwrap().encode();
        let signed = s.identities().seal_known(&home, context, b"no letter", Some(&stranger)).await.unwrap().encode();
        let other = s.identities().seal_known(&home, "another purpose", b"x", Some(&stranger)).await.unwrap().encode();
        let mut damaged = signed.clone();
        *damaged.last_mut().unwrap() ^= 1;
        // 0 accepted, 1 later, 2 not here, 3 refused.
        for (letter, answer) in [(&anonymous, 3), (&signed, 3), (&other, 1), (&damaged, 1), (&b"noise".to_vec(), 3)] {
            assert_eq!(ask(&s, &a, letter).await.unwrap(), [1, answer], "{} bytes", letter.len());
        }
        assert_eq!(texts(&a, &home).await, ["honest"]);
        // More at once than a sender may: the rest waits, and comes as the limit lets it.
        for n in 0..40 {
            s.inbox().send(&stranger, &to, format!("{n}").as_bytes()).await.unwrap();
        }
        world.pass(Duration::from_secs(5)).await;
        let at_once = texts(&a, &home).await.len();
        assert!((30..=33).contains(&at_once), "{at_once} at once");
        let all = async || s.inbox().outbox().await.unwrap().iter().all(|one| one.state == OutgoingState::Accepted);
        world.until("the last one comes", all).await;
        assert_eq!(texts(&a, &home).await.len(), 41);
        end(world, vec![a, s]).await;
    });
}

/// Speaks the protocol as its format document describes it.
async fn ask(from: &PrivateNode, to: &PrivateNode, letter: &[u8]) -> Result<Vec<u8>, NetworkError> {
    use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let network = from.base().network();
    let peer = to.base().network().local_peer();
    let addresses: Vec<Address> = to.base().network().addresses();
    network.connect(Some(&peer), &addresses).await?;
    let mut stream = network.open(&peer, INBOX).await?;
    let frame = [&u32::try_from(letter.len()).unwrap().to_be_bytes()[..], letter].concat();
    stream.write_all(&frame).await.unwrap();
    stream.flush().await.unwrap();
    let mut len = [0; 4];
    stream.read_exact(&mut len).await.unwrap();
    let mut answer = vec![0; u32::from_be_bytes(len) as usize];
    stream.read_exact(&mut answer).await.unwrap();
    Ok(answer)
}

/// Rows that stand in a node's store of identities that others told it of.
async fn foreign_rows(node: &PrivateNode) -> usize {
    let range = KeyRange { start: vec![0x10, 0x10], end: Some(vec![0x10, 0x14]) };
    node.base().store().scan(range, Direction::Forward, usize::MAX).await.unwrap().len()
}

/// Whoever writes under a new identity each time is not even asked for where the rules say no; where they do not, only so many
/// are at once, and of those nothing is kept but who sent a message that was taken.
#[test]
fn strangers_cannot_make_a_node_resolve_or_store_them_without_end() {
    const NAME: &str = "inbox::strangers_cannot_make_a_node_resolve_or_store_them_without_end";
    simulate(NAME, &[1], async |seed| {
        let world = World::new(seed, LinkConditions::CALM);
        let (a, s) = (world.private_node("a").await, world.private_node("s").await);
        let home = a.create("home").await;
        let to = card(&a, &home);
        let mut strangers = Vec::new();
        for n in 0..12 {
            strangers.push(s.create(&format!("stranger {n}")).await);
        }
        let known = async || {
            let mut known = 0;
            for stranger in &strangers {
                known += usize::from(a.identities().document(stranger, None).await.is_ok());
            }
            known
        };
        a.inbox().set_policy(&home, Policy::Known).await.unwrap();
        for stranger in &strangers[..6] {
            let id = send(&world, &s, stranger, &to, "it is me").await;
            until_out(&world, &s, &id, OutgoingState::Refused).await;
        }
        a.inbox().set_policy(&home, Policy::Everybody).await.unwrap();
        a.inbox().block(&home, strangers[6]).await.unwrap();
        let blocked = send(&world, &s, &strangers[6], &to, "let me in").await;
        until_out(&world, &s, &blocked, OutgoingState::Refused).await;
        assert_eq!((known().await, foreign_rows(&a).await), (0, 0), "somebody was asked for");
        // Sealed right, signed by whom it says, and no letter: nobody is asked for it.
        let context = "walytis/offchain/inbox/v1";
        for stranger in &strangers[7..] {
            let none = s.identities().seal_known(&home, context, b"none", Some(stranger)).await.unwrap().encode();
            assert_eq!(ask(&s, &a, &none).await.unwrap(), [1, 3]);
        }
        assert_eq!((known().await, foreign_rows(&a).await), (0, 0));
        let others: Vec<&Did> = strangers[..6].iter().chain(&strangers[7..]).collect();
        for stranger in &others {
            send(&world, &s, stranger, &to, "hello").await;
        }
        world.pass(Duration::from_secs(8)).await;
        assert_eq!((known().await, texts(&a, &home).await.len()), (8, 8), "all at once");
        for _ in 0..60 {
            if texts(&a, &home).await.len() == others.len() {
                break;
            }
            world.pass(Duration::from_secs(10)).await;
        }
        assert_eq!(texts(&a, &home).await.len(), others.len(), "the others come one after the other");
        assert!(foreign_rows(&a).await > 0, "who sent a message is known after a restart, too");
        end(world, vec![a, s]).await;
    });
}

/// A node without anything on it, which knows where another is.
async fn raw(world: &World, number: u8, to: &PrivateNode) -> SimNetwork {
    let network = world.hub().join(&Secret::new([number; 32]));
    let (peer, addresses) = (to.base().network().local_peer(), to.base().network().addresses());
    network.connect(Some(&peer), &addresses).await.unwrap();
    network
}

/// Streams are opened and nothing is said on them, by one node and by many; somebody else is answered all the same, soon.
#[test]
fn silent_streams_keep_nobody_out() {
    simulate("inbox::silent_streams_keep_nobody_out", &[1, 2], async |seed| {
        let world = World::new(seed, LinkConditions::CALM);
        let (a, s) = (world.private_node("a").await, world.private_node("s").await);
        let (home, stranger) = (a.create("home").await, s.create("stranger").await);
        let (to, peer) = (card(&a, &home), a.base().network().local_peer());
        let first = send(&world, &s, &stranger, &to, "first").await;
        until_out(&world, &s, &first, OutgoingState::Accepted).await;
        for (round, nodes) in [1_u8, 16].into_iter().enumerate() {
            let mut silent = Vec::new();
            for number in 0..nodes {
                silent.push(raw(&world, 100 + 20 * u8::try_from(round).unwrap() + number, &a).await);
            }
            let mut streams = Vec::new();
            for network in silent.iter().cycle().take(32) {
                streams.push(network.open(&peer, INBOX).await);
            }
            let begun = world.elapsed();
            let id = s.inbox().send(&stranger, &to, b"let me through").await.unwrap();
            until_out(&world, &s, &id, OutgoingState::Accepted).await;
            let took = world.elapsed() - begun;
            assert!(took < Duration::from_secs(6), "{took:?} beside {nodes} silent nodes");
            drop(streams);
            for network in silent {
                network.shutdown().await;
            }
        }
        end(world, vec![a, s]).await;
    });
}

/// A contact card names a node that takes letters and never answers. What waits for it, messages and the receipts of messages
/// with such a reply card, keeps nothing else waiting, and leaves room in the outbox.
#[test]
fn whoever_never_answers_keeps_no_other_message_waiting() {
    simulate("inbox::whoever_never_answers_keeps_no_other_message_waiting", &[1, 2], async |seed| {
        let world = World::new(seed, LinkConditions::CALM);
        let (a, s) = (world.private_node("a").await, world.private_node("s").await);
        let gone = world.private_node("gone").await;
        let (home, me, away) = (a.create("home").await, s.create("me").await, gone.create("away").await);
        let to = card(&a, &home);
        let silent = world.hub().join(&Secret::new([100; 32]));
        let mut taken = silent.accept(INBOX).unwrap();
        let hole = TokenPeer { peer: silent.local_peer(), addresses: silent.addresses() };
        let nowhere = ContactCard { did: away, peers: vec![hole] };
        let known = send(&world, &s, &me, &card(&gone, &away), "are you there?").await;
        until_out(&world, &s, &known, OutgoingState::Accepted).await;
        let theirs = gone.inbox().send(&away, &card(&s, &me), b"yes").await.unwrap();
        until_out(&world, &gone, &theirs, OutgoingState::Accepted).await;
        let asleep = gone.stop().await;
        let message = messages(&s, &me).await.remove(0);
        for n in 0..140_u8 {
            let one = Received { id: MessageId([n; 32]), reply: nowhere.clone(), ..message.clone() };
            s.inbox().mark_opened(&me, &one).await.unwrap();
        }
        let waits = s.inbox().send(&me, &nowhere, b"hello?").await.unwrap();
        let held = taken.recv().await.unwrap();
        let begun = world.elapsed();
        let id = send(&world, &s, &me, &to, "hello").await;
        until_out(&world, &s, &id, OutgoingState::Accepted).await;
        let took = world.elapsed() - begun;
        assert!(took < Duration::from_secs(5), "{took:?} beside a node that never answers");
        assert_eq!(outgoing(&s, &waits).await, Some(OutgoingState::Waiting));
        // Whoever it was for comes back, and gets it.
        let gone = world.start_private(asleep).await;
        gone.base().meet(s.base()).await;
        until_reads(&world, &gone, &away, "hello?").await;
        until_out(&world, &s, &waits, OutgoingState::Accepted).await;
        drop(held);
        silent.shutdown().await;
        end(world, vec![a, s, gone]).await;
    });
}
