//! Which wants make room for others.

use std::time::Duration;

use tokio::time::Instant;

use super::want::{HolderState, Want};
use super::{Machine, WANTS_MAX};
use crate::envelope::EnvelopeId;

/// How long nothing of an envelope may come before it makes room for others. Chosen: two deadlines; whoever delivers one
/// part now and then holds all places no longer than that in each round.
const STALLED: Duration = Duration::from_secs(30);
/// After nothing was found that makes room, how long until it is looked for again. Chosen: looking touches all wants.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Machine {
    /// Returns how many more envelopes can be wanted.
    pub(crate) fn room(&self) -> usize {
        WANTS_MAX.saturating_sub(self.wants.len())
    }

    /// Stops wanting up to `count` envelopes to make room, and returns how many; the caller wants them again later. First
    /// go those that nobody has, which stay unavailable as far as anybody was told; then those that nobody has but peers
    /// that were late and have delivered nothing since, and those of which nothing has come for [`STALLED`], the longest
    /// first. What is being fetched stays.
    pub(crate) fn make_room(&mut self, count: usize, now: Instant) -> usize {
        let stands_still = |id: &&EnvelopeId| self.wants.get(*id).is_some_and(|want| want.in_flight() == 0);
        let idle: Vec<EnvelopeId> = self.unavailable.iter().filter(stands_still).take(count).copied().collect();
        for id in &idle {
            self.unavailable.remove(id);
            self.drop_want(id);
        }
        idle.len() + self.drop_hopeless(count - idle.len(), now)
    }

    fn drop_hopeless(&mut self, count: usize, now: Instant) -> usize {
        self.no_room_until.take_if(|until| *until <= now);
        if count == 0 || self.no_room_until.is_some() {
            return 0;
        }
        let hopeless = self.wants.iter().filter(|(_, want)| self.is_hopeless(want, now));
        let mut found: Vec<(Instant, EnvelopeId)> = hopeless.map(|(id, want)| (want.moved_at, *id)).collect();
        found.sort_unstable();
        found.truncate(count);
        found.iter().for_each(|(_, id)| self.drop_want(id));
        if found.is_empty() {
            self.no_room_until = Some(now + LOOK_AGAIN);
        }
        found.len()
    }

    fn is_hopeless(&self, want: &Want, now: Instant) -> bool {
        let is_late = |name| self.peers.get(name).is_some_and(super::Peer::is_late);
        let stalls = now.saturating_duration_since(want.moved_at) >= STALLED;
        let promised = || {
            want.holders.iter().all(|(name, holder)| match holder.state {
                HolderState::Has | HolderState::Drained(_) => is_late(name),
                HolderState::Fresh | HolderState::Asked(_) => holder.failures > 0,
                HolderState::NotUntil(_) => true,
            })
        };
        want.in_flight() == 0 && (stalls || promised())
    }
}
