//! Every set of ops within the bounds, each exactly once.
//!
//! A set is a partial order: every op knows some of the others. The op that a set grew by last is taken to be, of those
//! that no other op follows, the one with the highest id; every set then has one predecessor, and no set need be
//! remembered. In which orders it may arrive is checked for each set ([`super::orders`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cast::{Act, Cast};
use super::history::{History, Knowledge, Step};
use super::laws::{self, Broken, Law};
use super::orders::Replicas;
use crate::id::OpId;
use crate::op::SignedOp;
use crate::state::IdentityState;

/// Ops made on a part of what is known that are kept, with those that were refused. Chosen: bounds memory.
const MADE_KEPT: usize = 4_000;

/// How ids come about: they decide what neither rank nor depth does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ids {
    /// As they fall.
    Drawn,
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

/// Counts what was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Sets by number of ops.
    pub(super) sets: Vec<u64>,
    /// Ops that their author had no right to.
    pub(super) refused: u64,
    /// Broken laws.
    pub(super) broken: u64,
    /// Histories that were drawn.
    pub(super) drawn: u64,
}

pub(super) struct Explorer<'a> {
    pub(super) family: &'a Family,
    pub(super) cast: Cast,
    pub(super) counts: Counts,
    pub(super) depth: usize,
    pub(super) replicas: Replicas,
    /// Ops made on a part of what is known: nothing, if they were refused.
    made: BTreeMap<OpId, Option<Arc<SignedOp>>>,
    /// For each law that is broken the number of ops it takes, and the history.
    pub(super) broken: BTreeMap<Law, (usize, String)>,
}

impl<'a> Explorer<'a> {
    /// `draw`: which ids fall.
    pub(super) fn new(family: &'a Family, depth: usize, draw: u64) -> Self {
        let counts = Counts { sets: vec![0; depth + 1], ..Counts::default() };
        let cast = Cast::new(&family.beginning, draw);
        let replicas = Replicas::new(&cast);
        Self { family, cast, counts, depth, replicas, made: BTreeMap::new(), broken: BTreeMap::new() }
    }

    /// Goes through all sets.
    pub(super) fn run(&mut self) {
        let mut start = History::new(&self.cast);
        let state = start.graph.state();
        self.extend(&mut start, &state);
    }

    fn extend(&mut self, from: &mut History, before: &IdentityState) {
        for &by in self.family.authors {
            for past in from.pasts(self.family.knowledge, by) {
                let heads = from.heads(&self.cast, past);
                for &act in self.family.acts {
                    if act.target() == Some(by) {
                        continue;
                    }
                    for &first_byte in self.first_bytes() {
                        let id = self.cast.op_id(by, &heads, act, first_byte);
                        if is_last(&from.steps, &id, past) {
                            self.add(from, before, by, &heads, (act, past, id));
                        }
                    }
                }
            }
        }
    }

    pub(super) fn first_bytes(&self) -> &'static [Option<u8>] {
        match self.family.ids {
            Ids::Drawn => &[None],
            Ids::Chosen => &[Some(0x00), Some(0xff)],
        }
    }

    fn add(
        &mut self,
        from: &mut History,
        before: &IdentityState,
        by: usize,
        heads: &[OpId],
        (act, past, id): (Act, u32, OpId),
    ) {
        let Some(after) = self.grown(from, by, heads, (act, past, id)) else {
            self.counts.refused += 1;
            return;
        };
        self.counts.sets[from.steps.len()] += 1;
        for broken in self.check(from, before, &after) {
            self.note(&broken, from);
        }
        if from.steps.len() < self.depth {
            self.extend(from, &after);
        }
        from.pop();
    }

    /// Makes an op and adds it; nothing if its author has no right to it.
    pub(super) fn grown(
        &mut self,
        from: &mut History,
        by: usize,
        heads: &[OpId],
        (act, past, id): (Act, u32, OpId),
    ) -> Option<Arc<IdentityState>> {
        // Whether it is refused is decided by its past: what was made on the same one before need not be asked again.
        let is_part = past.count_ones() as usize != from.steps.len();
        let made = self.made.get(&id).filter(|_| is_part);
        let op = match made {
            Some(made) => made.clone()?,
            None => Arc::new(self.cast.make(&mut from.graph, by, heads, act, id)),
        };
        let after = from.push((*op).clone(), by, act, past).ok();
        if is_part {
            if self.made.len() >= MADE_KEPT {
                self.made.clear();
            }
            self.made.insert(id, after.is_some().then_some(op));
        }
        after
    }

    /// Returns the laws that a set breaks. `before`: the state without its newest op.
    pub(super) fn check(
        &mut self,
        history: &mut History,
        before: &IdentityState,
        after: &IdentityState,
    ) -> Vec<Broken> {
        let mut broken = self.replicas.that_differ(history, after);
        broken.extend(laws::of_a_set(&self.cast, history, after));
        let newest = history.steps.len() - 1;
        for last in 0..history.steps.len() {
            if last == newest {
                broken.extend(laws::of_a_step(&self.cast, history, last, before, after));
            } else if history.is_maximal(last) {
                let earlier = history.without(last);
                broken.extend(laws::of_a_step(&self.cast, history, last, &earlier, after));
            }
        }
        broken
    }

    /// Keeps the shortest history of each kind; of equally short ones the first.
    pub(super) fn note(&mut self, broken: &Broken, history: &History) {
        let shorter = |kept: &(usize, String)| history.steps.len() < kept.0;
        self.counts.broken += 1;
        if self.broken.get(&broken.law).is_none_or(shorter) {
            let text = format!("{:#?}\n{}", history.steps, broken.what);
            self.broken.insert(broken.law, (history.steps.len(), text));
        }
    }
}

/// Says whether an op that knows `past` is the one that the set with it grew by last.
fn is_last(steps: &[Step], id: &OpId, past: u32) -> bool {
    let followed = steps.iter().fold(past, |set, step| set | step.past);
    steps.iter().enumerate().all(|(at, step)| followed >> at & 1 == 1 || step.op.id() < *id)
        && steps.iter().all(|step| step.op.id() != *id)
}
