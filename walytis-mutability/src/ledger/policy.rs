//! Who may change blocks, as the ledger itself says (V-MUT-13).
//!
//! An op is judged under the last policy before it in canonical order. A policy that comes late has all ops behind its
//! place judged again, of others than the block's author; where that stands is part of every commit, so that it goes on
//! after a crash.

use bytes::Bytes;
use walytis_core::id::BlockId;
use walytis_core::ledger::{BlockInfo, Ledger, LedgerError, NewBlock};

use super::Inner;
use super::apply::Draft;
use super::task::{Front, Task};
use crate::error::MutableError;
use crate::graph::Right;
use crate::limits::{BATCH_MAX, POLICY_BYTES_MAX};
use crate::op::{encode_policy, rights_topic};
use crate::rights::Policy;
use crate::table::{PolicyRow, behind};

impl<L: Ledger + ?Sized + 'static> Inner<L> {
    pub(super) async fn set_policy(&self, policy: Policy) -> Result<(), MutableError> {
        self.check_open()?;
        let _turn = self.turn.acquire().await.map_err(|_| LedgerError::Closed)?;
        let author = self.below.author().await?;
        if self.rights.judge_policy(&author, None).await != Right::Allowed {
            return Err(MutableError::PolicyNotAllowed);
        }
        if self.table.policy(None).await? == policy {
            return Ok(());
        }
        let block = NewBlock { content: encode_policy(policy).into(), topics: vec![rights_topic()] };
        let added = self.below.add_overlay(vec![block]).await?.pop().ok_or(LedgerError::Closed)?;
        Ok(self.wait_for(added.cursor.0).await?)
    }
}

impl<L: Ledger + ?Sized + 'static> Task<L> {
    pub(super) async fn read_policy(&mut self, draft: &mut Draft, info: &BlockInfo) -> Result<(), LedgerError> {
        if info.size > POLICY_BYTES_MAX {
            return Ok(());
        }
        let key = self.inner.table.policy_key((info.generation, &info.id));
        if let Some(row) = self.inner.table.read::<PolicyRow>(&key).await? {
            return self.put_policy(draft, info, row.with_retracted(false)).await;
        }
        match self.inner.front_or_later(draft, info).await? {
            Some(Front::Policy(policy)) => self.take_policy(draft, info, policy).await,
            _ => Ok(()),
        }
    }

    pub(super) async fn take_policy(
        &mut self,
        draft: &mut Draft,
        info: &BlockInfo,
        policy: Policy,
    ) -> Result<(), LedgerError> {
        let right = self.inner.rights.judge_policy(&info.author, Some(info)).await;
        let key = self.inner.table.key(b'j', &[info.id.digest()]);
        if right == Right::Unknown {
            draft.batch.put(key, Bytes::new());
        } else {
            draft.batch.delete(key);
        }
        // Final: it is as if it were not there.
        if right == Right::Refused {
            return Ok(());
        }
        self.put_policy(draft, info, PolicyRow::new(policy, right)).await
    }

    /// Judges again whether a policy counts.
    pub(super) async fn judge_policy_again(&mut self, draft: &mut Draft, id: &BlockId) -> Result<(), LedgerError> {
        let Some(info) = self.inner.below.get(id).await? else { return Ok(()) };
        let key = self.inner.table.policy_key((info.generation, &info.id));
        let Some(row) = self.inner.table.read::<PolicyRow>(&key).await? else { return Ok(()) };
        let right = self.inner.rights.judge_policy(&info.author, Some(&info)).await;
        if right != Right::Unknown {
            draft.batch.delete(self.inner.table.key(b'j', &[info.id.digest()]));
            self.put_policy(draft, &info, row.with_right(right)).await?;
        }
        Ok(())
    }

    /// The ledger below says that a block does not count, which may say who may change blocks.
    pub(super) async fn retract_policy(&mut self, draft: &mut Draft, id: &BlockId) -> Result<(), LedgerError> {
        let Some(info) = self.inner.below.get(id).await? else { return Ok(()) };
        let key = self.inner.table.policy_key((info.generation, &info.id));
        let Some(row) = self.inner.table.read::<PolicyRow>(&key).await? else { return Ok(()) };
        self.put_policy(draft, &info, row.with_retracted(true)).await
    }

    /// Writes a policy down, and has what stands behind it judged again if it counts other than before.
    async fn put_policy(&mut self, draft: &mut Draft, info: &BlockInfo, row: PolicyRow) -> Result<(), LedgerError> {
        let key = self.inner.table.policy_key((info.generation, &info.id));
        let counted = self.inner.table.read::<PolicyRow>(&key).await?.is_some_and(|row| row.counts());
        draft.batch.put(key, crate::codec::versioned(&row));
        if counted == row.counts() {
            return Ok(());
        }
        let place = (info.generation, info.id);
        self.meta.judge_from = Some(self.meta.judge_from.map_or(place, |from| from.min(place)));
        self.commit(draft).await?;
        self.judge_behind().await
    }

    /// Judges again what a new policy may have changed.
    pub(super) async fn judge_behind(&mut self) -> Result<(), LedgerError> {
        let Some((generation, id)) = self.meta.judge_from else { return Ok(()) };
        let mut range = self.inner.table.all(b'w');
        range.start = self.inner.table.contested_key((generation, &id));
        loop {
            let page = self.inner.table.contested(range.clone(), BATCH_MAX).await?;
            let mut draft = Draft::default();
            for (_, op) in &page {
                self.judge_op_again(&mut draft, op).await?;
            }
            let last = page.last().map(|(generation, op)| (*generation, *op));
            let ended = page.len() < BATCH_MAX;
            // What was done need not be done again after a crash.
            self.meta.judge_from = last.filter(|_| !ended);
            self.commit(&mut draft).await?;
            match last {
                Some((generation, op)) if !ended => {
                    range.start = behind(&self.inner.table.contested_key((generation, &op)));
                }
                _ => return Ok(()),
            }
        }
    }
}
