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
use super::limiter::Limiter;
use super::runtime::Inner;
use super::shared::Shared;
use super::{exchange, host, recover, reseal};
use crate::id::Did;

/// Streams served at the same time; more are reset. Chosen: bounds memory at some hundred megabytes in the worst case.
const SERVED_MAX: usize = 16;
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
        exchanges: Limiter::new(EXCHANGES.0, EXCHANGES.1),
        joins: Limiter::new(JOINS.0, JOINS.1),
        reseals: Limiter::new(RESEALS.0, RESEALS.1),
        recoveries: Limiter::new(RECOVERIES.0, RECOVERIES.1),
        tasks: JoinSet::new(),
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
    exchanges: Limiter,
    joins: Limiter,
    reseals: Limiter,
    recoveries: Limiter,
    tasks: JoinSet<()>,
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
                Some(_ended) = self.tasks.join_next(), if !self.tasks.is_empty() => {}
                Some(stream) = accepted.authority.recv() => self.exchange(stream),
                Some(stream) = accepted.joins.recv() => self.join(stream),
                Some(stream) = accepted.reseals.recv() => self.reseal(stream),
                Some(stream) = accepted.recoveries.recv() => self.recovery(stream),
                else => break,
            }
        }
        self.tasks.shutdown().await;
    }

    /// Exchanges with a controller's node as soon as it is there.
    fn greet(&mut self, peer: &PeerId) {
        let Some(inner) = self.inner.upgrade() else { return };
        let shared: Vec<Arc<Shared>> = inner.here().values().map(|entry| Arc::clone(&entry.handle.shared)).collect();
        for shared in shared.into_iter().filter(|shared| shared.known().cards.devices_of(peer).next().is_some()) {
            if self.tasks.len() >= 4 * SERVED_MAX {
                return;
            }
            let peer = peer.clone();
            self.tasks.spawn(async move {
                log(&peer, exchange::with_peer(&shared, &peer).await);
            });
        }
    }

    fn exchange(&mut self, incoming: IncomingStream) {
        let IncomingStream { peer, stream } = incoming;
        if self.tasks.len() >= SERVED_MAX || !self.exchanges.take(&peer, Instant::now()) {
            debug!(?peer, "too many exchanges");
            return;
        }
        let inner = self.inner.clone();
        self.tasks.spawn(async move {
            log(&peer, exchange::answer(stream, &peer, |did| find(&inner, did)).await);
        });
    }

    fn join(&mut self, incoming: IncomingStream) {
        let IncomingStream { peer, stream } = incoming;
        if self.tasks.len() >= SERVED_MAX || !self.joins.take(&peer, Instant::now()) {
            debug!(?peer, "too many joins");
            return;
        }
        let inner = self.inner.clone();
        self.tasks.spawn(async move {
            log(&peer, host::serve(stream, &peer, |did| find(&inner, did)).await);
        });
    }
}

impl Server {
    fn recovery(&mut self, incoming: IncomingStream) {
        let IncomingStream { peer, stream } = incoming;
        if self.tasks.len() >= SERVED_MAX || !self.recoveries.take(&peer, Instant::now()) {
            debug!(?peer, "too many proofs of a recovery key");
            return;
        }
        let inner = self.inner.clone();
        self.tasks.spawn(async move {
            let find = |did: &Did| {
                let handle = inner.upgrade()?.here().get(did).map(|entry| entry.handle.clone())?;
                handle.role().is_some().then_some(handle)
            };
            log(&peer, recover::answer(stream, &peer, find).await);
        });
    }

    fn reseal(&mut self, incoming: IncomingStream) {
        let IncomingStream { peer, stream } = incoming;
        if self.tasks.len() >= SERVED_MAX || !self.reseals.take(&peer, Instant::now()) {
            debug!(?peer, "too many requests for epoch secrets");
            return;
        }
        let inner = self.inner.clone();
        self.tasks.spawn(async move {
            let find = |did: &Did| find(&inner, did).filter(|shared| shared.my_role().is_some());
            log(&peer, reseal::answer(stream, &peer, find).await);
        });
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
