//! Reading: what a block shows, and its content.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use tokio_util::io::StreamReader;
use tokio_util::task::AbortOnDropHandle;
use walytis_core::id::BlockId;
use walytis_core::ledger::{Author, BlockInfo, BlockState, ContentReader, Cursor, LedgerError};
use walytis_identities::identity::{EpochUse, IdentityError, Judgement};

use super::Inner;
use super::content_state::{ContentState, Facts, Here, Phase};
use super::table::{LocalRecord, Standing, Table};
use crate::envelope::{CHUNK, EnvelopeId, Opener};
use crate::exchange::frame_v1::Packed;

/// How long `content` waits for what is being fetched. Chosen: a person's patience.
const PATIENCE: Duration = Duration::from_secs(20);
/// Chunks read and opened ahead of the reader. Chosen: both cores are busy; bounds memory.
const READ_AHEAD: usize = 4;

impl Inner {
    /// Returns what a block shows now.
    pub(super) async fn info(&self, id: &BlockId, local: &LocalRecord) -> Result<BlockInfo, LedgerError> {
        let unknown = || LedgerError::UnknownBlock { id: *id };
        let placed = self.placed(id).await?.ok_or_else(unknown)?;
        let (header, record) = (placed.block.header().clone(), &placed.record);
        let key = self.epoch_key(&record.epoch, EpochUse::RecordHeader).await?;
        let key_is_here = key.is_some();
        let opened = key.and_then(|key| record.open_header(&key, &placed.context)).unwrap_or_else(|| {
            // Locked: the size class is all that shows.
            crate::record::PrivateHeader { len: record.size_class, ..Default::default() }
        });
        let state = match local.standing {
            Standing::Waiting => BlockState::Wanted,
            Standing::Foreign => BlockState::Void { reason: "O-RECORD-01" },
            Standing::Void => match self.judge(&placed, false).await {
                Judgement::Void(reason) => BlockState::Void { reason },
                _ => BlockState::Wanted,
            },
            Standing::Valid => self.content_state(local, key_is_here, opened.len).await?,
        };
        Ok(BlockInfo {
            id: *id,
            generation: header.generation,
            parents: header.parents,
            creator: header.creator,
            author: Author(record.claim.author.to_string().into()),
            created_at_ms: header.created_at_ms,
            topics: opened.topics,
            size: opened.len,
            cursor: Cursor(local.cursor),
            state,
        })
    }

    async fn content_state(&self, local: &LocalRecord, key: bool, len: u64) -> Result<BlockState, LedgerError> {
        let envelope = EnvelopeId(local.envelope);
        let chunks = match (local.phase, self.table.stored(&envelope).await?) {
            (Phase::Wanted, Some(packed)) => {
                self.table.chunks_here(&envelope, &packed).await?.iter().filter(|here| **here).count()
            }
            _ => 0,
        };
        let here = match local.phase {
            Phase::Locked | Phase::Available => Here::All,
            _ if chunks > 0 => Here::Some,
            _ => Here::Nothing,
        };
        let facts = Facts {
            here,
            // What was opened once cannot be read while the vault is locked.
            key: key && local.phase != Phase::Locked,
            nobody_has: self.unavailable().contains(&envelope),
            forgotten: local.phase == Phase::Forgotten,
        };
        let bytes_done = (chunks as u64).saturating_mul(u64::from(CHUNK)).min(len);
        Ok(match facts.state() {
            ContentState::Available => BlockState::Available,
            ContentState::Locked => BlockState::Locked,
            ContentState::Wanted => BlockState::Wanted,
            ContentState::Unavailable => BlockState::Unavailable,
            ContentState::Partial => BlockState::Partial { bytes_done, bytes_total: len },
            ContentState::Forgotten => BlockState::Forgotten,
        })
    }

