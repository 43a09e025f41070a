//! Rule 8: which records count, and who may write blocks.

use walytis_core::id::{BlockId, ChainId};
use walytis_core::key::PublicKey;

use super::view::View;
use super::{AuthorityGraph, IdentityState, Rule};
use crate::id::{ControllerId, OpId, Role};
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
        if state.deactivated.is_some() {
            return WriteRight::No(Rule::Deactivated);
        }
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
        let mut cuts: Vec<Vec<BlockId>> = cuts_for(&now, &record.author)
            .filter(|(op, _)| !seen(op))
            .map(|(_, cut)| heads_in_cut(cut, chain))
            .collect();
        match self.nested_cuts(record, &then, &now) {
            Some(nested) => cuts.extend(nested.iter().map(|cut| heads_in_cut(cut, chain))),
            None => return RecordVerdict::Void(Rule::EntitlementVoid),
        }
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

    /// Says whether the author could write then if what is void now is left out, and what was accepted since is not: the
    /// cut decides about what was removed, voidness about what never should have been.
    pub(super) fn entitlement_counts(&self, author: &ControllerId, then: &IdentityState, now: &IdentityState) -> bool {
        let (set, void_in_past) = (&then.evaluation.set, &*then.evaluation.void.set);
        let view = View { set, void_in_past, ..now.evaluation.view(self.nodes()) };
        view.role(author).is_some_and(Role::writes)
    }
}

/// Returns the cuts that concern an author: of its removals and demotions, of recoveries and of the identity's end.
fn cuts_for<'a>(now: &'a IdentityState, author: &ControllerId) -> impl Iterator<Item = (&'a OpId, &'a [ChainCut])> {
    let author = *author;
    let removals = now.removals.iter().filter(move |removal| removal.target == author);
    let silenced = now.demotions.iter().filter(move |one| one.target == author && !one.role.writes());
    let all = now.recoveries.iter().map(|recovery| (&recovery.op, recovery.cut.as_slice()));
    removals
        .map(|removal| (&removal.op, removal.cut.as_slice()))
        .chain(silenced.map(|demotion| (&demotion.op, demotion.cut.as_slice())))
        .chain(all)
        .chain(now.deactivated.iter().map(|end| (&end.op, end.cut.as_slice())))
}

fn heads_in_cut(cut: &[ChainCut], chain: &ChainId) -> Vec<BlockId> {
    cut.iter().filter(|cut| cut.chain == *chain).flat_map(|cut| cut.heads.iter().copied()).collect()
}
