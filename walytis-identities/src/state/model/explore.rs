//! Every set of ops within the bounds, each exactly once.
//!
//! A set is a partial order: every op knows some of the others. The op that a set grew by last is taken to be, of those
//! that no other op follows, the one with the highest id; every set then has one predecessor, and no set need be
//! remembered. In which orders it may arrive is checked for each set ([`super::orders`]).

use std::collections::BTreeMap;

use super::cast::{Act, Cast};
use super::laws::{self, Broken, Law};
use super::orders;
use crate::id::OpId;
use crate::op::SignedOp;
use crate::state::random_tests::differs_from_nothing;
use crate::state::{AuthorityGraph, IdentityState, Inserted};

/// What an author may know, and pretend to know, when it acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Knowledge {
    /// Everything; what it said itself and what that rests on; the beginning and nothing else, whatever it said since.
    Usual,
    /// Every set that holds the past of its members.
    Any,
}

/// How ids come about: they decide what neither rank nor depth does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ids {
    /// As the digest falls.
    Digest,
    /// Every author may choose to be below or above all others.
    Chosen,
}

/// One family of histories.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) beginning: super::cast::Beginning,
    pub(super) authors: &'static [usize],
    pub(super) acts: &'static [Act],
    pub(super) knowledge: Knowledge,
    pub(super) ids: Ids,
    /// Ops after the beginning: in every test run, and by `make model`.
    pub(super) ops: (usize, usize),
}

/// A set of ops after the beginning, in an order of arrival.
#[derive(Clone)]
pub(super) struct History {
    pub(super) graph: AuthorityGraph,
    pub(super) steps: Vec<Step>,
}

/// One op of a history.
#[derive(Clone)]
pub(super) struct Step {
    pub(super) op: SignedOp,
    pub(super) by: usize,
    pub(super) act: Act,
    /// Bit i: it knows step i.
    pub(super) past: u32,
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = ["a", "b", "c", "d"][self.by];
        let known: Vec<u32> = (0..u32::BITS).filter(|bit| self.past >> bit & 1 == 1).collect();
        write!(f, "{name} {:?} knowing {known:?} [{:?}]", self.act, self.op.id())
    }
}

/// Counts what was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Sets by number of ops.
    pub(super) sets: Vec<u64>,
    /// Ops that their author had no right to.
    pub(super) refused: u64,
    /// Broken laws.
    pub(super) broken: u64,
}

pub(super) struct Explorer<'a> {
    pub(super) family: &'a Family,
    pub(super) cast: Cast,
    pub(super) counts: Counts,
    pub(super) depth: usize,
    /// For each law that is broken the number of ops it takes, and the history.
    pub(super) broken: BTreeMap<Law, (usize, String)>,
}

impl<'a> Explorer<'a> {
    pub(super) fn new(family: &'a Family, depth: usize) -> Self {
        let counts = Counts { sets: vec![0; depth + 1], refused: 0, broken: 0 };
        Self { family, cast: Cast::new(&family.beginning), counts, depth, broken: BTreeMap::new() }
    }

    /// Goes through all sets.
    pub(super) fn run(&mut self) {
        let mut start = History { graph: self.cast.empty.clone(), steps: Vec::new() };
        let state = start.graph.state();
        self.extend(&mut start, &state);
    }

    fn extend(&mut self, from: &mut History, before: &IdentityState) {
        for &by in self.family.authors {
            for past in self.pasts(from, by) {
                let heads = self.heads(from, past);
                for &act in self.family.acts {
                    if act.target() == Some(by) {
                        continue;
                    }
                    for &first_byte in self.first_bytes() {
                        let op = self.cast.make(&mut from.graph, by, heads.as_slice(), act, first_byte);
                        self.add(from, before, Step { op, by, act, past });
                    }
                }
            }
        }
    }

