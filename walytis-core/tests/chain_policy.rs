//! What an admission policy decides, and what becomes of blocks that wait.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

mod chain_parts;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chain_parts::{Bench, check, key};
use futures::StreamExt as _;
use tokio::sync::watch;
use walytis_core::access::{Admission, AdmissionPolicy};
use walytis_core::block::{Block, BlockDraft, DraftContent, Rule};
use walytis_core::id::{BlobId, PeerId};
use walytis_core::key::{PublicKey, Signer as _};
use walytis_core::ledger::{
    BlockState, Ledger as _, LedgerError, LedgerEvent, LedgerRead as _, NewBlock, Order, Query, SubscribeFrom,
};
use walytis_core::limits::PENDING_BYTES_PER_PEER_MAX;
use walytis_core::topic::Topic;

/// Decides by creator; unknown ones wait.
#[derive(Debug)]
struct ByCreator {
    verdicts: Mutex<BTreeMap<PublicKey, Admission>>,
    changes: watch::Sender<u64>,
}

impl ByCreator {
    fn new(verdicts: &[(u8, Admission)]) -> Arc<Self> {
        let verdicts = verdicts.iter().map(|(seed, verdict)| (key(*seed).public_key(), *verdict)).collect();
        Arc::new(Self { verdicts: Mutex::new(verdicts), changes: watch::Sender::new(0) })
    }

    fn set(&self, seed: u8, verdict: Admission) {
        self.verdicts.lock().unwrap().insert(key(seed).public_key(), verdict);
        self.changes.send_modify(|count| *count += 1);
    }
}

