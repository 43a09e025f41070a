//! Pages and cursors of every ledger.

use walytis_core::id::{BlockId, ChainId};
use walytis_core::ledger::{
    BlockInfo, Cursor, CursorError, LedgerError, NewBlock, Order, Page, PageCursor, Place, Query,
};
use walytis_core::topic::Topic;

use super::{AnyLedger, block, list, topic};

/// Reads page by page and returns all blocks; `each` runs between pages.
async fn read_on(ledger: &dyn AnyLedger, query: &Query, size: usize) -> Vec<BlockInfo> {
    let (mut found, mut after) = (Vec::new(), query.after);
    for _ in 0..10_000 {
        let Page { blocks, next } = page(ledger, Query { limit: Some(size), after, ..query.clone() }).await;
        assert!(blocks.len() <= size, "{} blocks on a page of {size}", blocks.len());
        found.extend(blocks);
        match next {
            // The text is all that a caller keeps.
            Some(next) => after = Some(next.to_string().parse().expect("a cursor")),
            None => return found,
        }
    }
    panic!("the pages of {query:?} never end");
}

async fn page(ledger: &dyn AnyLedger, query: Query) -> Page {
    ledger.page(query).await.expect("a page")
}

fn shapes(middle: &BlockInfo) -> Vec<Query> {
    let mut shapes = Vec::new();
    for order in [Order::Canonical, Order::Arrival] {
        for reverse in [false, true] {
            let base = || Query { order, reverse, ..Query::default() };
            shapes.extend([
                base(),
                Query { topics_any: vec![topic("a"), topic("c")], ..base() },
                Query { topics_all: vec![topic("a"), topic("b")], ..base() },
                Query { creator: Some(middle.creator), topics_all: vec![topic("b")], ..base() },
                Query { generation_from: Some(middle.generation), ..base() },
                Query { arrived_after: Some(middle.cursor), ..base() },
            ]);
        }
    }
    shapes
}

async fn some_blocks(ledger: &dyn AnyLedger) -> Vec<BlockInfo> {
    let sets: [&[&str]; 4] = [&["a"], &["b", "a"], &[], &["c"]];
    let blocks = (0..23).map(|n| block(&n.to_string(), sets[n % 4])).collect();
    ledger.add_many(blocks).await.expect("add")
}

pub(super) async fn pages_are_the_answer_cut_into_pieces(ledger: &dyn AnyLedger) {
    let added = some_blocks(ledger).await;
    for query in shapes(&added[11]) {
        let whole = list(ledger, query.clone()).await;
        assert!(!whole.is_empty(), "{query:?}");
        for size in [1, 2, 7, 100] {
            assert_eq!(read_on(ledger, &query, size).await, whole, "pages of {size}: {query:?}");
        }
        // Behind each block stands what the whole has behind it.
        for at in [0, whole.len() / 2, whole.len() - 1] {
            let after = Some(ledger.cursor_behind(&query, &whole[at]));
            let rest = list(ledger, Query { after, ..query.clone() }).await;
            assert_eq!(rest, whole[at + 1..], "behind {at}: {query:?}");
        }
    }
    assert_eq!(page(ledger, Query { limit: Some(0), ..Query::default() }).await, Page::default());
}

pub(super) async fn pages_hold_still_while_blocks_arrive(ledger: &dyn AnyLedger) {
    let added = some_blocks(ledger).await;
    for query in shapes(&added[11]) {
        let before = list(ledger, query.clone()).await;
        let first = page(ledger, Query { limit: Some(5), ..query.clone() }).await;
        let late = ledger.add(block("late", &["a", "b"])).await.expect("add");
        let after = first.next.expect("there is more");
        let rest = read_on(ledger, &Query { after: Some(after), ..query.clone() }, 3).await;
        let together: Vec<_> = first.blocks.iter().chain(&rest).filter(|info| info.id != late.id).cloned().collect();
        assert_eq!(together, before, "{query:?}");
        let at = rest.iter().position(|info| info.id == late.id);
        let expected = (!query.reverse && query.matches(&late)).then(|| rest.len() - 1);
        assert_eq!(at, expected, "a block that came meanwhile shows where it belongs: {query:?}");
    }
}

pub(super) async fn foreign_cursors_are_refused(ledger: &dyn AnyLedger) {
    let added = some_blocks(ledger).await;
    let query = Query { topics_any: vec![topic("a")], ..Query::default() };
    let refused = async |query: Query| match (ledger.page(query.clone()).await, ledger.query(query).await) {
        (Err(LedgerError::Cursor(page)), Err(LedgerError::Cursor(stream))) if page == stream => page,
        (page, _) => panic!("a foreign cursor was taken: {page:?}"),
    };
    let place = Place::of(Order::Canonical, &added[3]);
    let elsewhere = PageCursor::new(&ChainId(BlockId::from_digest([7; 32])), "", &query, place);
    assert_eq!(refused(Query { after: Some(elsewhere), ..query.clone() }).await, CursorError::OtherLedger);
    let own = Some(ledger.cursor_behind(&query, &added[3]));
    let other = Query { after: own, topics_any: vec![topic("b")], ..query.clone() };
    assert_eq!(refused(other).await, CursorError::OtherQuery);
    let turned = Query { after: own, reverse: true, ..query.clone() };
    assert_eq!(refused(turned).await, CursorError::OtherQuery);
    // A place in the arrival order of another replica: there the block has another number.
    let arrival = Query { order: Order::Arrival, ..query };
    let moved = BlockInfo { cursor: Cursor(added[4].cursor.0), ..added[3].clone() };
    let after = Some(ledger.cursor_behind(&arrival, &moved));
    let error = ledger.page(Query { after, ..arrival }).await.expect_err("refused");
    assert!(matches!(error, LedgerError::Cursor(CursorError::OtherReplica)), "{error}");
}

pub(super) async fn blocks_of_overlays_are_shown_on_request(ledger: &dyn AnyLedger) {
    let plain = ledger.add(block("plain", &["a"])).await.expect("add");
    let reserved = Topic::overlay("contract", "x").expect("a topic");
    let topics = vec![reserved.clone(), topic("a")];
    let hidden = match ledger.add_overlay(vec![NewBlock { content: "hidden".into(), topics }]).await {
        Ok(mut added) => added.pop().expect("one block"),
        Err(LedgerError::Unsupported { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    let shows = async |query: Query| {
        let found = list(ledger, query).await;
        let has = |info: &BlockInfo| found.iter().any(|found| found.id == info.id);
        (has(&plain), has(&hidden))
    };
    for order in [Order::Canonical, Order::Arrival] {
        let base = || Query { order, ..Query::default() };
        assert_eq!(shows(base()).await, (true, false));
        assert_eq!(shows(Query { topics_any: vec![topic("a")], ..base() }).await, (true, false));
        assert_eq!(shows(Query { include_overlays: true, ..base() }).await, (true, true));
        assert_eq!(shows(Query { topics_all: vec![reserved.clone()], ..base() }).await, (false, true));
    }
}
