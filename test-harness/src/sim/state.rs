//! Who is where and how links stand: the part of the hub behind its lock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use walytis_core::id::PeerId;
use walytis_core::net::{
    GossipMessage, GossipMessageId, GossipTopic, IncomingStream, NetworkError, NetworkEvent, Protocol,
};

use super::agenda::{Agenda, Event};
use super::conditions::LinkConditions;
use super::dice::Dice;
use super::pipe::Way;
use super::trace::Trace;

/// Message ids that a node remembers so as not to relay twice.
const SEEN_MAX: usize = 4_096;
/// First wait before a lost peer is dialled again.
const REDIAL_FIRST: Duration = Duration::from_millis(500);
/// Doublings of that wait.
const REDIAL_DOUBLINGS: u32 = 6;
/// Within which time of its opening an unlucky stream is reset.
const RESET_WITHIN: Duration = Duration::from_secs(60);
pub(super) const WRONG_PEER: &str = "another peer answered";

/// Two peers by number, the smaller first.
type Pair = (u64, u64);

#[derive(Debug)]
pub(super) struct Link {
    pub(super) dialler: u64,
    /// Resets the link's streams.
    pub(super) token: CancellationToken,
}

#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) acceptors: BTreeMap<Protocol, mpsc::Sender<IncomingStream>>,
    pub(super) topics: BTreeMap<GossipTopic, Vec<mpsc::Sender<GossipMessage>>>,
    pub(super) events: Vec<mpsc::Sender<NetworkEvent>>,
    pub(super) banned: BTreeMap<PeerId, Instant>,
    seen: BTreeSet<Vec<u8>>,
    seen_order: VecDeque<Vec<u8>>,
    /// Messages that wait for their verdict; bounded by `seen`.
    pub(super) held: BTreeSet<Vec<u8>>,
}

impl Node {
    /// Remembers a message id; false if it was known.
    pub(super) fn see(&mut self, id: &GossipMessageId) -> bool {
        if !self.seen.insert(id.0.clone()) {
            return false;
        }
        self.seen_order.push_back(id.0.clone());
        if self.seen_order.len() > SEEN_MAX
            && let Some(oldest) = self.seen_order.pop_front()
        {
            self.seen.remove(&oldest);
            self.held.remove(&oldest);
        }
        true
    }

    fn refuses(&self, peer: &PeerId) -> bool {
        self.banned.get(peer).is_some_and(|until| Instant::now() < *until)
    }
}

#[derive(Debug)]
pub(super) struct State {
    seed: u64,
    pub(super) trace: Trace,
    pub(super) agenda: Agenda,
    pub(super) nodes: BTreeMap<PeerId, Node>,
    /// Numbers are never given to another peer, so that a restarted node is found again.
    pub(super) numbers: BTreeMap<PeerId, u64>,
    pub(super) links: BTreeMap<Pair, Link>,
    /// Pairs that were connected once: the address books.
    pub(super) remembered: BTreeSet<Pair>,
    pub(super) cut: BTreeSet<Pair>,
    pub(super) everywhere: LinkConditions,
    pub(super) conditions: BTreeMap<Pair, LinkConditions>,
    dice: BTreeMap<Way, Dice>,
    messages: u64,
    /// Bytes that travelled.
    pub(super) carried: u64,
    pub(super) streams: u64,
    /// Bytes of each direction of each stream, if they are kept, and of each gossip message.
    pub(super) tap: Option<BTreeMap<u64, Vec<u8>>>,
    pub(super) rejected: BTreeMap<PeerId, u64>,
}

impl State {
    pub(super) fn new(seed: u64, everywhere: LinkConditions) -> Self {
        Self {
            seed,
            trace: Trace::new(Instant::now()),
            agenda: Agenda::default(),
            nodes: BTreeMap::new(),
            numbers: BTreeMap::new(),
            links: BTreeMap::new(),
            remembered: BTreeSet::new(),
            cut: BTreeSet::new(),
            everywhere,
            conditions: BTreeMap::new(),
            dice: BTreeMap::new(),
            messages: 0,
            carried: 0,
            streams: 0,
            tap: None,
            rejected: BTreeMap::new(),
        }
    }

    pub(super) fn number(&self, peer: &PeerId) -> u64 {
        self.numbers.get(peer).copied().unwrap_or(0)
    }

