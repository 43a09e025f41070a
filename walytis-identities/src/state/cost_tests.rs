//! What the state costs: figures for `docs/performance.md`, never asserted. Run with
//! `cargo test --release -p walytis-identities --all-features --lib state::cost -- --ignored --nocapture --test-threads 1`.
#![allow(clippy::print_stdout, reason = "that is what a measurement is for")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use walytis_core::clock::SeededEntropy;
use walytis_core::id::{BlockId, ChainId};

use super::bits::Bits;
use super::evaluate::{Evaluation, evaluate};
use super::fold::fold;
use super::random_tests::from_nothing;
use super::{AuthorityGraph, Builder, CreateOptions};
use crate::crypto::{DecodedKeys, DeviceKeys, KeyId, Label, hpke_seal};
use crate::epoch::EpochView;
use crate::id::{ControllerId, OpId, Role};
use crate::op::{Document, EpochPart, Invite, Op, OpCore, Remove, SetRole, SignedOp, Slot};
use crate::token::JoinRequest;

const OPS: usize = 10_000;
const ADMINS: usize = 4;

fn chain() -> ChainId {
    ChainId(BlockId::of_file(b"cost"))
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = work();
    (done, start.elapsed())
}

/// Four admins over years, of whom mostly two act at the same time: invitations, services, new keys, changes of role,
/// newcomers that come and are removed, and now and then one who says something beside its removal.
struct Years {
    keys: Vec<DeviceKeys>,
    graph: AuthorityGraph,
    part: EpochPart,
    create: SignedOp,
    ops: Vec<SignedOp>,
    /// What the admin that lags behind names.
    before: Vec<OpId>,
}

impl Years {
    fn new() -> Self {
        let entropy = SeededEntropy::new(1);
        let keys: Vec<_> = (0..ADMINS + 8).map(|_| DeviceKeys::generate(&entropy)).collect();
        let create = Builder::create(&keys[0], &CreateOptions::default(), &entropy).unwrap().op;
        let part = create.core().op.epoch().unwrap().clone();
        let graph = empty(&create, false);
        let mut years = Self { keys, graph, part, create, ops: Vec::new(), before: Vec::new() };
        (1..ADMINS + 4).for_each(|who| years.admit(who, if who < ADMINS { Role::Admin } else { Role::Member }));
        years
    }

    fn id(&self, who: usize) -> ControllerId {
        ControllerId::Device(self.keys[who].id())
    }

    fn say(&mut self, by: usize, auth_parents: Vec<OpId>, op: Op) {
        let (author, device) = (self.id(by), self.keys[by].id());
        let core = OpCore { chain: *chain().digest(), author, device, auth_parents, op };
        let op = core.sign(&self.keys[by], &SeededEntropy::new(self.ops.len() as u64)).unwrap();
        self.graph.insert(op.clone()).unwrap();
        self.ops.push(op);
    }

    fn epoch(&mut self, heads: &[OpId], without: Option<ControllerId>) -> EpochPart {
        let state = self.graph.state_at(heads).unwrap();
        let to = state.controllers.keys().copied().filter(|id| Some(*id) != without);
        let slots = to.map(|controller| Slot { controller, key: KeyId([0; 32]), sealed: vec![0; 1_200] }).collect();
        EpochPart { slots, ..self.part.clone() }
    }

    fn admit(&mut self, who: usize, role: Role) {
        let entropy = SeededEntropy::new(9);
        let request = JoinRequest::new(&self.keys[who], &chain(), &self.id(0), None, &entropy);
        let held = BTreeMap::new();
        let built = Builder::new(&mut self.graph, &self.keys[0], &held, &entropy).admit(request, role).unwrap();
        self.graph.insert(built.op.clone()).unwrap();
        self.ops.push(built.op);
    }

