//! Nobody keeps the places of the wants by promising what does not come.

use super::*;

#[test]
fn wants_are_bounded_and_idle_ones_make_room() {
    let (mut machine, now) = (Machine::default(), Instant::now());
    let count = u16::try_from(WANTS_MAX).unwrap();
    assert!((0..count).all(|n| machine.want(id(n), None, now)));
    assert!(!machine.want(id(count), None, now) && machine.room() == 0);
    assert!(machine.want(id(5), None, now), "wanting twice is harmless");
    // Nobody is there: all are idle.
    assert_eq!(sends(&mut machine, now), []);
    assert_eq!((machine.make_room(10, now), machine.room()), (10, 10));
    machine.set_peers(&peers(&[1]));
    assert_eq!(machine.make_room(10, now), 0, "somebody may have them");
}

fn all_wanted(machine: &mut Machine, now: Instant) {
    (0..u16::try_from(WANTS_MAX).unwrap()).for_each(|n| assert!(machine.want(id(n), None, now)));
}

/// Peer 1 promises everything, peer 2 says no; every answer to a question is given at once. `deliver`: how long after the
/// last one peer 1 delivers a part.
fn promise(machine: &mut Machine, start: Instant, time: Duration, deliver: Option<Duration>) -> Instant {
    let (mut now, mut delivered, mut open) = (start, start, Vec::new());
    let mut noes = Noes::default();
    while now < start + time {
        for (to, body) in sends_within(machine, &mut noes, now) {
            match body {
                Body::Want(ids) => {
                    let has = |id| (id, if to == peer(1) { Has::All } else { Has::No });
                    machine.handle_have(&to, ids.into_iter().map(has).collect(), now, (&mut noes, &mut rng()));
                }
                get => open.push((to, get)),
            }
        }
        if deliver.is_some_and(|every| now >= delivered + every)
            && let Some((from, Body::Get(id, part))) = open.pop()
            && machine.handle_part(&from, &id, part, now)
        {
            // A manifest of a large content, of which nothing more comes.
            machine.handle_manifest(&from, &id, &[false; CHUNKS], now);
            delivered = now;
        }
        now = machine
            .poll_timeout(now)
            .unwrap_or(now)
            .clamp(now + Duration::from_millis(100), now + Duration::from_secs(1));
    }
    now
}

#[test]
fn what_only_a_peer_promises_that_delivers_nothing_makes_room() {
    let (mut machine, start) = (Machine::default(), Instant::now());
    machine.set_peers(&peers(&[1, 2]));
    all_wanted(&mut machine, start);
    let now = promise(&mut machine, start, Duration::from_secs(5), None);
    assert_eq!(machine.make_room(1, now), 0, "it may still deliver");
    let now = promise(&mut machine, now, Duration::from_secs(55), None);
    assert_eq!(machine.make_room(1, now), 1);
    assert!(machine.make_room(WANTS_MAX, now) > WANTS_MAX - 10, "places are held by promises");
    // What it promises from now on holds a place only until the others have said no.
    all_wanted(&mut machine, now);
    let now = promise(&mut machine, now, Duration::from_secs(2), None);
    assert_eq!(machine.make_room(100, now), 100);
}

#[test]
fn a_peer_that_delivers_a_part_now_and_then_keeps_no_place_for_long() {
    let (mut machine, start) = (Machine::default(), Instant::now());
    machine.set_peers(&peers(&[1, 2]));
    all_wanted(&mut machine, start);
    let now = promise(&mut machine, start, Duration::from_secs(32), Some(Duration::from_secs(10)));
    assert!(!machine.peers[&peer(1)].is_late());
    assert!(machine.make_room(WANTS_MAX, now) > WANTS_MAX - 10);
}

/// What is being fetched and what has moved lately stays.
#[test]
fn what_moves_does_not_make_room() {
    let (mut machine, start) = (Machine::default(), Instant::now());
    machine.set_peers(&peers(&[1]));
    machine.want(id(1), Some(&[false; 9]), start);
    machine.want(id(2), Some(&[false; 9]), start);
    sends(&mut machine, start);
    machine.handle_have(&peer(1), vec![(id(1), Has::All)], start, (&mut Noes::default(), &mut rng()));
    let asked = sends(&mut machine, start);
    let later = start + Duration::from_secs(14);
    deliver(&mut machine, &asked, later);
    assert!(sends(&mut machine, later).iter().any(|(_, body)| matches!(body, Body::Get(..))));
    let later = start + Duration::from_secs(31);
    assert_eq!(machine.make_room(2, later), 1, "a part of the other one is under way");
    assert!(machine.wants(&id(1)) && !machine.wants(&id(2)));
}

/// A ledger with more to fetch than there are places, all of the lowest ids promised by one that delivers nothing; the
/// ledger takes from its store in a circle. Everything else arrives within minutes.
#[test]
fn one_lying_member_does_not_keep_what_others_have_from_coming() {
    let (mut machine, mut now) = (Machine::default(), Instant::now());
    let mut noes = Noes::default();
    let lies = u16::try_from(WANTS_MAX).unwrap() + 500;
    let end = lies + 1_000;
    machine.set_peers(&peers(&[1, 2]));
    let (mut left, mut at) = ((0..end).collect::<BTreeSet<u16>>(), 0);
    for _ in 0..3_000 {
        for (to, body) in sends_within(&mut machine, &mut noes, now) {
            match body {
                Body::Want(ids) => {
                    let honest = |id: &EnvelopeId| *id >= self::id(lies) && to == peer(2);
                    let has = |id| (id, if to == peer(1) || honest(&id) { Has::All } else { Has::No });
                    machine.handle_have(&to, ids.into_iter().map(has).collect(), now, (&mut noes, &mut rng()));
                }
                Body::Get(id, part) if to == peer(2) => {
                    assert!(machine.handle_part(&to, &id, part, now));
                    assert!(machine.handle_manifest(&to, &id, &[true], now));
                    machine.drop_want(&id);
                    left.remove(&u16::from_be_bytes([id.0[0], id.0[1]]));
                }
                _ => {}
            }
        }
        // As the ledger does: a page at a time, from where it stopped.
        while machine.room() >= 128 || machine.make_room(128, now) > 0 {
            let room = machine.room().min(128);
            let next: Vec<u16> = left.range(at..).chain(left.range(..at)).copied().take(room).collect();
            let missing = next.iter().filter(|n| !machine.wants(&id(**n))).count();
            at = next.last().map_or(0, |n| n + 1);
            next.iter().for_each(|n| assert!(machine.want(id(*n), None, now)));
            if missing == 0 {
                break;
            }
        }
        if left.len() == usize::from(lies) {
            return;
        }
        now += Duration::from_millis(100);
    }
    panic!("after five minutes {} of 1,000 are missing", left.len() - usize::from(lies));
}
