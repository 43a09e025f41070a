//! The handle of a node: core's `Network` over the task that owns the libp2p swarm.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use libp2p::gossipsub::{MessageAcceptance, MessageId};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use walytis_core::clock::{Clock, Entropy};
use walytis_core::id::{Address, PeerId as CorePeerId};
use walytis_core::net::{
    GossipMessage, GossipTopic, IncomingStream, Network, NetworkError, NetworkEvent, PeerStatus, Protocol, Stream,
    Verdict,
};
use walytis_core::store::KvStore;

use crate::behaviour::GOSSIP_MAX;
use crate::config::NodeConfig;
use crate::dial::ATTEMPTS_MAX;
use crate::error::StartError;
use crate::key::{NodeKey, to_core, verify_peer};
use crate::metrics::{Counters, Metrics};
use crate::start;
use crate::streams::{Acceptors, OpenError, OpenReply};
use crate::view::View;

/// Calls that wait for the task; callers wait when it is full.
pub(crate) const COMMANDS_QUEUE: usize = 256;
/// Verdicts that wait for the task; when it is full a verdict is lost and its message goes no further.
pub(crate) const VERDICTS_QUEUE: usize = 8192;
/// Peers banned at once; the ban that ends soonest makes room.
const BANS_MAX: usize = 4096;

/// What the handle asks of the task.
#[derive(Debug)]
pub(crate) enum Command {
    Connect {
        expected: Option<PeerId>,
        addresses: Vec<Multiaddr>,
        reply: oneshot::Sender<Result<PeerId, NetworkError>>,
    },
    Open {
        peer: PeerId,
        protocol: Protocol,
        reply: OpenReply,
    },
    Subscribe {
        topic: GossipTopic,
        reply: oneshot::Sender<Result<mpsc::Receiver<GossipMessage>, NetworkError>>,
    },
    Publish {
        topic: GossipTopic,
        data: Bytes,
        reply: oneshot::Sender<Result<(), NetworkError>>,
    },
}

/// The verdict about one message.
pub(crate) type Judged = (MessageId, PeerId, MessageAcceptance);

/// Peers that are refused, and until when. Written by the handle, applied by the task.
#[derive(Debug, Default)]
pub(crate) struct Bans {
    until: Mutex<BTreeMap<PeerId, Instant>>,
    pub(crate) changed: Notify,
}

impl Bans {
    fn add(&self, peer: PeerId, until: Instant) {
        let mut bans = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if bans.len() >= BANS_MAX
            && let Some(soonest) = bans.iter().min_by_key(|(_, until)| **until).map(|(peer, _)| *peer)
        {
            bans.remove(&soonest);
        }
        bans.insert(peer, until);
        self.changed.notify_one();
    }

    /// Returns who is banned now; bans that are over are forgotten.
    pub(crate) fn current(&self, now: Instant) -> Vec<PeerId> {
        let mut bans = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        bans.retain(|_, until| *until > now);
        bans.keys().copied().collect()
    }
}

/// What handle and task share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) view: View,
    pub(crate) bans: Bans,
    pub(crate) acceptors: Acceptors,
    pub(crate) counters: Counters,
}

/// A libp2p node. Dropping it stops it without waiting; [`Network::shutdown`] waits.
pub struct Libp2pNode {
    key: NodeKey,
    dial: bool,
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    verdicts: mpsc::Sender<Judged>,
    stop: watch::Sender<bool>,
    task: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Libp2pNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Libp2pNode({:?})", self.key.peer_id())
    }
}

impl Libp2pNode {
    /// Starts a node; when this returns, it listens on every address of `config`. The address book is kept in
    /// `store`, under core's space for peers. `entropy` gives the jitter of reconnections.
    ///
    /// # Errors
    /// [`StartError`]; then nothing runs.
    pub async fn start(
        config: NodeConfig,
        key: NodeKey,
        store: Arc<dyn KvStore>,
        clock: Arc<dyn Clock>,
        entropy: &dyn Entropy,
    ) -> Result<Self, StartError> {
        let shared = Arc::new(Shared::default());
        let (commands, command_rx) = mpsc::channel(COMMANDS_QUEUE);
        let (verdicts, verdict_rx) = mpsc::channel(VERDICTS_QUEUE);
        let (stop, stop_rx) = watch::channel(false);
        let dial = config.dial;
        let inputs = start::Inputs { commands: command_rx, verdicts: verdict_rx, stop: stop_rx };
        let driver = start::start(config, &key, store, clock, entropy.rng(), Arc::clone(&shared), inputs).await?;
        let task = tokio::sync::Mutex::new(Some(tokio::spawn(driver.run())));
        Ok(Self { key, dial, shared, commands, verdicts, stop, task })
    }

    /// Returns the counters since the start.
    pub fn metrics(&self) -> Metrics {
        self.shared.counters.snapshot()
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, NetworkError>>) -> Command + Send,
    ) -> Result<T, NetworkError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| NetworkError::Down)?;
        answer.await.map_err(|_| NetworkError::Down)?
    }

    async fn open_once(&self, peer: PeerId, protocol: Protocol) -> Result<libp2p::Stream, OpenError> {
        let (reply, answer) = oneshot::channel();
        let down = |_| OpenError::Failed(NetworkError::Down);
        self.commands.send(Command::Open { peer, protocol, reply }).await.map_err(down)?;
        answer.await.unwrap_or_else(|_| Err(OpenError::Lost("the connection ended".to_owned())))
    }
}

