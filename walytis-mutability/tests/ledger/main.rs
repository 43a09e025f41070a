//! Mutable ledgers: the contract of every ledger, what changes do, what survives.

#![allow(unreachable_pub, dead_code, reason = "a test program in several files")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod behaviour;
mod contract;
mod crash;
mod double;
mod hostile;
mod order;
mod policy;
mod topics;

use std::sync::Arc;

use futures::TryStreamExt as _;
use tokio::io::AsyncReadExt as _;
use walytis_core::id::BlockId;
use walytis_core::ledger::{Author, BlockState, Ledger as _, LedgerError, NewBlock, Query, SubscribeFrom};
use walytis_core::store::{KvStore, MemoryStore};
use walytis_core::topic::Topic;
use walytis_mutability::event::{Change, Event};
use walytis_mutability::op::{Act, Op, Place};
use walytis_mutability::rights::{PlainGroup, PolicyRights, Rights};
use walytis_mutability::{Current, MutableLedger, MutableParts};

use double::{Double, Kept};

type Over = MutableLedger<Double>;

async fn open(kept: &Kept, me: &'static str, store: Arc<dyn KvStore>) -> Over {
    open_with(kept.open(me), store, rights()).await
}

/// `me` is the admin.
fn rights() -> Arc<dyn Rights> {
    Arc::new(PolicyRights::new(Arc::new(PlainGroup { admins: [Author("me".into())].into() })))
}

async fn open_with(below: Double, store: Arc<dyn KvStore>, rights: Arc<dyn Rights>) -> Over {
    MutableLedger::open(MutableParts { below: Arc::new(below), name: "test".into(), rights, store }).await.unwrap()
}

async fn fresh() -> (Kept, Arc<MemoryStore>, Over) {
    let (kept, store) = (Kept::default(), Arc::new(MemoryStore::new()));
    let ledger = open(&kept, "me", store.clone()).await;
    (kept, store, ledger)
}

fn topic(text: &str) -> Topic {
    Topic::user(text).unwrap()
}

fn op_topics(texts: &[&str]) -> Vec<Topic> {
    std::iter::once("walytis.mutable").chain(texts.iter().copied()).map(|text| Topic::parse(text).unwrap()).collect()
}

fn op(original: BlockId, act: Act, supersedes: &[BlockId]) -> Op {
    let mut supersedes = supersedes.to_vec();
    supersedes.sort_unstable();
    Op { original, supersedes, act, place: Place::Inline }
}

/// A peer's edit.
fn inject(kept: &Kept, author: &str, generation: u64, op: &Op, text: &str) -> BlockId {
    let content = [&op.encode()[..], text.as_bytes()].concat();
    kept.inject(author, generation, op_topics(&[]), &content, BlockState::Available).id
}

async fn add(ledger: &Over, text: &str, topics: &[&str]) -> BlockId {
    let topics = topics.iter().map(|text| topic(text)).collect();
    ledger.add(NewBlock { content: text.to_owned().into(), topics }).await.unwrap().id
}

async fn edit(ledger: &Over, id: &BlockId, text: &str) -> Current {
    ledger.edit(id, text.to_owned().into(), None).await.unwrap()
}

async fn read(ledger: &Over, id: &BlockId) -> Result<String, LedgerError> {
    use walytis_core::ledger::LedgerRead as _;
    let mut text = String::new();
    ledger.content(id).await?.read_to_string(&mut text).await.unwrap();
    Ok(text)
}

async fn read_version(ledger: &Over, id: &BlockId, version: &BlockId) -> String {
    let mut text = String::new();
    ledger.version_content(id, version).await.unwrap().read_to_string(&mut text).await.unwrap();
    text
}

async fn list(ledger: &Over, query: Query, deleted: bool) -> Vec<Current> {
    ledger.blocks(query, deleted).unwrap().try_collect().await.unwrap()
}

/// Waits until everything injected is taken in.
async fn settle(ledger: &Over) {
    use walytis_core::ledger::LedgerRead as _;
    let last = Query {
        order: walytis_core::ledger::Order::Arrival,
        reverse: true,
        limit: Some(1),
        include_void: true,
        include_overlays: true,
        ..Query::default()
    };
    let last: Vec<_> = ledger.below().query(last).await.unwrap().try_collect().await.unwrap();
    if let Some(last) = last.first() {
        ledger.wait_for(last.cursor).await.unwrap();
    }
}

/// All events so far.
async fn events(ledger: &Over, from: SubscribeFrom) -> Vec<Event> {
    use futures::FutureExt as _;
    let mut stream = ledger.events(from).await.unwrap();
    let mut found = Vec::new();
    while let Some(event) = stream.next().now_or_never() {
        found.push(event.unwrap().unwrap());
    }
    found
}

async fn changes(ledger: &Over) -> Vec<Change> {
    let all = events(ledger, SubscribeFrom::Cursor(walytis_core::ledger::Cursor(0))).await;
    all.into_iter().map(|event| event.change).collect()
}
