//! The replicator of a node: which peers have a stream, which chains are attached.
//!
//! Of two connected peers the one with the lower id opens the stream, so that there is one per pair. A stream that
//! ends is opened again with back-off for as long as the peers are connected.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rand_chacha::ChaCha20Rng;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::blobs::BlobInput;
use super::catch_up::backoff;
use super::chain::{ChainInput, ChainTask};
use super::desk::Desk;
use super::line::{SessionId, Traffic};
use super::link;
use crate::chain::{BlobFetcher, ChainCore, FetchState, FetchTicket, WantedBlob};
use crate::clock::Entropy;
use crate::id::{BlobId, ChainId, PeerId};
use crate::net::{IncomingStream, Network, NetworkError, NetworkEvent, Protocol};
use crate::node::Replication;

/// Protocol of the one stream of each pair of peers.
pub const CATCH_UP: Protocol = "/walytis/catchup/1";
/// Messages that wait for a chain's task; then the link waits. Chosen: each may be a frame of 1 MiB.
const CHAIN_QUEUE: usize = 16;
/// Messages that wait for a chain's blob fetches; then the link waits. Chosen: each may be a leaf of 1 MiB.
const BLOB_QUEUE: usize = 16;
/// Exchanges before a session that run at the same time. Chosen: bounds what one change of rights sets off.
const PREPARING_MAX: usize = 8;
/// Differences, and lists of leaves that are not stored, computed at once. Chosen: they use the processor and the disk alone.
const HEAVY_MAX: usize = 2;
/// Leaves of blobs that are asked for or being stored at once, all chains and peers together. Chosen: bounds their memory to
/// 32 MiB, and is far more than a fast link holds.
const LEAVES_MAX: usize = 32;
/// How long a replicator waits before it asks an unresponsive network for events again.
const EVENTS_AGAIN: Duration = Duration::from_secs(1);

/// How one peer stands in one chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainPeer {
    /// The peer.
    pub peer: PeerId,
    /// It shows the same heads as this replica.
    pub in_sync: bool,
    /// It showed blocks that are not here yet.
    pub ahead: bool,
}

/// How the replication of one chain stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncStatus {
    /// Peers with an open session for this chain, by id.
    pub peers: Vec<ChainPeer>,
    /// Blobs being fetched.
    pub blobs: usize,
    /// Bytes received for this chain since it was attached.
    pub bytes_received: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
}

/// Replicates the chains of one node; cheap to clone.
#[derive(Clone)]
pub struct Replicator {
    shared: Arc<Shared>,
    task: Arc<tokio::sync::Mutex<Option<JoinHandle<()>>>>,
}

impl fmt::Debug for Replicator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Replicator({} chains)", self.shared.chains().len())
    }
}

impl Replicator {
    /// Starts to accept and open streams. Must be called within a runtime.
    ///
    /// # Errors
    /// [`NetworkError`] if the protocol is taken already or the network is down.
    pub fn start(network: Arc<dyn Network>, entropy: Arc<dyn Entropy>) -> Result<Self, NetworkError> {
        let incoming = network.accept(CATCH_UP)?;
        let shared = Arc::new(Shared {
            network,
            entropy,
            chains: Mutex::default(),
            changed: watch::Sender::new(0),
            preparing: Semaphore::new(PREPARING_MAX),
            heavy: Arc::new(Semaphore::new(HEAVY_MAX)),
            leaves: Arc::new(Semaphore::new(LEAVES_MAX)),
            sessions: AtomicU64::new(0),
            stop: CancellationToken::new(),
        });
        let supervisor = Supervisor::new(Arc::clone(&shared));
        let task = tokio::spawn(supervisor.run(incoming));
        Ok(Self { shared, task: Arc::new(tokio::sync::Mutex::new(Some(task))) })
    }

    /// Begins to replicate a chain with every peer that may sync it. A chain that is attached already stays so, unless
    /// it was shut down meanwhile: then this one takes its place.
    pub async fn attach(&self, core: ChainCore) {
        let attached = self.shared.entry(&core.id());
        if attached.as_ref().is_some_and(|entry| entry.core.is_closed()) {
            self.detach(&core.id()).await;
        } else if attached.is_some() {
            return;
        }
        if self.shared.stop.is_cancelled() {
            return;
        }
        let (inbox, inputs) = mpsc::channel(CHAIN_QUEUE);
        let (blobs, blob_inputs) = mpsc::channel(BLOB_QUEUE);
        let entry = ChainEntry {
            core: core.clone(),
            inbox,
            blobs: blobs.clone(),
            desk: Arc::default(),
            traffic: Arc::default(),
            status: watch::Sender::default(),
            epoch: Arc::new(AtomicU64::new(0)),
            stop: self.shared.stop.child_token(),
            nudge: Arc::default(),
            task: Arc::default(),
        };
        let nudge = Arc::clone(&entry.nudge);
        let desk = Arc::clone(&entry.desk);
        core.set_fetcher(Some(Arc::new(Fetcher { chain: core.id(), blobs, desk, nudge })));
        let chain = ChainTask::new(Arc::clone(&self.shared), &entry);
        let task = tokio::spawn(chain.run(inputs, blob_inputs));
        *entry.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        self.shared.chains().insert(core.id(), entry);
        self.shared.bump();
    }

