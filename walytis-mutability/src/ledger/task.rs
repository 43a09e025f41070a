//! The task of a ledger: follows the ledger below and writes the index.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};
use walytis_core::id::BlockId;
use walytis_core::ledger::{Cursor, Ledger, LedgerError, LedgerEvent, SubscribeFrom, Subscription};
use walytis_core::store::{Batch, Durability};

use super::Inner;
use super::apply::Draft;
use super::hot::HotGraphs;
use crate::limits::{BATCH_MAX, UNREAD_PAGE};
use crate::op::{Op, Part};
use crate::rights::Policy;
use crate::table::{Meta, behind};

/// How long a ledger rests after its store failed, or while the keys to read ops are locked away.
const REST: Duration = Duration::from_secs(5);
/// How often ops are tried again whose content could not be read.
const RETRY_EVERY: Duration = Duration::from_secs(30);
/// How long one such try may take.
const RETRY_FOR: Duration = Duration::from_secs(20);

pub(super) struct Task<L: Ledger + ?Sized> {
    pub(super) inner: Arc<Inner<L>>,
    pub(super) meta: Meta,
    pub(super) hot: HotGraphs,
    blocks: Box<dyn Subscription>,
    changes: Option<watch::Receiver<u64>>,
    /// What could be read at last; nothing at all if it still could not, nothing inside if it is malformed.
    retries: JoinSet<(BlockId, Option<Option<Front>>)>,
    retry_at: Option<Instant>,
    /// Where the next tries begin, so that none is passed over.
    retry_from: Option<BlockId>,
}

/// What a block of this overlay says.
#[derive(Debug)]
pub(super) enum Front {
    /// An op, and its length in bytes.
    Op(Op, usize),
    Policy(Policy),
}

impl<L: Ledger + ?Sized> std::fmt::Debug for Task<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Task({:?})", self.inner)
    }
}

