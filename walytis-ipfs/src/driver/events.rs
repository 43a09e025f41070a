//! What the swarm reports.

use libp2p::core::ConnectedPoint;
use libp2p::swarm::{ConnectionId, DialError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, gossipsub, identify, mdns};
use rand_core::Rng as _;
use tokio::time::Instant;
use tracing::debug;
use walytis_core::id::Address;
use walytis_core::net::{GossipMessage, GossipMessageId};

use super::Driver;
use crate::behaviour::BehaviourEvent;
use crate::book::{ADDRESSES_MAX, is_near, is_plausible, is_tcp};
use crate::dial::Waiter;
use crate::key::to_core;
use crate::life::Life;

/// Listen addresses that a peer may name of which we look at. Chosen: many interfaces, each with QUIC and TCP.
const NAMED_ADDRESSES_MAX: usize = 32;

impl Driver {
    pub(super) fn handle_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.handle_behaviour(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.handle_established(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                self.shared.counters.connections_closed.add_one();
                if self.shared.view.ended(peer_id, connection_id) {
                    debug!(peer = %peer_id, ?cause, "peer down");
                    self.handle_gone(peer_id, Instant::now());
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                self.shared.counters.dial_failures.add_one();
                self.handle_dial_error(connection_id, &error);
            }
            SwarmEvent::IncomingConnectionError { error, .. } => {
                self.shared.counters.incoming_failures.add_one();
                debug!(%error, "incoming connection failed");
            }
            SwarmEvent::NewListenAddr { address, .. } => self.shared.view.listening(address),
            SwarmEvent::ExpiredListenAddr { address, .. } => self.shared.view.not_listening(&address),
            SwarmEvent::ListenerClosed { addresses, .. } => {
                addresses.iter().for_each(|address| self.shared.view.not_listening(address));
            }
            _ => {}
        }
    }

    fn handle_established(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        self.shared.counters.connections_opened.add_one();
        let (address, outbound) = match endpoint {
            ConnectedPoint::Dialer { address, .. } => (address, true),
            ConnectedPoint::Listener { send_back_addr, .. } => (send_back_addr, false),
        };
        let fits = |dial: &crate::dial::Dial| dial.owns(id) || dial.expected == Some(peer);
        let done: Vec<_> = self.dials.iter().filter(|(_, dial)| fits(dial)).map(|(key, _)| *key).collect();
        let dials: Vec<_> = done.iter().filter_map(|key| self.dials.remove(key)).collect();
        if outbound {
            // Whoever was merely found on the local network will be found again.
            let keep = dials.iter().any(|dial| !matches!(dial.waiter, Waiter::Found));
            self.book.reached(peer, address.clone(), keep, self.clock.now_ms());
        }
        self.book.up(&peer);
        if self.shared.view.opened(peer, id, address, outbound) {
            debug!(%peer, %address, outbound, "peer up");
        }
        dials.into_iter().for_each(|dial| self.succeed(dial, peer));
    }

    /// A peer that was killed and is back has connections that lead nowhere, and nobody who used them knows. All are closed,
    /// the new ones too: gossip tells its topics on a peer's first connection only. Then it is dialled at once.
    fn handle_life(&mut self, peer: PeerId, id: ConnectionId, life: Life) {
        if self.shared.view.lives(&peer, id, life) {
            debug!(%peer, "peer is back before its end was noticed");
            self.returned.insert(peer);
            // Gone already is as good.
            let _gone = self.swarm.disconnect_peer_id(peer);
        }
    }

    /// The system holds on to a TCP connection for a quarter of an hour after the other side has vanished. What it would not
    /// close at once either, because bytes wait in it, is used no more.
    fn handle_silence(&mut self, peer: PeerId, id: ConnectionId, error: &libp2p::ping::Failure) {
        let is_near = |address: &Multiaddr| is_tcp(address) && is_near(address);
        if matches!(error, libp2p::ping::Failure::Unsupported) || !self.shared.view.leads(&peer, id, is_near) {
            return;
        }
        debug!(%peer, %error, "peer is silent");
        self.swarm.behaviour_mut().streams.forget(&peer, id);
        // Gone already is as good.
        let _gone = self.swarm.close_connection(id);
        if self.shared.view.ended(peer, id) {
            self.handle_gone(peer, Instant::now());
        }
    }

