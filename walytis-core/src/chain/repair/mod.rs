//! Finding what is missing or corrupt of a chain, and making it whole again.
//!
//! ```text
//! files   each file against its id, every rule; rows that follow from it rewritten          (also: where did it stand?)
//! fetch   lost files asked of peers by id, put where they stood; until no parent is unknown
//! walk    canonical order: arrival numbers, parents first; heads and counters
//! rows    whatever follows from no block removed; cursors within the chain
//! blobs   each content against its root; bad leaves asked of peers
//! ```
//!
//! A block's id is the digest of its file: what a peer sends is exactly what was lost, and goes to its old place. So
//! arrival numbers stay, and no cursor skips anything. Every step can be repeated; a crash leaves the mark of the damaged
//! chain, and the next repair does what is left. Only a chain that is whole loses its mark.
//!
//! One task of the chain runs it, or nobody has the chain open: nothing else writes meanwhile.

mod blobs;
mod files;
mod order;
mod rows;
mod start;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::content::BlobFetcher;
use super::schema::Tag;
use super::stage::Tip;
use super::table::{Table, behind};
use crate::clock::Entropy;
use crate::id::{BlockId, ChainId};
use crate::ledger::LedgerError;
use crate::store::{Batch, BlobStore, Direction, Durability, KeyRange, StoreError};
pub(crate) use start::repair_closed;

/// Lost blocks and contents that a report names. Chosen: enough to see what they have in common.
pub const REPORT_NAMES_MAX: usize = 32;
/// How long peers that are not connected yet are waited for, in all. Chosen: sessions open within a moment.
const PATIENCE: Duration = Duration::from_secs(5);
/// Rows read at once.
const PAGE: usize = 1_024;
/// Rewritten rows in one commit.
const BATCH_ROWS: usize = 4_096;

/// How far a repair is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepairProgress {
    /// What is being done.
    pub step: &'static str,
    /// Blocks, rows or contents gone through in this step.
    pub done: u64,
    /// How many there are, as far as known.
    pub total: u64,
}

/// What a repair found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Nothing is missing and nothing contradicts itself: the chain can be written again.
    pub whole: bool,
    /// Blocks that are here and verified.
    pub blocks: u64,
    /// Lost block files that peers sent.
    pub fetched_blocks: u64,
    /// Rows that were wrong or missing, or followed from nothing.
    pub rows: u64,
    /// Contents that were read and verified.
    pub contents: u64,
    /// Leaves of contents that peers sent.
    pub fetched_leaves: u64,
    /// Contents that are on the list of what to fetch.
    pub wanted_contents: u64,
    /// Blocks that are still lost.
    pub missing_blocks: u64,
    /// Contents that are still damaged.
    pub missing_contents: u64,
    /// Some of those, at most [`REPORT_NAMES_MAX`].
    pub missing: Vec<String>,
    /// What else keeps the chain from being whole.
    pub problem: Option<String>,
}

/// What a repair works on.
pub(super) struct Parts<'a> {
    pub(super) chain: ChainId,
    pub(super) table: &'a Table,
    pub(super) blobs: &'a dyn BlobStore,
    /// Asks peers; nothing where there are none.
    pub(super) fetcher: Option<Arc<dyn BlobFetcher>>,
    pub(super) entropy: &'a Arc<dyn Entropy>,
    pub(super) progress: &'a watch::Sender<RepairProgress>,
    pub(super) stop: &'a CancellationToken,
}

/// A repair under way.
struct Repair<'a> {
    parts: Parts<'a>,
    report: RepairReport,
    batch: Batch,
    rows: usize,
    /// Blocks that are known to belong to the chain, and whose files are not here or not what they should be.
    lost: BTreeSet<BlockId>,
    /// Blocks whose arrival number cannot be told from their rows, with their generations.
    unplaced: BTreeMap<BlockId, u64>,
    /// The highest arrival number.
    youngest: u64,
    /// Until when peers that are not connected yet are waited for; begins with the first question.
    patient_until: Option<Instant>,
}