impl<L: Ledger + ?Sized + 'static> Task<L> {
    pub(super) async fn new(inner: Arc<Inner<L>>) -> Result<Self, LedgerError> {
        let meta = inner.table.meta().await?;
        let blocks = inner.below.subscribe(SubscribeFrom::Cursor(Cursor(meta.position))).await?;
        let changes = inner.rights.changes();
        Ok(Self {
            inner,
            meta,
            hot: HotGraphs::default(),
            blocks,
            changes,
            retries: JoinSet::new(),
            retry_at: None,
            retry_from: None,
        })
    }

    /// Takes in what the ledger below has now, and judges again what was undecided.
    pub(super) async fn catch_up(&mut self) -> Result<(), LedgerError> {
        if let Some(changes) = &mut self.changes {
            changes.mark_unchanged();
        }
        self.judge_behind().await?;
        self.judge_again().await?;
        let end = self.inner.end_below().await?;
        while self.meta.position < end {
            let event = self.blocks.next().await?.ok_or(LedgerError::Closed)?;
            self.take_in(event).await?;
        }
        if self.inner.unread().await? > 0 {
            self.retry_at = Some(Instant::now());
        }
        Ok(())
    }

    pub(super) async fn run(mut self) {
        loop {
            match self.turn().await {
                Ok(true) => {}
                // Without the ledger below nothing works.
                Ok(false) | Err(LedgerError::Closed) => return self.inner.stop.cancel(),
                Err(error @ (LedgerError::Store(_) | LedgerError::Blob(_) | LedgerError::Locked)) => {
                    warn!(ledger = ?self.inner, %error, "the ledger rests");
                    if !self.recover().await {
                        return;
                    }
                }
                Err(error) => {
                    warn!(ledger = ?self.inner, %error, "the ledger stops");
                    let reason = error.to_string();
                    self.inner.state.send_modify(|state| state.damaged = Some(reason));
                    return;
                }
            }
        }
    }

    /// Rests until it can go on from what stands in the store; false at the end.
    async fn recover(&mut self) -> bool {
        loop {
            tokio::select! {
                biased;
                () = self.inner.stop.cancelled() => return false,
                () = tokio::time::sleep(REST) => {}
            }
            match self.begin_again().await {
                Ok(()) => return true,
                Err(error) => debug!(ledger = ?self.inner, %error, "the store still fails"),
            }
        }
    }

    async fn begin_again(&mut self) -> Result<(), LedgerError> {
        self.hot.clear();
        self.meta = self.inner.table.meta().await?;
        self.blocks = self.inner.below.subscribe(SubscribeFrom::Cursor(Cursor(self.meta.position))).await?;
        self.judge_behind().await?;
        self.judge_again().await
    }

    /// Waits for one thing to happen and handles it; false at the end.
    async fn turn(&mut self) -> Result<bool, LedgerError> {
        let inner = Arc::clone(&self.inner);
        let changed = async {
            if let Some(changes) = &mut self.changes
                && changes.changed().await.is_ok()
            {
                return;
            }
            // Nobody who could change anything is left: never.
            std::future::pending().await
        };
        tokio::select! {
            biased;
            () = inner.stop.cancelled() => return Ok(false),
            event = self.blocks.next() => match event? {
                Some(event) => self.take_in(event).await?,
                None => return Ok(false),
            },
            () = changed => self.judge_again().await?,
            () = sleep_until(self.retry_at.unwrap_or_else(Instant::now)), if self.retry_at.is_some() => {
                self.retry().await?;
            }
            Some(done) = self.retries.join_next() => {
                if let Ok((id, Some(front))) = done {
                    self.take_late(&id, front).await?;
                }
            }
        }
        Ok(true)
    }

    /// Takes in an event and those that are ready behind it, in one commit.
    async fn take_in(&mut self, first: LedgerEvent) -> Result<(), LedgerError> {
        let mut draft = Draft::default();
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(event) = next.take() {
            self.apply(&mut draft, event).await?;
            taken += 1;
            if taken < BATCH_MAX {
                next = self.blocks.next().now_or_never().transpose()?.flatten();
            }
        }
        self.commit(&mut draft).await
    }

    /// Writes what was drafted and lets everybody see it.
    pub(super) async fn commit(&mut self, draft: &mut Draft) -> Result<(), LedgerError> {
        let batch = self.finish(draft);
        // Lost in a power cut, it is taken in again.
        self.inner.table.store.commit(batch, Durability::Buffered).await?;
        self.hot.shrink();
        self.inner.state.send_modify(|state| state.meta = self.meta);
        if draft.unread && self.retry_at.is_none() {
            self.retry_at = Some(Instant::now() + RETRY_EVERY);
        }
        *draft = Draft::default();
        Ok(())
    }

    /// Tries again to read some of the ops that could not be read, beside everything else.
    async fn retry(&mut self) -> Result<(), LedgerError> {
        let table = &self.inner.table;
        let mut range = table.all(b'u');
        if let Some(last) = &self.retry_from {
            range.start = behind(&table.key(b'u', &[last.digest()]));
        }
        let page = table.ids(range, UNREAD_PAGE).await?;
        let ended = page.len() < UNREAD_PAGE;
        let nothing = ended && page.is_empty() && self.retry_from.is_none();
        self.retry_from = page.last().copied().filter(|_| !ended);
        self.retry_at = (!nothing).then(|| Instant::now() + RETRY_EVERY);
        if !self.retries.is_empty() {
            return Ok(());
        }
        for id in page {
            let inner = Arc::clone(&self.inner);
            self.retries.spawn(async move {
                let Ok(Some(info)) = inner.below.get(&id).await else { return (id, None) };
                let front = timeout(RETRY_FOR, inner.front(&id, Part::of(&info.topics))).await;
                (id, front.ok().and_then(Result::ok))
            });
        }
        Ok(())
    }

    /// Takes in an op that could be read at last.
    async fn take_late(&mut self, id: &BlockId, front: Option<Front>) -> Result<(), LedgerError> {
        let mut draft = Draft::default();
        draft.batch.delete(self.inner.table.key(b'u', &[id.digest()]));
        match (self.inner.below.get(id).await?, front) {
            (Some(info), Some(Front::Op(op, len))) => self.take_op(&mut draft, &info, &op, len).await?,
            (Some(info), Some(Front::Policy(policy))) => self.take_policy(&mut draft, &info, policy).await?,
            _ => {}
        }
        self.commit(&mut draft).await
    }

    /// Judges again what was undecided.
    async fn judge_again(&mut self) -> Result<(), LedgerError> {
        let mut range = self.inner.table.all(b'j');
        loop {
            let page = self.inner.table.ids(range.clone(), BATCH_MAX).await?;
            let Some(last) = page.last() else { return Ok(()) };
            range.start = behind(&self.inner.table.key(b'j', &[last.digest()]));
            let mut draft = Draft::default();
            for id in &page {
                match self.inner.table.original_of(id).await? {
                    Some(_) => self.judge_op_again(&mut draft, id).await?,
                    None => self.judge_policy_again(&mut draft, id).await?,
                }
            }
            self.commit(&mut draft).await?;
        }
    }
}

impl Draft {
    /// Takes the changes out.
    pub(super) fn take_batch(&mut self) -> Batch {
        std::mem::take(&mut self.batch)
    }
}
