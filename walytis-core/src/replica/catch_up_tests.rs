//! Replicas with one machine each on a simulated network: messages are late and doubled, connections break and lose
//! what was under way, some peers never serve. Time is virtual; everything follows from the seed.
//!
//! Rerun one schedule: `WALYTIS_SEED=<seed> cargo test -p walytis-core --lib catch_up::tests`.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

use super::*;

/// What a replica serves a peer, and how much it may send.
#[derive(Default)]
struct Serving {
    round: u32,
    queue: VecDeque<BlockId>,
    credit: u64,
    active: bool,
}

struct Replica {
    machine: CatchUp,
    blocks: BTreeSet<BlockId>,
    serving: BTreeMap<usize, Serving>,
    /// Never serves anything.
    mute: bool,
    received: usize,
}

enum Event {
    Message { from: usize, to: usize, link: u32, message: Message },
    Up { a: usize, b: usize },
    Add { at: usize },
}

struct Simulation {
    rng: ChaCha20Rng,
    start: Instant,
    now: Instant,
    events: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
    replicas: Vec<Replica>,
    /// Parents and generation of every block there is.
    graph: BTreeMap<BlockId, (Vec<BlockId>, u64)>,
    /// Numbers connections, so that what was under way on a broken one is lost; and when the last message arrives.
    links: BTreeMap<(usize, usize), (u32, Instant)>,
    break_per_mille: u32,
}

type Ids = Vec<(BlockId, u64)>;

const FILE_BYTES: u32 = 1_000;
const BATCH: usize = 16;

fn peer(index: usize) -> PeerId {
    PeerId::from_bytes(&[u8::try_from(index).unwrap() + 1]).unwrap()
}

fn index_of(peer: &PeerId) -> usize {
    usize::from(peer.as_bytes()[0]) - 1
}

fn genesis() -> BlockId {
    BlockId::from_digest([0; 32])
}

impl Simulation {
    fn new(seed: u64, replicas: usize, break_per_mille: u32) -> Self {
        let start = Instant::now();
        let replica = |_| Replica {
            machine: CatchUp::new(View { count: 1, generation: 0, heads: vec![genesis()] }),
            blocks: BTreeSet::from([genesis()]),
            serving: BTreeMap::new(),
            mute: false,
            received: 0,
        };
        Self {
            rng: ChaCha20Rng::seed_from_u64(seed),
            start,
            now: start,
            events: BTreeMap::new(),
            sequence: 0,
            replicas: (0..replicas).map(replica).collect(),
            graph: BTreeMap::from([(genesis(), (Vec::new(), 0))]),
            links: BTreeMap::new(),
            break_per_mille,
        }
    }

    fn below(&mut self, bound: u32) -> u32 {
        self.rng.next_u32() % bound
    }

    fn at(&mut self, time: Instant, event: Event) {
        self.sequence += 1;
        self.events.insert((time, self.sequence), event);
    }

    fn view(&self, at: usize) -> View {
        let blocks = &self.replicas[at].blocks;
        let parents: BTreeSet<_> = blocks.iter().flat_map(|id| self.graph[id].0.clone()).collect();
        let heads: Vec<_> = blocks.iter().filter(|id| !parents.contains(id)).copied().collect();
        let generation = blocks.iter().map(|id| self.graph[id].1).max().unwrap_or(0);
        View { count: blocks.len() as u64, generation, heads }
    }

    fn add(&mut self, at: usize) {
        let view = self.view(at);
        self.sequence += 1;
        let mut digest = [0xff; 32];
        digest[24..].copy_from_slice(&self.rng.next_u64().to_be_bytes());
        let id = BlockId::from_digest(digest);
        self.graph.insert(id, (view.heads, view.generation + 1));
        self.replicas[at].blocks.insert(id);
        let (view, now) = (self.view(at), self.now);
        self.replicas[at].machine.handle_local(view, &[id], None, now);
    }

    fn connect(&mut self, a: usize, b: usize) {
        self.links.entry((a.min(b), a.max(b))).or_insert((0, self.start));
        for (one, other) in [(a, b), (b, a)] {
            self.replicas[one].serving.remove(&other);
            self.replicas[one].machine.handle_up(peer(other), self.now);
        }
        self.drain(a);
        self.drain(b);
    }

