//! What is known of an identity that this node has no device of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::time::Instant;
use walytis_core::id::PeerId;
use walytis_core::net::Network;
use walytis_core::store::Batch;

use super::super::nested::{self, Candidates};
use super::super::records;
use super::super::rows::Rows;
use super::super::task::OPS_AT_ONCE;
use super::ask::Answer;
use super::cache::Weigh;
use super::keep::Shelf;
use super::rules::{AnswerFault, NoAnswer};
use super::shelf_v1::{self, ForeignRecord};
use crate::card::{PublicCard, peer_proof_message};
use crate::id::{ControllerId, DeviceId, Did, OpId};
use crate::op::SignedOp;
use crate::state::AuthorityGraph;

/// How exact the time of last use is in the store: each change is a write.
const USED_STEP_MS: i64 = 60 * 60 * 1000;

/// A resolved identity; everybody who works with it holds the same one, and it only grows.
#[derive(Clone, Debug)]
pub(in crate::node) struct Foreign(Arc<Held>);

#[derive(Debug)]
struct Held {
    known: Mutex<Known>,
    /// As in [`Known`]; read without waiting for whoever works with the graph.
    bytes: AtomicU64,
}

#[derive(Debug)]
pub(in crate::node) struct Known {
    pub(in crate::node) graph: AuthorityGraph,
    genesis: Bytes,
    /// Encoded genesis blocks and ops, those included that wait for others.
    bytes: u64,
    /// Where its ops are stored.
    rows: Rows,
    /// What the store says of it; nothing while it is in memory only.
    record: Option<ForeignRecord>,
    /// By device, with the card's counter; not stored.
    peers: BTreeMap<DeviceId, (u64, PeerId)>,
    /// When somebody last told what it knows.
    heard_at: Option<Instant>,
}

impl Weigh for Foreign {
    fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl Foreign {
    /// What was stored.
    pub(super) fn stored(graph: AuthorityGraph, genesis: Bytes, rows: Rows, record: ForeignRecord) -> Self {
        Self::new(graph, genesis, record.bytes, rows, Some(record))
    }

    fn new(graph: AuthorityGraph, genesis: Bytes, bytes: u64, rows: Rows, record: Option<ForeignRecord>) -> Self {
        let known = Known { graph, genesis, bytes, rows, record, peers: BTreeMap::new(), heard_at: None };
        Self(Arc::new(Held { known: Mutex::new(known), bytes: AtomicU64::new(bytes) }))
    }

    /// Checks the genesis block of an answer against the DID; it is in memory only.
    pub(super) fn begin(did: &Did, answer: &Answer) -> Result<Self, AnswerFault> {
        let genesis = nested::candidates(answer.genesis.clone()).remove(did).ok_or(AnswerFault::Genesis)?;
        let graph = AuthorityGraph::from_genesis(&genesis).map_err(|_| AnswerFault::Genesis)?;
        let file = genesis.file().clone();
        let bytes = file.len() as u64;
        Ok(Self::new(graph, file, bytes, Rows::foreign(), None))
    }

    /// For short sections.
    pub(in crate::node) fn known(&self) -> MutexGuard<'_, Known> {
        // A poisoned graph is still whole: it takes in one finished op at a time.
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether the user asked for it, or deals with it.
    pub(super) fn is_asked(&self) -> bool {
        self.known().record.is_some_and(|record| record.asked)
    }

    pub(super) fn is_stored(&self) -> bool {
        self.known().record.is_some()
    }

    /// Takes in an answer, op by op; what was right before the first fault stays, for each op certifies itself. Returns
    /// whether something was new. More than `bytes_max` in all is too much.
    pub(super) async fn take_in(
        &self,
        answer: Answer,
        network: &dyn Network,
        shelf: &Shelf<'_>,
        bytes_max: u64,
    ) -> Result<bool, NoAnswer> {
        let candidates = nested::candidates(answer.genesis);
        let mut fault = None;
        let mut fresh = false;
        let mut ops = answer.ops.into_iter();
        while fault.is_none() && !ops.as_slice().is_empty() {
            let mut batch = Batch::new();
            {
                let mut known = self.known();
                let mut take = |op| known.take_in_op(op, &candidates, bytes_max, &mut batch).err();
                fault = ops.by_ref().take(OPS_AT_ONCE).find_map(&mut take);
                self.0.bytes.store(known.bytes, Ordering::Relaxed);
            }
            fresh |= !batch.is_empty();
            shelf.add(self, batch).await?;
            tokio::task::yield_now().await;
        }
        if let Some(fault) = fault {
            return Err(fault.into());
        }
        let mut known = self.known();
        if !answer.more && answer.heads.iter().any(|head| known.graph.op(head).is_none()) {
            return Err(AnswerFault::Heads.into());
        }
        answer.cards.iter().try_for_each(|card| known.take_in_card(card, network))?;
        known.heard_at = Some(Instant::now());
        Ok(fresh)
    }

    /// Returns the current controllers whose devices say that they are on one of these nodes.
    pub(super) fn controllers_on(&self, peers: &BTreeSet<PeerId>) -> BTreeSet<ControllerId> {
        let mut known = self.known();
        let state = known.graph.state();
        let on = known.peers.iter().filter(|(_, (_, peer))| peers.contains(peer));
        on.filter_map(|(device, _)| state.controller_of(device).map(|controller| controller.id)).collect()
    }

    /// Returns the nodes that devices of current controllers are on.
    pub(super) fn peers(&self) -> Vec<PeerId> {
        self.nodes().into_iter().map(|(_, peer)| peer).collect()
    }

    /// Returns the current controllers with the nodes that their devices say they are on.
    pub(in crate::node) fn nodes(&self) -> Vec<(ControllerId, PeerId)> {
        let mut known = self.known();
        let state = known.graph.state();
        let current = known.peers.iter().filter_map(|(device, (_, peer))| {
            let controller = state.controller_of(device)?.id;
            Some((controller, peer.clone()))
        });
        current.collect()
    }

    /// Returns the nodes that devices of controllers are on that write now.
    pub(super) fn writers(&self) -> BTreeSet<PeerId> {
        let mut known = self.known();
        let state = known.graph.state();
        let writes = |device: &DeviceId| state.controller_of(device).is_some_and(|one| one.role.writes());
        let writing = known.peers.iter().filter(|(device, _)| writes(device));
        writing.map(|(_, (_, peer))| peer.clone()).collect()
    }

    /// Returns when somebody last told what it knows.
    pub(super) fn heard_at(&self) -> Option<Instant> {
        self.known().heard_at
    }
}

impl Known {
    pub(super) fn heads(&self) -> Vec<OpId> {
        self.graph.named_heads()
    }

