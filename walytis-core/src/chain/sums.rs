//! Sums of ids by ranges of generations, kept with every commit: what set reconciliation works on.
//!
//! A *page* covers 256 generations, a *stretch* 65,536. Each has one record: how many blocks, and the sum of their ids. A
//! commit changes the records of the pages and stretches that its blocks fall into, in the same batch. The sum of any range
//! is then found by reading the stretches, the pages of at most two stretches, and the ids of at most two pages.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use tracing::info;

use super::core::ChainCore;
use super::schema::{Keys, Meta, Tag, id_at_end};
use super::table::{Table, behind};
use crate::graph::CanonicalKey;
use crate::id::BlockId;
use crate::ledger::LedgerError;
use crate::reconcile::{Bound, SetError, Sum, SummedSet};
use crate::store::{Batch, Direction, Durability, KeyRange, StoreError};

/// Generations of a page, as a power of two. Chosen: an ordinary chain adds one record to a commit for it, and a page is
/// read in one go.
const PAGE_BITS: u32 = 8;
/// Pages of a stretch, as a power of two. Chosen: 16 million generations are 256 stretches.
const STRETCH_BITS: u32 = 8;
/// Most blocks of a page that are read for an answer. Chosen: 64 blocks of one generation on average; a page that is wider
/// is reconciled in another way.
const PAGE_ITEMS_MAX: usize = 16_384;
/// Most blocks and records read for one answer. Chosen: every page of a chain of half a million generations, well below a
/// second; more would serve nobody but whoever wants to keep this node busy.
const READS_MAX: u64 = 1024 * 1024;
/// Pages kept while an answer is made. Ranges ascend, so few are needed at once.
const PAGES_KEPT: usize = 64;
/// Records that a writer keeps in memory. Chosen: those of the youngest generations, and of what is filled in.
const RECORDS_KEPT: usize = 256;
/// Records read at once.
const RECORDS_PAGE: usize = 4_096;

/// Whose record it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// 256 generations.
    Page(u64),
    /// 65,536 generations.
    Stretch(u64),
}

impl Part {
    const fn page_of(generation: u64) -> u64 {
        generation >> PAGE_BITS
    }

    const fn stretch_of_page(page: u64) -> u64 {
        page >> STRETCH_BITS
    }

    fn key(self, keys: &Keys) -> Vec<u8> {
        match self {
            Self::Page(index) => keys.key(Tag::Sum, &[&[0], &index.to_be_bytes()]),
            Self::Stretch(index) => keys.key(Tag::Sum, &[&[1], &index.to_be_bytes()]),
        }
    }
}

/// What blocks on their way into a commit add, by page.
#[derive(Debug, Default)]
pub(super) struct Added {
    pages: BTreeMap<u64, Sum>,
}

impl Added {
    pub(super) fn add(&mut self, generation: u64, id: &BlockId) {
        self.pages.entry(Part::page_of(generation)).or_default().add(&Sum::of(id));
    }

    fn parts(&self) -> BTreeMap<Part, Sum> {
        let mut parts: BTreeMap<Part, Sum> = BTreeMap::new();
        for (page, sum) in &self.pages {
            parts.entry(Part::Page(*page)).or_default().add(sum);
            parts.entry(Part::Stretch(Part::stretch_of_page(*page))).or_default().add(sum);
        }
        parts
    }

    /// Puts the records of a chain that has none yet.
    pub(super) fn put_first(&self, keys: &Keys, batch: &mut Batch) {
        self.parts().iter().for_each(|(part, sum)| put(keys, batch, *part, sum));
    }
}

fn put(keys: &Keys, batch: &mut Batch, part: Part, sum: &Sum) {
    batch.put(part.key(keys), Bytes::copy_from_slice(&sum.encode()));
}

/// The records that change most, in memory. One task writes them.
#[derive(Debug, Default)]
pub(super) struct Sums {
    kept: BTreeMap<Part, Sum>,
}

