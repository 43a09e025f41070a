//! What one event of the ledger below changes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tokio::io::AsyncReadExt as _;
use walytis_core::id::BlockId;
use walytis_core::ledger::{BlockInfo, BlockState, Ledger, LedgerError, LedgerEvent};
use walytis_core::store::Batch;
use walytis_core::topic::Topic;

use super::Inner;
use super::task::{Front, Task};
use crate::event::Change;
use crate::graph::{Right, VersionGraph};
use crate::limits::{OP_BLOCK_MAX, OP_BYTES_MAX};
use crate::op::{Act, Op, Part, decode_policy};
use crate::rights::{Policy, Request};
use crate::table::{EventRow, OriginalRow, VersionRow};

/// Changes that are committed together.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) batch: Batch,
    /// Rows read or changed, and whether the block was shown before.
    rows: BTreeMap<BlockId, (OriginalRow, bool)>,
    /// Blocks whose versions changed.
    changed: BTreeSet<BlockId>,
    /// Originals that ops of this draft wait for.
    awaited: BTreeSet<BlockId>,
    /// Whether an op could not be read.
    pub(super) unread: bool,
}

/// Says whether nobody can change a block: it is the chain's first, or another overlay's (V-MUT-04).
pub(super) fn is_fixed(original: &BlockInfo) -> bool {
    original.generation == 0 || original.topics.iter().any(Topic::is_reserved)
}

impl<L: Ledger + ?Sized + 'static> Inner<L> {
    /// Reads what the block of an op or a policy says.
    pub(super) async fn front(&self, id: &BlockId, part: Part) -> Result<Option<Front>, LedgerError> {
        let mut front = Vec::with_capacity(256);
        let reader = self.below.content(id).await?;
        reader.take(OP_BYTES_MAX as u64).read_to_end(&mut front).await.map_err(LedgerError::Read)?;
        Ok(match part {
            Part::Rights => decode_policy(&front).map(Front::Policy),
            _ => Op::split(&front).map(|(op, len)| Front::Op(op, len)),
        })
    }

    /// Reads what a block says; nothing if it is malformed, or is to be tried again later.
    pub(super) async fn front_or_later(
        &self,
        draft: &mut Draft,
        info: &BlockInfo,
    ) -> Result<Option<Front>, LedgerError> {
        let front = match info.state {
            BlockState::Available => self.front(&info.id, Part::of(&info.topics)).await,
            _ => Err(LedgerError::Unavailable { id: info.id, reason: "its content is not here" }),
        };
        match front {
            Ok(front) => Ok(front),
            Err(error @ (LedgerError::Store(_) | LedgerError::Blob(_) | LedgerError::Closed | LedgerError::Locked)) => {
                Err(error)
            }
            Err(_) => {
                draft.batch.put(self.table.key(b'u', &[info.id.digest()]), Bytes::new());
                draft.unread = true;
                Ok(None)
            }
        }
    }
}

