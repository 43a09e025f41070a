//! What a durable subscriber was told, across restarts.

use std::collections::BTreeSet;

use walytis_core::id::BlockId;
use walytis_core::ledger::{Cursor, LedgerEvent, LedgerRead, Query};

use super::{Broken, check};

/// Everything that one durable subscriber was told.
#[derive(Clone, Debug, Default)]
pub struct SubscriberLog {
    seen: BTreeSet<BlockId>,
    last: u64,
    /// Set by a restart: the next event may be an old one.
    again: bool,
    acked: u64,
    told: u64,
}

impl SubscriberLog {
    /// Returns how many events came, repeated ones too.
    pub const fn told(&self) -> u64 {
        self.told
    }

    /// Returns how many different blocks came.
    pub fn blocks(&self) -> usize {
        self.seen.len()
    }

    /// Notes an event; it must continue where the one before ended, after a restart at the latest behind what was
    /// acknowledged, and show no block before its parents.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn handle(&mut self, event: &LedgerEvent) -> Result<(), Broken> {
        let LedgerEvent::Block(info) = event else { return Ok(()) };
        let cursor = info.cursor.0;
        let follows = if self.again { cursor <= self.acked + 1 } else { cursor == self.last + 1 };
        check(follows, "cursors never skip", || format!("{cursor} after {}, acknowledged {}", self.last, self.acked))?;
        for parent in &info.parents {
            check(self.seen.contains(parent), "parents are told first", || format!("{:?}", info.id))?;
        }
        self.seen.insert(info.id);
        self.last = cursor;
        self.again = false;
        self.told += 1;
        Ok(())
    }

    /// Notes an acknowledgement.
    pub fn acknowledged(&mut self, cursor: Cursor) {
        self.acked = self.acked.max(cursor.0);
    }

    /// Notes that the subscriber begins anew.
    pub const fn restarted(&mut self) {
        self.again = true;
    }

    /// Checks that every block of the ledger was told.
    ///
    /// # Errors
    /// [`Broken`].
    pub async fn complete(&self, ledger: &impl LedgerRead) -> Result<(), Broken> {
        use futures::TryStreamExt as _;
        const INVARIANT: &str = "every block is told at least once";
        let failed = |error| Broken::new(INVARIANT, format!("{error:?}"));
        let found = ledger.query(Query { include_overlays: true, ..Query::default() }).await.map_err(failed)?;
        let all: Vec<_> = found.try_collect().await.map_err(failed)?;
        let untold: Vec<_> = all.iter().map(|info| info.id).filter(|id| !self.seen.contains(id)).collect();
        check(untold.is_empty(), INVARIANT, || format!("{untold:?} were not"))
    }
}
