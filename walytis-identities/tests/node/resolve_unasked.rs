//! Resolving whom nobody asked for, what is kept of it, and that it never stands in the way of an identity of this node.

use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use walytis_core::net::{MemoryHub, Network as _};
use walytis_core::secret::Secret;
use walytis_core::store::{Direction, KeyRange, KvStore as _};
use walytis_identities::id::{Did, Role};
use walytis_identities::identity::Identity as _;
use walytis_identities::node::{IdentitiesError, UNASKED_BYTES_MAX};

use crate::resolve_lies::{Truth, done, item};
use crate::rig::{Machine, until};

/// Rows and bytes that stand in a machine's store of identities that are not its own.
async fn foreign_rows(machine: &Machine) -> (usize, usize) {
    let range = KeyRange { start: vec![0x10, 0x10], end: Some(vec![0x10, 0x14]) };
    let rows = machine.store.scan(range, Direction::Forward, usize::MAX).await.unwrap();
    (rows.len(), rows.iter().map(|(_, value)| value.len()).sum())
}

async fn knows(machine: &Machine, did: &Did) -> bool {
    machine.identities.document(did, None).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn whom_nobody_asked_for_stays_in_memory_until_it_is_remembered() {
    let hub = MemoryHub::new();
    let (a, stranger) = (Machine::start(&hub, 1).await, Machine::start(&hub, 9).await);
    let did = a.create().await;
    a.identities.rekey(&did).await.unwrap();
    stranger.network.connect(None, &a.network.addresses()).await.unwrap();
    let resolved = stranger.identities.resolve_unasked(&did, Some(&a.peer())).await.unwrap();
    assert_eq!((resolved.answers, resolved.heard_from), (1, 1));
    assert!(knows(&stranger, &did).await);
    assert_eq!(foreign_rows(&stranger).await, (0, 0));
    let stranger = stranger.restart().await;
    assert!(!knows(&stranger, &did).await);

    stranger.network.connect(None, &a.network.addresses()).await.unwrap();
    stranger.identities.resolve_unasked(&did, None).await.unwrap();
    stranger.identities.remember(&did, false).await.unwrap();
    let (rows, _) = foreign_rows(&stranger).await;
    assert!(rows > 2, "{rows} rows");
    // What comes later is kept too, and the whole of it opens again.
    let newest = a.identities.rekey(&did).await.unwrap().op;
    stranger.identities.resolve_unasked(&did, None).await.unwrap();
    let stranger = stranger.restart().await;
    let stored = stranger.identities.document(&did, None).await.unwrap();
    assert!(stored.metadata.version_id.contains(&newest.to_string()), "{:?}", stored.metadata.version_id);
    assert_eq!(foreign_rows(&stranger).await.0, rows + 1);
}

/// A history of more than the bound, in ops as large as they can be: a stranger's is refused, the user's own wish is not.
#[tokio::test(start_paused = true)]
async fn whom_nobody_asked_for_may_have_only_so_many_bytes() {
    let hub = MemoryHub::new();
    let (a, stranger) = (Machine::start(&hub, 1).await, Machine::start(&hub, 9).await);
    let did = a.create().await;
    let long = "x".repeat(500);
    for number in 0..UNASKED_BYTES_MAX / 30_000 + 2 {
        let service = |n: u32| (format!("s{n}"), long.clone(), format!("https://{number}.{long}"));
        a.identities.set_services(&did, (0..32).map(service).collect()).await.unwrap();
    }
    stranger.network.connect(None, &a.network.addresses()).await.unwrap();
    for _ in 0..2 {
        let refused = stranger.identities.resolve_unasked(&did, Some(&a.peer())).await;
        let Err(IdentitiesError::Unresolved { reason, .. }) = refused else { panic!("{refused:?}") };
        assert!(reason.contains("V-RES-07"), "{reason}");
    }
    assert_eq!(foreign_rows(&stranger).await, (0, 0));
    stranger.identities.resolve(&did, &[]).await.unwrap();
    let (_, bytes) = foreign_rows(&stranger).await;
    assert!(bytes as u64 > UNASKED_BYTES_MAX, "{bytes} bytes");
    a.identities.rekey(&did).await.unwrap();
    let resolved = stranger.identities.resolve_unasked(&did, Some(&a.peer())).await.unwrap();
    assert_eq!(resolved.heads, a.identity(&did).auth_heads().await, "what was asked for once has its room");
}

/// A node withholds the second part of its answer until the identity has been joined: what comes then, one op that nobody
/// here knows, takes no place of what is stored of the own identity.
#[tokio::test(start_paused = true)]
async fn an_identity_that_is_joined_while_it_is_resolved_loses_nothing() {
    let hub = MemoryHub::new();
    let (a, c, b) = (Machine::start(&hub, 1).await, Machine::start(&hub, 3).await, Machine::start(&hub, 2).await);
    let did = a.create().await;
    a.admit(&did, &c, Role::Admin).await;
    let heads = a.identity(&did).auth_heads().await;
    until("c is level", async || c.identity(&did).auth_heads().await == heads).await;
    hub.cut(&a.peer(), &c.peer());
    let beside = c.identities.rekey(&did).await.unwrap().op;
    let (before, theirs) = (Truth::of(&a, &did).await, Truth::of(&c, &did).await);
    let newer = theirs.ops.iter().find(|op| op.id() == beside).unwrap().encode();

    let relay = hub.join(&Secret::new([100; 32]));
    let mut questions = relay.accept("/walytis/resolve/1").unwrap();
    let ops: Vec<u8> = before.ops.iter().flat_map(|op| item(1, &op.encode())).collect();
    let first = [Truth::known(&before.heads), item(0, &before.genesis), ops, done(true)].concat();
    let second = [Truth::known(&[*beside.as_bytes()]), item(1, &newer), done(false)].concat();
    let (asked, is_asked) = oneshot::channel();
    let (release, released) = oneshot::channel::<()>();
    let relaying = tokio::spawn(async move {
        let mut incoming = questions.recv().await.unwrap();
        incoming.stream.write_all(&first).await.unwrap();
        let mut again = questions.recv().await.unwrap();
        asked.send(()).unwrap();
        released.await.unwrap();
        again.stream.write_all(&second).await.unwrap();
        let _rest = again.stream.read_to_end(&mut Vec::new()).await;
    });
    let (identities, at) = (b.identities.clone(), relay.addresses());
    let resolving = tokio::spawn(async move { identities.resolve(&did, &at).await });
    is_asked.await.unwrap();
    a.admit(&did, &b, Role::Admin).await;
    let own = b.identities.rekey(&did).await.unwrap().op;
    release.send(()).unwrap();
    drop(resolving.await.unwrap());
    relaying.abort();

    let held = async |b: &Machine| b.identity(&did).auth_heads().await.contains(&own);
    assert!(held(&b).await);
    let b = b.restart().await;
    assert!(b.identities.identity(&did).is_ok_and(|identity| identity.role() == Some(Role::Admin)), "b is out");
    assert!(held(&b).await, "the own op is gone");
}