    fn break_link(&mut self, a: usize, b: usize) {
        if let Some((link, _)) = self.links.get_mut(&(a.min(b), a.max(b))) {
            *link += 1;
        }
        let now = self.now;
        for (one, other) in [(a, b), (b, a)] {
            self.replicas[one].serving.remove(&other);
            self.replicas[one].machine.handle_down(&peer(other), now);
        }
        let later = now + Duration::from_millis(u64::from(self.below(2_000)));
        self.at(later, Event::Up { a, b });
        self.drain(a);
        self.drain(b);
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        let delay = Duration::from_millis(u64::from(self.below(300)));
        let key = (from.min(to), from.max(to));
        let Some((link, last)) = self.links.get(&key).copied() else { return };
        // A stream keeps its order.
        let arrival = (self.now + delay).max(last);
        self.links.insert(key, (link, arrival));
        if self.below(1_000) < 50 {
            self.at(arrival, Event::Message { from, to, link, message: message.clone() });
        }
        self.at(arrival, Event::Message { from, to, link, message });
    }

    fn unknown(&self, at: usize, ids: &[BlockId]) -> Vec<BlockId> {
        ids.iter().filter(|id| !self.replicas[at].blocks.contains(id)).copied().collect()
    }

    fn drain(&mut self, at: usize) {
        while let Some(output) = self.replicas[at].machine.poll_output() {
            match output {
                Output::Send { peer, message } => self.send(at, index_of(&peer), message),
                Output::Serve { peer, round, have, credit } => self.stream(at, index_of(&peer), round, &have, credit),
                Output::Recheck { peer, ids } => {
                    let unknown = self.unknown(at, &ids);
                    let now = self.now;
                    self.replicas[at].machine.handle_unknown(&peer, unknown, now);
                }
            }
        }
    }

    /// Begins to stream what is above `have`, by brute force.
    fn stream(&mut self, at: usize, to: usize, round: u32, have: &[BlockId], credit: u32) {
        let mut below = BTreeSet::new();
        let mut open: Vec<_> = have.to_vec();
        while let Some(id) = open.pop() {
            if self.replicas[at].blocks.contains(&id) && below.insert(id) {
                open.extend(self.graph[&id].0.clone());
            }
        }
        let mut missing: Vec<_> = self.replicas[at].blocks.difference(&below).copied().collect();
        missing.sort_by_key(|id| (self.graph[id].1, *id));
        let serving = Serving { round, queue: missing.into(), credit: u64::from(credit), active: true };
        self.replicas[at].serving.insert(to, serving);
        self.produce(at, to);
    }

    fn produce(&mut self, at: usize, to: usize) {
        if self.replicas[at].mute {
            return;
        }
        while let Some(serving) = self.replicas[at].serving.get_mut(&to).filter(|s| s.active && s.credit > 0) {
            let take = serving.queue.len().min(BATCH);
            let ids: Vec<_> = serving.queue.drain(..take).collect();
            serving.credit = serving.credit.saturating_sub(u64::from(FILE_BYTES) * ids.len() as u64);
            let last = serving.queue.is_empty();
            serving.active = !last;
            let round = serving.round;
            // The id stands for the file.
            let files = ids.iter().map(|id| bytes::Bytes::copy_from_slice(id.digest())).collect();
            self.send(at, to, Message::Blocks { round, last, files });
        }
    }

    fn walk(&self, at: usize, from: &[BlockId], limit: u32) -> (Ids, Ids) {
        let here = &self.replicas[at].blocks;
        let known = from.iter().filter(|id| here.contains(id));
        let mut frontier: BTreeSet<_> = known.map(|id| (self.graph[id].1, *id)).collect();
        let mut passed = Vec::new();
        while passed.len() < limit as usize {
            let Some((generation, id)) = frontier.pop_last() else { break };
            passed.push((id, generation));
            frontier.extend(self.graph[&id].0.iter().map(|parent| (self.graph[parent].1, *parent)));
        }
        (passed, frontier.into_iter().rev().map(|(generation, id)| (id, generation)).collect())
    }

