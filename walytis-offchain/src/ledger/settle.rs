//! What becomes of one record: judged, verified against its envelope, shown or retracted.

use walytis_core::block::Block;
use walytis_core::id::BlockId;
use walytis_core::ledger::LedgerError;
use walytis_core::secret::Secret;
use walytis_core::store::{Batch, Durability};
use walytis_identities::id::EpochId;
use walytis_identities::identity::{EpochUse, IdentityError, Judgement, RecordRef};

use super::content_state::{Facts, Here, Phase};
use super::forget::Dropped;
use super::table::{EventKind, LocalRecord, Meta, Standing};
use super::vouched::Voucher;
use super::{Inner, of_identity};
use crate::context::Context;
use crate::envelope::{EnvelopeId, Opener};
use crate::exchange::frame_v1::Packed;
use crate::record::{PrivateHeader, Record};

/// A record with its place.
pub(super) struct Placed {
    pub(super) block: Block,
    pub(super) record: Record,
    pub(super) context: Context,
    /// What its content is asked for and kept by.
    pub(super) envelope: EnvelopeId,
    pub(super) voucher: Voucher,
}

impl Placed {
    /// Says whether an envelope is as long as the record says: keys are not needed for that.
    pub(super) fn fits(&self, packed: &Packed) -> bool {
        packed.manifest.padded_len() == self.record.size_class
    }
}

/// What one record came to.
pub(super) struct Settled {
    pub(super) local: LocalRecord,
    /// Whether anything changed.
    pub(super) changed: bool,
    /// Whether bytes that were fetched for it are to be removed: they are not its own.
    pub(super) refused: bool,
}

impl Inner {
    /// Reads the record of a block; nothing if the block is not of this layer or its content is no record.
    pub(super) async fn placed(&self, id: &BlockId) -> Result<Option<Placed>, LedgerError> {
        let Some(block) = self.chain.block(id).await? else { return Ok(None) };
        let Some((content, voucher)) = self.read_in(&block, &self.topic) else { return Ok(None) };
        let Some(record) = Record::decode(content) else { return Ok(None) };
        let (chain, creator) = (self.table.chain, block.header().creator);
        let context = Context::new(&chain, &self.layer, &record.claim, &creator, &record.epoch, &record.nonce);
        let envelope = EnvelopeId::of(&context, &record);
        Ok(Some(Placed { block, record, context, envelope, voucher }))
    }