    fn first_bytes(&self) -> &'static [Option<u8>] {
        match self.family.ids {
            Ids::Digest => &[None],
            Ids::Chosen => &[Some(0x00), Some(0xff)],
        }
    }

    fn check(&mut self, history: &mut History, before: &IdentityState, after: &IdentityState) {
        if let Some(what) = orders::that_differs(&self.cast, history, after) {
            self.note(&Broken { law: Law::ReplicasAgree, what }, history);
        }
        if let Some(what) = differs_from_nothing(&mut history.graph) {
            self.note(&Broken { law: Law::NoMemory, what }, history);
        }
        let mut broken = laws::of_a_set(&self.cast, history, after);
        let newest = history.steps.len() - 1;
        for (last, step) in history.steps.clone().iter().enumerate() {
            if last == newest {
                broken.extend(laws::of_a_step(&self.cast, history, step, before, after));
            } else if let Some((earlier, later)) = orders::with_last(&self.cast, history, last) {
                if later != *after {
                    let what = format!("with step {last} last: {}\nnot {}", laws::brief(&later), laws::brief(after));
                    broken.push(Broken { law: Law::ReplicasAgree, what });
                }
                broken.extend(laws::of_a_step(&self.cast, history, step, &earlier, after));
            }
        }
        for broken in broken {
            self.note(&broken, history);
        }
    }

    fn add(&mut self, from: &History, before: &IdentityState, step: Step) {
        if !is_last(&from.steps, &step) {
            return;
        }
        let mut next = from.clone();
        match next.graph.insert(step.op.clone()) {
            Ok(Inserted::New(_)) => {}
            Ok(other) => panic!("{other:?}: a new op with known parents"),
            Err(_) => {
                self.counts.refused += 1;
                return;
            }
        }
        next.steps.push(step);
        let after = next.graph.state();
        self.counts.sets[next.steps.len()] += 1;
        self.check(&mut next, before, &after);
        if next.steps.len() < self.depth {
            self.extend(&mut next, &after);
        }
    }

    /// Keeps the shortest history of each kind; of equally short ones the first.
    fn note(&mut self, broken: &Broken, history: &History) {
        let shorter = |kept: &(usize, String)| history.steps.len() < kept.0;
        self.counts.broken += 1;
        if self.broken.get(&broken.law).is_none_or(shorter) {
            let text = format!("{:#?}\n{}", history.steps, broken.what);
            self.broken.insert(broken.law, (history.steps.len(), text));
        }
    }

    /// What the author may build on, as bits over the steps.
    fn pasts(&self, from: &History, by: usize) -> Vec<u32> {
        let all = (1u32 << from.steps.len()) - 1;
        let closed =
            |set: &u32| from.steps.iter().enumerate().all(|(at, step)| set >> at & 1 == 0 || step.past & !set == 0);
        let mut pasts: Vec<u32> = match self.family.knowledge {
            Knowledge::Any => (0..=all).filter(closed).collect(),
            Knowledge::Usual => {
                let own = from.steps.iter().enumerate().filter(|(_, step)| step.by == by);
                vec![all, own.fold(0, |set, (at, step)| set | step.past | 1 << at), 0]
            }
        };
        pasts.sort_unstable();
        pasts.dedup();
        pasts
    }

    fn heads(&self, from: &History, past: u32) -> Vec<OpId> {
        if past == 0 {
            return self.cast.empty.heads();
        }
        let inner = from.steps.iter().enumerate().filter(|(at, _)| past >> at & 1 == 1);
        let followed = inner.clone().fold(0, |set, (_, step)| set | step.past);
        let mut heads: Vec<OpId> =
            inner.filter(|(at, _)| followed >> at & 1 == 0).map(|(_, step)| step.op.id()).collect();
        heads.sort_unstable();
        heads
    }
}

/// Says whether the op is the one that the set with it grew by last.
fn is_last(steps: &[Step], last: &Step) -> bool {
    let followed = steps.iter().fold(last.past, |set, step| set | step.past);
    steps.iter().enumerate().all(|(at, step)| followed >> at & 1 == 1 || step.op.id() < last.op.id())
        && steps.iter().all(|step| step.op.id() != last.op.id())
}