    fn receive(&mut self, from: usize, to: usize, message: Message) {
        let (now, sender) = (self.now, peer(from));
        match message {
            Message::Hello(hello) => {
                let unknown = self.unknown(to, &hello.heads);
                self.replicas[to].machine.handle_hello(&sender, hello, unknown, now);
            }
            Message::Diverged { round } => self.replicas[to].machine.handle_diverged(&sender, round, now),
            Message::Walk { round, from: ids, limit } if !self.replicas[to].mute => {
                let (passed, frontier) = self.walk(to, &ids, limit);
                self.send(to, from, Message::Ids { round, passed, frontier });
            }
            Message::Ids { round, passed, frontier } => {
                let ids: Vec<_> = passed.iter().chain(&frontier).map(|(id, _)| *id).collect();
                let here = |id: &&BlockId| self.replicas[to].blocks.contains(*id);
                let known = ids.iter().filter(here).copied().collect();
                let next: Vec<_> = frontier.iter().map(|(id, _)| *id).collect();
                let next = self.unknown(to, &next);
                self.replicas[to].machine.handle_ids(&sender, round, known, next, now);
            }
            Message::Want { round, have, credit } => self.stream(to, from, round, &have, credit),
            Message::Credit { round, bytes } => {
                if let Some(serving) = self.replicas[to].serving.get_mut(&from).filter(|s| s.round == round) {
                    serving.credit += u64::from(bytes);
                }
                self.produce(to, from);
            }
            Message::Blocks { round, last, files } => self.take_in(from, to, round, last, &files),
            _ => {}
        }
        self.drain(to);
    }

    fn take_in(&mut self, from: usize, to: usize, round: u32, last: bool, files: &[bytes::Bytes]) {
        let sender = peer(from);
        let mut admitted = Vec::new();
        for file in files {
            self.replicas[to].received += 1;
            let id = BlockId::from_digest(file[..].try_into().unwrap());
            let ready = self.graph[&id].0.iter().all(|parent| self.replicas[to].blocks.contains(parent));
            if ready && self.replicas[to].blocks.insert(id) {
                admitted.push(id);
            }
        }
        let (view, now) = (self.view(to), self.now);
        if !admitted.is_empty() {
            self.replicas[to].machine.handle_local(view, &admitted, Some(&sender), now);
        }
        let unknown = self.replicas[to].machine.unknown_of(&sender);
        let unknown = if last { self.unknown(to, &unknown) } else { Vec::new() };
        let bytes = FILE_BYTES * u32::try_from(files.len()).unwrap();
        let received = Received { round, last, bytes, admitted: admitted.len(), unknown };
        self.replicas[to].machine.handle_blocks(&sender, &received, now, &mut self.rng);
    }

    /// Runs until nothing happens any more; false if that takes longer than `limit`.
    fn run(&mut self, limit: Duration) -> bool {
        loop {
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let timers = self.replicas.iter().enumerate().filter_map(|(i, r)| Some((r.machine.poll_timeout()?, i)));
            let timer = timers.min();
            match (event, timer) {
                (None, None) => return true,
                (Some(at), timer) if timer.is_none_or(|(due, _)| at <= due) => {
                    self.now = self.now.max(at);
                    let Some((_, event)) = self.events.pop_first() else { return true };
                    self.handle(event);
                }
                (_, Some((due, index))) => {
                    self.now = self.now.max(due);
                    let now = self.now;
                    self.replicas[index].machine.handle_timeout(now, &mut self.rng);
                    self.drain(index);
                }
                (Some(_), None) => unreachable!("an event without a timer comes first"),
            }
            if self.now > self.start + limit {
                return false;
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Up { a, b } => self.connect(a, b),
            Event::Add { at } => self.add(at),
            Event::Message { from, to, link, message } => {
                let current = self.links.get(&(from.min(to), from.max(to))).map(|(link, _)| *link);
                if current != Some(link) {
                    return;
                }
                // Trouble ends, or nothing could ever be said of the end.
                let trouble = self.now < self.start + Duration::from_secs(60);
                if trouble && self.below(1_000) < self.break_per_mille {
                    self.break_link(from, to);
                } else {
                    self.receive(from, to, message);
                }
            }
        }
    }

    fn assert_converged(&self, seed: u64) {
        let all = &self.replicas[0].blocks;
        for (index, replica) in self.replicas.iter().enumerate() {
            let (here, there) = (replica.blocks.len(), self.graph.len());
            assert_eq!(here, there, "replica {index}; rerun with WALYTIS_SEED={seed}");
            assert!(replica.blocks == *all, "replica {index}; rerun with WALYTIS_SEED={seed}");
        }
    }
}

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("WALYTIS_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..count).collect(),
    }
}

