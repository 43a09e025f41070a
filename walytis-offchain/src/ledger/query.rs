//! Queries: pages from this ledger's indices.
//!
//! In canonical order the topic index is read, for which the vault must be open. In arrival order the events are read;
//! before them stand the blocks whose content was never readable here, by id, with number 0.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _};
use walytis_core::id::BlockId;
use walytis_core::ledger::{BlockInfo, CursorError, LedgerError, Order, Page, PageCursor, Place, Query};
use walytis_core::limits::PAGE_ROWS_MAX;
use walytis_core::store::join::{Join, Row, Step, Window};
use walytis_core::store::{Direction, StoreError};
use walytis_core::topic::Topic;

use super::Inner;
use super::table::{LocalRecord, Standing, topic_hash};

/// Blocks that a stream reads at once.
const STREAM_PAGE: usize = 128;

/// Answers a query as a stream that reads page by page as it is polled.
pub(super) fn run(
    inner: Arc<Inner>,
    query: Query,
) -> Result<BoxStream<'static, Result<BlockInfo, LedgerError>>, LedgerError> {
    inner.check_cursor(&query)?;
    let left = query.limit.unwrap_or(usize::MAX);
    let run = Run { inner, query, ready: VecDeque::new(), left, done: left == 0 };
    Ok(stream::try_unfold(run, |mut run| async move { Ok(run.next().await?.map(|info| (info, run))) }).boxed())
}

/// A stream in progress.
struct Run {
    inner: Arc<Inner>,
    query: Query,
    ready: VecDeque<BlockInfo>,
    left: usize,
    done: bool,
}

impl Run {
    async fn next(&mut self) -> Result<Option<BlockInfo>, LedgerError> {
        loop {
            if let Some(info) = self.ready.pop_front() {
                self.left -= 1;
                return Ok(Some(info));
            }
            if self.done || self.left == 0 {
                return Ok(None);
            }
            let page = self.inner.page(&self.query, self.left.min(STREAM_PAGE)).await?;
            self.done = page.next.is_none();
            self.query.after = page.next;
            self.ready = page.blocks.into();
        }
    }
}

/// Part of an answer: in arrival order there are two, one behind the other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Zone {
    Canonical,
    /// Blocks whose content was never readable here.
    NotArrived,
    Events,
}

impl Inner {
    fn check_cursor(&self, query: &Query) -> Result<Option<Place>, LedgerError> {
        let place = |cursor: PageCursor| cursor.place(&self.table.chain, &self.overlay(), query);
        Ok(query.after.map(place).transpose()?)
    }

    /// A place in arrival order is known by its block: another device has another one there.
    async fn check_replica(&self, query: &Query, after: Option<Place>) -> Result<(), LedgerError> {
        let Some(place) = after.filter(|place| query.order == Order::Arrival && place.number > 0) else {
            return Ok(());
        };
        let key = self.table.key(b'e', &[&place.number.to_be_bytes()]);
        let event = self.table.store.get(&key).await?;
        if event.as_ref().and_then(|event| event.last_chunk()) != Some(place.id.digest()) {
            return Err(CursorError::OtherReplica.into());
        }
        Ok(())
    }

    /// Returns the next page of at most `size` blocks; one that would read too much ends early, with a cursor.
    pub(super) async fn page(&self, query: &Query, size: usize) -> Result<Page, LedgerError> {
        let mut after = self.check_cursor(query)?;
        self.check_replica(query, after).await?;
        let (mut blocks, mut rows) = (Vec::new(), PAGE_ROWS_MAX);
        if size == 0 {
            return Ok(Page::default());
        }
        if !query.topics_any.is_empty() || !query.topics_all.is_empty() {
            // Whatever the order: who cannot open the index is told so, and gets no empty answer.
            self.index_key().await?;
        }
        for zone in zones(query, after) {
            let mut join = self.join(query, zone, after, size - blocks.len()).await?;
            after = None;
            loop {
                let step = join.next(&*self.table.store, &mut rows).await?;
                let (row, paused) = match step {
                    Step::End => break,
                    Step::Entry(row) => (row, false),
                    Step::Paused(row) => (row, true),
                };
                let place = place_of(zone, &row)?;
                let shown = if paused { None } else { self.shown(query, zone, &row, place).await? };
                match shown {
                    Some(_) if blocks.len() == size => {
                        let last = blocks.last().map(|last| Place::of(query.order, last));
                        return Ok(self.page_until(query, blocks, last));
                    }
                    Some(info) => blocks.push(info),
                    None if paused => return Ok(self.page_until(query, blocks, Some(place))),
                    None => {}
                }
                // Opening a record costs as well.
                rows = rows.saturating_sub(1);
                if rows == 0 {
                    return Ok(self.page_until(query, blocks, Some(place)));
                }
            }
        }
        Ok(Page { blocks, next: None })
    }

