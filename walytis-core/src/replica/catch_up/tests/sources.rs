//! Several sources at once.

use std::collections::BTreeSet;

use super::simulation::Event;
use super::*;

/// Sources that know different parts of the chain: what one gave is not asked of the next.
#[test]
fn sources_with_overlapping_parts_send_every_block_once() {
    for seed in seeds(10) {
        let mut simulation = Simulation::new(seed, 2, 0);
        let sources = 2 + simulation.chance(4) as usize;
        let mut simulation = Simulation::new(seed, sources + 1, 0);
        simulation.double_per_mille = 0;
        // The sources write and take in what others have so far.
        for _ in 0..120 {
            let several = u32::try_from(sources).unwrap();
            let (at, other) = (simulation.chance(several) as usize, simulation.chance(several) as usize);
            simulation.add(at);
            if simulation.chance(8) == 0 {
                let all: BTreeSet<_> =
                    simulation.replicas[other].blocks.union(&simulation.replicas[at].blocks).copied().collect();
                simulation.replicas[at].blocks = all;
            }
        }
        let known: BTreeSet<_> = simulation.replicas.iter().flat_map(|replica| replica.blocks.clone()).collect();
        // What it gets is not passed on, so that nobody has more at the end than it said at the beginning.
        simulation.replicas[sources].mute = true;
        for source in 0..sources {
            let view = simulation.view(source);
            simulation.replicas[source].machine = CatchUp::new(view);
            let at = simulation.start + Duration::from_millis(u64::from(simulation.chance(200)));
            simulation.at(at, Event::Up { a: source, b: sources });
        }
        // The sources ask in vain for what others have, and never fall silent.
        simulation.run(Duration::from_secs(30));
        let joiner = &simulation.replicas[sources];
        assert!(joiner.blocks.is_superset(&known), "rerun with WALYTIS_SEED={seed}");
        let twice: usize = joiner.received.values().map(|times| times - 1).sum();
        assert_eq!(twice, 0, "blocks came twice; rerun with WALYTIS_SEED={seed}");
    }
}

/// Sources 0.. with the same long chain, and one replica that has nothing of it; returns how many blocks there are.
fn shared_work(seed: u64, sources: usize) -> (Simulation, usize) {
    let mut simulation = Simulation::new(seed, sources + 1, 0);
    simulation.double_per_mille = 0;
    (simulation.file_bytes, simulation.batch) = (8_000, 64);
    // Made by hand: `add` looks at everything each time.
    let mut parents = vec![genesis()];
    let mut blocks = BTreeSet::from([genesis()]);
    for generation in 1..=5_500u64 {
        let width = if generation % 50 == 0 { 3 } else { 1 };
        let mut id = || {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&simulation.rng.next_u64().to_be_bytes());
            BlockId::from_digest(digest)
        };
        let ids: Vec<_> = (0..width).map(|_| id()).collect();
        for id in &ids {
            simulation.graph.insert(*id, (parents.clone(), generation));
        }
        blocks.extend(&ids);
        parents = ids;
    }
    parents.sort_unstable();
    let view = View { count: blocks.len() as u64, generation: 5_500, heads: parents };
    for source in 0..sources {
        simulation.replicas[source].blocks = blocks.clone();
        simulation.replicas[source].machine = CatchUp::new(view.clone());
    }
    (simulation, blocks.len())
}

/// Several sources with the same long chain share the work, and nothing comes twice.
#[test]
fn sources_with_the_same_heads_share_a_long_difference() {
    for (seed, sources) in [(1, 3), (2, 5)] {
        let (mut simulation, count) = shared_work(seed, sources);
        for source in 0..sources {
            simulation.connect(source, sources);
        }
        let mut most = 0;
        while simulation.replicas[sources].blocks.len() < count {
            let quiet = simulation.run_steps(50);
            most = most.max(simulation.replicas[sources].machine.lanes.len());
            assert!(!quiet || simulation.replicas[sources].blocks.len() == count, "silence");
            assert!(simulation.now < simulation.start + Duration::from_secs(600), "it takes for ever");
        }
        assert!(most >= 3, "only {most} sources at once");
        let twice: usize = simulation.replicas[sources].received.values().map(|times| times - 1).sum();
        assert_eq!(twice, 0, "seed {seed}");
    }
}

/// The connection breaks at the k-th frame of blocks, for every k: what came stays, and the rest follows once.
#[test]
fn a_stream_that_breaks_anywhere_is_taken_up_where_it_was() {
    for at in 1..=13 {
        let mut simulation = Simulation::new(at, 2, 0);
        simulation.double_per_mille = 0;
        (0..200).for_each(|_| simulation.add(0));
        simulation.break_at = Some((1, at));
        simulation.connect(0, 1);
        assert!(simulation.run(Duration::from_secs(300)));
        simulation.assert_converged(at);
        assert_eq!(simulation.break_at, None, "it did not break at frame {at}");
        let twice: usize = simulation.replicas[1].received.values().map(|times| times - 1).sum();
        assert_eq!(twice, 0, "broken at frame {at}");
    }
}

/// A source vanishes while several share the work: the others do its part.
#[test]
fn the_part_of_a_source_that_vanishes_is_done_by_others() {
    let (mut simulation, count) = shared_work(5, 3);
    simulation.break_at = Some((3, 25));
    simulation.stay_apart = true;
    for source in 0..3 {
        simulation.connect(source, 3);
    }
    assert!(simulation.run(Duration::from_secs(600)));
    let joiner = &simulation.replicas[3];
    assert_eq!((joiner.blocks.len(), simulation.break_at), (count, None));
    // Parts above the one that broke off may wait for it, within bounds; nothing of them is asked for again.
    let twice: usize = joiner.received.values().map(|times| times - 1).sum();
    assert_eq!(twice, 0);
}

#[test]
fn absurd_claims_make_no_absurd_plans() {
    let key = |generation| CanonicalKey { generation, id: genesis() };
    for (reached, highest, left) in [(0, u64::MAX, u64::MAX), (u64::MAX, 0, 1), (5, 6, u64::MAX), (0, u64::MAX, 1)] {
        let mut plan = Plan::new(vec![], vec![], key(reached), highest, left, 0);
        let (mut last, mut parts) = (None, 0);
        while let Some(span) = plan.take(&BTreeMap::new(), false) {
            parts += 1;
            assert!(parts <= 5_000, "work without end");
            assert!(last.is_none_or(|last| last < span.after) && span.after.0 <= span.until);
            last = Some(span.after);
        }
    }
}