    /// The last connection to a peer is gone.
    fn handle_gone(&mut self, peer: PeerId, now: Instant) {
        if self.returned.remove(&peer) && self.config.dial && self.config.reconnect {
            let addresses = self.book.addresses(&peer);
            self.begin(Some(peer), addresses, Waiter::Reconnect, now);
        } else {
            self.book.down(&peer, now, self.rng.next_u32());
        }
    }

    fn handle_dial_error(&mut self, connection: ConnectionId, error: &DialError) {
        let now = Instant::now();
        let owner = self.dials.iter().find(|(_, dial)| dial.owns(connection)).map(|(id, _)| *id);
        if let Some(id) = owner {
            if let Some(dial) = self.dials.get_mut(&id) {
                dial.failed(Some(connection), None, error, now);
            }
            self.finish_if_over(id, now);
        }
    }

    fn handle_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gossip(gossipsub::Event::Message { propagation_source, message_id, message }) => {
                self.handle_gossip(propagation_source, message_id, message);
            }
            BehaviourEvent::Identify(identify::Event::Received { connection_id, peer_id, info }) => {
                self.handle_named(peer_id, info.listen_addrs);
                if let Some(life) = Life::from_agent(&info.agent_version) {
                    self.handle_life(peer_id, connection_id, life);
                }
            }
            BehaviourEvent::Ping(libp2p::ping::Event { peer, result: Ok(rtt), .. }) => {
                self.shared.view.measured(&peer, rtt);
            }
            BehaviourEvent::Ping(libp2p::ping::Event { peer, connection, result: Err(error) }) => {
                self.handle_silence(peer, connection, &error);
            }
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => self.handle_found(found),
            _ => {}
        }
    }

    fn handle_gossip(&mut self, from: PeerId, id: gossipsub::MessageId, message: gossipsub::Message) {
        self.shared.counters.gossip_received.add_one();
        let mut delivered = false;
        if let Some((topic, senders)) = self.subscribers.get_mut(&message.topic) {
            let message = GossipMessage {
                id: GossipMessageId(id.0.clone()),
                topic: *topic,
                from: to_core(&from),
                data: message.data.into(),
            };
            senders.iter().for_each(|sender| delivered |= sender.try_send(message.clone()).is_ok());
        }
        if !delivered {
            // Nobody will judge it.
            self.shared.counters.gossip_dropped.add_one();
            let ignore = gossipsub::MessageAcceptance::Ignore;
            self.swarm.behaviour_mut().gossip.report_message_validation_result(&id, &from, ignore);
        }
    }

    fn handle_named(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let local = self.shared.view.is_local(&peer);
        let plausible = addresses.into_iter().take(NAMED_ADDRESSES_MAX).filter(|address| is_plausible(address, local));
        let plausible: Vec<_> = plausible.take(ADDRESSES_MAX).collect();
        let text = |address: &Multiaddr| Address::new(&address.to_string());
        self.shared.view.named(&peer, plausible.iter().filter_map(text).collect());
        self.book.hear(peer, plausible, false);
    }

    fn handle_found(&mut self, found: Vec<(PeerId, Multiaddr)>) {
        let now = Instant::now();
        for (peer, address) in found.into_iter().take(self.config.limits.mdns_peers) {
            if !is_plausible(&address, true) {
                continue;
            }
            self.book.hear(peer, [address], false);
            let pending = self.dials.values().any(|dial| dial.expected == Some(peer));
            let crowded = self.swarm.network_info().num_peers() >= self.config.limits.mdns_peers;
            if self.config.dial && !pending && !crowded && !self.shared.view.is_connected(&peer) {
                let addresses = self.book.addresses(&peer);
                self.begin(Some(peer), addresses, Waiter::Found, now);
            }
        }
    }
}
