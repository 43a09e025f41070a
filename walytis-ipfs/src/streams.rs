//! Streams by protocol name, as a libp2p behaviour: whoever accepts a protocol gets the streams of all connections over
//! one bounded channel; whoever opens one gets it from the peer's oldest connection.
//!
//! Compared with the crate `libp2p-stream` there is no forwarding task per protocol, no slot of one that a second
//! stream arriving at the same time falls out of, and no connection picked at random.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::handler::{
    ConnectionEvent, ConnectionHandler, ConnectionHandlerEvent, DialUpgradeError, FullyNegotiatedInbound,
    FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, Stream,
    StreamProtocol, StreamUpgradeError, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use tokio::sync::{mpsc, oneshot};
use tracing::debug;
use walytis_core::net::{IncomingStream, NetworkError, Protocol};

use crate::key::to_core;

/// Streams of one protocol that wait to be taken. When it is full, new streams are reset.
pub(crate) const ACCEPT_QUEUE: usize = 64;
/// Streams of one connection that wait for their protocol to be agreed on.
const OPENING_MAX: usize = 256;

/// What became of an attempt to open a stream.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// The peer does not know the protocol.
    Unsupported,
    /// The connection failed; another may do.
    Lost(String),
    /// There is no way to the peer.
    Failed(NetworkError),
}

/// Where the stream goes.
pub(crate) type OpenReply = oneshot::Sender<Result<Stream, OpenError>>;

/// Who accepts what; shared by the handle and every connection. Locked for a few instructions at a time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Acceptors(Arc<Mutex<BTreeMap<Protocol, mpsc::Sender<IncomingStream>>>>);

impl Acceptors {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Protocol, mpsc::Sender<IncomingStream>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers an acceptor; an earlier one whose receiver is gone makes room.
    pub(crate) fn accept(&self, protocol: Protocol) -> Result<mpsc::Receiver<IncomingStream>, NetworkError> {
        let mut acceptors = self.lock();
        if acceptors.get(protocol).is_some_and(|sender| !sender.is_closed()) {
            return Err(NetworkError::AlreadyAccepted { protocol });
        }
        let (sender, receiver) = mpsc::channel(ACCEPT_QUEUE);
        acceptors.insert(protocol, sender);
        Ok(receiver)
    }

    /// Ends every acceptor.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn protocols(&self) -> Vec<StreamProtocol> {
        let mut acceptors = self.lock();
        acceptors.retain(|_, sender| !sender.is_closed());
        acceptors.keys().map(|protocol| StreamProtocol::new(protocol)).collect()
    }

    fn deliver(&self, peer: &PeerId, protocol: &StreamProtocol, stream: Stream) {
        let sender = self.lock().get(protocol.as_ref()).cloned();
        let incoming = IncomingStream { peer: to_core(peer), stream: Box::new(stream) };
        if sender.is_none_or(|sender| sender.try_send(incoming).is_err()) {
            debug!(%peer, %protocol, "nobody takes the stream, reset");
        }
    }
}

/// The behaviour.
#[derive(Debug)]
pub(crate) struct Streams {
    acceptors: Acceptors,
    /// Per peer, oldest first.
    connections: BTreeMap<PeerId, Vec<ConnectionId>>,
    outbox: VecDeque<(PeerId, ConnectionId, Opening)>,
    waker: Option<Waker>,
}

/// A stream to be opened.
#[derive(Debug)]
pub(crate) struct Opening {
    protocol: Protocol,
    reply: OpenReply,
}

impl Streams {
    pub(crate) const fn new(acceptors: Acceptors) -> Self {
        Self { acceptors, connections: BTreeMap::new(), outbox: VecDeque::new(), waker: None }
    }

    /// Opens a stream over the peer's oldest connection.
    pub(crate) fn open(&mut self, peer: &PeerId, protocol: Protocol, reply: OpenReply) {
        let Some(connection) = self.connections.get(peer).and_then(|connections| connections.first()) else {
            // The opener may be gone; nobody else wants to know.
            drop(reply.send(Err(OpenError::Lost("there is no connection".to_owned()))));
            return;
        };
        self.outbox.push_back((*peer, *connection, Opening { protocol, reply }));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Opens no stream over a connection any more.
    pub(crate) fn forget(&mut self, peer: &PeerId, connection: ConnectionId) {
        if let Some(connections) = self.connections.get_mut(peer) {
            connections.retain(|known| *known != connection);
            if connections.is_empty() {
                self.connections.remove(peer);
            }
        }
    }

    fn handler(&self, peer: PeerId) -> Handler {
        Handler { peer, acceptors: self.acceptors.clone(), wanted: VecDeque::new(), opening: VecDeque::new() }
    }
}

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(up) => {
                self.connections.entry(up.peer_id).or_default().push(up.connection_id);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                self.forget(&peer_id, connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some((peer_id, connection, event)) = self.outbox.pop_front() {
            return Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(connection), event });
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// The part of the behaviour that sits in a connection's task.
#[derive(Debug)]
pub(crate) struct Handler {
    peer: PeerId,
    acceptors: Acceptors,
    wanted: VecDeque<Opening>,
    /// In the order in which they were asked for; found again by the number that travels with the request.
    opening: VecDeque<(u64, OpenReply)>,
}

impl Handler {
    fn reply(&mut self, number: u64, result: Result<Stream, OpenError>) {
        if let Some(index) = self.opening.iter().position(|(known, _)| *known == number)
            && let Some((_, reply)) = self.opening.remove(index)
        {
            // Dropping the stream of an opener that is gone resets it.
            drop(reply.send(result));
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Opening;
    type ToBehaviour = Infallible;
    type InboundProtocol = Upgrade;
    type OutboundProtocol = Upgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = u64;

    fn listen_protocol(&self) -> SubstreamProtocol<Upgrade, ()> {
        SubstreamProtocol::new(Upgrade(self.acceptors.protocols()), ())
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Upgrade, u64, Infallible>> {
        // The connection polls its handler again after every event of the behaviour, so no waker is kept.
        while let Some(opening) = self.wanted.pop_front() {
            if opening.reply.is_closed() {
                continue;
            }
            let number = self.opening.back().map_or(0, |(last, _)| last.wrapping_add(1));
            self.opening.push_back((number, opening.reply));
            let upgrade = Upgrade(vec![StreamProtocol::new(opening.protocol)]);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(upgrade, number),
            });
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, opening: Opening) {
        if self.wanted.len() + self.opening.len() < OPENING_MAX {
            self.wanted.push_back(opening);
        } else {
            drop(opening.reply.send(Err(OpenError::Lost("too many streams are being opened".to_owned()))));
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Upgrade, Upgrade, (), u64>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, protocol), ..
            }) => {
                self.acceptors.deliver(&self.peer, &protocol, stream);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: (stream, _), info }) => {
                self.reply(info, Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let error = match error {
                    StreamUpgradeError::NegotiationFailed => OpenError::Unsupported,
                    StreamUpgradeError::Timeout => OpenError::Lost("the peer does not answer in time".to_owned()),
                    StreamUpgradeError::Io(error) => OpenError::Lost(error.to_string()),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                self.reply(info, Err(error));
            }
            _ => {}
        }
    }
}

/// Agrees on a protocol name and hands over the bare stream.
#[derive(Debug)]
pub(crate) struct Upgrade(Vec<StreamProtocol>);

impl UpgradeInfo for Upgrade {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Upgrade {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

impl OutboundUpgrade<Stream> for Upgrade {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}
