use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::id::PeerId;

fn limits(blocks: usize, peer_blocks: usize) -> PendingLimits {
    PendingLimits { blocks, peer_blocks, ..PendingLimits::default() }
}

fn hold(waiting: &mut WaitingBlocks, dag: &Dag, at: usize, from: u8) -> Vec<BlockId> {
    waiting.insert(WaitingBlock { block: dag.blocks[at].clone(), from: PeerId::from_bytes(&[from]) })
}

#[test]
fn the_closure_of_a_block_is_its_waiting_ancestors_parents_first() {
    let mut dag = Dag::new();
    let one = dag.add(&[0]);
    let (left, right, aside) = (dag.add(&[one]), dag.add(&[one]), dag.add(&[0]));
    let mut waiting = WaitingBlocks::default();
    for at in [one, left, right, aside] {
        assert!(hold(&mut waiting, &dag, at, 1).is_empty());
    }
    let closure = waiting.closure(&[dag.id(left), dag.id(right)]);
    assert_eq!(closure.first(), Some(&dag.id(one)));
    assert_eq!(closure.into_iter().collect::<BTreeSet<_>>(), [one, left, right].map(|at| dag.id(at)).into());
    waiting.remove(&dag.id(one));
    assert_eq!(waiting.closure(&[dag.id(left)]), [dag.id(left)]);
}

#[test]
fn a_flood_of_one_peer_displaces_itself_and_spares_what_others_sent() {
    let mut dag = Dag::new();
    for _ in 0..12 {
        dag.add(&[0]);
    }
    let mut waiting = WaitingBlocks::new(limits(6, 4));
    assert!(hold(&mut waiting, &dag, 1, 1).is_empty());
    for at in 2..6 {
        assert!(hold(&mut waiting, &dag, at, 2).is_empty());
    }
    assert_eq!(hold(&mut waiting, &dag, 6, 2), [dag.id(2)], "over the bound of a peer");
    assert!(hold(&mut waiting, &dag, 7, 3).is_empty());
    assert_eq!(hold(&mut waiting, &dag, 8, 3), [dag.id(3)], "over the bound of all: the most wasteful pays");
    assert!(waiting.contains(&dag.id(1)) && waiting.len() == 6);
}

#[test]
fn what_rests_on_a_dropped_block_goes_with_it() {
    let mut dag = Dag::new();
    let base = dag.add(&[0]);
    let child = dag.add(&[base]);
    let other = dag.add(&[0]);
    let mut waiting = WaitingBlocks::new(limits(10, 1));
    hold(&mut waiting, &dag, base, 1);
    hold(&mut waiting, &dag, child, 2);
    // The peer of the base has no block on which nothing rests.
    let dropped: BTreeSet<_> = hold(&mut waiting, &dag, other, 1).into_iter().collect();
    assert_eq!(dropped, BTreeSet::from([dag.id(other)]), "the newcomer is the only leaf of its peer");
    assert_eq!(waiting.discard(&dag.id(base)).len(), 2);
    assert!(waiting.is_empty() && waiting.bytes() == 0);
}

/// Ten lines arrive side by side, together twice as many blocks as may be held: each, sent once more, becomes whole.
#[test]
fn a_line_that_was_half_dropped_becomes_whole_when_it_is_sent_again() {
    let mut dag = Dag::new();
    let lines: Vec<Vec<usize>> = (0..10)
        .map(|_| {
            (0..20)
                .scan(0, |at, _| {
                    *at = dag.add(&[*at]);
                    Some(*at)
                })
                .collect()
        })
        .collect();
    let mut waiting = WaitingBlocks::new(limits(200, 100));
    let offer = |waiting: &mut WaitingBlocks, at: usize| {
        let here = dag.blocks[at].header().parents.iter().all(|id| *id == dag.id(0) || waiting.contains(id));
        if here {
            hold(waiting, &dag, at, 1);
        }
        assert!(waiting.len() <= 100);
    };
    (0..20).for_each(|step| lines.iter().for_each(|line| offer(&mut waiting, line[step])));
    for line in &lines {
        line.iter().for_each(|at| offer(&mut waiting, *at));
        assert!(line.iter().all(|at| waiting.contains(&dag.id(*at))), "a line is not whole");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes and goes: bounds hold, nothing rests on what is not here, and the books are balanced.
    #[test]
    fn bounds_hold_and_ancestors_are_here_whatever_comes_and_goes(
        parents in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 1..3), 1..30),
        acts in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..3, 0_u8..8), 1..80),
        total in 1_usize..12,
        each in 1_usize..8,
    ) {
        let mut dag = Dag::new();
        for (at, indices) in parents.iter().enumerate() {
            let mut places: Vec<_> = indices.iter().map(|one| one.index(at + 1)).collect();
            places.sort_by_key(|place| dag.id(*place));
            places.dedup();
            dag.add(&places);
        }
        let mut waiting = WaitingBlocks::new(limits(total, each));
        let mut admitted = BTreeSet::from([dag.id(0)]);
        for (index, peer, act) in acts {
            let at = 1 + index.index(parents.len());
            let id = dag.id(at);
            match act {
                0 => drop(waiting.discard(&id)),
                1 if waiting.contains(&id) => {
                    for held in waiting.closure(&[id]) {
                        waiting.remove(&held);
                        admitted.insert(held);
                    }
                }
                _ if admitted.contains(&id) => {}
                _ => {
                    let here = |id: &BlockId| admitted.contains(id) || waiting.contains(id);
                    if dag.blocks[at].header().parents.iter().all(here) {
                        hold(&mut waiting, &dag, at, peer);
                    }
                }
            }
            prop_assert!(waiting.len() <= total);
            for id in waiting.canonical() {
                let parents = &waiting.get(&id).unwrap().header().parents;
                prop_assert!(parents.iter().all(|id| admitted.contains(id) || waiting.contains(id)));
            }
        }
        for id in waiting.canonical() {
            waiting.remove(&id);
        }
        prop_assert_eq!((waiting.len(), waiting.bytes()), (0, 0));
    }
}
