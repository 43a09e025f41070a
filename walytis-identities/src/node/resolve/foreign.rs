//! What is known of an identity that this node has no device of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use walytis_core::id::PeerId;
use walytis_core::net::Network;
use walytis_core::store::{Batch, Durability, KvStore};

use super::super::nested::{self, Candidates};
use super::super::records;
use super::super::rows::Rows;
use super::super::task::OPS_AT_ONCE;
use super::ask::Answer;
use super::rules::{AnswerFault, NoAnswer};
use crate::card::{PublicCard, peer_proof_message};
use crate::id::{ControllerId, DeviceId, Did, OpId};
use crate::op::SignedOp;
use crate::state::AuthorityGraph;

/// A resolved identity; everybody who works with it holds the same one, and it only grows.
#[derive(Clone, Debug)]
pub(in crate::node) struct Foreign(Arc<Mutex<Known>>);

#[derive(Debug)]
pub(in crate::node) struct Known {
    pub(in crate::node) graph: AuthorityGraph,
    /// Where its ops are stored.
    rows: Rows,
    /// By device, with the card's counter; not stored.
    peers: BTreeMap<DeviceId, (u64, PeerId)>,
}

impl Foreign {
    pub(super) fn new(graph: AuthorityGraph, rows: Rows) -> Self {
        Self(Arc::new(Mutex::new(Known { graph, rows, peers: BTreeMap::new() })))
    }

    /// Checks the genesis block of an answer against the DID; nothing is stored yet.
    pub(super) fn begin(did: &Did, answer: &Answer) -> Result<(Self, Batch), AnswerFault> {
        let genesis = nested::candidates(answer.genesis.clone()).remove(did).ok_or(AnswerFault::Genesis)?;
        let graph = AuthorityGraph::from_genesis(&genesis).map_err(|_| AnswerFault::Genesis)?;
        let mut batch = Batch::new();
        batch.put(records::genesis(&did.chain()), genesis.file().clone());
        Ok((Self::new(graph, Rows::default()), batch))
    }

    /// For short sections.
    pub(in crate::node) fn known(&self) -> MutexGuard<'_, Known> {
        // A poisoned graph is still whole: it takes in one finished op at a time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in an answer, op by op; what was right before the first fault stays, for each op certifies itself. Returns
    /// whether something was new.
    pub(super) async fn take_in(
        &self,
        answer: Answer,
        network: &dyn Network,
        store: &dyn KvStore,
    ) -> Result<bool, NoAnswer> {
        let candidates = nested::candidates(answer.genesis);
        let mut fault = None;
        let mut fresh = false;
        let mut ops = answer.ops.into_iter();
        while fault.is_none() && !ops.as_slice().is_empty() {
            let mut batch = Batch::new();
            {
                let mut known = self.known();
                fault =
                    ops.by_ref().take(OPS_AT_ONCE).find_map(|op| known.take_in_op(op, &candidates, &mut batch).err());
            }
            fresh |= !batch.is_empty();
            // Lost in a power cut they are asked for again.
            store.commit(batch, Durability::Buffered).await?;
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
}

impl Known {
    pub(super) fn heads(&self) -> Vec<OpId> {
        self.graph.named_heads()
    }

    fn take_in_op(&mut self, op: SignedOp, candidates: &Candidates, batch: &mut Batch) -> Result<(), AnswerFault> {
        let taken = nested::offer(&mut self.graph, op, candidates).map_err(AnswerFault::of)?;
        if taken.is_early {
            return Err(AnswerFault::Order);
        }
        taken.store(&mut self.rows, &mut self.graph, batch);
        Ok(())
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
