//! How often unlocking may be tried. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Wrong attempts that cost no waiting. Chosen: a person mistypes a few times.
const FREE: u32 = 3;
/// Longest wait. Chosen: bearable for the owner, 1,440 guesses a day for anybody else.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Counts attempts until one succeeds; an attempt counts as wrong from its start, so that parallel ones gain nothing.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    failed: u32,
    /// No attempt is looked at before.
    next: Option<Instant>,
}

impl Attempts {
    /// Admits an attempt, or says how long to wait.
    pub(super) fn begin(&mut self, now: Instant) -> Result<(), Duration> {
        if let Some(wait) = self.next.map(|next| next.saturating_duration_since(now)).filter(|wait| !wait.is_zero()) {
            return Err(wait);
        }
        self.failed = self.failed.saturating_add(1);
        let doublings = self.failed.saturating_sub(FREE);
        let wait = match doublings {
            0 => Duration::ZERO,
            n => Duration::from_secs(1_u64.checked_shl(n - 1).unwrap_or(u64::MAX)).min(WAIT_MAX),
        };
        self.next = Some(now + wait);
        Ok(())
    }

    /// Forgets the failures.
    pub(super) fn succeed(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_double_up_to_a_minute_and_end_with_a_success() {
        let now = Instant::now();
        let mut attempts = Attempts::default();
        for _ in 0..FREE {
            assert_eq!(attempts.begin(now), Ok(()));
        }
        assert_eq!(attempts.begin(now), Ok(()));
        assert_eq!(attempts.begin(now), Err(Duration::from_secs(1)));
        assert_eq!(attempts.begin(now + Duration::from_secs(1)), Ok(()));
        assert_eq!(attempts.begin(now + Duration::from_secs(1)), Err(Duration::from_secs(2)));
        let mut later = now + Duration::from_secs(1);
        for _ in 0..80 {
            later += WAIT_MAX;
            assert_eq!(attempts.begin(later), Ok(()));
        }
        assert_eq!(attempts.begin(later), Err(WAIT_MAX));
        attempts.succeed();
        assert_eq!(attempts.begin(later), Ok(()));
        assert_eq!(attempts.begin(later), Ok(()));
    }
}
