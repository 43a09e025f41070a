//! A quick look at a stored chain that is not open, or open elsewhere in this process: nothing is written.

use std::sync::Arc;

use super::schema::Tag;
use super::table::Table;
use crate::id::{BlockId, ChainId};
use crate::store::{Direction, KvStore};

/// Heads whose files are read. Chosen: a moment of work.
const HEADS_READ: usize = 64;

/// Reads the mark, counters, heads and arrival number of a chain, the files of heads and genesis; returns the number of
/// blocks, or what is wrong.
pub(crate) async fn inspect(store: Arc<dyn KvStore>, id: &ChainId) -> Result<u64, String> {
    let table = Table::new(*id, store);
    let looked = look(&table, id).await;
    match (table.damage(), looked) {
        (Some(reason), _) => Err(reason),
        (None, Err(error)) => Err(error.to_string()),
        (None, Ok(None)) => Err("its counters are missing".to_owned()),
        (None, Ok(Some(blocks))) => Ok(blocks),
    }
}

async fn look(table: &Table, id: &ChainId) -> Result<Option<u64>, crate::ledger::LedgerError> {
    table.load_mark().await?;
    let Some(tip) = table.open().await? else { return Ok(None) };
    let mut ids: Vec<BlockId> = tip.heads.ids().into_iter().take(HEADS_READ).collect();
    ids.push(id.0);
    for (id, file) in ids.iter().zip(table.files(&ids).await?) {
        if file.is_none() {
            let key = table.keys.of_block(Tag::File, id);
            return table.note(Err(crate::store::StoreError::corrupt(&key, "the block file is missing")));
        }
    }
    let last = table.scan(table.keys.all(Tag::Canonical), Direction::Reverse, 1).await?;
    if last.is_empty() {
        return table
            .note(Err(crate::store::StoreError::corrupt(&table.keys.meta(), "the canonical order is missing")));
    }
    Ok(Some(tip.meta.count))
}
