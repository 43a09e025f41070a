//! Pages and lookups.

use std::time::Duration;

use futures::StreamExt as _;
use walytis_core::key::Signer as _;
use walytis_core::ledger::{Cursor, LedgerRead as _, Order, Query};

use super::chain::{Open, key, topic};
use super::micros;

/// Blocks of a page.
const PAGE: usize = 100;

pub(crate) async fn measure(open: &Open, blocks: u32) {
    let half = i64::from(blocks / 2);
    // Each call begins elsewhere, so that memory does not answer alone.
    let spread = |n: u32| u64::from(blocks) / 2 + u64::from(n * 7919 % blocks.div_ceil(4));
    let canonical = page(open, |n| Query { generation_from: Some(spread(n)), ..Query::default() }).await;
    let arrival =
        page(open, |n| Query { arrived_after: Some(Cursor(spread(n))), order: Order::Arrival, ..Query::default() })
            .await;
    let by_topic = page(open, |n| Query {
        topics_any: vec![topic("rare")],
        generation_from: Some(spread(n) / 2),
        ..Query::default()
    })
    .await;
    let last_by_topic =
        page(open, |_| Query { topics_any: vec![topic("rare")], reverse: true, ..Query::default() }).await;
    let by_creator = page(open, |n| Query {
        creator: Some(key(1).public_key()),
        generation_from: Some(spread(n) / 2),
        ..Query::default()
    })
    .await;
    let at_half = best!(5, 4, |n| {
        open.chain.at(half - i64::from(n)).await.unwrap();
    });
    let at_half_from_the_end = best!(5, 4, |n| {
        open.chain.at(-half - 1 + i64::from(n)).await.unwrap();
    });
    let middle = open.chain.at(half).await.unwrap().id;
    let id = middle.to_string();
    let find = best!(5, 20, |_n| assert_eq!(open.chain.find(&id[..24]).await.unwrap(), middle));
    let heads = best!(5, 100, |_n| assert_eq!(open.chain.heads().await.unwrap().len(), 1));
    let row = [
        ("page_canonical", canonical),
        ("page_arrival", arrival),
        ("page_topic", by_topic),
        ("page_topic_reverse", last_by_topic),
        ("page_creator", by_creator),
        ("at_middle", at_half),
        ("at_middle_from_end", at_half_from_the_end),
        ("find_prefix", find),
        ("heads", heads),
    ];
    let fields: String = row.iter().map(|(name, time)| format!(",\"{name}_us\":{:.1}", micros(*time))).collect();
    println!("{{\"bench\":\"growth\",\"work\":\"reads\",\"blocks\":{blocks}{fields}}}");
}

/// Times pages of a hundred.
async fn page(open: &Open, query: impl Fn(u32) -> Query) -> Duration {
    best!(5, 20, |n| {
        let query = Query { limit: Some(PAGE), ..query(n) };
        let page: Vec<_> = open.chain.query(query).await.unwrap().collect().await;
        page.into_iter().for_each(|info| assert!(info.unwrap().size == 256));
    })
}
