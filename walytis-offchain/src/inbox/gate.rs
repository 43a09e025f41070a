//! Who may deliver how much, and when an undelivered message is tried again. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// Senders or peers that are remembered; the one that came longest ago is forgotten.
const REMEMBERED_MAX: usize = 4_096;
/// First pause before a message is tried again. Chosen: a receiver that restarts.
const RETRY_FIRST_MS: i64 = 15_000;
/// Longest pause. Chosen: a receiver that comes back is found within it, at the cost of a dial.
const RETRY_MAX_MS: i64 = 60 * 60 * 1000;
/// How long a message is tried. Chosen: a long holiday.
pub(super) const TRIED_FOR_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// A bucket of turns per key: `burst` at once, one more each `interval`.
#[derive(Debug)]
pub(super) struct Buckets<K: Ord + Clone> {
    burst: u32,
    interval: Duration,
    /// When the bucket of a key is full again, and when it was used last.
    keys: BTreeMap<K, (Instant, Instant)>,
}

impl<K: Ord + Clone> Buckets<K> {
    pub(super) const fn new(burst: u32, interval: Duration) -> Self {
        Self { burst, interval, keys: BTreeMap::new() }
    }

    /// Takes a turn; false if there is none left.
    pub(super) fn take(&mut self, key: &K, now: Instant) -> bool {
        let full_at = self.keys.get(key).map_or(now, |(full_at, _)| (*full_at).max(now)) + self.interval;
        if full_at.duration_since(now) > self.interval * self.burst {
            return false;
        }
        if self.keys.len() >= REMEMBERED_MAX && !self.keys.contains_key(key) {
            let oldest = self.keys.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| self.keys.remove(&oldest));
        }
        self.keys.insert(key.clone(), (full_at, now));
        true
    }
}

/// Returns how long to wait after so many attempts, in milliseconds.
pub(super) fn pause_ms(attempts: u32) -> i64 {
    let doubled = attempts.saturating_sub(1).min(16);
    RETRY_FIRST_MS.saturating_mul(1 << doubled).min(RETRY_MAX_MS)
}

/// Says whether a message is to be tried now. A clock that went back makes nobody wait longer than the longest pause.
pub(super) const fn is_due(next_at_ms: i64, now_ms: i64) -> bool {
    next_at_ms <= now_ms || next_at_ms > now_ms.saturating_add(RETRY_MAX_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_then_one_each_interval_and_memory_is_bounded() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut buckets = Buckets::new(2, second);
        assert_eq!([0; 3].map(|_| buckets.take(&1_u32, now)), [true, true, false]);
        assert!(buckets.take(&2, now) && buckets.take(&1, now + second) && !buckets.take(&1, now + second));
        for key in 0..u32::try_from(REMEMBERED_MAX).unwrap() + 9 {
            buckets.take(&key, now + second * 60);
        }
        assert_eq!(buckets.keys.len(), REMEMBERED_MAX);
    }

    #[test]
    fn pauses_double_up_to_an_hour() {
        assert_eq!([0, 1, 2, 3].map(pause_ms), [15_000, 15_000, 30_000, 60_000]);
        assert_eq!([9, 40, u32::MAX].map(pause_ms), [RETRY_MAX_MS; 3]);
        assert!(is_due(5, 5) && !is_due(6, 5) && !is_due(5 + RETRY_MAX_MS, 5));
        assert!(is_due(6 + RETRY_MAX_MS, 5), "the clock went back");
    }
}
