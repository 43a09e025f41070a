//! What comes from others: malformed, without right, early, late, retracted.

use super::*;
use walytis_core::ledger::{LedgerControl as _, LedgerRead as _};
use walytis_mutability::MutableError;
use walytis_mutability::limits::OP_BLOCK_MAX;

#[tokio::test(start_paused = true)]
async fn an_edit_of_somebody_elses_block_is_void_and_blocks_nothing() {
    let (kept, _, ledger) = fresh().await;
    let id = add(&ledger, "mine", &[]).await;
    let void = inject(&kept, "them", 2, &op(id, Act::Edit, &[id]), "theirs");
    inject(&kept, "them", 3, &op(id, Act::Delete, &[void]), "");
    settle(&ledger).await;
    assert_eq!(read(&ledger, &id).await.unwrap(), "mine");
    assert_eq!(ledger.versions(&id).await.unwrap().len(), 1);
    assert_eq!(changes(&ledger).await, [Change::Created]);
    let current = edit(&ledger, &id, "still mine").await;
    assert_eq!((current.versions, current.conflicts), (2, 0));
    assert!(matches!(read(&ledger, &void).await, Err(LedgerError::UnknownBlock { .. })));
}

#[tokio::test(start_paused = true)]
async fn nonsense_is_passed_over_and_never_shown() {
    let (kept, _, ledger) = fresh().await;
    let id = add(&ledger, "text", &[]).await;
    let good = op(id, Act::Edit, &[id]);
    let bad = |content: &[u8]| kept.inject("me", 5, op_topics(&[]), content, BlockState::Available).id;
    bad(b"");
    bad(&[1, 2, 3]);
    bad(&[&good.encode()[..20], b"x"].concat());
    bad(&vec![1; usize::try_from(OP_BLOCK_MAX).unwrap() + 1]);
    // An edit of an edit, of nothing, of itself being unknown, with a generation before the block's own.
    let edit_of_edit = inject(&kept, "me", 6, &good, "good");
    inject(&kept, "me", 7, &op(edit_of_edit, Act::Edit, &[edit_of_edit]), "edit of an edit");
    inject(&kept, "me", 7, &op(BlockId::from_digest([7; 32]), Act::Edit, &[id]), "of nothing");
    inject(&kept, "me", 1, &op(id, Act::Edit, &[id]), "before its time");
    kept.inject("me", 8, vec![Topic::parse("walytis.mutable/content").unwrap()], b"stray", BlockState::Available);
    kept.inject("me", 8, vec![Topic::parse("walytis.mutable/v9").unwrap()], b"later", BlockState::Available);
    settle(&ledger).await;
    assert_eq!(read(&ledger, &id).await.unwrap(), "good");
    assert_eq!(list(&ledger, Query::default(), true).await.len(), 1);
    assert_eq!(ledger.versions(&id).await.unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn content_of_others_is_not_shown_as_ones_own() {
    let (kept, _, ledger) = fresh().await;
    let id = add(&ledger, "mine", &[]).await;
    let content = vec![Topic::parse("walytis.mutable/content").unwrap()];
    let theirs = kept.inject("them", 2, content, b"their words", BlockState::Available).id;
    let other = add(&ledger, "a block like any other", &[]).await;
    for beside in [theirs, other, BlockId::from_digest([5; 32])] {
        let heads = vec![ledger.current(&id).await.unwrap().unwrap().version];
        let op = Op { place: Place::Beside(beside), ..op(id, Act::Edit, &heads) };
        inject(&kept, "me", kept.generation() + 1, &op, "");
        settle(&ledger).await;
        let current = ledger.current(&id).await.unwrap().unwrap();
        assert_ne!(current.info.state, BlockState::Available);
        assert!(read(&ledger, &id).await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn edits_wait_for_their_original_without_harm_to_others() {
    let (kept, store, ledger) = fresh().await;
    let late = Kept::default();
    let original = late.inject("me", 1, vec![], b"late", BlockState::Available);
    let mut last = original.id;
    for n in 0..600_u64 {
        last = inject(&kept, "me", 2 + n, &op(original.id, Act::Edit, &[last]), &n.to_string());
        inject(&kept, "them", 2 + n, &op(original.id, Act::Edit, &[last]), "void");
    }
    settle(&ledger).await;
    assert!(list(&ledger, Query::default(), true).await.is_empty());
    assert!(changes(&ledger).await.is_empty());
    let mine = add(&ledger, "unharmed", &[]).await;
    ledger.shutdown().await;
    let ledger = open(&kept, "me", store).await;
    for (info, content) in late.all() {
        kept.take(&info, &content);
    }
    settle(&ledger).await;
    assert_eq!(read(&ledger, &original.id).await.unwrap(), "599");
    assert_eq!(ledger.current(&original.id).await.unwrap().unwrap().versions, 601);
    assert_eq!(read(&ledger, &mine).await.unwrap(), "unharmed");
}

#[tokio::test(start_paused = true)]
async fn what_the_ledger_below_retracts_is_judged_again_and_told() {
    let (kept, _, ledger) = fresh().await;
    let id = add(&ledger, "one", &[]).await;
    let two = edit(&ledger, &id, "two").await.version;
    let three = edit(&ledger, &id, "three").await.version;
    let mut live = ledger.events(SubscribeFrom::Now).await.unwrap();
    kept.retract(&three, true);
    let event = live.next().await.unwrap().unwrap();
    assert_eq!((event.change, event.id, event.version), (Change::Retracted, id, three));
    assert_eq!(read(&ledger, &id).await.unwrap(), "two");
    kept.retract(&three, false);
    let event = live.next().await.unwrap().unwrap();
    assert_eq!((event.change, event.version), (Change::Edited, three));
    assert_eq!(read(&ledger, &id).await.unwrap(), "three");
    // In the middle: what follows stands on the original then.
    kept.retract(&two, true);
    assert_eq!(live.next().await.unwrap().unwrap().change, Change::Retracted);
    assert_eq!(ledger.versions(&id).await.unwrap().len(), 2);
    // The block itself, with all its versions.
    kept.retract(&id, true);
    let event = live.next().await.unwrap().unwrap();
    assert_eq!((event.change, event.version), (Change::Retracted, id));
    assert_eq!((ledger.get(&id).await.unwrap(), ledger.count().await.unwrap()), (None, 0));
    assert!(ledger.edit(&id, "x".into(), None).await.is_err());
    kept.retract(&id, false);
    assert_eq!(live.next().await.unwrap().unwrap().change, Change::Created);
    assert_eq!(read(&ledger, &id).await.unwrap(), "three");
}

#[tokio::test(start_paused = true)]
async fn ops_whose_content_comes_later_count_when_it_is_here() {
    let (kept, _, ledger) = fresh().await;
    let id = add(&ledger, "one", &[]).await;
    let content = [&op(id, Act::Edit, &[id]).encode()[..], b"two"].concat();
    let late = kept.inject("me", 2, op_topics(&[]), &content, BlockState::Wanted).id;
    for n in 0..100_u8 {
        kept.inject("them", 2, op_topics(&[]), &[&content[..], &[n]].concat(), BlockState::Unavailable);
    }
    settle(&ledger).await;
    assert_eq!(read(&ledger, &id).await.unwrap(), "one");
    assert!(ledger.status().await.unwrap().pending > 100);
    kept.arrive(&late);
    let mut live = ledger.events(SubscribeFrom::Now).await.unwrap();
    assert_eq!(live.next().await.unwrap().unwrap().version, late);
    assert_eq!(read(&ledger, &id).await.unwrap(), "two");
}

#[tokio::test(start_paused = true)]
async fn a_block_that_has_not_arrived_is_listed_with_its_version_and_says_why_it_cannot_be_changed() {
    let (kept, _, ledger) = fresh().await;
    let id = kept.announce("me", b"on its way");
    settle(&ledger).await;
    let listed = ledger.get(&id).await.unwrap().unwrap();
    let versions = ledger.versions(&id).await.unwrap();
    assert_eq!((listed.id, versions.len(), versions[0].id, versions[0].current), (id, 1, id, true));
    let waits = |error: MutableError| {
        matches!(error, MutableError::Ledger(LedgerError::Unavailable { reason: "it has not arrived yet", .. }))
    };
    assert!(waits(ledger.edit(&id, "x".into(), None).await.unwrap_err()));
    assert!(waits(ledger.delete_block(&id).await.unwrap_err()));
    assert!(waits(ledger.restore(&id, &id).await.unwrap_err()));
    assert!(waits(ledger.erase(&id).await.unwrap_err()));
    let blocks = kept.blocks();
    let unknown = BlockId::of_file(b"nothing of the kind");
    let error = ledger.edit(&unknown, "x".into(), None).await.unwrap_err();
    assert!(matches!(error, MutableError::Ledger(LedgerError::UnknownBlock { .. })), "{error}");
    assert_eq!(kept.blocks(), blocks, "nothing was written");
    let mut live = ledger.events(SubscribeFrom::Now).await.unwrap();
    kept.arrive_and_tell(&id);
    assert_eq!(live.next().await.unwrap().unwrap().version, id);
    ledger.edit(&id, "changed".into(), None).await.unwrap();
    assert_eq!(read(&ledger, &id).await.unwrap(), "changed");
}
