//! Durable and live subscribers of every ledger.

use walytis_core::ledger::{
    Ack, BlockInfo, Cursor, LedgerError, LedgerEvent, Order, Query, SubscribeFrom, Subscription,
};
use walytis_core::limits::LIVE_LAG_MAX;

use super::{AnyLedger, LedgerFixture, block, list, named, next};

async fn added(ledger: &dyn AnyLedger, count: usize) -> Vec<BlockInfo> {
    let blocks = (0..count).map(|n| block(&n.to_string(), &[])).collect();
    ledger.add_many(blocks).await.expect("add");
    list(ledger, Query { order: Order::Arrival, ..Query::default() }).await
}

async fn subscribe(ledger: &dyn AnyLedger, name: &str) -> Box<dyn Subscription> {
    ledger.subscribe(named(name)).await.expect("subscribe")
}

pub(super) async fn what_was_acknowledged_out_of_order_does_not_come_again(fixture: &dyn LedgerFixture) {
    let ledger = fixture.ledger().await;
    let blocks = added(&*ledger, 6).await;
    let mut first = subscribe(&*ledger, "s").await;
    for info in &blocks[..5] {
        assert_eq!(next(&mut first).await, *info);
    }
    for at in [3, 1] {
        first.ack_one(blocks[at].cursor).await.expect("ack");
        first.ack_one(blocks[at].cursor).await.expect("once more");
    }
    let undelivered = blocks.last().expect("a block").cursor.0 + 10;
    for wrong in [0, undelivered] {
        let error = first.ack_one(Cursor(wrong)).await.expect_err("not delivered");
        assert!(matches!(error, LedgerError::NotDelivered { .. }), "{error}");
    }
    drop(first);
    let mut again = subscribe(&*ledger, "s").await;
    let rest: Vec<_> = blocks.iter().enumerate().filter(|(at, _)| ![1, 3].contains(at)).map(|(_, info)| info).collect();
    for info in &rest {
        assert_eq!(next(&mut again).await, **info);
    }
    again.ack_one(rest[0].cursor).await.expect("ack");
    drop(again);
    ledger.shutdown().await;
    drop(ledger);
    let ledger = fixture.reopen().await;
    let mut later = subscribe(&*ledger, "s").await;
    for info in &rest[1..] {
        assert_eq!(next(&mut later).await.id, info.id);
    }
}

pub(super) async fn attempts_are_counted_until_the_acknowledgement(fixture: &dyn LedgerFixture) {
    let ledger = fixture.ledger().await;
    let blocks = added(&*ledger, 2).await;
    let mut first = subscribe(&*ledger, "s").await;
    let one = next(&mut first).await.cursor;
    assert_eq!(first.begin(one).await.expect("begin"), 1);
    assert_eq!(first.begin(one).await.expect("begin"), 2);
    let two = next(&mut first).await.cursor;
    assert_eq!(first.begin(two).await.expect("begin"), 1);
    first.ack_one(two).await.expect("ack");
    drop(first);
    ledger.shutdown().await;
    drop(ledger);
    let ledger = fixture.reopen().await;
    let mut later = subscribe(&*ledger, "s").await;
    assert_eq!(next(&mut later).await.id, blocks[0].id);
    assert_eq!(later.begin(one).await.expect("begin"), 3);
}

pub(super) async fn subscribers_are_listed_acknowledged_for_and_removed(ledger: &dyn AnyLedger) {
    let blocks = added(ledger, 5).await;
    let count = blocks.len() as u64;
    let (mut b, mut a) = (subscribe(ledger, "b").await, subscribe(ledger, "a").await);
    for _ in 0..3 {
        next(&mut a).await;
    }
    a.begin(blocks[2].cursor).await.expect("begin");
    ledger.acknowledge("a", Ack::UpTo(blocks[0].cursor)).await.expect("ack");
    ledger.acknowledge("a", Ack::One(blocks[1].cursor)).await.expect("ack");
    let found = ledger.subscribers().await.expect("list");
    assert_eq!(found.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((found[0].acknowledged, found[0].left), (blocks[1].cursor, count - 2));
    assert_eq!((found[0].begun, found[0].attempts, found[1].left), (1, 1, count));
    ledger.unsubscribe("a").await.expect("remove");
    let error = a.next().await.expect_err("removed");
    assert!(matches!(error, LedgerError::UnknownSubscriber { .. }), "{error}");
    a.ack(blocks[2].cursor).await.expect_err("removed");
    for error in [
        ledger.unsubscribe("a").await.expect_err("unknown"),
        ledger.acknowledge("a", Ack::UpTo(Cursor(1))).await.expect_err("unknown"),
    ] {
        assert!(matches!(&error, LedgerError::UnknownSubscriber { name } if name == "a"), "{error}");
    }
    assert_eq!(ledger.subscribers().await.expect("list").len(), 1);
    let mut anew = subscribe(ledger, "a").await;
    assert_eq!(next(&mut anew).await, blocks[0]);
    assert_eq!(next(&mut b).await, blocks[0]);
}

pub(super) async fn who_subscribes_later_goes_on_in_place_of_the_earlier(ledger: &dyn AnyLedger) {
    let blocks = added(ledger, 3).await;
    let mut first = subscribe(ledger, "s").await;
    for info in &blocks {
        assert_eq!(next(&mut first).await, *info);
    }
    // The first one waits for what comes; taking its place wakes it.
    let (end, second) = tokio::join!(first.next(), ledger.subscribe(named("s")));
    let error = end.expect_err("replaced");
    assert!(matches!(error, LedgerError::SubscriberReplaced { .. }), "{error}");
    // What it was given still counts.
    first.ack(blocks[1].cursor).await.expect("ack");
    assert_eq!(next(&mut second.expect("subscribe")).await, blocks[2]);
}

pub(super) async fn a_slow_live_subscriber_is_told_what_it_missed(ledger: &dyn AnyLedger) {
    let before = added(ledger, 1).await;
    let mut live = ledger.subscribe(SubscribeFrom::Now).await.expect("subscribe");
    let count = usize::try_from(LIVE_LAG_MAX).expect("a count") + 1;
    let all = added(ledger, count).await;
    let new = &all[before.len()..];
    let event = live.next().await.expect("an event").expect("the ledger is open");
    let LedgerEvent::Lagged { missed, resume, cursor } = event else { panic!("{event:?}") };
    assert_eq!((missed, cursor), (count as u64, new[count - 1].cursor));
    let mut resumed = ledger.subscribe(SubscribeFrom::Cursor(resume)).await.expect("subscribe");
    for info in new {
        assert_eq!(next(&mut resumed).await, *info);
    }
    let (got, added) = tokio::join!(next(&mut live), ledger.add(block("new", &[])));
    assert_eq!(got, added.expect("add"));
}
