//! Queries: pages of blocks as they stand, in the order of the originals, from the index.
//!
//! Blocks of which the ledger below knows only the header (it shows them, and told nobody yet) have no row in the index.
//! They are merged in where they belong: by their place in canonical order, before everything in arrival order, where
//! their number is 0. At most [`EARLY_MAX`] of them are.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _};
use walytis_core::id::{BlockId, ChainId};
use walytis_core::key::PublicKey;
use walytis_core::ledger::{
    Author, BlockInfo, BlockState, Cursor, CursorError, Ledger, LedgerError, Order, PageCursor, Place, Query,
};
use walytis_core::limits::PAGE_ROWS_MAX;
use walytis_core::store::join::{Join, Row, Step, Window};
use walytis_core::store::{Direction, StoreError};

use super::Inner;
use super::version::{Current, CurrentPage};
use crate::event::Change;
use crate::limits::{EARLY_MAX, STREAM_PAGE};
use crate::table::{OriginalRow, event, id_at_end};

/// Answers a query as a stream that reads page by page as it is polled.
pub(super) fn run<L: Ledger + ?Sized + 'static>(
    inner: Arc<Inner<L>>,
    query: Query,
    deleted: bool,
) -> Result<BoxStream<'static, Result<Current, LedgerError>>, LedgerError> {
    inner.check_cursor(&query, deleted)?;
    let left = query.limit.unwrap_or(usize::MAX);
    let run = Run { inner, query, deleted, ready: VecDeque::new(), left, done: left == 0 };
    Ok(stream::try_unfold(run, |mut run| async move { Ok(run.next().await?.map(|current| (current, run))) }).boxed())
}

/// A stream in progress.
struct Run<L: Ledger + ?Sized> {
    inner: Arc<Inner<L>>,
    query: Query,
    deleted: bool,
    ready: VecDeque<Current>,
    left: usize,
    done: bool,
}

impl<L: Ledger + ?Sized + 'static> Run<L> {
    async fn next(&mut self) -> Result<Option<Current>, LedgerError> {
        loop {
            if let Some(current) = self.ready.pop_front() {
                self.left -= 1;
                return Ok(Some(current));
            }
            if self.done || self.left == 0 {
                return Ok(None);
            }
            let page = self.inner.page(&self.query, self.left.min(STREAM_PAGE), self.deleted).await?;
            self.done = page.next.is_none();
            self.query.after = page.next;
            self.ready = page.blocks.into();
        }
    }
}

/// A page in the making.
struct Draft<'a> {
    query: &'a Query,
    size: usize,
    blocks: Vec<Current>,
    /// Blocks of which only the header is known, by place; those behind the page's beginning.
    early: BTreeMap<Place, BlockInfo>,
}

impl Draft<'_> {
    /// Adds a block, if it belongs to the answer; false if the page has no room for it.
    fn add(&mut self, current: Current) -> bool {
        if !self.query.matches(&current.info) {
            return true;
        }
        let room = self.blocks.len() < self.size;
        if room {
            self.blocks.push(current);
        }
        room
    }

    /// Adds what is known only early and stands before a place; without one: the rest. False if there was no room.
    fn add_early(&mut self, before: Option<Place>) -> bool {
        let reverse = self.query.reverse;
        loop {
            let next = if reverse { self.early.last_entry() } else { self.early.first_entry() };
            let Some(next) = next else { return true };
            if before.is_some_and(|place| if reverse { *next.key() < place } else { *next.key() > place }) {
                return true;
            }
            let info = next.remove();
            if !self.add(Current::untouched(info)) {
                return false;
            }
        }
    }
}

