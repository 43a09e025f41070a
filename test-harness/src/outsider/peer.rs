//! One connection of a bare peer: a libp2p node without anything on it.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::mpsc;
use walytis_core::clock::{Entropy, SystemClock};
use walytis_core::id::{Address, PeerId};
use walytis_core::net::{IncomingStream, Network as _, NetworkError, Protocol, Stream};
use walytis_core::replica::CATCH_UP;
use walytis_core::store::MemoryStore;
use walytis_ipfs::{Libp2pNode, NodeConfig, NodeKey, StartError};

/// How long the connection may take. Chosen: far more than loopback needs on a busy machine.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// There was no connection, so that nothing could be tried.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NoConnection {
    /// The own node did not start.
    #[error("the own node did not start")]
    Start(#[source] StartError),
    /// The other node could not be reached.
    #[error("the node could not be reached")]
    Network(#[source] NetworkError),
}

/// A connected bare peer.
#[derive(Debug)]
pub(super) struct BarePeer {
    pub(super) network: Libp2pNode,
    pub(super) victim: PeerId,
    catch_up: mpsc::Receiver<IncomingStream>,
}

impl BarePeer {
    pub(super) async fn connect(key: NodeKey, address: &Address, entropy: &dyn Entropy) -> Result<Self, NoConnection> {
        let config = NodeConfig { reconnect: false, connect_deadline: CONNECT_WITHIN, ..NodeConfig::loopback() };
        let store = Arc::new(MemoryStore::new());
        let network = Libp2pNode::start(config, key, store, Arc::new(SystemClock), entropy).await;
        let network = network.map_err(NoConnection::Start)?;
        let connected = async {
            let catch_up = network.accept(CATCH_UP)?;
            Ok((catch_up, network.connect(None, std::slice::from_ref(address)).await?))
        };
        match connected.await {
            Ok((catch_up, victim)) => Ok(Self { network, victim, catch_up }),
            Err(error) => {
                network.shutdown().await;
                Err(NoConnection::Network(error))
            }
        }
    }

    pub(super) async fn open(&self, protocol: Protocol) -> Option<Box<dyn Stream>> {
        self.network.open(&self.victim, protocol).await.ok()
    }

    /// Returns the catch-up stream, and whether this side opened it: the one of lower id does.
    pub(super) async fn catch_up(&mut self) -> Option<(Box<dyn Stream>, bool)> {
        if self.network.local_peer() < self.victim {
            return Some((self.open(CATCH_UP).await?, true));
        }
        Some((self.catch_up.recv().await?.stream, false))
    }
}
