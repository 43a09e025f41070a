//! Reading: what a block shows, its content, queries.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use tokio_util::io::StreamReader;
use walytis_core::id::BlockId;
use walytis_core::ledger::{Author, BlockInfo, BlockState, ContentReader, Cursor, LedgerError, Order, Place, Query};
use walytis_core::store::{Direction, KeyRange};
use walytis_core::topic::Topic;
use walytis_identities::id::OpId;
use walytis_identities::identity::{EpochUse, Judgement};

use super::Inner;
use super::table::{LocalRecord, Phase, Standing, Stored, behind, index_key};
use crate::envelope::{CHUNK, EnvelopeId, Opener};

/// Index keys read at once.
const PAGE: usize = 128;
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

/// Where the candidates of a query come from.
enum Source {
    /// Read page by page: index keys that end in block ids.
    Canonical(KeyRange),
    /// Read page by page: events.
    Arrival(KeyRange),
    Done,
}

struct Run {
    inner: Arc<Inner>,
    query: Query,
    after: Option<Place>,
    source: Source,
    ready: VecDeque<(BlockId, Option<u64>)>,
    left: usize,
}

pub(super) async fn query(
    inner: Arc<Inner>,
    query: Query,
) -> Result<BoxStream<'static, Result<BlockInfo, LedgerError>>, LedgerError> {
    let after = query.after.map(|cursor| cursor.place(&inner.table.chain, &inner.overlay(), &query)).transpose()?;
    let left = query.limit.unwrap_or(usize::MAX);
    let by_topic: Vec<Topic> = match query.topics_all.first() {
        Some(first) => vec![first.clone()],
        None => query.topics_any.clone(),
    };
    let (mut ready, mut source) = (VecDeque::new(), Source::Done);
    match query.order {
        Order::Canonical if !by_topic.is_empty() => ready = with_topics(&inner, &by_topic, query.reverse).await?,
        Order::Canonical => source = Source::Canonical(canonical_range(&inner, &query)),
        Order::Arrival => {
            source = Source::Arrival(arrival_range(&inner, &query));
            if query.arrived_after.is_none() && !query.reverse {
                ready = not_arrived(&inner, &query).await?;
            }
        }
    }
    let run = Run { inner, query, after, source, ready, left };
    Ok(stream::try_unfold(run, |mut run| async move { Ok(run.next().await?.map(|info| (info, run))) }).boxed())
}

fn canonical_range(inner: &Inner, query: &Query) -> KeyRange {
    let mut range = inner.table.all(b'c');
    if let Some(from) = query.generation_from {
        range.start = inner.table.key(b'c', &[&from.to_be_bytes()]);
    }
    if let Some(to) = query.generation_to {
        range.end = Some(inner.table.key(b'c', &[&to.to_be_bytes()]));
    }
    range
}

fn arrival_range(inner: &Inner, query: &Query) -> KeyRange {
    let mut range = inner.table.all(b'e');
    if let Some(Cursor(after)) = query.arrived_after {
        range.start = behind(&inner.table.key(b'e', &[&after.to_be_bytes()]));
    }
    range
}

/// Records whose content has never been readable here: before everything that has arrived.
async fn not_arrived(inner: &Inner, query: &Query) -> Result<VecDeque<(BlockId, Option<u64>)>, LedgerError> {
    let mut ids = inner.table.ids(inner.table.all(b'w')).await?;
    if query.include_void {
        ids = inner.table.ids(inner.table.all(b'c')).await?;
    }
    Ok(ids.into_iter().map(|id| (id, Some(0))).collect())
}

