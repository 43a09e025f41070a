//! Going on after a write that failed, most often because the disk was full.
//!
//! RocksDB that could not write its log or a table refuses every write until it is told to resume, which the crate `rocksdb`
//! has no call for; one that could not merge tables goes on until there are too many. So the database is closed and
//! opened again, below the store, once there is room:
//!
//! ```text
//!           a write fails, or background errors             no room, or not opened: later again, reading works
//!  healthy ───────────────────────────────────► broken ◄──────────────┐
//!     ▲                                           │ pause is over     │
//!     └──── the failed group is written again ◄── look at the log ────┤
//!                                                 │ it holds more than was written: for good
//!                                                 ▼
//!                                               stuck ── until the store is opened anew
//! ```
//!
//! A write that failed must not come back: who asked for it was told so. Nearly always it stands in the log in part, which
//! opening drops, or not at all. Where it stands there whole (the flush failed, not the write), the store stays as it is.

use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::{Shared, open};
use crate::store::StoreError;

/// How soon a broken store is looked at again, at first. Chosen: unnoticed by who frees space, and little work.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// And at last, while nothing comes of it though there is room. Chosen: opening costs a second at most.
const PAUSE_LAST: Duration = Duration::from_secs(15);

/// What the writer knows of the health of its database.
#[derive(Debug)]
pub(super) struct Recovery {
    /// Sequence number of the last write that succeeded.
    sequence: u64,
    state: State,
    /// Why it is not healthy.
    cause: Option<StoreError>,
    next: Option<Instant>,
    pause: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Healthy,
    Broken,
    Stuck,
}

/// What the log says about writes that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Log {
    /// They are not in it.
    Without,
    /// One of them is.
    With,
    /// Writes that succeeded are missing.
    Short,
}

impl Recovery {
    pub(super) const fn new(sequence: u64) -> Self {
        Self { sequence, state: State::Healthy, cause: None, next: None, pause: PAUSE_FIRST }
    }

    /// A write succeeded: the database has come to this sequence number.
    pub(super) const fn wrote(&mut self, sequence: u64) {
        self.sequence = sequence;
    }

    /// A write failed. Returns what to tell: what began it, as a broken database just says that it is.
    pub(super) fn failed(&mut self, error: &StoreError) -> StoreError {
        if self.state == State::Healthy {
            self.state = State::Broken;
            self.cause = Some(error.clone());
        }
        self.cause.as_ref().unwrap_or(error).clone()
    }

    /// Looks after the database if it needs it and it is time. True if it was opened again. Blocks, while reads wait.
    pub(super) fn attempt(&mut self, shared: &Shared, now: Instant) -> bool {
        let needed = self.state == State::Broken || (self.state == State::Healthy && shared.background_errors() > 0);
        if !needed || self.next.is_some_and(|next| now < next) || !open::has_room(&shared.directory) {
            return false;
        }
        self.state = State::Broken;
        self.next = Some(now + self.pause);
        self.pause = self.pause.saturating_mul(2).min(PAUSE_LAST);
        match self.reopen(shared) {
            Ok(()) => {
                tracing::warn!(store = %shared.directory.display(), "the store was opened again after a failed write");
                (self.state, self.cause) = (State::Healthy, None);
                true
            }
            Err(error) => {
                tracing::warn!(store = %shared.directory.display(), %error, "the store cannot be written");
                self.cause = Some(error);
                false
            }
        }
    }

    /// The database has worked for a while: the next trouble is looked at soon.
    pub(super) fn calm(&mut self, now: Instant) {
        if self.state == State::Healthy && self.next.is_some_and(|next| now >= next) {
            (self.next, self.pause) = (None, PAUSE_FIRST);
        }
    }

    fn reopen(&mut self, shared: &Shared) -> Result<(), StoreError> {
        let sequence = self.sequence;
        let mut log = Log::Without;
        let opened = shared.replace_db(|directory| {
            log = compare(open::last_sequence(directory)?, sequence);
            match log {
                Log::Without => Ok(()),
                Log::With => Err(StoreError::Io { reason: "a write that failed stands in the log".into() }),
                Log::Short => Err(open::damaged(directory, "its log has lost writes while it was open".into())),
            }
        });
        if log != Log::Without {
            self.state = State::Stuck;
        }
        opened
    }
}

const fn compare(found: u64, written: u64) -> Log {
    if found == written {
        Log::Without
    } else if found > written {
        Log::With
    } else {
        Log::Short
    }
}

impl Shared {
    /// Says how many errors RocksDB met in the background since it was opened.
    fn background_errors(&self) -> u64 {
        let count = self.with_db(|db| db.property_int_value(rocksdb::properties::BACKGROUND_ERRORS));
        count.ok().flatten().unwrap_or(0)
    }

    /// Closes the database and opens it again if `check` agrees, which looks at its files while it is open. If it cannot
    /// be opened it stays open for reading. Reads wait meanwhile. Blocks.
    fn replace_db(&self, check: impl FnOnce(&Path) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let mut slot = self.db.write().unwrap_or_else(PoisonError::into_inner);
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        let guard = guard.as_mut().ok_or(StoreError::Closed)?;
        check(&self.directory)?;
        guard.note_again();
        if let Some(db) = slot.take() {
            db.cancel_all_background_work(true);
        }
        match open::open_marked(&self.directory, guard, false) {
            Ok(db) => {
                *slot = Some(db);
                Ok(())
            }
            Err(error) => {
                *slot = open::open_for_reading(&self.directory).ok();
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_log_that_holds_what_was_written_and_nothing_more_is_opened_again() {
        assert_eq!(compare(7, 7), Log::Without);
        assert_eq!(compare(8, 7), Log::With);
        assert_eq!(compare(6, 7), Log::Short);
    }
}
