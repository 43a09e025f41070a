use std::collections::BTreeSet;

use super::*;
use crate::id::PeerId;

const SECOND: Duration = Duration::from_secs(1);

fn peer(n: u8) -> Option<PeerId> {
    PeerId::from_bytes(&[n])
}

fn limits(blocks: usize, peer_blocks: usize) -> PendingLimits {
    PendingLimits { blocks, peer_blocks, ..PendingLimits::default() }
}

/// Holds the block at this place as sent by `from` at `since` seconds, with all its parents missing.
fn hold(pending: &mut PendingBlocks, dag: &Dag, at: usize, from: u8, since: u32) -> Hold {
    let block = dag.blocks[at].clone();
    let missing = block.header().parents.iter().copied().collect();
    pending.insert(PendingBlock { block, from: peer(from), since: since * SECOND }, missing)
}

fn dropped(hold: Hold) -> Vec<BlockId> {
    match hold {
        Hold::Held { dropped } => dropped,
        Hold::Known => panic!("known"),
    }
}

#[test]
fn block_with_unknown_parent_stays_pending_until_the_last_one_is_resolved() {
    let mut dag = Dag::new();
    let (a, b) = (dag.add(&[0]), dag.add(&[0]));
    let merge = dag.add(&[a, b]);
    let mut pending = PendingBlocks::default();
    assert_eq!(hold(&mut pending, &dag, merge, 1, 0), Hold::Held { dropped: vec![] });
    assert_eq!(hold(&mut pending, &dag, merge, 2, 9), Hold::Known);
    assert_eq!(*pending.missing(), BTreeSet::from([dag.id(a), dag.id(b)]));
    assert!(pending.resolve(&dag.id(a)).is_empty());
    let released = pending.resolve(&dag.id(b));
    assert_eq!((released[0].block.id(), released[0].since), (dag.id(merge), Duration::ZERO));
    assert!(pending.is_empty() && pending.missing().is_empty());
}

#[test]
fn flood_of_one_peer_displaces_itself() {
    let mut dag = Dag::new();
    for _ in 0..8 {
        dag.add(&[0]);
    }
    let mut pending = PendingBlocks::new(limits(4, 100));
    assert!(dropped(hold(&mut pending, &dag, 1, 1, 0)).is_empty());
    (2..5).for_each(|at| assert!(dropped(hold(&mut pending, &dag, at, 2, 1)).is_empty()));
    // The quiet peer's block is the oldest of all and stays.
    assert_eq!(dropped(hold(&mut pending, &dag, 5, 2, 2)), [dag.id(2)]);
    assert_eq!(dropped(hold(&mut pending, &dag, 6, 3, 3)), [dag.id(3)]);
    assert!(pending.contains(&dag.id(1)) && pending.len() == 4);
}

#[test]
fn bounds_hold_per_peer_and_in_bytes() {
    let mut dag = Dag::new();
    for _ in 0..8 {
        dag.add(&[0]);
    }
    let mut pending = PendingBlocks::new(limits(100, 2));
    hold(&mut pending, &dag, 1, 1, 0);
    hold(&mut pending, &dag, 2, 1, 0);
    hold(&mut pending, &dag, 3, 2, 0);
    assert_eq!(dropped(hold(&mut pending, &dag, 4, 1, 0)), [dag.id(1)]);

    let each = pending.bytes() / 3;
    let mut pending = PendingBlocks::new(PendingLimits { bytes: 3 * each + 8, ..PendingLimits::default() });
    (1..9).for_each(|at| {
        hold(&mut pending, &dag, at, 1, 0);
        assert!(pending.bytes() <= 3 * each + 8);
    });
    let mut pending = PendingBlocks::new(PendingLimits { peer_bytes: 1, ..PendingLimits::default() });
    assert_eq!(dropped(hold(&mut pending, &dag, 1, 1, 0)), [dag.id(1)], "more than the peer may ever hold");
    assert!(pending.is_empty() && pending.missing().is_empty() && pending.bytes() == 0);
}

#[test]
fn dropped_parent_is_asked_for_again() {
    let mut dag = Dag::new();
    let parent = dag.add(&[0]);
    let child = dag.add(&[parent]);
    let mut pending = PendingBlocks::default();
    hold(&mut pending, &dag, parent, 1, 0);
    hold(&mut pending, &dag, child, 1, 5);
    assert_eq!(*pending.missing(), BTreeSet::from([dag.id(0)]));
    assert!(pending.expire(9 * SECOND, 10 * SECOND).is_empty());
    assert_eq!(pending.expire(10 * SECOND, 10 * SECOND), [dag.id(parent)]);
    assert_eq!(*pending.missing(), BTreeSet::from([dag.id(parent)]));
    // A clock that went backwards expires nothing.
    assert!(pending.expire(Duration::ZERO, SECOND).is_empty());
}

#[test]
fn refused_block_takes_its_descendants_along_however_deep() {
    let mut dag = Dag::new();
    let tip = dag.line(0, 2_000);
    let other = dag.add(&[0]);
    let mut pending = PendingBlocks::default();
    (1..=other).for_each(|at| drop(hold(&mut pending, &dag, at, 1, 0)));
    assert_eq!(pending.closure(&dag.id(tip)), None, "an ancestor is unknown");
    assert_eq!(pending.discard(&dag.id(1)).len(), 2_000);
    assert_eq!(pending.ids().collect::<Vec<_>>(), [dag.id(other)]);
}

#[test]
fn blocks_waiting_for_the_policy_are_judged_again_and_keep_their_age() {
    let mut dag = Dag::new();
    let first = dag.add(&[0]);
    let second = dag.add(&[first]);
    let mut pending = PendingBlocks::default();
    let block = dag.blocks[first].clone();
    pending.insert(PendingBlock { block, from: peer(1), since: SECOND }, BTreeSet::new());
    hold(&mut pending, &dag, second, 1, 2);
    assert!(pending.missing().is_empty());
    assert_eq!(pending.closure(&dag.id(second)), Some(vec![dag.id(first), dag.id(second)]));
    let mut waiting = pending.take_waiting();
    assert_eq!(waiting.iter().map(|held| held.block.id()).collect::<Vec<_>>(), [dag.id(first)]);
    let again = waiting.remove(0);
    assert_eq!(again.since, SECOND);
    pending.insert(again, BTreeSet::new());
    assert_eq!(pending.expire(3 * SECOND, 2 * SECOND), [dag.id(first)]);
}
