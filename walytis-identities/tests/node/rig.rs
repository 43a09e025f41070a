//! Whole nodes over a network in memory, under paused time and seeds.

use std::sync::Arc;
use std::time::Duration;

use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use walytis_core::chain::Append;
use walytis_core::clock::{Clock, Entropy, ManualClock, SeededEntropy};
use walytis_core::id::{BlockId, PeerId};
use walytis_core::ledger::{Content, LedgerRead};
use walytis_core::net::{MemoryHub, MemoryNetwork, Network};
use walytis_core::node::{Node, NodeConfig, NodeParts};
use walytis_core::replica::Replicator;
use walytis_core::secret::Secret;
use walytis_core::store::{Direction, KeyRange, KvStore, MemoryBlobs, MemoryStore, SecretStore};
use walytis_identities::card::DeviceCard;
use walytis_identities::claim::Claim;
use walytis_identities::crypto::DeviceKeys;
use walytis_identities::id::{Did, Role};
use walytis_identities::identity::Identity;
use walytis_identities::node::{Identities, IdentitiesConfig, IdentitiesParts, IdentityHandle, InviteOptions};
use walytis_identities::op::SignedOp;
use walytis_identities::state::AuthorityGraph;
use walytis_identities::vault::{Argon2Settings, KeyFile, KeyVault, Unlock};

/// How long a test waits, in paused time, for what must come about.
const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) struct Machine {
    hub: MemoryHub,
    seed: u8,
    starts: u64,
    config: IdentitiesConfig,
    pub(crate) store: Arc<MemoryStore>,
    blobs: Arc<MemoryBlobs>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) network: Arc<MemoryNetwork>,
    pub(crate) replicator: Replicator,
    pub(crate) vault: Arc<KeyVault>,
    pub(crate) node: Node,
    pub(crate) identities: Identities,
}

pub(crate) fn vault_key(seed: u8) -> Unlock {
    Unlock::KeyFile(KeyFile::from_key(Secret::new([seed; 32])))
}

impl Machine {
    pub(crate) async fn start(hub: &MemoryHub, seed: u8) -> Self {
        Self::start_with(hub, seed, IdentitiesConfig::default()).await
    }

    pub(crate) async fn start_with(hub: &MemoryHub, seed: u8, config: IdentitiesConfig) -> Self {
        let (hub, clock) = (hub.clone(), Arc::new(ManualClock::new(1_000_000)));
        let stopped = Stopped { hub, seed, starts: 0, config, store: Arc::default(), blobs: Arc::default(), clock };
        Self::open(stopped).await
    }

