//! What edit, delete, restore and erase do, seen by one node.

use super::*;
use test_harness::store::CountingStore;
use tokio::io::AsyncReadExt as _;
use walytis_core::ledger::{Content, LedgerControl as _, LedgerEvent, LedgerRead as _, Order};
use walytis_mutability::MutableError;
use walytis_mutability::limits::{EDIT_TOPICS_MAX, INLINE_MAX};
use walytis_mutability::rights::Policy;

#[tokio::test(start_paused = true)]
async fn history_is_complete_and_in_order_and_deleted_blocks_are_not_listed() {
    let (_, _, ledger) = fresh().await;
    let (first, id) = (add(&ledger, "first", &[]).await, add(&ledger, "v0", &["t"]).await);
    for n in 1..=20 {
        let current = edit(&ledger, &id, &format!("v{n}")).await;
        assert_eq!((current.versions, current.conflicts, current.info.topics), (n + 1, 0, vec![topic("t")]));
        assert_eq!(read(&ledger, &id).await.unwrap(), format!("v{n}"));
    }
    assert_eq!(list(&ledger, Query::default(), false).await.len(), 2);
    let deleted = ledger.delete_block(&id).await.unwrap();
    assert!(deleted.deleted);
    assert!(matches!(ledger.delete_block(&id).await, Err(MutableError::Deleted { .. })));
    assert!(matches!(ledger.edit(&id, "x".into(), None).await, Err(MutableError::Deleted { .. })));
    assert!(matches!(read(&ledger, &id).await, Err(LedgerError::Unavailable { .. })));
    assert_eq!((ledger.get(&id).await.unwrap(), ledger.count().await.unwrap()), (None, 1));
    let listed = list(&ledger, Query::default(), false).await;
    assert_eq!(listed.iter().map(|current| current.info.id).collect::<Vec<_>>(), [first]);
    let with_deleted = list(&ledger, Query::default(), true).await;
    assert_eq!(with_deleted.iter().map(|current| current.deleted).collect::<Vec<_>>(), [false, true]);

    let versions = ledger.versions(&id).await.unwrap();
    assert_eq!(versions.len(), 22);
    assert!(versions.is_sorted_by_key(|version| (version.generation, version.id)));
    for (n, version) in versions[..21].iter().enumerate() {
        assert_eq!(read_version(&ledger, &id, &version.id).await, format!("v{n}"));
        assert_eq!((version.head, version.size), (false, format!("v{n}").len() as u64));
        // The id of a version finds its content by itself, too; the first has the block's own id.
        if n > 0 {
            assert_eq!(read(&ledger, &version.id).await.unwrap(), format!("v{n}"));
            assert_eq!(ledger.get(&version.id).await.unwrap(), None, "a version is no block of its own");
        }
        assert_eq!(ledger.version_at(&id, &version.id).await.unwrap().unwrap().id, version.id);
    }
    assert!(versions[21].current && versions[21].act == Some(Act::Delete));
    assert!(matches!(
        ledger.version_content(&id, &versions[21].id).await.map(drop),
        Err(MutableError::NoContent { .. })
    ));
    assert_eq!(ledger.version_at(&id, &first).await.unwrap(), None, "the block came later");

    let restored = ledger.restore(&id, &versions[7].id).await.unwrap();
    assert_eq!((restored.deleted, read(&ledger, &id).await.unwrap().as_str()), (false, "v7"));
    // What an earlier restore showed can be restored, and is the same version again.
    let again = edit(&ledger, &id, "v21").await;
    let again = ledger.restore(&id, &restored.version).await.unwrap_or(again);
    assert_eq!(read(&ledger, &id).await.unwrap(), "v7");
    assert_eq!(ledger.versions(&id).await.unwrap().last().unwrap().act, Some(Act::Restore { version: versions[7].id }));
    assert_eq!(again.versions, 25);
    let other = add(&ledger, "another", &[]).await;
    let at_other = ledger.version_at(&id, &other).await.unwrap().unwrap();
    assert_eq!(at_other.id, again.version);
}

