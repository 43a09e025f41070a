//! How much each peer is asked for: more of the prompt, less of the slow, nothing beyond what it puts up with.

use super::*;

#[test]
fn parts_are_asked_of_several_holders_within_bounds_and_more_of_those_that_deliver() {
    let (mut machine, now) = (Machine::default(), Instant::now());
    machine.set_peers(&peers(&[1, 2]));
    machine.want(id(1), Some(&[false; 400]), now);
    sends(&mut machine, now);
    for number in [1, 2] {
        machine.handle_have(&peer(number), vec![(id(1), Has::All)], now, (&mut Noes::default(), &mut rng()));
    }
    let mut asked = sends(&mut machine, now);
    assert_eq!(asked.len(), 4);
    let mut most = 0;
    let mut delivered = 0;
    while !asked.is_empty() {
        most = most.max(asked.len());
        delivered += deliver(&mut machine, &asked, now);
        asked = sends(&mut machine, now);
    }
    assert_eq!((delivered, most), (400, PARTS_MAX));
}

#[test]
fn a_holder_that_is_silent_is_replaced_and_one_that_delivers_slowly_is_not() {
    let (mut machine, start) = (Machine::default(), Instant::now());
    machine.set_peers(&peers(&[1, 2]));
    machine.want(id(1), Some(&[false; 4]), start);
    sends(&mut machine, start);
    machine.handle_have(&peer(1), vec![(id(1), Has::All)], start, (&mut Noes::default(), &mut rng()));
    assert_eq!(sends(&mut machine, start).len(), 2);
    machine.handle_have(&peer(2), vec![(id(1), Has::All)], start, (&mut Noes::default(), &mut rng()));
    assert_eq!(sends(&mut machine, start).len(), 2);
    // Peer 1 delivers its first part just in time: its second one has time until then plus a deadline.
    let later = start + Duration::from_secs(14);
    assert!(machine.handle_part(&peer(1), &id(1), 1, later));
    machine.handle_stored(&peer(1), &id(1), 1, later);
    let after = start + Duration::from_secs(20);
    let mut asked = sends(&mut machine, after);
    assert!(machine.handle_part(&peer(1), &id(1), 2, after));
    asked.extend(sends(&mut machine, after));
    assert!(asked.iter().all(|(to, body)| *to == peer(1) && matches!(body, Body::Get(..))), "{asked:?}");
    assert_eq!(asked.len(), 2, "what the silent peer was asked for is asked of the other: {asked:?}");
}

/// A peer that has nothing is not made to say no more often than its patience allows, however many ledgers ask it; and each
/// of them gets to ask.
#[test]
fn refusals_of_an_honest_peer_stay_below_what_it_puts_up_with() {
    for ledgers in [1, 2, 7] {
        let start = Instant::now();
        let (mut now, mut noes) = (start, Noes::default());
        let mut machines: Vec<(Machine, usize)> = (0..ledgers).map(|_| (Machine::default(), 0)).collect();
        for (machine, _) in &mut machines {
            machine.set_peers(&peers(&[1]));
            (0..2_000).for_each(|n| assert!(machine.want(id(n), None, start)));
        }
        let mut next = 2_000_u16;
        while now < start + Duration::from_secs(60) {
            let mut due = now + Duration::from_secs(1);
            for (machine, refused) in &mut machines {
                for (to, body) in sends_within(machine, &mut noes, now) {
                    let Body::Want(ids) = body else { continue };
                    *refused += ids.len();
                    let items = ids.into_iter().map(|id| (id, Has::No)).collect();
                    machine.handle_have(&to, items, now, (&mut noes, &mut rng()));
                }
                // The caller has a hundred thousand others to ask for.
                for _ in 0..machine.make_room(2_000, now) {
                    assert!(machine.want(id(next), None, now));
                    next = next.wrapping_add(1);
                }
                due = machine.poll_timeout(now).map_or(due, |at| at.min(due));
            }
            now = due.max(now + Duration::from_millis(1));
        }
        let all: usize = machines.iter().map(|(_, refused)| refused).sum();
        assert!((4_000..15_000).contains(&all), "{all} noes in a minute to {ledgers} ledgers");
        assert!(machines.iter().all(|(_, refused)| *refused > 100), "one leaves nothing to the others");
    }
}

#[test]
fn nothing_is_asked_for_while_bandwidth_is_used_up() {
    let (mut machine, now) = (Machine::default(), Instant::now());
    machine.set_peers(&peers(&[1]));
    machine.want(id(1), Some(&[false; 9]), now);
    sends(&mut machine, now);
    machine.handle_have(&peer(1), vec![(id(1), Has::All)], now, (&mut Noes::default(), &mut rng()));
    let until = now + Duration::from_secs(3);
    machine.hold(until);
    assert_eq!(sends(&mut machine, now), []);
    assert_eq!(machine.poll_timeout(now), Some(until));
    assert_eq!(sends(&mut machine, until).len(), 2);
}
