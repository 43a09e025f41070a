//! What a peer may make this node look up.
//!
//! Requests are small, answers can be dear: a walk over a long difference, a list of heads of which each is looked up. Every
//! answer is charged to the peer it is for; a peer that used up its share waits, and nobody else does.

use std::time::Duration;

use tokio::time::Instant;

/// Look-ups a second. Chosen: a few per cent of a core.
const RATE: u64 = 100_000;
/// Look-ups at once. Chosen: finding out a difference of a hundred thousand blocks, or answering for a chain of half a
/// million, without a wait.
const BURST: u64 = 2_000_000;

/// The share of one peer, for all chains.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    used: u64,
    at: Instant,
}

impl Budget {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { used: 0, at: now }
    }

    /// Takes so many look-ups into account.
    pub(crate) fn charge(&mut self, lookups: u64, now: Instant) {
        self.recover(now);
        self.used = self.used.saturating_add(lookups);
    }

    /// Returns how long the peer has to wait for its next answer.
    pub(crate) fn wait(&mut self, now: Instant) -> Duration {
        self.recover(now);
        let over = self.used.saturating_sub(BURST);
        Duration::from_millis(over.saturating_mul(1_000).div_ceil(RATE))
    }

    fn recover(&mut self, now: Instant) {
        let millis = u64::try_from(now.saturating_duration_since(self.at).as_millis()).unwrap_or(u64::MAX);
        // Below a look-up nothing is forgotten.
        if millis > 0 {
            self.used = self.used.saturating_sub(millis.saturating_mul(RATE) / 1_000);
            self.at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_much_waits_and_recovers() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        budget.charge(BURST, start);
        assert_eq!(budget.wait(start), Duration::ZERO);
        budget.charge(RATE, start);
        assert_eq!(budget.wait(start), Duration::from_secs(1));
        assert_eq!(budget.wait(start + Duration::from_millis(400)), Duration::from_millis(600));
        assert_eq!(budget.wait(start + Duration::from_secs(1)), Duration::ZERO);
        let later = start + Duration::from_secs(3_600);
        budget.charge(BURST, later);
        assert_eq!(budget.wait(later), Duration::ZERO, "all of it came back");
        budget.charge(u64::MAX, later);
        assert!(budget.wait(later) > Duration::from_secs(3_600));
    }
}