    async fn open(stopped: Stopped) -> Self {
        let Stopped { hub, seed, starts, config, store, blobs, clock } = stopped;
        let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(u64::from(seed) * 1_000 + starts));
        let network = Arc::new(hub.join(&Secret::new([seed; 32])));
        let kv: Arc<dyn KvStore> = store.clone();
        walytis_core::store::open_schema(&*kv).await.unwrap();
        let vault = KeyVault::new(kv.clone(), entropy.clone());
        if vault.exists().await.unwrap() {
            vault.unlock(vault_key(seed)).await.unwrap();
        } else {
            vault.create(vault_key(seed), Argon2Settings::default()).await.unwrap();
        }
        let vault = Arc::new(vault);
        let secrets: Arc<dyn SecretStore> = vault.clone();
        let net: Arc<dyn Network> = network.clone();
        let replicator = Replicator::start(net.clone(), entropy.clone()).unwrap();
        let parts = NodeParts {
            store: kv.clone(),
            blobs: blobs.clone(),
            secrets: secrets.clone(),
            replication: Some(Arc::new(replicator.clone())),
            clock: clock.clone() as Arc<dyn Clock>,
            entropy: entropy.clone(),
            config: NodeConfig::default(),
        };
        let node = Node::open(parts).await.unwrap();
        let identities = Identities::open(IdentitiesParts {
            node: node.clone(),
            store: kv,
            secrets,
            network: net,
            clock: clock.clone(),
            entropy,
            config,
        })
        .await
        .unwrap();
        Self { hub, seed, starts, config, store, blobs, clock, network, replicator, vault, node, identities }
    }

    pub(crate) async fn stop(self) -> Stopped {
        self.identities.shutdown().await;
        self.node.shutdown().await;
        self.network.shutdown().await;
        let store = Arc::new(self.store.snapshot());
        let Self { hub, seed, starts, config, blobs, clock, .. } = self;
        Stopped { hub, seed, starts, config, store, blobs, clock }
    }

    pub(crate) async fn restart(self) -> Self {
        self.stop().await.start().await
    }

    pub(crate) fn peer(&self) -> PeerId {
        self.network.local_peer()
    }

    pub(crate) fn identity(&self, did: &Did) -> IdentityHandle {
        self.identities.identity(did).unwrap()
    }

    pub(crate) async fn create(&self) -> Did {
        self.identities.create("home", &format!("device {}", self.seed)).await.unwrap().did
    }

    pub(crate) async fn token(&self, did: &Did, options: InviteOptions) -> String {
        self.identities.invite(did, options).await.unwrap().token.to_text()
    }

    pub(crate) async fn join(&self, token: &str) -> Result<Did, walytis_identities::node::IdentitiesError> {
        self.identities.join(token, Some("home"), &format!("device {}", self.seed)).await
    }

    /// Invites `other` once, in this role, and lets it join.
    pub(crate) async fn admit(&self, did: &Did, other: &Self, role: Role) {
        let token = self.token(did, InviteOptions { role, ..InviteOptions::default() }).await;
        assert_eq!(other.join(&token).await.unwrap(), *did);
    }

    /// Adds a record as overlays do.
    pub(crate) async fn write(&self, did: &Did, text: &str) -> BlockId {
        let identity = self.identity(did);
        let claim = Claim { author: identity.controller(), auth_heads: identity.auth_heads().await };
        let content = [claim.encode(), text.as_bytes().to_vec()].concat();
        let append =
            Append { content: Content::Bytes(content.into()), topics: vec![], signer: identity.device_signer() };
        identity.chain().append(append).await.unwrap().id
    }

    pub(crate) async fn has(&self, did: &Did, block: &BlockId) -> bool {
        self.identity(did).chain().get(block).await.unwrap().is_some()
    }

    pub(crate) async fn until_has(&self, did: &Did, block: &BlockId) {
        until(&format!("machine {} has {block}", self.seed), async || self.has(did, block).await).await;
    }

    pub(crate) fn names(&self, did: &Did) -> Vec<Option<String>> {
        let mut names: Vec<_> =
            self.identities.show(did).unwrap().controllers.into_iter().map(|controller| controller.name).collect();
        names.sort();
        names
    }

    /// Hands ops to this machine as a peer may that is at its address: every peer may.
    pub(crate) async fn receive(&self, did: &Did, ops: &[SignedOp]) {
        self.receive_all(did, ops, &[]).await;
    }

    /// As [`Self::receive`], with encoded cards.
    pub(crate) async fn receive_all(&self, did: &Did, ops: &[SignedOp], cards: &[Vec<u8>]) {
        let peer = self.hub.join(&Secret::new([200; 32]));
        peer.connect(None, &self.network.addresses()).await.unwrap();
        let mut stream = peer.open(&self.peer(), "/walytis/authority/1").await.unwrap();
        // Version, DID, no heads, nothing below, no cards; each op; done.
        let mut bytes = framed(&[&[0x01][..], did.chain().digest(), &[0, 0, 0]].concat());
        let ops = ops.iter().map(|op| (0x01, op.encode()));
        for (kind, encoded) in ops.chain(cards.iter().map(|card| (0x02, card.clone()))) {
            bytes.extend(framed(&[&[0x01, kind][..], &varint(encoded.len()), &encoded].concat()));
        }
        bytes.extend(framed(&[0x01, 0x03, 0x00]));
        let (mut reader, mut writer) = stream.as_mut().split();
        let send = async {
            writer.write_all(&bytes).await.unwrap();
            writer.close().await.unwrap();
        };
        let mut answer = Vec::new();
        let (_, read) = futures::join!(send, reader.read_to_end(&mut answer));
        read.unwrap();
        assert!(answer.ends_with(&framed(&[0x01, 0x03, 0x00])), "the exchange ran to its end");
        peer.shutdown().await;
    }

    /// Returns this device's keys, for what a dishonest device would do with them.
    pub(crate) async fn keys(&self, did: &Did) -> DeviceKeys {
        let keys = self.vault.get(&format!("identities/device/{}", did.chain())).await.unwrap().unwrap();
        DeviceKeys::decode(&keys).unwrap()
    }

    /// Returns the authority ops that this machine has put into or got as blocks, as a graph of its own.
    pub(crate) async fn graph(&self, did: &Did) -> AuthorityGraph {
        let chain = self.identity(did).chain().clone();
        let mut at = 0;
        let mut graph: Option<AuthorityGraph> = None;
        while let Ok(info) = chain.at(at).await {
            let block = chain.block(&info.id).await.unwrap().unwrap();
            match &mut graph {
                None => graph = Some(AuthorityGraph::from_genesis(&block).unwrap()),
                Some(graph) => {
                    if let Some(op) = block.inline().and_then(|content| SignedOp::decode(content).ok()) {
                        graph.insert(op).unwrap();
                    }
                }
            }
            at += 1;
        }
        graph.unwrap()
    }

    /// Returns the device cards that this machine has stored.
    pub(crate) async fn cards(&self, did: &Did) -> Vec<DeviceCard> {
        let graph = self.graph(did).await;
        let prefix = [&[0x10, 0x02][..], did.chain().digest()].concat();
        let stored = self.store.scan(KeyRange::prefix(&prefix), Direction::Forward, usize::MAX).await.unwrap();
        let verify = |card: &[u8]| {
            let keys = graph.device_keys(&DeviceCard::claimed_device(card).unwrap()).unwrap();
            DeviceCard::verify(card, &did.chain(), &keys).unwrap()
        };
        stored.iter().map(|(_, card)| verify(card)).collect()
    }

    pub(crate) async fn dump(&self) -> Vec<u8> {
        let everything = KeyRange { start: Vec::new(), end: None };
        let entries = self.store.scan(everything, Direction::Forward, usize::MAX).await.unwrap();
        entries.into_iter().flat_map(|(key, value)| [key.to_vec(), value.to_vec()].concat()).collect()
    }
}

