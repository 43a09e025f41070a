//! What a node can be told.

use std::time::Duration;

use libp2p::Multiaddr;
use walytis_core::id::Address;

use crate::error::StartError;

/// Bounds on connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections in both directions together. Default 512. Chosen: small groups need dozens.
    pub total: u32,
    /// Connections that others opened. Default 384, so that others cannot use up what we need to dial.
    pub incoming: u32,
    /// Connections to one peer. Default 8: QUIC and TCP, dialled by both sides at once, twice.
    pub per_peer: u32,
    /// Handshakes that others began and have not finished. Default 64.
    pub incoming_handshakes: u32,
    /// Peers found by mDNS that are dialled. Default 64.
    pub mdns_peers: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { total: 512, incoming: 384, per_peer: 8, incoming_handshakes: 64, mdns_peers: 64 }
    }
}

/// The settings of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Where to listen, as multiaddrs; each must be free. Default: all interfaces, QUIC and TCP, IPv4, ports chosen by
    /// the system.
    pub listen: Vec<Address>,
    /// Peers dialled at start and kept, as multiaddrs with or without `/p2p/`. Default: none.
    pub bootstrap: Vec<Address>,
    /// Whether peers on the local network are looked for. Default: yes.
    pub mdns: bool,
    /// Whether anything is dialled and peers are reconnected. Default: yes.
    pub dial: bool,
    /// Whether peers of the address book are reconnected when a connection is lost. Default: yes.
    pub reconnect: bool,
    /// Bounds on connections.
    pub limits: ConnectionLimits,
    /// How long a connection that carries no stream stays open. Default one hour: an idle connection costs a ping now
    /// and then, opening one costs a handshake before the first block travels.
    pub idle_timeout: Duration,
    /// How long `connect` and `open` try. Default 15 s.
    pub connect_deadline: Duration,
    /// How long a peer on this machine or its network may leave pings over TCP unanswered until it counts as gone, about.
    /// Default 40 s. Over QUIC that takes 10 s; over TCP from further away the system decides, for a slow line may be busy
    /// that long.
    pub silence_max: Duration,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            listen: addresses(&["/ip4/0.0.0.0/udp/0/quic-v1", "/ip4/0.0.0.0/tcp/0"]),
            bootstrap: Vec::new(),
            mdns: true,
            dial: true,
            reconnect: true,
            limits: ConnectionLimits::default(),
            idle_timeout: Duration::from_secs(3600),
            connect_deadline: Duration::from_secs(15),
            silence_max: Duration::from_secs(40),
        }
    }
}

impl NodeConfig {
    /// Returns a node that listens nowhere, dials nobody and looks for nobody.
    pub fn offline() -> Self {
        Self { listen: Vec::new(), mdns: false, dial: false, reconnect: false, ..Self::default() }
    }

    /// Returns a node that only this machine can reach: loopback, QUIC and TCP, ports chosen by the system, no mDNS.
    pub fn loopback() -> Self {
        Self {
            listen: addresses(&["/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"]),
            mdns: false,
            ..Self::default()
        }
    }

    pub(crate) fn listen_multiaddrs(&self) -> Result<Vec<Multiaddr>, StartError> {
        self.listen.iter().map(parse).collect()
    }

    pub(crate) fn bootstrap_multiaddrs(&self) -> Result<Vec<Multiaddr>, StartError> {
        self.bootstrap.iter().map(parse).collect()
    }
}

fn parse(address: &Address) -> Result<Multiaddr, StartError> {
    address.as_str().parse().map_err(|_| StartError::BadAddress { address: address.clone() })
}

fn addresses(texts: &[&str]) -> Vec<Address> {
    texts.iter().filter_map(|text| Address::new(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_listen_where_they_say() {
        assert_eq!(NodeConfig::default().listen.len(), 2);
        assert!(NodeConfig::loopback().listen.iter().all(|address| address.as_str().starts_with("/ip4/127.0.0.1/")));
        let offline = NodeConfig::offline();
        assert!(offline.listen.is_empty() && !offline.mdns && !offline.dial);
    }
}
