//! How long ago something was, by the own clocks alone.

use std::time::Duration;

use tokio::time::Instant;
use walytis_core::clock::Clock;

/// A moment of the past. Its age grows with the monotonic clock while the program runs, and with the wall clock while the
/// program is off or the machine sleeps; whichever says more counts, and neither makes it younger.
#[derive(Clone, Copy, Debug)]
pub(super) struct Age {
    since_ms: i64,
    /// When this value was made, and how old it was then.
    made: Instant,
    before: Duration,
}

impl Age {
    /// Begins now.
    pub(super) fn begin(clock: &dyn Clock) -> Self {
        Self::since(clock.now_ms(), clock)
    }

    /// Goes on with what was stored, in milliseconds since the Unix epoch.
    pub(super) fn since(since_ms: i64, clock: &dyn Clock) -> Self {
        Self { since_ms, made: Instant::now(), before: wall(since_ms, clock) }
    }

    /// Returns what is to be stored.
    pub(super) const fn since_ms(&self) -> i64 {
        self.since_ms
    }

    /// Returns the age now.
    pub(super) fn now(&self, clock: &dyn Clock) -> Duration {
        (self.before + self.made.elapsed()).max(wall(self.since_ms, clock))
    }

    /// Returns how long until this age is reached; nothing is left if it is reached.
    pub(super) fn until(&self, age: Duration, clock: &dyn Clock) -> Duration {
        age.saturating_sub(self.now(clock))
    }
}

fn wall(since_ms: i64, clock: &dyn Clock) -> Duration {
    Duration::from_millis(u64::try_from(clock.now_ms().saturating_sub(since_ms)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use walytis_core::clock::ManualClock;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[tokio::test(start_paused = true)]
    async fn age_grows_with_either_clock_and_never_shrinks() {
        let clock = ManualClock::new(10_000_000);
        let age = Age::begin(&clock);
        assert_eq!((age.now(&clock), age.until(HOUR, &clock)), (Duration::ZERO, HOUR));
        tokio::time::advance(HOUR / 2).await;
        assert_eq!(age.now(&clock), HOUR / 2);
        // The machine slept.
        clock.advance_ms(3 * 3_600_000);
        assert_eq!((age.now(&clock), age.until(HOUR, &clock)), (HOUR * 3, Duration::ZERO));
        // The wall clock was set back.
        clock.set_ms(0);
        assert_eq!(age.now(&clock), HOUR / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_stored_goes_on_and_the_future_is_no_age() {
        let clock = ManualClock::new(10_000_000);
        let age = Age::since(10_000_000 - 3_600_000, &clock);
        tokio::time::advance(HOUR).await;
        assert_eq!((age.now(&clock), age.since_ms()), (HOUR * 2, 10_000_000 - 3_600_000));
        assert_eq!(Age::since(i64::MAX, &clock).now(&clock), Duration::ZERO);
        assert!(Age::since(i64::MIN, &clock).now(&clock) > HOUR);
    }
}
