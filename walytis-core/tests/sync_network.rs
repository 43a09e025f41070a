//! The network in memory keeps the network contract.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use async_trait::async_trait;
use test_harness::contract::network::{NetworkFixture, network_contract};
use walytis_core::net::{MemoryHub, Network};
use walytis_core::secret::Secret;

struct Fixture {
    hub: MemoryHub,
    next: AtomicU8,
}

#[async_trait]
impl NetworkFixture for Fixture {
    async fn network(&self) -> Arc<dyn Network> {
        Arc::new(self.hub.join(&Secret::new([self.next.fetch_add(1, Ordering::Relaxed); 32])))
    }
}

#[tokio::test(start_paused = true)]
async fn memory_network_keeps_the_contract() {
    network_contract(&Fixture { hub: MemoryHub::new(), next: AtomicU8::new(1) }).await;
}

#[tokio::test(start_paused = true)]
async fn cut_links_reset_their_streams_and_heal() {
    use futures::io::AsyncReadExt as _;
    let hub = MemoryHub::new();
    let (a, b) = (hub.join(&Secret::new([1; 32])), hub.join(&Secret::new([2; 32])));
    let _incoming = b.accept("/x/1").unwrap();
    a.connect(None, &b.addresses()).await.unwrap();
    let mut stream = a.open(&b.local_peer(), "/x/1").await.unwrap();
    hub.cut(&a.local_peer(), &b.local_peer());
    assert!(stream.read(&mut [0]).await.is_err());
    assert!(a.peers().is_empty() && a.open(&b.local_peer(), "/x/1").await.is_err());
    hub.heal(&a.local_peer(), &b.local_peer());
    assert_eq!(a.peers().len(), 1, "a healed link comes back by itself");
}