    pub(super) fn way(&self, from: &PeerId, to: &PeerId) -> Way {
        Way { from: self.number(from), to: self.number(to) }
    }

    pub(super) fn peer(&self, number: u64) -> Option<PeerId> {
        self.numbers.iter().find(|(_, known)| **known == number).map(|(peer, _)| peer.clone())
    }

    pub(super) fn conditions(&self, way: Way) -> LinkConditions {
        self.conditions.get(&pair(way)).copied().unwrap_or(self.everywhere)
    }

    pub(super) fn dice(&mut self, way: Way) -> &mut Dice {
        let seed = self.seed;
        self.dice.entry(way).or_insert_with(|| Dice::new(seed, &format!("{} to {}", way.from, way.to)))
    }

    /// Returns how long something takes from end to end.
    pub(super) fn delay(&mut self, way: Way) -> Duration {
        let conditions = self.conditions(way);
        conditions.latency + self.dice(way).within(conditions.jitter)
    }

    pub(super) fn check_up(&self, peer: &PeerId) -> Result<(), NetworkError> {
        if self.nodes.contains_key(peer) { Ok(()) } else { Err(NetworkError::Down) }
    }

    pub(super) fn is_linked(&self, a: &PeerId, b: &PeerId) -> bool {
        self.links.contains_key(&pair(self.way(a, b)))
    }

    /// Returns connected peers, ordered by id.
    pub(super) fn neighbours(&self, peer: &PeerId) -> Vec<PeerId> {
        let number = self.number(peer);
        let other = |(a, b): &Pair| match number {
            number if number == *a => Some(*b),
            number if number == *b => Some(*a),
            _ => None,
        };
        let mut found: Vec<_> = self.links.keys().filter_map(other).filter_map(|number| self.peer(number)).collect();
        found.sort_unstable();
        found
    }

