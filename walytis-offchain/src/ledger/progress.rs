//! How contents come nearer, as a stream.

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::broadcast::error::RecvError;
use walytis_core::ledger::LedgerError;

use super::PrivateLedger;
use super::status::BlockStatus;

/// One step of the contents of a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The block whose content came nearer, or whose state changed; as it stands now.
    pub block: BlockStatus,
    /// Contents that count and are not here whole, of all blocks.
    pub missing_contents: u64,
    /// Bytes of those, padded, as far as their records say.
    pub missing_bytes: u64,
}

impl PrivateLedger {
    /// Returns how many contents that count are not here whole, and their bytes, padded.
    pub fn missing(&self) -> (u64, u64) {
        let meta = self.0.state.borrow().meta;
        (meta.missing, meta.missing_bytes)
    }

    /// Follows how contents come nearer, from now on, until the ledger ends. A listener that is slower than the network
    /// misses steps, never the last one of a block that it then sees.
    pub fn progress(&self) -> BoxStream<'static, Result<Progress, LedgerError>> {
        let (moves, stop) = (self.0.moves.subscribe(), self.0.stop.clone());
        // The handle keeps the ledger open no longer than its owner does.
        let inner = Arc::downgrade(&self.0);
        stream::try_unfold((moves, inner, stop), |(mut moves, inner, stop)| async move {
            loop {
                let moved = tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ok(None),
                    moved = moves.recv() => moved,
                };
                let id = match moved {
                    Ok(id) => id,
                    Err(RecvError::Lagged(_)) => continue,
                    Err(RecvError::Closed) => return Ok(None),
                };
                let Some(ledger) = inner.upgrade() else { return Ok(None) };
                let meta = ledger.state.borrow().meta;
                let Some(info) = ledger.shown_block(&id).await? else { continue };
                let Some(block) = BlockStatus::of(&info) else { continue };
                let progress = Progress { block, missing_contents: meta.missing, missing_bytes: meta.missing_bytes };
                drop(ledger);
                return Ok(Some((progress, (moves, inner, stop))));
            }
        })
        .boxed()
    }
}