    /// Judges a record; `held`: what vouches for it was found to hold before.
    pub(super) async fn judge(&self, placed: &Placed, held: bool) -> Judgement {
        let claim = &placed.record.claim;
        let record = RecordRef {
            block: placed.block.id(),
            creator: placed.block.header().creator,
            author: claim.author,
            auth_heads: claim.auth_heads.clone(),
        };
        self.judge_record(&record, &placed.voucher, held).await
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

    /// Says whether this device sealed a record and has not settled it yet: the mark beside its envelope says so. The key
    /// that signed it does not: it may have been renewed since, and what is left under a mark is cleared away.
    pub(super) async fn is_own(&self, placed: &Placed) -> Result<bool, LedgerError> {
        if placed.record.claim.author != self.identity.controller() {
            return Ok(false);
        }
        let mark = self.table.store.get(&self.table.key(b's', &[&placed.record.nonce])).await?;
        Ok(mark.is_some_and(|envelope| envelope[..] == placed.envelope.0))
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
            indexed: None,
            envelope: placed.envelope.0,
            epoch: placed.record.epoch,
            class: placed.record.size_class,
        });
        let mut batch = Batch::new();
        let header = self.look(placed, &mut local).await?;
        if let Some(header) = header.filter(|_| local.standing == Standing::Valid && local.indexed.is_none()) {
            local.indexed = self.index(&id, &local, &header, &mut batch).await?;
        }
        if let Some(at_ms) = placed.record.forget.expires_at_ms
            && local.standing == Standing::Valid
            && local.phase != Phase::Forgotten
        {
            self.table.put_expiry(&mut batch, at_ms, &id);
        }
        self.tell(&id, &mut local, meta, &mut batch);
        let (changed, mut gone) = (old.as_ref() != Some(&local), Vec::new());
        if changed && local.standing == Standing::Foreign {
            gone.extend(self.table.stored(&placed.envelope).await?.map(|_| placed.envelope));
            self.table.put_dropped(&mut batch, &placed.envelope, Dropped::Foreign, !gone.is_empty());
        }
        if own && !self.rules.hybrid {
            meta.unsealed = meta.unsealed.saturating_add(1);
        }
        if own {
            batch.delete(self.table.key(b's', &[&placed.record.nonce]));
        }
        if changed || own {
            self.table.put_record(&mut batch, &id, (old.as_ref(), &local), meta);
            self.table.put_meta(&mut batch, meta);
            // All of it can be found again from the chain and the envelopes.
            self.table.commit_removal(batch, &gone, Durability::Buffered).await?;
        }
        Ok(Settled { local, changed, refused: !gone.is_empty() })
    }

    /// Sets standing and phase; returns the opened header, if the record counts and its key is here.
    async fn look(&self, placed: &Placed, local: &mut LocalRecord) -> Result<Option<PrivateHeader>, LedgerError> {
        local.standing = match self.judge(placed, local.standing == Standing::Valid).await {
            Judgement::Wait => Standing::Waiting,
            Judgement::Void(_) => Standing::Void,
            // What it is cannot be seen any more.
            Judgement::Valid if local.standing == Standing::Foreign && local.phase == Phase::Forgotten => {
                Standing::Foreign
            }
            Judgement::Valid => Standing::Valid,
        };
        let settled = matches!(local.phase, Phase::Available) && local.indexed.is_some();
        if local.standing != Standing::Valid || local.phase == Phase::Forgotten || settled {
            return Ok(None);
        }
        let record = &placed.record;
        if local.phase == Phase::Wanted
            && let Some(why) = self.table.dropped(&placed.envelope).await?
        {
            match why {
                Dropped::Forgotten => local.phase = Phase::Forgotten,
                Dropped::Foreign => local.standing = Standing::Foreign,
            }
            return Ok(None);
        }
        let key = self.epoch_key(&record.epoch, EpochUse::RecordHeader).await?;
        let header = key.as_ref().map(|key| record.open_header(key, &placed.context));
        if matches!(header, Some(None)) {
            (local.standing, local.phase) = (Standing::Foreign, Phase::Wanted);
            return Ok(None);
        }
        let header = header.flatten();
        if local.phase != Phase::Available {
            self.look_at_envelope(placed, header.is_some(), local).await?;
        }
        Ok(header)
    }

    /// Sets the phase by what is here of the envelope.
    async fn look_at_envelope(
        &self,
        placed: &Placed,
        header_opens: bool,
        local: &mut LocalRecord,
    ) -> Result<(), LedgerError> {
        let record = &placed.record;
        let stored = self.table.stored(&placed.envelope).await?;
        let here = match &stored {
            None => Here::Nothing,
            Some(packed) if self.table.chunks_here(&placed.envelope, packed).await?.iter().all(|here| *here) => {
                Here::All
            }
            Some(_) => Here::Some,
        };
        let wrap = match header_opens {
            true => self.epoch_key(&record.epoch, EpochUse::ContentWrap).await?,
            false => None,
        };
        let facts = Facts { here, key: wrap.is_some(), nobody_has: false, forgotten: false };
        local.phase = facts.phase();
        // Also of what is here in part: what is not this record's own is neither fetched on nor served for it.
        if let Some(packed) = &stored
            && !(placed.fits(packed) && wrap.is_none_or(|wrap| opens(placed, packed, &wrap)))
        {
            (local.standing, local.phase) = (Standing::Foreign, Phase::Wanted);
        }
        Ok(())
    }

    /// Writes down the event that follows from the change, if one does.
    fn tell(&self, id: &BlockId, local: &mut LocalRecord, meta: &mut Meta, batch: &mut Batch) {
        let readable = local.standing == Standing::Valid && local.phase == Phase::Available;
        let retracted = matches!(local.standing, Standing::Void | Standing::Foreign);
        if readable && !local.shown {
            meta.sequence += 1;
            (local.shown, local.cursor) = (true, meta.sequence);
            self.table.put_event(batch, meta.sequence, EventKind::Block, id);
        } else if retracted && local.shown {
            meta.sequence += 1;
            local.shown = false;
            self.table.put_event(batch, meta.sequence, EventKind::Retracted, id);
        }
    }
}

/// Checks the key commitment, and of a small envelope the content itself.
fn opens(placed: &Placed, packed: &Packed, wrap: &Secret<32>) -> bool {
    let Some(opener) = Opener::new(&packed.manifest, wrap, placed.context) else { return false };
    packed.chunk.as_ref().is_none_or(|chunk| opener.open(0, chunk.clone()).is_some())
}
