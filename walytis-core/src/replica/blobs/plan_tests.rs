use rand_core::SeedableRng as _;

use super::*;

const LEAF: u64 = crate::limits::BLOB_LEAF as u64;

fn peer(number: u8) -> PeerId {
    PeerId::from_bytes(&[number; 38]).unwrap()
}

const fn blob(number: u8) -> BlobId {
    BlobId::DagPb([number; 32])
}

fn rng() -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(1)
}

/// A plan with peers 1 to `peers`.
fn plan(peers: u8) -> Plan {
    let mut plan = Plan::default();
    (1..=peers).for_each(|number| plan.handle_up(&peer(number)));
    plan
}

/// Wants a blob whose leaves are known and all missing.
fn begin(plan: &mut Plan, number: u8, leaves: u32) {
    plan.want(blob(number), u64::from(leaves) * LEAF);
    prepared(plan, number, leaves);
}

fn prepared(plan: &mut Plan, number: u8, leaves: u32) {
    let digests = vec![[number; 32]; leaves as usize].into();
    plan.handle_prepared(&blob(number), Prepared::Leaves { digests, missing: (0..leaves).collect() });
}

/// Asks for everything that may be asked for.
fn asks(plan: &mut Plan, now: Instant) -> Vec<Ask> {
    std::iter::from_fn(|| {
        let ask = plan.find(now)?;
        plan.handle_asked(&ask, now);
        Some(ask)
    })
    .collect()
}

fn leaf(ask: &Ask) -> u32 {
    match ask.what {
        What::Leaf { index } => index,
        What::Manifest { .. } => panic!("a list of digests was asked for"),
    }
}

/// The peer delivers what it was asked for.
fn deliver(plan: &mut Plan, ask: &Ask, now: Instant) {
    assert!(plan.handle_leaf(&ask.peer, &ask.blob, leaf(ask), now).is_some());
    plan.handle_stored(&ask.peer, &ask.blob, leaf(ask), Stored::Partial, now);
}

#[tokio::test(start_paused = true)]
async fn several_peers_share_the_work_and_nothing_is_asked_twice() {
    let (mut plan, now) = (plan(3), Instant::now());
    begin(&mut plan, 1, 60);
    let mut asked = Vec::new();
    for _ in 0..30 {
        let round = asks(&mut plan, now);
        let busy = |number| round.iter().filter(|ask| ask.peer == peer(number)).count();
        assert!((1..=3).all(|number| busy(number) <= WINDOW_MAX));
        round.iter().for_each(|ask| deliver(&mut plan, ask, now));
        asked.extend(round);
    }
    let mut leaves: Vec<_> = asked.iter().map(leaf).collect();
    leaves.sort_unstable();
    assert_eq!(leaves, (0..60).collect::<Vec<_>>());
    for number in 1..=3 {
        let share = asked.iter().filter(|ask| ask.peer == peer(number)).count();
        assert!(share >= 15, "peer {number} delivered {share}");
    }
}