#[async_trait]
impl Network for Libp2pNode {
    fn local_peer(&self) -> CorePeerId {
        self.key.peer_id()
    }

    fn addresses(&self) -> Vec<Address> {
        self.shared.view.addresses(self.key.keypair().public().to_peer_id())
    }

    fn peers(&self) -> Vec<PeerStatus> {
        self.shared.view.peers()
    }

    async fn connect(&self, expected: Option<&CorePeerId>, addresses: &[Address]) -> Result<CorePeerId, NetworkError> {
        let expected = expected.map(to_libp2p).transpose()?;
        if let Some(peer) = expected.filter(|peer| self.shared.view.is_connected(peer)) {
            return Ok(to_core(&peer));
        }
        if !self.dial {
            return Err(NetworkError::Down);
        }
        let addresses = parse(addresses)?;
        let peer = self.ask(|reply| Command::Connect { expected, addresses, reply }).await?;
        Ok(to_core(&peer))
    }

    async fn open(&self, peer: &CorePeerId, protocol: Protocol) -> Result<Box<dyn Stream>, NetworkError> {
        let target = to_libp2p(peer)?;
        let mut reason = String::new();
        // Twice: of two connections made at the same moment, the one that was picked may just have ended.
        for _ in 0..2 {
            match self.open_once(target, protocol).await {
                Ok(stream) => return Ok(Box::new(stream)),
                Err(OpenError::Unsupported) => return Err(NetworkError::Unsupported { protocol }),
                Err(OpenError::Failed(error)) => return Err(error),
                Err(OpenError::Lost(lost)) => reason = lost,
            }
        }
        if self.commands.is_closed() {
            return Err(NetworkError::Down);
        }
        Err(NetworkError::Unreachable { peer: peer.to_string(), reason })
    }

    fn accept(&self, protocol: Protocol) -> Result<mpsc::Receiver<IncomingStream>, NetworkError> {
        // Once the task has ended nothing would ever end the acceptor.
        if self.commands.is_closed() {
            return Err(NetworkError::Down);
        }
        self.shared.acceptors.accept(protocol)
    }

    async fn subscribe(&self, topic: GossipTopic) -> Result<mpsc::Receiver<GossipMessage>, NetworkError> {
        self.ask(|reply| Command::Subscribe { topic, reply }).await
    }

    async fn publish(&self, topic: GossipTopic, data: Bytes) -> Result<(), NetworkError> {
        if data.len() > GOSSIP_MAX {
            return Err(NetworkError::TooLarge { bytes: data.len() });
        }
        self.ask(|reply| Command::Publish { topic, data, reply }).await
    }

    fn report(&self, message: &GossipMessage, verdict: Verdict) {
        let Ok(from) = to_libp2p(&message.from) else { return };
        let acceptance = match verdict {
            Verdict::Accept => MessageAcceptance::Accept,
            Verdict::Ignore => MessageAcceptance::Ignore,
            Verdict::Reject => MessageAcceptance::Reject,
        };
        if self.verdicts.try_send((MessageId::new(&message.id.0), from, acceptance)).is_err() {
            self.shared.counters.gossip_dropped.add_one();
        }
    }

    fn events(&self) -> mpsc::Receiver<NetworkEvent> {
        self.shared.view.events()
    }

    fn ban(&self, peer: &CorePeerId, duration: Duration) {
        if let Ok(peer) = to_libp2p(peer) {
            // A duration beyond what the clock can express is as long as any process lives.
            let now = Instant::now();
            let until = now.checked_add(duration).unwrap_or_else(|| now + Duration::from_secs(1 << 32));
            self.shared.bans.add(peer, until);
        }
    }

    fn sign_as_peer(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign_as_peer(message)
    }

    fn verify_peer(&self, peer: &CorePeerId, message: &[u8], signature: &[u8]) -> bool {
        verify_peer(peer, message, signature)
    }

    async fn shutdown(&self) {
        self.stop.send_replace(true);
        let mut task = self.task.lock().await;
        if let Some(handle) = task.as_mut() {
            // A panic of the task is a bug that its own output shows; either way nothing of it is left.
            drop(handle.await);
            *task = None;
        }
        self.shared.view.close();
    }
}

fn to_libp2p(peer: &CorePeerId) -> Result<PeerId, NetworkError> {
    PeerId::from_bytes(peer.as_bytes()).map_err(|_| NetworkError::Unreachable {
        peer: peer.to_string(),
        reason: "that is no libp2p peer id".to_owned(),
    })
}

/// Usable ones among unusable ones are enough.
fn parse(addresses: &[Address]) -> Result<Vec<Multiaddr>, NetworkError> {
    let parsed: Vec<_> =
        addresses.iter().filter_map(|address| address.as_str().parse().ok()).take(ATTEMPTS_MAX).collect();
    match addresses.first() {
        Some(first) if parsed.is_empty() => Err(NetworkError::BadAddress { address: first.to_string() }),
        _ => Ok(parsed),
    }
}
