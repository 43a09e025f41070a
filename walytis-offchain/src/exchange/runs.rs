//! Which parts of an envelope somebody has, as runs of neighbours: small to tell and to remember.

use std::cmp::Reverse;
use std::collections::BTreeSet;

/// Runs told of one envelope; of more, the longest. Chosen: what is fetched in order from a few members falls into a few
/// runs; bounds what is remembered of a member to 256 bytes an envelope.
pub(crate) const RUNS_MAX: usize = 32;

/// Parts in runs `(first part, how many)`: at most [`RUNS_MAX`], ascending, apart, none empty, none with part 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs(Vec<(u32, u32)>);

impl Runs {
    /// Returns the runs of what is here: one flag for each chunk, chunk 0 being part 1.
    pub(crate) fn of(here: &[bool]) -> Self {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for (part, _) in (1_u32..).zip(here).filter(|(_, here)| **here) {
            match runs.last_mut() {
                Some((first, count)) if first.saturating_add(*count) == part => *count += 1,
                _ => runs.push((part, 1)),
            }
        }
        if runs.len() > RUNS_MAX {
            runs.sort_unstable_by_key(|(first, count)| (Reverse(*count), *first));
            runs.truncate(RUNS_MAX);
            runs.sort_unstable();
        }
        Self(runs)
    }

    /// Takes what a peer told; nothing if it is not as [`Runs`] says.
    pub(crate) fn decode(runs: Vec<(u32, u32)>) -> Option<Self> {
        let mut next = 1_u32;
        for (first, count) in &runs {
            if *first < next || *count == 0 {
                return None;
            }
            // Touching runs are one.
            next = first.checked_add(*count)?.checked_add(1)?;
        }
        (runs.len() <= RUNS_MAX).then_some(Self(runs))
    }

    pub(crate) fn encode(&self) -> &[(u32, u32)] {
        &self.0
    }

    /// Returns the first of `wanted` that is in one of the runs.
    pub(crate) fn first_of(&self, wanted: &BTreeSet<u32>) -> Option<u32> {
        self.0.iter().find_map(|(first, count)| wanted.range(*first..first.saturating_add(*count)).next().copied())
    }

    /// Returns the first part behind the run that `part` stands in, or nothing if it stands in none.
    pub(crate) fn end_of(&self, part: u32) -> Option<u32> {
        let at = self.0.partition_point(|(first, _)| *first <= part).checked_sub(1)?;
        let (first, count) = self.0.get(at)?;
        let end = first.saturating_add(*count);
        (part < end).then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Never more is told than is here, all of it if it falls into few runs, and what is told is taken.
        #[test]
        fn runs_say_what_is_here(here in proptest::collection::vec(any::<bool>(), 0..300)) {
            let runs = Runs::of(&here);
            prop_assert_eq!(Runs::decode(runs.encode().to_vec()), Some(runs.clone()));
            let told: Vec<bool> = (1..=here.len()).map(|part| runs.end_of(u32::try_from(part).unwrap()).is_some()).collect();
            prop_assert!(told.iter().zip(&here).all(|(told, here)| *here || !*told));
            if runs.encode().len() < RUNS_MAX {
                prop_assert_eq!(&told, &here);
            }
            let wanted: BTreeSet<u32> = (1..=300).step_by(7).collect();
            let first = wanted.iter().find(|part| told.get(**part as usize - 1) == Some(&true)).copied();
            prop_assert_eq!(runs.first_of(&wanted), first);
        }

        #[test]
        fn whatever_is_told_is_taken_as_it_stands_or_not_at_all(told in proptest::collection::vec((any::<u32>(), any::<u32>()), 0..40)) {
            if let Some(runs) = Runs::decode(told.clone()) {
                prop_assert_eq!(runs.encode(), &told[..]);
            }
        }
    }

    #[test]
    fn of_many_runs_the_longest_are_told_in_order() {
        let here: Vec<bool> = (0..1_000).map(|n| n % 2 == 0 || (600..700).contains(&n)).collect();
        let runs = Runs::of(&here);
        assert_eq!(runs.encode().len(), RUNS_MAX);
        assert!(runs.encode().is_sorted() && runs.encode().contains(&(601, 101)));
        assert_eq!((runs.end_of(650), runs.end_of(702), runs.end_of(0)), (Some(702), None, None));
    }

    #[test]
    fn runs_that_overlap_touch_or_stand_in_disorder_are_refused() {
        for told in [
            vec![(0, 1)],
            vec![(1, 0)],
            vec![(5, 2), (1, 1)],
            vec![(1, 5), (3, 1)],
            vec![(1, 5), (6, 1)],
            vec![(u32::MAX, 2)],
            vec![(1, u32::MAX)],
            (0..33).map(|n| (1 + 2 * n, 1)).collect(),
        ] {
            assert_eq!(Runs::decode(told.clone()), None, "{told:?}");
        }
        assert!(Runs::decode((0..32).map(|n| (1 + 2 * n, 1)).collect()).is_some());
        assert!(Runs::decode(vec![]).is_some(), "a manifest without chunks");
    }
}
