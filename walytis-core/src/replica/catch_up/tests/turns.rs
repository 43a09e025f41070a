//! How long a peer keeps its turn, and what it may make others collect.

use bytes::Bytes;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

use super::super::lane::{BARREN_MAX, TURN_GRACE};
use super::super::remote::{RETRY_FIRST, RETRY_LONGEST};
use super::*;

#[test]
fn backoff_doubles_up_to_its_cap() {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let (first, late) = (backoff(0, &mut rng), backoff(1_000, &mut rng));
    assert!(first >= RETRY_FIRST && first <= RETRY_FIRST * 3 / 2);
    assert!(late >= RETRY_LONGEST && late <= RETRY_LONGEST * 3 / 2);
}

/// A machine that lacks blocks of two peers and has given the turn to the first.
fn asked() -> (CatchUp, Instant, ChaCha20Rng, u32) {
    let now = Instant::now();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let mut machine = CatchUp::new(View { count: 1, generation: 0, heads: vec![genesis()] });
    for index in [0, 1] {
        machine.handle_up(peer(index), now);
        let heads = vec![BlockId::from_digest([7; 32])];
        let hello = Hello { round: 0, count: 9, generation: 9, heads: heads.clone(), credit: 0 };
        machine.handle_hello(&peer(index), hello, heads, now);
    }
    let round = machine.lanes[&peer(0)].round;
    machine.handle_timeout(now, &mut rng);
    (machine, now, rng, round)
}

/// Plays messages of `bytes` every nine seconds until the turn is over; returns how long it lasted, at most an hour.
fn turn(bytes: u32, admitted: usize) -> Duration {
    let (mut machine, start, mut rng, round) = asked();
    let mut now = start;
    while machine.lanes.contains_key(&peer(0)) && now < start + Duration::from_secs(3_600) {
        now += Duration::from_secs(9);
        machine.handle_timeout(now, &mut rng);
        let received = Received { round, bytes, admitted, ..Received::default() };
        machine.handle_blocks(&peer(0), &received, now, &mut rng);
    }
    if let Some(output) = machine.outputs.iter().find(|output| matches!(output, Output::Recheck { .. })) {
        assert!(matches!(output, Output::Recheck { peer: next, .. } if *next == peer(1)), "the other peer is next");
    }
    now - start
}

#[test]
fn a_peer_that_trickles_blocks_loses_the_turn_to_the_next() {
    assert!(turn(300, 1) <= TURN_GRACE + Duration::from_secs(20));
    assert!(turn(0, 0) <= TURN_GRACE + Duration::from_secs(20));
    // Many bytes of what is here already are no better.
    assert!(turn(4_000_000, 0) <= BARREN_MAX + Duration::from_secs(20));
}

#[test]
fn a_slow_peer_that_keeps_the_pace_keeps_the_turn() {
    assert!(turn(9 * 2 * 4_096, 10) >= Duration::from_secs(3_600));
}

#[test]
fn a_peer_that_answers_without_end_loses_the_turn() {
    let (mut machine, start, mut rng, round) = asked();
    let mut now = start;
    machine.handle_diverged(&peer(0), round, now);
    for step in 0..200u8 {
        now += Duration::from_secs(9);
        machine.handle_timeout(now, &mut rng);
        // It goes on with whatever it is asked for.
        machine.handle_ids(&peer(0), round, vec![], vec![ShortId([step; 6])], now);
        let compared = Compared { need: vec![], next: Some(vec![step].into()), bytes: 10 };
        machine.handle_compared(&peer(0), round, Some(compared), now);
        machine.handle_list(&peer(0), round, vec![], Some((step.into(), genesis())), now);
    }
    assert!(!machine.lanes.contains_key(&peer(0)), "two hundred answers of nine seconds each");
}

#[test]
fn what_a_peer_may_make_us_collect_is_bounded() {
    let (mut machine, now, _, round) = asked();
    machine.handle_diverged(&peer(0), round, now);
    let next: Vec<_> = (0..=255u8).flat_map(|a| [[a; 6], [a, 0, 0, 0, 0, 0]]).map(ShortId).collect();
    machine.handle_ids(&peer(0), round, vec![], next, now);
    assert!(machine.outputs.iter().any(|output| matches!(output, Output::Compare { .. })), "too wide for a walk");
    let id = |n: u64| {
        let mut digest = [1; 32];
        digest[..8].copy_from_slice(&n.to_be_bytes());
        BlockId::from_digest(digest)
    };
    for part in 0..20u64 {
        let need = (0..16_384).map(|n| (part, id(part * 16_384 + n))).collect();
        let compared = Compared { need, next: Some(Bytes::from_static(&[0x61])), bytes: 500_000 };
        machine.handle_compared(&peer(0), round, Some(compared), now);
    }
    let lane = &machine.lanes[&peer(0)];
    assert!(lane.need.len() <= 131_072, "{}", lane.need.len());
    assert_eq!(lane.phase, Phase::Offered, "blocks are asked for, however much more there is said to be");
}
