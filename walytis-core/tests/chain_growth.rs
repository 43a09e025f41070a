//! What work on a chain asks of the store does not grow with the chain. Counted, not timed: the same work on a chain of
//! 1,000 and of 50,000 blocks, each opened anew, so that no memory of it answers.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod chain_parts;

use std::collections::BTreeMap;
use std::sync::Arc;

use chain_parts::{Bench, key};
use futures::StreamExt as _;
use test_harness::store::{Cost, CountingStore};
use walytis_core::block::{BlockDraft, DraftContent, UnverifiedBlock};
use walytis_core::chain::{Chain, ChainCore};
use walytis_core::id::BlockId;
use walytis_core::key::Signer as _;
use walytis_core::ledger::{Cursor, Ledger as _, LedgerRead as _, NewBlock, Order, Query};
use walytis_core::store::{MemoryBlobs, MemoryStore};
use walytis_core::topic::Topic;

const SHORT: u32 = 1_000;
const LONG: u32 = 50_000;
/// Blocks of one `add_many` while a chain is made.
const FILL: u32 = 1_000;
/// Blocks of a page.
const PAGE: usize = 100;

fn topic(n: u32) -> Topic {
    Topic::user(if n.is_multiple_of(4) { "rare" } else { "common" }).unwrap()
}

fn block(n: u32) -> NewBlock {
    NewBlock { content: n.to_be_bytes().to_vec().into(), topics: vec![topic(n)] }
}

/// An open chain whose store counts.
struct Counted {
    core: ChainCore,
    chain: Chain,
    store: Arc<CountingStore>,
}

impl Counted {
    async fn open(bench: &Bench, store: MemoryStore) -> Self {
        let store = Arc::new(CountingStore::new(Arc::new(store)));
        let core = ChainCore::create(bench.parts(store.clone(), Arc::new(MemoryBlobs::new())), &bench.genesis);
        let core = core.await.unwrap();
        let chain = Chain::detached(core.clone(), Arc::new(key(1)));
        Self { core, chain, store }
    }

    async fn page(&self, query: Query) -> Cost {
        self.store.take_cost();
        let query = Query { limit: Some(PAGE), ..query };
        let page: Vec<_> = self.chain.query(query).await.unwrap().map(|info| info.unwrap()).collect().await;
        assert_eq!(page.len(), PAGE);
        self.store.take_cost()
    }

    fn child(&self, parent: BlockId, generation: u64, n: u32) -> UnverifiedBlock {
        let draft = BlockDraft {
            chain: Some(self.core.id()),
            parents: vec![parent],
            generation,
            created_at_ms: 0,
            topics: vec![topic(n)],
            content: DraftContent::Inline(n.to_be_bytes().to_vec().into()),
        };
        draft.sign(&key(2)).unwrap()
    }

    async fn offer(&self, block: UnverifiedBlock) -> Cost {
        self.store.take_cost();
        assert_eq!(self.core.offer(vec![block], None).await.unwrap().admitted.len(), 1);
        self.store.take_cost()
    }
}

/// Does everything on a chain of `blocks` blocks and one genesis block, one behind the other.
async fn costs(bench: &Bench, store: MemoryStore, blocks: u32) -> BTreeMap<&'static str, Cost> {
    let open = Counted::open(bench, store).await;
    let mut costs = BTreeMap::new();
    let mut note = |name, cost: Cost| assert!(costs.insert(name, cost).is_none());
    note("open", open.store.take_cost());
    assert_eq!(open.chain.count().await.unwrap(), u64::from(blocks) + 1);
    let heads = open.chain.heads().await.unwrap();
    note("count and heads", open.store.take_cost());
    let half = u64::from(blocks / 2);
    note("page", open.page(Query { generation_from: Some(half), ..Query::default() }).await);
    note("page from the end", open.page(Query { reverse: true, ..Query::default() }).await);
    let query = Query { arrived_after: Some(Cursor(half)), order: Order::Arrival, ..Query::default() };
    note("page by arrival", open.page(query).await);
    let rare = vec![topic(0)];
    let query = Query { topics_any: rare.clone(), generation_from: Some(half), ..Query::default() };
    note("page by topic", open.page(query).await);
    note("page by topic from the end", open.page(Query { topics_any: rare, reverse: true, ..Query::default() }).await);
    let query = Query { creator: Some(key(1).public_key()), generation_from: Some(half), ..Query::default() };
    note("page by creator", open.page(query).await);

    let middle = open.core.canonical_page(half, None, 1).await.unwrap()[0];
    open.store.take_cost();
    assert_eq!(open.chain.find(&middle.to_string()[..30]).await.unwrap(), middle);
    note("find", open.store.take_cost());
    for index in [i64::from(blocks / 2), -i64::from(blocks / 2) - 1] {
        assert_eq!(open.chain.at(index).await.unwrap().id, middle);
        let cost = open.store.take_cost();
        assert!(cost.scans <= 3 && cost.scanned <= 3 * 256 && cost.gets <= 1, "{index}: {cost:?}");
    }
    open.chain.add(block(0)).await.unwrap();
    note("add", open.store.take_cost());
    open.chain.add_many((0..10).map(block).collect()).await.unwrap();
    note("add ten", open.store.take_cost());
    note("insert", open.offer(open.child(heads[0], u64::from(blocks) + 1, 0)).await);
    open.chain.add(block(1)).await.unwrap();
    note("add to two heads", open.store.take_cost());
    note("insert far back", open.offer(open.child(middle, half + 1, 1)).await);
    open.core.shutdown().await;
    costs
}

#[tokio::test(start_paused = true)]
async fn a_chain_that_rests_keeps_no_nodes_in_memory() {
    let bench = Bench::new();
    let open = Counted::open(&bench, MemoryStore::new()).await;
    let added = open.chain.add(block(0)).await.unwrap();
    open.store.take_cost();
    let reads = async |want: u64| {
        assert!(open.core.node(&added.id).await.unwrap().is_some());
        assert_eq!(open.store.take_cost(), Cost { gets: want, ..Cost::default() });
    };
    reads(0).await;
    tokio::time::sleep(std::time::Duration::from_secs(61)).await;
    // The block was added since the last look.
    reads(0).await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    reads(1).await;
    reads(0).await;
}

#[tokio::test]
async fn work_on_a_long_chain_asks_of_the_store_what_it_asks_on_a_short_one() {
    let bench = Bench::new();
    let filled = bench.chain(1).await;
    let mut found = Vec::new();
    for first in (0..LONG).step_by(FILL as usize) {
        filled.chain.add_many((first..first + FILL).map(block).collect()).await.unwrap();
        let blocks = first + FILL;
        if blocks == SHORT || blocks == LONG {
            found.push(costs(&bench, filled.store.snapshot(), blocks).await);
        }
    }
    let (short, long) = (&found[0], &found[1]);
    assert!(short.keys().eq(long.keys()));
    for ((work, short), long) in short.iter().zip(long.values()) {
        assert_eq!(Cost { bytes: 0, ..*short }, Cost { bytes: 0, ..*long }, "{work}");
        assert!(long.bytes <= short.bytes + short.writes, "larger numbers take a few bytes more: {work} {long:?}");
    }
}
