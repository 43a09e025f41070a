//! Rule 8: which records count, and who may write blocks.

use std::sync::Arc;

use walytis_core::id::{BlockId, ChainId};
use walytis_core::key::PublicKey;

use super::{AuthorityGraph, IdentityState, Rule};
use crate::id::{ControllerId, OpId};
use crate::identity::RecordRef;
use crate::op::ChainCut;

/// Whether a device may write a block on the identity's chain; fixed for ever by the heads it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteRight {
    /// It may.
    Yes,
    /// It may not.
    No(Rule),
    /// These authority heads are not here yet.
    Wait(Vec<OpId>),
}

/// Whether a content record counts, as far as the authority ops decide it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordVerdict {
    /// It counts.
    Valid,
    /// It does not.
    Void(Rule),
    /// These authority heads are not here yet.
    Wait(Vec<OpId>),
    /// It counts if, for each list, its block is one of these or an ancestor of one; otherwise [`Rule::BeyondCut`]. An
    /// empty list: it does not count.
    Within(Vec<Vec<BlockId>>),
}

impl AuthorityGraph {
    /// Says whether the state at `heads` entitles the device with the block key `creator` to write for `author`.
    pub fn authorised_to_write(&mut self, heads: &[OpId], author: &ControllerId, creator: &PublicKey) -> WriteRight {
        let state = match self.state_at(heads) {
            Ok(state) => state,
            Err(missing) => return WriteRight::Wait(missing),
        };
        match state.controllers.get(author) {
            None => WriteRight::No(Rule::NoController),
            Some(controller) if !controller.role.writes() => WriteRight::No(Rule::NotWriter),
            Some(controller) if !controller.signs_with(creator) => WriteRight::No(Rule::Creator),
            Some(_) => WriteRight::Yes,
        }
    }

    /// Judges a record on `chain` under all ops that are in. The verdict may change from valid to void when a removal
    /// becomes known.
    pub fn judge(&mut self, chain: &ChainId, record: &RecordRef) -> RecordVerdict {
        match self.authorised_to_write(&record.auth_heads, &record.author, &record.creator) {
            WriteRight::Yes => {}
            WriteRight::No(rule) => return RecordVerdict::Void(rule),
            WriteRight::Wait(missing) => return RecordVerdict::Wait(missing),
        }
        let (now, then) = match self.state_at(&record.auth_heads) {
            Ok(then) => (self.state(), then),
            Err(missing) => return RecordVerdict::Wait(missing),
        };
        if !self.entitlement_counts(&record.author, &then, &now) {
            return RecordVerdict::Void(Rule::EntitlementVoid);
        }
        let past = self.nodes().past_of(&record.auth_heads).unwrap_or_default();
        let seen = |op: &OpId| self.nodes().find(op).is_some_and(|at| past.has(at));
        let removals = now.removals.iter().map(|removal| (&removal.op, &removal.target, &removal.cut));
        let silenced = now.demotions.iter().filter(|demotion| !demotion.role.writes());
        let demotions = silenced.map(|demotion| (&demotion.op, &demotion.target, &demotion.cut));
        let cuts: Vec<Vec<BlockId>> = removals
            .chain(demotions)
            .filter(|(op, target, _)| **target == record.author && !seen(op))
            .map(|(_, _, cut)| heads_in_cut(cut, chain))
            .collect();
        if cuts.is_empty() { RecordVerdict::Valid } else { RecordVerdict::Within(cuts) }
    }

    /// As [`Self::judge`], asking `is_within(block, heads)` whether the record's block is one of `heads` or an ancestor
    /// of one in the chain's block graph.
    pub fn judge_with(
        &mut self,
        chain: &ChainId,
        record: &RecordRef,
        is_within: impl Fn(&BlockId, &[BlockId]) -> bool,
    ) -> RecordVerdict {
        match self.judge(chain, record) {
            RecordVerdict::Within(cuts) if cuts.iter().all(|heads| is_within(&record.block, heads)) => {
                RecordVerdict::Valid
            }
            RecordVerdict::Within(_) => RecordVerdict::Void(Rule::BeyondCut),
            verdict => verdict,
        }
    }

    /// Says whether an op that entitled the author then still counts now, or its removal was accepted later: the cut
    /// decides about what was removed, voidness about what never should have been.
    fn entitlement_counts(&self, author: &ControllerId, then: &Arc<IdentityState>, now: &Arc<IdentityState>) -> bool {
        let counts_now = now.evaluation.view(self.nodes());
        let counted_then = then.evaluation.view(self.nodes());
        counted_then.entitling(author).any(|at| counts_now.counts(at))
    }
}

fn heads_in_cut(cut: &[ChainCut], chain: &ChainId) -> Vec<BlockId> {
    cut.iter().find(|cut| cut.chain == *chain).map(|cut| cut.heads.clone()).unwrap_or_default()
}
