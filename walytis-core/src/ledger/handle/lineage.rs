//! Which held events a block descends from.

use std::collections::BTreeSet;

use super::backlog::Backlog;
use crate::id::BlockId;
use crate::ledger::{LedgerError, LedgerRead};

/// Nodes that one walk visits; a block whose ancestors are not found out by then waits for all that is held. Chosen: far
/// above what lies between two events that follow each other, and some milliseconds of reading.
const VISITS_MAX: usize = 4_096;
/// Blocks that are known to descend from nothing held. Chosen: as many as one walk visits, twice.
const FREE_MAX: usize = 2 * VISITS_MAX;

/// Blocks that were found to descend from nothing held; good until something more is held.
#[derive(Debug, Default)]
pub(super) struct Free(BTreeSet<BlockId>);

impl Free {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the held events that stand next above `parents` on any way down to genesis.
    pub(super) async fn ancestors_held(
        &mut self,
        ledger: &impl LedgerRead,
        backlog: &Backlog,
        parents: &[BlockId],
    ) -> Result<BTreeSet<u64>, LedgerError> {
        let mut found = BTreeSet::new();
        if backlog.is_empty() {
            self.clear();
            return Ok(found);
        }
        let floor = backlog.floor();
        let (mut next, mut seen) = (parents.to_vec(), BTreeSet::new());
        while let Some(id) = next.pop() {
            if self.0.contains(&id) || !seen.insert(id) {
                continue;
            }
            if seen.len() > VISITS_MAX {
                return Ok(backlog.positions());
            }
            let before = found.len();
            found.extend(backlog.of_block(&id));
            if found.len() > before {
                continue;
            }
            if let Some(node) = ledger.node(&id).await?.filter(|node| node.generation > floor) {
                next.extend(node.parents);
            }
        }
        if found.is_empty() {
            if self.0.len() + seen.len() > FREE_MAX {
                self.0.clear();
            }
            self.0.append(&mut seen);
        }
        Ok(found)
    }
}
