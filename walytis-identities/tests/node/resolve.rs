//! Resolving: what controllers say is merged, and what is known only grows.

use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use walytis_core::net::{MemoryHub, Network as _};
use walytis_core::secret::Secret;
use walytis_identities::did::VersionId;
use walytis_identities::id::Role;
use walytis_identities::identity::Identity as _;
use walytis_identities::node::IdentitiesError;

use crate::rig::{Machine, framed, until};

#[tokio::test(start_paused = true)]
async fn a_card_is_enough_to_resolve_and_the_controllers_heard_are_counted() {
    let hub = MemoryHub::new();
    let (a, b, stranger) =
        (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await, Machine::start(&hub, 9).await);
    let did = a.create().await;
    a.admit(&did, &b, Role::Member).await;
    let heads = a.identity(&did).auth_heads().await;
    until("both know both", async || a.identities.contact_card(&did).unwrap().peers.len() == 2).await;
    let card = a.identities.contact_card(&did).unwrap().to_string().parse().unwrap();
    let resolved = stranger.identities.resolve_card(&card).await.unwrap();
    assert_eq!((resolved.did, resolved.heads.clone()), (did, heads.clone()));
    assert_eq!((resolved.answers, resolved.heard_from, resolved.own), (2, 2, false));
    assert!(resolved.refused.is_empty());
    let document = stranger.identities.document(&did, None).await.unwrap();
    assert_eq!(document, a.identities.document(&did, None).await.unwrap());
    assert_eq!(document.metadata.version_id, VersionId::new(heads).unwrap().to_string());

    // Without anybody to ask: as of what was known, heard from nobody.
    let (_a, _b) = (a.stop().await, b.stop().await);
    let again = stranger.restart().await.identities.resolve_card(&card).await.unwrap();
    assert_eq!((again.heads, again.answers, again.heard_from), (resolved.heads, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_no_controllers_tells_nothing_and_a_removed_one_neither() {
    let hub = MemoryHub::new();
    let (a, b, stranger) =
        (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await, Machine::start(&hub, 9).await);
    let did = a.create().await;
    let unresolved = stranger.identities.resolve(&did, &b.network.addresses()).await;
    let Err(IdentitiesError::Unresolved { reason, .. }) = unresolved else { panic!("{unresolved:?}") };
    assert!(reason.contains("knows nothing of this identity"), "{reason}");
    a.admit(&did, &b, Role::Admin).await;
    a.identities.remove(&did, b.identity(&did).controller()).await.unwrap();
    until("b knows it", async || b.identities.show(&did).unwrap().role.is_none()).await;
    assert!(stranger.identities.resolve(&did, &b.network.addresses()).await.is_err());
}

/// Two controllers that were parted know different things; together they tell all of it.
#[tokio::test(start_paused = true)]
async fn answers_are_merged_and_a_cache_never_goes_back() {
    let hub = MemoryHub::new();
    let (a, b, stranger) =
        (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await, Machine::start(&hub, 9).await);
    let did = a.create().await;
    a.admit(&did, &b, Role::Admin).await;
    let before = a.identity(&did).auth_heads().await;
    until("b is level", async || b.identity(&did).auth_heads().await == before).await;
    hub.cut(&a.peer(), &b.peer());
    let one = a.identities.rekey(&did).await.unwrap().op;
    let newer = stranger.identities.resolve(&did, &a.network.addresses()).await.unwrap();
    assert_eq!((newer.heads, newer.heard_from), (vec![one], 1));

    // b is behind: what it says takes nothing back.
    hub.cut(&a.peer(), &stranger.peer());
    let older = stranger.identities.resolve(&did, &b.network.addresses()).await.unwrap();
    assert_eq!((older.heads, older.answers, older.heard_from), (vec![one], 1, 1));

    // Each knows one that the other does not.
    let two = b.identities.rekey(&did).await.unwrap().op;
    let merged = stranger.identities.resolve(&did, &b.network.addresses()).await.unwrap();
    let mut both = vec![one, two];
    both.sort_unstable();
    assert_eq!(merged.heads, both);
    let stranger = stranger.restart().await;
    let stored = stranger.identities.document(&did, None).await.unwrap();
    assert_eq!(stored.metadata.version_id, VersionId::new(both).unwrap().to_string());
}

/// `?versionId=` shows what was, and a version that is not known is not guessed.
#[tokio::test(start_paused = true)]
async fn an_earlier_version_is_shown_as_it_was() {
    let hub = MemoryHub::new();
    let (a, b, stranger) =
        (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await, Machine::start(&hub, 9).await);
    let did = a.create().await;
    a.admit(&did, &b, Role::Member).await;
    let then = VersionId::new(a.identity(&did).auth_heads().await).unwrap();
    let device = b.identity(&did).device().to_string();
    a.identities.remove(&did, b.identity(&did).controller()).await.unwrap();
    stranger.identities.resolve(&did, &a.network.addresses()).await.unwrap();
    let names = |document: &walytis_identities::did::DidResolution| {
        document.document.authentication.iter().any(|id| id.contains(&device))
    };
    let now = stranger.identities.document(&did, None).await.unwrap();
    let past = stranger.identities.document(&did, Some(&then)).await.unwrap();
    assert!(!names(&now) && names(&past));
    assert_eq!(past.metadata.version_id, then.to_string());
    let later = VersionId::new(vec![a.identities.rekey(&did).await.unwrap().op]).unwrap();
    assert!(matches!(stranger.identities.document(&did, Some(&later)).await, Err(IdentitiesError::Unresolved { .. })));
}

/// What travels shows membership, and nothing that is sealed: no private part of a card, no content, no other block.
#[tokio::test(start_paused = true)]
async fn an_answer_holds_no_block_but_the_genesis_and_no_private_part_of_a_card() {
    let hub = MemoryHub::new();
    let (a, b) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await);
    let did = a.create().await;
    a.admit(&did, &b, Role::Member).await;
    let block = a.write(&did, "something written").await;
    until("both know both", async || a.identities.contact_card(&did).unwrap().peers.len() == 2).await;
    let asker = hub.join(&Secret::new([200; 32]));
    asker.connect(None, &a.network.addresses()).await.unwrap();
    let mut stream = asker.open(&a.peer(), "/walytis/resolve/1").await.unwrap();
    stream.write_all(&framed(&[&[0x01][..], did.chain().digest(), &[0, 0]].concat())).await.unwrap();
    stream.close().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.ends_with(&framed(&[0x01, 0x03, 0x00])), "the answer ends");
    let holds = |bytes: &[u8]| answer.windows(bytes.len()).any(|part| part == bytes);
    assert!(!holds(b"something written") && !holds(block.digest()));
    let cards = a.cards(&did).await;
    assert_eq!(cards.len(), 2);
    for card in cards {
        let (_, sealed) = card.body().private.clone().unwrap();
        assert!(!holds(&sealed), "the sealed part of a card");
        assert!(holds(&card.public().encode()), "its public part");
    }
    let genesis = a.identity(&did).chain().block(&did.chain().0).await.unwrap().unwrap();
    assert!(holds(genesis.file()));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_questions_is_cut_off_and_others_are_served() {
    let hub = MemoryHub::new();
    let (a, stranger) = (Machine::start(&hub, 1).await, Machine::start(&hub, 9).await);
    let did = a.create().await;
    let flood = hub.join(&Secret::new([200; 32]));
    flood.connect(None, &a.network.addresses()).await.unwrap();
    let question = framed(&[&[0x01][..], did.chain().digest(), &[0, 0]].concat());
    let mut answered = 0;
    for _ in 0..100 {
        let mut stream = flood.open(&a.peer(), "/walytis/resolve/1").await.unwrap();
        let _sent = stream.write_all(&question).await;
        let _closed = stream.close().await;
        let mut answer = Vec::new();
        let _ended = stream.read_to_end(&mut answer).await;
        answered += usize::from(!answer.is_empty());
    }
    assert!((1..=32).contains(&answered), "{answered} of 100 answered");
    // Streams that ask nothing hold a place for a while, not for ever.
    let mut idle = Vec::new();
    for number in 0..20 {
        let peer = hub.join(&Secret::new([210 + number; 32]));
        peer.connect(None, &a.network.addresses()).await.unwrap();
        idle.push((peer.open(&a.peer(), "/walytis/resolve/1").await.unwrap(), peer));
    }
    let at = a.network.addresses();
    until("others are served again", async || stranger.identities.resolve(&did, &at).await.is_ok()).await;
}
