use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Each block takes as parents those of its picks that are no ancestors of one another.
fn any_dag() -> impl Strategy<Value = Dag> {
    prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 1..4), 1..24).prop_map(|picks| {
        let mut dag = Dag::new();
        for pick in picks {
            let graph = dag.graph();
            let picked: BTreeSet<_> = pick.iter().map(|index| index.index(dag.blocks.len())).collect();
            let redundant = |at: &usize| picked.iter().any(|other| graph.is_ancestor(&dag.id(*at), &dag.id(*other)));
            let parents: Vec<_> = picked.iter().copied().filter(|at| !redundant(at)).collect();
            dag.add(&parents);
        }
        dag
    })
}

/// A delivery: every block at least once, in any order.
fn delivery() -> impl Strategy<Value = (Dag, Vec<usize>)> {
    any_dag().prop_flat_map(|dag| {
        let count = dag.blocks.len();
        let doubled: Vec<usize> = (0..count).chain((0..count).step_by(3)).collect();
        (Just(dag.blocks), Just(doubled).prop_shuffle())
            .prop_map(|(blocks, order)| (Dag { blocks, ..Dag::new() }, order))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    #[test]
    fn replicas_converge_in_any_order((dag, order) in delivery()) {
        let expected = dag.graph();
        let mut graph = BlockGraph::new(dag.chain(), PendingLimits::default());
        let mut given = BTreeSet::new();
        for at in order {
            let inserted = graph.insert(dag.blocks[at].clone(), None, Duration::ZERO).unwrap();
            prop_assert!(inserted.rejected.is_empty() && inserted.dropped.is_empty());
            given.insert(dag.id(at));
            // Asked for is exactly what the pending lack and nobody gave yet.
            let lacking: BTreeSet<_> = dag.blocks.iter().filter(|block| graph.pending().contains(&block.id()))
                .flat_map(|block| block.header().parents.clone()).filter(|id| !given.contains(id)).collect();
            prop_assert_eq!(graph.pending().missing(), &lacking);
        }
        prop_assert!(graph.pending().is_empty());
        prop_assert_eq!(graph.pending().bytes(), 0);
        prop_assert_eq!(graph.heads(), expected.heads());
        prop_assert!(graph.canonical().eq(expected.canonical()));
        let mut before = BTreeSet::new();
        for id in graph.arrival() {
            prop_assert!(graph.node(id).unwrap().parents.iter().all(|parent| before.contains(parent)));
            prop_assert!(before.insert(*id), "admitted once");
        }
        prop_assert_eq!(before.len(), dag.blocks.len());
    }

    #[test]
    fn difference_is_that_of_the_ancestor_sets(
        dag in any_dag(), want: Vec<prop::sample::Index>, have: Vec<prop::sample::Index>, limit in 1usize..30,
    ) {
        let graph = dag.graph();
        let pick = |from: &[prop::sample::Index]| -> Vec<BlockId> {
            from.iter().take(4).map(|index| dag.id(index.index(dag.blocks.len()))).collect()
        };
        let (want, have) = (pick(&want), pick(&have));
        let below = |tops: &[BlockId], id: &BlockId| {
            tops.iter().any(|top| top == id || graph.is_ancestor(id, top))
        };
        let expected: Vec<_> =
            graph.canonical().filter(|key| below(&want, &key.id) && !below(&have, &key.id)).collect();
        let page = graph.difference(&want, &have, limit);
        prop_assert_eq!(page.more, expected.len() > limit);
        prop_assert_eq!(&page.blocks[..], &expected[..expected.len().min(limit)]);
    }
}
