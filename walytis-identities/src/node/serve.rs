//! Serving others: accepts both protocols, keeps in touch with controllers.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use walytis_core::id::PeerId;
use walytis_core::net::{IncomingStream, NetworkEvent};

use super::error::{ExchangeError, IdentitiesResult};
use super::places::{Place, Places};
use super::runtime::Inner;
use super::shared::Shared;
use super::{exchange, host, recover, reseal};
use crate::id::Did;

/// Streams served at the same time, of everybody and beyond them of controllers' nodes; more are reset. Chosen: exchanges
/// and joins take 8 MiB each at most, the others less.
const EXCHANGED: (usize, usize) = (12, 8);
const JOINED: (usize, usize) = (8, 0);
const RESEALED: (usize, usize) = (4, 8);
const RECOVERED: (usize, usize) = (8, 0);
/// Controllers' nodes greeted at the same time; others are greeted with the next change.
const GREETED_MAX: usize = 64;
/// Exchanges of one peer in a burst, and how long until one more. Chosen: a change is told in one exchange.
const EXCHANGES: (u32, Duration) = (64, Duration::from_millis(500));
/// Joins of one peer in a burst, and how long until one more: guessing an invitation is hopeless anyway, this bounds the
/// signatures that a peer makes us check.
const JOINS: (u32, Duration) = (8, Duration::from_secs(10));
/// Requests for epoch secrets of one peer in a burst, and how long until one more: each costs up to 64 encapsulations.
const RESEALS: (u32, Duration) = (8, Duration::from_secs(5));
/// Proofs of a recovery key of one peer in a burst, and how long until one more: each costs a hybrid verification.
const RECOVERIES: (u32, Duration) = (4, Duration::from_secs(10));
/// How long before an unresponsive network is asked for events again.
const EVENTS_AGAIN: Duration = Duration::from_secs(1);

/// Starts the server task.
pub(super) fn start(inner: &Arc<Inner>) -> IdentitiesResult<()> {
    let authority = inner.tools.network.accept(exchange::AUTHORITY)?;
    let joins = inner.tools.network.accept(host::JOIN)?;
    let reseals = inner.tools.network.accept(reseal::RESEAL)?;
    let recoveries = inner.tools.network.accept(recover::RECOVERY)?;
    let server = Server {
        inner: Arc::downgrade(inner),
        exchanges: Places::new(EXCHANGED, EXCHANGES),
        joins: Places::new(JOINED, JOINS),
        reseals: Places::new(RESEALED, RESEALS),
        recoveries: Places::new(RECOVERED, RECOVERIES),
        served: JoinSet::new(),
        greetings: JoinSet::new(),
    };
    let events = inner.tools.network.events();
    let accepted = Accepted { authority, joins, reseals, recoveries };
    inner.keep(tokio::spawn(server.run(accepted, events, inner.stop.child_token())));
    Ok(())
}

/// Streams that others open.
struct Accepted {
    authority: mpsc::Receiver<IncomingStream>,
    joins: mpsc::Receiver<IncomingStream>,
    reseals: mpsc::Receiver<IncomingStream>,
    recoveries: mpsc::Receiver<IncomingStream>,
}

struct Server {
    /// Weak: the runtime holds this task.
    inner: Weak<Inner>,
    exchanges: Places,
    joins: Places,
    reseals: Places,
    recoveries: Places,
    served: JoinSet<()>,
    greetings: JoinSet<()>,
}