impl<L: Ledger + ?Sized + 'static> Inner<L> {
    /// Returns the cursor at a place. It is the one of the ledger below, good on either, unless deleted blocks are
    /// listed too: the ledger below has no such answer.
    pub(super) fn cursor_at(&self, query: &Query, place: Place, deleted: bool) -> PageCursor {
        match deleted {
            true => PageCursor::new(&self.below.id(), &format!("mutable+deleted/{}", self.name), query, place),
            false => self.cursor_below(query, place),
        }
    }

    /// Returns the cursor of the ledger below at a place.
    pub(super) fn cursor_below(&self, query: &Query, place: Place) -> PageCursor {
        self.below.cursor_behind(query, &nothing(self.below.id())).at(place)
    }

    fn check_cursor(&self, query: &Query, deleted: bool) -> Result<Option<Place>, LedgerError> {
        let Some(after) = query.after else { return Ok(None) };
        let nowhere = Place { number: 0, id: self.below.id().0 };
        let like = self.cursor_at(query, nowhere, deleted);
        Ok(Some(after.place_like(&like)?))
    }

    /// A place in arrival order is known by its block: another replica has another one there.
    async fn check_replica(&self, query: &Query, after: Option<Place>) -> Result<(), LedgerError> {
        let Some(place) = after.filter(|place| query.order == Order::Arrival && place.number > 0) else {
            return Ok(());
        };
        let found = self.table.event(place.number).await?;
        match found {
            Some(event) if event.original == place.id => Ok(()),
            _ => Err(CursorError::OtherReplica.into()),
        }
    }

    /// Returns the next page of at most `size` blocks; one that would read too much ends early, with a cursor.
    pub(super) async fn page(&self, query: &Query, size: usize, deleted: bool) -> Result<CurrentPage, LedgerError> {
        let after = self.check_cursor(query, deleted)?;
        self.check_replica(query, after).await?;
        if size == 0 {
            return Ok(CurrentPage::default());
        }
        if self.is_filtered(query) {
            return self.filtered_page(query, after, size, deleted).await;
        }
        let early = self.early(query, after).await?;
        let mut draft = Draft { query, size, blocks: Vec::new(), early };
        let (mut join, mut rows) = (self.join(query, after, size, deleted), PAGE_ROWS_MAX);
        let full = |draft: Draft<'_>| {
            let last = draft.blocks.last().map(|last| Place::of(query.order, &last.info));
            self.page_until(query, draft, last, deleted)
        };
        loop {
            let (row, paused) = match join.next(&*self.table.store, &mut rows).await? {
                Step::End => break,
                Step::Entry(row) => (row, false),
                Step::Paused(row) => (row, true),
            };
            let place = place_of(query.order, &row)?;
            // It has arrived since.
            draft.early.remove(&place);
            if !draft.add_early(Some(place)) {
                return Ok(full(draft));
            }
            if !paused
                && let Some(current) = self.at(query, &row, place, deleted).await?
                && !draft.add(current)
            {
                return Ok(full(draft));
            }
            // Looking up what a block shows costs as well.
            rows = rows.saturating_sub(1);
            if paused || rows == 0 {
                return Ok(self.page_until(query, draft, Some(place), deleted));
            }
        }
        if !draft.add_early(None) {
            return Ok(full(draft));
        }
        Ok(CurrentPage { blocks: draft.blocks, next: None })
    }

    fn page_until(&self, query: &Query, draft: Draft<'_>, place: Option<Place>, deleted: bool) -> CurrentPage {
        CurrentPage { blocks: draft.blocks, next: place.map(|place| self.cursor_at(query, place, deleted)) }
    }

    async fn early(&self, query: &Query, after: Option<Place>) -> Result<BTreeMap<Place, BlockInfo>, LedgerError> {
        // What has not arrived comes behind no arrival.
        if query.arrived_after.is_some() {
            return Ok(BTreeMap::new());
        }
        let found = self.not_arrived(EARLY_MAX).await?;
        let places = found.into_iter().map(|info| (Place::of(query.order, &info), info));
        let behind =
            |place: &Place| after.is_none_or(|after| if query.reverse { *place < after } else { *place > after });
        Ok(places.filter(|(place, _)| behind(place)).collect())
    }

    fn join(&self, query: &Query, after: Option<Place>, size: usize, deleted: bool) -> Join {
        let index = |tag: u8| self.table.key(tag, &[]);
        let (group, window) = match query.order {
            Order::Canonical => {
                let hidden = (deleted || query.include_void).then(|| index(b'x'));
                (std::iter::once(index(b'c')).chain(hidden).collect(), canonical_window(query, after))
            }
            Order::Arrival => {
                let from = query.arrived_after.map(|cursor| number(cursor.0.saturating_add(1)));
                let after = after.map(|place| place.number);
                // Behind what has not arrived, backwards, nothing is left; forwards, everything.
                let passed = query.reverse && after == Some(0);
                let to = passed.then(|| number(0));
                let after = after.filter(|number| *number > 0).map(number);
                (vec![index(b'e')], Window { from, to, after })
            }
        };
        let direction = if query.reverse { Direction::Reverse } else { Direction::Forward };
        Join::new(vec![group], &window, direction, size)
    }

    /// Returns the block of an index entry as it stands, if it may be shown.
    async fn at(&self, query: &Query, row: &Row, place: Place, deleted: bool) -> Result<Option<Current>, LedgerError> {
        if query.order == Order::Arrival {
            match event(&row.key, &row.value)?.1.change() {
                Change::Conflicted | Change::ForgetProposed | Change::Forgotten => return Ok(None),
                _ => {}
            }
        }
        let Some(original) = self.table.original(&place.id).await? else { return Ok(None) };
        // Of several events of one block the last stands for it.
        let stands = query.order == Order::Canonical || original.cursor == place.number;
        if !stands || !may_show(query, &original, deleted) {
            return Ok(None);
        }
        Ok(Some(self.current_of(&place.id, &original).await?))
    }
}

/// A stand-in of a block, for the cursor behind it, of which only the place matters.
fn nothing(chain: ChainId) -> BlockInfo {
    BlockInfo {
        id: chain.0,
        generation: 0,
        parents: Vec::new(),
        creator: PublicKey::Ed25519([0; 32]),
        author: Author("".into()),
        created_at_ms: 0,
        topics: Vec::new(),
        size: 0,
        cursor: Cursor(0),
        state: BlockState::Available,
    }
}

pub(super) fn may_show(query: &Query, row: &OriginalRow, deleted: bool) -> bool {
    (row.content.is_some() || deleted) && (row.counts || query.include_void)
}

/// The part of an index in canonical order that a query reads.
pub(super) fn canonical_window(query: &Query, after: Option<Place>) -> Window {
    let after = after.map(|place| [&number(place.number), place.id.digest().as_slice()].concat());
    Window { from: query.generation_from.map(number), to: query.generation_to.map(number), after }
}

fn number(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

pub(super) fn place_of(order: Order, row: &Row) -> Result<Place, StoreError> {
    match order {
        Order::Canonical => {
            let number = row.place.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
            let number = number.ok_or_else(|| StoreError::corrupt(&row.key, "a short key"))?;
            Ok(Place { number, id: id_at_end(&row.key)? })
        }
        Order::Arrival => {
            let (number, event) = event(&row.key, &row.value)?;
            let id: BlockId = event.original;
            Ok(Place { number, id })
        }
    }
}
