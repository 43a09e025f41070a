//! Pages by topic and creator go through the index of the ledger below, and show what a whole listing shows.

use super::*;
use walytis_core::key::PublicKey;
use walytis_core::ledger::LedgerRead as _;

const BLOCKS: usize = 120;

/// Blocks with topics, of which every third is edited, some with other topics, and every seventh deleted; some of both
/// are as they were again.
async fn changed_ledger() -> (Kept, Over, Vec<BlockId>) {
    let (kept, _, ledger) = fresh().await;
    let sets: [&[&str]; 4] = [&["a"], &["b"], &["a", "b"], &[]];
    let mut ids = Vec::new();
    for n in 0..BLOCKS {
        ids.push(add(&ledger, &n.to_string(), sets[n % 4]).await);
    }
    for (n, id) in ids.iter().enumerate() {
        if n % 3 == 0 {
            let topics = sets[n / 3 % 4].iter().map(|text| topic(text)).collect();
            ledger.edit(id, "edited".into(), Some(topics)).await.unwrap();
        }
        if n % 7 == 0 {
            ledger.delete_block(id).await.unwrap();
        }
        if n % 9 == 0 {
            ledger.restore(id, id).await.unwrap();
        }
    }
    kept.inject("them", 50, vec![topic("a")], b"theirs", BlockState::Available);
    settle(&ledger).await;
    (kept, ledger, ids)
}

async fn paged(ledger: &Over, query: &Query, deleted: bool, size: usize) -> Vec<BlockId> {
    let (mut found, mut query) = (Vec::new(), Query { limit: Some(size), ..query.clone() });
    loop {
        let page = ledger.blocks_page(query.clone(), deleted).await.unwrap();
        assert!(page.blocks.len() <= size);
        found.extend(page.blocks.iter().map(|current| current.info.id));
        query.after = page.next;
        if page.next.is_none() {
            return found;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pages_by_topic_and_creator_show_what_a_whole_listing_shows() {
    let (_, ledger, _) = changed_ledger().await;
    let any = |texts: &[&str]| Query { topics_any: texts.iter().map(|text| topic(text)).collect(), ..Query::default() };
    let queries = [
        any(&["a"]),
        any(&["a", "b"]),
        any(&["nowhere"]),
        Query { topics_all: vec![topic("a"), topic("b")], ..Query::default() },
        Query { generation_from: Some(20), generation_to: Some(90), ..any(&["b"]) },
        Query { creator: Some(PublicKey::Ed25519([b't'; 32])), ..Query::default() },
        Query { creator: Some(PublicKey::Ed25519([b'm'; 32])), ..any(&["a"]) },
    ];
    for query in queries {
        for (reverse, deleted) in [(false, false), (false, true), (true, false), (true, true)] {
            let query = Query { reverse, ..query.clone() };
            let whole = list(&ledger, Query { reverse, ..Query::default() }, deleted).await;
            let expected: Vec<BlockId> = whole
                .into_iter()
                .filter(|current| query.matches(&current.info))
                .map(|current| current.info.id)
                .collect();
            for size in [1, 7, BLOCKS * 2] {
                assert_eq!(paged(&ledger, &query, deleted, size).await, expected, "{query:?} {deleted} by {size}");
            }
            let streamed = list(&ledger, query.clone(), deleted).await;
            assert_eq!(streamed.iter().map(|current| current.info.id).collect::<Vec<_>>(), expected, "{query:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn cursors_of_the_ledger_below_are_good_here_and_the_other_way_round() {
    let (_, ledger, ids) = changed_ledger().await;
    for query in [Query::default(), Query { topics_any: vec![topic("a")], ..Query::default() }] {
        let whole: Vec<_> = list(&ledger, query.clone(), false).await;
        let middle = &whole[whole.len() / 2].info;
        let below = ledger.below().get(&middle.id).await.unwrap().unwrap();
        let cursor = ledger.below().cursor_behind(&query, &below);
        assert_eq!(ledger.cursor_behind(&query, middle), cursor);
        let behind = list(&ledger, Query { after: Some(cursor), ..query.clone() }, false).await;
        assert_eq!(behind, whole[whole.len() / 2 + 1..]);
        let page = ledger.page(Query { limit: Some(3), ..query.clone() }).await.unwrap();
        assert_eq!(page.blocks.len(), 3);
        assert!(ledger.below().page(Query { after: page.next, ..query.clone() }).await.is_ok());
        // What lists deleted blocks has cursors of its own.
        let other = ledger.blocks_cursor_behind(&query, middle, true);
        assert!(matches!(
            ledger.page(Query { after: Some(other), ..query }).await,
            Err(LedgerError::Cursor(walytis_core::ledger::CursorError::OtherLedger))
        ));
    }
    assert_eq!(ids.len(), BLOCKS);
}