    fn page_until(&self, query: &Query, blocks: Vec<BlockInfo>, place: Option<Place>) -> Page {
        let next = place.map(|place| PageCursor::new(&self.table.chain, &self.overlay(), query, place));
        Page { blocks, next }
    }

    /// Returns the block of an index entry if it belongs to the answer.
    async fn shown(
        &self,
        query: &Query,
        zone: Zone,
        row: &Row,
        place: Place,
    ) -> Result<Option<BlockInfo>, LedgerError> {
        let Some(local) = self.table.record(&place.id).await? else { return Ok(None) };
        let current = match zone {
            Zone::Canonical => true,
            Zone::NotArrived => local.cursor == 0,
            // Of several events of one block the last stands for it, unless it was taken back.
            Zone::Events => local.cursor == place.number && row.value.first() == Some(&0),
        };
        if !current || !counts(query, &local) {
            return Ok(None);
        }
        let info = self.info(&place.id, &local).await?;
        Ok(query.matches(&info).then_some(info))
    }

    async fn join(&self, query: &Query, zone: Zone, after: Option<Place>, size: usize) -> Result<Join, LedgerError> {
        let number = |number: u64| number.to_be_bytes().to_vec();
        let (groups, window) = match zone {
            Zone::Canonical => {
                let after = after.map(|place| [&number(place.number), place.id.digest().as_slice()].concat());
                let (from, to) = (query.generation_from.map(number), query.generation_to.map(number));
                (self.canonical_groups(query).await?, Window { from, to, after })
            }
            Zone::NotArrived => {
                let after = after.map(|place| place.id.digest().to_vec());
                // Records that count wait in an index of their own; others are found among all.
                let index = if query.include_void { b'r' } else { b'w' };
                (vec![vec![self.table.key(index, &[])]], Window { after, ..Window::default() })
            }
            Zone::Events => {
                let from = query.arrived_after.map(|cursor| number(cursor.0.saturating_add(1)));
                let after = after.map(|place| number(place.number));
                (vec![vec![self.table.key(b'e', &[])]], Window { from, to: None, after })
            }
        };
        let direction = if query.reverse { Direction::Reverse } else { Direction::Forward };
        Ok(Join::new(groups, &window, direction, size))
    }

    async fn canonical_groups(&self, query: &Query) -> Result<Vec<Vec<Vec<u8>>>, LedgerError> {
        let mut wanted: Vec<Vec<&Topic>> = query.topics_all.iter().map(|topic| vec![topic]).collect();
        if !query.topics_any.is_empty() {
            wanted.push(query.topics_any.iter().collect());
        }
        if wanted.is_empty() {
            return Ok(vec![vec![self.table.key(b'c', &[])]]);
        }
        let Some(key) = self.index_key().await? else {
            // Nothing is in the index yet.
            return Ok(vec![Vec::new(); wanted.len()]);
        };
        let hashes = |topics: Vec<&Topic>| {
            topics.into_iter().map(|topic| self.table.topic_key(&topic_hash(&key, topic), &[])).collect()
        };
        Ok(wanted.into_iter().map(hashes).collect())
    }
}

/// Returns the parts of the answer that lie behind a place, in the order of the query.
fn zones(query: &Query, after: Option<Place>) -> Vec<Zone> {
    if query.order == Order::Canonical {
        return vec![Zone::Canonical];
    }
    let arrived = after.map(|place| place.number > 0);
    let mut zones = Vec::new();
    if query.arrived_after.is_none() && (query.reverse || arrived != Some(true)) {
        zones.push(Zone::NotArrived);
    }
    if !query.reverse || arrived != Some(false) {
        zones.push(Zone::Events);
    }
    if query.reverse {
        zones.reverse();
    }
    zones
}

fn counts(query: &Query, local: &LocalRecord) -> bool {
    match local.standing {
        Standing::Valid => true,
        Standing::Void | Standing::Foreign => query.include_void,
        Standing::Waiting => false,
    }
}

fn place_of(zone: Zone, row: &Row) -> Result<Place, StoreError> {
    let short = || StoreError::corrupt(&row.key, "a short key of an index");
    let number = || row.place.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)).ok_or_else(short);
    let id = |bytes: &[u8]| bytes.last_chunk().map(|id| BlockId::from_digest(*id)).ok_or_else(short);
    match zone {
        Zone::Canonical => Ok(Place { number: number()?, id: id(&row.place)? }),
        Zone::NotArrived => Ok(Place { number: 0, id: id(&row.place)? }),
        Zone::Events => Ok(Place { number: number()?, id: id(&row.value)? }),
    }
}
