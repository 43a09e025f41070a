use std::collections::{BTreeMap, BTreeSet};

use super::*;

#[test]
fn v_block_08_generation_passes_and_breaks() {
    let mut dag = Dag::new();
    let tip = dag.line(0, 3);
    let side = dag.add(&[0]);
    let mut graph = dag.graph();
    for wrong in [1, 2, 3, 5, u64::MAX] {
        let block = dag.forge(&[tip, side], wrong, "x");
        assert_eq!(refused(&mut graph, block), Some(Rule::Generation), "{wrong}");
    }
    assert_eq!(refused(&mut graph, dag.forge(&[tip, side], 4, "x")), None);
    assert_eq!(generation_after([3, u64::MAX]), None);
    assert_eq!(generation_after([]), Some(0));
}

#[test]
fn v_block_15_antichain_passes_and_breaks() {
    let mut dag = Dag::new();
    let tip = dag.line(0, 5);
    let side = dag.add(&[1]);
    let merge = dag.add(&[tip, side]);
    let mut graph = dag.graph();
    // Parent and child; ancestor far below; ancestor by the shorter way of a merge.
    for (parents, generation) in [([tip - 1, tip], 6), ([0, tip], 6), ([side, merge], 7), ([1, merge], 7)] {
        let block = dag.forge(&parents, generation, "x");
        assert_eq!(refused(&mut graph, block), Some(Rule::Antichain), "{parents:?}");
    }
    assert_eq!(refused(&mut graph, dag.forge(&[tip, side], 6, "another merge")), None);
}

#[test]
fn v_block_15_visit_budget_is_counted_the_same_in_any_order() {
    let mut dag = Dag::new();
    // Three generations of four blocks over each other, and an old head.
    let old = dag.add(&[0]);
    let mut layer: Vec<_> = (0..4).map(|_| dag.add(&[0])).collect();
    for _ in 0..3 {
        layer = (0..4).map(|_| dag.add(&layer)).collect();
    }
    let graph = dag.graph();
    let node = |id: &BlockId| graph.node(id).unwrap().clone();
    let parents: BTreeMap<_, _> = [old, layer[0], layer[3]].map(|at| (dag.id(at), node(&dag.id(at)))).into();
    // Visited are the three layers below the parents (4 each); those of generation 1 are not expanded.
    let visits = 12;
    for budget in [visits - 1, visits] {
        let run = |pick: fn(&[BlockId]) -> Vec<BlockId>| {
            let mut check = AntichainCheck::with_budget(&parents, budget);
            while check.outcome().is_none() {
                pick(&check.needs()).iter().for_each(|id| check.supply(id, &node(id)));
            }
            check.outcome()
        };
        let expected = if budget < visits { Antichain::OverBudget } else { Antichain::Holds };
        assert_eq!(run(|needs| needs.to_vec()), Some(expected));
        assert_eq!(run(|needs| needs[..1].to_vec()), Some(expected));
        assert_eq!(run(|needs| needs[needs.len() - 1..].to_vec()), Some(expected));
    }
}

#[test]
fn antichain_of_one_generation_needs_nothing() {
    let mut dag = Dag::new();
    let (a, b) = (dag.add(&[0]), dag.add(&[0]));
    let graph = dag.graph();
    let parents: BTreeMap<_, _> = [a, b].map(|at| (dag.id(at), graph.node(&dag.id(at)).unwrap().clone())).into();
    assert_eq!(AntichainCheck::new(&parents).outcome(), Some(Antichain::Holds));
}

#[test]
fn difference_costs_its_size_not_the_length_of_the_chain() {
    let mut dag = Dag::new();
    let fork = dag.line(0, 200);
    let (mine, theirs) = (dag.line(fork, 3), dag.line(fork, 2));
    let graph = dag.graph();
    let mut walk = Difference::new([dag.id(mine)], [dag.id(theirs)], 100);
    let mut loaded = 0;
    while walk.page().is_none() {
        for id in walk.needs() {
            loaded += 1;
            walk.supply(&id, graph.node(&id).unwrap());
        }
    }
    let found: Vec<_> = walk.page().unwrap().blocks.iter().map(|key| key.id).collect();
    assert_eq!(found, [mine - 2, mine - 1, mine].map(|at| dag.id(at)));
    assert!(loaded <= 7, "{loaded} nodes loaded for a difference of 3");
}

#[test]
fn difference_is_resumed_page_by_page() {
    let mut dag = Dag::new();
    let tip = dag.line(0, 10);
    let graph = dag.graph();
    let mut found = Vec::new();
    loop {
        let mut walk = Difference::new([dag.id(tip)], [dag.id(0)], 3);
        if let Some(last) = found.last() {
            walk = walk.after(*last);
        }
        while walk.page().is_none() {
            walk.needs().iter().for_each(|id| walk.supply(id, graph.node(id).unwrap()));
        }
        let page = walk.page().unwrap();
        assert!(page.blocks.len() <= 3);
        found.extend(page.blocks);
        if !page.more {
            break;
        }
    }
    assert_eq!(found, graph.canonical().skip(1).collect::<Vec<_>>());
}

#[test]
fn heads_offer_at_most_64_parents_oldest_first() {
    let mut dag = Dag::new();
    let old: BTreeSet<_> = (0..40).map(|_| dag.add(&[0])).collect();
    let base = dag.add(&[0]);
    for _ in 0..40 {
        dag.add(&[base]);
    }
    let graph = dag.graph();
    assert_eq!((graph.heads().len(), graph.heads().generation()), (80, 2));
    let parents = graph.heads().choose_parents();
    assert_eq!(parents.len(), crate::limits::PARENTS_MAX);
    assert!(parents.is_sorted());
    assert!(old.iter().all(|at| parents.contains(&dag.id(*at))));
    assert_eq!(graph.heads().iter().collect::<Heads>(), *graph.heads());
}
