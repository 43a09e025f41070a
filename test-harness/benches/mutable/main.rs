//! What changing blocks costs, beside the same work on the plain chain below. Prints JSON lines; asserts nothing.
//!
//! ```text
//! make bench BENCH=mutable               10,000 versions of one block, 100,000 edited blocks
//! make bench BENCH="mutable 1000 10000"  fewer
//! ```
//!
//! Every figure is the best of several rounds; its bound, the plain chain's figure, is measured in the same run.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a figure is printed, a failure panics"
)]

/// How long one turn took on average in the best round. (The future of an `async` closure is not known to be `Send`.)
macro_rules! best {
    (|$n:ident| $work:expr) => {{
        let mut best = Duration::MAX;
        for round in 0..ROUNDS {
            let start = Instant::now();
            for turn in 0..TURNS {
                let $n: u32 = round * TURNS + turn;
                $work;
            }
            best = best.min(start.elapsed() / TURNS);
        }
        best
    }};
}

#[allow(dead_code, reason = "the chain of another benchmark, of which this one needs a part")]
#[path = "../growth/chain.rs"]
mod chain;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use walytis_core::chain::Chain;
use walytis_core::id::BlockId;
use walytis_core::ledger::{Ledger as _, LedgerControl as _, LedgerRead as _, NewBlock, Query};
use walytis_core::store::{Batch, Durability, KvStore as _};
use walytis_core::topic::Topic;
use walytis_mutability::op::{Act, OVERLAY, Op, Place};
use walytis_mutability::rights::PolicyRights;
use walytis_mutability::{MutableLedger, MutableParts};

type Over = MutableLedger<Chain>;

/// Changes per round of a latency.
const TURNS: u32 = 200;
/// Rounds, of which the best counts.
const ROUNDS: u32 = 5;
/// Blocks written at once while a ledger is made.
const FILL: usize = 5_000;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if !words.is_empty() && !words.iter().any(|word| word == "mutable") {
        return;
    }
    let sizes: Vec<usize> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let (versions, edited) = (sizes.first().copied().unwrap_or(10_000), sizes.get(1).copied().unwrap_or(100_000));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    // Spawned, so that it runs where the tasks of a program run.
    runtime.block_on(async move { tokio::spawn(latency()).await }).unwrap();
    runtime.block_on(async move { tokio::spawn(history(versions)).await }).unwrap();
    runtime.block_on(async move { tokio::spawn(pages(edited)).await }).unwrap();
}

async fn over(open: &chain::Open) -> Over {
    let parts = MutableParts {
        below: Arc::new(open.chain.clone()),
        name: String::new(),
        rights: Arc::new(PolicyRights::author()),
        store: open.store.clone(),
    };
    MutableLedger::open(parts).await.unwrap()
}

fn line(work: &str, size: usize, figure: Duration, bound: (&str, Duration)) {
    let (micros, of) = (figure.as_secs_f64() * 1e6, bound.1.as_secs_f64() * 1e6);
    println!(
        "{{\"bench\":\"mutable\",\"work\":\"{work}\",\"size\":{size},\"us\":{micros:.1},\"bound\":\"{}\",\"bound_us\":{of:.1},\"ratio\":{:.2}}}",
        bound.0,
        micros / of
    );
}

/// A durable edit, deletion and restore, each beside a durable `add` of the same size and one flushed commit.
async fn latency() {
    let folder = tempfile::tempdir().unwrap();
    let open = chain::open(folder.path()).await;
    let ledger = over(&open).await;
    let first = ledger.add(chain::block(0)).await.unwrap().id;
    let content = || vec![7; 256];
    let flush = best!(|n| {
        let mut batch = Batch::new();
        batch.put(vec![0xfe, 0, 0], n.to_be_bytes().to_vec());
        open.store.commit(batch, Durability::Flushed).await.unwrap();
    });
    let plain = best!(|n| drop(open.chain.add(chain::block(n)).await.unwrap()));
    line("plain add", 1, plain, ("flushed commit of one record", flush));
    let add = best!(|n| drop(ledger.add(chain::block(n)).await.unwrap()));
    line("add through the mutable ledger", 1, add, ("plain add", plain));
    let edit = best!(|_n| drop(ledger.edit(&first, content().into(), None).await.unwrap()));
    line("edit", 1, edit, ("plain add", plain));
    let mut deleted = false;
    let turns = best!(|_n| {
        match deleted {
            true => drop(ledger.restore(&first, &first).await.unwrap()),
            false => drop(ledger.delete_block(&first).await.unwrap()),
        }
        deleted = !deleted;
    });
    line("delete and restore in turn", 1, turns, ("plain add", plain));
    ledger.shutdown().await;
    open.close().await;
}

