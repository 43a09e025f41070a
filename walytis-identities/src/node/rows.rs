//! Under which numbers the ops of an identity are stored, and which of them are to be deleted.
//!
//! A graph throws out void ops when there are many (rule 9). Their rows go with them: whoever was removed could fill the
//! disk otherwise, with the keys that it still has.

use std::collections::BTreeMap;

use walytis_core::id::ChainId;
use walytis_core::store::Batch;

use super::records::{self, Keys};
use super::resolve;
use crate::id::OpId;
use crate::op::SignedOp;
use crate::state::AuthorityGraph;

/// The rows of one identity's ops.
#[derive(Debug, Default)]
pub(super) struct Rows {
    next: u64,
    /// Those of a resolved identity stand under keys of their own.
    foreign: bool,
    /// Where the identity's own ops stand. Those of identities below are never thrown out.
    of: BTreeMap<OpId, u64>,
}

impl Rows {
    /// Returns those of an identity that this node has no device of.
    pub(super) fn foreign() -> Self {
        Self { foreign: true, ..Self::default() }
    }

    /// Returns the keys that everything of the identity stands under.
    pub(super) fn keys(&self, chain: &ChainId) -> Keys {
        if self.foreign { resolve::keys(chain) } else { records::keys(chain) }
    }

    /// Returns the number under which the next op is stored.
    pub(super) const fn next_number(&mut self) -> u64 {
        let number = self.next;
        self.next = number.saturating_add(1);
        number
    }

    /// Notes where an op stands.
    pub(super) fn note(&mut self, chain: &ChainId, op: &SignedOp, number: u64) {
        self.next = self.next.max(number.saturating_add(1));
        if op.core().chain == *chain.digest() {
            self.of.insert(op.id(), number);
        }
    }

    /// Puts an op that entered a graph of the identity `chain` into a batch.
    pub(super) fn put(&mut self, chain: &ChainId, op: &SignedOp, batch: &mut Batch) {
        let number = self.next_number();
        batch.put(self.keys(chain).op(number), op.encode());
        self.note(chain, op, number);
    }

    /// Deletes what a graph has thrown out since the last time. To be called before what entered since is put or noted: it
    /// may have come in again.
    pub(super) fn delete_thrown_out(&mut self, graph: &mut AuthorityGraph, batch: &mut Batch) {
        let (chain, thrown_out) = (graph.chain(), graph.take_thrown_out());
        let keys = self.keys(&chain);
        for number in thrown_out.iter().filter_map(|id| self.of.remove(id)) {
            batch.delete(keys.op(number));
        }
    }
}