impl Sums {
    /// Puts the records as they will be into the batch; returns them for [`Self::keep`] once that is committed.
    pub(super) async fn put(
        &self,
        table: &Table,
        added: &Added,
        batch: &mut Batch,
    ) -> Result<BTreeMap<Part, Sum>, LedgerError> {
        let mut parts = added.parts();
        let unknown: Vec<_> = parts.keys().filter(|part| !self.kept.contains_key(part)).copied().collect();
        let mut stored = BTreeMap::new();
        if !unknown.is_empty() {
            let keys: Vec<_> = unknown.iter().map(|part| part.key(&table.keys)).collect();
            for ((part, key), value) in unknown.iter().zip(&keys).zip(table.get_many(&keys).await?) {
                if let Some(value) = value {
                    stored.insert(*part, table.note(decode(key, &value))?);
                }
            }
        }
        for (part, sum) in &mut parts {
            if let Some(before) = self.kept.get(part).or_else(|| stored.get(part)) {
                sum.add(before);
            }
            put(&table.keys, batch, *part, sum);
        }
        Ok(parts)
    }

    /// Keeps what was committed; the oldest pages go first.
    pub(super) fn keep(&mut self, parts: BTreeMap<Part, Sum>) {
        self.kept.extend(parts);
        while self.kept.len() > RECORDS_KEPT {
            self.kept.pop_first();
        }
    }
}

fn decode(key: &[u8], value: &[u8]) -> Result<Sum, StoreError> {
    Sum::decode(value).ok_or_else(|| StoreError::corrupt(key, "not a sum of ids"))
}

/// Makes the records anew if they do not account for every block: the chain was written by a version without them.
pub(super) async fn ensure(table: &Table, meta: &Meta) -> Result<(), LedgerError> {
    if total(table).await? == Some(meta.count) {
        return Ok(());
    }
    let batch = made_anew(table).await?;
    info!(blocks = meta.count, "made the sums of a chain");
    table.commit(batch, Durability::Buffered).await
}

/// Returns how many blocks the records account for; nothing if one does not decode.
async fn total(table: &Table) -> Result<Option<u64>, LedgerError> {
    let mut range = KeyRange::prefix(&table.keys.key(Tag::Sum, &[&[1]]));
    let mut count: u64 = 0;
    loop {
        let page = table.scan(range.clone(), Direction::Forward, RECORDS_PAGE).await?;
        for (_, value) in &page {
            let Some(sum) = Sum::decode(value) else { return Ok(None) };
            count = count.saturating_add(sum.count());
        }
        match page.last() {
            Some((key, _)) if page.len() == RECORDS_PAGE => range.start = behind(key),
            _ => return Ok(Some(count)),
        }
    }
}

/// Returns the batch that replaces all records by what the blocks add up to.
pub(super) async fn made_anew(table: &Table) -> Result<Batch, LedgerError> {
    let mut added = Added::default();
    let mut range = table.keys.all(Tag::Canonical);
    loop {
        let page = table.scan(range.clone(), Direction::Forward, RECORDS_PAGE).await?;
        for (key, _) in &page {
            let CanonicalKey { generation, id } = table.note(canonical(key))?;
            added.add(generation, &id);
        }
        match page.last() {
            Some((key, _)) if page.len() == RECORDS_PAGE => range.start = behind(key),
            _ => break,
        }
    }
    let mut batch = Batch::new();
    batch.delete_range(table.keys.all(Tag::Sum));
    added.put_first(&table.keys, &mut batch);
    Ok(batch)
}

fn canonical(key: &[u8]) -> Result<CanonicalKey, StoreError> {
    let id = id_at_end(key)?;
    let generation = key.split_last_chunk::<32>().and_then(|(rest, _)| rest.last_chunk::<8>());
    let generation = generation.ok_or_else(|| StoreError::corrupt(key, "a short key"))?;
    Ok(CanonicalKey { generation: u64::from_be_bytes(*generation), id })
}

