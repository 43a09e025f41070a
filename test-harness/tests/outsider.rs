//! A stranger who knows the DID and every id gets nothing over real libp2p; the same probe with a member's node key
//! does.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use tempfile::TempDir;
use test_harness::outsider::{Attempt, Haul, Keys, Probe, Target, forge_token, named_envelope};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;
use walytis_core::clock::{Clock, Entropy, SeededEntropy, SystemClock};
use walytis_core::id::BlockId;
use walytis_core::ledger::{
    Ledger as _, LedgerControl as _, LedgerEvent, LedgerRead as _, NewBlock, Query, SubscribeFrom,
};
use walytis_core::net::Network;
use walytis_core::node::{Node, NodeConfig, NodeParts};
use walytis_core::replica::Replicator;
use walytis_core::secret::Secret;
use walytis_core::store::{BlobStore, FileBlobs, KvStore, MemorySecrets, RocksStore, SecretStore};
use walytis_core::topic::Topic;
use walytis_identities::id::Did;
use walytis_identities::node::{Identities, IdentitiesConfig, IdentitiesParts, InviteOptions};
use walytis_identities::token::IdentityToken;
use walytis_ipfs::{Libp2pNode, NodeKey};
use walytis_offchain::{OffchainExchange, PrivateLedger, PrivateParts};

const LAYER: &str = "main";
const PATIENCE: Duration = Duration::from_secs(30);

/// A node of the real parts.
struct Member {
    store: Arc<dyn KvStore>,
    blobs: Arc<dyn BlobStore>,
    network: Arc<dyn Network>,
    replicator: Replicator,
    node: Node,
    joins: walytis_core::join::JoinService,
    identities: Identities,
    exchange: OffchainExchange,
    entropy: Arc<dyn Entropy>,
    _dir: TempDir,
}

impl Member {
    async fn start(number: u8) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(number.into()));
        let store: Arc<dyn KvStore> = Arc::new(RocksStore::open(dir.path().join("store")).await.unwrap());
        let blobs: Arc<dyn BlobStore> = Arc::new(FileBlobs::open(dir.path().join("blobs")).await.unwrap());
        let secrets: Arc<dyn SecretStore> = Arc::new(MemorySecrets::new());
        let (config, key) = (walytis_ipfs::NodeConfig::loopback(), NodeKey::from_seed(&node_seed(number)));
        let network = Libp2pNode::start(config, key, Arc::clone(&store), Arc::clone(&clock), &*entropy).await.unwrap();
        let network: Arc<dyn Network> = Arc::new(network);
        let replicator = Replicator::start(Arc::clone(&network), Arc::clone(&entropy)).unwrap();
        let node = Node::open(NodeParts {
            store: Arc::clone(&store),
            blobs: Arc::clone(&blobs),
            secrets: Arc::clone(&secrets),
            replication: Some(Arc::new(replicator.clone())),
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
            config: NodeConfig::default(),
        });
        let node = node.await.unwrap();
        let joins =
            walytis_core::join::JoinService::start(node.clone(), Arc::clone(&network), Arc::clone(&entropy)).unwrap();
        let identities = Identities::open(IdentitiesParts {
            node: node.clone(),
            store: Arc::clone(&store),
            secrets,
            network: Arc::clone(&network),
            clock,
            entropy: Arc::clone(&entropy),
            config: IdentitiesConfig::default(),
        });
        let identities = identities.await.unwrap();
        let exchange = OffchainExchange::start(Arc::clone(&network)).unwrap();
        Self { store, blobs, network, replicator, node, joins, identities, exchange, entropy, _dir: dir }
    }

    async fn ledger(&self, did: &Did) -> PrivateLedger {
        let handle = self.identities.identity(did).unwrap();
        let parts = PrivateParts {
            clock: Arc::new(SystemClock),
            chain: handle.chain().clone(),
            identity: Arc::new(handle),
            layer: LAYER.into(),
            store: Arc::clone(&self.store),
            blobs: Arc::clone(&self.blobs),
            exchange: Some(self.exchange.clone()),
            entropy: Arc::clone(&self.entropy),
        };
        PrivateLedger::open(parts).await.unwrap()
    }

    async fn stop(self) {
        self.joins.shutdown().await;
        self.exchange.shutdown().await;
        self.identities.shutdown().await;
        self.node.shutdown().await;
        self.replicator.shutdown().await;
        self.network.shutdown().await;
        self.store.close().await.unwrap();
    }
}

fn node_seed(number: u8) -> Secret<32> {
    Secret::new([number; 32])
}