impl Server {
    async fn run(mut self, mut accepted: Accepted, mut events: mpsc::Receiver<NetworkEvent>, stop: CancellationToken) {
        let mut events_again: Option<Instant> = None;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                event = events.recv(), if events_again.is_none() => match event {
                    Some(NetworkEvent::PeerUp(peer)) => self.greet(&peer),
                    Some(_) => {}
                    // It lagged, or the network is down.
                    None => events_again = Some(Instant::now() + EVENTS_AGAIN),
                },
                () = super::task::sleep_until(events_again) => {
                    events_again = None;
                    let Some(inner) = self.inner.upgrade() else { break };
                    events = inner.tools.network.events();
                }
                Some(_ended) = self.served.join_next(), if !self.served.is_empty() => {}
                Some(_ended) = self.greetings.join_next(), if !self.greetings.is_empty() => {}
                Some(stream) = accepted.authority.recv() => self.exchange(stream),
                Some(stream) = accepted.joins.recv() => self.join(stream),
                Some(stream) = accepted.reseals.recv() => self.reseal(stream),
                Some(stream) = accepted.recoveries.recv() => self.recovery(stream),
                else => break,
            }
        }
        self.served.shutdown().await;
        self.greetings.shutdown().await;
    }

    /// Exchanges with a controller's node as soon as it is there, about one identity after the other.
    fn greet(&mut self, peer: &PeerId) {
        let Some(inner) = self.inner.upgrade() else { return };
        let mut shared: Vec<Arc<Shared>> =
            inner.here().values().map(|entry| Arc::clone(&entry.handle.shared)).collect();
        shared.retain(|shared| shared.known().cards.devices_of(peer).next().is_some());
        if shared.is_empty() || self.greetings.len() >= GREETED_MAX {
            return;
        }
        let peer = peer.clone();
        self.greetings.spawn(async move {
            for shared in shared {
                log(&peer, exchange::with_peer(&shared, &peer).await);
            }
        });
    }

    fn exchange(&mut self, incoming: IncomingStream) {
        let IncomingStream { peer, stream } = incoming;
        let is_controller = self.is_controller(&peer);
        let Some(place) = self.exchanges.take(&peer, is_controller, Instant::now()) else {
            debug!(?peer, "too many exchanges");
            return;
        };
        let inner = self.inner.clone();
        self.serve(place, async move {
            log(&peer, exchange::answer(stream, &peer, |did| find(&inner, did)).await);
        });
    }

    fn join(&mut self, incoming: IncomingStream) {
        let IncomingStream { peer, stream } = incoming;
        let Some(place) = self.joins.take(&peer, false, Instant::now()) else {
            debug!(?peer, "too many joins");
            return;
        };
        let inner = self.inner.clone();
        self.serve(place, async move {
            log(&peer, host::serve(stream, &peer, |did| find(&inner, did)).await);
        });
    }

    fn recovery(&mut self, incoming: IncomingStream) {
        let IncomingStream { peer, stream } = incoming;
        let Some(place) = self.recoveries.take(&peer, false, Instant::now()) else {
            debug!(?peer, "too many proofs of a recovery key");
            return;
        };
        let inner = self.inner.clone();
        self.serve(place, async move {
            let find = |did: &Did| {
                let handle = inner.upgrade()?.here().get(did).map(|entry| entry.handle.clone())?;
                handle.role().is_some().then_some(handle)
            };
            log(&peer, recover::answer(stream, &peer, find).await);
        });
    }

    fn reseal(&mut self, incoming: IncomingStream) {
        let IncomingStream { peer, stream } = incoming;
        let is_controller = self.is_controller(&peer);
        let Some(place) = self.reseals.take(&peer, is_controller, Instant::now()) else {
            debug!(?peer, "too many requests for epoch secrets");
            return;
        };
        let inner = self.inner.clone();
        self.serve(place, async move {
            let find = |did: &Did| find(&inner, did).filter(|shared| shared.my_role().is_some());
            log(&peer, reseal::answer(stream, &peer, find).await);
        });
    }

    fn serve(&mut self, place: Place, work: impl Future<Output = ()> + Send + 'static) {
        self.served.spawn(async move {
            work.await;
            drop(place);
        });
    }

    /// Says whether a device of a current controller of one of this node's identities is on that node.
    fn is_controller(&self, peer: &PeerId) -> bool {
        let Some(inner) = self.inner.upgrade() else { return false };
        let here: Vec<Arc<Shared>> = inner.here().values().map(|entry| Arc::clone(&entry.handle.shared)).collect();
        here.iter().any(|shared| shared.device_of(peer).is_some())
    }
}

fn find(inner: &Weak<Inner>, did: &Did) -> Option<Arc<Shared>> {
    inner.upgrade()?.here().get(did).map(|entry| Arc::clone(&entry.handle.shared))
}

fn log(peer: &PeerId, outcome: Result<(), ExchangeError>) {
    if let Err(error) = outcome {
        debug!(?peer, %error, "exchange ended early");
    }
}
