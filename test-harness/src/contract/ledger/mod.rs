//! What every [`Ledger`] must do: chains, and the overlays on them.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a contract suite fails by panicking")]

mod pages;
mod subscribers;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};
use walytis_core::id::BlockId;
use walytis_core::ledger::{
    BlockInfo, BlockState, Content, Cursor, Ledger, LedgerControl, LedgerError, LedgerEvent, NewBlock, Order, Query,
    SubscribeFrom, Subscription,
};
use walytis_core::topic::Topic;

/// A ledger with its life cycle.
pub trait AnyLedger: Ledger + LedgerControl {}
impl<T: Ledger + LedgerControl> AnyLedger for T {}

/// Makes the ledgers under test.
#[async_trait]
pub trait LedgerFixture: Send + Sync {
    /// Makes one more ledger that nobody has added to.
    async fn ledger(&self) -> Arc<dyn AnyLedger>;

    /// Opens the ledger again that [`LedgerFixture::ledger`] returned last and that was shut down.
    async fn reopen(&self) -> Arc<dyn AnyLedger>;
}

/// Runs the whole suite.
///
/// # Panics
/// If the ledger breaks the contract.
pub async fn run(fixture: &dyn LedgerFixture) {
    an_added_block_comes_back_equal(&*fixture.ledger().await).await;
    empty_content_and_no_topics_are_legal(&*fixture.ledger().await).await;
    topics_of_any_printable_text_come_back(&*fixture.ledger().await).await;
    bad_topics_are_refused_before_anything_is_written(&*fixture.ledger().await).await;
    many_blocks_are_added_together_or_not_at_all(&*fixture.ledger().await).await;
    large_content_streams_in_and_out(&*fixture.ledger().await).await;
    content_that_cannot_be_read_adds_nothing(&*fixture.ledger().await).await;
    unknown_blocks_are_unknown(&*fixture.ledger().await).await;
    queries_agree_with_a_plain_filter(&*fixture.ledger().await).await;
    queries_read_on_beyond_one_page(&*fixture.ledger().await).await;
    pages::pages_are_the_answer_cut_into_pieces(&*fixture.ledger().await).await;
    pages::pages_hold_still_while_blocks_arrive(&*fixture.ledger().await).await;
    pages::foreign_cursors_are_refused(&*fixture.ledger().await).await;
    pages::blocks_of_overlays_are_shown_on_request(&*fixture.ledger().await).await;
    live_subscribers_get_what_comes(&*fixture.ledger().await).await;
    subscribers::a_slow_live_subscriber_is_told_what_it_missed(&*fixture.ledger().await).await;
    subscribers::what_was_acknowledged_out_of_order_does_not_come_again(fixture).await;
    subscribers::attempts_are_counted_until_the_acknowledgement(fixture).await;
    subscribers::subscribers_are_listed_acknowledged_for_and_removed(&*fixture.ledger().await).await;
    subscribers::who_subscribes_later_goes_on_in_place_of_the_earlier(&*fixture.ledger().await).await;
    a_named_subscriber_gets_again_what_it_did_not_acknowledge(&*fixture.ledger().await).await;
    a_wrong_acknowledgement_skips_nothing(&*fixture.ledger().await).await;
    everything_is_there_after_reopening(fixture).await;
    a_closed_ledger_says_so(&*fixture.ledger().await).await;
    what_cannot_be_forgotten_is_not(&*fixture.ledger().await).await;
}

fn topic(text: &str) -> Topic {
    Topic::user(text).expect("a good topic")
}

fn block(content: &str, topics: &[&str]) -> NewBlock {
    NewBlock { content: content.to_owned().into(), topics: topics.iter().map(|text| topic(text)).collect() }
}

async fn list(ledger: &dyn AnyLedger, query: Query) -> Vec<BlockInfo> {
    let stream = ledger.query(query).await.expect("query");
    stream.map(|info| info.expect("a block")).collect().await
}

