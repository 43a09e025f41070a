//! Whoever holds the same ops comes to the same state, in whatever order they came.

use super::cast::Cast;
use super::explore::{History, Step};
use super::laws::brief;
use crate::state::{AuthorityGraph, IdentityState};

/// Sets of so many ops are delivered in all orders. Chosen: 4! = 24 graphs for each set would take most of the time.
const ALL_ORDERS_MAX: usize = 3;

/// Returns an order that gives another state, with what differs: all orders if the ops are few, else children first, so
/// that all wait for their parents.
pub(super) fn that_differs(cast: &Cast, history: &History, expected: &IdentityState) -> Option<String> {
    let mut order: Vec<usize> = (0..history.steps.len()).collect();
    if order.len() > ALL_ORDERS_MAX {
        order.reverse();
        return differs(cast, history, expected, &order);
    }
    while next_permutation(&mut order) {
        if let Some(what) = differs(cast, history, expected, &order) {
            return Some(what);
        }
    }
    None
}

fn differs(cast: &Cast, history: &History, expected: &IdentityState, order: &[usize]) -> Option<String> {
    let other = deliver(cast, &history.steps, order).state();
    (*other != *expected).then(|| format!("delivered as {order:?}: {}\nnot {}", brief(&other), brief(expected)))
}

/// Returns the state without a step and then with it, if it may come last. Together with the order in which the ops were
/// added this covers, by induction over the sets, every order that has parents first.
pub(super) fn with_last(cast: &Cast, history: &History, last: usize) -> Option<(IdentityState, IdentityState)> {
    if history.steps.iter().any(|step| step.past >> last & 1 == 1) {
        return None;
    }
    let order: Vec<usize> = (0..history.steps.len()).filter(|at| *at != last).collect();
    let mut graph = deliver(cast, &history.steps, &order);
    let before = graph.state();
    graph.insert(history.steps[last].op.clone()).unwrap();
    Some(((*before).clone(), (*graph.state()).clone()))
}

fn deliver(cast: &Cast, steps: &[Step], order: &[usize]) -> AuthorityGraph {
    let mut graph = cast.empty.clone();
    for at in order {
        graph.insert(steps[*at].op.clone()).unwrap();
    }
    graph
}

fn next_permutation(order: &mut [usize]) -> bool {
    let Some(at) = (1..order.len()).rev().find(|at| order[at - 1] < order[*at]) else { return false };
    let swap = (at..order.len()).rev().find(|other| order[*other] > order[at - 1]).unwrap();
    order.swap(at - 1, swap);
    order[at..].reverse();
    true
}
