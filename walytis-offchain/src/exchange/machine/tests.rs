//! The machine under a seeded scheduler: messages are lost, doubled, late and out of order, peers come, go and lie.

mod pace;
mod partial;
mod room;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use tokio::time::Instant;
use walytis_core::id::PeerId;

use super::{Machine, Output, PARTS_MAX, WANTS_MAX};
use crate::envelope::EnvelopeId;
use crate::exchange::frame_v1::{Body, Has};
use crate::exchange::limits::Noes;
use crate::exchange::runs::Runs;

const CHUNKS: usize = 5;

fn peer(number: u8) -> PeerId {
    PeerId::from_bytes(&[number]).unwrap()
}

fn peers(numbers: &[u8]) -> BTreeSet<PeerId> {
    numbers.iter().map(|number| peer(*number)).collect()
}

fn rng() -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(0)
}

fn below(rng: &mut ChaCha20Rng, bound: u64) -> u64 {
    rng.next_u64() % bound
}

fn id(number: u16) -> EnvelopeId {
    let mut bytes = [0; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    EnvelopeId(bytes)
}

/// How bad the world is.
#[derive(Clone, Copy, Debug)]
struct Weather {
    lost: u64,
    doubled: u64,
    late_ms: u64,
    churn: bool,
}

const ROUGH: Weather = Weather { lost: 20, doubled: 10, late_ms: 3_000, churn: false };

/// One fetcher; peers 1 and 2 hold everything but the envelopes named absent, peer 3 holds nothing and says it does. With
/// `halves`, peer 1 has only the even parts of each and peer 2 the odd ones, and both have part 0.
struct Sim {
    halves: bool,
    noes: Noes,
    rng: ChaCha20Rng,
    chance: ChaCha20Rng,
    weather: Weather,
    now: Instant,
    machine: Machine,
    flights: BTreeMap<(Instant, u64), (PeerId, Body)>,
    number: u64,
    connected: BTreeSet<PeerId>,
    stored: BTreeMap<EnvelopeId, BTreeSet<u32>>,
    absent: BTreeSet<EnvelopeId>,
    forgotten: BTreeSet<EnvelopeId>,
    unavailable: BTreeSet<EnvelopeId>,
    asked: u64,
}

impl Sim {
    fn new(seed: u64, envelopes: u16, weather: Weather) -> Self {
        let mut machine = Machine::default();
        let connected = peers(&[1, 2, 3]);
        machine.set_peers(&connected);
        let now = Instant::now();
        (1..=envelopes).for_each(|n| assert!(machine.want(id(n), None, now)));
        Self {
            halves: false,
            noes: Noes::default(),
            rng: ChaCha20Rng::seed_from_u64(seed),
            chance: ChaCha20Rng::seed_from_u64(seed + 1_000_000),
            weather,
            now,
            machine,
            flights: BTreeMap::new(),
            number: 0,
            connected,
            stored: BTreeMap::new(),
            absent: BTreeSet::from([id(1)]),
            forgotten: BTreeSet::new(),
            unavailable: BTreeSet::new(),
            asked: 0,
        }
    }

    fn fly(&mut self, from: &PeerId, body: &Body) {
        let dice = below(&mut self.chance, 100);
        let copies = match dice {
            dice if dice < self.weather.lost => 0,
            dice if dice < self.weather.lost + self.weather.doubled => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let at = self.now + Duration::from_millis(below(&mut self.chance, self.weather.late_ms));
            self.number += 1;
            self.flights.insert((at, self.number), (from.clone(), body.clone()));
        }
    }

    fn has_part(&self, from: &PeerId, part: u32) -> bool {
        !self.halves || part == 0 || part.is_multiple_of(2) == (*from == peer(1))
    }

    fn told(&self, from: &PeerId, id: &EnvelopeId) -> Has {
        match (*from == peer(3), self.absent.contains(id), self.halves) {
            (false, true, _) => Has::No,
            (true, ..) | (_, _, false) => Has::All,
            _ => {
                let parts = 1..=u32::try_from(CHUNKS).unwrap();
                Has::Some(Runs::of(&parts.map(|part| self.has_part(from, part)).collect::<Vec<_>>()))
            }
        }
    }

    fn answer(&mut self, from: &PeerId, body: Body) {
        let holds = |id: &EnvelopeId| *from == peer(3) || !self.absent.contains(id);
        let reply = match body {
            Body::Want(ids) => Body::Have(ids.into_iter().map(|id| (id, self.told(from, &id))).collect()),
            Body::Get(id, part) if *from == peer(3) => match below(&mut self.chance, 2) {
                0 => Body::No(id, part),
                _ => Body::Part(id, part, "wrong".into()),
            },
            Body::Get(id, part) if holds(&id) && self.has_part(from, part) => Body::Part(id, part, "right".into()),
            Body::Get(id, part) => Body::No(id, part),
            _ => return,
        };
        self.fly(from, &reply);
    }

    fn receive(&mut self, from: &PeerId, body: Body) {
        let now = self.now;
        match body {
            Body::Have(items) => self.machine.handle_have(from, items, now, (&mut self.noes, &mut self.rng)),
            Body::No(id, part) => self.machine.handle_no(from, &id, part, now, (&mut self.noes, &mut self.rng)),
            Body::Part(id, part, bytes) => {
                if !self.machine.handle_part(from, &id, part, now) {
                    return;
                }
                assert!(!self.forgotten.contains(&id), "a forgotten envelope is taken");
                if bytes != "right" {
                    return self.machine.handle_failed(from, &id, part, now, &mut self.rng);
                }
                assert!(self.stored.entry(id).or_default().insert(part), "stored twice");
                let complete = match part {
                    0 => self.machine.handle_manifest(from, &id, &[false; CHUNKS], now),
                    _ => self.machine.handle_stored(from, &id, part, now),
                };
                assert_eq!(complete, self.stored.get(&id).is_some_and(|parts| parts.len() == CHUNKS + 1));
                if complete {
                    self.machine.drop_want(&id);
                }
            }
            request => self.answer(from, request),
        }
    }

    /// A peer goes and comes, a stream breaks.
    fn disturb(&mut self) {
        if !self.weather.churn || below(&mut self.chance, 20) > 0 {
            return;
        }
        let name = peer(1 + u8::try_from(below(&mut self.chance, 3)).unwrap());
        match below(&mut self.chance, 2) {
            0 => self.machine.handle_break(&name, self.now, &mut self.rng),
            _ => {
                if !self.connected.remove(&name) {
                    self.connected.insert(name);
                }
                self.machine.set_peers(&self.connected);
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.machine.handle_time(self.now, &mut self.noes, &mut self.rng);
            while let Some(output) = self.machine.poll_output(self.now) {
                match output {
                    Output::Send { peer, body } => {
                        self.asked += 1;
                        if let Body::Want(ids) = &body {
                            assert!(ids.iter().all(|id| !self.forgotten.contains(id)), "a forgotten one is wanted");
                        }
                        self.fly(&peer, &body);
                    }
                    Output::Unavailable { id, is: true } => drop(self.unavailable.insert(id)),
                    Output::Unavailable { id, is: false } => drop(self.unavailable.remove(&id)),
                }
            }
            assert!(self.machine.in_flight <= PARTS_MAX);
            let flight = self.flights.keys().next().map(|(at, _)| *at);
            let next = flight.into_iter().chain(self.machine.poll_timeout(self.now)).min();
            let Some(next) = next else { return };
            self.now = self.now.max(next);
            while let Some(entry) = self.flights.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let (from, body) = entry.remove();
                if self.connected.contains(&from) {
                    self.receive(&from, body);
                }
            }
            self.disturb();
        }
    }

    fn missing(&self, envelopes: u16) -> Vec<u16> {
        let whole = |n: &u16| self.stored.get(&id(*n)).is_some_and(|parts| parts.len() == CHUNKS + 1);
        (1..=envelopes).filter(|n| !whole(n)).collect()
    }
}

/// `WALYTIS_SEED` runs one again, `WALYTIS_SEEDS` as many as it says.
fn seeds(count: u64) -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse().ok());
    match number("WALYTIS_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("WALYTIS_SEEDS").unwrap_or(count)).collect(),
    }
}

