//! Replicas cannot differ by the order in which blocks and the knowledge that admits them arrive.
//!
//! A random graph of blocks, each admitted by a random piece of knowledge, by none, or never. Each replica gets blocks
//! and knowledge in its own random order, is restarted in between, and in the end is offered everything once more in
//! canonical order, as catch-up does. The oracle is the definition: a block stands on the chain if it is admitted or an
//! admitted one descends from it, and it counts if it is admitted.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

mod chain_parts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chain_parts::{Bench, TestChain};
use futures::StreamExt as _;
use proptest::prelude::*;
use tokio::sync::watch;
use walytis_core::access::{Admission, AdmissionPolicy};
use walytis_core::block::{Block, UnverifiedBlock};
use walytis_core::chain::{Chain, ChainCore, ChainParts};
use walytis_core::id::{BlockId, PeerId};
use walytis_core::ledger::{BlockState, LedgerEvent, LedgerRead as _, Order, Query, SubscribeFrom};

/// What it takes to admit a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Nothing,
    Piece(u8),
    Never,
    /// The block breaks a rule of the overlay.
    Refused,
}

#[derive(Debug)]
struct Knowledge {
    needs: BTreeMap<BlockId, Needs>,
    known: Mutex<BTreeSet<u8>>,
    changes: watch::Sender<u64>,
}

#[async_trait]
impl AdmissionPolicy for Knowledge {
    async fn judge(&self, block: &Block) -> Admission {
        match self.needs[&block.id()] {
            Needs::Nothing => Admission::Admit,
            Needs::Piece(piece) if self.known.lock().unwrap().contains(&piece) => Admission::Admit,
            Needs::Piece(_) | Needs::Never => Admission::Wait,
            Needs::Refused => Admission::Refuse("V-TEST-01"),
        }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// Blocks, parents first; `parents` are places in the list, 0 being genesis.
#[derive(Clone, Debug)]
struct Plan {
    blocks: Vec<(Vec<usize>, Needs)>,
}

const PIECES: u8 = 3;

fn plan() -> impl Strategy<Value = Plan> {
    let needs = prop_oneof![
        2 => Just(Needs::Nothing),
        4 => (0..PIECES).prop_map(Needs::Piece),
        3 => Just(Needs::Never),
        1 => Just(Needs::Refused),
    ];
    let parents = prop::collection::vec(any::<prop::sample::Index>(), 1..4);
    prop::collection::vec((parents, needs), 1..14).prop_map(|raw| Plan {
        blocks: raw
            .into_iter()
            .enumerate()
            .map(|(at, (parents, needs))| (parents.iter().map(|one| one.index(at + 1)).collect(), needs))
            .collect(),
    })
}

/// What happens to a replica, in order.
#[derive(Clone, Debug)]
enum Step {
    Offer(Vec<prop::sample::Index>),
    Learn(u8),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => prop::collection::vec(any::<prop::sample::Index>(), 1..6).prop_map(Step::Offer),
        2 => (0..PIECES).prop_map(Step::Learn),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 0..14)
}

struct Made {
    bench: Bench,
    blocks: Vec<UnverifiedBlock>,
    needs: BTreeMap<BlockId, Needs>,
    parents: BTreeMap<BlockId, Vec<BlockId>>,
}

/// Makes the blocks; parents that are ancestors of other parents are left out, so that every rule holds.
fn make(plan: &Plan) -> Made {
    let bench = Bench::new();
    let mut ids = vec![(bench.genesis.id(), 0_u64, BTreeSet::<BlockId>::new())];
    let (mut blocks, mut needs, mut parents_of) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    let mut refused = BTreeSet::new();
    for (at, (named, need)) in plan.blocks.iter().enumerate() {
        let below: BTreeSet<BlockId> = named.iter().flat_map(|place| ids[*place].2.iter().copied()).collect();
        let places: Vec<usize> = named.iter().copied().filter(|place| !below.contains(&ids[*place].0)).collect();
        let parents: BTreeSet<BlockId> = places.iter().map(|place| ids[*place].0).collect();
        let generation = 1 + places.iter().map(|place| ids[*place].1).max().unwrap();
        let parents: Vec<_> = parents.into_iter().collect();
        let block = bench.block(7, parents.clone(), generation, &[u8::try_from(at).unwrap()]);
        // What a policy refuses, it refuses for ever, and nothing that descends from it is admitted.
        let need = match need {
            Needs::Nothing | Needs::Piece(_) if parents.iter().any(|id| refused.contains(id)) => Needs::Never,
            need => *need,
        };
        if need == Needs::Refused || parents.iter().any(|id| refused.contains(id)) {
            refused.insert(block.id());
        }
        let ancestors = below.into_iter().chain(parents.iter().copied()).collect();
        ids.push((block.id(), generation, ancestors));
        needs.insert(block.id(), need);
        parents_of.insert(block.id(), parents);
        blocks.push(block);
    }
    Made { bench, blocks, needs, parents: parents_of }
}

impl Made {
    /// The blocks on the chain by definition; those that count are true.
    fn expected(&self) -> BTreeMap<BlockId, bool> {
        let mut expected = BTreeMap::from([(self.bench.genesis.id(), true)]);
        for block in self.blocks.iter().rev() {
            let counts = matches!(self.needs[&block.id()], Needs::Nothing | Needs::Piece(_));
            let carries = expected.contains_key(&block.id());
            if counts || carries {
                expected.insert(block.id(), counts);
                for parent in &self.parents[&block.id()] {
                    expected.entry(*parent).or_insert(false);
                }
            }
        }
        expected
    }

