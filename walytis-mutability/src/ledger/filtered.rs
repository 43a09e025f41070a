//! Pages of blocks by topic or creator, through the indices of the ledger below.
//!
//! ```text
//!   ledger below, by topic   ── originals that nobody edited ──┐
//!   index 'd' of this ledger ── edited blocks, each looked at ─┴─► merged in canonical order
//! ```
//!
//! So a page costs what is on it and the edited blocks between its ends, not all blocks between them. Topics of edits
//! stand in no index: those of private blocks may stand nowhere in plain sight.

use std::collections::BTreeMap;

use walytis_core::ledger::{BlockInfo, Cursor, Ledger, LedgerError, Order, Place, Query};
use walytis_core::limits::{PAGE_BLOCKS_MAX, PAGE_ROWS_MAX};
use walytis_core::store::Direction;
use walytis_core::store::join::{Join, Step};

use super::Inner;
use super::query::{canonical_window, may_show, place_of};
use super::read::not_arrived;
use super::version::{Current, CurrentPage};
use crate::table::OriginalRow;

/// Blocks that are read from the ledger below for a page, at the least. Chosen: some of them may be edited or deleted.
const LEAST: usize = 64;

/// A page in the making.
struct Found<'a> {
    query: &'a Query,
    deleted: bool,
    blocks: BTreeMap<Place, Current>,
    /// Nothing is missing up to here; without it, to the end of the answer.
    end: Option<Place>,
}

impl Found<'_> {
    /// Says whether a place comes behind the part of which nothing is missing.
    fn is_beyond(&self, place: Place) -> bool {
        self.end.is_some_and(|end| if self.query.reverse { place < end } else { place > end })
    }

    fn add(&mut self, current: Current) {
        self.blocks.insert(Place::of(Order::Canonical, &current.info), current);
    }
}

impl<L: Ledger + ?Sized + 'static> Inner<L> {
    /// Says whether the ledger below has an index for a query.
    pub(super) fn is_filtered(&self, query: &Query) -> bool {
        let topics = !query.topics_all.is_empty() || !query.topics_any.is_empty();
        // Positions are this ledger's own.
        query.order == Order::Canonical && query.arrived_after.is_none() && (topics || query.creator.is_some())
    }

    /// Returns the next page of at most `size` blocks; there may be fewer before the end.
    pub(super) async fn filtered_page(
        &self,
        query: &Query,
        after: Option<Place>,
        size: usize,
        deleted: bool,
    ) -> Result<CurrentPage, LedgerError> {
        let mut found = Found { query, deleted, blocks: BTreeMap::new(), end: None };
        let topics = !query.topics_all.is_empty() || !query.topics_any.is_empty();
        self.add_unedited(&mut found, after, size, !topics).await?;
        // An edit changes the topics and nothing else that a filter looks at.
        if topics {
            self.add_edited(&mut found, after, size).await?;
        }
        let mut blocks: Vec<Current> = Vec::with_capacity(size.min(found.blocks.len()));
        let mut places = std::mem::take(&mut found.blocks);
        while let Some((place, current)) = if query.reverse { places.pop_last() } else { places.pop_first() } {
            if found.is_beyond(place) {
                break;
            }
            if blocks.len() == size {
                let last = blocks.last().map(|last| Place::of(query.order, &last.info));
                return Ok(CurrentPage { blocks, next: last.map(|place| self.cursor_at(query, place, deleted)) });
            }
            blocks.push(current);
        }
        Ok(CurrentPage { blocks, next: found.end.map(|place| self.cursor_at(query, place, deleted)) })
    }

    /// Adds what the ledger below finds: blocks that nobody edited, with `all` also the others.
    async fn add_unedited(
        &self,
        found: &mut Found<'_>,
        after: Option<Place>,
        size: usize,
        all: bool,
    ) -> Result<(), LedgerError> {
        let after = after.map(|place| self.cursor_below(found.query, place));
        let limit = Some(size.saturating_add(1).clamp(LEAST, PAGE_BLOCKS_MAX));
        let page = self.below.page(Query { after, limit, ..found.query.clone() }).await?;
        if let Some(next) = page.next {
            let nowhere = Place { number: 0, id: self.below.id().0 };
            found.end = Some(next.place_like(&self.cursor_below(found.query, nowhere))?);
        }
        for info in page.blocks {
            match self.table.original(&info.id).await? {
                None if not_arrived(&info) => found.add(Current::untouched(info)),
                Some(row) if !may_show(found.query, &row, found.deleted) => {}
                Some(row) if !row.is_edited(&info.id) => found.add(of_original(info, &row)),
                Some(row) if all => found.add(self.current_of(&info.id, &row).await?),
                _ => {}
            }
        }
        Ok(())
    }

    /// Adds the edited blocks whose current versions match.
    async fn add_edited(&self, found: &mut Found<'_>, after: Option<Place>, size: usize) -> Result<(), LedgerError> {
        let direction = if found.query.reverse { Direction::Reverse } else { Direction::Forward };
        let window = canonical_window(found.query, after);
        let mut join = Join::new(vec![vec![self.table.key(b'd', &[])]], &window, direction, size);
        let (mut rows, mut matching) = (PAGE_ROWS_MAX, 0);
        loop {
            let (row, paused) = match join.next(&*self.table.store, &mut rows).await? {
                Step::End => return Ok(()),
                Step::Entry(row) => (row, false),
                Step::Paused(row) => (row, true),
            };
            let place = place_of(Order::Canonical, &row)?;
            if found.is_beyond(place) {
                return Ok(());
            }
            if !paused
                && let Some(original) = self.table.original(&place.id).await?
                && original.is_edited(&place.id)
                && may_show(found.query, &original, found.deleted)
            {
                let current = self.current_of(&place.id, &original).await?;
                if found.query.matches(&current.info) {
                    found.add(current);
                    matching += 1;
                }
            }
            // Looking up what a block shows costs as well.
            rows = rows.saturating_sub(1);
            if paused || rows == 0 || matching > size {
                found.end = Some(place);
                return Ok(());
            }
        }
    }
}

/// A block that shows its original's content, or is deleted.
fn of_original(mut info: BlockInfo, row: &OriginalRow) -> Current {
    info.cursor = Cursor(row.cursor);
    Current {
        info,
        version: row.head,
        versions: row.versions,
        conflicts: row.heads.saturating_sub(1),
        deleted: row.content.is_none(),
    }
}
