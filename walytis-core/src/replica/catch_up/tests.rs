//! Replicas with one machine each on a simulated network: messages are late and doubled, connections break and lose
//! what was under way, some peers never serve. Time is virtual; everything follows from the seed.
//!
//! Rerun one schedule: `WALYTIS_SEED=<seed> cargo test -p walytis-core --lib catch_up::tests`.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::executor::block_on;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

use super::lane::{BARREN_MAX, TURN_GRACE};
use super::remote::{RETRY_FIRST, RETRY_LONGEST};
use super::*;
use crate::reconcile::tests::Plain;
use crate::reconcile::{conclude, first, respond};

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
    /// How often each block came.
    received: BTreeMap<BlockId, usize>,
    /// The heads that others told.
    told: BTreeMap<usize, Vec<BlockId>>,
    /// Came before its parents.
    pending: BTreeSet<BlockId>,
}

impl Replica {
    fn times(&self) -> usize {
        self.received.values().sum()
    }
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
    double_per_mille: u32,
    file_bytes: u32,
    batch: usize,
    /// Breaks the link on which this replica gets so many more frames of blocks.
    break_at: Option<(usize, u64)>,
    /// What broke stays so.
    stay_apart: bool,
}

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
            received: BTreeMap::new(),
            pending: BTreeSet::new(),
            told: BTreeMap::new(),
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
            double_per_mille: 50,
            file_bytes: 1_000,
            batch: BATCH,
            break_at: None,
            stay_apart: false,
        }
    }

    fn chance(&mut self, bound: u32) -> u32 {
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
        digest[..8].copy_from_slice(&self.rng.next_u64().to_be_bytes());
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
        let later = now + Duration::from_millis(u64::from(self.chance(2_000)));
        if !self.stay_apart {
            self.at(later, Event::Up { a, b });
        }
        self.drain(a);
        self.drain(b);
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        let delay = Duration::from_millis(u64::from(self.chance(300)));
        let key = (from.min(to), from.max(to));
        let Some((link, last)) = self.links.get(&key).copied() else { return };
        // A stream keeps its order.
        let arrival = (self.now + delay).max(last);
        self.links.insert(key, (link, arrival));
        if self.chance(1_000) < self.double_per_mille {
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
                Output::Serve { peer, round, have, credit } => {
                    let missing = self.above(at, &have, None);
                    self.stream(at, index_of(&peer), round, missing, credit);
                }
                Output::Compare { peer, round } => {
                    let body = block_on(first(&mut self.set(at))).unwrap().into();
                    let compared = Some(Compared { next: Some(body), ..Compared::default() });
                    let now = self.now;
                    self.replicas[at].machine.handle_compared(&peer, round, compared, now);
                }
                Output::Recheck { peer, ids } => {
                    let unknown = self.unknown(at, &ids);
                    let now = self.now;
                    self.replicas[at].machine.handle_unknown(&peer, unknown, now);
                }
            }
        }
    }

    fn key(&self, id: &BlockId) -> CanonicalKey {
        CanonicalKey { generation: self.graph[id].1, id: *id }
    }

    fn set(&self, at: usize) -> Plain {
        let keys: BTreeSet<_> = self.replicas[at].blocks.iter().map(|id| self.key(id)).collect();
        Plain(keys.into_iter().collect())
    }

    fn by_short(&self, at: usize, short: &ShortId) -> Option<BlockId> {
        self.replicas[at].blocks.iter().find(|id| ShortId::of(id) == *short).copied()
    }

    fn below(&self, at: usize, ids: &[BlockId]) -> BTreeSet<BlockId> {
        let mut below = BTreeSet::new();
        let mut open: Vec<_> = ids.to_vec();
        while let Some(id) = open.pop() {
            if self.replicas[at].blocks.contains(&id) && below.insert(id) {
                open.extend(self.graph[&id].0.clone());
            }
        }
        below
    }

    /// What is above `have` and not above `target`, by brute force.
    fn above(&self, at: usize, have: &[BlockId], target: Option<&[BlockId]>) -> Vec<BlockId> {
        let here = target.map_or_else(|| self.replicas[at].blocks.clone(), |target| self.below(at, target));
        let mut missing: Vec<_> = here.difference(&self.below(at, have)).copied().collect();
        missing.sort_by_key(|id| self.key(id));
        missing
    }

    fn want(&mut self, at: usize, to: usize, want: &Want) {
        let have: Option<Vec<_>> = want.have.iter().map(|short| self.by_short(at, short)).collect();
        let known = want.target.iter().all(|id| self.replicas[at].blocks.contains(id));
        let Some(have) = have.filter(|_| known) else {
            return self.send(at, to, Message::Diverged { round: want.round });
        };
        let mut have = have;
        have.extend(self.replicas[at].told.get(&to).into_iter().flatten());
        let target = (!want.target.is_empty()).then_some(want.target.as_slice());
        let mut missing = self.above(at, &have, target);
        if let Some(span) = want.span {
            missing.retain(|id| (self.graph[id].1, *id) > span.after && self.graph[id].1 < span.until);
        }
        self.stream(at, to, want.round, missing, want.credit);
    }

    fn stream(&mut self, at: usize, to: usize, round: u32, missing: Vec<BlockId>, credit: u32) {
        let serving = Serving { round, queue: missing.into(), credit: u64::from(credit), active: true };
        self.replicas[at].serving.insert(to, serving);
        self.produce(at, to);
    }

    fn produce(&mut self, at: usize, to: usize) {
        if self.replicas[at].mute {
            return;
        }
        let (file_bytes, batch) = (self.file_bytes, self.batch);
        while let Some(serving) = self.replicas[at].serving.get_mut(&to).filter(|s| s.active && s.credit > 0) {
            let take = serving.queue.len().min(batch);
            let ids: Vec<_> = serving.queue.drain(..take).collect();
            serving.credit = serving.credit.saturating_sub(u64::from(file_bytes) * ids.len() as u64);
            let last = serving.queue.is_empty();
            serving.active = !last;
            let round = serving.round;
            // The id stands for the file.
            let files = ids.iter().map(|id| bytes::Bytes::copy_from_slice(id.digest())).collect();
            self.send(at, to, Message::Blocks { round, last, files });
        }
    }

    fn walk(&self, at: usize, from: &[ShortId], limit: u32) -> (Vec<ShortId>, Vec<ShortId>) {
        let start = if from.is_empty() {
            self.view(at).heads
        } else {
            from.iter().filter_map(|s| self.by_short(at, s)).collect()
        };
        let mut seen: BTreeSet<_> = start.iter().copied().collect();
        let mut queue: VecDeque<_> = start.iter().copied().collect();
        let (mut passed, mut started) = (Vec::new(), 0);
        while started < start.len() || passed.len() + queue.len() < limit as usize {
            let Some(id) = queue.pop_front() else { break };
            if started < start.len() {
                started += 1
            } else {
                passed.push(ShortId::of(&id))
            }
            queue.extend(self.graph[&id].0.iter().filter(|parent| seen.insert(**parent)));
        }
        (passed, queue.iter().map(ShortId::of).collect())
    }

    fn receive(&mut self, from: usize, to: usize, message: Message) {
        let (now, sender) = (self.now, peer(from));
        match message {
            Message::Hello(hello) => {
                let unknown = self.unknown(to, &hello.heads);
                self.replicas[to].told.insert(from, hello.heads.clone());
                self.replicas[to].machine.handle_hello(&sender, hello, unknown, now);
            }
            Message::Diverged { round } => self.replicas[to].machine.handle_diverged(&sender, round, now),
            Message::Level { digest, .. } => self.replicas[to].machine.handle_same(&sender, digest, now),
            Message::Walk { round, from: ids, limit } if !self.replicas[to].mute => {
                let (passed, frontier) = self.walk(to, &ids, limit);
                self.send(to, from, Message::Ids { round, passed, frontier });
            }
            Message::Ids { round, passed, frontier } => {
                let all = passed.iter().chain(&frontier);
                let known: Vec<_> = all.filter_map(|short| self.by_short(to, short)).collect();
                let inner: BTreeSet<_> = known.iter().flat_map(|id| self.graph[id].0.clone()).collect();
                let have = known.iter().filter(|id| !inner.contains(id)).map(ShortId::of).collect();
                let next = frontier.iter().filter(|short| self.by_short(to, short).is_none()).copied().collect();
                self.replicas[to].machine.handle_ids(&sender, round, have, next, now);
            }
            Message::Want(want) => self.want(to, from, &want),
            Message::RangeAsk { round, body } if !self.replicas[to].mute => {
                let body = block_on(respond(&mut self.set(to), &body)).unwrap().unwrap().into();
                self.send(to, from, Message::Ranges { round, body });
            }
            Message::Ranges { round, body } => {
                let concluded = block_on(conclude(&mut self.set(to), &body)).unwrap();
                let compared = concluded.map(|done| Compared {
                    need: done.need,
                    next: done.next.map(Bytes::from),
                    bytes: body.len() as u64,
                });
                self.replicas[to].machine.handle_compared(&sender, round, compared, now);
            }
            Message::ListAsk { round, after } if !self.replicas[to].mute => {
                let keys = self.set(to).0.into_iter().filter(|key| (key.generation, key.id) > after).take(40);
                let keys: Vec<_> = keys.collect();
                let generation = keys.last().map_or(0, |key| key.generation);
                let ids = keys.into_iter().map(|key| key.id).collect();
                self.send(to, from, Message::List { round, ids, generation });
            }
            Message::List { round, ids, generation } => {
                let (unknown, next) = (self.unknown(to, &ids), ids.last().map(|id| (generation, *id)));
                self.replicas[to].machine.handle_list(&sender, round, unknown, next, now);
            }
            Message::Fetch { round, ids, credit } => {
                let mut ids: Vec<_> = ids.into_iter().filter(|id| self.replicas[to].blocks.contains(id)).collect();
                ids.sort_by_key(|id| self.key(id));
                self.stream(to, from, round, ids, credit);
            }
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

    fn take_in(&mut self, from: usize, to: usize, round: u32, last: bool, files: &[Bytes]) {
        let sender = peer(from);
        let mut admitted = Vec::new();
        let mut held = 0;
        let mut reached = None;
        for file in files {
            let id = BlockId::from_digest(file[..].try_into().unwrap());
            reached = reached.max(Some(self.key(&id)));
            let replica = &mut self.replicas[to];
            *replica.received.entry(id).or_default() += 1;
            if !replica.blocks.contains(&id) {
                replica.pending.insert(id);
                held += 1;
            }
        }
        // Parents first, whatever was waiting for them.
        let waiting: BTreeSet<_> = self.replicas[to].pending.iter().map(|id| self.key(id)).collect();
        for CanonicalKey { id, .. } in waiting {
            let replica = &mut self.replicas[to];
            if self.graph[&id].0.iter().all(|parent| replica.blocks.contains(parent)) {
                replica.pending.remove(&id);
                replica.blocks.insert(id);
                admitted.push(id);
            }
        }
        let (view, now) = (self.view(to), self.now);
        if !admitted.is_empty() {
            self.replicas[to].machine.handle_local(view, &admitted, Some(&sender), now);
        }
        let unknown = self.replicas[to].machine.unknown_of(&sender);
        let unknown = if last { self.unknown(to, &unknown) } else { Vec::new() };
        let bytes = self.file_bytes * u32::try_from(files.len()).unwrap();
        let received = Received { round, last, bytes, admitted: admitted.len(), held, reached, unknown };
        self.replicas[to].machine.handle_blocks(&sender, &received, now, &mut self.rng);
    }

    /// Runs until nothing happens any more; false if that takes longer than `limit`.
    fn run(&mut self, limit: Duration) -> bool {
        for step in 0.. {
            if self.run_steps(1) {
                break;
            }
            assert!(step < 1_000_000, "no end of talking after {:?}", self.now - self.start);
            if self.now > self.start + limit {
                return false;
            }
        }
        true
    }

    /// Lets so many things happen; true if nothing is left to happen.
    fn run_steps(&mut self, steps: usize) -> bool {
        for _ in 0..steps {
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
        }
        false
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
                let breaks = self.is_breaking(to, &message) || trouble && self.chance(1_000) < self.break_per_mille;
                if breaks {
                    self.break_link(from, to);
                } else {
                    self.receive(from, to, message);
                }
            }
        }
    }

    fn is_breaking(&mut self, to: usize, message: &Message) -> bool {
        let Some((at, left)) = self.break_at.filter(|(at, _)| *at == to) else { return false };
        if !matches!(message, Message::Blocks { .. }) {
            return false;
        }
        self.break_at = (left > 1).then_some((at, left - 1));
        left == 1
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
