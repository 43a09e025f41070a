//! Hybrid checkpoints: made over what this device wrote, kept of everybody, asked who stands for a block.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;
use walytis_core::id::BlockId;
use walytis_core::key::PublicKey;
use walytis_core::ledger::{Author, LedgerError, LedgerRead as _, NewBlock};
use walytis_core::store::{Batch, Direction, Durability, KeyRange};
use walytis_identities::claim::Claim;
use walytis_identities::identity::{IdentityError, Judgement, RecordRef};

use super::task::Task;
use super::{Inner, PrivateLedger, of_identity};
use crate::checkpoint::{CHECKPOINT_CONTEXT, CHECKPOINT_HEADS_MAX, Checkpoint};

/// Own records after which a checkpoint is made.
const RECORDS: u64 = 256;
/// Time after which one is made although there are fewer.
const AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// The same after a start, when nothing says how old the first of them is; also until the next try after one that failed.
const AFTER_START: Duration = Duration::from_secs(60 * 60);
/// Blocks looked at for one answer. Chosen: far more than a chain gets between two checkpoints of one device.
const WALK_MAX: usize = 65_536;
/// Blocks read at once.
const STEP: usize = 256;
/// Signatures tried for one checkpoint while the device renews its keys.
const SIGNED_AGAIN: usize = 3;
/// Checkpoints tried for one answer.
const CHECKPOINTS_TRIED: usize = 8;

/// Who stands for a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorship {
    /// The controller that wrote it, as the record claims and the identity's state confirms.
    pub controller: Author,
    /// The key of the device that signed the block (Ed25519).
    pub device: PublicKey,
    /// The checkpoint by which the same device vouches for the block under its post-quantum key as well, if there is one
    /// yet.
    pub checkpoint: Option<BlockId>,
    /// The block itself carries a signature under both keys of the device, as its chain asks for.
    pub hybrid: bool,
}

impl PrivateLedger {
    /// Returns who stands for a block, or nothing if the ledger has no such block or it does not count.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn authorship(&self, id: &BlockId) -> Result<Option<Authorship>, LedgerError> {
        let Some(info) = self.0.shown_block(id).await? else { return Ok(None) };
        if matches!(info.state, walytis_core::ledger::BlockState::Void { .. }) {
            return Ok(None);
        }
        let checkpoint = self.0.covering(id, &info.creator, info.generation).await?;
        Ok(Some(Authorship { controller: info.author, device: info.creator, checkpoint, hybrid: self.0.rules.hybrid }))
    }
}

impl Inner {
    /// Reads and checks a checkpoint; nothing if the block is none or its signature does not hold.
    async fn checkpoint(&self, id: &BlockId) -> Result<Option<(Checkpoint, PublicKey, u64)>, LedgerError> {
        let Some(block) = self.chain.block(id).await? else { return Ok(None) };
        let header = block.header();
        if header.topics != std::slice::from_ref(&self.checkpoint_topic) {
            return Ok(None);
        }
        let Some(checkpoint) = block.inline().and_then(|content| Checkpoint::decode(content)) else { return Ok(None) };
        let message = Checkpoint::message(&self.table.chain, &self.layer, &checkpoint.heads);
        let verified = self.identity.verify(&checkpoint.signature, CHECKPOINT_CONTEXT, &message).await;
        let holds = verified == Some((checkpoint.claim.author, header.creator));
        if !holds {
            debug!(ledger = ?self, %id, "a checkpoint does not hold");
        }
        Ok(holds.then_some((checkpoint, header.creator, header.generation)))
    }

    /// Keeps a checkpoint that has come, if it holds.
    async fn take_checkpoint(&self, id: &BlockId, batch: &mut Batch) -> Result<(), LedgerError> {
        if let Some((_, creator, generation)) = self.checkpoint(id).await? {
            let parts: [&[u8]; 3] = [creator.as_bytes(), &generation.to_be_bytes(), id.digest()];
            batch.put(self.table.key(b'h', &parts), bytes::Bytes::new());
        }
        Ok(())
    }

    /// Signs the heads of the chain and adds the signature to it.
    async fn make_checkpoint(&self) -> Result<(), LedgerError> {
        let mut heads = self.chain.heads().await?;
        heads.truncate(CHECKPOINT_HEADS_MAX);
        let message = Checkpoint::message(&self.table.chain, &self.layer, &heads);
        for _ in 0..SIGNED_AGAIN {
            let signer = self.identity.device_signer();
            let signature = self.identity.sign(CHECKPOINT_CONTEXT, &message).await.map_err(of_identity)?;
            let claim = Claim { author: self.identity.controller(), auth_heads: self.identity.auth_heads().await };
            // The device may have renewed its keys in between; what holds is a signature and a block by the same ones.
            let by = self.identity.verify(&signature, CHECKPOINT_CONTEXT, &message).await;
            if by == Some((claim.author, signer.public_key())) {
                let content = Checkpoint { claim, heads, signature }.encode();
                let block = NewBlock { content: content.into(), topics: vec![self.checkpoint_topic.clone()] };
                return self.chain.append_many(vec![block], signer).await.map(drop);
            }
        }
        let reason = "this device's keys change while it signs a checkpoint".to_owned();
        Err(of_identity(IdentityError::Refused { reason }))
    }

