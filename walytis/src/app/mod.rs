//! The whole stack put together: the only place that knows both sides of every trait.

mod blobs;
mod bound;
mod chains;
mod changes;
mod config;
mod convert;
pub(crate) mod doctor;
mod entropy;
mod errors;
mod forget;
mod group;
mod handlers;
mod identities;
mod identity_views;
mod inbox;
mod layers;
mod log;
mod memberships;
mod private;
mod range;
mod resolve;
mod transfer;
mod vault;
mod views;

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use walytis_core::clock::{Clock, Entropy, SystemClock};
use walytis_core::id::Address;
use walytis_core::join::JoinService;
use walytis_core::ledger::ContentReader;
use walytis_core::net::{Network, PeerStatus};
use walytis_core::node::{ChainState, Listing, Node, NodeConfig, NodeParts};
use walytis_core::replica::Replicator;
use walytis_core::store::{BlobStore, FileBlobs, KvStore, RocksStore};
use walytis_identities::node::{Identities, IdentitiesConfig, IdentitiesParts};
use walytis_identities::vault::KeyVault;
use walytis_ipfs::{Libp2pNode, NodeKey};
use walytis_offchain::OffchainExchange;
use walytis_offchain::inbox::{Inbox, InboxParts};

pub use changes::LedgerName;
pub use config::{AppConfig, NetworkConfig};
pub use entropy::SystemEntropy;
pub use group::IdentityGroup;
pub use range::ByteRange;
pub(crate) use vault::read_passphrase;

use crate::failure::{Failure, Kind};
use crate::view;

/// A node with everything on it. One per data folder; whoever opens it holds the folder's lock.
#[derive(Debug)]
pub struct App {
    data_dir: PathBuf,
    started: Instant,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    store: Arc<dyn KvStore>,
    blobs: Arc<dyn BlobStore>,
    vault: Arc<KeyVault>,
    network: Arc<dyn Network>,
    replicator: Replicator,
    node: Node,
    joins: JoinService,
    identities: Identities,
    exchange: OffchainExchange,
    ledgers: private::Ledgers,
    /// Events that clients handle.
    desk: Arc<handlers::Desk>,
    inbox: Inbox,
    views: views::Views,
    networked: bool,
}

/// Content that is about to be read.
pub struct OpenContent {
    /// Id of its block.
    pub id: String,
    /// Bytes in all.
    pub size: u64,
    /// Which of them are read, if a part was asked for.
    pub part: Option<Range<u64>>,
    /// The bytes.
    pub reader: ContentReader,
}

/// What became of opening content.
#[derive(Debug)]
pub enum Opened {
    /// It can be read.
    Content(OpenContent),
    /// It has nothing of the part that was asked for.
    OutOfRange {
        /// Bytes in all.
        size: u64,
    },
}

impl fmt::Debug for OpenContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenContent({}, {} bytes)", self.id, self.size)
    }
}

