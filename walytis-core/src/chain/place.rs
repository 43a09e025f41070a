//! Blocks by their place in canonical order.

use super::core::ChainCore;
use super::schema::id_at_end;
use super::table::behind;
use crate::id::BlockId;
use crate::ledger::LedgerError;
use crate::reconcile::{SetError, SummedSet as _};
use crate::store::Direction;

/// Index keys read at once while counting places.
const COUNT_PAGE: usize = 4_096;

impl ChainCore {
    /// Returns the block at a place of canonical order, below 0 counted from the end; nothing where there is none. The
    /// sums say how many blocks each 256 generations have: what is read is these numbers, and the keys before the block
    /// within its 256 generations.
    pub(super) async fn at(&self, index: i64) -> Result<Option<BlockId>, LedgerError> {
        let table = &self.inner.table;
        let mut set = self.summed();
        let place = match u64::try_from(index) {
            Ok(place) => Some(place),
            Err(_) => set.size().await.map_err(failure)?.checked_sub(index.unsigned_abs()),
        };
        let Some(place) = place else { return Ok(None) };
        let Some((mut range, mut skip)) = set.page_of(place).await.map_err(failure)? else { return Ok(None) };
        loop {
            let limit = usize::try_from(skip).unwrap_or(usize::MAX).saturating_add(1).min(COUNT_PAGE);
            let page = table.scan(range.clone(), Direction::Forward, limit).await?;
            let read = page.len() as u64;
            let Some((key, _)) = page.last() else { return Ok(None) };
            if read > skip {
                return table.note(id_at_end(key)).map(Some);
            }
            skip -= read;
            range.start = behind(key);
        }
    }
}

fn failure(error: SetError) -> LedgerError {
    match error {
        SetError::Ledger(error) => error,
        SetError::TooCostly => LedgerError::Refused { reason: "the chain is too long to count its places".to_owned() },
    }
}
