//! What becomes of one record: judged, verified against its envelope, shown or retracted.

use walytis_core::block::Block;
use walytis_core::id::BlockId;
use walytis_core::ledger::LedgerError;
use walytis_core::secret::Secret;
use walytis_core::store::{Batch, Durability};
use walytis_identities::id::EpochId;
use walytis_identities::identity::{EpochUse, IdentityError, Judgement, RecordRef};

use super::table::{LocalRecord, Meta, Phase, Standing, Stored, index_key};
use super::{Inner, of_identity};
use crate::context::Context;
use crate::envelope::Opener;
use crate::record::{PrivateHeader, Record};

/// A record with its place.
pub(super) struct Placed {
    pub(super) block: Block,
    pub(super) record: Record,
    pub(super) context: Context,
}

/// What one record came to.
pub(super) struct Settled {
    pub(super) local: LocalRecord,
    /// Whether anything changed.
    pub(super) changed: bool,
}

impl Inner {
    /// Reads the record of a block; nothing if the block is not of this layer or its content is no record.
    pub(super) async fn placed(&self, id: &BlockId) -> Result<Option<Placed>, LedgerError> {
        let Some(block) = self.chain.block(id).await? else { return Ok(None) };
        if block.header().topics != std::slice::from_ref(&self.topic) {
            return Ok(None);
        }
        let Some(record) = block.inline().and_then(|content| Record::decode(content)) else { return Ok(None) };
        let (chain, creator) = (self.table.chain, block.header().creator);
        let context = Context::new(&chain, &self.layer, &record.claim, &creator, &record.epoch, &record.nonce);
        Ok(Some(Placed { block, record, context }))
    }

    pub(super) async fn judge(&self, placed: &Placed) -> Judgement {
        let claim = &placed.record.claim;
        let record = RecordRef {
            block: placed.block.id(),
            creator: placed.block.header().creator,
            author: claim.author,
            auth_heads: claim.auth_heads.clone(),
        };
        self.identity.judge(&record).await
    }

    /// The key of an epoch, or nothing while it is not here.
    pub(super) async fn epoch_key(&self, epoch: &EpochId, use_: EpochUse) -> Result<Option<Secret<32>>, LedgerError> {
        match self.identity.derive(epoch, use_).await {
            Ok(key) => Ok(Some(key)),
            Err(IdentityError::NoEpochSecret { .. } | IdentityError::Locked | IdentityError::Refused { .. }) => {
                Ok(None)
            }
            Err(error) => Err(of_identity(error)),
        }
    }

    /// Judges a record again under what is known now and writes down what follows, in one batch.
    pub(super) async fn settle(&self, placed: &Placed, meta: &mut Meta, own: bool) -> Result<Settled, LedgerError> {
        let id = placed.block.id();
        let old = self.table.record(&id).await?;
        let mut local = old.clone().unwrap_or(LocalRecord {
            generation: placed.block.header().generation,
            standing: Standing::Waiting,
            phase: Phase::Wanted,
            cursor: 0,
            shown: false,
            indexed: false,
            envelope: placed.record.envelope.0,
            epoch: placed.record.epoch,
        });
        let stored = self.table.stored(&placed.record.envelope).await?;
        let mut batch = Batch::new();
        let header = self.look(placed, stored.as_ref(), &mut local).await?;
        if let Some((header, key)) = header.filter(|_| local.standing == Standing::Valid && !local.indexed) {
            local.indexed = true;
            let generation = local.generation.to_be_bytes();
            for topic in &header.topics {
                let entry = self.table.topic_key(&index_key(&key), topic, &[&generation, id.digest()]);
                batch.put(entry, bytes::Bytes::new());
            }
        }
        let named = self.table.key(b'v', &[&placed.record.envelope.0, id.digest()]);
        if local.standing == Standing::Valid && local.phase != Phase::Wanted {
            batch.put(named, placed.record.epoch.as_bytes().to_vec());
        } else {
            // What does not count any more is not served any more.
            batch.delete(named);
        }
        self.tell(&id, &mut local, meta, &mut batch);
        let counted = old.as_ref().is_some_and(|old| old.standing == Standing::Valid);
        match (counted, local.standing == Standing::Valid) {
            (false, true) => meta.valid += 1,
            (true, false) => meta.valid = meta.valid.saturating_sub(1),
            _ => {}
        }
        let changed = old.as_ref() != Some(&local);
        if own {
            batch.delete(self.table.key(b's', &[&placed.record.nonce]));
        }
        if changed || own {
            self.table.put_record(&mut batch, &id, &local);
            self.table.put_meta(&mut batch, meta);
            // All of it can be found again from the chain and the envelopes.
            self.table.store.commit(batch, Durability::Buffered).await?;
        }
        Ok(Settled { local, changed })
    }

    /// Sets standing and phase; returns the opened header and its key, if the key is here.
    async fn look(
        &self,
        placed: &Placed,
        stored: Option<&Stored>,
        local: &mut LocalRecord,
    ) -> Result<Option<(PrivateHeader, Secret<32>)>, LedgerError> {
        local.standing = match self.judge(placed).await {
            Judgement::Wait => Standing::Waiting,
            Judgement::Void(_) => Standing::Void,
            Judgement::Valid => Standing::Valid,
        };
        if local.standing != Standing::Valid {
            return Ok(None);
        }
        let record = &placed.record;
        let key = self.epoch_key(&record.epoch, EpochUse::RecordHeader).await?;
        let header = match &key {
            Some(key) => match record.open_header(key, &placed.context) {
                Some(header) => Some(header),
                None => {
                    local.standing = Standing::Foreign;
                    return Ok(None);
                }
            },
            None => None,
        };
        if local.phase == Phase::Available {
            return Ok(header.zip(key));
        }
        local.phase = match stored {
            None => Phase::Wanted,
            Some(stored) if !self.table.chunks_here(stored).await?.iter().all(|here| *here) => Phase::Wanted,
            Some(_) if header.is_none() => Phase::Locked,
            Some(stored) => match self.epoch_key(&record.epoch, EpochUse::ContentWrap).await? {
                None => Phase::Locked,
                Some(wrap) if opens(placed, stored, &wrap) => Phase::Available,
                Some(_) => {
                    local.standing = Standing::Foreign;
                    Phase::Wanted
                }
            },
        };
        Ok(header.zip(key))
    }

    /// Writes down the event that follows from the change, if one does.
    fn tell(&self, id: &BlockId, local: &mut LocalRecord, meta: &mut Meta, batch: &mut Batch) {
        let readable = local.standing == Standing::Valid && local.phase == Phase::Available;
        let retracted = matches!(local.standing, Standing::Void | Standing::Foreign);
        if readable && !local.shown {
            meta.sequence += 1;
            (local.shown, local.cursor) = (true, meta.sequence);
            self.table.put_event(batch, meta.sequence, false, id);
        } else if retracted && local.shown {
            meta.sequence += 1;
            local.shown = false;
            self.table.put_event(batch, meta.sequence, true, id);
        }
    }
}

/// Checks the key commitment, and of a small envelope the content itself.
fn opens(placed: &Placed, stored: &Stored, wrap: &Secret<32>) -> bool {
    let manifest = &stored.packed.manifest;
    if manifest.padded_len() != placed.record.size_class {
        return false;
    }
    let Some(opener) = Opener::new(manifest, wrap, placed.context) else { return false };
    stored.packed.chunk.as_ref().is_none_or(|chunk| opener.open(0, chunk).is_some())
}
