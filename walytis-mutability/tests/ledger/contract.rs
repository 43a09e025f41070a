//! A mutable ledger keeps the contract of every ledger, over each kind of ledger below.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use test_harness::contract::ledger::{self, AnyLedger, LedgerFixture};
use walytis_core::block::Visibility;
use walytis_core::clock::{ManualClock, SeededEntropy};
use walytis_core::id::PeerId;
use walytis_core::ledger::{
    Ack, Author, BlockInfo, ContentReader, Ledger, LedgerControl, LedgerError, LedgerRead, LedgerStatus, NewBlock,
    Page, PageCursor, Query, SubscribeFrom, Subscriber, Subscription,
};
use walytis_core::node::{Node, NodeConfig, NodeParts};
use walytis_core::store::{KvStore, MemoryBlobs, MemorySecrets, MemoryStore};
use walytis_identities::id::{Did, Role};
use walytis_identities::identity::{MemoryGroup, MemoryIdentity};
use walytis_mutability::rights::PolicyRights;
use walytis_mutability::{MutableLedger, MutableParts};
use walytis_offchain::{PrivateLedger, PrivateParts};

use super::double::{Double, Kept};

/// A mutable ledger that ends together with what it stands on.
#[derive(Debug)]
struct Stack<L: Ledger + LedgerControl + 'static>(MutableLedger<L>);

#[async_trait]
impl<L: Ledger + LedgerControl + 'static> LedgerRead for Stack<L> {
    fn id(&self) -> walytis_core::id::ChainId {
        self.0.id()
    }
    async fn get(&self, id: &walytis_core::id::BlockId) -> Result<Option<BlockInfo>, LedgerError> {
        self.0.get(id).await
    }
    async fn content(&self, id: &walytis_core::id::BlockId) -> Result<ContentReader, LedgerError> {
        self.0.content(id).await
    }
    async fn content_range(
        &self,
        id: &walytis_core::id::BlockId,
        range: std::ops::Range<u64>,
    ) -> Result<ContentReader, LedgerError> {
        self.0.content_range(id, range).await
    }
    async fn count(&self) -> Result<u64, LedgerError> {
        self.0.count().await
    }
    async fn heads(&self) -> Result<Vec<walytis_core::id::BlockId>, LedgerError> {
        self.0.heads().await
    }
    async fn query(
        &self,
        query: Query,
    ) -> Result<futures::stream::BoxStream<'static, Result<BlockInfo, LedgerError>>, LedgerError> {
        self.0.query(query).await
    }
    async fn page(&self, query: Query) -> Result<Page, LedgerError> {
        self.0.page(query).await
    }
    fn cursor_behind(&self, query: &Query, block: &BlockInfo) -> PageCursor {
        self.0.cursor_behind(query, block)
    }
    async fn subscribe(&self, from: SubscribeFrom) -> Result<Box<dyn Subscription>, LedgerError> {
        self.0.subscribe(from).await
    }
    async fn subscribers(&self) -> Result<Vec<Subscriber>, LedgerError> {
        self.0.subscribers().await
    }
    async fn acknowledge(&self, name: &str, ack: Ack) -> Result<(), LedgerError> {
        self.0.acknowledge(name, ack).await
    }
    async fn unsubscribe(&self, name: &str) -> Result<(), LedgerError> {
        self.0.unsubscribe(name).await
    }
}

#[async_trait]
impl<L: Ledger + LedgerControl + 'static> Ledger for Stack<L> {
    async fn add(&self, block: NewBlock) -> Result<BlockInfo, LedgerError> {
        self.0.add(block).await
    }
    async fn add_many(&self, blocks: Vec<NewBlock>) -> Result<Vec<BlockInfo>, LedgerError> {
        self.0.add_many(blocks).await
    }
    async fn add_overlay(&self, blocks: Vec<NewBlock>) -> Result<Vec<BlockInfo>, LedgerError> {
        self.0.add_overlay(blocks).await
    }
    async fn author(&self) -> Result<Author, LedgerError> {
        self.0.author().await
    }
    async fn forget(&self, ids: &[walytis_core::id::BlockId]) -> Result<(), LedgerError> {
        self.0.forget(ids).await
    }
}

#[async_trait]
impl<L: Ledger + LedgerControl + 'static> LedgerControl for Stack<L> {
    async fn status(&self) -> Result<LedgerStatus, LedgerError> {
        self.0.status().await
    }
    async fn shutdown(&self) {
        self.0.shutdown().await;
        self.0.below().shutdown().await;
    }
    async fn delete(&self) -> Result<(), LedgerError> {
        self.0.delete().await?;
        self.0.below().delete().await
    }
}

async fn stack<L: Ledger + LedgerControl + 'static>(
    below: L,
    name: String,
    store: Arc<dyn KvStore>,
) -> Arc<dyn AnyLedger> {
    let rights = Arc::new(PolicyRights::author());
    let parts = MutableParts { below: Arc::new(below), name, rights, store };
    Arc::new(Stack(MutableLedger::open(parts).await.unwrap()))
}

