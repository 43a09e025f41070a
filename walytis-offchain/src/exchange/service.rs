//! The driver: streams, links and who listens to what.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use walytis_core::id::PeerId;
use walytis_core::net::{IncomingStream, Network, NetworkError, NetworkEvent, Protocol, Stream};

use super::frame_v1::{Body, Frame, FrameLimits, Has, Message, first_byte, read_frame, read_frame_behind, write_frame};
use super::limits::{Bandwidth, ExchangeConfig, Noes, Patience};
use super::places::Places;
use crate::context::LedgerTag;

/// The protocol's name.
pub const OFFCHAIN: Protocol = "/walytis/offchain/1";
/// Frames that wait for one link; more are dropped, their requests are repeated after a deadline.
const LINK_QUEUE: usize = 512;
/// Places of a link that pushes leave free. Chosen: far more than the requests that one ledger has open at one peer. A
/// push that is dropped is fetched at once, a request that is dropped waits for its deadline.
const LINK_RESERVED: usize = 384;
/// How long a stream may be silent of a peer that is a member of no ledger here. Chosen: a member that this node has not
/// heard of yet opens another one.
const STRANGER_IDLE: Duration = Duration::from_secs(30);
/// How long a stream may take to open, or one answer to be taken.
const PATIENCE: Duration = Duration::from_secs(30);
/// Answers that wait for a stream. Chosen: the next chunks are read while one is sent; bounds memory.
const ANSWERS_AHEAD: usize = 3;
/// How long a peer stays cut off that sent what no honest peer sends. Chosen: as in core's sync.
const BAN: Duration = Duration::from_secs(600);

/// Answers for one ledger. Called for authenticated peers; decides alone what they may have.
#[async_trait]
pub(crate) trait Serve: Send + Sync + fmt::Debug {
    /// Answers a request; nothing to say is allowed.
    async fn serve(&self, peer: &PeerId, body: Body) -> Option<Body>;
}

/// What a ledger is told.
#[derive(Debug)]
pub(crate) enum Event {
    /// The stream to a peer broke.
    Broken(PeerId),
    /// An answer.
    Answer(PeerId, Body),
}

/// One ledger's place at the exchange.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub(crate) server: Arc<dyn Serve>,
    pub(crate) inbox: mpsc::Sender<Event>,
    /// Rung when who is connected has changed: a ledger that is busy hears of it later and holds up no other.
    pub(crate) peers: Arc<Notify>,
}

/// Counters of the exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExchangeStatus {
    /// Requests that got the flat no.
    pub refused: u64,
    /// Peers cut off because of what they sent: malformed messages, or bytes that are not what they are called.
    pub faults: u64,
}

/// The exchange of one node; cheap to clone.
#[derive(Clone)]
pub struct OffchainExchange(Arc<Shared>);

struct Shared {
    network: Arc<dyn Network>,
    ports: Mutex<BTreeMap<LedgerTag, Port>>,
    /// Who is a member of each ledger, ascending.
    members: Mutex<BTreeMap<LedgerTag, Vec<PeerId>>>,
    links: Mutex<BTreeMap<PeerId, (u64, mpsc::Sender<Frame>)>>,
    patience: Mutex<Patience>,
    noes: Mutex<Noes>,
    bandwidth: Mutex<Bandwidth>,
    refused: AtomicU64,
    faults: AtomicU64,
    next_link: AtomicU64,
    tasks: Mutex<JoinSet<()>>,
    stop: CancellationToken,
}

