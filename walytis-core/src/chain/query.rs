//! Queries: pages from the indices, which are read as one, so that the rarest label decides what a page costs.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _};

use super::content;
use super::core::Inner;
use super::schema::{self, NodeRecord, Tag, id_at_end, read_id, read_number};
use crate::block::Header;
use crate::id::BlockId;
use crate::ledger::{BlockInfo, Cursor, CursorError, LedgerError, Order, Page, PageCursor, Place, Query};
use crate::limits::PAGE_ROWS_MAX;
use crate::store::join::{Join, Row, Step, Window};
use crate::store::{Direction, StoreError};

/// Blocks that a stream reads at once; its first page is as small as the limit allows. Chosen: some ten kilobytes.
const STREAM_PAGE: usize = 128;
/// Headers read at once where an index alone cannot tell what matches.
const HEADERS_AT_ONCE: usize = 32;

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chain({:?})", self.id)
    }
}

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

/// Answers a query as a stream that reads page by page as it is polled.
pub(super) fn run(
    core: Arc<Inner>,
    query: Query,
) -> Result<BoxStream<'static, Result<BlockInfo, LedgerError>>, LedgerError> {
    check_cursor(&core, &query)?;
    let left = query.limit.unwrap_or(usize::MAX);
    let run = Run { core, query, ready: VecDeque::new(), left, done: left == 0 };
    Ok(stream::unfold(run, |mut run| async move { run.next().await.map(|item| (item, run)) }).boxed())
}

/// A stream in progress.
struct Run {
    core: Arc<Inner>,
    query: Query,
    ready: VecDeque<BlockInfo>,
    left: usize,
    done: bool,
}