/// Waits until a private block can be read.
async fn read(ledger: &PrivateLedger, id: &BlockId) -> Vec<u8> {
    let mut events = ledger.subscribe(SubscribeFrom::Name(id.to_string())).await.unwrap();
    loop {
        match events.next().await.unwrap().unwrap() {
            LedgerEvent::Block(info) if info.id == *id => break,
            _ => {}
        }
    }
    let mut bytes = Vec::new();
    ledger.content(id).await.unwrap().read_to_end(&mut bytes).await.unwrap();
    bytes
}

/// Every id that stands on the chain: of blocks, and of the envelopes that they name.
async fn every_id(member: &Member, did: &Did) -> Vec<[u8; 32]> {
    let handle = member.identities.identity(did).unwrap();
    let all = Query { include_overlays: true, ..Query::default() };
    let blocks: Vec<_> = handle.chain().query(all).await.unwrap().try_collect().await.unwrap();
    let mut ids = Vec::new();
    for info in blocks {
        let mut content = Vec::new();
        handle.chain().content(&info.id).await.unwrap().read_to_end(&mut content).await.unwrap();
        ids.push(*info.id.digest());
        ids.extend(named_envelope(&handle.chain().id(), &info.topics, &info.creator, &content));
    }
    ids
}

/// A and B share an identity with a small and a large private content. A stranger tries everything against A; then B's
/// node goes away and the same probe speaks with its key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_gets_nothing_and_the_same_probe_as_a_member_does() {
    let (a, b) = (Member::start(1).await, Member::start(2).await);
    let did = a.identities.create("family", "a").await.unwrap().did;
    let invite = a.identities.invite(&did, InviteOptions { uses: None, ..InviteOptions::default() }).await.unwrap();
    let token = invite.token.to_text();
    b.identities.join(&token, Some("family"), "b").await.unwrap();
    let (at_a, at_b) = (a.ledger(&did).await, b.ledger(&did).await);
    for content in [b"the spare key".to_vec(), vec![7; 300_000]] {
        let topics = vec![Topic::user("places").unwrap()];
        let block = NewBlock { content: content.clone().into(), topics };
        let added = at_a.add(block).await.unwrap().id;
        assert_eq!(timeout(PATIENCE, read(&at_b, &added)).await.unwrap(), content);
    }
    let ids = every_id(&a, &did).await;
    assert!(ids.len() >= 4, "at least two blocks and two envelopes");
    let address = a.network.addresses().first().unwrap().clone();
    let target = Target { address, did, ids: ids.clone(), layers: vec![LAYER.into()] };

    let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(3));
    let findings = Probe::new(target.clone(), Keys::Fresh, Arc::clone(&entropy)).all().await.unwrap();
    let received = (findings.blocks_received, findings.contents_received, findings.told);
    assert_eq!(received, (0, 0, 0), "{:#?}", findings.lines);
    assert_eq!(findings.attempts, Attempt::ALL.len() as u64);
    let said = |what: &str| findings.lines.iter().filter(|line| line.contains(what)).count();
    assert_eq!(said("proof shown: refused"), 5, "{:#?}", findings.lines);
    assert_eq!(said("challenge answered: refused") + said("challenge answered; refused"), 1, "{:#?}", findings.lines);
    assert_eq!(every_id(&a, &did).await, ids, "nothing that it pushed was stored");
    assert!(a.identities.list().iter().all(|identity| identity.controllers.len() == 2), "nobody was let in");

    // A forged token is the right one but for its seed.
    let (right, forged): (IdentityToken, IdentityToken) =
        (token.parse().unwrap(), forge_token(&token, &*entropy).unwrap().parse().unwrap());
    assert_ne!(right.seed, forged.seed);
    assert_eq!(IdentityToken { seed: right.seed.clone(), ..forged }, right);

    at_b.shutdown().await;
    b.stop().await;
    // Not told any envelope: it finds them in the blocks that it gets.
    let mut member = Probe::new(Target { ids: Vec::new(), ..target }, Keys::Of(node_seed(2)), entropy);
    let heads = gets(&mut member, Attempt::Heads, |haul| haul.blocks >= 4).await;
    assert_eq!(heads.envelopes.len(), 2, "{heads:?}");
    let contents = gets(&mut member, Attempt::Contents, |haul| haul.contents >= 2).await;
    assert_eq!(contents.blocks, 0, "{contents:?}");
    at_a.shutdown().await;
    a.stop().await;
}

/// Repeats an attempt until it has what it should: a member's first session may still be closing.
async fn gets(probe: &mut Probe, attempt: Attempt, enough: impl Fn(&Haul) -> bool) -> Haul {
    let mut last = None;
    for _ in 0..10 {
        match probe.attempt(attempt).await {
            Ok(haul) if enough(&haul) => return haul,
            other => last = Some(other),
        }
    }
    panic!("{attempt:?} as a member brought too little: {last:?}");
}
