//! What the node's task lets others see without asking it: addresses, peers, events.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libp2p::multiaddr::Protocol;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;
use walytis_core::id::Address;
use walytis_core::net::{NetworkEvent, PeerStatus};

use crate::book::is_loopback;
use crate::key::to_core;
use crate::life::Life;

/// Events that a receiver may lag behind before it is closed, on top of the peers connected when it began.
const EVENTS_QUEUE: usize = 1024;

/// One live connection.
#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    address: Option<Address>,
    outbound: bool,
    /// Which run of the peer it leads to, once that is known.
    life: Option<Life>,
}

#[derive(Debug, Default)]
struct Peer {
    /// Oldest first; never empty.
    connections: Vec<Connection>,
    rtt: Option<Duration>,
    /// Where it says that it can be reached.
    listens: Vec<Address>,
}

#[derive(Debug, Default)]
struct State {
    listen: Vec<Multiaddr>,
    peers: BTreeMap<PeerId, Peer>,
    listeners: Vec<mpsc::Sender<NetworkEvent>>,
    closed: bool,
}

/// Written by the node's task, read by everybody. Locked for short sections only.
#[derive(Debug, Default)]
pub(crate) struct View(Mutex<State>);

impl View {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn listening(&self, address: Multiaddr) {
        let mut state = self.lock();
        if !state.listen.contains(&address) {
            state.listen.push(address);
        }
    }

    pub(crate) fn not_listening(&self, address: &Multiaddr) {
        self.lock().listen.retain(|known| known != address);
    }

    /// Returns the listen addresses, with peer id: other machines' first, QUIC before TCP.
    pub(crate) fn addresses(&self, local: PeerId) -> Vec<Address> {
        let mut listen = self.lock().listen.clone();
        listen.sort_by_key(|address| (is_loopback(address), !address.iter().any(|part| part == Protocol::QuicV1)));
        let with_peer = listen.into_iter().map(|address| address.with(Protocol::P2p(local)));
        with_peer.filter_map(|address| Address::new(&address.to_string())).collect()
    }

    /// Returns the addresses as they were reported.
    pub(crate) fn listen(&self) -> Vec<Multiaddr> {
        self.lock().listen.clone()
    }

    /// Notes a connection; says so to everybody if it is the peer's first.
    pub(crate) fn opened(&self, peer: PeerId, id: ConnectionId, address: &Multiaddr, outbound: bool) -> bool {
        let mut state = self.lock();
        let connections = &mut state.peers.entry(peer).or_default().connections;
        connections.push(Connection { id, address: Address::new(&address.to_string()), outbound, life: None });
        let first = connections.len() == 1;
        if first {
            state.tell(&NetworkEvent::PeerUp(to_core(&peer)));
        }
        first
    }

    /// Notes the end of a connection; says so to everybody if it was the peer's last.
    pub(crate) fn ended(&self, peer: PeerId, id: ConnectionId) -> bool {
        let mut state = self.lock();
        let Some(known) = state.peers.get_mut(&peer) else { return false };
        known.connections.retain(|connection| connection.id != id);
        if !known.connections.is_empty() {
            return false;
        }
        state.peers.remove(&peer);
        state.tell(&NetworkEvent::PeerDown(to_core(&peer)));
        true
    }

    /// Notes to which run of the peer a connection leads; says whether an older connection leads to another one.
    pub(crate) fn lives(&self, peer: &PeerId, id: ConnectionId, life: Life) -> bool {
        let mut state = self.lock();
        let Some(known) = state.peers.get_mut(peer) else { return false };
        for connection in known.connections.iter_mut().filter(|connection| connection.id == id) {
            connection.life = Some(life);
        }
        let mut lives = known.connections.iter().filter_map(|connection| connection.life);
        lives.next().is_some_and(|oldest| lives.any(|life| life != oldest))
    }

    /// Says whether a connection to the peer leads to an address of that kind.
    pub(crate) fn leads(&self, peer: &PeerId, id: ConnectionId, kind: impl Fn(&Multiaddr) -> bool) -> bool {
        let is = |address: &Address| address.as_str().parse().is_ok_and(|address| kind(&address));
        self.lock().peers.get(peer).is_some_and(|peer| {
            peer.connections.iter().any(|connection| connection.id == id && connection.address.as_ref().is_some_and(is))
        })
    }

    pub(crate) fn measured(&self, peer: &PeerId, rtt: Duration) {
        if let Some(peer) = self.lock().peers.get_mut(peer) {
            peer.rtt = Some(rtt);
        }
    }

    pub(crate) fn named(&self, peer: &PeerId, listens: Vec<Address>) {
        if let Some(peer) = self.lock().peers.get_mut(peer) {
            peer.listens = listens;
        }
    }

    pub(crate) fn is_connected(&self, peer: &PeerId) -> bool {
        self.lock().peers.contains_key(peer)
    }

    /// Says whether a connection to the peer stays on this machine.
    pub(crate) fn is_local(&self, peer: &PeerId) -> bool {
        let loopback = |address: &Address| address.as_str().parse().is_ok_and(|address| is_loopback(&address));
        self.lock().peers.get(peer).is_some_and(|peer| {
            peer.connections.iter().filter_map(|connection| connection.address.as_ref()).any(loopback)
        })
    }

    pub(crate) fn peers(&self) -> Vec<PeerStatus> {
        let status = |(peer, known): (&PeerId, &Peer)| PeerStatus {
            peer: to_core(peer),
            addresses: known.connections.iter().filter_map(|connection| connection.address.clone()).collect(),
            outbound: known.connections.first().is_some_and(|connection| connection.outbound),
            rtt: known.rtt,
            listens: known.listens.clone(),
        };
        let mut peers: Vec<_> = self.lock().peers.iter().map(status).collect();
        peers.sort_by(|a, b| a.peer.cmp(&b.peer));
        peers
    }

    /// Registers a receiver of events, which begins with whoever is connected.
    pub(crate) fn events(&self) -> mpsc::Receiver<NetworkEvent> {
        let mut state = self.lock();
        let (sender, receiver) = mpsc::channel(state.peers.len() + EVENTS_QUEUE);
        let room = |peer: &PeerId| sender.try_send(NetworkEvent::PeerUp(to_core(peer))).is_ok();
        if !state.closed && state.peers.keys().all(room) {
            state.listeners.push(sender);
        }
        receiver
    }

    /// Ends every receiver and forgets everything.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        let gone: Vec<_> = state.peers.keys().map(|peer| NetworkEvent::PeerDown(to_core(peer))).collect();
        gone.iter().for_each(|event| state.tell(event));
        *state = State { closed: true, ..State::default() };
    }
}

impl State {
    /// A receiver that is gone or full is dropped, which closes it.
    fn tell(&mut self, event: &NetworkEvent) {
        self.listeners.retain(|listener| listener.try_send(event.clone()).is_ok());
    }
}
