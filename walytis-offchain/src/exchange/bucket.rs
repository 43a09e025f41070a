//! How much may go through per second: a pure limiter.

use std::time::Duration;

use tokio::time::Instant;

/// A limiter of `rate` units per second that lets `burst` units through at once. It never refuses: it says how long
/// whoever has just used it must wait. (GCRA: the only state is when everything taken so far will have been earned.)
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    rate: u64,
    burst: Duration,
    earned_at: Option<Instant>,
}

impl Bucket {
    /// Returns a full limiter; a rate of 0 counts as 1.
    pub(crate) fn new(rate: u64, burst: u64) -> Self {
        let rate = rate.max(1);
        Self { rate, burst: time_for(burst, rate), earned_at: None }
    }

    /// Takes `amount` units and returns how long to wait before the next ones.
    pub(crate) fn take(&mut self, amount: u64, now: Instant) -> Duration {
        let from = self.earned_at.map_or(now, |at| at.max(now));
        self.earned_at = Some(from + time_for(amount, self.rate));
        self.wait(now)
    }

    /// Gives back units that were taken and not used.
    pub(crate) fn give_back(&mut self, amount: u64) {
        self.earned_at = self.earned_at.and_then(|at| at.checked_sub(time_for(amount, self.rate)));
    }

    /// Returns how long to wait before units may be taken again.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        let debt = self.earned_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        debt.saturating_sub(self.burst)
    }

    /// Says whether some of what was taken is not earned yet.
    pub(crate) fn is_used(&self, now: Instant) -> bool {
        self.earned_at.is_some_and(|at| at > now)
    }

    /// Returns how many units can be taken at once now.
    pub(crate) fn room(&self, now: Instant) -> u64 {
        let debt = self.earned_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let units = self.burst.saturating_sub(debt).as_nanos() * u128::from(self.rate) / 1_000_000_000;
        u64::try_from(units).unwrap_or(u64::MAX)
    }
}

fn time_for(amount: u64, rate: u64) -> Duration {
    let nanos = u128::from(amount) * 1_000_000_000 / u128::from(rate);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_through_and_then_the_rate_holds() {
        let (mut bucket, start) = (Bucket::new(100, 50), Instant::now());
        assert_eq!((bucket.room(start), bucket.take(50, start)), (50, Duration::ZERO));
        assert_eq!((bucket.room(start), bucket.take(100, start)), (0, Duration::from_secs(1)));
        let later = start + Duration::from_secs(1);
        assert_eq!(bucket.wait(later), Duration::ZERO);
        assert_eq!(bucket.room(later + Duration::from_millis(100)), 10);
        // What is given back can be taken again.
        let mut other = bucket.clone();
        other.take(30, later);
        other.give_back(30);
        assert_eq!(other.wait(later), bucket.wait(later));
        // What is not used is saved up to the burst, no further.
        assert_eq!(bucket.room(later + Duration::from_secs(3_600)), 50);
    }

    #[test]
    fn whoever_waits_as_told_never_exceeds_rate_and_burst() {
        let (mut bucket, start) = (Bucket::new(1_000, 200), Instant::now());
        let (mut now, mut taken) = (start, 0);
        while now < start + Duration::from_secs(10) {
            taken += 70;
            now += bucket.take(70, now);
            let seconds = now.duration_since(start).as_secs_f64();
            assert!(f64::from(taken) <= seconds.mul_add(1_000.0, 271.0), "{taken} in {seconds} s");
        }
        assert!(taken >= 10_000, "{taken}");
    }
}