#[test]
fn everything_arrives_once_under_loss_and_lies_and_one_absent_envelope_delays_no_other() {
    for seed in seeds(60) {
        let mut sim = Sim::new(seed, 12, ROUGH);
        sim.run(Duration::from_secs(1_800));
        assert_eq!(sim.missing(12), [1], "WALYTIS_SEED={seed}");
        sim.absent.clear();
        sim.run(Duration::from_secs(1_800));
        assert_eq!(sim.missing(12), [], "WALYTIS_SEED={seed}: it does not come when its holder returns");
        assert!(sim.unavailable.is_empty() && sim.machine.timers.is_empty() && sim.machine.in_flight == 0);
    }
}

#[test]
fn everything_arrives_though_peers_come_and_go_and_streams_break() {
    let weather = Weather { churn: true, ..ROUGH };
    for seed in seeds(60) {
        let mut sim = Sim::new(seed, 12, weather);
        sim.absent.clear();
        sim.run(Duration::from_secs(1_200));
        sim.weather.churn = false;
        sim.connected = peers(&[1, 2, 3]);
        sim.machine.set_peers(&sim.connected);
        sim.run(Duration::from_secs(1_800));
        assert_eq!(sim.missing(12), [], "WALYTIS_SEED={seed}");
    }
}

/// What is forgotten in the middle of its transfer is neither asked for nor taken any more, and delays nothing.
#[test]
fn what_is_forgotten_in_the_middle_is_never_wanted_again() {
    for seed in seeds(30) {
        let mut sim = Sim::new(seed, 12, ROUGH);
        sim.absent.clear();
        sim.run(Duration::from_secs(2));
        for number in [3, 7] {
            sim.forgotten.insert(id(number));
            sim.machine.drop_want(&id(number));
        }
        let had: Vec<usize> = [3, 7].map(|n| sim.stored.get(&id(n)).map_or(0, BTreeSet::len)).to_vec();
        sim.run(Duration::from_secs(1_800));
        let left: Vec<u16> = sim.missing(12).into_iter().filter(|n| ![3, 7].contains(n)).collect();
        assert_eq!(left, [], "WALYTIS_SEED={seed}");
        let has: Vec<usize> = [3, 7].map(|n| sim.stored.get(&id(n)).map_or(0, BTreeSet::len)).to_vec();
        assert_eq!(had, has, "WALYTIS_SEED={seed}");
    }
}

