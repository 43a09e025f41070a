//! V-BLOCK-15 and the writer's side of it, against their definition, on random graphs and in every order of loading.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// A graph of nodes without blocks: place → generation and parents.
#[derive(Clone, Debug)]
struct Shape(Vec<GraphNode>);

fn id_of(at: usize) -> BlockId {
    BlockId::of_file(&at.to_be_bytes())
}

impl Shape {
    fn node(&self, id: &BlockId) -> &GraphNode {
        &self.0[(0..self.0.len()).find(|at| id_of(*at) == *id).unwrap()]
    }

    fn ancestors(&self, id: &BlockId) -> BTreeSet<BlockId> {
        let mut found = BTreeSet::new();
        let mut todo = self.node(id).parents.clone();
        while let Some(next) = todo.pop() {
            if found.insert(next) {
                todo.extend(&self.node(&next).parents);
            }
        }
        found
    }

    fn heads(&self) -> BTreeMap<BlockId, GraphNode> {
        let named: BTreeSet<_> = self.0.iter().flat_map(|node| node.parents.iter().copied()).collect();
        let heads = (0..self.0.len()).map(id_of).filter(|id| !named.contains(id));
        heads.map(|id| (id, self.node(&id).clone())).collect()
    }

    /// The rule as it is written down: expanded and visited blocks as sets.
    fn holds(&self, parents: &BTreeMap<BlockId, GraphNode>, budget: usize) -> bool {
        let lowest = parents.values().map(|node| node.generation).min().unwrap_or(0);
        let all: BTreeSet<_> =
            parents.keys().flat_map(|id| self.ancestors(id)).chain(parents.keys().copied()).collect();
        let expanded = all.iter().map(|id| self.node(id)).filter(|node| node.generation > lowest);
        let visited: BTreeSet<_> = expanded.flat_map(|node| node.parents.iter().copied()).collect();
        visited.len() <= budget && parents.keys().all(|id| !visited.contains(id))
    }

    fn choose(&self, heads: &BTreeMap<BlockId, GraphNode>, budget: usize, pick: &mut Picker) -> ChosenParents {
        let mut choice = ParentChoice::with_budget(heads, budget);
        while choice.outcome().is_none() {
            let id = pick.pick(&choice.needs());
            choice.supply(&id, self.node(&id));
        }
        choice.outcome().unwrap()
    }

    fn check(&self, parents: &BTreeMap<BlockId, GraphNode>, budget: usize, pick: &mut Picker) -> bool {
        let mut check = AntichainCheck::with_budget(parents, budget);
        while check.outcome().is_none() {
            let id = pick.pick(&check.needs());
            check.supply(&id, self.node(&id));
        }
        check.outcome() == Some(Antichain::Holds)
    }
}

/// Which of the nodes that are asked for is loaded next, as caches and batches would have it.
struct Picker(Vec<prop::sample::Index>, usize);

impl Picker {
    fn pick(&mut self, needs: &[BlockId]) -> BlockId {
        self.1 += 1;
        needs[self.0[self.1 % self.0.len()].index(needs.len())]
    }
}

fn shape() -> impl Strategy<Value = Shape> {
    let parents = prop::collection::vec(any::<prop::sample::Index>(), 1..4);
    prop::collection::vec((parents, any::<bool>()), 1..40).prop_map(|raw| {
        let mut nodes = vec![GraphNode { generation: 0, parents: vec![] }];
        for (at, (indices, long)) in raw.into_iter().enumerate() {
            // Every other block goes on from a young one, so that lines become long.
            let place =
                |index: prop::sample::Index| if long { at - index.index((at + 1).min(3)) } else { index.index(at + 1) };
            let places: BTreeSet<usize> = indices.into_iter().map(place).collect();
            let generation = places.iter().map(|place| nodes[*place].generation + 1).max().unwrap();
            let mut parents: Vec<_> = places.into_iter().map(id_of).collect();
            parents.sort_unstable();
            nodes.push(GraphNode { generation, parents });
        }
        Shape(nodes)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn v_block_15_verdict_is_the_definition_in_every_order_of_loading(
        shape in shape(),
        places in prop::collection::vec(any::<prop::sample::Index>(), 1..5),
        budget in 0_usize..30,
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..20),
    ) {
        let ids = places.iter().map(|place| id_of(place.index(shape.0.len())));
        let parents: BTreeMap<_, _> = ids.map(|id| (id, shape.node(&id).clone())).collect();
        let verdict = shape.check(&parents, budget, &mut Picker(order, 0));
        prop_assert_eq!(verdict, shape.holds(&parents, budget));
    }

    #[test]
    fn chosen_parents_pass_the_check_and_no_head_that_was_left_out_would(
        shape in shape(),
        budget in 0_usize..30,
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..20),
    ) {
        let heads = shape.heads();
        let chosen = shape.choose(&heads, budget, &mut Picker(order, 0));
        let highest = heads.iter().max_by_key(|(_, node)| node.generation).unwrap().1.generation;
        let parents: BTreeMap<_, _> = chosen.parents.iter().map(|id| (*id, heads[id].clone())).collect();
        prop_assert!(parents.values().any(|node| node.generation == highest));
        prop_assert!(shape.holds(&parents, budget));
        prop_assert_eq!(parents.len() + chosen.left_out.len(), heads.len());
        for id in &chosen.left_out {
            let mut more = parents.clone();
            more.insert(*id, heads[id].clone());
            prop_assert!(!shape.holds(&more, budget));
        }
    }
}

#[test]
fn a_head_far_below_is_left_out_without_a_walk() {
    let mut dag = Dag::new();
    let low = dag.add(&[0]);
    let high = dag.line(0, 50);
    let heads: BTreeMap<_, _> = [low, high].map(|at| (dag.id(at), GraphNode::of(&dag.blocks[at]))).into();
    let choice = ParentChoice::with_budget(&heads, 40);
    let chosen = ChosenParents { parents: vec![dag.id(high)], left_out: vec![dag.id(low)] };
    assert_eq!((choice.needs(), choice.outcome()), (vec![], Some(chosen)));
}