#[tokio::test(start_paused = true)]
async fn events_say_what_happened_once_each_to_durable_subscribers_across_restarts() {
    let (kept, store, ledger) = fresh().await;
    let id = add(&ledger, "one", &[]).await;
    let version = edit(&ledger, &id, "two").await.version;
    let named = || SubscribeFrom::Name("reader".into());
    let first = events(&ledger, named()).await;
    let told: Vec<_> = first.iter().map(|event| (event.change, event.id, event.version)).collect();
    assert_eq!(told, [(Change::Created, id, id), (Change::Edited, id, version)]);
    let mut reader = ledger.events(named()).await.unwrap();
    let created = reader.next().await.unwrap().unwrap();
    reader.ack(created.cursor).await.unwrap();
    reader.ack(walytis_core::ledger::Cursor(999)).await.unwrap();
    drop(reader);
    ledger.delete_block(&id).await.unwrap();
    ledger.shutdown().await;

    let ledger = open(&kept, "me", store).await;
    ledger.restore(&id, &id).await.unwrap();
    let rest: Vec<_> = events(&ledger, named()).await.into_iter().map(|event| event.change).collect();
    assert_eq!(rest, [Change::Edited, Change::Deleted, Change::Restored]);
    assert!(events(&ledger, SubscribeFrom::Now).await.is_empty());
    let mut live = ledger.events(SubscribeFrom::Now).await.unwrap();
    let (event, _) = tokio::join!(live.next(), edit(&ledger, &id, "three"));
    assert_eq!(event.unwrap().unwrap().change, Change::Edited);
    for bad in [String::new(), "x".repeat(65)] {
        assert!(ledger.events(SubscribeFrom::Name(bad)).await.is_err());
    }
    let (end, ()) = tokio::join!(live.next(), ledger.shutdown());
    assert_eq!(end.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn subscribers_of_blocks_see_each_as_it_stands_and_deletions_as_retractions() {
    let (_, _, ledger) = fresh().await;
    let (a, b) = (add(&ledger, "a", &[]).await, add(&ledger, "b", &[]).await);
    edit(&ledger, &a, "a2").await;
    ledger.delete_block(&b).await.unwrap();
    let mut stream = ledger.subscribe(SubscribeFrom::Name("s".into())).await.unwrap();
    let LedgerEvent::Block(info) = stream.next().await.unwrap().unwrap() else { panic!("a block") };
    assert_eq!((info.id, info.size), (a, 2));
    let LedgerEvent::Retracted { id, cursor } = stream.next().await.unwrap().unwrap() else { panic!("a retraction") };
    assert_eq!(id, b);
    stream.ack(cursor).await.unwrap();
    let restored = ledger.restore(&b, &b).await.unwrap();
    let LedgerEvent::Block(info) = stream.next().await.unwrap().unwrap() else { panic!("a block") };
    assert_eq!(info, restored.info);
    let arrival = list(&ledger, Query { order: Order::Arrival, ..Query::default() }, false).await;
    assert_eq!(arrival.iter().map(|current| current.info.id).collect::<Vec<_>>(), [a, b]);
}

#[tokio::test(start_paused = true)]
async fn topics_follow_the_version_and_queries_see_current_topics() {
    let (_, _, ledger) = fresh().await;
    let (a, b) = (add(&ledger, "a", &["red"]).await, add(&ledger, "b", &["red"]).await);
    ledger.edit(&a, "a2".into(), Some(vec![topic("blue")])).await.unwrap();
    let with = |text: &str| Query { topics_any: vec![topic(text)], ..Query::default() };
    let ids = async |query| list(&ledger, query, false).await.into_iter().map(|one| one.info.id).collect::<Vec<_>>();
    assert_eq!(ids(with("red")).await, [b]);
    assert_eq!(ids(with("blue")).await, [a]);
    assert_eq!(ids(Query { reverse: true, limit: Some(1), ..Query::default() }).await, [b]);
    let many: Vec<_> = (0..=EDIT_TOPICS_MAX).map(|n| topic(&n.to_string())).collect();
    for bad in [many.clone(), vec![topic("x"), topic("x")], vec![Topic::parse("walytis.mutable").unwrap()]] {
        assert!(ledger.edit(&b, "x".into(), Some(bad)).await.is_err());
    }
    ledger.edit(&b, "b2".into(), Some(many[1..].to_vec())).await.unwrap();
    assert_eq!(ledger.below().count().await.unwrap(), 4, "refused edits write nothing");
}

#[tokio::test(start_paused = true)]
async fn long_contents_stand_beside_the_op() {
    let (kept, _, ledger) = fresh().await;
    let id = add(&ledger, "short", &[]).await;
    for len in [0, 1, INLINE_MAX, INLINE_MAX + 1, 300_000] {
        for streamed in [false, true] {
            let bytes: Vec<u8> = (0..251_u8).cycle().take(len).collect();
            let content = match streamed {
                true => Content::Reader(Box::new(std::io::Cursor::new(bytes.clone()))),
                false => bytes.clone().into(),
            };
            let current = ledger.edit(&id, content, None).await.unwrap();
            assert_eq!((current.info.size, current.info.state), (len as u64, BlockState::Available));
            let mut read = Vec::new();
            ledger.content(&id).await.unwrap().read_to_end(&mut read).await.unwrap();
            assert!(read == bytes, "{len} bytes differ");
        }
    }
    // Six short ones and the original, four long ones of two blocks each; all of it is one block.
    assert_eq!((kept.blocks(), list(&ledger, Query::default(), false).await.len()), (1 + 6 + 8, 1));
    let broken = Content::Reader(Box::new(tokio_test_broken()));
    let error = ledger.edit(&id, broken, None).await.unwrap_err();
    assert!(matches!(error, MutableError::Ledger(LedgerError::Read(_))), "{error}");
    assert_eq!(kept.blocks(), 15);
}

/// A reader that fails at once.
fn tokio_test_broken() -> impl tokio::io::AsyncRead + Send + Unpin {
    struct Broken;
    impl tokio::io::AsyncRead for Broken {
        fn poll_read(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::task::Poll::Ready(Err(std::io::Error::other("the disk was pulled out")))
        }
    }
    Broken
}

#[tokio::test(start_paused = true)]
async fn erasing_deletes_and_asks_for_forgetting_where_there_is_any() {
    for can_forget in [false, true] {
        let (kept, store) = (Kept::default(), Arc::new(MemoryStore::new()));
        let below = Double { can_forget, ..kept.open("me") };
        let ledger = open_with(below, store, Arc::new(PolicyRights::author())).await;
        let id = add(&ledger, "secret", &[]).await;
        let version = edit(&ledger, &id, "still secret").await.version;
        ledger.edit(&id, vec![7; INLINE_MAX + 1].into(), None).await.unwrap();
        let erased = ledger.erase(&id).await.unwrap();
        assert_eq!((erased.forgetting, erased.current.deleted), (can_forget, true));
        assert_eq!(erased.blocks.len(), 4, "original, two edits, one content beside");
        assert!(erased.blocks.contains(&id) && erased.blocks.contains(&version));
        assert_eq!(kept.forgotten(), if can_forget { erased.blocks } else { vec![] });
        if !can_forget {
            assert_eq!(read_version(&ledger, &id, &version).await, "still secret");
        }
        // Erasing what is deleted only asks again.
        let blocks = kept.blocks();
        assert!(ledger.erase(&id).await.unwrap().current.deleted);
        assert_eq!(kept.blocks(), blocks);
    }
}

#[tokio::test(start_paused = true)]
async fn only_those_with_the_right_change_a_block() {
    let story = || {
        let kept = Kept::default();
        let theirs = kept.inject("them", 1, vec![], b"theirs", BlockState::Available).id;
        let mine = kept.inject("me", 1, vec![], b"mine", BlockState::Available).id;
        let genesis = kept.inject("me", 0, vec![], b"genesis", BlockState::Available).id;
        let identity = vec![Topic::parse("walytis.identity").unwrap()];
        let others = kept.inject("me", 1, identity, b"x", BlockState::Available).id;
        (kept, theirs, mine, [genesis, others])
    };
    for (policy, edits, deletes) in
        [(Policy::Author, false, false), (Policy::Anyone, true, true), (Policy::AdminsMayDelete, false, true)]
    {
        let (kept, theirs, _, fixed) = story();
        let ledger = open(&kept, "me", Arc::new(MemoryStore::new())).await;
        ledger.set_policy(policy).await.unwrap();
        let blocks = kept.blocks();
        let edited = ledger.edit(&theirs, "x".into(), None).await;
        assert_eq!(edited.is_ok(), edits, "{policy:?}");
        let deleted = ledger.delete_block(&theirs).await;
        assert_eq!(deleted.is_ok(), deletes, "{policy:?}");
        if !deletes {
            assert!(matches!(deleted, Err(MutableError::NotAllowed { what: "delete", .. })));
            assert_eq!(kept.blocks(), blocks, "what is refused is not written");
        }
        for fixed in fixed {
            assert!(matches!(ledger.edit(&fixed, "x".into(), None).await, Err(MutableError::Fixed { .. })));
        }
        ledger.shutdown().await;
    }
    let (kept, theirs, mine, _) = story();
    let ledger = open(&kept, "me", Arc::new(MemoryStore::new())).await;
    inject(&kept, "me", 7, &op(theirs, Act::Edit, &[theirs]), "mine now");
    edit(&ledger, &mine, "mine, edited").await;
    let unknown = BlockId::from_digest([9; 32]);
    let error = ledger.edit(&unknown, "x".into(), None).await.unwrap_err();
    assert!(matches!(error, MutableError::Ledger(LedgerError::UnknownBlock { .. })), "{error}");
    assert!(matches!(ledger.restore(&mine, &unknown).await, Err(MutableError::NoVersion { .. })));
    // Under the default the others' changes are void: nothing of theirs has changed.
    assert_eq!(read(&ledger, &theirs).await.unwrap(), "theirs");
}

#[tokio::test(start_paused = true)]
async fn changes_made_at_once_on_one_node_follow_each_other() {
    let (_, _, ledger) = fresh().await;
    let id = add(&ledger, "0", &[]).await;
    let all = futures::future::join_all((0..10).map(|n| ledger.edit(&id, n.to_string().into(), None))).await;
    assert!(all.iter().all(Result::is_ok));
    let current = ledger.current(&id).await.unwrap().unwrap();
    assert_eq!((current.versions, current.conflicts), (11, 0));
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_edits_of_one_block_stay_quick() {
    let (kept, store, ledger) = fresh().await;
    let id = add(&ledger, "0", &[]).await;
    let (mut last, mut generation) = (id, 2);
    for n in 0..10_000 {
        last = inject(&kept, "me", generation, &op(id, Act::Edit, &[last]), &n.to_string());
        generation += 1;
    }
    settle(&ledger).await;
    assert_eq!(read(&ledger, &id).await.unwrap(), "9999");
    assert_eq!(ledger.current(&id).await.unwrap().unwrap().versions, 10_001);
    assert_eq!(changes(&ledger).await.len().min(256), 256);
    ledger.shutdown().await;
    let ledger = open(&kept, "me", store).await;
    assert_eq!(edit(&ledger, &id, "last").await.versions, 10_002);
}

/// What deleting and restoring asks of the store does not grow with the history.
#[tokio::test(start_paused = true)]
async fn a_restore_costs_the_same_however_long_the_history_is() {
    let kept = Kept::default();
    let store = Arc::new(CountingStore::new(Arc::new(MemoryStore::new())));
    let ledger = open(&kept, "me", store.clone()).await;
    let id = add(&ledger, "0", &[]).await;
    let mut costs = Vec::new();
    for n in 1..=500 {
        let version = edit(&ledger, &id, &n.to_string()).await.version;
        if n != 10 && n != 500 {
            continue;
        }
        store.take_cost();
        ledger.delete_block(&id).await.unwrap();
        ledger.restore(&id, &version).await.unwrap();
        assert_eq!(read_version(&ledger, &id, &version).await, n.to_string());
        let cost = store.take_cost();
        costs.push((cost.gets, cost.scans, cost.scanned, cost.writes));
    }
    assert_eq!(costs[0], costs[1]);
}
