//! Everything ends up everywhere, and nothing is fetched twice.

use super::simulation::{BATCH, Event};
use super::*;

/// Three to five replicas in a ring with chords add blocks for a while; everything ends up everywhere.
fn turmoil(seed: u64, break_per_mille: u32, mute: bool) {
    let mut simulation = Simulation::new(seed, 3, break_per_mille);
    let count = 3 + simulation.chance(3) as usize;
    let mut simulation = Simulation::new(seed, count, break_per_mille);
    simulation.replicas[count - 1].mute = mute;
    let start = simulation.start;
    for a in 0..count {
        for b in a + 1..count {
            // A mute replica needs others around it that are connected without it.
            if b == a + 1 || mute || simulation.chance(2) == 0 {
                let at = start + Duration::from_millis(u64::from(simulation.chance(5_000)));
                simulation.at(at, Event::Up { a, b });
            }
        }
    }
    for _ in 0..120 {
        let at = start + Duration::from_millis(u64::from(simulation.chance(20_000)));
        let writers = u32::try_from(count - usize::from(mute)).unwrap();
        let replica = simulation.chance(writers) as usize;
        simulation.at(at, Event::Add { at: replica });
    }
    let quiet = simulation.run(Duration::from_secs(3_600));
    simulation.assert_converged(seed);
    assert!(quiet, "still talking after an hour; rerun with WALYTIS_SEED={seed}");
}

#[test]
fn replicas_converge_under_delay_and_doubling() {
    seeds(60).into_iter().for_each(|seed| turmoil(seed, 0, false));
}

#[test]
fn replicas_converge_although_connections_break() {
    seeds(60).into_iter().for_each(|seed| turmoil(seed, 100, false));
}

#[test]
fn a_peer_that_never_serves_does_not_keep_others_apart() {
    seeds(40).into_iter().for_each(|seed| turmoil(seed, 30, true));
}

#[test]
fn one_replica_behind_gets_all_in_one_round_trip_and_nothing_twice() {
    let mut simulation = Simulation::new(1, 2, 0);
    (0..100).for_each(|_| simulation.add(0));
    simulation.connect(0, 1);
    assert!(simulation.run(Duration::from_secs(60)));
    simulation.assert_converged(1);
    // Doubled messages of the simulation apart, each block came once.
    assert!(simulation.replicas[1].times() <= 100 + 3 * BATCH, "{}", simulation.replicas[1].times());
}

#[test]
fn a_joiner_with_several_providers_fetches_nothing_twice() {
    let mut simulation = Simulation::new(7, 4, 0);
    (0..500).for_each(|_| simulation.add(0));
    let blocks = simulation.replicas[0].blocks.clone();
    for other in 1..3 {
        simulation.replicas[other].blocks = blocks.clone();
        let view = simulation.view(other);
        simulation.replicas[other].machine = CatchUp::new(view);
    }
    (0..3).for_each(|provider| simulation.connect(provider, 3));
    assert!(simulation.run(Duration::from_secs(60)));
    simulation.assert_converged(7);
    assert!(simulation.replicas[3].times() <= 500 + 8 * BATCH, "{}", simulation.replicas[3].times());
}

#[test]
fn replicas_in_sync_say_one_hello_each_and_stay_silent() {
    let mut one = CatchUp::new(View { count: 1, generation: 0, heads: vec![genesis()] });
    let now = Instant::now();
    one.handle_up(peer(1), now);
    let Some(Output::Send { message, .. }) = one.poll_output() else { panic!("a hello is said") };
    let frame = super::super::super::codec_v1::Frame::Chain { channel: 0, message: message.clone() };
    assert!(frame.encode().len() <= 64, "a round trip must stay below 400 bytes");
    let Message::Hello(hello) = message else { panic!("a hello is said") };
    one.handle_hello(&peer(1), Hello { credit: 0, ..hello }, Vec::new(), now);
    assert_eq!(one.poll_output(), None);
    assert_eq!(one.poll_timeout(), None);
    assert!(one.is_level(&peer(1)));
}

/// Two replicas that both wrote, from little to much: everything is found out, whichever way is taken.
#[test]
fn any_divergence_is_found_out_by_every_method() {
    for (shared, own) in [(0, 1), (50, 3), (60, 40), (20, 170)] {
        for method in [Method::Walk, Method::Ranges, Method::List] {
            let mut simulation = Simulation::new(3, 2, 0);
            simulation.double_per_mille = 0;
            (0..shared).for_each(|_| simulation.add(0));
            simulation.replicas[1].blocks = simulation.replicas[0].blocks.clone();
            for side in [0, 1] {
                (0..own).for_each(|_| simulation.add(side));
                let view = simulation.view(side);
                simulation.replicas[side].machine = CatchUp::new(view);
            }
            simulation.connect(0, 1);
            for side in [0usize, 1] {
                simulation.replicas[side].machine.remotes.get_mut(&peer(1 - side)).unwrap().method = method;
            }
            assert!(simulation.run(Duration::from_secs(120)), "{shared} {own} {method:?}");
            simulation.assert_converged(3);
            for replica in &simulation.replicas {
                assert_eq!(replica.times(), own, "{shared} {own} {method:?}");
            }
        }
    }
}