/// Repairs a chain; returns what came of it, and heads and counters if they can be told. The mark stays: whoever calls
/// this removes it when the chain is whole.
pub(super) async fn run(parts: Parts<'_>) -> Result<(RepairReport, Option<Tip>), LedgerError> {
    let repair = Repair {
        parts,
        report: RepairReport::default(),
        batch: Batch::new(),
        rows: 0,
        lost: BTreeSet::new(),
        unplaced: BTreeMap::new(),
        youngest: 0,
        patient_until: None,
    };
    repair.run().await
}

impl Repair<'_> {
    async fn run(mut self) -> Result<(RepairReport, Option<Tip>), LedgerError> {
        self.check_files().await?;
        self.find_lost().await?;
        let mut walked = self.walk().await?;
        loop {
            let fetched = self.fetch_lost().await?;
            if !fetched {
                break;
            }
            walked = self.walk().await?;
        }
        if !self.unplaced.is_empty() && self.lost.is_empty() {
            self.place_rest().await?;
            walked = self.walk().await?;
        }
        if let Some(tip) = &walked {
            self.put_tip(tip).await?;
        }
        if self.lost.is_empty() && self.report.problem.is_none() {
            self.remove_strays().await?;
            self.check_blobs().await?;
        }
        self.flush().await?;
        self.report.missing_blocks = self.lost.len() as u64;
        let room = REPORT_NAMES_MAX.saturating_sub(self.report.missing.len());
        let names: Vec<_> = self.lost.iter().take(room).map(ToString::to_string).collect();
        self.report.missing.extend(names);
        let nothing_missing = self.lost.is_empty() && self.report.missing_contents == 0;
        self.report.whole = nothing_missing && self.report.problem.is_none() && walked.is_some();
        Ok((self.report, walked))
    }

    fn step(&self, step: &'static str, done: u64, total: u64) -> Result<(), LedgerError> {
        self.parts.progress.send_replace(RepairProgress { step, done, total });
        if self.parts.stop.is_cancelled() { Err(LedgerError::Closed) } else { Ok(()) }
    }

    fn put(&mut self, key: Vec<u8>, value: impl Into<Bytes>) {
        self.batch.put(key, value);
        self.rows += 1;
        self.report.rows += 1;
    }

    fn delete(&mut self, key: Vec<u8>) {
        self.batch.delete(key);
        self.rows += 1;
        self.report.rows += 1;
    }

    /// Commits what was found so far, if it is much.
    async fn flush_some(&mut self) -> Result<(), LedgerError> {
        if self.rows >= BATCH_ROWS { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), LedgerError> {
        self.rows = 0;
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        Ok(self.parts.table.store().commit(batch, Durability::Flushed).await?)
    }

    /// Reads the next rows of a range, and moves its start behind them; fewer than the limit at its end.
    async fn page(&self, range: &mut KeyRange, limit: usize) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let page = self.parts.table.store().scan(range.clone(), Direction::Forward, limit).await?;
        if let Some((key, _)) = page.last() {
            range.start = behind(key);
        }
        Ok(page)
    }

    fn range(&self, tag: Tag) -> KeyRange {
        self.parts.table.keys.all(tag)
    }

    /// Asks peers for one part of what the chain holds: a block file, or a leaf.
    async fn ask(
        &mut self,
        blob: crate::id::BlobId,
        index: u32,
        digest: [u8; 32],
    ) -> Result<Option<Bytes>, LedgerError> {
        let Some(fetcher) = self.parts.fetcher.clone() else { return Ok(None) };
        let until = *self.patient_until.get_or_insert_with(|| Instant::now() + PATIENCE);
        let patience = until.saturating_duration_since(Instant::now());
        tokio::select! {
            biased;
            () = self.parts.stop.cancelled() => Err(LedgerError::Closed),
            part = fetcher.fetch_part(self.parts.chain, blob, index, digest, patience) => Ok(part.ok()),
        }
    }
}

/// Returns the block id at the end of a key of this many bytes behind the tag.
fn id_of(key: &[u8], len: usize) -> Option<BlockId> {
    (key.len() == 34 + len).then(|| key.last_chunk::<32>().map(|id| BlockId::from_digest(*id))).flatten()
}