    /// Stops replicating a chain; returns when none of its tasks is left.
    pub async fn detach(&self, chain: &ChainId) {
        let Some(entry) = self.shared.chains().remove(chain) else { return };
        self.shared.bump();
        entry.end().await;
    }

    /// Returns how the replication of a chain stands, or nothing if it is not attached.
    pub fn status(&self, chain: &ChainId) -> Option<SyncStatus> {
        let chains = self.shared.chains();
        let entry = chains.get(chain)?;
        let mut status = entry.status.borrow().clone();
        status.bytes_received = entry.traffic.received.load(Ordering::Relaxed);
        status.bytes_sent = entry.traffic.sent.load(Ordering::Relaxed);
        Some(status)
    }

    /// Returns a view of a chain's status that moves when peers come, go, or fall in step; byte counts in it are 0.
    pub fn watch(&self, chain: &ChainId) -> Option<watch::Receiver<SyncStatus>> {
        self.shared.chains().get(chain).map(|entry| entry.status.subscribe())
    }

    /// Returns the way to a chain's task.
    #[cfg(test)]
    pub(super) fn inbox(&self, chain: &ChainId) -> Option<mpsc::Sender<ChainInput>> {
        self.shared.entry(chain).map(|entry| entry.inbox)
    }

    /// Ends every session and task; returns when none is left. Idempotent.
    pub async fn shutdown(&self) {
        self.shared.stop.cancel();
        if let Some(task) = self.task.lock().await.take() {
            // A panic in the task was reported by the runtime; there is nothing left to end.
            let _ended = task.await;
        }
        let entries = std::mem::take(&mut *self.shared.chains());
        for entry in entries.into_values() {
            entry.end().await;
        }
    }
}

#[async_trait]
impl Replication for Replicator {
    async fn attach(&self, chain: ChainCore) {
        Self::attach(self, chain).await;
    }

    async fn detach(&self, chain: &ChainId) {
        Self::detach(self, chain).await;
    }

    fn received(&self, chain: &ChainId) -> u64 {
        self.status(chain).map_or(0, |status| status.bytes_received)
    }

    fn in_session(&self, chain: &ChainId) -> usize {
        self.status(chain).map_or(0, |status| status.peers.len())
    }

    async fn shutdown(&self) {
        Self::shutdown(self).await;
    }
}

