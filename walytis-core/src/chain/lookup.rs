//! Blocks by the beginning of their id.

use super::core::ChainCore;
use super::schema::{Tag, id_at_end};
use crate::id::BlockId;
use crate::ledger::LedgerError;
use crate::store::{Direction, KeyRange};

impl ChainCore {
    /// Returns the one admitted block whose digest begins with these bytes; nothing if there is none or several.
    pub(crate) async fn by_prefix(&self, prefix: &[u8]) -> Result<Option<BlockId>, LedgerError> {
        let table = &self.inner.table;
        let range = KeyRange::prefix(&table.keys.key(Tag::Node, &[prefix]));
        let found = table.scan(range, Direction::Forward, 2).await?;
        match found.as_slice() {
            [(key, _)] => table.note(id_at_end(key)).map(Some),
            _ => Ok(None),
        }
    }
}
