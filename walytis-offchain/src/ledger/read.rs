//! Reading: what a block shows, and its content.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use tokio_util::io::StreamReader;
use walytis_core::id::BlockId;
use walytis_core::ledger::{Author, BlockInfo, BlockState, ContentReader, Cursor, LedgerError};
use walytis_identities::identity::{EpochUse, Judgement};

use super::Inner;
use super::table::{LocalRecord, Phase, Standing, Stored};
use crate::envelope::{CHUNK, EnvelopeId, Opener};

/// How long `content` waits for what is being fetched. Chosen: a person's patience.
const PATIENCE: Duration = Duration::from_secs(20);

impl Inner {
    /// Returns what a block shows now.
    pub(super) async fn info(&self, id: &BlockId, local: &LocalRecord) -> Result<BlockInfo, LedgerError> {
        let unknown = || LedgerError::UnknownBlock { id: *id };
        let placed = self.placed(id).await?.ok_or_else(unknown)?;
        let (header, record) = (placed.block.header().clone(), &placed.record);
        let key = self.epoch_key(&record.epoch, EpochUse::RecordHeader).await?;
        let opened = key.and_then(|key| record.open_header(&key, &placed.context)).unwrap_or_else(|| {
            // Locked: the size class is all that shows.
            crate::record::PrivateHeader { len: record.size_class, ..Default::default() }
        });
        let state = match local.standing {
            Standing::Waiting => BlockState::Wanted,
            Standing::Foreign => BlockState::Void { reason: "O-RECORD-01" },
            Standing::Void => match self.judge(&placed).await {
                Judgement::Void(reason) => BlockState::Void { reason },
                _ => BlockState::Wanted,
            },
            Standing::Valid => self.content_state(local, opened.len).await?,
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

    async fn content_state(&self, local: &LocalRecord, len: u64) -> Result<BlockState, LedgerError> {
        let envelope = EnvelopeId(local.envelope);
        Ok(match local.phase {
            Phase::Available => BlockState::Available,
            Phase::Locked => BlockState::Locked,
            Phase::Wanted => {
                let stored = self.table.stored(&envelope).await?;
                let here = match &stored {
                    Some(stored) => self.table.chunks_here(stored).await?.iter().filter(|here| **here).count(),
                    None => 0,
                };
                let bytes_done = (here as u64).saturating_mul(u64::from(CHUNK)).min(len);
                match here {
                    0 if self.state.borrow().unavailable.contains(&envelope) => BlockState::Unavailable,
                    0 => BlockState::Wanted,
                    _ => BlockState::Partial { bytes_done, bytes_total: len },
                }
            }
        })
    }

    /// Streams a content, waiting a while for one that is being fetched.
    pub(super) async fn content(self: &Arc<Self>, id: &BlockId) -> Result<ContentReader, LedgerError> {
        let mut state = self.state.subscribe();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            state.mark_unchanged();
            let unavailable = |reason| LedgerError::Unavailable { id: *id, reason };
            let local = self.table.record(id).await?.filter(|local| local.standing != Standing::Waiting);
            let local = local.ok_or(LedgerError::UnknownBlock { id: *id })?;
            match (local.standing, local.phase) {
                (Standing::Valid, Phase::Available) => return self.open_content(id, &local).await,
                (Standing::Valid, Phase::Locked) => return Err(unavailable("its key is not here")),
                (Standing::Valid, Phase::Wanted) => {}
                _ => return Err(unavailable("the block does not count")),
            }
            if self.state.borrow().unavailable.contains(&EnvelopeId(local.envelope)) {
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

    async fn open_content(self: &Arc<Self>, id: &BlockId, local: &LocalRecord) -> Result<ContentReader, LedgerError> {
        let unavailable = |reason| LedgerError::Unavailable { id: *id, reason };
        let placed = self.placed(id).await?.ok_or(LedgerError::UnknownBlock { id: *id })?;
        let missing = || unavailable("its envelope is gone");
        let stored = self.table.stored(&EnvelopeId(local.envelope)).await?.ok_or_else(missing)?;
        let wrap = self.identity.derive(&local.epoch, EpochUse::ContentWrap).await.map_err(super::of_identity)?;
        let key = self.identity.derive(&local.epoch, EpochUse::RecordHeader).await.map_err(super::of_identity)?;
        let header = placed.record.open_header(&key, &placed.context);
        let opener = Opener::new(&stored.packed.manifest, &wrap, placed.context);
        let (header, opener) = header.zip(opener).ok_or_else(|| unavailable("its envelope is not its own"))?;
        let reading = Reading { inner: Arc::clone(self), stored, opener, index: 0, left: header.len };
        let chunks = stream::try_unfold(reading, |mut reading| async move {
            Ok::<_, std::io::Error>(reading.next().await?.map(|chunk| (chunk, reading)))
        });
        Ok(Box::new(StreamReader::new(chunks.boxed())))
    }
}

/// A content on its way out: one chunk in memory at a time.
struct Reading {
    inner: Arc<Inner>,
    stored: Stored,
    opener: Opener,
    index: u32,
    left: u64,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>, std::io::Error> {
        if self.left == 0 {
            return Ok(None);
        }
        let sealed = self.inner.table.read_chunk(&self.stored, self.index).await.map_err(std::io::Error::other)?;
        let damaged = || std::io::Error::new(std::io::ErrorKind::InvalidData, "the envelope is damaged");
        let plain = self.opener.open(self.index, &sealed).ok_or_else(damaged)?;
        let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(plain.len());
        self.index += 1;
        self.left -= len as u64;
        plain
            .get(..len)
            .filter(|chunk| !chunk.is_empty())
            .map(|chunk| Some(Bytes::copy_from_slice(chunk)))
            .ok_or_else(damaged)
    }
}
