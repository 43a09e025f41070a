//! Queries: pages from the index that narrows most.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};

use super::content;
use super::core::Inner;
use super::schema::{self, Tag, id_at_end, read_id, read_number};
use super::table::behind;
use crate::block::Header;
use crate::id::BlockId;
use crate::ledger::{Author, BlockInfo, Cursor, LedgerError, Order, Place, Query};
use crate::store::{Direction, KeyRange, StoreError};

/// Index entries read at once. Chosen: some kilobytes of keys; the first page is as small as the limit allows.
const PAGE: usize = 128;

/// Returns blocks without their contents, for admitted `ids` in their order.
pub(super) async fn infos(core: &Inner, ids: &[BlockId]) -> Result<Vec<BlockInfo>, LedgerError> {
    let mut infos = Vec::with_capacity(ids.len());
    for (id, record) in ids.iter().zip(core.table.records(ids).await?) {
        let Some(record) = record else {
            let key = core.table.keys.of_block(Tag::Node, id);
            return core.table.note(Err(StoreError::corrupt(&key, "an index names a block that is not here")));
        };
        infos.push(info(core, *id, record.header, record.arrival, record.skeleton).await?);
    }
    Ok(infos)
}

/// Returns what is told of an admitted block.
pub(super) async fn info(
    core: &Inner,
    id: BlockId,
    header: Header,
    arrival: u64,
    skeleton: bool,
) -> Result<BlockInfo, LedgerError> {
    let state = content::state(core, &header.content, skeleton).await?;
    Ok(BlockInfo {
        id,
        generation: header.generation,
        creator: header.creator,
        author: core.table.author(&header.creator),
        created_at_ms: header.created_at_ms,
        size: header.content.len(),
        parents: header.parents,
        topics: header.topics,
        cursor: Cursor(arrival),
        state,
    })
}

/// Answers a query as a stream that reads on as it is polled.
pub(super) fn run(
    core: Arc<Inner>,
    query: Query,
) -> Result<BoxStream<'static, Result<BlockInfo, LedgerError>>, LedgerError> {
    let after = query.after.map(|cursor| cursor.place(&core.id, "", &query)).transpose()?;
    let sources = sources(&core, &query);
    let left = query.limit.unwrap_or(usize::MAX);
    let run = Run { core, query, after, sources, ready: VecDeque::new(), left, failed: false };
    Ok(stream::unfold(run, |mut run| async move { run.next().await.map(|item| (item, run)) }).boxed())
}

/// Chooses the ranges of index keys that hold every match.
fn sources(core: &Inner, query: &Query) -> Vec<Source> {
    let (topic, creator, plain) = match query.order {
        Order::Canonical => (Tag::Topic, Tag::Creator, Tag::Canonical),
        Order::Arrival => (Tag::TopicArrival, Tag::CreatorArrival, Tag::Arrival),
    };
    let keys = &core.table.keys;
    let prefixes = match (query.topics_all.first(), query.topics_any.as_slice(), &query.creator) {
        (Some(first), _, _) => vec![keys.key(topic, &[&schema::topic_label(first)])],
        (None, [], Some(key)) => vec![keys.key(creator, &[&schema::creator_label(key)])],
        (None, [], None) => vec![keys.key(plain, &[])],
        (None, any, _) => any.iter().map(|one| keys.key(topic, &[&schema::topic_label(one)])).collect(),
    };
    prefixes.into_iter().map(|prefix| Source::new(prefix, query)).collect()
}

/// One range of an index, read page by page.
#[derive(Debug)]
struct Source {
    prefix: usize,
    range: KeyRange,
    page: VecDeque<(Bytes, Bytes)>,
    done: bool,
}

impl Source {
    fn new(prefix: Vec<u8>, query: &Query) -> Self {
        let mut range = KeyRange::prefix(&prefix);
        let bound = |number: u64| [prefix.as_slice(), &number.to_be_bytes()].concat();
        let (from, to) = match query.order {
            Order::Canonical => (query.generation_from, query.generation_to),
            Order::Arrival => (query.arrived_after.and_then(|cursor| cursor.0.checked_add(1)), None),
        };
        if let Some(from) = from {
            range.start = bound(from);
        }
        if let Some(to) = to {
            range.end = Some(bound(to));
        }
        let done = range.end.as_ref().is_some_and(|end| *end <= range.start);
        Self { prefix: prefix.len(), range, page: VecDeque::new(), done }
    }