/// What every task of a replicator may use.
pub(crate) struct Shared {
    pub(crate) network: Arc<dyn Network>,
    pub(crate) entropy: Arc<dyn Entropy>,
    chains: Mutex<BTreeMap<ChainId, ChainEntry>>,
    /// Moves when a chain is attached or detached, or rights may have changed.
    pub(crate) changed: watch::Sender<u64>,
    pub(crate) preparing: Semaphore,
    /// See [`ServeTask`](super::serve::ServeTask).
    pub(crate) heavy: Arc<Semaphore>,
    /// Given out in turn, so that no chain keeps another waiting for long.
    pub(crate) leaves: Arc<Semaphore>,
    /// Sessions so far.
    sessions: AtomicU64,
    pub(crate) stop: CancellationToken,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl Shared {
    /// Short sections only.
    pub(crate) fn chains(&self) -> MutexGuard<'_, BTreeMap<ChainId, ChainEntry>> {
        self.chains.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn entry(&self, chain: &ChainId) -> Option<ChainEntry> {
        self.chains().get(chain).cloned()
    }

    /// Names a new session.
    pub(crate) fn session(&self) -> SessionId {
        SessionId(self.sessions.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn bump(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// An attached chain.
#[derive(Clone, Debug)]
pub(crate) struct ChainEntry {
    pub(crate) core: ChainCore,
    pub(crate) inbox: mpsc::Sender<ChainInput>,
    pub(crate) blobs: mpsc::Sender<BlobInput>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) status: watch::Sender<SyncStatus>,
    /// Counts changes of rights.
    pub(crate) epoch: Arc<AtomicU64>,
    pub(crate) stop: CancellationToken,
    /// Tells the fetches of blobs that readers have moved.
    pub(crate) nudge: Arc<Notify>,
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl ChainEntry {
    async fn end(self) {
        self.stop.cancel();
        self.core.set_fetcher(None);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // As above: whatever happened in it, it is over.
            let _ended = task.await;
        }
    }
}

/// Lets readers of a chain's content wait for its blobs.
#[derive(Debug)]
struct Fetcher {
    chain: ChainId,
    blobs: mpsc::Sender<BlobInput>,
    desk: Arc<Desk>,
    nudge: Arc<Notify>,
}

#[async_trait]
impl BlobFetcher for Fetcher {
    async fn fetch(
        &self,
        chain: ChainId,
        wanted: WantedBlob,
        need: watch::Receiver<Range<u64>>,
    ) -> Result<FetchTicket, &'static str> {
        if chain != self.chain {
            return Err("it belongs to another chain");
        }
        let (state, view) = watch::channel(FetchState::Running);
        let input = BlobInput::Read { wanted, need, state };
        self.blobs.send(input).await.map_err(|_| "the chain is closed")?;
        Ok(FetchTicket { state: view, nudge: Arc::clone(&self.nudge) })
    }

    async fn fetch_part(
        &self,
        chain: ChainId,
        blob: BlobId,
        index: u32,
        digest: [u8; 32],
        patience: Duration,
    ) -> Result<Bytes, &'static str> {
        if chain != self.chain {
            return Err("it belongs to another chain");
        }
        self.desk.fetch(blob, index, digest, patience).await
    }
}

/// What ended.
struct Ended {
    peer: PeerId,
    id: u64,
    worked: bool,
}

struct Slot {
    id: u64,
    token: CancellationToken,
}

/// Owns the links.
struct Supervisor {
    shared: Arc<Shared>,
    links: BTreeMap<PeerId, Slot>,
    tasks: JoinSet<Ended>,
    /// Peers to open a stream to, and when; with the failures so far.
    due: BTreeMap<PeerId, Instant>,
    failures: BTreeMap<PeerId, u32>,
    up: std::collections::BTreeSet<PeerId>,
    next: u64,
    rng: ChaCha20Rng,
}

impl Supervisor {
    fn new(shared: Arc<Shared>) -> Self {
        let rng = shared.entropy.rng();
        Self {
            shared,
            links: BTreeMap::new(),
            tasks: JoinSet::new(),
            due: BTreeMap::new(),
            failures: BTreeMap::new(),
            up: std::collections::BTreeSet::new(),
            next: 0,
            rng,
        }
    }

    async fn run(mut self, mut incoming: mpsc::Receiver<IncomingStream>) {
        let mut events = self.shared.network.events();
        let mut events_again: Option<Instant> = None;
        let stop = self.shared.stop.clone();
        loop {
            let due = self.due.values().min().copied();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                event = events.recv(), if events_again.is_none() => match event {
                    Some(event) => self.handle_event(event),
                    // It lagged, or the network is down.
                    None => events_again = Some(Instant::now() + EVENTS_AGAIN),
                },
                () = sleep_until(events_again) => {
                    events_again = None;
                    events = self.shared.network.events();
                }
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => self.handle_ended(ended.ok()),
                () = sleep_until(due) => self.open_due(),
                Some(stream) = incoming.recv() => self.handle_incoming(stream),
            }
        }
        self.links.values().for_each(|slot| slot.token.cancel());
        while self.tasks.join_next().await.is_some() {}
    }

    fn handle_event(&mut self, event: NetworkEvent) {
        match event {
            NetworkEvent::PeerUp(peer) => {
                if self.up.insert(peer.clone()) && self.opens_to(&peer) {
                    self.due.insert(peer, Instant::now());
                }
            }
            NetworkEvent::PeerDown(peer) => {
                self.up.remove(&peer);
                self.due.remove(&peer);
                self.failures.remove(&peer);
                // What it still has to end it ends by itself: if the peer is back at once, its new stream need not wait.
                if let Some(slot) = self.links.remove(&peer) {
                    slot.token.cancel();
                }
            }
        }
    }

    fn opens_to(&self, peer: &PeerId) -> bool {
        self.shared.network.local_peer() < *peer
    }

    fn open_due(&mut self) {
        let now = Instant::now();
        let due: Vec<_> = self.due.iter().filter(|(_, at)| **at <= now).map(|(peer, _)| peer.clone()).collect();
        for peer in due {
            self.due.remove(&peer);
            if !self.links.contains_key(&peer) {
                self.spawn(peer, None);
            }
        }
    }

    fn handle_incoming(&mut self, incoming: IncomingStream) {
        let IncomingStream { peer, stream } = incoming;
        if self.opens_to(&peer) {
            debug!(?peer, "a stream was opened from the wrong side");
            return;
        }
        // A new stream means that the other side has lost the old one.
        if let Some(slot) = self.links.remove(&peer) {
            slot.token.cancel();
        }
        self.spawn(peer, Some(stream));
    }

    fn spawn(&mut self, peer: PeerId, stream: Option<Box<dyn crate::net::Stream>>) {
        self.next += 1;
        let (id, token) = (self.next, self.shared.stop.child_token());
        self.links.insert(peer.clone(), Slot { id, token: token.clone() });
        let shared = Arc::clone(&self.shared);
        self.tasks.spawn(async move {
            let worked = Box::pin(link::run(shared, peer.clone(), stream, token)).await;
            Ended { peer, id, worked }
        });
    }

    fn handle_ended(&mut self, ended: Option<Ended>) {
        let Some(Ended { peer, id, worked }) = ended else { return };
        if self.links.get(&peer).is_none_or(|slot| slot.id != id) {
            return;
        }
        self.links.remove(&peer);
        if self.up.contains(&peer) && self.opens_to(&peer) {
            let failures = self.failures.entry(peer.clone()).or_default();
            *failures = if worked { 0 } else { failures.saturating_add(1) };
            self.due.insert(peer, Instant::now() + backoff(*failures, &mut self.rng));
        }
    }
}

/// Sleeps until then, or for ever.
pub(crate) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