/// Returns the records from one key to another, with their indices.
async fn records(table: &Table, start: Vec<u8>, last: Vec<u8>) -> Result<Vec<(u64, Sum)>, LedgerError> {
    let mut range = KeyRange { start, end: Some(behind(&last)) };
    let mut found = Vec::new();
    loop {
        let page = table.scan(range.clone(), Direction::Forward, RECORDS_PAGE).await?;
        for (key, value) in &page {
            let index = key.last_chunk::<8>().map_or(0, |index| u64::from_be_bytes(*index));
            found.push((index, table.note(decode(key, value))?));
        }
        match page.last() {
            Some((key, _)) if page.len() == RECORDS_PAGE => range.start = behind(key),
            _ => return Ok(found),
        }
    }
}

/// The blocks of a chain as a set with sums. Made for one answer: what was read is kept.
pub(crate) struct ChainSet<'a> {
    table: &'a Table,
    stretches: Option<Vec<(u64, Sum)>>,
    pages: BTreeMap<u64, Vec<(u64, Sum)>>,
    items: BTreeMap<u64, Vec<CanonicalKey>>,
    reads: u64,
}

impl ChainCore {
    /// Returns the blocks as they are now, for one answer.
    pub(crate) fn summed(&self) -> ChainSet<'_> {
        let table = &self.inner.table;
        ChainSet { table, stretches: None, pages: BTreeMap::new(), items: BTreeMap::new(), reads: 0 }
    }
}

impl ChainSet<'_> {
    /// Returns how many blocks and records were read.
    pub(crate) const fn reads(&self) -> u64 {
        self.reads
    }

    fn count(&mut self, read: usize) -> Result<(), SetError> {
        self.reads = self.reads.saturating_add(read as u64).saturating_add(1);
        if self.reads > READS_MAX { Err(SetError::TooCostly) } else { Ok(()) }
    }

    async fn stretches(&mut self) -> Result<&[(u64, Sum)], SetError> {
        if self.stretches.is_none() {
            let keys = &self.table.keys;
            let found = records(self.table, Part::Stretch(0).key(keys), Part::Stretch(u64::MAX).key(keys)).await?;
            self.count(found.len())?;
            self.stretches = Some(found);
        }
        Ok(self.stretches.as_deref().unwrap_or_default())
    }

    async fn pages(&mut self, stretch: u64) -> Result<&[(u64, Sum)], SetError> {
        if !self.pages.contains_key(&stretch) {
            let (first, last) = (stretch << STRETCH_BITS, (stretch << STRETCH_BITS) | ((1 << STRETCH_BITS) - 1));
            let keys = &self.table.keys;
            let found = records(self.table, Part::Page(first).key(keys), Part::Page(last).key(keys)).await?;
            self.count(found.len())?;
            if self.pages.len() >= PAGES_KEPT {
                self.pages.pop_first();
            }
            self.pages.insert(stretch, found);
        }
        Ok(self.pages.get(&stretch).map(Vec::as_slice).unwrap_or_default())
    }

    async fn page_items(&mut self, page: u64) -> Result<&[CanonicalKey], SetError> {
        if !self.items.contains_key(&page) {
            let found = self.table.scan(self.range(page), Direction::Forward, PAGE_ITEMS_MAX + 1).await?;
            self.count(found.len())?;
            if found.len() > PAGE_ITEMS_MAX {
                return Err(SetError::TooCostly);
            }
            let items = self.table.note(found.iter().map(|(key, _)| canonical(key)).collect())?;
            if self.items.len() >= PAGES_KEPT {
                self.items.pop_first();
            }
            self.items.insert(page, items);
        }
        Ok(self.items.get(&page).map(Vec::as_slice).unwrap_or_default())
    }

    /// The canonical keys of a page.
    fn range(&self, page: u64) -> KeyRange {
        let keys = &self.table.keys;
        let first = page << PAGE_BITS;
        KeyRange {
            start: keys.key(Tag::Canonical, &[&first.to_be_bytes()]),
            end: match first.checked_add(1 << PAGE_BITS) {
                Some(next) => Some(keys.key(Tag::Canonical, &[&next.to_be_bytes()])),
                None => keys.all(Tag::Canonical).end,
            },
        }
    }

    /// Returns the canonical keys among which the block of a rank stands, and how many of them come before it; nothing
    /// behind the last block.
    pub(super) async fn page_of(&mut self, rank: u64) -> Result<Option<(KeyRange, u64)>, SetError> {
        let (page, before) = self.locate(rank).await?;
        Ok(page.map(|page| (self.range(page), rank.saturating_sub(before.count()))))
    }

    /// Returns the page where a rank falls, and what stands before it; nothing behind the last.
    async fn locate(&mut self, rank: u64) -> Result<(Option<u64>, Sum), SetError> {
        let mut before = Sum::default();
        let mut found = None;
        for (stretch, sum) in self.stretches().await? {
            if before.count().saturating_add(sum.count()) > rank {
                found = Some(*stretch);
                break;
            }
            before.add(sum);
        }
        let Some(stretch) = found else { return Ok((None, before)) };
        for (page, sum) in self.pages(stretch).await? {
            if before.count().saturating_add(sum.count()) > rank {
                return Ok((Some(*page), before));
            }
            before.add(sum);
        }
        Ok((None, before))
    }
}

