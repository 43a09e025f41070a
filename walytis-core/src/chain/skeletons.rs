//! Skeletons that the policy admits by themselves become ordinary blocks.
//!
//! A block that waits for the policy enters as a skeleton when an admissible block descends from it. Which comes first,
//! the descendant or the knowledge that admits the block itself, differs between replicas. So skeletons are judged again
//! whenever the policy changes, and when the chain opens: in the end they are the same everywhere.

use super::admit::entry;
use super::core::Inner;
use super::schema::{Tag, id_at_end};
use super::stage::{Stage, Tip};
use super::table::behind;
use crate::access::Admission;
use crate::id::BlockId;
use crate::ledger::LedgerError;
use crate::store::{Direction, KeyRange, StoreError};

/// Skeletons judged in one step of the chain's task. Chosen: some milliseconds.
const PAGE: usize = 64;

/// A walk over all skeletons, page by page.
#[derive(Debug)]
pub(super) struct SkeletonWalk {
    rest: Option<KeyRange>,
    /// The policy changed meanwhile: one more walk follows.
    again: bool,
}

impl SkeletonWalk {
    pub(super) fn begin(core: &Inner) -> Self {
        Self { rest: Some(core.table.keys.all(Tag::Skeleton)), again: false }
    }

    /// Sees to it that every skeleton is judged from now on.
    pub(super) fn request(&mut self, core: &Inner) {
        if self.is_done() {
            *self = Self::begin(core);
        } else {
            self.again = true;
        }
    }

    pub(super) const fn is_done(&self) -> bool {
        self.rest.is_none()
    }

    /// Judges the next page and stages what is admitted now; returns it, parents first. After a failure it goes on
    /// behind the page: what was not judged is judged at the next change.
    pub(super) async fn step(
        &mut self,
        core: &Inner,
        tip: &mut Tip,
        stage: &mut Stage,
    ) -> Result<Vec<BlockId>, LedgerError> {
        let Some(mut range) = self.rest.take() else { return Ok(Vec::new()) };
        let page = core.table.scan(range.clone(), Direction::Forward, PAGE).await?;
        if let Some((key, _)) = page.last().filter(|_| page.len() == PAGE) {
            range.start = behind(key);
            self.rest = Some(range);
        } else if self.again {
            *self = Self::begin(core);
        }
        let ids: Result<Vec<_>, _> = page.iter().map(|(key, _)| id_at_end(key)).collect();
        let ids = core.table.note(ids)?;
        let mut found = Vec::new();
        for (id, record) in ids.iter().zip(core.table.records(&ids).await?) {
            let (Some(record), Some(block)) = (record, core.table.block(id).await?) else {
                let key = core.table.keys.of_block(Tag::Skeleton, id);
                return core.table.note(Err(StoreError::corrupt(&key, "a skeleton names a block that is not here")));
            };
            if core.policy.judge(&block).await == Admission::Admit {
                found.push((record.header.generation, block, record.arrival));
            }
        }
        found.sort_by_key(|(generation, block, _)| (*generation, block.id()));
        let mut promoted = Vec::with_capacity(found.len());
        for (_, block, arrival) in found {
            let entry = entry(core, &block).await?;
            stage.promote(&core.table.keys, tip, &block, arrival, entry);
            promoted.push(block.id());
        }
        Ok(promoted)
    }
}