    /// Returns the first checkpoint of a device that covers a block of it.
    async fn covering(
        &self,
        id: &BlockId,
        device: &PublicKey,
        generation: u64,
    ) -> Result<Option<BlockId>, LedgerError> {
        let mut range = KeyRange::prefix(&self.table.key(b'h', &[device.as_bytes()]));
        range.start = self.table.key(b'h', &[device.as_bytes(), &generation.saturating_add(1).to_be_bytes()]);
        for (key, _) in self.table.store.scan(range, Direction::Forward, CHECKPOINTS_TRIED).await? {
            let Some(found) = key.last_chunk().map(|bytes| BlockId::from_digest(*bytes)) else { continue };
            if let Some((checkpoint, creator, _)) = self.checkpoint(&found).await?
                && self.counts(&found, creator, &checkpoint.claim).await
                && self.is_within(id, generation, &checkpoint.heads).await?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn counts(&self, block: &BlockId, creator: PublicKey, claim: &Claim) -> bool {
        let (author, auth_heads) = (claim.author, claim.auth_heads.clone());
        self.identity.judge(&RecordRef { block: *block, creator, author, auth_heads }).await == Judgement::Valid
    }

    /// Says whether a block is one of `heads` or an ancestor of one.
    async fn is_within(&self, id: &BlockId, generation: u64, heads: &[BlockId]) -> Result<bool, LedgerError> {
        let mut seen: BTreeSet<BlockId> = heads.iter().copied().collect();
        let mut open: Vec<BlockId> = heads.to_vec();
        while !open.is_empty() && !seen.contains(id) && seen.len() < WALK_MAX {
            let step = open.split_off(open.len().saturating_sub(STEP));
            for node in self.chain.core().nodes(&step).await?.into_iter().flatten() {
                // Ancestors of these are too old to be it.
                if node.generation > generation {
                    open.extend(node.parents.iter().filter(|parent| seen.insert(**parent)));
                }
            }
        }
        Ok(seen.contains(id))
    }
}

/// When the next checkpoint is due.
#[derive(Debug, Default)]
pub(super) struct Due {
    at: Option<Instant>,
    not_before: Option<Instant>,
}

impl Due {
    /// After a start with so many records that no checkpoint covers.
    pub(super) fn after_start(unsealed: u64) -> Self {
        Self { at: (unsealed > 0).then(|| Instant::now() + AFTER_START), not_before: None }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.at.max(self.not_before)
    }

    /// Says whether a checkpoint is to be made now, with so many records that none covers.
    fn is(&mut self, unsealed: u64) -> bool {
        if unsealed == 0 {
            *self = Self::default();
            return false;
        }
        let now = Instant::now();
        let at = *self.at.get_or_insert(now + AGE);
        if unsealed >= RECORDS {
            self.at = Some(at.min(now));
        }
        self.poll_timeout().is_some_and(|at| at <= now)
    }

    /// It cannot be made now.
    fn put_off(&mut self) {
        self.not_before = Some(Instant::now() + AFTER_START);
    }
}

impl Task {
    /// Makes a checkpoint if one is due. One that cannot be made now is tried again later.
    pub(super) async fn seal_if_due(&mut self) -> Result<(), LedgerError> {
        if !self.seal_due.is(self.meta.unsealed) {
            return Ok(());
        }
        match self.inner.make_checkpoint().await {
            // Records that are added from now on count for the next one.
            Ok(()) => self.meta.unsealed = 0,
            Err(error @ (LedgerError::Store(_) | LedgerError::Blob(_))) => {
                self.seal_due.put_off();
                return Err(error);
            }
            Err(error) => {
                debug!(ledger = ?self.inner, %error, "no checkpoint now");
                self.seal_due.put_off();
            }
        }
        Ok(())
    }

    /// Takes in a checkpoint that stands on the chain.
    pub(super) async fn handle_checkpoint(&mut self, id: &BlockId) -> Result<(), LedgerError> {
        let mut batch = Batch::new();
        self.inner.take_checkpoint(id, &mut batch).await?;
        self.inner.table.put_meta(&mut batch, &self.meta);
        self.inner.table.store.commit(batch, Durability::Buffered).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_checkpoint_is_due_after_so_many_records_or_so_much_time() {
        let mut due = Due::default();
        assert!(!due.is(0) && due.poll_timeout().is_none());
        assert!(!due.is(1));
        tokio::time::advance(AGE - Duration::from_secs(1)).await;
        assert!(!due.is(RECORDS - 1));
        assert!(due.is(RECORDS));
        // It failed: not again with the next record, but with the next hour.
        due.put_off();
        assert!(!due.is(RECORDS + 1));
        tokio::time::advance(AFTER_START).await;
        assert!(due.is(RECORDS + 1));
        assert!(!due.is(0) && !due.is(1), "it was made: a new day begins");
        tokio::time::advance(AGE).await;
        assert!(due.is(1));
        let mut due = Due::after_start(3);
        assert!(!due.is(3));
        tokio::time::advance(AFTER_START).await;
        assert!(due.is(3));
    }
}