    async fn open(&self, old: &TestChain, policy: Arc<Knowledge>) -> TestChain {
        let (store, blobs) = (old.store.clone(), old.blobs.clone());
        let parts = ChainParts { policy, ..self.bench.parts(store.clone(), blobs.clone()) };
        let core = ChainCore::open(parts).await.unwrap();
        TestChain { chain: Chain::detached(core.clone(), Arc::new(chain_parts::key(1))), core, store, blobs }
    }

    /// Lets one replica live through its steps; returns the blocks that stand on it, whether they count, and its heads.
    async fn live(&self, steps: &[Step]) -> (BTreeMap<BlockId, bool>, Vec<BlockId>) {
        let changes = watch::Sender::new(0);
        let policy = Arc::new(Knowledge { needs: self.needs.clone(), known: Mutex::default(), changes });
        let mut chain = self.bench.chain_with(1, policy.clone()).await;
        let learn = |piece| {
            policy.known.lock().unwrap().insert(piece);
            policy.changes.send_modify(|count| *count += 1);
        };
        for step in steps {
            match step {
                Step::Offer(places) => {
                    let some = places.iter().map(|place| self.blocks[place.index(self.blocks.len())].clone()).collect();
                    chain.core.offer(some, PeerId::from_bytes(&[1])).await.unwrap();
                }
                Step::Learn(piece) => learn(*piece),
                Step::Restart => {
                    chain.core.shutdown().await;
                    chain = self.open(&chain, policy.clone()).await;
                }
            }
        }
        (0..PIECES).for_each(learn);
        chain.core.offer(self.blocks.clone(), PeerId::from_bytes(&[2])).await.unwrap();
        // A second opening judges the skeletons that the first one left.
        chain.core.shutdown().await;
        let chain = self.open(&chain, policy.clone()).await;
        let seen = self.settled(&chain).await;
        let heads = chain.core.summary().heads;
        chain.core.shutdown().await;
        (seen, heads)
    }

    async fn settled(&self, chain: &TestChain) -> BTreeMap<BlockId, bool> {
        let all = Query { include_void: true, order: Order::Canonical, ..Query::default() };
        let mut seen = BTreeMap::new();
        // Skeletons are judged by the chain's task behind the opening; a page is all there is.
        for _ in 0..20 {
            let infos = chain.chain.query(all.clone()).await.unwrap();
            let infos: Vec<_> = infos.map(|info| info.unwrap()).collect().await;
            seen = infos.iter().map(|info| (info.id, !matches!(info.state, BlockState::Void { .. }))).collect();
            tokio::task::yield_now().await;
        }
        assert_eq!(chain.core.summary().count, seen.len() as u64);
        // A subscriber from the beginning is told of every block that counts, once.
        let mut events = chain.chain.subscribe(SubscribeFrom::Cursor(walytis_core::ledger::Cursor(0))).await.unwrap();
        let mut told = BTreeSet::new();
        for _ in 0..seen.values().filter(|counts| **counts).count() {
            let Some(LedgerEvent::Block(info)) = events.next().await.unwrap() else { panic!("the chain ended") };
            assert!(told.insert(info.id), "told twice");
        }
        assert!(told.iter().all(|id| seen[id]));
        seen
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replicas_agree_whatever_the_order_of_blocks_and_knowledge(
        plan in plan(),
        lives in prop::collection::vec(steps(), 2..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let made = make(&plan);
            let expected = made.expected();
            let mut heads = None;
            for steps in &lives {
                let (seen, shown) = made.live(steps).await;
                assert_eq!(seen, expected, "after {steps:?}");
                assert_eq!(*heads.get_or_insert(shown.clone()), shown);
            }
        });
    }
}