impl fmt::Debug for OffchainExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OffchainExchange({} ledgers)", lock(&self.0.ports).len())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OffchainExchange {
    /// Starts to answer peers, without limits of bandwidth; once per node.
    ///
    /// # Errors
    /// [`NetworkError`] if the protocol is taken already.
    pub fn start(network: Arc<dyn Network>) -> Result<Self, NetworkError> {
        Self::start_with(network, ExchangeConfig::default())
    }

    /// Starts to answer peers; once per node.
    ///
    /// # Errors
    /// [`NetworkError`] if the protocol is taken already.
    pub fn start_with(network: Arc<dyn Network>, config: ExchangeConfig) -> Result<Self, NetworkError> {
        let incoming = network.accept(OFFCHAIN)?;
        let shared = Arc::new(Shared {
            network,
            ports: Mutex::default(),
            members: Mutex::default(),
            links: Mutex::default(),
            patience: Mutex::default(),
            noes: Mutex::default(),
            bandwidth: Mutex::new(Bandwidth::new(config)),
            refused: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            next_link: AtomicU64::new(0),
            tasks: Mutex::default(),
            stop: CancellationToken::new(),
        });
        lock(&shared.tasks).spawn(accept(Arc::clone(&shared), incoming));
        lock(&shared.tasks).spawn(follow(Arc::clone(&shared)));
        Ok(Self(shared))
    }

    /// Returns the counters.
    pub fn status(&self) -> ExchangeStatus {
        ExchangeStatus {
            refused: self.0.refused.load(Ordering::Relaxed),
            faults: self.0.faults.load(Ordering::Relaxed),
        }
    }

    /// Ends all streams and tasks. Idempotent.
    pub async fn shutdown(&self) {
        self.0.stop.cancel();
        let mut tasks = std::mem::take(&mut *lock(&self.0.tasks));
        while tasks.join_next().await.is_some() {}
    }

    /// Cuts off a peer that sent what no honest peer sends.
    pub(crate) fn punish(&self, peer: &PeerId, reason: &'static str) {
        punish(&self.0, peer, reason);
    }

    pub(crate) fn attach(&self, tag: LedgerTag, port: Port) -> bool {
        let mut ports = lock(&self.0.ports);
        let taken = ports.get(&tag).is_some_and(|port| !port.inbox.is_closed());
        if !taken {
            ports.insert(tag, port);
        }
        !taken
    }

    pub(crate) fn detach(&self, tag: &LedgerTag) {
        lock(&self.0.ports).remove(tag);
        lock(&self.0.members).remove(tag);
    }

    /// Sets who is a member of a ledger; ascending. Members have places of their own among the streams that are answered.
    pub(crate) fn set_members(&self, tag: LedgerTag, members: Vec<PeerId>) {
        // Not of one that is shut down.
        if lock(&self.0.ports).contains_key(&tag) {
            lock(&self.0.members).insert(tag, members);
        }
    }

    pub(crate) fn connected(&self) -> Vec<PeerId> {
        self.0.network.peers().into_iter().map(|status| status.peer).collect()
    }

    /// Returns how often each peer may still be made to say no, by all ledgers. Held for a moment only.
    pub(crate) fn noes(&self) -> MutexGuard<'_, Noes> {
        lock(&self.0.noes)
    }

    /// Returns until when no further part is to be asked for after one of so many bytes, if a limit says so.
    pub(crate) fn charge_download(&self, bytes: u64) -> Option<Instant> {
        let now = Instant::now();
        let wait = lock(&self.0.bandwidth).download(bytes, now);
        (!wait.is_zero()).then(|| now + wait)
    }

    /// Sends if there is room; what is lost is asked for again.
    pub(crate) fn send(&self, peer: &PeerId, message: &Message) {
        if self.0.stop.is_cancelled() {
            return;
        }
        let mut links = lock(&self.0.links);
        if let Some((_, link)) = links.get(peer)
            && !link.is_closed()
        {
            let may_wait = !matches!(message.body, Body::Push(..)) || link.capacity() > LINK_RESERVED;
            if may_wait {
                drop(link.try_send(message.encode()));
            }
            return;
        }
        let frame = message.encode();
        let (tx, rx) = mpsc::channel(LINK_QUEUE);
        drop(tx.try_send(frame));
        let number = self.0.next_link.fetch_add(1, Ordering::Relaxed);
        links.insert(peer.clone(), (number, tx));
        let mut tasks = lock(&self.0.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(run_link(Arc::clone(&self.0), peer.clone(), number, rx));
    }
}

