//! One peer that can be asked.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use tokio::time::Instant;

use crate::envelope::EnvelopeId;

/// Parts asked of a peer that has not delivered yet. Chosen: a slow one is not flooded.
const WINDOW_FIRST: usize = 2;
/// Parts asked of one peer at the same time, at the most. Chosen: 16 MiB fill a fast link and bound memory.
const WINDOW_MAX: usize = 16;
/// A part that takes no longer lets a peer be asked for one more at the same time. Chosen: a full window of 16 MiB over a
/// round trip of 250 ms is still 30 MB/s.
const PROMPT: Duration = Duration::from_millis(500);
/// A part that takes longer lets it be asked for one less: what waits in its queue cannot be asked of others who get it
/// meanwhile. Chosen: the two that are left keep any line busy whose round trip is below a second.
const SLOW: Duration = Duration::from_secs(1);
/// How long a peer may be silent while it is asked for something. Chosen: one chunk at 0.6 Mbit/s.
pub(super) const DEADLINE: Duration = Duration::from_secs(15);
/// How long one part may take however much else comes meanwhile. Chosen: what an honest peer does not answer was lost on
/// the way; a window of chunks at 1 Mbit/s arrives before.
const DEADLINE_LAST: Duration = Duration::from_secs(150);
/// Doublings of the deadline for a peer that was late. Chosen: one chunk at 40 kbit/s still arrives.
const PATIENCE_DOUBLINGS: u32 = 4;
/// When it is looked whether a peer can be asked about more. Chosen: noes are earned one by one; a few at a time are asked
/// about.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Peer {
    window: usize,
    late: u32,
    asked: BTreeMap<(EnvelopeId, u32), Asked>,
    /// Envelopes that it has not been asked about.
    pub(super) fresh: BTreeSet<EnvelopeId>,
    /// The envelope that it was asked about last.
    asked_up_to: Option<EnvelopeId>,
    /// Envelopes that it has and of which a part can be asked for.
    pub(super) ready: BTreeSet<EnvelopeId>,
    turn: Option<EnvelopeId>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    since: Instant,
    until: Instant,
}

impl Peer {
    pub(super) fn new() -> Self {
        Self {
            window: WINDOW_FIRST,
            late: 0,
            asked: BTreeMap::new(),
            fresh: BTreeSet::new(),
            asked_up_to: None,
            ready: BTreeSet::new(),
            turn: None,
        }
    }

    pub(super) fn load(&self) -> usize {
        self.asked.len()
    }

    pub(super) fn is_free(&self) -> bool {
        self.load() < self.window && !self.ready.is_empty()
    }

    /// The envelope whose turn it is: they take turns, so that a large one delays no other.
    pub(super) fn next(&mut self) -> Option<EnvelopeId> {
        let after = self.turn.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.ready.range((after, Bound::Unbounded)).next().or_else(|| self.ready.first()).copied();
        self.turn = next;
        next
    }

    pub(super) fn ask(&mut self, id: EnvelopeId, part: u32, now: Instant) {
        let patience = DEADLINE * 2_u32.pow(self.late.min(PATIENCE_DOUBLINGS));
        self.asked.insert((id, part), Asked { since: now, until: now + patience });
    }

    /// A part has come: whatever else was asked has more time.
    pub(super) fn handle_part(&mut self, id: EnvelopeId, part: u32, now: Instant) {
        let took = self.asked.remove(&(id, part)).map(|asked| now.duration_since(asked.since));
        if took.is_some_and(|took| took > SLOW) {
            self.window = self.window.saturating_sub(1).max(WINDOW_FIRST);
        } else if took.is_some_and(|took| took <= PROMPT) {
            self.window = (self.window + 1).min(WINDOW_MAX);
        }
        self.late = 0;
        for asked in self.asked.values_mut() {
            asked.until = asked.until.max((now + DEADLINE).min(asked.since + DEADLINE_LAST));
        }
    }

    pub(super) fn release(&mut self, id: EnvelopeId, part: u32) {
        self.asked.remove(&(id, part));
    }

    /// What is overdue.
    pub(super) fn overdue(&self, now: Instant) -> Vec<(EnvelopeId, u32)> {
        self.asked.iter().filter(|(_, asked)| asked.until <= now).map(|(what, _)| *what).collect()
    }

    pub(super) fn handle_late(&mut self) {
        self.window = 1;
        self.late = self.late.saturating_add(1);
    }

    /// Whether it was late and has delivered nothing since.
    pub(super) const fn is_late(&self) -> bool {
        self.late > 0
    }

    /// Everything that it was asked for is void, because its stream broke; it begins anew.
    pub(super) fn reset(&mut self) -> Vec<(EnvelopeId, u32)> {
        self.window = WINDOW_FIRST;
        std::mem::take(&mut self.asked).into_keys().collect()
    }

    /// Takes envelopes to ask about, at most so many.
    pub(super) fn take_fresh(&mut self, count: u64) -> Vec<EnvelopeId> {
        let room = usize::try_from(count).unwrap_or(usize::MAX);
        let after = (self.asked_up_to.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        // In a circle: whoever makes envelopes with low ids is not always first.
        let behind = self.fresh.range(after).count();
        let circle = self.fresh.range(after).chain(self.fresh.iter().take(self.fresh.len() - behind));
        let taken: Vec<_> = circle.take(room).copied().collect();
        for id in &taken {
            self.fresh.remove(id);
        }
        self.asked_up_to = taken.last().copied().or(self.asked_up_to);
        taken
    }

    /// When something must be done about it.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let late = self.asked.values().map(|asked| asked.until).min();
        let again = (!self.fresh.is_empty()).then(|| now + PAUSE);
        [late, again].into_iter().flatten().min()
    }
}
