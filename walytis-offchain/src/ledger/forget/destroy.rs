//! Destroying a content on this device.
//!
//! ```text
//!   tombstone, index entries, wrapped key and envelope gone, event ── one flushed commit
//!      └─► chunks removed from the blob store ─► removed values out of the store's files ─► mark of what remains gone
//! ```
//!
//! Interrupted behind the commit, the rest is done when the ledger opens next: nothing reads or serves it meanwhile.

use walytis_core::ledger::LedgerError;
use walytis_core::store::{Batch, Durability, KeyRange};

use super::rows::{Cause, Dropped, Tombstone};
use crate::envelope::EnvelopeId;
use crate::ledger::Inner;
use crate::ledger::content_state::Phase;
use crate::ledger::settle::Placed;
use crate::ledger::table::{EventKind, LocalRecord, Meta, Standing};

/// Envelopes removed at once.
const REMAINS_AT_ONCE: usize = 64;
/// Envelopes up to which each one's own stretch of the store is rewritten; with more, the stretch of all envelopes.
const STRETCHES_MAX: usize = 8;

impl Inner {
    /// Makes a content unreadable here for good: everything but the bytes in the files is gone when it returns. Returns the
    /// record as it stands then; nothing if it was gone already.
    pub(super) async fn bury(
        &self,
        placed: &Placed,
        old: LocalRecord,
        cause: Cause,
        meta: &mut Meta,
    ) -> Result<Option<LocalRecord>, LedgerError> {
        let (id, table) = (placed.block.id(), &self.table);
        let mut batch = Batch::new();
        if let Some(tombstone) = table.tombstone(&id).await? {
            // Why it is gone may become more than this device's own affair.
            if matches!(cause, Cause::Consent(_)) && !matches!(tombstone.cause, Cause::Consent(_)) {
                table.put_tombstone(&mut batch, &id, &Tombstone { cause });
                table.store.commit(batch, Durability::Flushed).await?;
            }
            return Ok(None);
        }
        let envelope = placed.envelope;
        table.put_tombstone(&mut batch, &id, &Tombstone { cause });
        table.put_dropped(&mut batch, &envelope, Dropped::Forgotten, true);
        if let Some(at_ms) = placed.record.forget.expires_at_ms {
            table.delete_expiry(&mut batch, at_ms, &id);
        }
        self.unindex(&id, &old, &mut batch);
        let mut local = old.clone();
        (local.phase, local.indexed) = (Phase::Forgotten, None);
        if local.standing == Standing::Valid {
            meta.sequence += 1;
            table.put_event(&mut batch, meta.sequence, EventKind::Forgotten, &id);
        }
        table.put_record(&mut batch, &id, (Some(&old), &local), meta);
        table.put_meta(&mut batch, meta);
        table.commit_removal(batch, &[envelope], Durability::Flushed).await?;
        Ok(Some(local))
    }

    /// Removes the bytes of what is dropped from the files of both stores.
    pub(in crate::ledger) async fn remove_remains(&self) -> Result<(), LedgerError> {
        loop {
            let remains = self.table.remains(REMAINS_AT_ONCE).await?;
            if remains.is_empty() {
                return Ok(());
            }
            let mut secret = Vec::new();
            for envelope in &remains {
                self.table.blobs.delete(self.table.object(envelope)).await?;
                // What never was a content of anybody may stand in the store's files until it is written over.
                if self.table.dropped(envelope).await? != Some(Dropped::Foreign) {
                    secret.push(*envelope);
                }
            }
            self.reclaim(&secret).await?;
            let mut batch = Batch::new();
            for envelope in &remains {
                batch.delete(self.table.key(b'R', &[&envelope.0]));
            }
            self.table.store.commit(batch, Durability::Flushed).await?;
        }
    }

    /// Removed values stand in the store's log and tables until they are written anew.
    async fn reclaim(&self, remains: &[EnvelopeId]) -> Result<(), LedgerError> {
        let table = &self.table;
        if remains.len() > STRETCHES_MAX {
            return Ok(table.store.reclaim(table.all(b'm')).await?);
        }
        for envelope in remains {
            table.store.reclaim(KeyRange::prefix(&table.key(b'm', &[&envelope.0]))).await?;
        }
        Ok(())
    }
}
