//! A set of ops that grows and shrinks by its last op, so that going through sets copies no graph.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::cast::{Act, Cast};
use crate::id::OpId;
use crate::op::SignedOp;
use crate::state::bits::Bits;
use crate::state::evaluate::Evaluation;
use crate::state::kept::Kept;
use crate::state::nested::Named;
use crate::state::signatures::KeyRing;
use crate::state::{AuthorityGraph, IdentityState, Inserted, Refusal};

/// One op of a history.
#[derive(Clone)]
pub(super) struct Step {
    pub(super) op: Arc<SignedOp>,
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

/// A set of ops after the beginning, in an order of arrival.
pub(super) struct History {
    pub(super) graph: AuthorityGraph,
    pub(super) steps: Vec<Step>,
    /// Ops of the beginning.
    pub(super) begun: usize,
    /// What the graph remembered before each op that it grew by; first that of the beginning.
    remembered: Vec<Memory>,
}

/// What a graph remembers beside its ops.
#[derive(Clone)]
struct Memory {
    heads: BTreeSet<OpId>,
    evaluated: Option<Arc<Evaluation>>,
    kept: Kept,
    current: Option<Arc<IdentityState>>,
    folded: VecDeque<Arc<IdentityState>>,
    keys: KeyRing,
}

impl Memory {
    fn of(graph: &AuthorityGraph) -> Self {
        Self {
            heads: graph.heads.clone(),
            evaluated: graph.evaluated.clone(),
            kept: graph.kept.clone(),
            current: graph.current.clone(),
            folded: graph.folded.clone(),
            keys: graph.keys.clone(),
        }
    }

    fn restore(self, graph: &mut AuthorityGraph) {
        graph.heads = self.heads;
        graph.evaluated = self.evaluated;
        graph.kept = self.kept;
        graph.current = self.current;
        graph.folded = self.folded;
        graph.keys = self.keys;
    }
}

impl History {
    pub(super) fn new(cast: &Cast) -> Self {
        let mut graph = cast.empty.clone();
        graph.state();
        Self { begun: graph.len(), remembered: vec![Memory::of(&graph)], graph, steps: Vec::new() }
    }

    /// Adds an op whose parents are in.
    pub(super) fn grow(&mut self, op: SignedOp) -> Result<(), Refusal> {
        let before = Memory::of(&self.graph);
        match self.graph.insert(op)? {
            Inserted::New(entered) => assert_eq!(entered.len(), 1, "nothing waits"),
            other => panic!("{other:?}: a new op with known parents"),
        }
        self.remembered.push(before);
        Ok(())
    }

    /// Takes the last op out again.
    pub(super) fn shrink(&mut self) {
        let id = self.graph.nodes.pop().id();
        // Whatever else is remembered looks at ops that stay.
        self.graph.states.retain(|heads, _| !heads.contains(&id));
        self.remembered.pop().unwrap().restore(&mut self.graph);
    }

    /// Adds a step and returns the state with it.
    pub(super) fn push(&mut self, op: SignedOp, by: usize, act: Act, past: u32) -> Result<Arc<IdentityState>, Refusal> {
        let id = op.id();
        self.grow(op)?;
        let op = self.graph.op(&id).unwrap().clone();
        self.steps.push(Step { op, by, act, past });
        let state = self.graph.state();
        self.graph.states.insert(state.heads.clone(), state.clone());
        Ok(state)
    }

    /// Takes the last step back.
    pub(super) fn pop(&mut self) {
        self.steps.pop();
        self.shrink();
    }

    /// Takes everything back but the beginning.
    pub(super) fn reset(&mut self) {
        while self.graph.len() > self.begun {
            self.graph.nodes.pop();
        }
        self.remembered.truncate(1);
        self.remembered[0].clone().restore(&mut self.graph);
        self.graph.states.clear();
        self.steps.clear();
    }

    /// Returns the state after ops arrived in this order, some perhaps before their parents; and is as before.
    pub(super) fn delivered<'a>(&mut self, ops: impl Iterator<Item = &'a Arc<SignedOp>>) -> Arc<IdentityState> {
        for op in ops {
            self.graph.insert((**op).clone()).unwrap();
            // So that the next is evaluated from this.
            self.graph.state();
        }
        assert!(self.graph.pending.is_empty(), "parents are there");
        let state = self.graph.state();
        self.reset();
        state
    }

    /// Returns the state without a step that no other follows.
    pub(super) fn without(&mut self, at: usize) -> Arc<IdentityState> {
        let left_out: Bits = [self.begun + at].into_iter().collect();
        let set = self.graph.everything().minus(&left_out);
        self.graph.folded_of(set, Named::default())
    }

    /// Says whether a step is followed by no other.
    pub(super) fn is_maximal(&self, at: usize) -> bool {
        self.steps.iter().all(|step| step.past >> at & 1 == 0)
    }

    /// Returns the heads of a part of the set that holds the past of its members, bit i: step i.
    pub(super) fn heads(&self, cast: &Cast, part: u32) -> Vec<OpId> {
        if part == 0 {
            return cast.heads.clone();
        }
        let inner = self.steps.iter().enumerate().filter(|(at, _)| part >> at & 1 == 1);
        let followed = inner.clone().fold(0, |set, (_, step)| set | step.past);
        let heads = inner.filter(|(at, _)| followed >> at & 1 == 0);
        let mut heads: Vec<OpId> = heads.map(|(_, step)| step.op.id()).collect();
        heads.sort_unstable();
        heads
    }

    /// Returns what an author may build on, as bits over the steps.
    pub(super) fn pasts(&self, knowledge: Knowledge, by: usize) -> Vec<u32> {
        let all = (1u32 << self.steps.len()) - 1;
        let closed =
            |set: &u32| self.steps.iter().enumerate().all(|(at, step)| set >> at & 1 == 0 || step.past & !set == 0);
        let mut pasts: Vec<u32> = match knowledge {
            Knowledge::Any => (0..=all).filter(closed).collect(),
            Knowledge::Usual => {
                let own = self.steps.iter().enumerate().filter(|(_, step)| step.by == by);
                vec![all, own.fold(0, |set, (at, step)| set | step.past | (1 << at)), 0]
            }
        };
        pasts.sort_unstable();
        pasts.dedup();
        pasts
    }
}

/// What an author may know, and pretend to know, when it acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Knowledge {
    /// Everything; what it said itself and what that rests on; the beginning and nothing else, whatever it said since.
    Usual,
    /// Every set that holds the past of its members.
    Any,
}
