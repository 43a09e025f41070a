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
use crate::large;
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

/// Two devices of one identity and its private ledger at each.
struct Pair {
    stacks: [Stack; 2],
    on_them: [Private; 2],
    from: PrivateLedger,
    to: PrivateLedger,
    events: Box<dyn Subscription>,
}

impl Pair {
    async fn start(seed: u64) -> Self {
        let (a, b) = (Stack::start(seed).await, Stack::start(seed + 1).await);
        let (at_a, at_b) = (on(&a).await, on(&b).await);
        let did = at_a.identities.create("bench", "a").await.unwrap().did;
        let invite = at_a.identities.invite(&did, InviteOptions::default()).await.unwrap();
        at_b.identities.join(&invite.token.to_text(), Some("bench"), "b").await.unwrap();
        let (from, to) = (at_a.ledger(&a, &did).await, at_b.ledger(&b, &did).await);
        let events = to.subscribe(SubscribeFrom::Now).await.unwrap();
        let mut pair = Self { stacks: [a, b], on_them: [at_a, at_b], from, to, events };
        // The first one waits until the session is open.
        pair.one(vec![0; 200]).await;
        pair
    }

    /// Adds a content at one device and returns how long it took until the other had read it whole.
    async fn one(&mut self, content: Vec<u8>) -> Duration {
        let start = Instant::now();
        let len = content.len();
        let topics = vec![Topic::user("bench").unwrap()];
        let added = self.from.add(NewBlock { content: content.into(), topics }).await.unwrap();
        large::until(&mut self.events, &added.id).await;
        let mut read = Vec::with_capacity(len);
        self.to.content(&added.id).await.unwrap().read_to_end(&mut read).await.unwrap();
        assert_eq!(read.len(), len);
        start.elapsed()
    }

    async fn stop(self) {
        let Self { stacks: [a, b], on_them: [at_a, at_b], from, to, events } = self;
        drop((from, to, events));
        at_b.stop().await;
        at_a.stop().await;
        b.stop().await;
        a.stop().await;
    }
}

pub(crate) async fn add_to_readable() {
    let round_trip = bounds::loopback_round_trip().await;
    let flush = Duration::from_secs_f64(1.0 / bounds::flushed_commits_per_s(500).await);
    let mut pair = Pair::start(7).await;
    let mut times = Vec::new();
    for n in 0..TIMED {
        times.push(pair.one(n.to_be_bytes().repeat(25)).await);
    }
    report("private", &mut times, round_trip + 2 * flush, "loopback and two flushes");
    pair.stop().await;
}

pub(crate) async fn large() {
    let mut pair = Pair::start(9).await;
    large::private(&pair.from, &pair.to, &mut pair.events).await;
    pair.stop().await;
}
