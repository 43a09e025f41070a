//! The end, in order: no new work, connections, the address book, tasks, sockets.

use std::net::UdpSocket;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::{Instant, interval, timeout};
use tracing::warn;
use walytis_core::net::NetworkError;
use walytis_core::store::Durability;

use super::Driver;
use crate::start::socket;

/// How long connections get to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long the QUIC sockets get to drain after that. From RFC 9000 §10.2: three probe timeouts, under a second each.
const DRAIN: Duration = Duration::from_secs(3);

impl Driver {
    pub(super) async fn shut_down(mut self) {
        self.inputs.commands.close();
        self.inputs.verdicts.close();
        self.shared.acceptors.clear();
        self.subscribers.clear();
        let now = Instant::now();
        while let Some((_, dial)) = self.dials.pop_first() {
            self.fail(dial, NetworkError::Down, now);
        }
        // What waits in the queue is answered by dropping it.
        while self.inputs.commands.try_recv().is_ok() {}
        let sockets = self.shared.view.listen();
        if timeout(GOODBYE, self.disconnect()).await.is_err() {
            warn!("some connections did not close in time");
        }
        self.finish_book().await;
        let Self { swarm, tasks, shared, .. } = self;
        drop(swarm);
        tasks.end().await;
        let released = async {
            let mut tick = interval(Duration::from_millis(5));
            for (_, address) in sockets.iter().filter_map(socket).filter(|(udp, _)| *udp) {
                while UdpSocket::bind(address).is_err() {
                    tick.tick().await;
                }
            }
        };
        if timeout(DRAIN, released).await.is_err() {
            warn!("a QUIC socket is still draining");
        }
        shared.view.close();
    }

    async fn disconnect(&mut self) {
        let peers: Vec<_> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            // Gone already is as good.
            let _gone = self.swarm.disconnect_peer_id(peer);
        }
        while self.swarm.network_info().connection_counters().num_established() > 0 {
            let event = self.swarm.select_next_some().await;
            self.handle_event(event);
        }
    }

    async fn finish_book(&mut self) {
        let under_way = match self.writing.take() {
            Some(writing) => writing.await,
            None => Ok(()),
        };
        let batch = self.book.take_changes();
        let last = if batch.is_empty() { Ok(()) } else { self.store.commit(batch, Durability::Flushed).await };
        if let Err(error) = under_way.and(last) {
            warn!(%error, "the address book cannot be written");
        }
    }
}
