//! How a repair begins: of an open chain in its task, of one that cannot be opened right here.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::super::core::{ChainCore, ChainParts};
use super::super::table::Table;
use super::super::task::RepairJob;
use super::{Parts, RepairProgress, RepairReport, run};
use crate::ledger::LedgerError;

impl ChainCore {
    /// Checks everything that is stored of the chain and makes it whole again as far as that is possible: from its own
    /// blocks, and with what connected peers still have. The chain is read-only meanwhile, and afterwards if it is not
    /// whole. Cancel-safe: dropped, it goes on in the chain's task.
    ///
    /// # Errors
    /// [`LedgerError`]; the repair can be repeated.
    pub async fn repair(&self, progress: watch::Sender<RepairProgress>) -> Result<RepairReport, LedgerError> {
        if self.is_closed() {
            return Err(LedgerError::Closed);
        }
        let (reply, answer) = oneshot::channel();
        let job = RepairJob { progress, reply };
        self.inner.repairs.send(job).await.map_err(|_| LedgerError::Closed)?;
        answer.await.map_err(|_| LedgerError::Closed)?
    }

    /// Repairs what can be repaired of a chain that cannot be opened, from its own blocks; then it opens, read-only, and
    /// [`Self::repair`] does the rest. Nobody may have the chain open.
    ///
    /// # Errors
    /// [`LedgerError`]; the repair can be repeated.
    pub async fn repair_rows(parts: &ChainParts) -> Result<RepairReport, LedgerError> {
        repair_closed(parts, &watch::Sender::default(), &CancellationToken::new()).await
    }
}

/// Repairs what can be repaired of a chain that is not open, without peers; its mark stays, so that it opens read-only.
pub(crate) async fn repair_closed(
    parts: &ChainParts,
    progress: &watch::Sender<RepairProgress>,
    stop: &CancellationToken,
) -> Result<RepairReport, LedgerError> {
    let table = Table::new(parts.id, Arc::clone(&parts.store));
    table.load_mark().await?;
    if !table.damage.is_set() {
        table.mark("it could not be opened".to_owned());
    }
    table.keep_mark().await;
    let work = Parts {
        chain: parts.id,
        table: &table,
        blobs: &*parts.blobs,
        fetcher: None,
        entropy: &parts.entropy,
        progress,
        stop,
    };
    Ok(run(work).await?.0)
}