/// Three to five replicas in a ring with chords add blocks for a while; everything ends up everywhere.
fn turmoil(seed: u64, break_per_mille: u32, mute: bool) {
    let mut simulation = Simulation::new(seed, 3, break_per_mille);
    let count = 3 + simulation.below(3) as usize;
    let mut simulation = Simulation::new(seed, count, break_per_mille);
    simulation.replicas[count - 1].mute = mute;
    let start = simulation.start;
    for a in 0..count {
        for b in a + 1..count {
            // A mute replica needs others around it that are connected without it.
            if b == a + 1 || mute || simulation.below(2) == 0 {
                let at = start + Duration::from_millis(u64::from(simulation.below(5_000)));
                simulation.at(at, Event::Up { a, b });
            }
        }
    }
    for _ in 0..120 {
        let at = start + Duration::from_millis(u64::from(simulation.below(20_000)));
        let writers = u32::try_from(count - usize::from(mute)).unwrap();
        let replica = simulation.below(writers) as usize;
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
    assert!(simulation.replicas[1].received <= 100 + 3 * BATCH, "{}", simulation.replicas[1].received);
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
    assert!(simulation.replicas[3].received <= 500 + 8 * BATCH, "{}", simulation.replicas[3].received);
}

#[test]
fn replicas_in_sync_say_one_hello_each_and_stay_silent() {
    let mut one = CatchUp::new(View { count: 1, generation: 0, heads: vec![genesis()] });
    let now = Instant::now();
    one.handle_up(peer(1), now);
    let Some(Output::Send { message, .. }) = one.poll_output() else { panic!("a hello is said") };
    let frame = super::super::codec_v1::Frame::Chain { channel: 0, message: message.clone() };
    assert!(frame.encode().len() <= 64, "a round trip must stay below 400 bytes");
    let Message::Hello(hello) = message else { panic!("a hello is said") };
    one.handle_hello(&peer(1), Hello { credit: 0, ..hello }, Vec::new(), now);
    assert_eq!(one.poll_output(), None);
    assert_eq!(one.poll_timeout(), None);
    assert!(one.is_level(&peer(1)));
}

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
    let round = machine.lane.as_ref().unwrap().round;
    machine.handle_timeout(now, &mut rng);
    (machine, now, rng, round)
}

/// Plays messages of `bytes` every nine seconds until the turn is over; returns how long it lasted, at most an hour.
fn turn(bytes: u32, admitted: usize) -> Duration {
    let (mut machine, start, mut rng, round) = asked();
    let mut now = start;
    while machine.lane.as_ref().is_some_and(|lane| lane.peer == peer(0)) && now < start + Duration::from_secs(3_600) {
        now += Duration::from_secs(9);
        machine.handle_timeout(now, &mut rng);
        let received = Received { round, last: false, bytes, admitted, unknown: vec![] };
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
fn a_walk_without_end_loses_the_turn() {
    let (mut machine, start, mut rng, round) = asked();
    let mut now = start;
    machine.handle_diverged(&peer(0), round, now);
    for step in 0..WALK_STEPS_MAX {
        now += Duration::from_secs(9);
        machine.handle_timeout(now, &mut rng);
        let next = vec![BlockId::from_digest([u8::try_from(step).unwrap(); 32])];
        machine.handle_ids(&peer(0), round, vec![], next, now);
    }
    assert!(machine.lane.is_none_or(|lane| lane.peer != peer(0)), "forty steps of nine seconds each");
}
