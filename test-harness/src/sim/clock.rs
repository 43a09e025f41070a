//! The wall clock of one simulated node.

use std::sync::atomic::{AtomicI64, Ordering};

use tokio::time::Instant;
use walytis_core::clock::Clock;

/// What every simulation's clocks show at its start, milliseconds since the Unix epoch: some day in 2027.
const BEGINNING_MS: i64 = 1_800_000_000_000;

/// A wall clock that runs with tokio's (paused) time and is wrong by a skew that a test sets.
#[derive(Debug)]
pub struct SimClock {
    start: Instant,
    skew_ms: AtomicI64,
}

impl SimClock {
    /// Returns a clock that is wrong by `skew_ms` milliseconds; simulated time began at `start`.
    pub const fn new(start: Instant, skew_ms: i64) -> Self {
        Self { start, skew_ms: AtomicI64::new(skew_ms) }
    }

    /// Makes the clock jump: from now on it is wrong by `skew_ms`.
    pub fn set_skew_ms(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> i64 {
        let passed = i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX);
        BEGINNING_MS.saturating_add(passed).saturating_add(self.skew_ms.load(Ordering::SeqCst))
    }
}
