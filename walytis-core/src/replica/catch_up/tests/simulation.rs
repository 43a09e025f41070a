//! The network, the clock, and what one replica knows.

use std::collections::BTreeSet;

use futures::executor::block_on;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

use super::*;
use crate::reconcile::first;

/// What a replica serves a peer, and how much it may send.
#[derive(Default)]
pub(super) struct Serving {
    pub(super) round: u32,
    pub(super) queue: VecDeque<BlockId>,
    pub(super) credit: u64,
    pub(super) active: bool,
}

pub(super) struct Replica {
    pub(super) machine: CatchUp,
    pub(super) blocks: BTreeSet<BlockId>,
    pub(super) serving: BTreeMap<usize, Serving>,
    /// Never serves anything.
    pub(super) mute: bool,
    /// How often each block came.
    pub(super) received: BTreeMap<BlockId, usize>,
    /// The heads that others told.
    pub(super) told: BTreeMap<usize, Vec<BlockId>>,
    /// Came before its parents.
    pub(super) pending: BTreeSet<BlockId>,
}

impl Replica {
    pub(super) fn times(&self) -> usize {
        self.received.values().sum()
    }
}

pub(super) enum Event {
    Message { from: usize, to: usize, link: u32, message: Message },
    Up { a: usize, b: usize },
    Add { at: usize },
}

pub(super) struct Simulation {
    pub(super) rng: ChaCha20Rng,
    pub(super) start: Instant,
    pub(super) now: Instant,
    pub(super) events: BTreeMap<(Instant, u64), Event>,
    pub(super) sequence: u64,
    pub(super) replicas: Vec<Replica>,
    /// Parents and generation of every block there is.
    pub(super) graph: BTreeMap<BlockId, (Vec<BlockId>, u64)>,
    /// Numbers connections, so that what was under way on a broken one is lost; and when the last message arrives.
    pub(super) links: BTreeMap<(usize, usize), (u32, Instant)>,
    pub(super) break_per_mille: u32,
    pub(super) double_per_mille: u32,
    pub(super) file_bytes: u32,
    pub(super) batch: usize,
    /// Breaks the link on which this replica gets so many more frames of blocks.
    pub(super) break_at: Option<(usize, u64)>,
    /// What broke stays so.
    pub(super) stay_apart: bool,
}

pub(super) const BATCH: usize = 16;

impl Simulation {
    pub(super) fn new(seed: u64, replicas: usize, break_per_mille: u32) -> Self {
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

    pub(super) fn chance(&mut self, bound: u32) -> u32 {
        self.rng.next_u32() % bound
    }

    pub(super) fn at(&mut self, time: Instant, event: Event) {
        self.sequence += 1;
        self.events.insert((time, self.sequence), event);
    }

    pub(super) fn view(&self, at: usize) -> View {
        let blocks = &self.replicas[at].blocks;
        let parents: BTreeSet<_> = blocks.iter().flat_map(|id| self.graph[id].0.clone()).collect();
        let heads: Vec<_> = blocks.iter().filter(|id| !parents.contains(id)).copied().collect();
        let generation = blocks.iter().map(|id| self.graph[id].1).max().unwrap_or(0);
        View { count: blocks.len() as u64, generation, heads }
    }

    pub(super) fn add(&mut self, at: usize) {
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

    pub(super) fn connect(&mut self, a: usize, b: usize) {
        self.links.entry((a.min(b), a.max(b))).or_insert((0, self.start));
        for (one, other) in [(a, b), (b, a)] {
            self.replicas[one].serving.remove(&other);
            self.replicas[one].machine.handle_up(peer(other), self.now);
        }
        self.drain(a);
        self.drain(b);
    }

    pub(super) fn break_link(&mut self, a: usize, b: usize) {
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

    pub(super) fn send(&mut self, from: usize, to: usize, message: Message) {
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

    pub(super) fn unknown(&self, at: usize, ids: &[BlockId]) -> Vec<BlockId> {
        ids.iter().filter(|id| !self.replicas[at].blocks.contains(id)).copied().collect()
    }

    pub(super) fn drain(&mut self, at: usize) {
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

    /// Runs until nothing happens any more; false if that takes longer than `limit`.
    pub(super) fn run(&mut self, limit: Duration) -> bool {
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
    pub(super) fn run_steps(&mut self, steps: usize) -> bool {
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

    pub(super) fn handle(&mut self, event: Event) {
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

    pub(super) fn is_breaking(&mut self, to: usize, message: &Message) -> bool {
        let Some((at, left)) = self.break_at.filter(|(at, _)| *at == to) else { return false };
        if !matches!(message, Message::Blocks { .. }) {
            return false;
        }
        self.break_at = (left > 1).then_some((at, left - 1));
        left == 1
    }

    pub(super) fn assert_converged(&self, seed: u64) {
        let all = &self.replicas[0].blocks;
        for (index, replica) in self.replicas.iter().enumerate() {
            let (here, there) = (replica.blocks.len(), self.graph.len());
            assert_eq!(here, there, "replica {index}; rerun with WALYTIS_SEED={seed}");
            assert!(replica.blocks == *all, "replica {index}; rerun with WALYTIS_SEED={seed}");
        }
    }
}
