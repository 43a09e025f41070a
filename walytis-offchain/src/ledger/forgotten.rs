//! Dropping contents for ever: what forgetting does to one device.
//!
//! ```text
//!   marked dropped, manifest and index rows gone (flushed) ──► chunks removed ──► noted (flushed)
//! ```
//!
//! From the first step on the envelope is neither wanted nor served nor taken from anybody; a crash before the last one
//! is made up for at the next opening.

use tokio::sync::oneshot;
use walytis_core::id::BlockId;
use walytis_core::ledger::LedgerError;
use walytis_core::store::{Batch, Durability};

use super::Inner;
use super::content_state::Phase;
use super::table::Meta;
use crate::envelope::EnvelopeId;

/// What the task of a ledger is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    /// Drop the content of a block for ever: its envelope, its key and its place in the index.
    Drop { block: BlockId, reply: oneshot::Sender<Result<(), LedgerError>> },
}

impl Inner {
    /// Drops the content of a block on this device for ever, whether it is here, on its way or unavailable. It is gone from
    /// the store when this returns; bytes that the store has not given back yet go with
    /// [`KvStore::reclaim`](walytis_core::store::KvStore::reclaim). Harmless when repeated.
    ///
    /// # Errors
    /// [`LedgerError::UnknownBlock`], [`LedgerError::Closed`], [`LedgerError`] of the stores.
    pub(super) async fn drop_content(&self, block: BlockId) -> Result<(), LedgerError> {
        let (reply, done) = oneshot::channel();
        let sent = self.commands.send(Command::Drop { block, reply }).await;
        sent.map_err(|_| LedgerError::Closed)?;
        tokio::select! {
            biased;
            result = done => result.map_err(|_| LedgerError::Closed)?,
            () = self.stop.cancelled() => Err(LedgerError::Closed),
        }
    }

    /// The work of [`Command::Drop`]; returns the envelope, which is not to be wanted any more.
    pub(super) async fn carry_out_drop(&self, block: &BlockId, meta: &mut Meta) -> Result<EnvelopeId, LedgerError> {
        let old = self.table.record(block).await?.ok_or(LedgerError::UnknownBlock { id: *block })?;
        let envelope = EnvelopeId(old.envelope);
        let mut batch = Batch::new();
        batch.put(self.table.key(b'd', &[&envelope.0]), vec![1]);
        self.table.delete_stored(&mut batch, &envelope);
        self.unindex(block, &old, &mut batch);
        let mut new = old.clone();
        (new.phase, new.indexed) = (Phase::Forgotten, None);
        self.table.put_record(&mut batch, block, (Some(&old), &new), meta);
        self.table.put_meta(&mut batch, meta);
        self.table.store.commit(batch, Durability::Flushed).await?;
        self.table.remove_dropped(&envelope).await?;
        Ok(envelope)
    }
}