    fn take_in_op(
        &mut self,
        op: SignedOp,
        candidates: &Candidates,
        bytes_max: u64,
        batch: &mut Batch,
    ) -> Result<(), AnswerFault> {
        let id = op.id();
        if self.graph.op(&id).is_some() || self.graph.is_below(&id) {
            return Ok(());
        }
        let bytes = self.bytes.saturating_add(op.encode().len() as u64);
        if bytes > bytes_max {
            return Err(AnswerFault::Bounds);
        }
        let taken = nested::offer(&mut self.graph, op, candidates).map_err(AnswerFault::of)?;
        if taken.is_early {
            return Err(AnswerFault::Order);
        }
        self.bytes = bytes;
        for genesis in &taken.genesis {
            self.bytes = self.bytes.saturating_add(genesis.file().len() as u64);
        }
        taken.store(&mut self.rows, &mut self.graph, batch);
        Ok(())
    }

    /// Returns what puts it into the store, or changes what the store says of it; nothing if all is as it was.
    pub(super) fn shelve(&mut self, asked: bool, now_ms: i64) -> Option<Batch> {
        let chain = self.graph.chain();
        let mut batch = Batch::new();
        let before = self.record;
        let asked = asked || before.is_some_and(|record| record.asked);
        if let Some(record) = before {
            let is_recent = now_ms.abs_diff(record.used_ms) < USED_STEP_MS.unsigned_abs();
            if record.asked == asked && record.bytes == self.bytes && is_recent {
                return None;
            }
        } else {
            let keys = shelf_v1::keys(&chain);
            shelf_v1::delete(&chain, &mut batch);
            batch.put(keys.genesis.clone(), self.genesis.clone());
            for (below, genesis) in self.graph.nested_genesis() {
                batch.put(keys.nested_genesis(&below.chain()), genesis.file().clone());
            }
            self.rows = Rows::foreign();
            nested::all_ops(&self.graph).iter().for_each(|op| self.rows.put(&chain, op, &mut batch));
        }
        let record = ForeignRecord { bytes: self.bytes, used_ms: now_ms, asked };
        batch.put(shelf_v1::record(&chain), records::encode(&record));
        self.record = Some(record);
        Some(batch)
    }

    /// It stands in the store no more, or never came there.
    pub(super) const fn unshelve(&mut self) {
        self.record = None;
    }

    fn take_in_card(&mut self, encoded: &[u8], network: &dyn Network) -> Result<(), AnswerFault> {
        let device = PublicCard::claimed_device(encoded).ok_or(AnswerFault::Card)?;
        let keys = self.graph.device_keys(&device).ok_or(AnswerFault::Card)?;
        let chain = self.graph.chain();
        let card = PublicCard::verify(encoded, &chain, &keys).map_err(|_| AnswerFault::Card)?;
        let (peer, proof) = card.peer();
        if !network.verify_peer(peer, &peer_proof_message(&chain, &device, peer), proof) {
            return Err(AnswerFault::Card);
        }
        if self.peers.get(&device).is_none_or(|(counter, _)| card.counter() > *counter) {
            self.peers.insert(device, (card.counter(), peer.clone()));
        }
        Ok(())
    }
}
