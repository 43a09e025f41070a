//! Private content between two devices of an identity.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use walytis_core::ledger::{Ledger as _, LedgerRead as _, NewBlock, SubscribeFrom, Subscription};
use walytis_core::topic::Topic;
use walytis_identities::id::Did;
use walytis_identities::node::{Identities, IdentitiesConfig, IdentitiesParts, InviteOptions};
use walytis_offchain::{OffchainExchange, PrivateLedger, PrivateParts};

use crate::bounds;
use crate::chains::report;
use crate::receiver;
use crate::stack::Stack;

/// Adds whose way to another device is timed.
const TIMED: usize = 300;

/// What stands on a stack for private content.
struct Private {
    identities: Identities,
    exchange: OffchainExchange,
}

async fn on(stack: &Stack) -> Private {
    let identities = Identities::open(IdentitiesParts {
        node: stack.node.clone(),
        store: Arc::clone(&stack.store),
        secrets: Arc::clone(&stack.secrets),
        network: Arc::clone(&stack.network),
        clock: Arc::clone(&stack.clock),
        entropy: Arc::clone(&stack.entropy),
        config: IdentitiesConfig::default(),
    });
    Private {
        identities: identities.await.unwrap(),
        exchange: OffchainExchange::start(Arc::clone(&stack.network)).unwrap(),
    }
}

impl Private {
    async fn ledger(&self, stack: &Stack, did: &Did) -> PrivateLedger {
        let handle = self.identities.identity(did).unwrap();
        let parts = PrivateParts {
            clock: Arc::clone(&stack.clock),
            chain: handle.chain().clone(),
            identity: Arc::new(handle),
            layer: "main".into(),
            store: Arc::clone(&stack.store),
            blobs: Arc::clone(&stack.blobs),
            exchange: Some(self.exchange.clone()),
            entropy: Arc::clone(&stack.entropy),
        };
        PrivateLedger::open(parts).await.unwrap()
    }

    async fn stop(self) {
        self.exchange.shutdown().await;
        self.identities.shutdown().await;
    }
}

/// One device of an identity, with its private ledger.
pub(crate) struct Device {
    stack: Stack,
    private: Private,
    did: Did,
    pub(crate) ledger: PrivateLedger,
}

impl Device {
    /// The first device of a new identity.
    pub(crate) async fn create(seed: u64) -> Self {
        let stack = Stack::start(seed).await;
        let private = on(&stack).await;
        let did = private.identities.create("bench", "a").await.unwrap().did;
        Self::with(stack, private, did).await
    }

    /// Another device of an identity.
    pub(crate) async fn join(seed: u64, invitation: &str) -> Self {
        let stack = Stack::start(seed).await;
        let private = on(&stack).await;
        let did = private.identities.join(invitation, Some("bench"), "b").await.unwrap();
        Self::with(stack, private, did).await
    }

    async fn with(stack: Stack, private: Private, did: Did) -> Self {
        let ledger = private.ledger(&stack, &did).await;
        Self { stack, private, did, ledger }
    }

    /// An invitation to its identity.
    pub(crate) async fn invite(&self) -> String {
        let invite = self.private.identities.invite(&self.did, InviteOptions::default()).await.unwrap();
        invite.token.to_text().to_string()
    }

    pub(crate) async fn stop(self) {
        let Self { stack, private, ledger, .. } = self;
        drop(ledger);
        private.stop().await;
        stack.stop().await;
    }
}

/// Adds a content at one device and returns how long it took until the other had read it whole.
async fn one(from: &Device, to: &Device, events: &mut Box<dyn Subscription>, content: Vec<u8>) -> Duration {
    let start = Instant::now();
    let len = content.len();
    let topics = vec![Topic::user("bench").unwrap()];
    let added = from.ledger.add(NewBlock { content: content.into(), topics }).await.unwrap();
    receiver::until(events, &added.id).await;
    let mut read = Vec::with_capacity(len);
    to.ledger.content(&added.id).await.unwrap().read_to_end(&mut read).await.unwrap();
    assert_eq!(read.len(), len);
    start.elapsed()
}

pub(crate) async fn add_to_readable() {
    let round_trip = bounds::loopback_round_trip().await;
    let flush = Duration::from_secs_f64(1.0 / bounds::flushed_commits_per_s(500).await);
    let from = Device::create(7).await;
    let to = Device::join(8, &from.invite().await).await;
    let mut events = to.ledger.subscribe(SubscribeFrom::Now).await.unwrap();
    // The first one waits until the session is open.
    one(&from, &to, &mut events, vec![0; 200]).await;
    let mut times = Vec::new();
    for n in 0..TIMED {
        times.push(one(&from, &to, &mut events, n.to_be_bytes().repeat(25)).await);
    }
    report("private", &mut times, round_trip + 2 * flush, "loopback and two flushes");
    drop(events);
    to.stop().await;
    from.stop().await;
}