async fn all(ledger: &dyn AnyLedger) -> Vec<BlockInfo> {
    list(ledger, Query::default()).await
}

async fn content(ledger: &dyn AnyLedger, id: &BlockId) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut reader = ledger.content(id).await.expect("content");
    reader.read_to_end(&mut bytes).await.expect("reads to its end");
    bytes
}

async fn an_added_block_comes_back_equal(ledger: &dyn AnyLedger) {
    let before = ledger.count().await.expect("count");
    let bytes = Bytes::from_static(b"hello \0 world");
    let topics = vec![topic("b"), topic("a")];
    let added = ledger.add(NewBlock { content: bytes.clone().into(), topics: topics.clone() }).await.expect("add");
    assert_eq!((added.size, added.topics.clone(), added.state), (13, topics, BlockState::Available));
    assert!(added.generation > 0 && !added.parents.is_empty());
    assert_eq!(ledger.get(&added.id).await.expect("get"), Some(added.clone()));
    assert_eq!(content(ledger, &added.id).await, bytes);
    assert_eq!(all(ledger).await.last(), Some(&added));
    assert_eq!(ledger.count().await.expect("count"), before + 1);
    assert_eq!(ledger.status().await.expect("status").damaged, None);
}

async fn empty_content_and_no_topics_are_legal(ledger: &dyn AnyLedger) {
    let added = ledger.add(block("", &[])).await.expect("add");
    assert_eq!((added.size, added.topics.len()), (0, 0));
    assert_eq!(content(ledger, &added.id).await, b"");
}

async fn topics_of_any_printable_text_come_back(ledger: &dyn AnyLedger) {
    let texts =
        ["ä", "日本", "☃", " ", "a/b", "\\", "\"", "walytis", "WALYTIS.x", "𝕏", "é", "-", "..", "?", "%41", "x y"];
    for count in 0..=texts.len() {
        let added = ledger.add(block("x", &texts[..count])).await.expect("add");
        let got = ledger.get(&added.id).await.expect("get").expect("it is there");
        assert_eq!(got.topics, texts[..count].iter().map(|text| topic(text)).collect::<Vec<_>>());
    }
    let long = "x".repeat(128);
    ledger.add(block("x", &[&long])).await.expect("the longest topic");
}

async fn bad_topics_are_refused_before_anything_is_written(ledger: &dyn AnyLedger) {
    let before = all(ledger).await;
    let many: Vec<_> = (0..17).map(|n| topic(&n.to_string())).collect();
    let twice = vec![topic("a"), topic("a")];
    for topics in [many, twice] {
        let error = ledger.add(NewBlock { content: "x".into(), topics }).await.expect_err("refused");
        assert!(matches!(error, LedgerError::Topics), "{error}");
    }
    let reserved = vec![Topic::overlay("identity", "").expect("a topic")];
    let error = ledger.add(NewBlock { content: "x".into(), topics: reserved }).await.expect_err("refused");
    assert!(matches!(error, LedgerError::Topic(_)), "{error}");
    assert_eq!(all(ledger).await, before);
    ledger.add(block("still usable", &[])).await.expect("add");
}

async fn many_blocks_are_added_together_or_not_at_all(ledger: &dyn AnyLedger) {
    let texts: Vec<String> = (0..100).map(|n| format!("block {n}")).collect();
    let added = ledger.add_many(texts.iter().map(|text| block(text, &["t"])).collect()).await.expect("add");
    assert_eq!(added.len(), 100);
    assert!(added.is_sorted_by(|a, b| a.generation < b.generation && a.cursor < b.cursor));
    assert_eq!(content(ledger, &added[57].id).await, b"block 57");
    let before = all(ledger).await;
    assert_eq!(before[before.len() - 100..], added);
    let bad = NewBlock { content: "x".into(), topics: vec![topic("a"), topic("a")] };
    ledger.add_many(vec![block("good", &[]), bad]).await.expect_err("refused");
    assert_eq!(all(ledger).await, before);
    assert_eq!(ledger.add_many(Vec::new()).await.expect("nothing to do"), []);
}

