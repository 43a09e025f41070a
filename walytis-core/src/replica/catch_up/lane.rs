//! One peer's turn to hand over blocks.

use std::time::Duration;

use tokio::time::Instant;

use super::WINDOW;
use crate::graph::CanonicalKey;
use crate::id::BlockId;
use crate::replica::codec_v1::{ShortId, Span};

/// How long an answer or the next blocks may take. Chosen: several round trips of the slowest links, and the walk.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// A turn may not last longer than this and the time that its bytes take at the slowest pace. Chosen: a walk over the
/// slowest links.
pub(super) const TURN_GRACE: Duration = Duration::from_secs(30);
/// Slowest pace of a turn, in bytes a second; a peer that trickles gives way to others and is tried again later, from
/// where it was. Chosen: half of what the slowest mobile links carry.
const PACE_MIN: u64 = 4 * 1024;
/// How long a turn may go on without a block that enters: a peer must not hold it with what is here already.
pub(super) const BARREN_MAX: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Credit was offered with the heads, or blocks were asked for.
    Offered,
    /// Ids on the way down from the peer's heads.
    Walking,
    /// Ranges are compared.
    Comparing,
    /// Ids are listed.
    Listing,
    /// Blocks come.
    Receiving,
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) round: u32,
    pub(super) phase: Phase,
    pub(super) deadline: Instant,
    /// Blocks that entered.
    pub(super) admitted: usize,
    /// What both have, as it was found out or as our heads were told.
    pub(super) have: Vec<ShortId>,
    /// What only the peer has, in the order to ask for it.
    pub(super) need: Vec<(u64, BlockId)>,
    /// The difference had to be found out.
    pub(super) diverged: bool,
    pub(super) steps: u32,
    /// The part that is fetched here, where several peers share the work.
    pub(super) span: Option<Span>,
    /// Last block received.
    pub(super) reached: Option<CanonicalKey>,
    /// Bytes of block files that were allowed and that came.
    granted: u64,
    came: u64,
    /// Not allowed yet: much that came waits for a lower part.
    withheld: u32,
    /// No more is allowed: others are to help with the rest.
    pub(super) draining: bool,
    started: Instant,
    /// When a block entered last.
    pub(super) fruitful: Instant,
    /// What came in this turn.
    bytes: u64,
}

impl Lane {
    pub(super) fn new(round: u32, have: Vec<ShortId>, now: Instant) -> Self {
        Self {
            round,
            phase: Phase::Offered,
            deadline: now + ANSWER_WITHIN,
            admitted: 0,
            have,
            need: Vec::new(),
            diverged: false,
            steps: 0,
            span: None,
            reached: None,
            granted: u64::from(WINDOW),
            came: 0,
            withheld: 0,
            draining: false,
            started: now,
            fruitful: now,
            bytes: 0,
        }
    }

    /// The peer answered: it may take its time again, within the bounds of the turn.
    pub(super) fn prolong(&mut self, bytes: u64, patience: u32, now: Instant) {
        self.bytes = self.bytes.saturating_add(bytes);
        let earned = TURN_GRACE.saturating_mul(patience).saturating_add(Duration::from_secs(self.bytes / PACE_MIN));
        let barren = BARREN_MAX.saturating_mul(patience);
        let ends =
            [now.checked_add(ANSWER_WITHIN), self.started.checked_add(earned), self.fruitful.checked_add(barren)];
        self.deadline = ends.into_iter().flatten().min().unwrap_or(now);
    }

    /// Bytes of block files came.
    pub(super) fn received(&mut self, bytes: u32) {
        self.came = self.came.saturating_add(bytes.into());
    }

    /// The peer may send so many more.
    pub(super) fn grant(&mut self, bytes: u32) {
        self.granted = self.granted.saturating_add(bytes.into());
    }

    /// Says whether so much came that what it waits for should come first.
    pub(super) fn is_ahead_of_itself(&self) -> bool {
        self.came >= u64::from(WINDOW)
    }

    /// Holds credit back.
    pub(super) const fn withhold(&mut self, bytes: u32) {
        self.withheld = self.withheld.saturating_add(bytes);
    }

    /// Returns the credit that was held back, now allowed.
    pub(super) fn release(&mut self) -> u32 {
        let bytes = std::mem::take(&mut self.withheld);
        self.grant(bytes);
        bytes
    }

    /// Says whether everything that was allowed has come, so that nothing is under way.
    pub(super) fn is_drained(&self) -> bool {
        self.draining && self.came >= self.granted
    }

    /// Returns what of its part has not come.
    pub(super) fn rest(&self) -> Option<Span> {
        let span = self.span?;
        let after = self.reached.map_or(span.after, |key| (key.generation, key.id).max(span.after));
        Some(Span { after, ..span })
    }
}
