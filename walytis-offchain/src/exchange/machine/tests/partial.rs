//! Holders that have an envelope only in part.

use super::*;

/// What has been asked of each peer.
fn gets(sends: &[(PeerId, Body)]) -> Vec<(PeerId, u32)> {
    let part = |(peer, body): &(PeerId, Body)| match body {
        Body::Get(_, part) => Some((peer.clone(), *part)),
        _ => None,
    };
    sends.iter().filter_map(part).collect()
}

fn told(machine: &mut Machine, from: u8, here: &[bool], now: Instant) {
    machine.handle_have(&peer(from), vec![(id(1), Has::Some(Runs::of(here)))], now, (&mut Noes::default(), &mut rng()));
}

#[test]
fn everything_arrives_from_holders_of_parts_under_loss_and_lies() {
    for seed in seeds(60) {
        // Each part has one honest holder, who is given more and more time after each loss.
        let mut sim = Sim::new(seed, 12, Weather { lost: 10, ..ROUGH });
        (sim.halves, sim.absent) = (true, BTreeSet::new());
        sim.run(Duration::from_secs(20_000));
        assert_eq!(sim.missing(12), [], "WALYTIS_SEED={seed}");
        assert!(sim.unavailable.is_empty() && sim.machine.timers.is_empty() && sim.machine.in_flight == 0);
    }
}

#[test]
fn a_holder_of_a_part_is_asked_for_that_and_when_it_has_no_more_how_much_it_has_by_now() {
    let (mut machine, start) = (Machine::default(), Instant::now());
    machine.set_peers(&peers(&[1]));
    machine.want(id(1), Some(&[false; 6]), start);
    sends(&mut machine, start);
    told(&mut machine, 1, &[false, true, false, false, true, false], start);
    assert_eq!(gets(&sends(&mut machine, start)), [(peer(1), 2), (peer(1), 5)]);
    for part in [2, 5] {
        assert!(machine.handle_part(&peer(1), &id(1), part, start));
        assert!(!machine.handle_stored(&peer(1), &id(1), part, start));
    }
    assert_eq!(sends(&mut machine, start), []);
    assert!(machine.unavailable.is_empty(), "who has got some may get more");
    // Soon it is asked again; what it has got meanwhile is asked for.
    let mut now = machine.poll_timeout(start).unwrap();
    assert!(now > start && now <= start + Duration::from_millis(250));
    assert_eq!(sends(&mut machine, now), [(peer(1), Body::Want(vec![id(1)]))]);
    told(&mut machine, 1, &[true, true, false, false, true, false], now);
    assert_eq!(gets(&sends(&mut machine, now)), [(peer(1), 1)]);
    machine.handle_part(&peer(1), &id(1), 1, now);
    machine.handle_stored(&peer(1), &id(1), 1, now);
    // If it gets nothing more it is asked less and less often, and nobody has the rest.
    let mut waits = Vec::new();
    while waits.len() < 6 {
        let due = machine.poll_timeout(now).unwrap();
        let asked = sends(&mut machine, due);
        if !asked.is_empty() {
            waits.push(due - now);
            now = due;
            told(&mut machine, 1, &[true, true, false, false, true, false], now);
        }
    }
    assert!(waits[1..].is_sorted() && waits[5] > waits[0] * 8, "{waits:?}");
    assert!(machine.unavailable.contains(&id(1)));
    told(&mut machine, 1, &[true; 6], now);
    assert_eq!(gets(&sends(&mut machine, now)), [], "nobody asked");
    let due = machine.poll_timeout(now).unwrap();
    sends(&mut machine, due);
    told(&mut machine, 1, &[true; 6], due);
    assert_eq!(gets(&sends(&mut machine, due)).len(), 3);
    assert!(machine.unavailable.is_empty());
}

/// Whoever has all is asked for what nobody else has, as long as there is any of that.
#[test]
fn rare_parts_are_asked_of_whole_holders_first() {
    let (mut machine, now) = (Machine::default(), Instant::now());
    machine.set_peers(&peers(&[1, 2]));
    machine.want(id(1), Some(&[false; 8]), now);
    sends(&mut machine, now);
    told(&mut machine, 1, &[true, true, true, true, true, true, false, false], now);
    machine.handle_have(&peer(2), vec![(id(1), Has::All)], now, (&mut Noes::default(), &mut rng()));
    let mut asked = gets(&sends(&mut machine, now));
    asked.sort();
    assert_eq!(asked, [(peer(1), 1), (peer(1), 2), (peer(2), 7), (peer(2), 8)]);
    // Now the whole one helps with the rest.
    for part in [7, 8] {
        machine.handle_part(&peer(2), &id(1), part, now);
        machine.handle_stored(&peer(2), &id(1), part, now);
    }
    assert!(gets(&sends(&mut machine, now)).iter().all(|(to, part)| *to == peer(2) && (3..=6).contains(part)));
}

