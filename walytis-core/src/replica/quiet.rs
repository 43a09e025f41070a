//! When to repeat the heads by gossip: after a random delay that grows with the number of peers, unless somebody else
//! just did; sooner when somebody shows older ones. Pure.

use std::time::Duration;

use rand_core::Rng;
use tokio::time::Instant;

/// Mean delay in quiet times with one peer. Chosen: a lost announcement between peers without a session heals within
/// half a minute, and a hundred idle chains send a few messages a second.
const REPEAT: Duration = Duration::from_secs(20);
/// Mean delay of an answer to older heads with one peer.
const ANSWER: Duration = Duration::from_millis(500);
/// Peers beyond this number no longer stretch the delays.
const PEERS_MAX: usize = 64;

/// What somebody's heads say of him.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// The same as ours.
    Same,
    /// All known here, and not all of ours.
    Older,
    /// Some unknown here.
    Other,
}

/// The timer of one chain.
#[derive(Debug)]
pub(crate) struct Quiet {
    at: Instant,
}

impl Quiet {
    pub(crate) fn new(now: Instant, rng: &mut impl Rng) -> Self {
        Self { at: now + delay(REPEAT, 0, rng) }
    }

    pub(crate) const fn poll_timeout(&self) -> Instant {
        self.at
    }

    /// Says whether the heads are to be repeated now.
    pub(crate) fn handle_timeout(&mut self, now: Instant, peers: usize, rng: &mut impl Rng) -> bool {
        if self.at > now {
            return false;
        }
        self.at = now + delay(REPEAT, peers, rng);
        true
    }

    /// Somebody said his heads.
    pub(crate) fn handle_heads(&mut self, said: Said, now: Instant, peers: usize, rng: &mut impl Rng) {
        match said {
            Said::Same => self.at = now + delay(REPEAT, peers, rng),
            Said::Older => self.at = self.at.min(now + delay(ANSWER, peers, rng)),
            Said::Other => {}
        }
    }
}

/// Half to one and a half of the mean, which grows with the number of peers, so that few of them speak.
fn delay(mean: Duration, peers: usize, rng: &mut impl Rng) -> Duration {
    let stretched = mean.mul_f64(1.0 + peers.min(PEERS_MAX) as f64 / 4.0);
    stretched.mul_f64(0.5 + f64::from(rng.next_u32()) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn heads_said_by_others_put_the_repetition_off_and_older_ones_bring_it_on() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let start = Instant::now();
        let mut quiet = Quiet::new(start, &mut rng);
        assert!(!quiet.handle_timeout(start, 3, &mut rng));
        let later = quiet.poll_timeout() - Duration::from_millis(1);
        quiet.handle_heads(Said::Same, later, 3, &mut rng);
        assert!(quiet.poll_timeout() >= later + REPEAT / 2);
        quiet.handle_heads(Said::Older, later, 3, &mut rng);
        assert!(quiet.poll_timeout() <= later + ANSWER * 3);
        let now = quiet.poll_timeout();
        assert!(quiet.handle_timeout(now, 3, &mut rng));
        assert!(!quiet.handle_timeout(now, 3, &mut rng), "said once");
    }

    #[tokio::test(start_paused = true)]
    async fn more_peers_mean_longer_delays() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let few: Duration = (0..100).map(|_| delay(REPEAT, 1, &mut rng)).sum();
        let many: Duration = (0..100).map(|_| delay(REPEAT, 32, &mut rng)).sum();
        assert!(many > few * 4);
    }
}