impl<L: Ledger + ?Sized + 'static> Task<L> {
    pub(super) async fn apply(&mut self, draft: &mut Draft, event: LedgerEvent) -> Result<(), LedgerError> {
        self.meta.position = event.cursor().0;
        match event {
            LedgerEvent::Block(info) => match Part::of(&info.topics) {
                Part::Block => self.take_block(draft, info).await,
                Part::Op => self.read_op(draft, &info).await,
                Part::Rights => self.read_policy(draft, &info).await,
                Part::Hidden => Ok(()),
            },
            LedgerEvent::Retracted { id, .. } => {
                // Whatever it was must be found in the store.
                self.commit(draft).await?;
                self.retract(draft, &id).await
            }
            LedgerEvent::ForgetProposed { proposal, .. } => {
                self.tell_beside(draft, Change::ForgetProposed, &proposal, &proposal);
                Ok(())
            }
            LedgerEvent::Forgotten { id, .. } => {
                // Whose version it was must be found in the store.
                self.commit(draft).await?;
                let original = self.inner.table.original_of(&id).await?.unwrap_or(id);
                self.tell_beside(draft, Change::Forgotten, &original, &id);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A block without topics may be one whose sealed topics cannot be opened now: an op would be taken for a block.
    async fn check_opened(&mut self, info: &BlockInfo) -> Result<(), LedgerError> {
        let sealed = info.topics.is_empty() && *info.author.0 != *info.creator.to_string();
        if !sealed {
            return Ok(());
        }
        match self.inner.below.content(&info.id).await {
            Err(LedgerError::Locked) => Err(LedgerError::Locked),
            _ => Ok(()),
        }
    }

    async fn take_block(&mut self, draft: &mut Draft, info: BlockInfo) -> Result<(), LedgerError> {
        let id = info.id;
        self.check_opened(&info).await?;
        if let Some(mut row) = self.row(draft, &id).await? {
            if !row.counts {
                row.counts = true;
                self.write_row(draft, &id, row);
                self.tell(draft, Change::Created, &id, &id);
            }
            return Ok(());
        }
        if draft.awaited.contains(&id) {
            self.commit(draft).await?;
        }
        let row = OriginalRow {
            generation: info.generation,
            cursor: 0,
            counts: true,
            versions: 1,
            heads: 1,
            head: id,
            content: Some(id),
        };
        draft.rows.insert(id, (row, false));
        self.tell(draft, Change::Created, &id, &id);
        let waiting = self.inner.table.versions(&id).await?;
        if waiting.is_empty() {
            return Ok(());
        }
        self.hot.put(VersionGraph::new(id, info.generation), info);
        let mut waiting: Vec<_> = waiting.into_iter().map(|(op, row)| (row.generation, op, row)).collect();
        waiting.sort_by_key(|(generation, op, _)| (*generation, *op));
        for (_, op, row) in waiting {
            self.judge_and_insert(draft, &id, &op, row).await?;
        }
        Ok(())
    }

    async fn read_op(&mut self, draft: &mut Draft, info: &BlockInfo) -> Result<(), LedgerError> {
        // V-MUT-03: nobody writes such a block.
        if info.size > OP_BLOCK_MAX {
            return Ok(());
        }
        if let Some(original) = self.inner.table.original_of(&info.id).await? {
            return self.take_back(draft, &original, &info.id).await;
        }
        match self.inner.front_or_later(draft, info).await? {
            Some(Front::Op(op, len)) => self.take_op(draft, info, &op, len).await,
            // V-MUT-01, V-MUT-02.
            _ => Ok(()),
        }
    }

    pub(super) async fn take_op(
        &mut self,
        draft: &mut Draft,
        info: &BlockInfo,
        op: &Op,
        len: usize,
    ) -> Result<(), LedgerError> {
        let row = VersionRow::new(op, info.generation, len);
        if self.row(draft, &op.original).await?.is_some() {
            return self.judge_and_insert(draft, &op.original, &info.id, row).await;
        }
        // V-MUT-09: it waits as one row in the store, until the original comes.
        self.inner.table.put_version(&mut draft.batch, &op.original, &info.id, &row);
        draft.awaited.insert(op.original);
        Ok(())
    }

    /// An op that had been retracted counts again.
    async fn take_back(&mut self, draft: &mut Draft, original: &BlockId, op: &BlockId) -> Result<(), LedgerError> {
        let Some(mut row) = self.inner.table.version(original, op).await?.filter(|row| row.retracted) else {
            return Ok(());
        };
        row.retracted = false;
        if self.row(draft, original).await?.is_some() {
            return self.judge_and_insert(draft, original, op, row).await;
        }
        self.inner.table.put_version(&mut draft.batch, original, op, &row);
        Ok(())
    }

    async fn retract(&mut self, draft: &mut Draft, id: &BlockId) -> Result<(), LedgerError> {
        if let Some(mut row) = self.row(draft, id).await?.filter(|row| row.counts) {
            row.counts = false;
            self.tell(draft, Change::Retracted, id, id);
            row.cursor = self.meta.sequence;
            self.write_row(draft, id, row);
            return Ok(());
        }
        let Some(original) = self.inner.table.original_of(id).await? else {
            draft.batch.delete(self.inner.table.key(b'u', &[id.digest()]));
            return self.retract_policy(draft, id).await;
        };
        let Some(mut row) = self.inner.table.version(&original, id).await? else { return Ok(()) };
        row.retracted = true;
        self.insert(draft, &original, id, &row).await
    }

    pub(super) async fn judge_op_again(&mut self, draft: &mut Draft, op: &BlockId) -> Result<(), LedgerError> {
        let Some(original) = self.inner.table.original_of(op).await? else { return Ok(()) };
        match self.inner.table.version(&original, op).await? {
            Some(row) if self.row(draft, &original).await?.is_some() => {
                self.judge_and_insert(draft, &original, op, row).await
            }
            _ => Ok(()),
        }
    }

    async fn judge_and_insert(
        &mut self,
        draft: &mut Draft,
        original: &BlockId,
        op: &BlockId,
        mut row: VersionRow,
    ) -> Result<(), LedgerError> {
        let key = self.inner.table.key(b'j', &[op.digest()]);
        if !self.heat(draft, original).await? {
            self.inner.table.put_version(&mut draft.batch, original, op, &row);
            draft.batch.put(key, Bytes::new());
            return Ok(());
        }
        let block = self.inner.below.get(op).await?;
        let mut right = Right::Unknown;
        if let (Some(block), Some(hot)) = (&block, self.hot.get(original)) {
            let (author, original) = (&block.author, &hot.info);
            let mut policy = Policy::default();
            if *author != original.author {
                policy = self.inner.table.policy(Some((row.generation, op))).await?;
                draft.batch.put(self.inner.table.contested_key((row.generation, op)), Bytes::new());
            }
            let request = Request { policy, act: row.act, author, block: Some(block), original };
            right = if is_fixed(original) { Right::Refused } else { self.inner.rights.judge(request).await };
        }
        row.set_right(right);
        if right == Right::Unknown {
            draft.batch.put(key, Bytes::new());
        } else {
            draft.batch.delete(key);
        }
        self.insert(draft, original, op, &row).await
    }

    /// Brings a version into the graph of its block, and tells what that changed.
    async fn insert(
        &mut self,
        draft: &mut Draft,
        original: &BlockId,
        op: &BlockId,
        row: &VersionRow,
    ) -> Result<(), LedgerError> {
        self.inner.table.put_version(&mut draft.batch, original, op, row);
        if !self.heat(draft, original).await? {
            return Ok(());
        }
        let Some(hot) = self.hot.get(original) else { return Ok(()) };
        let heads = hot.graph.head_count();
        let changed = hot.graph.insert(*op, row.generation, &row.op(original), row.effective());
        let conflict = hot.graph.head_count() > heads.max(1);
        let changes: Vec<_> = changed.iter().map(|version| (*version, change_of(hot.graph.act(version)))).collect();
        if changes.is_empty() {
            return Ok(());
        }
        draft.changed.insert(*original);
        for (version, change) in changes {
            self.tell(draft, change, original, &version);
        }
        if conflict {
            self.tell(draft, Change::Conflicted, original, op);
        }
        Ok(())
    }

    /// Makes sure that the graph of a block is in memory and its row in the draft; false if the block is not known.
    async fn heat(&mut self, draft: &mut Draft, original: &BlockId) -> Result<bool, LedgerError> {
        let Some(row) = self.row(draft, original).await? else { return Ok(false) };
        if self.hot.get(original).is_none() {
            let Some(info) = self.inner.below.get(original).await? else { return Ok(false) };
            let graph = self.inner.table.graph(original, row.generation).await?;
            self.hot.put(graph, info);
        }
        Ok(true)
    }

    async fn row(&mut self, draft: &mut Draft, id: &BlockId) -> Result<Option<OriginalRow>, LedgerError> {
        if let Some((row, _)) = draft.rows.get(id) {
            return Ok(Some(*row));
        }
        let row = self.inner.table.original(id).await?;
        if let Some(row) = row {
            draft.rows.insert(*id, (row, row.is_shown()));
        }
        Ok(row)
    }

    fn write_row(&self, draft: &mut Draft, id: &BlockId, row: OriginalRow) {
        if let Some((stands, _)) = draft.rows.get_mut(id) {
            *stands = row;
        }
    }

    /// Writes down an event. Of a block that does not count nothing is told.
    fn tell(&mut self, draft: &mut Draft, change: Change, original: &BlockId, version: &BlockId) {
        let Some((row, _)) = draft.rows.get_mut(original).filter(|(row, _)| row.counts) else { return };
        self.meta.sequence += 1;
        if change != Change::Conflicted {
            row.cursor = self.meta.sequence;
        }
        let event = EventRow::new(change, *original, *version);
        self.inner.table.put_event(&mut draft.batch, self.meta.sequence, &event);
    }

    /// Writes down an event that changes no block.
    fn tell_beside(&mut self, draft: &mut Draft, change: Change, original: &BlockId, version: &BlockId) {
        self.meta.sequence += 1;
        let event = EventRow::new(change, *original, *version);
        self.inner.table.put_event(&mut draft.batch, self.meta.sequence, &event);
    }

    /// Brings rows in line with their graphs; returns everything to be written.
    pub(super) fn finish(&mut self, draft: &mut Draft) -> Batch {
        let mut batch = draft.take_batch();
        for (id, (row, was_shown)) in &mut draft.rows {
            let changed = draft.changed.contains(id);
            if changed && let Some(hot) = self.hot.get(id) {
                let current = hot.graph.current();
                row.head = current.head;
                row.content = current.content;
                row.heads = current.heads as u64;
                row.versions = hot.graph.version_count() as u64;
            }
            match (*was_shown, row.is_shown()) {
                (false, true) => self.meta.shown += 1,
                (true, false) => self.meta.shown = self.meta.shown.saturating_sub(1),
                _ => {}
            }
            self.inner.table.put_original(&mut batch, id, row, changed);
        }
        self.inner.table.put_meta(&mut batch, &self.meta);
        batch
    }
}

const fn change_of(act: Option<Act>) -> Change {
    match act {
        None => Change::Retracted,
        Some(Act::Edit) => Change::Edited,
        Some(Act::Delete) => Change::Deleted,
        Some(Act::Restore { .. }) => Change::Restored,
    }
}