/// One block with a long history: the last edits beside the first ones, and reading all of it beside as many plain blocks.
async fn history(versions: usize) {
    let folder = tempfile::tempdir().unwrap();
    let open = chain::open(folder.path()).await;
    let ledger = over(&open).await;
    let id = ledger.add(chain::block(0)).await.unwrap().id;
    let mut edits = Vec::with_capacity(versions);
    for _ in 1..versions {
        let start = Instant::now();
        ledger.edit(&id, vec![7; 256].into(), None).await.unwrap();
        edits.push(start.elapsed());
    }
    let middle = |part: &[Duration]| {
        let mut part = part.to_vec();
        part.sort_unstable();
        part[part.len() / 2]
    };
    let some = 200.min(edits.len() / 2);
    let (early, late) = (middle(&edits[..some]), middle(&edits[edits.len() - some..]));
    line("edit of a block with a long history, median", versions, late, ("edit of one with a short history", early));
    let start = Instant::now();
    assert_eq!(ledger.versions(&id).await.unwrap().len(), versions);
    let read = start.elapsed();
    let start = Instant::now();
    let query = Query { include_overlays: true, limit: Some(versions), ..Query::default() };
    let plain: Vec<_> = open.chain.query(query).await.unwrap().try_collect().await.unwrap();
    assert_eq!(plain.len(), versions);
    line("whole history", versions, read, ("list as many plain blocks", start.elapsed()));
    ledger.shutdown().await;
    let start = Instant::now();
    let ledger = over(&open).await;
    let opened = start.elapsed();
    let start = Instant::now();
    ledger.edit(&id, vec![7; 256].into(), None).await.unwrap();
    line("first edit after a restart", versions, start.elapsed(), ("open the ledger again", opened));
    ledger.shutdown().await;
    open.close().await;
}

/// Pages of blocks that are all edited, beside the same pages of the plain chain.
async fn pages(edited: usize) {
    let folder = tempfile::tempdir().unwrap();
    let open = chain::open(folder.path()).await;
    let ids = fill(&open, edited).await;
    let start = Instant::now();
    let ledger = over(&open).await;
    let (built, blocks) = (start.elapsed(), 2 * edited);
    let per_block = built / u32::try_from(blocks).unwrap();
    println!(
        "{{\"bench\":\"mutable\",\"work\":\"build the index\",\"size\":{blocks},\"us_per_block\":{:.1}}}",
        per_block.as_secs_f64() * 1e6
    );
    assert_eq!(ledger.count().await.unwrap(), ids.len() as u64 + 1);
    let (rare, every) = (vec![chain::topic("rare")], Query { limit: Some(100), ..Query::default() });
    let middle = Some(open.chain.get(&ids[ids.len() / 2]).await.unwrap().unwrap().generation);
    for (work, query) in [
        ("page of 100", Query { generation_from: middle, ..every.clone() }),
        ("page of 100 from the end", Query { reverse: true, ..every.clone() }),
        ("page of 100 by topic", Query { generation_from: middle, topics_all: rare, ..every }),
    ] {
        // The edits are blocks of the plain chain: it would leave them out one by one, and give a page of nothing.
        let below = Query { include_overlays: true, ..query.clone() };
        let plain = best!(|_n| assert_eq!(open.chain.page(below.clone()).await.unwrap().blocks.len(), 100));
        let mutable = best!(|_n| {
            assert_eq!(ledger.page(query.clone()).await.unwrap().blocks.len(), 100);
        });
        line(work, edited, mutable, ("page of the plain chain", plain));
    }
    let get = best!(|n| drop(ledger.get(&ids[n as usize * 97 % ids.len()]).await.unwrap()));
    let plain = best!(|n| drop(open.chain.get(&ids[n as usize * 97 % ids.len()]).await.unwrap()));
    line("one block", edited, get, ("one block of the plain chain", plain));
    ledger.shutdown().await;
    open.close().await;
}

/// Writes blocks and one edit of each.
async fn fill(open: &chain::Open, edited: usize) -> Vec<BlockId> {
    let mut ids = Vec::with_capacity(edited);
    for first in (0..edited).step_by(FILL) {
        let blocks = (first..edited.min(first + FILL)).map(|n| chain::block(u32::try_from(n).unwrap())).collect();
        ids.extend(open.chain.add_many(blocks).await.unwrap().into_iter().map(|info| info.id));
    }
    let topic = Topic::overlay(OVERLAY, "").unwrap();
    for (turn, some) in ids.chunks(FILL).enumerate() {
        let edit = |(n, id): (usize, &BlockId)| {
            let op = Op { original: *id, supersedes: vec![*id], act: Act::Edit, place: Place::Inline };
            let block = chain::block(u32::try_from(turn * FILL + n).unwrap());
            let topics = [vec![topic.clone()], block.topics].concat();
            NewBlock { content: [op.encode(), vec![8; 256]].concat().into(), topics }
        };
        open.chain.add_overlay(some.iter().enumerate().map(edit).collect()).await.unwrap();
    }
    ids
}
