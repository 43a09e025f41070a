//! Resolving identities of others: what their controllers say, checked from the genesis block up.

use std::collections::BTreeSet;

use walytis_core::id::{Address, PeerId};
use walytis_core::store::{Batch, Durability};

use super::error::{IdentitiesError, IdentitiesResult};
use super::exchange::{self, Received};
use super::runtime::Identities;
use super::task::OPS_AT_ONCE;
use super::wire_v1::Hello;
use super::{join, open, records};
use crate::id::{Did, OpId};
use crate::state::{AuthorityGraph, Inserted};

/// Foreign identities kept in memory; the lowest DID goes first and is read from the store again.
const FOREIGN_MAX: usize = 256;
/// Peers asked in one resolution. Chosen: several answers, bounded work.
const ASKED_MAX: usize = 8;
/// Exchanges in a row with one peer.
const ROUNDS_MAX: usize = 4;

/// What is known of an identity that this node has no device of.
#[derive(Debug)]
pub(super) struct Foreign {
    pub(super) graph: AuthorityGraph,
    next_op: u64,
}

/// What a resolution found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The identity.
    pub did: Did,
    /// As of these authority heads, ascending.
    pub heads: Vec<OpId>,
    /// How many nodes answered now; 0: what was known before, or an identity of this node.
    pub answers: usize,
}

impl Identities {
    /// Learns what can be learnt of an identity now: from peers at `addresses` and from connected ones. What was learnt
    /// before stays; a cache never goes back.
    ///
    /// # Errors
    /// [`IdentitiesError::Unresolved`] if nothing is known and nobody answered.
    pub async fn resolve(&self, did: &Did, addresses: &[Address]) -> IdentitiesResult<Resolved> {
        if let Ok(entry) = self.entry(did) {
            let heads = entry.handle.shared.known().graph.heads();
            return Ok(Resolved { did: *did, heads, answers: 0 });
        }
        let mut foreign = self.take_foreign(did).await?;
        let mut answers = 0;
        let mut reasons = Vec::new();
        for peer in self.peers_to_ask(addresses, &mut reasons).await {
            match self.ask(did, &peer, &mut foreign).await {
                Ok(()) => answers += 1,
                Err(reason) => reasons.push(reason),
            }
        }
        let Some(foreign) = foreign else {
            if reasons.is_empty() {
                reasons.push("nobody is connected".to_owned());
            }
            return Err(IdentitiesError::Unresolved { did: *did, reason: reasons.join("; ") });
        };
        let heads = foreign.graph.heads();
        let mut cache = self.foreign();
        cache.insert(*did, foreign);
        while cache.len() > FOREIGN_MAX {
            cache.pop_first();
        }
        Ok(Resolved { did: *did, heads, answers })
    }

    pub(super) fn foreign(&self) -> std::sync::MutexGuard<'_, std::collections::BTreeMap<Did, Foreign>> {
        self.inner.foreign.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn take_foreign(&self, did: &Did) -> IdentitiesResult<Option<Foreign>> {
        if let Some(known) = self.foreign().remove(did) {
            return Ok(Some(known));
        }
        let store = &*self.inner.tools.store;
        if store.get(&records::genesis(&did.chain())).await?.is_none() {
            return Ok(None);
        }
        let (graph, _, next_op) = open::load(store, did).await?;
        Ok(Some(Foreign { graph, next_op }))
    }

    async fn peers_to_ask(&self, addresses: &[Address], reasons: &mut Vec<String>) -> BTreeSet<PeerId> {
        let network = &self.inner.tools.network;
        let mut peers = BTreeSet::new();
        if !addresses.is_empty() {
            match network.connect(None, addresses).await {
                Ok(peer) => drop(peers.insert(peer)),
                Err(error) => reasons.push(error.to_string()),
            }
        }
        let connected = network.peers().into_iter().map(|status| status.peer);
        peers.extend(connected.take(ASKED_MAX));
        peers
    }

    /// Asks one peer; what it sends is checked before anything of it is kept.
    async fn ask(&self, did: &Did, peer: &PeerId, foreign: &mut Option<Foreign>) -> Result<(), String> {
        for _ in 0..ROUNDS_MAX {
            let heads = foreign.as_ref().map(|known| known.graph.named_heads()).unwrap_or_default();
            let hello = Hello { did: *did, heads, cards: Vec::new() };
            let received = exchange::ask(&*self.inner.tools.network, peer, &hello).await;
            let received = received.map_err(|error| format!("{peer}: {error}"))?;
            let more = received.more;
            let batch = take_in(did, received, foreign).await.map_err(|reason| format!("{peer}: {reason}"))?;
            if batch.is_empty() {
                return Ok(());
            }
            let stored = self.inner.tools.store.commit(batch, Durability::Buffered).await;
            stored.map_err(|error| error.to_string())?;
            if !more {
                return Ok(());
            }
        }
        Ok(())
    }
}

async fn take_in(did: &Did, received: Received, foreign: &mut Option<Foreign>) -> Result<Batch, &'static str> {
    let mut batch = Batch::new();
    if foreign.is_none() {
        let file = received.genesis.ok_or("it sent no genesis block")?;
        let genesis = join::verify_genesis(did, file.clone()).ok_or("it sent the genesis block of another chain")?;
        let graph = AuthorityGraph::from_genesis(&genesis).map_err(|_| "the chain is no identity's")?;
        batch.put(records::genesis(&did.chain()), file);
        *foreign = Some(Foreign { graph, next_op: 0 });
    }
    let Some(known) = foreign.as_mut() else { return Ok(batch) };
    for (count, op) in received.ops.into_iter().enumerate() {
        if count % OPS_AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
        // Unauthorised ops are passed over; the rest may still be right.
        let Ok(Inserted::New(ids)) = known.graph.insert(op) else { continue };
        for id in ids {
            if let Some(op) = known.graph.op(&id) {
                batch.put(records::op(&did.chain(), known.next_op), op.encode());
                known.next_op += 1;
            }
        }
    }
    Ok(batch)
}
