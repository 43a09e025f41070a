//! A quick look at the chains of a data folder without opening them: for the doctor.

use std::sync::Arc;

use super::records::{self, ChainRecord};
use crate::chain::inspect;
use crate::id::ChainId;
use crate::store::{Direction, KvStore, StoreError};

/// Chain records read at once.
const PAGE: usize = 1_024;

/// How a stored chain looks at first sight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainCheck {
    /// The chain.
    pub id: ChainId,
    /// Its local name, if its record can be read.
    pub name: Option<String>,
    /// Blocks, if they can be told.
    pub blocks: Option<u64>,
    /// What is wrong.
    pub problem: Option<String>,
}

/// Looks at every chain of a store: its record, the mark of its damage, counters, heads, the newest files. Writes nothing,
/// needs no keys, and costs the same for long chains as for short ones; only a repair reads everything.
///
/// # Errors
/// [`StoreError`] if the list of chains cannot be read.
pub async fn inspect_chains(store: &Arc<dyn KvStore>) -> Result<Vec<ChainCheck>, StoreError> {
    let mut found = Vec::new();
    let mut range = records::chains();
    loop {
        let page = store.scan(range.clone(), Direction::Forward, PAGE).await?;
        for (key, value) in &page {
            let Some(id) = records::chain_of(key) else { continue };
            found.push(check(store, id, ChainRecord::decode(key, value)).await);
        }
        match page.last() {
            Some((key, _)) if page.len() == PAGE => range.start = [key, &[0][..]].concat(),
            _ => return Ok(found),
        }
    }
}

async fn check(store: &Arc<dyn KvStore>, id: ChainId, record: Result<ChainRecord, StoreError>) -> ChainCheck {
    let bare = ChainCheck { id, name: None, blocks: None, problem: None };
    match record {
        Err(error) => ChainCheck { problem: Some(error.to_string()), ..bare },
        // An import under way, or a removal that the next start finishes.
        Ok(record) if record.deleting => ChainCheck { name: Some(record.name), ..bare },
        Ok(record) => match inspect(Arc::clone(store), &id).await {
            Ok(blocks) => ChainCheck { name: Some(record.name), blocks: Some(blocks), ..bare },
            Err(problem) => ChainCheck { name: Some(record.name), problem: Some(problem), ..bare },
        },
    }
}
