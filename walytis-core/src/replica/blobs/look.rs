//! Which blobs are missing: the stored list, page by page and round by round.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::chain::{ChainCore, News, WantedBlob};
use crate::id::BlockId;
use crate::ledger::LedgerError;

/// Entries read at once.
const PAGE: usize = 64;
/// New entries kept until there is room for them. Chosen: as many as a chain tells at once; of more the list is read.
const FRESH_MAX: usize = 1_024;
/// How soon the list is gone through again, at first.
const AGAIN_FIRST: Duration = Duration::from_millis(500);
/// And at last, while nothing comes of it.
const AGAIN_LAST: Duration = Duration::from_secs(60);
/// A round is followed by a pause of so many times its length, so that a long list of what nobody has costs little.
const PAUSE_RATIO: u32 = 4;

/// Goes through the list, round by round.
#[derive(Debug)]
pub(super) struct Look {
    /// New entries, taken before everything else.
    fresh: VecDeque<WantedBlob>,
    page: VecDeque<WantedBlob>,
    after: Option<BlockId>,
    began: Instant,
    /// How long the last round took.
    took: Duration,
    next: Instant,
    pause: Duration,
    /// Something was added to the list, behind where this round is or before.
    again: bool,
}

impl Look {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            fresh: VecDeque::new(),
            page: VecDeque::new(),
            after: None,
            began: now,
            took: Duration::ZERO,
            next: now,
            pause: AGAIN_FIRST,
            again: false,
        }
    }

    /// Something has changed for the better: begins now, and again as soon as this round is over.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.pause = AGAIN_FIRST;
        self.again = true;
        self.next = now;
    }

    /// The list has grown.
    pub(super) fn note(&mut self, news: News, now: Instant) {
        match news {
            News::Blobs(blobs) if self.fresh.len() + blobs.len() <= FRESH_MAX => self.fresh.extend(blobs),
            _ => self.hurry(now),
        }
    }

    /// Something of the list has come, so that other things may be had too: begins in a moment. Called for every blob, so
    /// it costs no round of its own each time.
    pub(super) fn soon(&mut self, now: Instant) {
        self.pause = AGAIN_FIRST;
        self.next = self.next.min(now + AGAIN_FIRST.max(self.took.saturating_mul(PAUSE_RATIO)));
    }

    /// Returns when the next entry may be taken.
    pub(super) const fn due(&self) -> Instant {
        self.next
    }

    /// Returns the next entry, or nothing at the end of a round.
    pub(super) async fn next(&mut self, core: &ChainCore, now: Instant) -> Result<Option<WantedBlob>, LedgerError> {
        if let Some(entry) = self.fresh.pop_front() {
            return Ok(Some(entry));
        }
        if now < self.next {
            return Ok(None);
        }
        if self.page.is_empty() {
            if self.after.is_none() {
                self.began = now;
                self.again = false;
            }
            // If that fails it is tried again, but not at once.
            self.next = now + self.pause;
            self.page = core.wanted_blobs_after(self.after, PAGE).await?.into();
            self.next = now;
        }
        let entry = self.page.pop_front();
        self.after = entry.map(|entry| entry.block);
        if entry.is_none() {
            self.took = now.saturating_duration_since(self.began);
            let pause = self.pause.max(self.took.saturating_mul(PAUSE_RATIO));
            self.next = if self.again { now } else { now + pause };
            self.pause = self.pause.saturating_mul(2).min(AGAIN_LAST);
        }
        Ok(entry)
    }
}