    async fn fill(&mut self, core: &Inner, direction: Direction, size: usize) -> Result<(), LedgerError> {
        if self.done || !self.page.is_empty() {
            return Ok(());
        }
        let page = core.table.scan(self.range.clone(), direction, size).await?;
        self.done = page.len() < size;
        if let Some((last, _)) = page.last() {
            match direction {
                Direction::Forward => self.range.start = behind(last),
                Direction::Reverse => self.range.end = Some(last.to_vec()),
            }
        }
        self.page = page.into();
        Ok(())
    }

    /// Returns the place of the next entry in the order of the query.
    fn place(&self) -> Option<&[u8]> {
        self.page.front().and_then(|(key, _)| key.get(self.prefix..))
    }
}

/// A query in progress.
#[derive(Debug)]
struct Run {
    core: Arc<Inner>,
    query: Query,
    after: Option<Place>,
    sources: Vec<Source>,
    ready: VecDeque<BlockInfo>,
    left: usize,
    failed: bool,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chain({:?})", self.id)
    }
}

impl Run {
    async fn next(&mut self) -> Option<Result<BlockInfo, LedgerError>> {
        while self.left > 0 && !self.failed {
            if let Some(info) = self.ready.pop_front() {
                self.left -= 1;
                return Some(Ok(info));
            }
            match self.read().await {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }

    /// Reads the next page of matches; says whether the index may hold more.
    async fn read(&mut self) -> Result<bool, LedgerError> {
        let direction = if self.query.reverse { Direction::Reverse } else { Direction::Forward };
        let size = PAGE.min(self.left);
        let mut ids = Vec::with_capacity(size);
        let mut ended = false;
        while ids.len() < size {
            let Some((key, value)) = self.merge(direction, size).await? else {
                ended = true;
                break;
            };
            if let Some(id) = self.admit(&key, &value)? {
                ids.push(id);
            }
        }
        let infos = infos(&self.core, &ids).await?;
        let shown = infos.into_iter().filter(|info| self.query.matches(info) && self.is_behind(info));
        self.ready = shown.collect();
        Ok(!ended || !self.ready.is_empty())
    }

    /// Takes the next entry of all sources; one that stands in several comes once.
    async fn merge(&mut self, direction: Direction, size: usize) -> Result<Option<(Bytes, Bytes)>, LedgerError> {
        for source in &mut self.sources {
            source.fill(&self.core, direction, size).await?;
        }
        let places = self.sources.iter().filter_map(Source::place);
        let next = match direction {
            Direction::Forward => places.min(),
            Direction::Reverse => places.max(),
        };
        let Some(next) = next.map(<[u8]>::to_vec) else { return Ok(None) };
        let mut entry = None;
        for source in &mut self.sources {
            if source.place() == Some(&next) {
                entry = source.page.pop_front();
            }
        }
        Ok(entry)
    }

    /// Returns the id of an index entry, or nothing if the entry alone shows that it does not match.
    fn admit(&self, key: &[u8], value: &[u8]) -> Result<Option<BlockId>, LedgerError> {
        let table = &self.core.table;
        match self.query.order {
            Order::Arrival => table.note(read_id(key, value)).map(Some),
            Order::Canonical => {
                let arrival = table.note(read_number(key, value))?;
                let late = self.query.arrived_after.is_none_or(|cursor| arrival > cursor.0);
                let id = table.note(id_at_end(key))?;
                Ok(late.then_some(id))
            }
        }
    }

    /// Says whether a block stands behind the cursor of the query.
    fn is_behind(&self, info: &BlockInfo) -> bool {
        let place = Place::of(self.query.order, info);
        self.after.is_none_or(|after| if self.query.reverse { place < after } else { place > after })
    }
}
