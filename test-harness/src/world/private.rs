//! A node of a simulated world with identities and private ledgers on it.

#![expect(clippy::expect_used, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::AsyncReadExt as _;
use tokio::sync::Mutex;
use walytis_core::clock::{Clock, Entropy};
use walytis_core::id::{BlockId, ChainId};
use walytis_core::ledger::{Ledger as _, LedgerControl as _, LedgerError, LedgerRead as _, NewBlock};
use walytis_core::store::{BlobStore, KvStore};
use walytis_core::topic::Topic;
use walytis_identities::id::{Did, Role};
use walytis_identities::node::{
    Identities, IdentitiesConfig, IdentitiesError, IdentitiesParts, IdentityHandle, InviteOptions,
};
use walytis_offchain::inbox::{INBOX_LAYER, Inbox, InboxLedgers, InboxParts};
use walytis_offchain::{OffchainExchange, PrivateLedger, PrivateParts};

use super::node::{Crash, Disk, SimNode};

/// The layer of every private ledger.
const LAYER: &str = "notes";

/// A running node with identities.
#[derive(Debug)]
pub struct PrivateNode {
    base: SimNode,
    identities: Identities,
    exchange: OffchainExchange,
    ledgers: Arc<Ledgers>,
    inbox: Inbox,
}

/// The open private ledgers of a node, by layer.
#[derive(Debug)]
struct Ledgers {
    identities: Identities,
    exchange: OffchainExchange,
    store: Arc<dyn KvStore>,
    blobs: Arc<dyn BlobStore>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    open: Mutex<BTreeMap<(ChainId, &'static str), PrivateLedger>>,
}

impl Ledgers {
    async fn ledger(&self, did: &Did, layer: &'static str) -> Result<PrivateLedger, LedgerError> {
        self.ledger_on(did, &did.chain(), layer).await
    }

    async fn ledger_on(&self, did: &Did, chain: &ChainId, layer: &'static str) -> Result<PrivateLedger, LedgerError> {
        let mut open = self.open.lock().await;
        if let Some(ledger) = open.get(&(*chain, layer)) {
            return Ok(ledger.clone());
        }
        let identity = self.identities.identity_on(did, chain).expect("identity and chain are here");
        let parts = PrivateParts {
            chain: identity.chain().clone(),
            identity: Arc::new(identity),
            layer: layer.to_owned(),
            store: Arc::clone(&self.store),
            blobs: Arc::clone(&self.blobs),
            exchange: Some(self.exchange.clone()),
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(&self.entropy),
        };
        let ledger = PrivateLedger::open(parts).await?;
        open.insert((*chain, layer), ledger.clone());
        Ok(ledger)
    }
}

#[async_trait]
impl InboxLedgers for Ledgers {
    async fn inbox(&self, did: &Did) -> Result<PrivateLedger, LedgerError> {
        self.ledger(did, INBOX_LAYER).await
    }
}

impl PrivateNode {
    pub(super) async fn open(base: SimNode) -> Self {
        let parts = IdentitiesParts {
            node: base.node().clone(),
            store: base.store(),
            secrets: base.secrets(),
            network: base.network().clone(),
            clock: base.clock().clone(),
            entropy: base.entropy(),
            config: IdentitiesConfig::default(),
        };
        let identities = Identities::open(parts).await.expect("what a node left can be opened");
        let exchange = OffchainExchange::start(base.network().clone()).expect("a new network is up");
        let ledgers = Arc::new(Ledgers {
            identities: identities.clone(),
            exchange: exchange.clone(),
            store: base.store(),
            blobs: base.blobs(),
            clock: base.clock().clone(),
            entropy: base.entropy(),
            open: Mutex::default(),
        });
        let inbox = Inbox::start(InboxParts {
            identities: identities.clone(),
            ledgers: Arc::clone(&ledgers) as _,
            network: base.network().clone(),
            store: base.store(),
            clock: base.clock().clone(),
            entropy: base.entropy(),
        });
        let inbox = inbox.expect("a new network is up");
        let node = Self { base, identities, exchange, ledgers, inbox };
        for info in node.identities.list() {
            node.open_layers(&info.did).await;
        }
        node
    }

