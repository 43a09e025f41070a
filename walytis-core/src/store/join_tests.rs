//! Joins against plain sets, and what they read.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::store::{Batch, Durability, MemoryStore};

fn key(index: u8, place: u32) -> Vec<u8> {
    [&[index][..], &place.to_be_bytes()].concat()
}

async fn store(indices: &BTreeMap<u8, BTreeSet<u32>>) -> MemoryStore {
    let store = MemoryStore::new();
    let mut batch = Batch::new();
    for (index, places) in indices {
        for place in places {
            batch.put(key(*index, *place), place.to_le_bytes().to_vec());
        }
    }
    store.commit(batch, Durability::Buffered).await.unwrap();
    store
}

/// Reads to the end, resuming behind every pause; returns places and entries read.
async fn all(
    store: &MemoryStore,
    groups: &[Vec<u8>],
    window: &Window,
    direction: Direction,
    budget: usize,
) -> (Vec<u32>, usize) {
    let (mut window, mut found, mut read) = (window.clone(), Vec::new(), 0);
    'pages: for _ in 0..10_000 {
        let prefixes = groups.iter().map(|group| group.iter().map(|index| vec![*index]).collect()).collect();
        let (mut join, mut rows) = (Join::new(prefixes, &window, direction, 100), budget);
        loop {
            let before = rows;
            let step = join.next(store, &mut rows).await.unwrap();
            read += before - rows;
            match step {
                Step::Entry(row) => {
                    assert_eq!(row.value.iter().rev().copied().collect::<Vec<_>>(), row.place);
                    found.push(u32::from_be_bytes(row.place.as_ref().try_into().unwrap()));
                }
                Step::Paused(row) => {
                    assert!(window.after.as_deref() != Some(&row.place[..]), "a page must come further");
                    window.after = Some(row.place.to_vec());
                    continue 'pages;
                }
                Step::End => return (found, read),
            }
        }
    }
    panic!("the reading never ends");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

proptest! {
    #[test]
    fn joins_agree_with_plain_sets(
        indices in prop::collection::btree_map(0..5u8, prop::collection::btree_set(0..120u32, 0..80), 5),
        groups in prop::collection::vec(prop::collection::vec(0..5u8, 1..4), 1..4),
        from in prop::option::of(0..120u32),
        to in prop::option::of(0..120u32),
        after in prop::option::of(0..120u32),
        reverse in any::<bool>(),
        budget in 0..60usize,
    ) {
        let direction = if reverse { Direction::Reverse } else { Direction::Forward };
        let bytes = |place: Option<u32>| place.map(|place| place.to_be_bytes().to_vec());
        let window = Window { from: bytes(from), to: bytes(to), after: bytes(after) };
        let wanted = |place: &u32| {
            from.is_none_or(|from| *place >= from)
                && to.is_none_or(|to| *place < to)
                && after.is_none_or(|after| if reverse { *place < after } else { *place > after })
                && groups.iter().all(|group| group.iter().any(|index| indices[index].contains(place)))
        };
        let mut expected: Vec<u32> = (0..120).filter(wanted).collect();
        if reverse {
            expected.reverse();
        }
        let (found, _) = runtime().block_on(async { all(&store(&indices).await, &groups, &window, direction, budget).await });
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_join_costs_what_its_rarest_group_holds() {
    let common: BTreeSet<u32> = (0..20_000).collect();
    let rare: BTreeSet<u32> = (0..20_000).step_by(4_000).collect();
    let indices = BTreeMap::from([(0, common.clone()), (1, common), (2, rare.clone())]);
    runtime().block_on(async {
        let store = store(&indices).await;
        for direction in [Direction::Forward, Direction::Reverse] {
            let groups = [vec![0], vec![1], vec![2]];
            let (found, read) = all(&store, &groups, &Window::default(), direction, usize::MAX).await;
            assert_eq!(found.len(), rare.len());
            assert!(read < 200, "{read} entries were read for {} places", rare.len());
        }
    });
}