impl App {
    /// Opens everything in the data folder, whose lock the caller holds, and starts what runs by itself.
    ///
    /// # Errors
    /// [`Failure`]; then nothing runs.
    pub async fn open(config: AppConfig) -> Result<Self, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let store: Arc<dyn KvStore> = Arc::new(RocksStore::open(config.data_dir.join("store")).await?);
        let blobs = FileBlobs::open(config.data_dir.join("blobs")).await;
        let blobs: Arc<dyn BlobStore> =
            Arc::new(blobs.map_err(|error| Failure::local(&error, "check the disk and permissions"))?);
        let vault = vault::open(&config, &store, &entropy).await?;
        let network = network(&config, &store, &clock, &entropy).await?;
        let parts = Parts { clock, entropy, store, blobs, vault, network };
        // Whatever was started before something failed must end again.
        match Self::assemble(&parts, &config).await {
            Ok(app) => Ok(app),
            Err(failure) => {
                parts.network.shutdown().await;
                if let Err(error) = parts.store.close().await {
                    tracing::warn!(%error, "the store did not close");
                }
                Err(failure)
            }
        }
    }

    async fn assemble(parts: &Parts, config: &AppConfig) -> Result<Self, Failure> {
        let Parts { clock, entropy, store, blobs, vault, network } = parts;
        let replicator = Replicator::start(Arc::clone(network), Arc::clone(entropy))?;
        let node = Node::open(NodeParts {
            store: Arc::clone(store),
            blobs: Arc::clone(blobs),
            secrets: Arc::clone(vault) as _,
            replication: Some(Arc::new(replicator.clone())),
            clock: Arc::clone(clock),
            entropy: Arc::clone(entropy),
            config: NodeConfig::default(),
        })
        .await?;
        let joins = JoinService::start(node.clone(), Arc::clone(network), Arc::clone(entropy))?;
        let identities = Identities::open(IdentitiesParts {
            node: node.clone(),
            store: Arc::clone(store),
            secrets: Arc::clone(vault) as _,
            network: Arc::clone(network),
            clock: Arc::clone(clock),
            entropy: Arc::clone(entropy),
            config: IdentitiesConfig::default(),
        })
        .await?;
        let limits = config.network.as_ref().map(|network| network.exchange).unwrap_or_default();
        let exchange = OffchainExchange::start_with(Arc::clone(network), limits)?;
        let ledgers = private::Ledgers::new(private::LedgerParts {
            exchange: exchange.clone(),
            store: Arc::clone(store),
            blobs: Arc::clone(blobs),
            clock: Arc::clone(clock),
            entropy: Arc::clone(entropy),
            bounds: layers::LayerBounds::default(),
        });
        ledgers.follow(&identities).await;
        ledgers.open_all(&identities).await;
        let inbox = Inbox::start(InboxParts {
            ledgers: Arc::new(inbox::Layers { ledgers: ledgers.clone(), identities: identities.clone() }),
            identities: identities.clone(),
            network: Arc::clone(network),
            store: Arc::clone(store),
            clock: Arc::clone(clock),
            entropy: Arc::clone(entropy),
        })?;
        Ok(Self {
            data_dir: config.data_dir.clone(),
            started: Instant::now(),
            clock: Arc::clone(clock),
            entropy: Arc::clone(entropy),
            store: Arc::clone(store),
            blobs: Arc::clone(blobs),
            vault: Arc::clone(vault),
            network: Arc::clone(network),
            replicator,
            node,
            joins,
            identities,
            exchange,
            ledgers,
            desk: Arc::default(),
            inbox,
            views: views::Views::new(Arc::clone(store)),
            networked: config.network.is_some(),
        })
    }

    /// Returns the source of randomness.
    pub fn entropy(&self) -> &dyn Entropy {
        &*self.entropy
    }

    /// Ends everything in order, from the top down; nothing runs when this returns. Idempotent.
    pub async fn shutdown(&self) {
        self.joins.shutdown().await;
        self.inbox.shutdown().await;
        self.views.shutdown().await;
        self.ledgers.shutdown().await;
        self.exchange.shutdown().await;
        self.identities.shutdown().await;
        self.node.shutdown().await;
        self.replicator.shutdown().await;
        self.network.shutdown().await;
        if let Err(error) = self.store.close().await {
            tracing::error!(%error, "the store did not close");
        }
    }

    /// Returns how the node is.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn status(&self) -> Result<view::Status, Failure> {
        let store = self.store.size_bytes().await?;
        let blobs = self.blobs.size_bytes().await.map_err(|error| Failure::local(&error, "check the disk"))?;
        Ok(view::Status {
            peer_id: self.network.local_peer().to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_s: self.started.elapsed().as_secs(),
            locked: self.vault.is_locked(),
            listen: self.network.addresses().iter().map(ToString::to_string).collect(),
            peers: self.network.peers().len(),
            chains: self.node.chains(Listing::Plain).len(),
            identities: self.identities.list().len(),
            store_bytes: store + blobs,
            damaged: self.damaged(),
        })
    }

    /// Returns the names of the chains that are damaged.
    fn damaged(&self) -> Vec<String> {
        let all = self.node.chains(Listing::All).into_iter();
        all.filter(|entry| matches!(entry.state, ChainState::Damaged { .. })).map(|entry| entry.name).collect()
    }

    /// Lists connected peers.
    ///
    /// # Errors
    /// [`Failure`].
    #[expect(clippy::unused_async, reason = "every operation of the node is called the same way")]
    pub async fn peers(&self) -> Result<Vec<view::Peer>, Failure> {
        let mut chains = Vec::new();
        for entry in self.node.chains(Listing::All) {
            let status = self.replicator.status(&entry.id).unwrap_or_default();
            chains.extend(status.peers.into_iter().filter(|peer| peer.in_sync).map(|peer| (peer.peer, entry.id)));
        }
        let view = |status: PeerStatus| view::Peer {
            chains: chains.iter().filter(|(peer, _)| *peer == status.peer).map(|(_, id)| id.to_string()).collect(),
            peer_id: status.peer.to_string(),
            addresses: status.addresses.iter().map(ToString::to_string).collect(),
            direction: if status.outbound { "outbound" } else { "inbound" }.into(),
            rtt_ms: status.rtt.map(|rtt| rtt.as_secs_f64() * 1000.0),
        };
        Ok(self.network.peers().into_iter().map(view).collect())
    }

    /// Connects to a peer; returns its id.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn connect(&self, address: &str) -> Result<String, Failure> {
        self.need_network()?;
        let address = Address::new(address)
            .ok_or_else(|| Failure::usage("not an address", "write e.g. /ip4/192.0.2.1/udp/4001/quic-v1"))?;
        Ok(self.network.connect(None, &[address]).await?.to_string())
    }

    /// Fails where the node has no network.
    fn need_network(&self) -> Result<(), Failure> {
        if self.networked {
            return Ok(());
        }
        Err(Failure::new(
            Kind::Failed,
            "this needs other nodes, and no daemon runs",
            "start the daemon: walytis daemon",
        ))
    }
}

/// What everything else is built on.
struct Parts {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    store: Arc<dyn KvStore>,
    blobs: Arc<dyn BlobStore>,
    vault: Arc<KeyVault>,
    network: Arc<dyn Network>,
}

/// Starts the network, or one without sockets.
async fn network(
    config: &AppConfig,
    store: &Arc<dyn KvStore>,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
) -> Result<Arc<dyn Network>, Failure> {
    let key = NodeKey::load_or_create(&config.data_dir.join("node.key"), &**entropy)
        .map_err(|error| Failure::local(&error, "restore the file from a backup, or remove it to get a new peer id"))?;
    let address = |text: &String| {
        Address::new(text).ok_or_else(|| Failure::usage(format!("not an address: {text}"), "see --help for examples"))
    };
    let settings = match &config.network {
        None => walytis_ipfs::NodeConfig::offline(),
        Some(wanted) => {
            let mut settings = walytis_ipfs::NodeConfig { mdns: wanted.mdns, ..walytis_ipfs::NodeConfig::default() };
            if !wanted.listen.is_empty() {
                settings.listen = wanted.listen.iter().map(address).collect::<Result<_, _>>()?;
            }
            settings.bootstrap = wanted.bootstrap.iter().map(address).collect::<Result<_, _>>()?;
            settings
        }
    };
    let node = Libp2pNode::start(settings, key, Arc::clone(store), Arc::clone(clock), &**entropy).await;
    Ok(Arc::new(
        node.map_err(|error| Failure::local(&error, "choose other addresses with --listen, or port 0 for a free one"))?,
    ))
}
