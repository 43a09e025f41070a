//! Judging again: what was judged before, in steps between everything else.
//!
//! A record's standing depends on the authority ops that are known. The digest of the authority heads under which all
//! records have been judged is stored: while it is the same, nothing is judged again, however many records there are,
//! but those that wait and those whose key was not here.

use std::time::Duration;

use tokio::time::Instant;
use walytis_core::id::BlockId;
use walytis_core::ledger::LedgerError;
use walytis_core::store::{Batch, Direction, Durability, KeyRange, StoreError};
use walytis_identities::id::{EpochId, OpId};
use walytis_identities::identity::EpochUse;

use super::table::Table;
use super::task::Task;
use crate::context::{Label, LedgerTag, digest};

/// How long after the last record was judged that is written down, at least. Chosen: ops come in bursts. By time, because
/// the order in which those who follow an identity are woken is drawn at random: what is stored must not depend on it.
const NOTED_AFTER: Duration = Duration::from_secs(1);
/// Ledgers of one identity are done at the same moment; each writes at one of its own within so many milliseconds.
const NOTED_SPREAD_MS: u16 = 1_000;
/// Records judged in one step. Chosen: some milliseconds.
const STEP: usize = 64;

/// What is left to be looked at.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    stages: Vec<Stage>,
    /// Heads under which all records are judged, and when that is written down.
    judged: Option<([u8; 32], Instant)>,
}

/// A part of the records, and where to go on in its index.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// To be found out.
    Begin,
    /// Records that wait for authority.
    Waiting(Option<Vec<u8>>),
    /// Undecided proposals to forget, one in a step: each may name many blocks.
    Proposals(Option<Vec<u8>>),
    /// Epochs of which some records lack the key.
    Locked(Option<Vec<u8>>),
    /// Records of one epoch whose key is here now.
    Epoch(EpochId, Option<Vec<u8>>),
    /// All records; then they are judged under these heads.
    All([u8; 32], Option<Vec<u8>>),
}

impl Sweep {
    /// The identity may know more than before.
    pub(super) fn begin(&mut self) {
        self.stages = vec![Stage::Begin];
    }

    /// Something has come that records may wait for.
    pub(super) fn look_at_waiting(&mut self) {
        if !self.stages.iter().any(|stage| matches!(stage, Stage::Begin | Stage::Waiting(None))) {
            self.stages.push(Stage::Waiting(None));
        }
    }

    /// When what was judged is to be written down.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.judged.map(|(_, at)| at)
    }

    pub(super) const fn is_due(&self) -> bool {
        !self.stages.is_empty()
    }
}

/// Returns how long after the last record was judged a ledger writes that down.
fn noted_after(tag: &LedgerTag) -> Duration {
    let [first, second, ..] = tag.0;
    NOTED_AFTER + Duration::from_millis(u64::from(u16::from_be_bytes([first, second]) % NOTED_SPREAD_MS))
}

impl Task {
    /// Does one step.
    pub(super) async fn sweep_on(&mut self) -> Result<(), LedgerError> {
        match self.sweep.stages.pop() {
            None => {}
            Some(Stage::Begin) => {
                let heads = heads_digest(&self.inner.identity.auth_heads().await);
                let judged = self.sweep.judged.map(|(judged, _)| judged).or(self.meta.judged);
                if judged != Some(heads) {
                    self.sweep.judged = None;
                    self.sweep.stages.push(Stage::All(heads, None));
                }
                self.sweep.stages.push(Stage::Locked(None));
                self.sweep.stages.push(Stage::Waiting(None));
            }
            Some(Stage::Waiting(from)) => {
                if let Some(next) = self.settle_page(self.inner.table.all(b'u'), from).await? {
                    self.sweep.stages.push(Stage::Waiting(Some(next)));
                } else {
                    self.sweep.stages.push(Stage::Proposals(None));
                }
            }
            Some(Stage::Proposals(from)) => {
                let next = self.decide_next(from).await?;
                self.sweep.stages.extend(next.map(|next| Stage::Proposals(Some(next))));
            }
            Some(Stage::Locked(from)) => {
                let Some(epoch) = self.inner.table.next_locked(from).await? else { return Ok(()) };
                let table = &self.inner.table;
                let behind = KeyRange::prefix(&table.key(b'l', &[epoch.as_bytes()])).end;
                self.sweep.stages.extend(behind.map(|next| Stage::Locked(Some(next))));
                if self.inner.epoch_key(&epoch, EpochUse::RecordHeader).await?.is_some() {
                    self.sweep.stages.push(Stage::Epoch(epoch, None));
                }
            }
            Some(Stage::Epoch(epoch, from)) => {
                let range = KeyRange::prefix(&self.inner.table.key(b'l', &[epoch.as_bytes()]));
                if let Some(next) = self.settle_page(range, from).await? {
                    self.sweep.stages.push(Stage::Epoch(epoch, Some(next)));
                }
            }
            Some(Stage::All(heads, from)) => match self.settle_page(self.inner.table.all(b'c'), from).await? {
                Some(next) => self.sweep.stages.push(Stage::All(heads, Some(next))),
                None => self.sweep.judged = Some((heads, Instant::now() + noted_after(&self.inner.table.tag))),
            },
        }
        Ok(())
    }

    /// Writes down under which heads all records are judged, when it is time.
    pub(super) async fn note_judged(&mut self) -> Result<(), LedgerError> {
        if let Some((heads, _)) = self.sweep.judged.take_if(|(_, at)| *at <= Instant::now()) {
            self.meta.judged = Some(heads);
            let mut batch = Batch::new();
            self.inner.table.put_meta(&mut batch, &self.meta);
            self.inner.table.store.commit(batch, Durability::Buffered).await?;
        }
        Ok(())
    }

    async fn settle_page(
        &mut self,
        mut range: KeyRange,
        from: Option<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>, LedgerError> {
        if let Some(from) = from {
            range.start = from;
        }
        let (ids, next): (Vec<BlockId>, _) = self.inner.table.ids_page(range, STEP).await?;
        for id in ids {
            self.settle(&id, false).await?;
        }
        self.publish();
        Ok(next)
    }
}

impl Table {
    /// The next epoch, from a key on, of which some records lack the key.
    async fn next_locked(&self, from: Option<Vec<u8>>) -> Result<Option<EpochId>, StoreError> {
        let mut range = self.all(b'l');
        let prefix = range.start.len();
        if let Some(from) = from {
            range.start = from;
        }
        let page = self.store.scan(range, Direction::Forward, 1).await?;
        let epoch = page.first().and_then(|(key, _)| key.get(prefix..)?.first_chunk::<32>().copied());
        Ok(epoch.map(OpId))
    }
}

fn heads_digest(heads: &[OpId]) -> [u8; 32] {
    let heads: Vec<&[u8]> = heads.iter().map(|head| head.as_bytes().as_slice()).collect();
    digest(Label::JudgedHeads, &heads)
}