    /// Streams a part of a content, waiting a while for one that is being fetched.
    pub(super) async fn content(
        self: &Arc<Self>,
        id: &BlockId,
        range: Range<u64>,
    ) -> Result<ContentReader, LedgerError> {
        let mut state = self.state.subscribe();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            state.mark_unchanged();
            let unavailable = |reason| LedgerError::Unavailable { id: *id, reason };
            let local = self.table.record(id).await?.filter(|local| local.standing != Standing::Waiting);
            let local = local.ok_or(LedgerError::UnknownBlock { id: *id })?;
            match (local.standing, local.phase) {
                (Standing::Valid, Phase::Available) => return self.open_content(id, &local, range).await,
                (Standing::Valid, Phase::Locked) => {
                    // It may have come while the vault was locked, and still be.
                    let key = self.identity.derive(&local.epoch, EpochUse::ContentWrap).await;
                    let locked = matches!(key, Err(IdentityError::Locked));
                    return Err(if locked { LedgerError::Locked } else { unavailable("its key is not here") });
                }
                (Standing::Valid, Phase::Forgotten) => return Err(unavailable("it was forgotten")),
                (Standing::Valid, Phase::Wanted) => {}
                _ => return Err(unavailable("the block does not count")),
            }
            if self.unavailable().contains(&EnvelopeId(local.envelope)) {
                return Err(unavailable("nobody who is connected has it"));
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(LedgerError::Closed),
                changed = state.changed() => changed.map_err(|_| LedgerError::Closed)?,
                () = tokio::time::sleep_until(deadline) => return Err(unavailable("it has not arrived yet")),
            }
        }
    }

    async fn open_content(
        self: &Arc<Self>,
        id: &BlockId,
        local: &LocalRecord,
        range: Range<u64>,
    ) -> Result<ContentReader, LedgerError> {
        let unavailable = |reason| LedgerError::Unavailable { id: *id, reason };
        let placed = self.placed(id).await?.ok_or(LedgerError::UnknownBlock { id: *id })?;
        let envelope = EnvelopeId(local.envelope);
        let missing = || unavailable("its envelope is gone");
        let packed = self.table.stored(&envelope).await?.ok_or_else(missing)?;
        let wrap = self.identity.derive(&local.epoch, EpochUse::ContentWrap).await.map_err(super::of_identity)?;
        let key = self.identity.derive(&local.epoch, EpochUse::RecordHeader).await.map_err(super::of_identity)?;
        let header = placed.record.open_header(&key, &placed.context);
        let opener = Opener::new(&packed.manifest, &wrap, placed.context);
        let (header, opener) = header.zip(opener).ok_or_else(|| unavailable("its envelope is not its own"))?;
        let range = range.start.min(header.len)..range.end.min(header.len);
        let parts = Parts { table: self.table.clone(), envelope, packed, opener };
        let chunk = u64::from(CHUNK);
        let chunks = if range.is_empty() { 0..0 } else { range.start / chunk..range.end.div_ceil(chunk) };
        let chunks = stream::iter(chunks)
            .map(move |index| {
                let (parts, start) = (parts.clone(), index * chunk);
                let part = range.start.saturating_sub(start)..(range.end - start).min(chunk);
                // On a task of its own, so that reading and opening use every core.
                let opened = AbortOnDropHandle::new(tokio::spawn(async move { parts.open(index, part).await }));
                async move { opened.await.map_err(std::io::Error::other)? }
            })
            .buffered(READ_AHEAD);
        Ok(Box::new(StreamReader::new(chunks.boxed())))
    }
}

/// A content on its way out.
#[derive(Clone)]
struct Parts {
    table: Table,
    envelope: EnvelopeId,
    packed: Arc<Packed>,
    opener: Opener,
}

impl Parts {
    /// Returns a part of the plain bytes of one chunk.
    async fn open(&self, index: u64, part: Range<u64>) -> Result<Bytes, std::io::Error> {
        let damaged = || std::io::Error::new(std::io::ErrorKind::InvalidData, "the envelope is damaged");
        let index = u32::try_from(index).map_err(|_| damaged())?;
        let sealed = self.table.read_chunk(&self.envelope, &self.packed, index).await.map_err(std::io::Error::other)?;
        let plain = self.opener.open(index, sealed).ok_or_else(damaged)?;
        let within = |at: u64| usize::try_from(at).ok().filter(|at| *at <= plain.len()).ok_or_else(damaged);
        let (start, end) = (within(part.start)?, within(part.end)?);
        if start >= end {
            return Err(damaged());
        }
        Ok(plain.slice(start..end))
    }
}
