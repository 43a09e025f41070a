//! Joins the networks of simulated nodes and lets things happen when they are due.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use walytis_core::id::PeerId;
use walytis_core::secret::Secret;

use super::conditions::LinkConditions;
use super::network::SimNetwork;
use super::pipe::Way;
use super::state::{Node, State, pair};
use super::trace::TraceHash;

/// Joins [`SimNetwork`]s; cheap to clone.
#[derive(Clone)]
pub struct SimHub(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Something was put on the agenda.
    noted: Notify,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for SimHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimHub({} nodes)", self.lock().nodes.len())
    }
}

impl SimHub {
    /// Returns a hub whose every choice follows from `seed`. Must be called within a runtime, whose time is paused.
    pub fn new(seed: u64, conditions: LinkConditions) -> Self {
        let hub = Self(Arc::new(Shared {
            state: Mutex::new(State::new(seed, conditions)),
            noted: Notify::new(),
            stop: CancellationToken::new(),
            task: Mutex::new(None),
        }));
        let task = tokio::spawn(hub.clone().run());
        *hub.0.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        hub
    }

    /// Lets everything happen at its time, until [`Self::shutdown`].
    async fn run(self) {
        loop {
            let next = self.lock().agenda.next_at();
            let due = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.0.stop.cancelled() => return,
                () = self.0.noted.notified() => {}
                () = due => self.happen(),
            }
        }
    }

    fn happen(&self) {
        let now = Instant::now();
        let mut state = self.lock();
        while let Some(event) = state.agenda.take_due(now) {
            state.happen(event);
        }
    }

    /// Ends the hub; returns when nothing of it is left.
    pub async fn shutdown(&self) {
        self.0.stop.cancel();
        let task = self.0.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // A panic in it was reported by the runtime.
            let _ended = task.await;
        }
    }

    /// Brings up the node whose Ed25519 key has this seed. The same seed gives the same peer id and address, also
    /// after a shutdown; peers that were connected dial each other again.
    pub fn join(&self, node_key: &Secret<32>) -> SimNetwork {
        let network = SimNetwork::new(self.clone(), node_key);
        let peer = network.peer().clone();
        let mut state = self.lock();
        let next = state.numbers.len() as u64 + 1;
        let number = *state.numbers.entry(peer.clone()).or_insert(next);
        state.trace.note("join", number, number, peer.as_bytes());
        state.nodes.insert(peer.clone(), Node::default());
        state.redial_all(&peer);
        drop(state);
        self.noted();
        network
    }

    /// Sets the conditions of every link that has none of its own.
    pub fn set_conditions(&self, conditions: LinkConditions) {
        self.lock().everywhere = conditions;
    }

    /// Sets the conditions of one link.
    pub fn set_link(&self, a: &PeerId, b: &PeerId, conditions: LinkConditions) {
        let mut state = self.lock();
        let way = state.way(a, b);
        state.conditions.insert(pair(way), conditions);
    }

    /// Cuts the link between two peers, streams included; they cannot connect until [`Self::heal`].
    pub fn cut(&self, a: &PeerId, b: &PeerId) {
        let mut state = self.lock();
        let way = state.way(a, b);
        state.cut.insert(pair(way));
        state.unlink(a, b);
    }

    /// Heals a cut link; peers that were connected before dial each other again.
    pub fn heal(&self, a: &PeerId, b: &PeerId) {
        let mut state = self.lock();
        let way = state.way(a, b);
        if state.cut.remove(&pair(way)) && state.remembered.contains(&pair(way)) {
            state.redial(a, b, 0);
        }
        drop(state);
        self.noted();
    }

    /// Cuts every link between the two groups.
    pub fn partition(&self, left: &[PeerId], right: &[PeerId]) {
        left.iter().for_each(|a| right.iter().for_each(|b| self.cut(a, b)));
    }

    /// Heals every cut link.
    pub fn heal_all(&self) {
        self.cuts().iter().for_each(|(a, b)| self.heal(a, b));
    }

    /// Ends the connection of two peers without keeping them apart.
    pub fn disturb(&self, a: &PeerId, b: &PeerId) {
        self.lock().unlink(a, b);
        self.noted();
    }

    /// Returns how many gossip messages a peer's subscribers rejected.
    pub fn rejected(&self, peer: &PeerId) -> u64 {
        self.lock().rejected.get(peer).copied().unwrap_or(0)
    }

    /// Says whether `by` has banned `peer` at this time.
    pub fn is_banned(&self, by: &PeerId, peer: &PeerId) -> bool {
        let state = self.lock();
        let until = state.nodes.get(by).and_then(|node| node.banned.get(peer)).copied();
        until.is_some_and(|until| Instant::now() < until)
    }

    /// Keeps every byte that travels from now on, for [`Self::tapped`].
    pub fn tap(&self) {
        self.lock().tap.get_or_insert_default();
    }

    /// Returns what travelled since [`Self::tap`]: one piece for each direction of each stream, one for each message.
    pub fn tapped(&self) -> Vec<Vec<u8>> {
        self.lock().tap.as_ref().map(|tap| tap.values().cloned().collect()).unwrap_or_default()
    }

    /// Returns the hash of everything that happened so far.
    pub fn trace(&self) -> TraceHash {
        self.lock().trace.hash()
    }

    /// Returns how many bytes travelled: on streams, and of gossip once for each link that it took.
    pub fn carried(&self) -> u64 {
        self.lock().carried
    }

    /// Returns the links that are cut.
    pub fn cuts(&self) -> Vec<(PeerId, PeerId)> {
        let state = self.lock();
        state.cut.iter().filter_map(|(a, b)| state.peer(*a).zip(state.peer(*b))).collect()
    }

    /// Returns how many events went into the trace.
    pub fn events(&self) -> u64 {
        self.lock().trace.events()
    }

    /// Notes something of a scenario's own in the trace.
    pub fn note(&self, what: &str, bytes: &[u8]) {
        self.lock().trace.note(what, 0, 0, bytes);
    }

    /// Draws the fate of a chunk on a stream: how long it takes.
    pub(super) fn chunk_delay(&self, way: Way, stream: u64, chunk: &[u8]) -> Duration {
        let mut state = self.lock();
        state.trace.note("bytes", way.from, way.to, chunk);
        state.carried += chunk.len() as u64;
        if let Some(tap) = &mut state.tap {
            tap.entry(stream).or_default().extend_from_slice(chunk);
        }
        let conditions = state.conditions(way);
        let dice = state.dice(way);
        let (stalls, stall) = (dice.hits(conditions.stream_stall), dice.within(conditions.stall));
        state.delay(way) + if stalls { stall } else { Duration::ZERO }
    }

    /// Wakes whoever lets things happen.
    pub(super) fn noted(&self) {
        self.0.noted.notify_one();
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves the maps usable; a panic elsewhere must not hide the first error.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
