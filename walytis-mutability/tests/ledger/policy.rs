//! Who may change blocks follows from the ledger itself: the last policy before an op, by an admin.

use super::*;
use async_trait::async_trait;
use tokio::sync::watch;
use walytis_core::ledger::{BlockInfo, Cursor, LedgerControl as _};
use walytis_mutability::MutableError;
use walytis_mutability::graph::Right;
use walytis_mutability::op::encode_policy;
use walytis_mutability::rights::{Group, Policy};

fn set(kept: &Kept, author: &str, generation: u64, policy: Policy) -> BlockId {
    let topics = vec![Topic::parse("walytis.mutable/rights").unwrap()];
    kept.inject(author, generation, topics, &encode_policy(policy), BlockState::Available).id
}

#[tokio::test(start_paused = true)]
async fn a_policy_holds_for_what_comes_behind_it_in_canonical_order_however_late_it_comes() {
    let (kept, _, ledger) = fresh().await;
    let id = add(&ledger, "mine", &[]).await;
    let early = inject(&kept, "them", 5, &op(id, Act::Edit, &[id]), "theirs, early");
    let late = inject(&kept, "them", 20, &op(id, Act::Edit, &[id]), "theirs, late");
    settle(&ledger).await;
    assert_eq!((ledger.policy().await.unwrap(), ledger.versions(&id).await.unwrap().len()), (Policy::Author, 1));
    // In force behind generation 10, though it comes after both edits.
    set(&kept, "me", 10, Policy::Anyone);
    settle(&ledger).await;
    assert_eq!(read(&ledger, &id).await.unwrap(), "theirs, late");
    assert_eq!(ledger.policy().await.unwrap(), Policy::Anyone);
    assert_eq!(changes(&ledger).await, [Change::Created, Change::Edited]);
    // One that stands before takes the early edit in, one in between takes the late one back.
    let first = set(&kept, "me", 4, Policy::Anyone);
    settle(&ledger).await;
    let versions: Vec<_> = ledger.versions(&id).await.unwrap().iter().map(|version| version.id).collect();
    assert_eq!(versions, [id, early, late]);
    set(&kept, "me", 15, Policy::Author);
    settle(&ledger).await;
    assert_eq!(read(&ledger, &id).await.unwrap(), "theirs, early");
    let told = changes(&ledger).await;
    assert_eq!(told[2..], [Change::Edited, Change::Conflicted, Change::Retracted]);
    // What the ledger below no longer counts decides nothing.
    kept.retract(&first, true);
    ledger.wait_for(Cursor(7)).await.unwrap();
    assert_eq!(read(&ledger, &id).await.unwrap(), "mine");
    kept.retract(&first, false);
    ledger.wait_for(Cursor(8)).await.unwrap();
    assert_eq!(read(&ledger, &id).await.unwrap(), "theirs, early");
}

#[tokio::test(start_paused = true)]
async fn only_admins_say_who_changes_blocks() {
    let (kept, store, ledger) = fresh().await;
    let theirs = kept.inject("them", 1, vec![], b"theirs", BlockState::Available).id;
    let others = open(&kept, "them", Arc::new(MemoryStore::new())).await;
    let mine = add(&ledger, "mine", &[]).await;
    let blocks = kept.blocks();
    assert!(matches!(others.set_policy(Policy::Anyone).await, Err(MutableError::PolicyNotAllowed)));
    assert_eq!(kept.blocks(), blocks, "what is refused is not written");
    // Written all the same, it decides nothing; nor does what is malformed.
    set(&kept, "them", 2, Policy::Anyone);
    let topics = || vec![Topic::parse("walytis.mutable/rights").unwrap()];
    for bad in [&[][..], &[1], &[1, 3], &[2, 1], &[1, 0x81, 0], &[1, 1, 0], &[1; 100]] {
        kept.inject("me", 3, topics(), bad, BlockState::Available);
    }
    inject(&kept, "them", 9, &op(mine, Act::Edit, &[mine]), "void");
    settle(&ledger).await;
    assert_eq!(ledger.policy().await.unwrap(), Policy::Author);
    assert_eq!(read(&ledger, &mine).await.unwrap(), "mine");

    ledger.set_policy(Policy::AdminsMayDelete).await.unwrap();
    let blocks = kept.blocks();
    ledger.set_policy(Policy::AdminsMayDelete).await.unwrap();
    assert_eq!(kept.blocks(), blocks, "what holds already is not written again");
    settle(&others).await;
    assert!(matches!(ledger.edit(&theirs, "x".into(), None).await, Err(MutableError::NotAllowed { .. })));
    assert!(matches!(others.delete_block(&mine).await, Err(MutableError::NotAllowed { .. })));
    let deletion = ledger.delete_block(&theirs).await.unwrap();
    settle(&others).await;
    assert!(others.current(&theirs).await.unwrap().unwrap().deleted);
    others.restore(&theirs, &theirs).await.unwrap();
    settle(&ledger).await;
    assert_eq!(read(&ledger, &theirs).await.unwrap(), "theirs");
    ledger.set_policy(Policy::Anyone).await.unwrap();
    edit(&ledger, &theirs, "ours").await;
    // What was decided before stays decided.
    ledger.set_policy(Policy::Author).await.unwrap();
    assert!(ledger.edit(&theirs, "x".into(), None).await.is_err());
    assert_eq!(read(&ledger, &theirs).await.unwrap(), "ours");
    assert!(ledger.versions(&theirs).await.unwrap().iter().any(|version| version.id == deletion.version));
    ledger.shutdown().await;
    let ledger = open(&kept, "me", store).await;
    assert_eq!(
        (ledger.policy().await.unwrap(), read(&ledger, &theirs).await.unwrap().as_str()),
        (Policy::Author, "ours")
    );
    assert_eq!(list(&ledger, Query { include_overlays: true, ..Query::default() }, true).await.len(), 2);
}

