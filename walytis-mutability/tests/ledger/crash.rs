//! At every step at which the store can fail, the process die or the power go, the index opens again and says the same
//! as one built from the whole ledger, and no event is lost or told in another order.

use super::*;
use test_harness::store::{FailingStore, Failure, Power};
use walytis_core::ledger::{Cursor, LedgerControl as _};
use walytis_mutability::rights::Policy;

async fn work(ledger: &Over, kept: &Kept) {
    let mut ids = Vec::new();
    for n in 0..3 {
        let block = NewBlock { content: format!("block {n}").into(), topics: vec![] };
        if let Ok(info) = ledger.add(block).await {
            ids.push(info.id);
        }
    }
    for id in &ids {
        drop(ledger.edit(id, "edited".into(), None).await);
    }
    if let Some(id) = ids.first() {
        inject(kept, "me", 9, &op(*id, Act::Edit, &[*id]), "apart");
        inject(kept, "them", 10, &op(*id, Act::Edit, &[*id]), "theirs");
        drop(ledger.set_policy(Policy::Anyone).await);
        drop(ledger.delete_block(id).await);
        drop(ledger.restore(id, id).await);
    }
    if let Ok(mut reader) = ledger.events(SubscribeFrom::Name("reader".into())).await
        && let Ok(Some(event)) = reader.next().await
    {
        drop(reader.ack(event.cursor).await);
    }
}

/// Everything that is shown, and every event.
async fn all(ledger: &Over) -> (Vec<Current>, Vec<Event>) {
    let mut shown = list(ledger, Query::default(), true).await;
    shown.iter_mut().for_each(|current| current.info.cursor = Cursor(0));
    (shown, events(ledger, SubscribeFrom::Cursor(Cursor(0))).await)
}

/// The events of a ledger whose store may be dead.
async fn what_can_be_read(ledger: &Over) -> Vec<Event> {
    use futures::FutureExt as _;
    let mut told = Vec::new();
    if let Ok(mut stream) = ledger.events(SubscribeFrom::Cursor(Cursor(0))).await {
        while let Some(Ok(Some(event))) = stream.next().now_or_never() {
            told.push(event);
        }
    }
    told
}

async fn crash_at(step: u64, failure: Failure) -> u64 {
    let power = Power::failing_at(step, failure);
    let kept = Kept::default();
    let store = Arc::new(FailingStore::new(&MemoryStore::new(), power.clone()));
    let parts = |store: Arc<dyn KvStore>| MutableParts {
        below: Arc::new(kept.open("me")),
        name: "test".into(),
        rights: rights(),
        store,
    };
    let mut told = Vec::new();
    if let Ok(ledger) = MutableLedger::open(parts(store.clone())).await {
        // A failed commit makes the ledger rest; what was asked goes on after it, unless the machine is dead.
        drop(tokio::time::timeout(std::time::Duration::from_secs(60), work(&ledger, &kept)).await);
        told = what_can_be_read(&ledger).await;
        ledger.shutdown().await;
    }
    let left: Arc<dyn KvStore> = Arc::new(store.what_is_left());
    let again = MutableLedger::open(parts(left)).await.unwrap();
    let whole = MutableLedger::open(parts(Arc::new(MemoryStore::new()))).await.unwrap();
    let ((shown, events), (expected, all_events)) = (all(&again).await, all(&whole).await);
    assert_eq!(shown, expected, "step {step}, {failure:?}");
    assert_eq!(events, all_events, "step {step}, {failure:?}");
    assert_eq!(events[..told.len()], told, "step {step}, {failure:?}: told otherwise before");
    let blocks = kept.blocks();
    add(&again, "after", &[]).await;
    assert_eq!(kept.blocks(), blocks + 1);
    power.steps()
}

#[tokio::test(start_paused = true)]
async fn no_crash_point_leaves_an_index_that_differs() {
    let steps = crash_at(u64::MAX, Failure::Error).await;
    assert!(steps >= 9, "only {steps} steps: the scenario tests too little");
    for failure in Failure::ALL {
        for step in 0..steps {
            crash_at(step, failure).await;
        }
    }
}

/// Opening again reads nothing of the ledger below that was taken in before.
#[tokio::test(start_paused = true)]
async fn opening_again_reads_only_what_is_new() {
    let (kept, store, ledger) = fresh().await;
    for n in 0..50 {
        add(&ledger, &n.to_string(), &[]).await;
    }
    let before = events(&ledger, SubscribeFrom::Cursor(Cursor(0))).await;
    ledger.shutdown().await;
    // Were these read again, the malformed would show: their events would come twice.
    let again = open(&kept, "me", store).await;
    assert_eq!(events(&again, SubscribeFrom::Cursor(Cursor(0))).await, before);
    add(&again, "new", &[]).await;
    assert_eq!(events(&again, SubscribeFrom::Cursor(Cursor(0))).await.len(), 51);
}