#[async_trait]
impl AdmissionPolicy for ByCreator {
    async fn judge(&self, block: &Block) -> Admission {
        self.verdicts.lock().unwrap().get(&block.header().creator).copied().unwrap_or(Admission::Wait)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

#[tokio::test]
async fn waiting_blocks_enter_when_the_policy_changes() {
    let bench = Bench::new();
    let policy = ByCreator::new(&[]);
    let chain = bench.chain_with(1, policy.clone()).await;
    let one = bench.block(5, vec![bench.genesis.id()], 1, b"one");
    let two = bench.block(5, vec![one.id()], 2, b"two");
    let offered = chain.core.offer(vec![two.clone(), one.clone()], None).await.unwrap();
    assert_eq!((offered.admitted.len(), offered.missing.len()), (0, 0));
    assert_eq!(chain.core.pending(), 2);
    let again = chain.core.offer(vec![one.clone()], None).await.unwrap();
    assert_eq!(again.pending, [one.id()]);
    let mut admissions = chain.core.admissions();
    policy.set(5, Admission::Admit);
    let admitted = admissions.recv().await.unwrap();
    assert_eq!(admitted.ids, [(one.id(), 1), (two.id(), 2)]);
    assert_eq!((chain.core.pending(), chain.core.summary().heads), (0, vec![two.id()]));
    check(&chain).await;
}

#[tokio::test]
async fn a_waiting_ancestor_of_an_admissible_block_enters_as_a_skeleton() {
    let bench = Bench::new();
    let policy = ByCreator::new(&[(6, Admission::Admit)]);
    let chain = bench.chain_with(1, policy).await;
    let waits = bench.block(5, vec![bench.genesis.id()], 1, b"no right");
    let rests = bench.block(6, vec![waits.id()], 2, b"has the right");
    chain.core.offer(vec![waits.clone()], None).await.unwrap();
    let offered = chain.core.offer(vec![rests.clone()], None).await.unwrap();
    assert_eq!(offered.admitted, [waits.id(), rests.id()]);
    let info = chain.chain.get(&waits.id()).await.unwrap().unwrap();
    assert!(matches!(info.state, BlockState::Void { .. }));
    let shown: Vec<_> = chain.chain.query(Query::default()).await.unwrap().map(|info| info.unwrap().id).collect().await;
    assert_eq!(shown, [bench.genesis.id(), rests.id()]);
    let all = Query { include_void: true, ..Query::default() };
    assert_eq!(chain.chain.query(all).await.unwrap().count().await, 3);
}

#[tokio::test]
async fn a_refused_block_is_reported_and_takes_its_descendants_along() {
    let bench = Bench::new();
    let policy = ByCreator::new(&[(6, Admission::Admit)]);
    let chain = bench.chain_with(1, policy.clone()).await;
    let bad = bench.block(5, vec![bench.genesis.id()], 1, b"bad");
    let child = bench.block(5, vec![bad.id()], 2, b"child");
    chain.core.offer(vec![bad.clone(), child.clone()], None).await.unwrap();
    assert_eq!(chain.core.pending(), 2);
    policy.set(5, Admission::Refuse("X-1"));
    // A later command is served after the change was seen.
    let mut held = chain.core.pending();
    while held > 0 {
        tokio::task::yield_now().await;
        held = chain.core.pending();
    }
    let offered = chain.core.offer(vec![bad.clone()], None).await.unwrap();
    assert_eq!(offered.rejected.iter().map(|v| (v.rule, v.block)).collect::<Vec<_>>(), [(Rule::Policy, bad.id())]);
    assert_eq!(chain.core.summary().count, 1);
}

#[tokio::test]
async fn a_writer_without_the_right_is_refused_and_writes_nothing() {
    let bench = Bench::new();
    let policy = ByCreator::new(&[(1, Admission::Refuse("X-2"))]);
    let chain = bench.chain_with(1, policy.clone()).await;
    let new = || NewBlock { content: vec![1; 300_000].into(), topics: Vec::new() };
    let LedgerError::Refused { reason } = chain.chain.add(new()).await.unwrap_err() else { panic!("not refused") };
    assert!(reason.contains("X-2"), "{reason}");
    policy.set(1, Admission::Wait);
    assert!(matches!(chain.chain.add(new()).await.unwrap_err(), LedgerError::Refused { .. }));
    check(&chain).await;
    policy.set(1, Admission::Admit);
    chain.chain.add(new()).await.unwrap();
    check(&chain).await;
}

#[tokio::test]
async fn nothing_of_a_skeleton_is_fetched_until_the_policy_admits_it_by_itself() {
    let bench = Bench::new();
    let policy = ByCreator::new(&[(6, Admission::Admit)]);
    let chain = bench.chain_with(1, policy.clone()).await;
    let draft = BlockDraft {
        chain: Some(bench.id()),
        parents: vec![bench.genesis.id()],
        generation: 1,
        created_at_ms: 0,
        topics: vec![Topic::user("late").unwrap()],
        content: DraftContent::Blob { root: BlobId::Raw([7; 32]), len: 100 },
    };
    let waits = draft.sign(&key(5)).unwrap();
    let rests = bench.block(6, vec![waits.id()], 2, b"has the right");
    let mut events = chain.chain.subscribe(SubscribeFrom::Now).await.unwrap();
    chain.core.offer(vec![waits.clone(), rests.clone()], None).await.unwrap();
    let Some(LedgerEvent::Block(told)) = events.next().await.unwrap() else { panic!("the chain ended") };
    assert_eq!(told.id, rests.id(), "a skeleton is told of");
    assert!(chain.core.wanted_blobs().await.unwrap().is_empty());
    let LedgerError::Unavailable { .. } = chain.chain.content(&waits.id()).await.map(drop).unwrap_err() else {
        panic!("the content of a skeleton is asked for")
    };
    let (count, heads) = (chain.core.summary().count, chain.core.summary().heads);
    policy.set(5, Admission::Admit);
    let Some(LedgerEvent::Block(told)) = events.next().await.unwrap() else { panic!("the chain ended") };
    assert_eq!((told.id, told.state), (waits.id(), BlockState::Wanted));
    assert_eq!(chain.core.wanted_blobs().await.unwrap().len(), 1);
    // The graph is as it was; the block has another place in arrival order.
    assert_eq!((chain.core.summary().count, chain.core.summary().heads), (count, heads));
    let late = Query { topics_any: vec![Topic::user("late").unwrap()], order: Order::Arrival, ..Query::default() };
    let found: Vec<_> = chain.chain.query(late).await.unwrap().map(|info| info.unwrap().cursor.0).collect().await;
    assert_eq!(found, [told.cursor.0]);
    assert!(told.cursor.0 > count);
}

#[tokio::test]
async fn a_flood_of_waiting_blocks_is_bounded_and_spares_what_others_sent() {
    let bench = Bench::new();
    let policy = ByCreator::new(&[]);
    let chain = bench.chain_with(1, policy.clone()).await;
    let (flooder, honest) = (PeerId::from_bytes(&[1]), PeerId::from_bytes(&[2]));
    let one = bench.block(5, vec![bench.genesis.id()], 1, b"one");
    let two = bench.block(5, vec![one.id()], 2, b"two");
    chain.core.offer(vec![one.clone(), two.clone()], honest).await.unwrap();
    let size = 400 * 1024;
    let most = PENDING_BYTES_PER_PEER_MAX / size;
    for number in 0..60_u8 {
        let block = bench.block(9, vec![bench.genesis.id()], 1, &vec![number; size]);
        let offered = chain.core.offer(vec![block], flooder.clone()).await.unwrap();
        assert!(offered.admitted.is_empty() && chain.core.pending() <= most + 2, "{}", chain.core.pending());
    }
    assert!(chain.core.pending() > most / 2);
    let mut admissions = chain.core.admissions();
    policy.set(5, Admission::Admit);
    assert_eq!(admissions.recv().await.unwrap().ids, [(one.id(), 1), (two.id(), 2)]);
    // In memory only.
    chain.core.shutdown().await;
    assert_eq!(bench.reopen(1, &chain).await.core.pending(), 0);
}
