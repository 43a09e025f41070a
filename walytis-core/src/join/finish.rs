//! Finishing joins: keeps the members of unfinished ones connected until everything they had is here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::id::{Address, ChainId, PeerId};
use crate::net::Network;
use crate::node::Node;

/// First pause between two looks at unfinished joins; it doubles while nothing comes. Chosen: a person watches.
const LOOK_FIRST: Duration = Duration::from_secs(2);
/// Longest pause. Chosen: a member that comes back is found within a minute.
const LOOK_LAST: Duration = Duration::from_secs(60);

/// Runs until it is stopped. Replication brings the blocks; here only connections are made.
pub(super) async fn run(node: Node, network: Arc<dyn Network>, stop: CancellationToken) {
    let mut begun = node.joins();
    let mut pause = LOOK_FIRST;
    let mut had = BTreeMap::new();
    loop {
        let open = look(&node, &network, &stop).await;
        pause = if open == had { (pause * 2).min(LOOK_LAST) } else { LOOK_FIRST };
        let idle = open.is_empty();
        had = open;
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            // The node lives as long as its task.
            changed = begun.changed() => if changed.is_err() { return },
            () = sleep(pause), if !idle => {}
        }
    }
}

/// Forgets finished joins and connects to members of the others; returns how many blocks of each are here.
async fn look(node: &Node, network: &Arc<dyn Network>, stop: &CancellationToken) -> BTreeMap<ChainId, u64> {
    let mut open = BTreeMap::new();
    // A store that fails now is asked again when the next join begins, and at the next start.
    for (chain, record) in node.unfinished_joins().await.unwrap_or_default() {
        let Ok(handle) = node.chain_by_id(&chain) else { continue };
        let count = handle.core().summary().count;
        if count >= record.blocks_total {
            info!(?chain, blocks = count, "join finished");
            if let Err(error) = node.finish_join(&chain).await {
                debug!(?chain, %error, "a finished join could not be forgotten");
            }
            continue;
        }
        open.insert(chain, count);
        tokio::select! {
            biased;
            () = stop.cancelled() => return open,
            () = connect_all(network, record.members) => {}
        }
    }
    open
}

/// Connects to all members at once.
pub(super) async fn connect_all(network: &Arc<dyn Network>, members: Vec<(PeerId, Address)>) {
    let own = network.local_peer();
    let connected: Vec<_> = network.peers().into_iter().map(|status| status.peer).collect();
    let attempts = by_member(members).into_iter().filter(|(peer, _)| *peer != own && !connected.contains(peer));
    let attempts = attempts.map(|(peer, addresses)| async move {
        if let Err(error) = network.connect(Some(&peer), &addresses).await {
            debug!(?peer, %error, "a member of an unfinished join cannot be reached");
        }
    });
    futures::future::join_all(attempts).await;
}

/// Groups addresses by member.
pub(super) fn by_member(members: Vec<(PeerId, Address)>) -> BTreeMap<PeerId, Vec<Address>> {
    let mut grouped: BTreeMap<PeerId, Vec<Address>> = BTreeMap::new();
    for (peer, address) in members {
        grouped.entry(peer).or_default().push(address);
    }
    grouped
}
