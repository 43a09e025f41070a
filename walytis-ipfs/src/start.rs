//! Builds the swarm, reads the address book, and listens.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use libp2p::multiaddr::Protocol as Part;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, Swarm, SwarmBuilder, tcp, tls, yamux};
use rand_chacha::ChaCha20Rng;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;
use walytis_core::clock::Clock;
use walytis_core::store::{Direction, KvStore};

use crate::behaviour::Behaviour;
use crate::book::{Book, PEERS_MAX};
use crate::config::NodeConfig;
use crate::driver::Driver;
use crate::error::StartError;
use crate::key::NodeKey;
use crate::life::Life;
use crate::node::{Command, Judged, Shared};

/// How long listening may take until the system has named the addresses. Guess: it takes milliseconds.
const LISTEN_DEADLINE: Duration = Duration::from_secs(5);

/// The task's ends of the handle's channels.
#[derive(Debug)]
pub(crate) struct Inputs {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) verdicts: mpsc::Receiver<Judged>,
    pub(crate) stop: watch::Receiver<bool>,
}

/// The tasks that libp2p spawns for its connections: ended and awaited at shutdown, never detached.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Tasks {
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let cancel = self.cancel.clone();
        // The tracker awaits it; its handle is not needed.
        drop(self.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = cancel.cancelled() => {}
                () = task => {}
            }
        }));
    }

    pub(crate) async fn end(&self) {
        self.cancel.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

pub(crate) async fn start(
    config: NodeConfig,
    key: &NodeKey,
    store: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
    mut rng: ChaCha20Rng,
    shared: Arc<Shared>,
    inputs: Inputs,
) -> Result<Driver, StartError> {
    let listen = config.listen_multiaddrs()?;
    let bootstrap = config.bootstrap_multiaddrs()?;
    let book = load(&*store).await?;
    let tasks = Tasks::default();
    let mut swarm = build(&config, key, &shared, tasks.clone(), Life::draw(&mut rng))?;
    if let Err(error) = listen_all(&mut swarm, listen, &shared).await {
        drop(swarm);
        tasks.end().await;
        return Err(error);
    }
    Ok(Driver::new(config, swarm, tasks, book, store, clock, rng, shared, inputs).with_bootstrap(bootstrap))
}

async fn load(store: &dyn KvStore) -> Result<Book, StartError> {
    let mut book = Book::default();
    let now = Instant::now();
    for (key, value) in store.scan(Book::range(), Direction::Forward, PEERS_MAX).await? {
        if !book.load(&key, &value, now) {
            warn!("an entry of the address book cannot be read and is left out");
        }
    }
    Ok(book)
}

fn build(
    config: &NodeConfig,
    key: &NodeKey,
    shared: &Shared,
    tasks: Tasks,
    life: Life,
) -> Result<Swarm<Behaviour>, StartError> {
    let setup = |reason: String| StartError::Setup { reason };
    let keypair = key.keypair();
    let behaviour = Behaviour::new(&keypair, config, shared.acceptors.clone(), life)?;
    let idle = config.idle_timeout;
    let swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        // The TLS of QUIC, with its hybrid key exchange, and nothing else that somebody on the line could have us agree on.
        .with_tcp(tcp::Config::default().nodelay(true), tls::Config::new, yamux::Config::default)
        .map_err(|error| setup(error.to_string()))?
        .with_quic()
        .with_dns()
        .map_err(|error| setup(error.to_string()))?
        .with_behaviour(|_| behaviour)
        .map_err(|error| setup(error.to_string()))?
        .with_swarm_config(|_| {
            libp2p::swarm::Config::with_executor(move |task| tasks.spawn(task)).with_idle_connection_timeout(idle)
        })
        .build();
    Ok(swarm)
}

async fn listen_all(swarm: &mut Swarm<Behaviour>, listen: Vec<Multiaddr>, shared: &Shared) -> Result<(), StartError> {
    let mut waiting = Vec::new();
    for address in listen {
        if let Err(error) = probe(&address) {
            return Err(listen_error(&address, &error));
        }
        let listener = swarm
            .listen_on(address.clone())
            .map_err(|error| StartError::Listen { address: address.to_string(), reason: error.to_string() })?;
        waiting.push((listener, address));
    }
    let named = async {
        while !waiting.is_empty() {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { listener_id, address } => {
                    waiting.retain(|(id, _)| *id != listener_id);
                    shared.view.listening(address);
                }
                SwarmEvent::ListenerError { listener_id, error }
                | SwarmEvent::ListenerClosed { listener_id, reason: Err(error), .. } => {
                    if let Some((_, address)) = waiting.iter().find(|(id, _)| *id == listener_id) {
                        return Err(listen_error(address, &error));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    };
    let outcome = timeout(LISTEN_DEADLINE, named).await;
    outcome.unwrap_or_else(|_| {
        let address = waiting.first().map(|(_, address)| address.to_string()).unwrap_or_default();
        Err(StartError::Listen { address, reason: "the system names no address to listen on".to_owned() })
    })
}

/// Binds and releases the port: libp2p listens with port reuse, under which a second listener is not refused.
fn probe(address: &Multiaddr) -> io::Result<()> {
    match socket(address) {
        Some((false, socket)) => TcpListener::bind(socket).map(drop),
        Some((true, socket)) => UdpSocket::bind(socket).map(drop),
        None => Ok(()),
    }
}

/// Returns whether the address is UDP, and its socket address; nothing for a port that the system chooses.
pub(crate) fn socket(address: &Multiaddr) -> Option<(bool, SocketAddr)> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Part::Ip4(ip) => ip.into(),
        Part::Ip6(ip) => std::net::IpAddr::V6(ip),
        _ => return None,
    };
    match parts.next()? {
        Part::Tcp(port) if port != 0 => Some((false, SocketAddr::new(ip, port))),
        Part::Udp(port) if port != 0 => Some((true, SocketAddr::new(ip, port))),
        _ => None,
    }
}

fn listen_error(address: &Multiaddr, error: &io::Error) -> StartError {
    let address = address.to_string();
    if error.kind() == io::ErrorKind::AddrInUse {
        return StartError::AddressInUse { address };
    }
    StartError::Listen { address, reason: error.to_string() }
}
