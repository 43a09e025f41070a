//! Whoever holds the same ops comes to the same state, in whatever order they came, and whether it came to it step by step
//! or from nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cast::Cast;
use super::history::{History, Step};
use super::laws::{Broken, Law, brief};
use crate::state::IdentityState;
use crate::state::bits::Bits;
use crate::state::evaluate::evaluate_thoroughly;
use crate::state::fold::fold;
use crate::state::nested::Named;
use crate::state::nodes::Nodes;
use crate::state::random_tests::differs_from_nothing;

/// Sets of so many ops are delivered in all orders: in every test run, and by `make model`. Chosen: 4! = 24 graphs for
/// each set would take most of the time.
const ALL_ORDERS_MAX: (usize, usize) = (2, 3);

/// Replicas to which the same ops come in other orders.
pub(super) struct Replicas {
    other: History,
    /// The nodes of a replica, numbered as they came.
    numbered: Nodes,
    all_orders_max: usize,
}

impl Replicas {
    pub(super) fn new(cast: &Cast) -> Self {
        let asked = |name: &str| std::env::var_os(name).is_some();
        let whole = if asked("WALYTIS_MODEL") { ALL_ORDERS_MAX.1 } else { ALL_ORDERS_MAX.0 };
        let all_orders_max = if asked("WALYTIS_MODEL_PLAIN") { usize::MAX } else { whole };
        Self { other: History::new(cast), numbered: cast.empty.nodes.clone(), all_orders_max }
    }

    /// Returns what differs elsewhere: few ops are delivered in all orders, of more the outcome from nothing is held
    /// against one in which they were numbered as differently as may be.
    pub(super) fn that_differ(&mut self, history: &mut History, expected: &IdentityState) -> Vec<Broken> {
        let mut broken = Vec::new();
        if history.steps.len() > self.all_orders_max {
            let what = self.renumbered(history, expected, &backwards(&history.steps));
            broken.extend(what.map(|what| Broken { law: Law::ReplicasAgree, what }));
            return broken;
        }
        let what = self.delivered(history, expected);
        broken.extend(what.map(|what| Broken { law: Law::ReplicasAgree, what }));
        let what = differs_from_nothing(&mut history.graph);
        broken.extend(what.map(|what| Broken { law: Law::NoMemory, what }));
        broken
    }

    /// Returns an order of delivery that gives another state, with what differs; in some, ops wait for their parents.
    fn delivered(&mut self, history: &History, expected: &IdentityState) -> Option<String> {
        let mut order: Vec<usize> = (0..history.steps.len()).collect();
        while next_permutation(&mut order) {
            let state = self.other.delivered(order.iter().map(|at| &history.steps[*at].op));
            if *state != *expected {
                return Some(format!("delivered as {order:?}: {}\nnot {}", brief(&state), brief(expected)));
            }
        }
        None
    }

    /// Returns what differs if the ops were numbered in this order, parents first, and evaluated from nothing. What an op's
    /// own past decides was checked where that was the whole set.
    fn renumbered(&mut self, history: &mut History, expected: &IdentityState, order: &[usize]) -> Option<String> {
        let begun = history.begun;
        let mut now: Vec<usize> = (0..begun + order.len()).collect();
        for (place, at) in order.iter().enumerate() {
            now[begun + at] = begun + place;
        }
        for at in order {
            let mut node = history.graph.nodes.at(begun + at).clone();
            node.past = node.past.renumbered(begun, &now);
            node.void_in_past = Arc::new(node.void_in_past.renumbered(begun, &now));
            self.numbered.push(node);
        }
        let all = Bits::below(self.numbered.len());
        let anew = Arc::new(evaluate_thoroughly(&self.numbered, all, Named::default(), &[]));
        let state = fold(&self.numbered, None, Arc::clone(&anew), &BTreeMap::new());
        order.iter().for_each(|_| drop(self.numbered.pop()));
        let step_by_step = history.graph.evaluation();
        let same = |mine: &Bits, theirs: &Bits| mine.renumbered(begun, &now) == *theirs;
        let agree = state == *expected
            && same(&step_by_step.void.set, &anew.void.set)
            && same(&step_by_step.accepted, &anew.accepted)
            && same(&step_by_step.pinned, &anew.pinned);
        (!agree).then(|| format!("from nothing as {order:?}: {}\nnot {}", brief(&state), brief(expected)))
    }
}

/// Returns an order, parents first, in which of two steps the later comes first wherever that may be.
fn backwards(steps: &[Step]) -> Vec<usize> {
    let (mut order, mut taken) = (Vec::with_capacity(steps.len()), 0u32);
    while order.len() < steps.len() {
        let ready = |at: &usize| taken >> at & 1 == 0 && steps[*at].past & !taken == 0;
        let next = (0..steps.len()).rev().find(ready).unwrap();
        taken |= 1 << next;
        order.push(next);
    }
    order
}

fn next_permutation(order: &mut [usize]) -> bool {
    let Some(at) = (1..order.len()).rev().find(|at| order[at - 1] < order[*at]) else { return false };
    let swap = (at..order.len()).rev().find(|other| order[*other] > order[at - 1]).unwrap();
    order.swap(at - 1, swap);
    order[at..].reverse();
    true
}