    fn go_on(&mut self, n: usize) {
        let by = n % ADMINS;
        // Every second op is made without knowing the one before.
        let heads = if n % 2 == 1 && !self.before.is_empty() { self.before.clone() } else { self.graph.heads() };
        self.before = self.graph.heads();
        let newcomer = ADMINS + 4 + (n / 40) % 4;
        let op = match n % 40 {
            0 => return self.admit(newcomer, Role::Member),
            20 => {
                let (target, heads) = (self.id(newcomer), self.graph.heads());
                let epoch = self.epoch(&heads, Some(target));
                let remove = Remove { targets: vec![target], cut: vec![], kept: vec![], co_signatures: vec![], epoch };
                return self.say(0, heads, Op::Remove(Box::new(remove)));
            }
            // By the one removed, beside its removal.
            21 => {
                let rekey = self.epoch(&heads, None);
                return self.say(newcomer, heads, Op::Rekey(Box::new(rekey)));
            }
            1..8 => Op::Rekey(Box::new(self.epoch(&heads, None))),
            8 | 9 => {
                let role = if (n / 40).is_multiple_of(2) { Role::Reader } else { Role::Member };
                let heads = self.graph.heads();
                let op = Op::SetRole(SetRole { controller: self.id(ADMINS + n % 2), role, cut: vec![] });
                return self.say(0, heads, op);
            }
            10..20 => Op::Document(Document { services: vec![(n.to_string(), String::new(), String::new())] }),
            _ => Op::Invite(Invite { key: [7; 32], role: Role::Member, uses: Some(1), expires_at_ms: None }),
        };
        self.say(by, heads, op);
    }
}

fn empty(create: &SignedOp, unsigned: bool) -> AuthorityGraph {
    let mut graph = AuthorityGraph::new(chain(), create.clone()).unwrap();
    graph.unsigned = unsigned;
    graph.nodes.limits.by_admin = OPS;
    graph
}

fn evaluated_anew(graph: &mut AuthorityGraph) -> Evaluation {
    let all = graph.everything();
    let named = graph.named_in(&all);
    let nested = graph.nested_voids(&Bits::new(), &all, &named);
    evaluate(graph.nodes(), &Evaluation::default(), all, named, &nested)
}

/// What cannot be saved: every op's signatures, by keys that are decoded.
fn signatures(years: &Years) -> Duration {
    let keys: BTreeMap<_, _> =
        years.keys.iter().map(|keys| (keys.id(), DecodedKeys::decode(keys.public()).unwrap())).collect();
    let verify = |op: &SignedOp| op.verify(&keys[&op.core().device]).unwrap();
    timed(|| years.ops.iter().for_each(verify)).1
}

#[test]
#[ignore = "a measurement"]
fn cost_of_ten_thousand_ops() {
    let mut years = Years::new();
    let mut n = 0;
    while years.ops.len() < OPS {
        years.go_on(n);
        n += 1;
    }
    let bound = signatures(&years);
    println!("{OPS} ops: bound, their signatures: {bound:?}, {:?} an op", bound / 10_000);
    let mut graph = empty(&years.create, false);
    let (_, all) = timed(|| {
        years.ops.iter().for_each(|op| drop(graph.insert(op.clone()).unwrap()));
        graph.state()
    });
    println!("taken in and the state at the end: {all:?}, {:.2} of the bound", all.div_duration_f64(bound));
    let (mut graph, mut spent, mut worst) = (empty(&years.create, true), Duration::ZERO, Duration::ZERO);
    for (at, op) in years.ops.iter().enumerate() {
        let (_, took) = timed(|| {
            graph.insert(op.clone()).unwrap();
            graph.state()
        });
        if at >= OPS - 1_000 {
            (spent, worst) = (spent + took, worst.max(took));
        }
    }
    println!(
        "the last 1,000 ops, each with the state after it, without signatures: {:?} an op, {worst:?} at most",
        spent / 1_000
    );
    let (evaluated, took) = timed(|| evaluated_anew(&mut graph));
    println!("all evaluated anew: {took:?}, {} void", evaluated.void.set.len());
    let views = graph.nested_views(&evaluated.named);
    let (_, took) = timed(|| fold(graph.nodes(), None, evaluated.into(), &views));
    println!("folded anew: {took:?}");
    let half = years.ops[OPS / 2].id();
    let (_, then) = timed(|| graph.state_at(&[half]).unwrap());
    println!("the state as of op {}: {then:?}", OPS / 2);
    // One that was away from the beginning says something.
    let away = years.ops[ADMINS + 4].id();
    years.graph = graph;
    let op = Op::Document(Document { services: vec![("away".into(), String::new(), String::new())] });
    let ((), late) = timed(|| {
        years.say(1, vec![away], op);
        drop(years.graph.state());
    });
    println!("an op beside nearly everything, with the state after it: {late:?}");
    assert_eq!(*years.graph.state(), from_nothing(&mut years.graph));
}