async fn large_content_streams_in_and_out(ledger: &dyn AnyLedger) {
    let pattern: Vec<u8> = (0..3_500_000_u32).flat_map(|n| n.to_le_bytes()[..1].to_vec()).collect();
    for len in [65_535, 65_536, 1 << 20, (1 << 20) + 1, pattern.len()] {
        let bytes = Bytes::copy_from_slice(&pattern[..len]);
        let whole = ledger.add(NewBlock { content: bytes.clone().into(), topics: vec![] }).await.expect("add bytes");
        let reader = Content::Reader(Box::new(std::io::Cursor::new(bytes.clone())));
        let streamed = ledger.add(NewBlock { content: reader, topics: vec![] }).await.expect("add a stream");
        for info in [whole, streamed] {
            assert_eq!((info.size, info.state), (len as u64, BlockState::Available));
            assert!(content(ledger, &info.id).await == bytes, "content of {len} bytes differs");
        }
    }
}

/// Gives some bytes, then fails.
struct Broken(usize);

impl AsyncRead for Broken {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.0 == 0 {
            return Poll::Ready(Err(std::io::Error::other("the disk was pulled out")));
        }
        let len = out.remaining().min(self.0);
        out.put_slice(&vec![7; len]);
        self.0 -= len;
        Poll::Ready(Ok(()))
    }
}

async fn content_that_cannot_be_read_adds_nothing(ledger: &dyn AnyLedger) {
    let before = all(ledger).await;
    for len in [0, 10, 200_000, 2_500_000] {
        let content = Content::Reader(Box::new(Broken(len)));
        let error = ledger.add(NewBlock { content, topics: vec![] }).await.expect_err("unreadable");
        assert!(matches!(error, LedgerError::Read(_)), "{error}");
    }
    assert_eq!(all(ledger).await, before);
    ledger.add(block("still usable", &[])).await.expect("add");
}

async fn unknown_blocks_are_unknown(ledger: &dyn AnyLedger) {
    let id = BlockId::from_digest([9; 32]);
    assert_eq!(ledger.get(&id).await.expect("get"), None);
    let Err(error) = ledger.content(&id).await else { panic!("content of no block") };
    assert!(matches!(error, LedgerError::UnknownBlock { id: unknown } if unknown == id), "{error}");
}

fn matches(query: &Query, info: &BlockInfo) -> bool {
    (query.topics_any.is_empty() || query.topics_any.iter().any(|topic| info.topics.contains(topic)))
        && query.topics_all.iter().all(|topic| info.topics.contains(topic))
        && query.creator.is_none_or(|creator| creator == info.creator)
        && query.since_ms.is_none_or(|since| info.created_at_ms >= since)
        && query.until_ms.is_none_or(|until| info.created_at_ms < until)
        && query.generation_from.is_none_or(|from| info.generation >= from)
        && query.generation_to.is_none_or(|to| info.generation < to)
        && query.arrived_after.is_none_or(|after| info.cursor > after)
}

