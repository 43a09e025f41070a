//! Events that a handler could not handle yet: a pure value.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::id::BlockId;
use crate::limits::UNACKNOWLEDGED_MAX;

/// Events held at once. Below what may be unacknowledged, so that acknowledging what goes on never runs out of room.
const HELD_MAX: usize = UNACKNOWLEDGED_MAX - 24;

/// An event that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// Position in the stream.
    pub(super) at: u64,
    /// The block that it is about.
    pub(super) block: BlockId,
    /// The block's generation; 0 if that is not known.
    pub(super) generation: u64,
    /// What happened to it.
    pub(super) kind: Kind,
}

/// What an event that is held says of its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It counts.
    Block,
    /// It does not any more.
    Retracted,
    /// It proposes to forget others.
    Proposed,
    /// Its content is gone.
    Forgotten,
}

#[derive(Debug)]
enum Reason {
    /// To be tried again then.
    Failed(Instant),
    /// Held events that come first.
    Waits(BTreeSet<u64>),
    Ready,
}

/// What is held, and what waits for what.
#[derive(Debug)]
pub(super) struct Backlog {
    first: Duration,
    max: Duration,
    held: BTreeMap<u64, (Held, Reason)>,
    by_block: BTreeMap<BlockId, BTreeSet<u64>>,
    waiting_for: BTreeMap<u64, BTreeSet<u64>>,
}

impl Backlog {
    pub(super) const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, held: BTreeMap::new(), by_block: BTreeMap::new(), waiting_for: BTreeMap::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Says whether no further event may be taken in.
    pub(super) fn is_full(&self) -> bool {
        self.held.len() >= HELD_MAX
    }

    /// Returns the held events of a block.
    pub(super) fn of_block(&self, block: &BlockId) -> impl Iterator<Item = u64> + '_ {
        self.by_block.get(block).into_iter().flatten().copied()
    }

    /// Returns all positions.
    pub(super) fn positions(&self) -> BTreeSet<u64> {
        self.held.keys().copied().collect()
    }

    /// Returns the lowest generation of a held block: only higher ones can descend from any.
    pub(super) fn floor(&self) -> u64 {
        self.held.values().map(|(held, _)| held.generation).min().unwrap_or(u64::MAX)
    }

    /// Holds an event until others are done; none of them is unknown.
    pub(super) fn wait(&mut self, held: Held, first: BTreeSet<u64>) {
        for one in &first {
            self.waiting_for.entry(*one).or_default().insert(held.at);
        }
        self.insert(held, Reason::Waits(first));
    }

    /// Holds an event whose handler failed; `attempts` so far.
    pub(super) fn fail(&mut self, held: Held, attempts: u32, now: Instant) {
        let doubled = 2u32.saturating_pow(attempts.saturating_sub(1).min(31));
        let pause = self.first.saturating_mul(doubled).min(self.max);
        self.insert(held, Reason::Failed(now + pause));
    }

    /// Drops an event that was handled; what waited for it alone becomes ready.
    pub(super) fn done(&mut self, at: u64) {
        let Some((held, _)) = self.held.remove(&at) else { return };
        if let Some(events) = self.by_block.get_mut(&held.block) {
            events.remove(&at);
            if events.is_empty() {
                self.by_block.remove(&held.block);
            }
        }
        for waiting in self.waiting_for.remove(&at).unwrap_or_default() {
            if let Some((_, reason)) = self.held.get_mut(&waiting)
                && let Reason::Waits(first) = reason
            {
                first.remove(&at);
                if first.is_empty() {
                    *reason = Reason::Ready;
                }
            }
        }
    }

    /// Returns the first event to be tried now.
    pub(super) fn due(&self, now: Instant) -> Option<Held> {
        let due = |reason: &Reason| match reason {
            Reason::Ready => true,
            Reason::Failed(at) => *at <= now,
            Reason::Waits(_) => false,
        };
        self.held.values().find(|(_, reason)| due(reason)).map(|(held, _)| *held)
    }

    /// Returns when the next failed event is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let at = |reason: &Reason| match reason {
            Reason::Failed(at) => Some(*at),
            Reason::Ready | Reason::Waits(_) => None,
        };
        self.held.values().filter_map(|(_, reason)| at(reason)).min()
    }

    fn insert(&mut self, held: Held, reason: Reason) {
        self.by_block.entry(held.block).or_default().insert(held.at);
        self.held.insert(held.at, (held, reason));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(60);

    fn held(at: u64) -> Held {
        Held { at, block: BlockId::of_file(&at.to_be_bytes()), generation: at, kind: Kind::Block }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_the_longest() {
        let now = Instant::now();
        let mut backlog = Backlog::new(FIRST, MAX);
        let mut pauses = Vec::new();
        for attempts in [1, 2, 3, 10, 11, u32::MAX] {
            backlog.fail(held(1), attempts, now);
            let due = backlog.next_due().unwrap();
            assert_eq!(backlog.due(due - Duration::from_millis(1)), None);
            assert_eq!(backlog.due(due), Some(held(1)));
            pauses.push((due - now).as_millis());
        }
        assert_eq!(pauses, [100, 200, 400, 51_200, 60_000, 60_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_becomes_ready_when_all_it_waits_for_is_done() {
        let now = Instant::now();
        let mut backlog = Backlog::new(FIRST, MAX);
        backlog.fail(held(1), 1, now);
        backlog.fail(held(2), 1, now);
        backlog.wait(held(3), BTreeSet::from([1]));
        backlog.wait(held(4), BTreeSet::from([2, 3]));
        assert_eq!((backlog.floor(), backlog.due(now)), (1, None));
        backlog.done(1);
        assert_eq!(backlog.due(now), Some(held(3)));
        backlog.done(3);
        assert_eq!(backlog.due(now), None);
        backlog.done(2);
        assert_eq!((backlog.due(now), backlog.next_due()), (Some(held(4)), None));
        backlog.done(4);
        assert!(backlog.is_empty() && backlog.by_block.is_empty() && backlog.waiting_for.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_is_held_than_may_be_unacknowledged() {
        let mut backlog = Backlog::new(FIRST, MAX);
        backlog.fail(held(1), 1, Instant::now());
        for at in 2.. {
            if backlog.is_full() {
                break;
            }
            backlog.wait(held(at), BTreeSet::from([1]));
        }
        assert!(backlog.positions().len() < UNACKNOWLEDGED_MAX);
    }
}