#[test]
#[ignore = "a measurement"]
fn cost_of_rekeys_and_removals() {
    let entropy = SeededEntropy::new(2);
    for controllers in [2, 8, 32, 128] {
        let keys: Vec<_> = (0..controllers).map(|_| DeviceKeys::generate(&entropy)).collect();
        let built = Builder::create(&keys[0], &CreateOptions::default(), &entropy).unwrap();
        let mut held = BTreeMap::from([(built.op.id(), built.secrets.unwrap())]);
        let mut graph = AuthorityGraph::new(chain(), built.op.clone()).unwrap();
        let mut other = AuthorityGraph::new(chain(), built.op).unwrap();
        for newcomer in &keys[1..] {
            let me = ControllerId::Device(keys[0].id());
            let request = JoinRequest::new(newcomer, &chain(), &me, None, &entropy);
            let built = Builder::new(&mut graph, &keys[0], &held, &entropy).admit(request, Role::Member).unwrap();
            held.insert(built.op.id(), built.secrets.clone().unwrap());
            graph.insert(built.op.clone()).unwrap();
            other.insert(built.op).unwrap();
        }
        let last = ControllerId::Device(keys[controllers - 1].id());
        for what in ["rekey", "remove"] {
            let slots = if what == "rekey" { controllers } else { controllers - 1 };
            let (_, bound) = timed(|| {
                for keys in &keys[..slots] {
                    drop(hpke_seal(Label::EpochSlot, &keys.public().receiving, b"", &[0; 96], &entropy).unwrap());
                }
            });
            let (built, author) = timed(|| {
                let builder = Builder::new(&mut graph, &keys[0], &held, &entropy);
                let built = if what == "rekey" { builder.rekey() } else { builder.remove(vec![last], vec![], vec![]) };
                let built = built.unwrap();
                graph.insert(built.op.clone()).unwrap();
                drop(graph.state());
                built
            });
            let size = built.op.encode().len();
            let receiver = receive(&mut other, &built.op, &keys[0]);
            println!(
                "{controllers} controllers, {what}: author {author:?} ({slots} X-Wing seals {bound:?}, {:.2}), {receiver}, {size} bytes",
                author.div_duration_f64(bound)
            );
            held.insert(built.op.id(), built.secrets.unwrap());
        }
    }
}

/// Takes an op in, looks at the state and opens the own slot; says what each took, and what its signatures alone do.
fn receive(graph: &mut AuthorityGraph, op: &SignedOp, keys: &DeviceKeys) -> String {
    let author = DecodedKeys::decode(keys.public()).unwrap();
    let (_, signatures) = timed(|| op.verify(&author).unwrap());
    let op = op.clone();
    let core = op.core().clone();
    let (_, insert) = timed(|| graph.insert(op).unwrap());
    let (_, state) = timed(|| graph.state());
    let me = ControllerId::Device(keys.id());
    let (_, slot) = timed(|| EpochView::open_slot(&core, &me, true, &[keys.receiving()]).unwrap());
    let all = insert + state + slot;
    format!("receiver {all:?}: taken in {insert:?} (signatures {signatures:?}), state {state:?}, slot {slot:?}")
}