#[test]
fn the_same_seed_asks_the_same() {
    let run = |seed| {
        let mut sim = Sim::new(seed, 12, ROUGH);
        sim.run(Duration::from_secs(60));
        (sim.asked, sim.number)
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

fn sends(machine: &mut Machine, now: Instant) -> Vec<(PeerId, Body)> {
    sends_within(machine, &mut Noes::default(), now)
}

fn sends_within(machine: &mut Machine, noes: &mut Noes, now: Instant) -> Vec<(PeerId, Body)> {
    machine.handle_time(now, noes, &mut rng());
    let mut sends = Vec::new();
    while let Some(output) = machine.poll_output(now) {
        if let Output::Send { peer, body } = output {
            sends.push((peer, body));
        }
    }
    sends
}

#[test]
fn chunks_that_are_here_are_not_asked_for_again() {
    let (mut machine, now) = (Machine::default(), Instant::now());
    assert!(machine.want(id(1), Some(&[true, false, true]), now));
    machine.set_peers(&peers(&[1]));
    assert_eq!(sends(&mut machine, now), [(peer(1), Body::Want(vec![id(1)]))]);
    machine.handle_have(&peer(1), vec![(id(1), Has::All)], now, (&mut Noes::default(), &mut rng()));
    assert_eq!(sends(&mut machine, now), [(peer(1), Body::Get(id(1), 2))]);
    // An answer of somebody who was not asked is not expected.
    assert!(!machine.handle_part(&peer(2), &id(1), 2, now) && !machine.handle_part(&peer(1), &id(1), 1, now));
    assert!(machine.handle_part(&peer(1), &id(1), 2, now) && !machine.handle_part(&peer(1), &id(1), 2, now));
    assert!(machine.handle_stored(&peer(1), &id(1), 2, now));
}

/// Answers every part that was asked for at once.
fn deliver(machine: &mut Machine, asked: &[(PeerId, Body)], now: Instant) -> usize {
    let mut delivered = 0;
    for (from, body) in asked {
        if let Body::Get(id, part) = body {
            assert!(machine.handle_part(from, id, *part, now));
            machine.handle_stored(from, id, *part, now);
            delivered += 1;
        }
    }
    delivered
}

/// One large and one small envelope at one holder: the small one is asked for although the large one would fill the
/// window.
#[test]
fn a_large_envelope_delays_no_small_one() {
    let (mut machine, now) = (Machine::default(), Instant::now());
    machine.set_peers(&peers(&[1]));
    machine.want(id(1), Some(&[false; 1_000]), now);
    sends(&mut machine, now);
    machine.handle_have(&peer(1), vec![(id(1), Has::All)], now, (&mut Noes::default(), &mut rng()));
    let mut asked = sends(&mut machine, now);
    for _ in 0..4 {
        deliver(&mut machine, &asked, now);
        asked = sends(&mut machine, now);
    }
    machine.want(id(2), None, now);
    assert_eq!(sends(&mut machine, now), [(peer(1), Body::Want(vec![id(2)]))]);
    machine.handle_have(&peer(1), vec![(id(2), Has::All)], now, (&mut Noes::default(), &mut rng()));
    let first = asked.remove(0);
    deliver(&mut machine, &[first], now);
    assert!(sends(&mut machine, now).contains(&(peer(1), Body::Get(id(2), 0))));
}

proptest! {
    /// Whatever is told in whatever order, the counters agree with what stands in the wants.
    #[test]
    fn no_order_of_inputs_breaks_the_books(steps in proptest::collection::vec((0..10_u8, 0..4_u8, 0..6_u16, 0..4_u32), 1..120)) {
        let (mut machine, mut now, mut rng) = (Machine::default(), Instant::now(), rng());
        let mut connected = BTreeSet::new();
        for (what, who, which, part) in steps {
            let (who, which) = (peer(who), id(which));
            match what {
                0 => assert!(machine.want(which, None, now)),
                1 => assert!(machine.want(which, Some(&[false, true, false]), now)),
                2 => machine.drop_want(&which),
                3 => {
                    if !connected.remove(&who) {
                        connected.insert(who);
                    }
                    machine.set_peers(&connected);
                }
                4 => machine.handle_break(&who, now, &mut rng),
                5 => {
                    let has = match part {
                        0 => Has::No,
                        1 => Has::All,
                        2 => Has::Some(Runs::of(&[true, false, false])),
                        _ => Has::Some(Runs::of(&[false, false, true])),
                    };
                    machine.handle_have(&who, vec![(which, has)], now, (&mut Noes::default(), &mut rng));
                }
                6 => machine.handle_no(&who, &which, part, now, (&mut Noes::default(), &mut rng)),
                7 if machine.handle_part(&who, &which, part, now) => match part {
                    0 => assert!(!machine.handle_manifest(&who, &which, &[false, false, true], now)),
                    1 => machine.handle_failed(&who, &which, part, now, &mut rng),
                    2 => machine.handle_trouble(&which, part, now, &mut rng),
                    _ => assert!(machine.handle_stored(&who, &which, part, now) <= machine.wants(&which)),
                },
                8 => assert!(machine.make_room(1, now) <= 1),
                _ => now += Duration::from_secs(u64::from(part) * 7),
            }
            sends(&mut machine, now);
            let in_flight: usize = machine.wants.values().map(super::Want::in_flight).sum();
            prop_assert_eq!(machine.in_flight, in_flight);
            for (id, want) in &machine.wants {
                let hopeful = want.holders.values().filter(|holder| holder.state.is_hopeful()).count();
                prop_assert_eq!(want.hopeful, hopeful);
                prop_assert_eq!(want.unavailable, machine.unavailable.contains(id));
                prop_assert!(want.holders.keys().all(|peer| connected.contains(peer)));
            }
            for (name, peer) in &machine.peers {
                let has_gap = |id: &EnvelopeId| machine.wants[id].has_gap_for(name);
                prop_assert!(peer.ready.iter().all(has_gap), "nothing to ask for");
                prop_assert!(peer.fresh.iter().chain(&peer.ready).all(|id| machine.wants.contains_key(id)));
            }
            let timers = machine.wants.values().flat_map(|want| want.holders.values());
            prop_assert_eq!(timers.filter(|holder| holder.state.due().is_some()).count(), machine.timers.len());
        }
    }
}
