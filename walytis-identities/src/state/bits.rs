//! Sets of op indices.

/// A set of small numbers. Grows to its highest member only, so that equal sets are equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// Returns nothing.
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Returns all numbers below `end`.
    pub(super) fn below(end: usize) -> Self {
        let mut words = vec![u64::MAX; end / 64];
        if !end.is_multiple_of(64) {
            words.push((1 << (end % 64)) - 1);
        }
        Self(words)
    }

    pub(super) fn insert(&mut self, at: usize) {
        let word = at / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(bits) = self.0.get_mut(word) {
            *bits |= 1 << (at % 64);
        }
    }

    pub(super) fn remove(&mut self, at: usize) {
        if let Some(bits) = self.0.get_mut(at / 64) {
            *bits &= !(1 << (at % 64));
        }
        self.trim();
    }

    pub(super) fn has(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|bits| bits >> (at % 64) & 1 == 1)
    }

    pub(super) fn union(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine |= theirs;
        }
    }

    /// Returns what is in this set and not in the other.
    pub(super) fn minus(&self, other: &Self) -> Self {
        let theirs = other.0.iter().chain(std::iter::repeat(&0));
        let mut rest = Self(self.0.iter().zip(theirs).map(|(mine, theirs)| mine & !theirs).collect());
        rest.trim();
        rest
    }

    /// Says whether everything that `other` has is here.
    pub(super) fn holds(&self, other: &Self) -> bool {
        let mine = self.0.iter().chain(std::iter::repeat(&0));
        other.0.iter().zip(mine).all(|(theirs, mine)| theirs & !mine == 0)
    }

    /// Says whether something that `other` has and `but` has not is here.
    pub(super) fn meets(&self, other: &Self, but: &Self) -> bool {
        let but = but.0.iter().chain(std::iter::repeat(&0));
        self.0.iter().zip(&other.0).zip(but).any(|((mine, theirs), but)| mine & theirs & !but != 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|bits| bits.count_ones() as usize).sum()
    }

    /// Returns the members, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + Clone {
        self.iter_from(0)
    }

    /// Returns the members from 64 times `first` on, ascending.
    fn iter_from(&self, first: usize) -> impl Iterator<Item = usize> + Clone {
        self.0.iter().enumerate().skip(first).flat_map(|(word, bits)| {
            let mut left = *bits;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(word * 64 + bit)
            })
        })
    }

    /// Returns the set with every number from `first` on replaced by the one that `now` gives for it.
    pub(super) fn renumbered(&self, first: usize, now: &[usize]) -> Self {
        let mut renumbered = Self(self.0.get(..first / 64).unwrap_or(self.0.as_slice()).to_vec());
        renumbered.trim();
        let later =
            self.iter_from(first / 64).filter_map(|at| if at < first { Some(at) } else { now.get(at).copied() });
        later.for_each(|at| renumbered.insert(at));
        renumbered
    }

    fn trim(&mut self) {
        self.0.truncate(self.0.iter().rposition(|bits| *bits != 0).map_or(0, |last| last + 1));
    }
}

impl FromIterator<usize> for Bits {
    fn from_iter<T: IntoIterator<Item = usize>>(members: T) -> Self {
        let mut bits = Self::new();
        members.into_iter().for_each(|at| bits.insert(at));
        bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_hold_what_was_put_in() {
        let mut one = Bits::new();
        one.insert(3);
        let other: Bits = [130].into_iter().collect();
        one.union(&other);
        assert_eq!(one.iter().collect::<Vec<_>>(), [3, 130]);
        assert!(one.has(130) && !one.has(129) && !one.has(9_999));
        assert_eq!(one.len(), 2);
        one.remove(130);
        assert_eq!(one, [3].into_iter().collect(), "equal sets are equal values");
    }

    #[test]
    fn renumbering_moves_what_comes_after_a_gap() {
        let all: Bits = [1, 65, 70, 200].into_iter().collect();
        let now: Vec<usize> = (0..201).map(|at| if at > 66 { at - 1 } else { at }).collect();
        assert_eq!(all.renumbered(66, &now).iter().collect::<Vec<_>>(), [1, 65, 69, 199]);
        assert_eq!(all.renumbered(usize::MAX, &now), all);
    }

    #[test]
    fn differences_and_subsets_pass_over_what_is_not_there() {
        let all = Bits::below(131);
        assert_eq!((all.len(), all.has(130), all.has(131)), (131, true, false));
        assert_eq!(Bits::below(128).len(), 128);
        let some: Bits = (0..131).filter(|at| *at != 7).collect();
        assert!(all.holds(&some) && !some.holds(&all) && all.holds(&all));
        let rest = all.minus(&some);
        assert_eq!(rest.iter().collect::<Vec<_>>(), [7]);
        assert!(rest.meets(&all, &some) && !rest.meets(&all, &rest) && !rest.meets(&some, &Bits::new()));
        assert!(some.minus(&all).is_empty() && rest.holds(&Bits::new()));
    }
}