#[tokio::test(start_paused = true)]
async fn blobs_take_turns_and_one_that_nobody_has_holds_up_none() {
    let (mut plan, now, mut rng) = (plan(1), Instant::now(), rng());
    begin(&mut plan, 1, 1_000);
    begin(&mut plan, 2, 1_000);
    plan.want(blob(3), LEAF * 5);
    plan.handle_prepared(&blob(3), Prepared::Unknown);
    let mut turns = [0u32; 4];
    for _ in 0..40 {
        for ask in asks(&mut plan, now) {
            if ask.blob == blob(3) {
                plan.handle_none(&ask.peer, &ask.blob, 0, now, &mut rng);
            } else {
                deliver(&mut plan, &ask, now);
            }
            let BlobId::DagPb([number, ..]) = ask.blob else { panic!("another blob") };
            turns[usize::from(number)] += 1;
        }
        plan.handle_timeout(now, &mut rng);
    }
    assert!(turns[1].abs_diff(turns[2]) <= 1, "{turns:?}");
    assert_eq!(turns[3], 1, "asked once, given up, looked for again later");
    assert_eq!(plan.background(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_a_reader_waits_for_comes_first_and_alone_where_nothing_else_is_wanted() {
    let (mut plan, now) = (plan(1), Instant::now());
    plan.handle_reader(blob(1), 500 * LEAF, 7, 100..500);
    assert_eq!(plan.poll_output(), Some(Output::Prepare { blob: blob(1), len: 500 * LEAF, whole: false }));
    prepared(&mut plan, 1, 500);
    let mut fetched = Vec::new();
    for _ in 0..20 {
        for ask in asks(&mut plan, now) {
            fetched.push(leaf(&ask));
            deliver(&mut plan, &ask, now);
        }
    }
    assert_eq!(fetched, (100..132).collect::<Vec<_>>(), "so far ahead and no further");
    plan.handle_reader(blob(1), 500 * LEAF, 7, 300..302);
    assert_eq!(asks(&mut plan, now).iter().map(leaf).collect::<Vec<_>>(), [300, 301]);
    plan.handle_reader_gone(&blob(1), 7);
    assert_eq!((plan.len(), plan.in_flight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn three_of_four_requests_are_for_readers() {
    let (mut plan, now) = (plan(1), Instant::now());
    begin(&mut plan, 1, 1_000);
    plan.handle_reader(blob(2), 30 * LEAF, 7, 0..30);
    prepared(&mut plan, 2, 30);
    let mut urgent = 0;
    for number in 0..40 {
        let ask = plan.find(now).unwrap();
        plan.handle_asked(&ask, now);
        deliver(&mut plan, &ask, now);
        urgent += u32::from(ask.blob == blob(2));
        assert!(number < 4 || urgent > 0);
    }
    assert_eq!(urgent, 30);
}

/// A peer that stands still has few leaves, loses them, and is asked again later and later.
#[tokio::test(start_paused = true)]
async fn a_silent_peer_loses_its_leaves_and_is_asked_ever_more_rarely() {
    let (mut plan, mut rng, start) = (plan(1), rng(), Instant::now());
    begin(&mut plan, 1, 100);
    plan.handle_reader(blob(1), 100 * LEAF, 7, 0..100);
    let (mut now, mut asked) = (start, Vec::new());
    while now < start + Duration::from_secs(3_600) {
        plan.handle_timeout(now, &mut rng);
        let round = asks(&mut plan, now);
        assert!(round.len() <= WINDOW_FIRST, "{round:?}");
        if !round.is_empty() {
            asked.push(round.len());
            plan.handle_reader(blob(1), 100 * LEAF, 7, 0..100);
        }
        now = plan.poll_timeout(now).filter(|at| *at > now).unwrap_or(now + Duration::from_secs(60));
    }
    assert!((3..40).contains(&asked.len()), "{asked:?}");
    assert_eq!(asked[1..].iter().max(), Some(&1));
    // It delivers late: that counts all the same.
    let ask = asks(&mut plan, now).pop();
    let index = ask.as_ref().map_or(0, leaf);
    assert!(plan.handle_leaf(&peer(1), &blob(1), index, now).is_some());
}

#[tokio::test(start_paused = true)]
async fn leaves_that_nobody_asked_for_are_bounded_and_never_taken_twice() {
    let (mut plan, now) = (plan(2), Instant::now());
    begin(&mut plan, 1, 500);
    let taken = (0..500).filter(|index| plan.handle_leaf(&peer(2), &blob(1), *index, now).is_some()).count();
    assert_eq!(taken, LATE_MAX);
    assert!(plan.handle_leaf(&peer(2), &blob(1), 0, now).is_none(), "it is being stored");
    assert!(plan.handle_leaf(&peer(2), &blob(9), 0, now).is_none(), "nobody wants it");
    assert!(plan.handle_leaf(&peer(2), &blob(1), u32::MAX, now).is_none(), "there is none");
}

#[tokio::test(start_paused = true)]
async fn a_false_leaf_is_fetched_from_somebody_else() {
    let (mut plan, now) = (plan(2), Instant::now());
    begin(&mut plan, 1, 1);
    let first = asks(&mut plan, now).pop().unwrap();
    assert!(plan.handle_leaf(&first.peer, &blob(1), 0, now).is_some());
    plan.handle_stored(&first.peer, &blob(1), 0, Stored::False, now);
    let second = asks(&mut plan, now).pop().unwrap();
    assert_ne!(first.peer, second.peer);
    assert_eq!(leaf(&second), 0);
}

#[tokio::test(start_paused = true)]
async fn lists_that_do_not_fit_are_refused_and_whole_ones_checked() {
    let (mut plan, now) = (plan(2), Instant::now());
    let len = 3 * LEAF;
    plan.want(blob(1), len);
    assert_eq!(plan.poll_output(), Some(Output::Prepare { blob: blob(1), len, whole: true }));
    plan.handle_prepared(&blob(1), Prepared::Unknown);
    let digests = |count| vec![[7; 32]; count];
    for (len, from, count) in [(len + 1, 0, 3), (len, 1, 2), (len, 0, 0), (len, 0, 4)] {
        plan.handle_up(&peer(1));
        let ask = asks(&mut plan, now).pop().unwrap();
        assert_eq!(ask.what, What::Manifest { from: 0 });
        assert!(!plan.handle_manifest(&ask.peer, blob(1), (len, from), digests(count), now), "{len} {from} {count}");
        (1..=2).for_each(|number| plan.handle_up(&peer(number)));
    }
    let ask = asks(&mut plan, now).pop().unwrap();
    let other = if ask.peer == peer(1) { peer(2) } else { peer(1) };
    assert!(plan.handle_manifest(&other, blob(1), (len, 0), digests(3), now), "unasked: nothing happens");
    assert!(plan.handle_manifest(&ask.peer, blob(1), (len, 0), digests(2), now));
    let ask = asks(&mut plan, now).pop().unwrap();
    assert_eq!(ask.what, What::Manifest { from: 2 });
    assert!(plan.handle_manifest(&ask.peer, blob(1), (len, 2), digests(1), now));
    let wanted = Output::Check { blob: blob(1), len, digests: digests(3), peer: ask.peer, whole: true };
    assert_eq!(plan.poll_output(), Some(wanted));
    assert_eq!(plan.find(now), None, "while it is checked nothing is asked");
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_told_to_readers_and_tried_again_by_itself() {
    let (mut plan, mut rng, now) = (plan(1), rng(), Instant::now());
    begin(&mut plan, 1, 3);
    while plan.poll_output().is_some() {}
    asks(&mut plan, now);
    plan.handle_trouble(&blob(1), "the disk is full", now, &mut rng);
    assert_eq!(plan.poll_output(), Some(Output::Fail { blob: blob(1), reason: "the disk is full" }));
    assert_eq!(plan.report().next(), Some((blob(1), 0, Some("the disk is full"))));
    assert_eq!(plan.find(now), None);
    let again = plan.poll_timeout(now).unwrap();
    plan.handle_timeout(again, &mut rng);
    assert_eq!(plan.poll_output(), Some(Output::Prepare { blob: blob(1), len: 3 * LEAF, whole: true }));
}
