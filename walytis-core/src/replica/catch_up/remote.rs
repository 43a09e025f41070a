//! What a machine knows of one peer.

use std::collections::BTreeSet;
use std::time::Duration;

use rand_core::Rng;
use tokio::time::Instant;

use super::View;
use crate::id::BlockId;

/// First and longest back-off towards a peer that gave nothing.
pub(super) const RETRY_FIRST: Duration = Duration::from_millis(500);
pub(super) const RETRY_LONGEST: Duration = Duration::from_secs(60);

/// How the difference to a peer is found out; the next one when one did not help.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Method {
    /// Down from its heads: best for small differences, and most are.
    #[default]
    Walk,
    /// Set reconciliation.
    Ranges,
    /// All ids, by generation.
    List,
}

#[derive(Debug, Default)]
pub(super) struct Remote {
    /// What it told last.
    pub(super) view: Option<View>,
    /// Those of its heads (and hints) that are unknown here.
    pub(super) unknown: BTreeSet<BlockId>,
    /// Those of our heads that it is known to hold.
    pub(super) holds: BTreeSet<BlockId>,
    /// Our heads as we told it last, one by one.
    pub(super) told: Option<Vec<BlockId>>,
    /// Our heads as it knows them, if it has the same.
    pub(super) hinted: Option<Vec<BlockId>>,
    /// It asked for our heads, or showed that it does not know them.
    pub(super) owed: bool,
    /// Everything that it showed came from it, which it does not know yet.
    pub(super) settled: bool,
    pub(super) method: Method,
    /// The turn in which it turned out to lack what others have.
    pub(super) unfit: Option<u32>,
    pub(super) failures: u32,
    pub(super) retry_at: Option<Instant>,
}

impl Remote {
    pub(super) fn is_level(&self, view: &View) -> bool {
        self.holds_all(view) && self.unknown.is_empty() && self.view.is_some()
    }

    pub(super) fn holds_all(&self, view: &View) -> bool {
        view.heads.iter().all(|head| self.holds.contains(head))
    }

    /// Says whether it may be asked now for what it showed.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        !self.unknown.is_empty() && self.retry_at.is_none_or(|at| at <= now)
    }

    /// Says whether our heads as they are were told, in one way or the other.
    pub(super) fn was_told(&self, view: &View) -> bool {
        [&self.told, &self.hinted].into_iter().flatten().any(|heads| *heads == view.heads)
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.retry_at = None;
        self.method = Method::Walk;
    }

    pub(super) fn failed(&mut self, now: Instant, rng: &mut impl Rng) {
        self.retry_at = Some(now + backoff(self.failures, rng));
        self.failures = self.failures.saturating_add(1);
    }

    /// The difference was not found: another way next time.
    pub(super) fn escalate(&mut self) {
        self.method = match self.method {
            Method::Walk => Method::Ranges,
            Method::Ranges | Method::List => Method::List,
        };
    }
}

/// Returns the wait after so many failures before this one: doubling, capped, with up to half of it as jitter.
pub(crate) fn backoff(failures: u32, rng: &mut impl Rng) -> Duration {
    let base = RETRY_FIRST.saturating_mul(1 << failures.min(10)).min(RETRY_LONGEST);
    base + base.mul_f64(f64::from(rng.next_u32()) / f64::from(u32::MAX) / 2.0)
}