/// Tells every ledger when somebody comes or goes.
async fn follow(shared: Arc<Shared>) {
    loop {
        let mut events = shared.network.events();
        loop {
            let event = tokio::select! {
                biased;
                () = shared.stop.cancelled() => return,
                event = events.recv() => event,
            };
            match event {
                Some(NetworkEvent::PeerDown(peer)) => {
                    lock(&shared.links).remove(&peer);
                    ring(&shared);
                }
                Some(_) => ring(&shared),
                None => break,
            }
        }
        // Lagged, or the network is down: begin again, not at once.
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

fn ring(shared: &Shared) {
    lock(&shared.ports).values().for_each(|port| port.peers.notify_one());
}

/// Tells all ledgers at the same time: none waits for another.
async fn tell(shared: &Shared, event: impl Fn() -> Event) {
    let ports: Vec<Port> = lock(&shared.ports).values().cloned().collect();
    // A ledger that is shut down takes nothing any more.
    let told = ports.iter().map(|port| port.inbox.send(event()));
    drop(futures::future::join_all(told).await);
}

async fn run_link(shared: Arc<Shared>, peer: PeerId, number: u64, outgoing: mpsc::Receiver<Frame>) {
    tokio::select! {
        biased;
        () = shared.stop.cancelled() => return,
        () = talk(&shared, &peer, outgoing) => {}
    }
    {
        let mut links = lock(&shared.links);
        if links.get(&peer).is_some_and(|(own, _)| *own == number) {
            links.remove(&peer);
        }
    }
    tokio::select! {
        biased;
        () = shared.stop.cancelled() => {}
        () = tell(&shared, || Event::Broken(peer.clone())) => {}
    }
}

async fn talk(shared: &Shared, peer: &PeerId, mut outgoing: mpsc::Receiver<Frame>) {
    let Ok(Ok(stream)) = timeout(PATIENCE, shared.network.open(peer, OFFCHAIN)).await else { return };
    let (mut reader, mut writer) = stream.split();
    let write = async {
        while let Some(frame) = outgoing.recv().await {
            if !matches!(timeout(PATIENCE, write_frame(&mut writer, &frame)).await, Ok(true)) {
                return;
            }
        }
    };
    let read = async {
        while let Some(frame) = read_frame(&mut reader, FrameLimits::ANSWER).await {
            let Some(message) = Message::decode(&frame) else {
                punish(shared, peer, "malformed answer");
                return;
            };
            let port = lock(&shared.ports).get(&message.ledger).cloned();
            if let Some(port) = port {
                let _gone = port.inbox.send(Event::Answer(peer.clone(), message.body)).await.is_err();
            }
        }
    };
    tokio::select! {
        biased;
        () = write => {}
        () = read => {}
    }
}

async fn accept(shared: Arc<Shared>, mut incoming: mpsc::Receiver<IncomingStream>) {
    let mut streams: JoinSet<(PeerId, bool)> = JoinSet::new();
    let mut places = Places::default();
    loop {
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => break,
            Some(ended) = streams.join_next(), if !streams.is_empty() => {
                if let Ok((peer, member)) = ended {
                    places.leave(&peer, member);
                }
            }
            stream = incoming.recv() => {
                let Some(IncomingStream { peer, stream }) = stream else { break };
                let member = is_member(&shared, &peer);
                if !places.enter(&peer, member) {
                    continue;
                }
                let shared = Arc::clone(&shared);
                streams.spawn(async move {
                    answer(&shared, &peer, stream).await;
                    (peer, member)
                });
            }
        }
    }
    streams.shutdown().await;
}

fn is_member(shared: &Shared, peer: &PeerId) -> bool {
    lock(&shared.members).values().any(|members| members.binary_search(peer).is_ok())
}

/// Waits for the next request, of strangers not for long.
async fn next_request(shared: &Shared, peer: &PeerId, reader: &mut (impl AsyncRead + Unpin)) -> Option<Bytes> {
    let first = loop {
        match timeout(STRANGER_IDLE, first_byte(reader)).await {
            Ok(first) => break first?,
            Err(_) if is_member(shared, peer) => {}
            Err(_) => return None,
        }
    };
    read_frame_behind(first, reader, FrameLimits::REQUEST).await
}

/// Answers one stream in order; the next answers are looked up while one is sent, a few at the most: what a peer does not
/// read, it is not sent more of.
async fn answer(shared: &Shared, peer: &PeerId, stream: Box<dyn Stream>) {
    let (mut reader, mut writer) = stream.split();
    let (answers, mut waiting) = mpsc::channel::<Frame>(ANSWERS_AHEAD);
    let look_up = async move {
        while let Some(frame) = next_request(shared, peer, &mut reader).await {
            let Some(message) = Message::decode(&frame) else {
                punish(shared, peer, "malformed request");
                return;
            };
            let wait = lock(&shared.patience).request(peer, Instant::now());
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            let Some(answer) = reply(shared, peer, message).await else { continue };
            if !may_go_on(shared, peer, refusals(&answer.body)) || answers.send(answer.encode()).await.is_err() {
                return;
            }
        }
    };
    let send = async move {
        while let Some(frame) = waiting.recv().await {
            if !matches!(timeout(PATIENCE, write_frame(&mut writer, &frame)).await, Ok(true)) {
                return;
            }
            let wait = lock(&shared.bandwidth).upload(frame.len() as u64, Instant::now());
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
        }
    };
    // What was looked up before the peer ended its side is still sent; who does not read ends both.
    let mut look_up = std::pin::pin!(look_up);
    let mut send = std::pin::pin!(send);
    tokio::select! {
        biased;
        () = &mut send => {}
        () = &mut look_up => send.await,
    }
}

async fn reply(shared: &Shared, peer: &PeerId, message: Message) -> Option<Message> {
    let ledger = message.ledger;
    let port = lock(&shared.ports).get(&ledger).cloned();
    let body = match port {
        Some(port) => port.server.serve(peer, message.body).await,
        // As if the ledger were here and nothing in it for this peer.
        None => flat_no(message.body),
    };
    body.map(|body| Message { ledger, body })
}

fn punish(shared: &Shared, peer: &PeerId, reason: &'static str) {
    debug!(%peer, reason, "peer banned");
    shared.faults.fetch_add(1, Ordering::Relaxed);
    shared.network.ban(peer, BAN);
}

/// The one answer to everything that is unknown, gone or not for this peer.
pub(crate) fn flat_no(body: Body) -> Option<Body> {
    match body {
        Body::Want(items) => Some(Body::Have(items.into_iter().map(|id| (id, Has::No)).collect())),
        Body::Get(id, part) => Some(Body::No(id, part)),
        _ => None,
    }
}

fn refusals(reply: &Body) -> u32 {
    match reply {
        Body::Have(items) => u32::try_from(items.iter().filter(|(_, has)| *has == Has::No).count()).unwrap_or(u32::MAX),
        Body::No(..) => 1,
        _ => 0,
    }
}

fn may_go_on(shared: &Shared, peer: &PeerId, refused: u32) -> bool {
    shared.refused.fetch_add(u64::from(refused), Ordering::Relaxed);
    lock(&shared.patience).refuse(peer, refused, Instant::now())
}