    /// Connects two peers if they can reach each other and want to.
    pub(super) fn dial(
        &mut self,
        from: &PeerId,
        to: &PeerId,
        expected: Option<&PeerId>,
    ) -> Result<PeerId, &'static str> {
        let way = self.way(from, to);
        if from == to {
            return Err("this is the own address");
        }
        if self.cut.contains(&pair(way)) {
            return Err("the link is cut");
        }
        let (Some(near), Some(far)) = (self.nodes.get(from), self.nodes.get(to)) else {
            return Err("nobody answers");
        };
        if near.refuses(to) || far.refuses(from) {
            return Err("the connection was refused");
        }
        if expected.is_some_and(|expected| expected != to) {
            return Err(WRONG_PEER);
        }
        let conditions = self.conditions(way);
        if self.links.contains_key(&pair(way)) {
            return Ok(to.clone());
        }
        if self.dice(way).hits(conditions.dial_failure) {
            return Err("the dial failed");
        }
        self.trace.note("link", way.from, way.to, &[]);
        self.links.insert(pair(way), Link { dialler: way.from, token: CancellationToken::new() });
        self.remembered.insert(pair(way));
        self.tell_both(from, to, NetworkEvent::PeerUp);
        Ok(to.clone())
    }

    /// Ends the link of two peers; they dial each other again.
    pub(super) fn unlink(&mut self, a: &PeerId, b: &PeerId) {
        let way = self.way(a, b);
        if let Some(link) = self.links.remove(&pair(way)) {
            self.trace.note("unlink", way.from, way.to, &[]);
            link.token.cancel();
            self.tell_both(a, b, NetworkEvent::PeerDown);
            self.redial(a, b, 0);
        }
    }

    /// Notes that two peers are to be connected again.
    pub(super) fn redial(&mut self, from: &PeerId, to: &PeerId, failures: u32) {
        let way = self.way(from, to);
        let wait = REDIAL_FIRST.saturating_mul(1 << failures.min(REDIAL_DOUBLINGS));
        let wait = wait + self.dice(way).within(wait) + self.delay(way);
        let event = Event::Redial { from: from.clone(), to: to.clone(), failures };
        self.agenda.note(Instant::now() + wait, event);
    }

    /// Dials everybody whom a peer remembers.
    pub(super) fn redial_all(&mut self, peer: &PeerId) {
        let number = self.number(peer);
        let others: Vec<_> = self
            .remembered
            .iter()
            .filter(|(a, b)| *a == number || *b == number)
            .filter(|pair| !self.links.contains_key(*pair))
            .filter_map(|(a, b)| self.peer(if *a == number { *b } else { *a }))
            .collect();
        others.iter().for_each(|other| self.redial(peer, other, 0));
    }

    fn tell_both(&mut self, a: &PeerId, b: &PeerId, event: fn(PeerId) -> NetworkEvent) {
        for (to, about) in [(a, b), (b, a)] {
            if let Some(node) = self.nodes.get_mut(to) {
                node.events.retain(|tx| tx.try_send(event(about.clone())).is_ok());
            }
        }
    }

    /// Decides the fate of a new stream; returns what resets it.
    pub(super) fn stream_token(&mut self, way: Way) -> Option<CancellationToken> {
        let token = self.links.get(&pair(way))?.token.child_token();
        let conditions = self.conditions(way);
        let dice = self.dice(way);
        let (unlucky, wait) = (dice.hits(conditions.stream_reset), dice.within(RESET_WITHIN));
        if unlucky {
            self.agenda.note(Instant::now() + wait, Event::Reset { token: token.clone() });
        }
        Some(token)
    }

    /// Sends a message to every neighbour, each with its own fate.
    pub(super) fn flood(&mut self, from: &PeerId, except: Option<&PeerId>, message: &GossipMessage) {
        for to in self.neighbours(from) {
            if Some(&to) == except {
                continue;
            }
            let way = self.way(from, &to);
            let conditions = self.conditions(way);
            let dice = self.dice(way);
            let (lost, doubled) = (dice.hits(conditions.gossip_loss), dice.hits(conditions.gossip_duplication));
            let late = dice.hits(conditions.gossip_reordering);
            let extra = dice.within(conditions.stall);
            if lost {
                self.trace.note("lost", way.from, way.to, &message.data);
                continue;
            }
            self.carried += message.data.len() as u64;
            let wait = self.delay(way) + if late { extra } else { Duration::ZERO };
            let at = Instant::now() + wait;
            self.agenda.note(at, Event::Gossip { to: to.clone(), message: message.clone() });
            if doubled {
                let again = GossipMessage { id: self.message_id(), ..message.clone() };
                let at = at + self.delay(way);
                self.agenda.note(at, Event::Gossip { to, message: again });
            }
        }
    }

    pub(super) fn message_id(&mut self) -> GossipMessageId {
        self.messages += 1;
        GossipMessageId(self.messages.to_be_bytes().to_vec())
    }

    /// Lets an event happen.
    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Gossip { to, message } => self.deliver(&to, &message),
            Event::Redial { from, to, failures } => {
                let way = self.way(&from, &to);
                if self.links.contains_key(&pair(way)) || self.cut.contains(&pair(way)) {
                    return;
                }
                if !self.nodes.contains_key(&from) || !self.nodes.contains_key(&to) {
                    // Whoever comes back dials.
                    return;
                }
                if self.dial(&from, &to, None).is_err() {
                    self.redial(&from, &to, failures.saturating_add(1));
                }
            }
            Event::Reset { token } => {
                self.trace.note("reset", 0, 0, &[]);
                token.cancel();
            }
        }
    }

    fn deliver(&mut self, to: &PeerId, message: &GossipMessage) {
        let way = self.way(&message.from, to);
        // A message under way is lost with its link.
        if !self.links.contains_key(&pair(way)) {
            return;
        }
        let Some(node) = self.nodes.get_mut(to) else { return };
        if !node.topics.contains_key(&message.topic) || !node.see(&message.id) {
            return;
        }
        let subscribers = node.topics.entry(message.topic).or_default();
        let mut taken = false;
        subscribers.retain(|tx| match tx.try_send(message.clone()) {
            Ok(()) => {
                taken = true;
                true
            }
            Err(error) => matches!(error, mpsc::error::TrySendError::Full(_)),
        });
        if subscribers.is_empty() {
            node.topics.remove(&message.topic);
        }
        if taken {
            node.held.insert(message.id.0.clone());
            self.trace.note("gossip", way.from, way.to, &message.data);
        }
    }
}

/// Returns both ends of a way, the smaller first.
pub(super) fn pair(way: Way) -> Pair {
    (way.from.min(way.to), way.from.max(way.to))
}