async fn queries_agree_with_a_plain_filter(ledger: &dyn AnyLedger) {
    let sets: [&[&str]; 5] = [&["a"], &["b"], &["a", "b"], &[], &["aa"]];
    for n in 0..30 {
        ledger.add(block(&n.to_string(), sets[n % 5])).await.expect("add");
    }
    let canonical = all(ledger).await;
    assert!(canonical.is_sorted_by_key(|info| (info.generation, info.id)));
    let mut arrival = canonical.clone();
    arrival.sort_by_key(|info| info.cursor);
    let middle = &canonical[canonical.len() / 2];
    let narrow = [
        Query::default(),
        Query { topics_any: vec![topic("a")], ..Query::default() },
        Query { topics_any: vec![topic("a"), topic("b"), topic("none")], ..Query::default() },
        Query { topics_all: vec![topic("a"), topic("b")], ..Query::default() },
        Query { topics_all: vec![topic("a")], topics_any: vec![topic("b"), topic("c")], ..Query::default() },
        Query { topics_all: vec![topic("none")], ..Query::default() },
        Query { creator: Some(middle.creator), ..Query::default() },
        Query {
            generation_from: Some(middle.generation),
            generation_to: Some(middle.generation + 3),
            ..Query::default()
        },
        Query { generation_from: Some(5), generation_to: Some(5), ..Query::default() },
        Query { since_ms: Some(middle.created_at_ms), ..Query::default() },
        Query { until_ms: Some(middle.created_at_ms), ..Query::default() },
        Query { arrived_after: Some(middle.cursor), topics_any: vec![topic("a")], ..Query::default() },
        Query { arrived_after: Some(Cursor(u64::MAX)), ..Query::default() },
    ];
    for query in narrow {
        for (order, blocks) in [(Order::Canonical, &canonical), (Order::Arrival, &arrival)] {
            for reverse in [false, true] {
                for limit in [None, Some(0), Some(3), Some(1_000)] {
                    let query = Query { order, reverse, limit, ..query.clone() };
                    let mut expected: Vec<_> = blocks.iter().filter(|info| matches(&query, info)).cloned().collect();
                    if reverse {
                        expected.reverse();
                    }
                    expected.truncate(limit.unwrap_or(usize::MAX));
                    assert_eq!(list(ledger, query.clone()).await, expected, "{query:?}");
                }
            }
        }
    }
}

async fn queries_read_on_beyond_one_page(ledger: &dyn AnyLedger) {
    let before = all(ledger).await.len();
    let blocks = (0..400).map(|n| block(&n.to_string(), if n % 100 == 99 { &["rare", "all"] } else { &["all"] }));
    let added = ledger.add_many(blocks.collect()).await.expect("add");
    assert_eq!(all(ledger).await[before..], added);
    let both = Query { topics_all: vec![topic("all"), topic("rare")], ..Query::default() };
    assert_eq!(list(ledger, both).await.len(), 4);
    let any = Query { topics_any: vec![topic("rare"), topic("all")], reverse: true, ..Query::default() };
    let mut backwards = list(ledger, any).await;
    backwards.reverse();
    assert_eq!(backwards, added);
}

async fn next(subscription: &mut Box<dyn Subscription>) -> BlockInfo {
    match subscription.next().await.expect("an event").expect("the ledger is open") {
        LedgerEvent::Block(info) => info,
        other => panic!("unexpected {other:?}"),
    }
}

async fn live_subscribers_get_what_comes(ledger: &dyn AnyLedger) {
    let old = ledger.add(block("old", &[])).await.expect("add");
    let mut live = ledger.subscribe(SubscribeFrom::Now).await.expect("subscribe");
    let mut behind = ledger.subscribe(SubscribeFrom::Cursor(Cursor(old.cursor.0 - 1))).await.expect("subscribe");
    let (got, added) = tokio::join!(next(&mut live), ledger.add(block("new", &["t"])));
    assert_eq!(got, added.expect("add"));
    assert_eq!(next(&mut behind).await, old);
    assert_eq!(next(&mut behind).await, got);
    let many = ledger.add_many((0..300).map(|n| block(&n.to_string(), &[])).collect()).await.expect("add");
    for info in &many {
        assert_eq!(next(&mut live).await, *info);
    }
}

fn named(name: &str) -> SubscribeFrom {
    SubscribeFrom::Name(name.to_owned())
}