    /// The layers that a program opens by itself; should the store have failed, whoever reads opens them again.
    async fn open_layers(&self, did: &Did) {
        drop((self.ledgers.ledger(did, LAYER).await, self.ledgers.ledger(did, INBOX_LAYER).await));
    }

    /// Returns its inbox.
    pub const fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Returns the node beneath.
    pub const fn base(&self) -> &SimNode {
        &self.base
    }

    /// Returns its identities.
    pub const fn identities(&self) -> &Identities {
        &self.identities
    }

    /// Returns an identity that it controls or controlled.
    pub fn identity(&self, did: &Did) -> IdentityHandle {
        self.identities.identity(did).expect("the identity is here")
    }

    /// Creates an identity.
    pub async fn create(&self, name: &str) -> Did {
        let did = self.identities.create(name, self.base.name()).await.expect("an identity can be created").did;
        self.open_layers(&did).await;
        did
    }

    /// Issues a token for one more controller.
    pub async fn token(&self, did: &Did, role: Role) -> String {
        let options = InviteOptions { role, ..InviteOptions::default() };
        let invite = self.identities.invite(did, options).await.expect("an admin can invite");
        invite.token.to_text().to_string()
    }

    /// Joins with a token, once.
    ///
    /// # Errors
    /// [`IdentitiesError`].
    pub async fn join(&self, token: &str) -> Result<Did, IdentitiesError> {
        let did = self.identities.join(token, Some("joined"), self.base.name()).await?;
        self.open_layers(&did).await;
        Ok(did)
    }

    /// Joins with a token as another identity of this node, once.
    ///
    /// # Errors
    /// [`IdentitiesError`].
    pub async fn join_as(&self, token: &str, person: &Did) -> Result<Did, IdentitiesError> {
        let did = self.identities.join_as(token, Some("joined as another"), person).await?;
        self.open_layers(&did).await;
        Ok(did)
    }

    /// Says whether this node acts in an identity, as one of its own or by itself.
    pub fn acts_in(&self, did: &Did) -> bool {
        self.identities.show(did).is_ok_and(|info| info.role.is_some())
    }

    /// Returns the private ledger of an identity.
    pub async fn ledger(&self, did: &Did) -> PrivateLedger {
        self.try_ledger(did).await.expect("a private ledger can be opened")
    }

    /// Returns a private ledger of an identity on a chain that is bound to it.
    pub async fn ledger_on(&self, did: &Did, chain: &ChainId, layer: &'static str) -> PrivateLedger {
        self.ledgers.ledger_on(did, chain, layer).await.expect("a private ledger can be opened")
    }

    /// The same where the store may fail.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn try_ledger(&self, did: &Did) -> Result<PrivateLedger, LedgerError> {
        self.ledgers.ledger(did, LAYER).await
    }

    /// Adds a private block.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn add(&self, did: &Did, text: &str, topics: &[&str]) -> Result<BlockId, LedgerError> {
        let topics = topics.iter().map(|topic| Topic::user(topic)).collect::<Result<_, _>>()?;
        let block = NewBlock { content: text.to_owned().into(), topics };
        Ok(self.try_ledger(did).await?.add(block).await?.id)
    }

    /// Reads a private block.
    ///
    /// # Errors
    /// [`LedgerError`]; also while it is not here yet.
    pub async fn read(&self, did: &Did, id: &BlockId) -> Result<String, LedgerError> {
        let mut text = String::new();
        let mut reader = self.try_ledger(did).await?.content(id).await?;
        reader.read_to_string(&mut text).await.map_err(LedgerError::Read)?;
        Ok(text)
    }

    /// Returns how many peers it cut off because of what they sent of private contents.
    pub fn faults(&self) -> u64 {
        self.exchange.status().faults
    }

    /// Ends it as a user does.
    pub async fn stop(self) -> Disk {
        self.quiet().await;
        self.base.stop().await
    }

    /// Lets it die.
    pub async fn crash(self, crash: Crash) -> Disk {
        self.base.die(crash);
        // Only so that no task is left: the dead can neither write nor speak.
        self.quiet().await;
        self.base.crash(crash).await
    }

    async fn quiet(&self) {
        self.inbox.shutdown().await;
        for ledger in std::mem::take(&mut *self.ledgers.open.lock().await).into_values() {
            ledger.shutdown().await;
        }
        self.exchange.shutdown().await;
        self.identities.shutdown().await;
    }
}