pub(crate) fn framed(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat()
}

pub(crate) fn varint(mut rest: usize) -> Vec<u8> {
    let mut length = Vec::new();
    while rest >= 0x80 {
        length.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    length.push(u8::try_from(rest).unwrap());
    length
}

pub(crate) struct Stopped {
    hub: MemoryHub,
    seed: u8,
    starts: u64,
    config: IdentitiesConfig,
    store: Arc<MemoryStore>,
    blobs: Arc<MemoryBlobs>,
    clock: Arc<ManualClock>,
}

impl Stopped {
    pub(crate) fn store(&self) -> &MemoryStore {
        &self.store
    }

    /// The same machine with its data as it was at another time.
    pub(crate) fn with_store(self, store: MemoryStore) -> Self {
        Self { store: Arc::new(store), ..self }
    }

    pub(crate) async fn start(self) -> Machine {
        let starts = self.starts + 1;
        Machine::open(Self { starts, ..self }).await
    }
}

/// Waits, in paused time, until something holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < end, "did not come about: {what}");
        tokio::time::advance(Duration::from_millis(20)).await;
        tokio::task::yield_now().await;
    }
}

/// Lets everything run for a while in paused time.
pub(crate) async fn pass(duration: Duration) {
    tokio::time::sleep(duration).await;
}