async fn a_named_subscriber_gets_again_what_it_did_not_acknowledge(ledger: &dyn AnyLedger) {
    ledger.add_many((0..5).map(|n| block(&n.to_string(), &[])).collect()).await.expect("add");
    let everything = list(ledger, Query { order: Order::Arrival, ..Query::default() }).await;
    let mut first = ledger.subscribe(named("one")).await.expect("subscribe");
    for info in &everything {
        assert_eq!(next(&mut first).await, *info);
    }
    first.ack(everything[2].cursor).await.expect("ack");
    // An older acknowledgement takes nothing back.
    first.ack(everything[0].cursor).await.expect("ack");
    drop(first);
    let mut again = ledger.subscribe(named("one")).await.expect("subscribe");
    assert_eq!(next(&mut again).await, everything[3]);
    let mut other = ledger.subscribe(named("two")).await.expect("subscribe");
    assert_eq!(next(&mut other).await, everything[0]);
    for bad in [String::new(), "x".repeat(65)] {
        ledger.subscribe(SubscribeFrom::Name(bad)).await.expect_err("not a name");
    }
}

async fn a_wrong_acknowledgement_skips_nothing(ledger: &dyn AnyLedger) {
    let mut subscription = ledger.subscribe(named("hasty")).await.expect("subscribe");
    ledger.add_many((0..5).map(|n| block(&n.to_string(), &[])).collect()).await.expect("add");
    let first = next(&mut subscription).await;
    subscription.ack(Cursor(first.cursor.0 + 1_000)).await.expect("ack");
    let second = next(&mut subscription).await;
    drop(subscription);
    let mut again = ledger.subscribe(named("hasty")).await.expect("subscribe");
    assert_eq!(next(&mut again).await, second);
}

async fn everything_is_there_after_reopening(fixture: &dyn LedgerFixture) {
    let ledger = fixture.ledger().await;
    for n in 0..20 {
        ledger.add(block(&format!("block {n}"), &["t"])).await.expect("add");
    }
    let large = vec![5; 200_000];
    let blob = ledger.add(NewBlock { content: large.clone().into(), topics: vec![] }).await.expect("add");
    let mut subscription = ledger.subscribe(named("reader")).await.expect("subscribe");
    let read = next(&mut subscription).await;
    subscription.ack(read.cursor).await.expect("ack");
    let (before, heads, count) = (all(&*ledger).await, ledger.heads().await, ledger.count().await);
    let id = ledger.id();
    drop(subscription);
    ledger.shutdown().await;
    drop(ledger);
    let ledger = fixture.reopen().await;
    assert_eq!(ledger.id(), id);
    assert_eq!(all(&*ledger).await, before);
    assert_eq!(ledger.heads().await.expect("heads"), heads.expect("heads"));
    assert_eq!(ledger.count().await.expect("count"), count.expect("count"));
    assert_eq!(content(&*ledger, &before[before.len() - 2].id).await, b"block 19");
    assert_eq!(content(&*ledger, &blob.id).await, large);
    let mut subscription = ledger.subscribe(named("reader")).await.expect("subscribe");
    assert!(next(&mut subscription).await.cursor > read.cursor);
    let added = ledger.add(block("later", &[])).await.expect("add");
    assert!(before.iter().all(|info| info.cursor < added.cursor && info.generation < added.generation));
}

async fn a_closed_ledger_says_so(ledger: &dyn AnyLedger) {
    let mut subscription = ledger.subscribe(SubscribeFrom::Now).await.expect("subscribe");
    let (end, ()) = tokio::join!(subscription.next(), ledger.shutdown());
    assert_eq!(end.expect("an end"), None);
    ledger.shutdown().await;
    let error = ledger.add(block("late", &[])).await.expect_err("closed");
    assert!(matches!(error, LedgerError::Closed), "{error}");
}

async fn what_cannot_be_forgotten_is_not(ledger: &dyn AnyLedger) {
    let added = ledger.add(block("keep or forget", &[])).await.expect("add");
    match ledger.forget(&[added.id]).await {
        Err(LedgerError::Unsupported { .. }) => assert_eq!(content(ledger, &added.id).await, b"keep or forget"),
        Err(error) => panic!("{error}"),
        Ok(()) => {
            let info = ledger.get(&added.id).await.expect("get").expect("the block stays");
            assert_eq!(info.state, BlockState::Forgotten);
        }
    }
}