/// Ids of all records with one of the topics, in canonical order: each epoch has its own keyed hash.
async fn with_topics(
    inner: &Inner,
    topics: &[Topic],
    reverse: bool,
) -> Result<VecDeque<(BlockId, Option<u64>)>, LedgerError> {
    let mut found = BTreeSet::new();
    for epoch in inner.table.ids(inner.table.all(b'p')).await? {
        let Some(key) = inner.epoch_key(&OpId(*epoch.digest()), EpochUse::RecordHeader).await? else { continue };
        let key = index_key(&key);
        for topic in topics {
            let prefix = inner.table.topic_key(&key, topic, &[]);
            let mut range = KeyRange::prefix(&prefix);
            loop {
                let page = inner.table.store.scan(range.clone(), Direction::Forward, PAGE).await?;
                found.extend(page.iter().filter_map(|(key, _)| key.last_chunk::<40>().copied()));
                match page.last() {
                    Some((key, _)) if page.len() == PAGE => range.start = behind(key),
                    _ => break,
                }
            }
        }
    }
    let ids = found.iter().filter_map(|entry| entry.last_chunk()).map(|id| (BlockId::from_digest(*id), None));
    let mut ids: VecDeque<_> = ids.collect();
    if reverse {
        ids.make_contiguous().reverse();
    }
    Ok(ids)
}

impl Run {
    async fn next(&mut self) -> Result<Option<BlockInfo>, LedgerError> {
        while self.left > 0 {
            let Some((id, cursor)) = self.ready.pop_front() else {
                if !self.read_on().await? {
                    return Ok(None);
                }
                continue;
            };
            let Some(local) = self.inner.table.record(&id).await? else { continue };
            // Of several events of one block the last stands for it.
            if cursor.is_some_and(|cursor| cursor != local.cursor) || !self.counts(&local) {
                continue;
            }
            let info = self.inner.info(&id, &local).await?;
            if self.query.matches(&info) && self.is_behind(&info) {
                self.left -= 1;
                return Ok(Some(info));
            }
        }
        Ok(None)
    }

    /// Says whether a block stands behind the cursor of the query.
    fn is_behind(&self, info: &BlockInfo) -> bool {
        let place = Place::of(self.query.order, info);
        self.after.is_none_or(|after| if self.query.reverse { place < after } else { place > after })
    }

    fn counts(&self, local: &LocalRecord) -> bool {
        match local.standing {
            Standing::Valid => true,
            Standing::Void | Standing::Foreign => self.query.include_void,
            Standing::Waiting => false,
        }
    }

    /// Reads the next page; false at the end.
    async fn read_on(&mut self) -> Result<bool, LedgerError> {
        let direction = if self.query.reverse { Direction::Reverse } else { Direction::Forward };
        let table = &self.inner.table;
        let (full, next) = match &self.source {
            Source::Done => {
                return Ok(false);
            }
            Source::Canonical(range) => {
                let page = table.store.scan(range.clone(), direction, PAGE).await?;
                let ids = page.iter().filter_map(|(key, _)| key.last_chunk()).map(|id| BlockId::from_digest(*id));
                self.ready.extend(ids.map(|id| (id, None)));
                let next = page.last().map(|(key, _)| beyond(range, key, direction));
                (page.len() == PAGE, next.map(Source::Canonical))
            }
            Source::Arrival(range) => {
                let page = table.events(range.clone(), direction, PAGE).await?;
                let blocks = page.iter().filter(|(_, retracted, _)| !retracted);
                self.ready.extend(blocks.map(|(sequence, _, id)| (*id, Some(*sequence))));
                let last = page.last().map(|(sequence, ..)| table.key(b'e', &[&sequence.to_be_bytes()]));
                let next = last.map(|key| beyond(range, &key, direction));
                (page.len() == PAGE, next.map(Source::Arrival))
            }
        };
        if let (false, Source::Arrival(_), true, None) =
            (full, &self.source, self.query.reverse, self.query.arrived_after)
        {
            self.ready.extend(not_arrived(&self.inner, &self.query).await?.into_iter().rev());
        }
        self.source = next.filter(|_| full).unwrap_or(Source::Done);
        Ok(full || !self.ready.is_empty())
    }
}

fn beyond(range: &KeyRange, last: &[u8], direction: Direction) -> KeyRange {
    match direction {
        Direction::Forward => KeyRange { start: behind(last), end: range.end.clone() },
        Direction::Reverse => KeyRange { start: range.start.clone(), end: Some(last.to_vec()) },
    }
}