struct InMemory {
    made: Mutex<(u32, Kept)>,
    store: Arc<MemoryStore>,
    can_forget: bool,
}

impl InMemory {
    async fn open(&self) -> Arc<dyn AnyLedger> {
        let (number, kept) = self.made.lock().unwrap().clone();
        let below = Double { can_forget: self.can_forget, ..kept.open("me") };
        stack(below, number.to_string(), self.store.clone()).await
    }
}

#[async_trait]
impl LedgerFixture for InMemory {
    async fn ledger(&self) -> Arc<dyn AnyLedger> {
        {
            let mut made = self.made.lock().unwrap();
            *made = (made.0 + 1, Kept::default());
        }
        self.open().await
    }

    async fn reopen(&self) -> Arc<dyn AnyLedger> {
        self.open().await
    }
}

#[tokio::test(start_paused = true)]
async fn over_a_ledger_in_memory() {
    for can_forget in [false, true] {
        ledger::run(&InMemory { made: Mutex::default(), store: Arc::default(), can_forget }).await;
    }
}

/// A node without a network on one memory.
pub struct Machine {
    pub store: Arc<MemoryStore>,
    pub blobs: Arc<MemoryBlobs>,
    pub secrets: Arc<MemorySecrets>,
}

impl Machine {
    pub fn new() -> Self {
        Self { store: Arc::default(), blobs: Arc::default(), secrets: Arc::default() }
    }

    pub async fn node(&self) -> Node {
        Node::open(NodeParts {
            store: self.store.clone(),
            blobs: self.blobs.clone(),
            secrets: self.secrets.clone(),
            replication: None,
            clock: Arc::new(ManualClock::new(1_000)),
            entropy: Arc::new(SeededEntropy::new(7)),
            config: NodeConfig::default(),
        })
        .await
        .unwrap()
    }
}

struct OnChains {
    machine: Machine,
    node: Mutex<Option<Node>>,
    made: Mutex<u32>,
}

impl OnChains {
    async fn open(&self) -> Arc<dyn AnyLedger> {
        let number = self.made.lock().unwrap().to_string();
        let node = self.node.lock().unwrap().clone().unwrap();
        let chain = match node.chain(&number) {
            Ok(chain) => chain,
            Err(_) => node.create_chain(&number, Visibility::Invited).await.unwrap(),
        };
        stack(chain, String::new(), self.machine.store.clone()).await
    }
}

#[async_trait]
impl LedgerFixture for OnChains {
    async fn ledger(&self) -> Arc<dyn AnyLedger> {
        *self.made.lock().unwrap() += 1;
        self.open().await
    }

    async fn reopen(&self) -> Arc<dyn AnyLedger> {
        let node = self.node.lock().unwrap().take().unwrap();
        node.shutdown().await;
        let node = self.machine.node().await;
        *self.node.lock().unwrap() = Some(node);
        self.open().await
    }
}

#[tokio::test(start_paused = true)]
async fn over_a_plain_chain() {
    let machine = Machine::new();
    let node = Mutex::new(Some(machine.node().await));
    ledger::run(&OnChains { machine, node, made: Mutex::default() }).await;
}

struct OnPrivate {
    machine: Machine,
    node: Node,
    identity: MemoryIdentity,
    made: Mutex<u32>,
}

impl OnPrivate {
    async fn open(&self) -> Arc<dyn AnyLedger> {
        let layer = self.made.lock().unwrap().to_string();
        let private = PrivateLedger::open(PrivateParts {
            clock: Arc::new(ManualClock::new(1_000)),
            identity: Arc::new(self.identity.clone()),
            chain: self.node.chain("group").unwrap(),
            layer: layer.clone(),
            store: self.machine.store.clone(),
            blobs: self.machine.blobs.clone(),
            exchange: None,
            entropy: Arc::new(SeededEntropy::new(9)),
        });
        stack(private.await.unwrap(), layer, self.machine.store.clone()).await
    }
}

#[async_trait]
impl LedgerFixture for OnPrivate {
    async fn ledger(&self) -> Arc<dyn AnyLedger> {
        *self.made.lock().unwrap() += 1;
        self.open().await
    }

    async fn reopen(&self) -> Arc<dyn AnyLedger> {
        self.open().await
    }
}

#[tokio::test(start_paused = true)]
async fn over_a_private_ledger() {
    let machine = Machine::new();
    let node = machine.node().await;
    let chain = node.create_chain("group", Visibility::Public).await.unwrap().id();
    let peer = PeerId::from_bytes(&[1; 38]).unwrap();
    let identity = MemoryGroup::new(Did(chain)).admit([1; 32], peer, Role::Admin);
    ledger::run(&OnPrivate { machine, node, identity, made: Mutex::default() }).await;
}