/// Knows who is an admin only after it was told.
#[derive(Debug)]
struct Learning(watch::Sender<u64>);

#[async_trait]
impl Group for Learning {
    async fn is_admin(&self, author: &Author, _: Option<&BlockInfo>) -> Right {
        match (*self.0.borrow(), author.0.as_ref()) {
            (0, _) => Right::Unknown,
            (_, "me") => Right::Allowed,
            _ => Right::Refused,
        }
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        Some(self.0.subscribe())
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_judged_yet_is_judged_when_more_is_known() {
    for restart in [false, true] {
        let (kept, store) = (Kept::default(), Arc::new(MemoryStore::new()));
        let group = Arc::new(Learning(watch::Sender::new(0)));
        let rights = || Arc::new(PolicyRights::new(group.clone()));
        let mut ledger = open_with(kept.open("me"), store.clone(), rights()).await;
        let theirs = kept.inject("them", 1, vec![], b"theirs", BlockState::Available).id;
        set(&kept, "them", 2, Policy::Anyone);
        set(&kept, "me", 3, Policy::AdminsMayDelete);
        inject(&kept, "me", 5, &op(theirs, Act::Edit, &[theirs]), "no admin edits");
        let deletion = inject(&kept, "me", 5, &op(theirs, Act::Delete, &[theirs]), "");
        settle(&ledger).await;
        assert_eq!(ledger.versions(&theirs).await.unwrap().len(), 1);
        let mut events = ledger.events(SubscribeFrom::Now).await.unwrap();
        if restart {
            ledger.shutdown().await;
            group.0.send_replace(1);
            ledger = open_with(kept.open("me"), store, rights()).await;
        } else {
            group.0.send_replace(1);
            let event = events.next().await.unwrap().unwrap();
            assert_eq!((event.change, event.version), (Change::Deleted, deletion));
        }
        let current = ledger.current(&theirs).await.unwrap().unwrap();
        assert_eq!((current.deleted, current.versions), (true, 2));
    }
}

/// More ops than one commit judges, and a machine that dies in the middle.
#[tokio::test(start_paused = true)]
async fn judging_again_goes_on_after_a_crash() {
    use test_harness::store::{FailingStore, Failure, Power};
    let kept = Kept::default();
    let ids: Vec<_> = (0..3).map(|n: u8| kept.inject("me", 1, vec![], &[n], BlockState::Available).id).collect();
    for n in 0..1_100_usize {
        inject(&kept, "them", 2 + n as u64, &op(ids[n % 3], Act::Edit, &[ids[n % 3]]), &n.to_string());
    }
    set(&kept, "me", 1, Policy::Anyone);
    let whole = open(&kept, "me", Arc::new(MemoryStore::new())).await;
    let expected = list(&whole, Query::default(), true).await;
    assert!(expected.iter().map(|current| current.versions).sum::<u64>() == 1_103);
    let mut interrupted = 0;
    for step in 0..20 {
        let power = Power::failing_at(step, Failure::Kill { applied: false });
        let store = Arc::new(FailingStore::new(&MemoryStore::new(), power));
        let below = kept.open("me");
        let parts =
            MutableParts { below: Arc::new(below), name: "test".into(), rights: rights(), store: store.clone() };
        if let Ok(ledger) = MutableLedger::open(parts).await {
            ledger.shutdown().await;
        } else {
            interrupted += 1;
        }
        let again = open(&kept, "me", Arc::new(store.what_is_left())).await;
        assert_eq!(list(&again, Query::default(), true).await, expected, "step {step}");
    }
    assert!(interrupted > 4, "only {interrupted} crash points were met");
}
