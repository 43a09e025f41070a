//! What one durable subscriber has acknowledged: a pure value.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::limits::UNACKNOWLEDGED_MAX;

/// An earlier event must be acknowledged first.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("too many events wait for their acknowledgement")]
pub struct TooMany;

/// Positions of a stream that are acknowledged: all up to one, and some behind it. And how often events were begun that
/// are not acknowledged. At most [`UNACKNOWLEDGED_MAX`] ranges and counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Everything up to here is acknowledged.
    pub(super) acked: u64,
    /// Acknowledged ranges behind it: first to last, apart from each other and from `acked`.
    pub(super) ahead: BTreeMap<u64, u64>,
    /// Attempts of events that are not acknowledged, each at least 1.
    pub(super) attempts: BTreeMap<u64, u32>,
}

impl Progress {
    /// Returns the position up to which everything is acknowledged.
    pub const fn acked(&self) -> u64 {
        self.acked
    }

    /// Says whether an event is acknowledged.
    pub fn is_acked(&self, at: u64) -> bool {
        at <= self.acked || self.ahead.range(..=at).next_back().is_some_and(|(_, last)| at <= *last)
    }

    /// Returns the highest position that was begun or acknowledged.
    pub fn furthest(&self) -> u64 {
        let begun = self.attempts.last_key_value().map_or(0, |(at, _)| *at);
        let ahead = self.ahead.last_key_value().map_or(0, |(_, last)| *last);
        self.acked.max(begun).max(ahead)
    }

    /// Returns how many events are acknowledged behind [`Self::acked`].
    pub fn ahead(&self) -> u64 {
        self.ahead.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// Returns how many events were begun and not acknowledged, and most attempts among them.
    pub fn begun(&self) -> (u64, u32) {
        (self.attempts.len() as u64, self.attempts.values().copied().max().unwrap_or(0))
    }

    /// Acknowledges everything up to `to`; says whether anything changed.
    pub fn ack_up_to(&mut self, to: u64) -> bool {
        if to <= self.acked {
            return false;
        }
        self.acked = to;
        while let Some((first, last)) = self.ahead.first_key_value().map(|(first, last)| (*first, *last)) {
            if first > self.acked.saturating_add(1) {
                break;
            }
            self.acked = self.acked.max(last);
            self.ahead.remove(&first);
        }
        self.attempts = self.attempts.split_off(&self.acked.saturating_add(1));
        true
    }

    /// Acknowledges one event; says whether anything changed.
    ///
    /// # Errors
    /// [`TooMany`] if it would begin one range too many.
    pub fn ack_one(&mut self, at: u64) -> Result<bool, TooMany> {
        if self.is_acked(at) {
            return Ok(false);
        }
        if at == self.acked.saturating_add(1) {
            return Ok(self.ack_up_to(at));
        }
        let before = self.ahead.range(..at).next_back().map(|(first, last)| (*first, *last));
        let before = before.filter(|(_, last)| last.saturating_add(1) == at).map(|(first, _)| first);
        let behind = self.ahead.get(&at.saturating_add(1)).copied();
        if before.is_none() && behind.is_none() && self.ahead.len() >= UNACKNOWLEDGED_MAX {
            return Err(TooMany);
        }
        if behind.is_some() {
            self.ahead.remove(&at.saturating_add(1));
        }
        self.ahead.insert(before.unwrap_or(at), behind.unwrap_or(at));
        self.attempts.remove(&at);
        Ok(true)
    }

    /// Counts an attempt of an event; returns which one it is.
    ///
    /// # Errors
    /// [`TooMany`] if too many others are begun.
    pub fn begin(&mut self, at: u64) -> Result<u32, TooMany> {
        if !self.attempts.contains_key(&at) && self.attempts.len() >= UNACKNOWLEDGED_MAX {
            return Err(TooMany);
        }
        let attempts = self.attempts.entry(at).or_default();
        *attempts = attempts.saturating_add(1);
        Ok(*attempts)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Op {
        UpTo(u64),
        One(u64),
        Begin(u64),
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let op = prop_oneof![
            (0..40u64).prop_map(Op::UpTo),
            (1..60u64).prop_map(Op::One),
            (1..60u64).prop_map(Op::One),
            (1..60u64).prop_map(Op::Begin),
        ];
        prop::collection::vec(op, 0..60)
    }

    proptest! {
        /// Against a plain set of acknowledged positions, through the codec after every step.
        #[test]
        fn progress_agrees_with_a_plain_set(ops in ops()) {
            let (mut progress, mut set) = (Progress::default(), BTreeSet::from([0]));
            let mut attempts: BTreeMap<u64, u32> = BTreeMap::new();
            for op in ops {
                match op {
                    Op::UpTo(to) => {
                        let new = (0..=to).any(|at| !set.contains(&at));
                        let beyond = to > progress.acked();
                        prop_assert_eq!(progress.ack_up_to(to), beyond);
                        prop_assert!(beyond || !new);
                        set.extend(0..=to);
                    }
                    Op::One(at) => {
                        prop_assert_eq!(progress.ack_one(at), Ok(set.insert(at)));
                    }
                    Op::Begin(at) if !set.contains(&at) => {
                        let count = attempts.entry(at).or_default();
                        *count += 1;
                        prop_assert_eq!(progress.begin(at), Ok(*count));
                    }
                    Op::Begin(_) => {}
                }
                attempts.retain(|at, _| !set.contains(at));
                let watermark = (0..).take_while(|at| set.contains(at)).last().unwrap_or(0);
                prop_assert_eq!(progress.acked(), watermark);
                prop_assert!((0..70).all(|at| progress.is_acked(at) == set.contains(&at)));
                prop_assert_eq!(progress.ahead(), (set.len() as u64) - watermark - 1);
                prop_assert_eq!(&progress.attempts, &attempts);
                prop_assert_eq!(Progress::decode(b"k", &progress.encode()).unwrap(), progress.clone());
            }
        }
    }

    #[test]
    fn holes_and_counts_are_bounded_and_room_comes_back() {
        let mut progress = Progress::default();
        let max = UNACKNOWLEDGED_MAX as u64;
        for n in 1..=max {
            assert_eq!(progress.ack_one(2 * n), Ok(true));
            assert_eq!(progress.begin(2 * n + 1), Ok(1));
        }
        assert_eq!(progress.ack_one(2 * max + 2), Err(TooMany));
        assert_eq!(progress.begin(2 * max + 3), Err(TooMany));
        assert_eq!(progress.begin(3), Ok(2));
        assert!(progress.encode().len() < 16 * 1024, "{}", progress.encode().len());
        assert_eq!(progress.ack_one(3), Ok(true));
        assert_eq!(progress.ack_one(2 * max + 2), Ok(true));
        assert_eq!(progress.begin(2 * max + 3), Ok(1));
    }
}
