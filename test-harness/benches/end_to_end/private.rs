//! Private content between two devices of an identity.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use walytis_core::ledger::{Ledger as _, LedgerEvent, LedgerRead as _, NewBlock, SubscribeFrom};
use walytis_core::topic::Topic;
use walytis_identities::id::Did;
use walytis_identities::node::{Identities, IdentitiesConfig, IdentitiesParts, InviteOptions};
use walytis_offchain::{OffchainExchange, PrivateLedger, PrivateParts};

use crate::bounds;
use crate::chains::report;
use crate::stack::Stack;

/// Adds whose way to another device is timed.
const TIMED: usize = 300;
/// Bytes of the large content.
const LARGE: usize = 64 * 1024 * 1024;

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

pub(crate) async fn add_to_readable() {
    let round_trip = bounds::loopback_round_trip().await;
    let flush = Duration::from_secs_f64(1.0 / bounds::flushed_commits_per_s(500).await);
    let (a, b) = (Stack::start(7).await, Stack::start(8).await);
    let (at_a, at_b) = (on(&a).await, on(&b).await);
    let did = at_a.identities.create("bench", "a").await.unwrap().did;
    let invite = at_a.identities.invite(&did, InviteOptions::default()).await.unwrap();
    at_b.identities.join(&invite.token.to_text(), Some("bench"), "b").await.unwrap();
    let (from, to) = (at_a.ledger(&a, &did).await, at_b.ledger(&b, &did).await);
    let mut events = to.subscribe(SubscribeFrom::Now).await.unwrap();
    // The first one waits until the session is open.
    one(&from, &to, &mut events, vec![0; 200]).await;
    let mut times = Vec::new();
    for n in 0..TIMED {
        times.push(one(&from, &to, &mut events, n.to_be_bytes().repeat(25)).await);
    }
    report("private", &mut times, round_trip + 2 * flush, "loopback and two flushes");
    let elapsed = one(&from, &to, &mut events, vec![7; LARGE]).await;
    let rate = LARGE as f64 / elapsed.as_secs_f64() / 1e6;
    println!(
        "{{\"bench\":\"private_large\",\"bytes\":{LARGE},\"seconds\":{:.2},\"mb_per_s\":{rate:.0}}}",
        elapsed.as_secs_f64()
    );
    drop((from, to, events));
    at_b.stop().await;
    at_a.stop().await;
    b.stop().await;
    a.stop().await;
}

/// Adds a content at one device and returns how long it took until the other had read it whole.
async fn one(
    from: &PrivateLedger,
    to: &PrivateLedger,
    events: &mut Box<dyn walytis_core::ledger::Subscription>,
    content: Vec<u8>,
) -> Duration {
    let start = Instant::now();
    let len = content.len();
    let topics = vec![Topic::user("bench").unwrap()];
    let added = from.add(NewBlock { content: content.into(), topics }).await.unwrap();
    loop {
        let event = events.next().await.unwrap().unwrap();
        if matches!(&event, LedgerEvent::Block(info) if info.id == added.id) {
            break;
        }
    }
    let mut read = Vec::with_capacity(len);
    to.content(&added.id).await.unwrap().read_to_end(&mut read).await.unwrap();
    assert_eq!(read.len(), len);
    start.elapsed()
}
