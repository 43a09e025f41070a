//! Layers that others invent, on a node in memory.

use walytis_core::clock::{ManualClock, SeededEntropy};
use walytis_core::ledger::{Ledger as _, NewBlock};
use walytis_core::net::{MemoryHub, Network};
use walytis_core::node::{Node, NodeConfig, NodeParts};
use walytis_core::secret::Secret;
use walytis_core::store::{MemoryBlobs, MemorySecrets, MemoryStore};
use walytis_identities::node::{IdentitiesConfig, IdentitiesParts};

use super::*;

const BOUNDS: LayerBounds = LayerBounds { of_chain: 4, of_author: 3 };

/// What outlives a restart.
#[derive(Default)]
struct Disk {
    store: Arc<MemoryStore>,
    blobs: Arc<MemoryBlobs>,
    secrets: Arc<MemorySecrets>,
}

struct World {
    node: Node,
    network: Arc<dyn Network>,
    exchange: OffchainExchange,
    identities: Identities,
    ledgers: Ledgers,
}

impl World {
    async fn start(disk: &Disk) -> Self {
        let clock = Arc::new(ManualClock::new(1_000_000));
        let entropy = Arc::new(SeededEntropy::new(7));
        let node = Node::open(NodeParts {
            store: disk.store.clone(),
            blobs: disk.blobs.clone(),
            secrets: disk.secrets.clone(),
            replication: None,
            clock: clock.clone(),
            entropy: entropy.clone(),
            config: NodeConfig::default(),
        });
        let node = node.await.unwrap();
        let network: Arc<dyn Network> = Arc::new(MemoryHub::new().join(&Secret::new([1; 32])));
        let identities = Identities::open(IdentitiesParts {
            node: node.clone(),
            store: disk.store.clone(),
            secrets: disk.secrets.clone(),
            network: Arc::clone(&network),
            clock: clock.clone(),
            entropy: entropy.clone(),
            config: IdentitiesConfig::default(),
        });
        let identities = identities.await.unwrap();
        let exchange = OffchainExchange::start(Arc::clone(&network)).unwrap();
        let ledgers = Ledgers::new(LedgerParts {
            exchange: exchange.clone(),
            store: disk.store.clone(),
            blobs: disk.blobs.clone(),
            clock,
            entropy,
            bounds: BOUNDS,
        });
        ledgers.open_all(&identities).await;
        Self { node, network, exchange, identities, ledgers }
    }

    async fn stop(self) {
        self.ledgers.shutdown().await;
        self.exchange.shutdown().await;
        self.identities.shutdown().await;
        self.node.shutdown().await;
        self.network.shutdown().await;
    }

    async fn create(&self, name: &str) -> IdentityHandle {
        let did = self.identities.create(name, "device").await.unwrap().did;
        self.ledgers.watch(&self.identities, did).await.unwrap();
        self.identities.identity(&did).unwrap()
    }

    /// The layers of a chain that are open, once everything on it has been looked at.
    async fn open(&self, handle: &IdentityHandle) -> Vec<String> {
        let chain = handle.chain().core().id();
        let seen = async {
            loop {
                let subscribers = handle.chain().subscribers().await.unwrap();
                let watch = subscribers.iter().find(|subscriber| subscriber.name == LAYER_WATCH);
                if watch.is_some_and(|watch| watch.left == 0) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), seen).await.expect("the chain is looked at");
        let open = self.ledgers.open.lock().await;
        open.keys().filter(|(on, _)| *on == chain).map(|(_, layer)| layer.clone()).collect()
    }
}

/// Writes into layers as another device does: this node hears of the records alone.
async fn write(identity: Arc<dyn walytis_identities::identity::Identity>, handle: &IdentityHandle, layers: &[&str]) {
    let (store, blobs) = (Arc::new(MemoryStore::new()), Arc::new(MemoryBlobs::new()));
    for layer in layers {
        let ledger = PrivateLedger::open(PrivateParts {
            identity: Arc::clone(&identity),
            chain: handle.chain().clone(),
            layer: (*layer).to_owned(),
            exchange: None,
            store: store.clone(),
            blobs: blobs.clone(),
            clock: Arc::new(ManualClock::new(1_000_000)),
            entropy: Arc::new(SeededEntropy::new(8)),
        });
        let ledger = ledger.await.unwrap();
        ledger.add(NewBlock { content: "x".into(), topics: vec![] }).await.unwrap();
        ledger.shutdown().await;
    }
}

/// A member of one identity invents layers without end: its share of them is opened, everything else of every identity
/// opens as before, by name what was left out too, and so it is after a restart.
#[tokio::test(start_paused = true)]
async fn invented_layers_shut_out_nothing_else() {
    let disk = Disk::default();
    let world = World::start(&disk).await;
    let (a, b) = (world.create("a").await, world.create("b").await);
    let (a_did, b_did) = (a.did(), b.did());
    let invented: Vec<String> = (0..20).map(|n| format!("!{n:04}")).collect();
    write(Arc::new(a.clone()), &a, &invented.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let expected = ["!0000", "!0001", "!0002", "main"];
    assert_eq!(world.open(&a).await, expected);
    let rows = Layers::load(disk.store.clone(), a_did.chain(), BOUNDS).await.unwrap();
    assert_eq!(rows.names(), ["!0000", "!0001", "!0002"], "more is remembered than is opened");
    // By name: one that was left out, one without records, and one whose records come then.
    for layer in ["!0019", "empty", "later"] {
        world.ledgers.wanted(&a, layer).await.unwrap();
    }
    write(Arc::new(a.clone()), &a, &["later", "inbox", "!0020"]).await;
    assert_eq!(world.open(&a).await, ["!0000", "!0001", "!0002", "!0019", "empty", "inbox", "later", "main"]);
    world.ledgers.ledger(&b, INBOX_LAYER).await.unwrap();
    let c = world.create("c").await;
    assert_eq!(world.open(&c).await, ["main"]);
    drop((a, b, c));
    world.stop().await;

    let world = World::start(&disk).await;
    let (a, b) = (world.identities.identity(&a_did).unwrap(), world.identities.identity(&b_did).unwrap());
    write(Arc::new(a.clone()), &a, &["!0021"]).await;
    assert_eq!(world.open(&a).await, ["!0000", "!0001", "!0002", "!0019", "inbox", "later", "main"]);
    world.ledgers.ledger(&b, INBOX_LAYER).await.unwrap();
    let d = world.create("d").await;
    assert_eq!(world.open(&d).await, ["main"]);
    write(Arc::new(d.clone()), &d, &["own"]).await;
    assert_eq!(world.open(&d).await, ["main", "own"], "one identity uses up the share of another");
    drop((a, b, d));
    world.stop().await;
}