impl Run {
    async fn next(&mut self) -> Option<Result<BlockInfo, LedgerError>> {
        loop {
            if let Some(info) = self.ready.pop_front() {
                self.left -= 1;
                return Some(Ok(info));
            }
            if self.done || self.left == 0 {
                return None;
            }
            match page(&self.core, &self.query, self.left.min(STREAM_PAGE)).await {
                Ok(page) => {
                    self.done = page.next.is_none();
                    self.query.after = page.next;
                    self.ready = page.blocks.into();
                }
                Err(error) => {
                    self.done = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

fn check_cursor(core: &Inner, query: &Query) -> Result<Option<Place>, LedgerError> {
    Ok(query.after.map(|cursor| cursor.place(&core.id, "", query)).transpose()?)
}

/// Returns the next page of at most `size` blocks. It reads at most about [`PAGE_ROWS_MAX`] index entries and headers;
/// if these are not enough, the page ends early, with a cursor.
pub(super) async fn page(core: &Inner, query: &Query, size: usize) -> Result<Page, LedgerError> {
    let after = check_cursor(core, query)?;
    check_replica(core, query, after).await?;
    if size == 0 {
        return Ok(Page::default());
    }
    let mut reading = Reading::new(core, query, after, size);
    let mut blocks = Vec::new();
    loop {
        // One more than there is room for shows whether anything is left.
        let at_once = (size - blocks.len()).saturating_add(1).min(STREAM_PAGE);
        let at_once = if by_index_alone(query) { at_once } else { HEADERS_AT_ONCE };
        let candidates = reading.candidates(at_once).await?;
        for info in matching(core, query, &candidates).await? {
            if blocks.len() == size {
                return Ok(ended(core, query, blocks, None));
            }
            blocks.push(info);
        }
        match reading.end {
            Some(End::Of(place)) => return Ok(ended(core, query, blocks, Some(place))),
            Some(End::All) => return Ok(Page { blocks, next: None }),
            None if blocks.len() == size => return Ok(ended(core, query, blocks, candidates.last().copied())),
            None => {}
        }
    }
}

/// Returns a page behind which there may be more: behind `place`, or behind its last block.
fn ended(core: &Inner, query: &Query, blocks: Vec<BlockInfo>, place: Option<Place>) -> Page {
    let place = place.or_else(|| blocks.last().map(|last| Place::of(query.order, last)));
    Page { blocks, next: place.map(|place| PageCursor::new(&core.id, "", query, place)) }
}

/// A place in arrival order is known by its block: another replica has another one there. A place may be empty: a block
/// that counts only now arrived again elsewhere.
async fn check_replica(core: &Inner, query: &Query, after: Option<Place>) -> Result<(), LedgerError> {
    let Some(place) = after.filter(|_| query.order == Order::Arrival) else { return Ok(()) };
    let key = core.table.keys.arrival(place.number);
    let here = core.table.get(&key).await?.map(|value| core.table.note(read_id(&key, &value))).transpose()?;
    let known = place.number <= *core.arrivals.borrow();
    if !known || here.is_some_and(|id| id != place.id) {
        return Err(CursorError::OtherReplica.into());
    }
    Ok(())
}

/// Says whether every entry that the indices yield is likely to match.
fn by_index_alone(query: &Query) -> bool {
    let generations = query.generation_from.or(query.generation_to).is_some();
    query.since_ms.is_none() && query.until_ms.is_none() && !(generations && query.order == Order::Arrival)
}

/// Reads the headers of candidates, and returns those that match.
async fn matching(core: &Inner, query: &Query, candidates: &[Place]) -> Result<Vec<BlockInfo>, LedgerError> {
    let ids: Vec<_> = candidates.iter().map(|place| place.id).collect();
    let mut found = Vec::new();
    for (id, record) in ids.iter().zip(core.table.records(&ids).await?) {
        let Some(NodeRecord { arrival, skeleton, header }) = record else {
            let key = core.table.keys.of_block(Tag::Node, id);
            return core.table.note(Err(StoreError::corrupt(&key, "an index names a block that is not here")));
        };
        let matches = query.matches_labels(&header.topics, &header.creator)
            && query.matches_windows(header.created_at_ms, header.generation, Cursor(arrival))
            && (query.include_void || !skeleton);
        if matches {
            found.push(info(core, *id, header, arrival, skeleton).await?);
        }
    }
    Ok(found)
}

/// The reading of one page.
struct Reading<'a> {
    core: &'a Inner,
    query: &'a Query,
    join: Join,
    /// Entries and headers that may still be read.
    rows: usize,
    /// The last place that the indices yielded.
    last: Option<Place>,
    end: Option<End>,
}

/// Why the indices yield nothing more.
#[derive(Clone, Copy)]
enum End {
    /// Nothing is left.
    All,
    /// Enough was read for one page; all up to a place is decided.
    Of(Place),
}

impl<'a> Reading<'a> {
    fn new(core: &'a Inner, query: &'a Query, after: Option<Place>, size: usize) -> Self {
        let direction = if query.reverse { Direction::Reverse } else { Direction::Forward };
        let (from, to) = match query.order {
            Order::Canonical => (query.generation_from, query.generation_to),
            Order::Arrival => (query.arrived_after.map(|cursor| cursor.0.saturating_add(1)), None),
        };
        let number = |number: u64| number.to_be_bytes().to_vec();
        let place = |place: Place| match query.order {
            Order::Canonical => [&place.number.to_be_bytes(), place.id.digest().as_slice()].concat(),
            Order::Arrival => number(place.number),
        };
        let window = Window { from: from.map(number), to: to.map(number), after: after.map(place) };
        let join = Join::new(groups(core, query), &window, direction, size);
        Self { core, query, join, rows: PAGE_ROWS_MAX, last: None, end: None }
    }

    /// Returns the next places that stand in all indices, at most `max`.
    async fn candidates(&mut self, max: usize) -> Result<Vec<Place>, LedgerError> {
        let table = &self.core.table;
        let mut found = Vec::with_capacity(max);
        while found.len() < max && self.end.is_none() {
            match table.note(self.join.next(&**table.store(), &mut self.rows).await)? {
                Step::Entry(row) => {
                    let (place, arrival) = table.note(self.read(&row))?;
                    self.last = Some(place);
                    if self.query.arrived_after.is_none_or(|after| arrival > after.0) {
                        found.push(place);
                    }
                }
                Step::Paused(row) => self.end = Some(End::Of(table.note(self.read(&row))?.0)),
                Step::End => self.end = Some(End::All),
            }
        }
        // Reading headers costs as well.
        self.rows = self.rows.saturating_sub(found.len());
        if let (0, None, Some(last)) = (self.rows, self.end, self.last) {
            self.end = Some(End::Of(last));
        }
        Ok(found)
    }

    /// Returns the place of an index entry, and its arrival number (`u64::MAX` where the order makes it needless).
    fn read(&self, row: &Row) -> Result<(Place, u64), StoreError> {
        let number = row.place.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        let number = number.ok_or_else(|| StoreError::corrupt(&row.key, "a short key of an index"))?;
        match self.query.order {
            Order::Arrival => Ok((Place { number, id: read_id(&row.key, &row.value)? }, number)),
            Order::Canonical => {
                let arrival = read_number(&row.key, &row.value)?;
                Ok((Place { number, id: id_at_end(&row.key)? }, arrival))
            }
        }
    }
}

/// Returns the indices that hold every match: one group for each thing that must hold.
fn groups(core: &Inner, query: &Query) -> Vec<Vec<Vec<u8>>> {
    let (topic, creator, plain) = match query.order {
        Order::Canonical => (Tag::Topic, Tag::Creator, Tag::Canonical),
        Order::Arrival => (Tag::TopicArrival, Tag::CreatorArrival, Tag::Arrival),
    };
    let keys = &core.table.keys;
    let of_topic = |one| keys.key(topic, &[&schema::topic_label(one)]);
    let mut groups: Vec<Vec<Vec<u8>>> = query.topics_all.iter().map(|one| vec![of_topic(one)]).collect();
    if !query.topics_any.is_empty() {
        groups.push(query.topics_any.iter().map(of_topic).collect());
    }
    groups.extend(query.creator.as_ref().map(|key| vec![keys.key(creator, &[&schema::creator_label(key)])]));
    if groups.is_empty() {
        groups.push(vec![keys.key(plain, &[])]);
    }
    groups
}