/// The holder of a part goes in the middle of it: its parts are asked of another.
#[test]
fn what_a_holder_of_parts_was_asked_for_is_asked_elsewhere_when_it_goes() {
    let (mut machine, now) = (Machine::default(), Instant::now());
    machine.set_peers(&peers(&[1, 2]));
    machine.want(id(1), Some(&[false; 2]), now);
    sends(&mut machine, now);
    told(&mut machine, 1, &[true, true], now);
    told(&mut machine, 2, &[true, false], now);
    assert_eq!(gets(&sends(&mut machine, now)).len(), 2);
    machine.set_peers(&peers(&[2]));
    let due = machine.poll_timeout(now).unwrap_or(now);
    let asked = [gets(&sends(&mut machine, now)), gets(&sends(&mut machine, due))].concat();
    assert!(asked.iter().all(|(to, part)| *to == peer(2) && *part == 1), "{asked:?}");
    assert!(machine.wants[&id(1)].holders.len() == 1 && machine.drained.is_empty());
}

/// One author whose line carries one part at a time, and members that want the same: how many parts leave the author.
fn author_sends(members: u8, chunks: u32) -> u32 {
    let author = peer(0);
    let mut machines: BTreeMap<PeerId, Machine> = BTreeMap::new();
    for number in 1..=members {
        let mut machine = Machine::new(u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let others = (0..=members).filter(|other| *other != number).map(peer).collect();
        machine.set_peers(&others);
        machine.want(id(1), Some(&vec![false; chunks as usize]), Instant::now());
        machines.insert(peer(number), machine);
    }
    let mut here: BTreeMap<PeerId, BTreeSet<u32>> =
        machines.keys().map(|name| (name.clone(), BTreeSet::new())).collect();
    let mut queues: BTreeMap<PeerId, std::collections::VecDeque<(PeerId, Body)>> = BTreeMap::new();
    let (mut now, mut rng, mut sent) = (Instant::now(), rng(), 0);
    for _ in 0..100_000 {
        now += Duration::from_millis(10);
        for (name, machine) in &mut machines {
            machine.handle_time(now, &mut Noes::default(), &mut rng);
            while let Some(output) = machine.poll_output(now) {
                if let Output::Send { peer, body } = output {
                    queues.entry(peer).or_default().push_back((name.clone(), body));
                }
            }
        }
        // Each line carries its questions and one part.
        for (holder, queue) in &mut queues {
            while let Some((asker, body)) = queue.pop_front() {
                let machine = machines.get_mut(&asker).unwrap();
                match body {
                    Body::Want(_) if *holder == author => {
                        machine.handle_have(holder, vec![(id(1), Has::All)], now, (&mut Noes::default(), &mut rng));
                    }
                    Body::Want(_) => {
                        let flags: Vec<bool> = (1..=chunks).map(|part| here[holder].contains(&part)).collect();
                        machine.handle_have(
                            holder,
                            vec![(id(1), Has::Some(Runs::of(&flags)))],
                            now,
                            (&mut Noes::default(), &mut rng),
                        );
                    }
                    Body::Get(id, part) => {
                        assert!(*holder == author || here[holder].contains(&part), "asked for what it has not got");
                        sent += u32::from(*holder == author);
                        if machine.handle_part(holder, &id, part, now) {
                            machine.handle_stored(holder, &id, part, now);
                            here.get_mut(&asker).unwrap().insert(part);
                        }
                        break;
                    }
                    _ => unreachable!(),
                }
            }
        }
        if here.values().all(|parts| parts.len() == chunks as usize) {
            return sent;
        }
    }
    panic!("it does not end");
}

/// Four members, one author whose line is never idle: far from all copies come from it.
#[test]
fn members_that_fetch_the_same_fetch_from_each_other() {
    let sent = author_sends(4, 1_000);
    assert!((1_000..=2_500).contains(&sent), "the author sent {sent} parts of 1,000 to four members");
}