#[async_trait]
impl SummedSet for ChainSet<'_> {
    async fn size(&mut self) -> Result<u64, SetError> {
        Ok(self.stretches().await?.iter().map(|(_, sum)| sum.count()).sum())
    }

    async fn rank(&mut self, bound: &Bound) -> Result<u64, SetError> {
        let page = Part::page_of(bound.key.generation);
        let stretch = Part::stretch_of_page(page);
        let stretches = self.stretches().await?;
        let below: u64 = stretches.iter().filter(|(index, _)| *index < stretch).map(|(_, sum)| sum.count()).sum();
        if !stretches.iter().any(|(index, _)| *index == stretch) {
            return Ok(below);
        }
        let pages = self.pages(stretch).await?;
        let below = below + pages.iter().filter(|(index, _)| *index < page).map(|(_, sum)| sum.count()).sum::<u64>();
        if !pages.iter().any(|(index, _)| *index == page) {
            return Ok(below);
        }
        let items = self.page_items(page).await?;
        Ok(below + items.partition_point(|key| *key < bound.key) as u64)
    }

    async fn prefix(&mut self, rank: u64) -> Result<Sum, SetError> {
        let (page, mut sum) = self.locate(rank).await?;
        let rest = usize::try_from(rank.saturating_sub(sum.count())).unwrap_or(usize::MAX);
        if let Some(page) = page.filter(|_| rest > 0) {
            self.page_items(page).await?.iter().take(rest).for_each(|key| sum.add(&Sum::of(&key.id)));
        }
        Ok(sum)
    }

    async fn items(&mut self, from: u64, until: u64) -> Result<Vec<CanonicalKey>, SetError> {
        let mut items = Vec::new();
        let mut at = from;
        while at < until {
            let (Some(page), before) = self.locate(at).await? else { break };
            let skip = usize::try_from(at - before.count()).unwrap_or(usize::MAX);
            let wanted = usize::try_from(until - at).unwrap_or(usize::MAX);
            let found = self.page_items(page).await?;
            let found: Vec<_> = found.iter().skip(skip).take(wanted).copied().collect();
            // Less than the record says: a commit came between the two reads.
            if found.is_empty() {
                break;
            }
            at += found.len() as u64;
            items.extend(found);
        }
        Ok(items)
    }
}

#[cfg(test)]
#[path = "sums_tests.rs"]
mod tests;
