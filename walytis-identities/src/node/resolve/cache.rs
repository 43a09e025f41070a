//! Resolved identities in memory, bounded in number and bytes. Pure.

use std::collections::BTreeMap;

use crate::id::Did;

/// Most identities in memory.
const NUMBER_MAX: usize = 256;
/// Most bytes of ops in memory, as they travel. Chosen: far above what a node deals with at a time; one identity that is
/// larger by itself goes as soon as nobody works with it.
pub(super) const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What a cache must know of what it holds.
pub(super) trait Weigh: Clone {
    /// Bytes that it stands for.
    fn bytes(&self) -> u64;
    /// Whether somebody works with it: a second copy beside that one would know different things.
    fn is_in_use(&self) -> bool;
}

/// What is remembered; the one that was used longest ago goes first.
#[derive(Debug)]
pub(super) struct Cache<T> {
    entries: BTreeMap<Did, (T, u64)>,
    uses: u64,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), uses: 0 }
    }
}

impl<T: Weigh> Cache<T> {
    pub(super) fn get(&mut self, did: &Did) -> Option<T> {
        self.uses += 1;
        let (one, used) = self.entries.get_mut(did)?;
        *used = self.uses;
        Some(one.clone())
    }

    /// Keeps one, unless somebody was quicker: all work with the same one, which is returned.
    pub(super) fn keep(&mut self, did: &Did, fresh: T) -> T {
        self.uses += 1;
        let (kept, used) = self.entries.entry(*did).or_insert((fresh, 0));
        *used = self.uses;
        let kept = kept.clone();
        self.shrink();
        kept
    }

    pub(super) fn remove(&mut self, did: &Did) -> Option<T> {
        self.entries.remove(did).map(|(one, _)| one)
    }

    /// Lets go of what is too much: never what is in use.
    pub(super) fn shrink(&mut self) {
        let (mut number, mut bytes) = (self.entries.len(), 0_u64);
        let mut unused = Vec::new();
        for (did, (one, used)) in &self.entries {
            bytes = bytes.saturating_add(one.bytes());
            if !one.is_in_use() {
                unused.push((*used, *did, one.bytes()));
            }
        }
        unused.sort_unstable();
        for (_, did, freed) in unused {
            if number <= NUMBER_MAX && bytes <= BYTES_MAX {
                return;
            }
            self.entries.remove(&did);
            number -= 1;
            bytes = bytes.saturating_sub(freed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use walytis_core::id::{BlockId, ChainId};

    use super::*;

    #[derive(Clone, Debug)]
    struct Weight(Arc<u64>);

    impl Weigh for Weight {
        fn bytes(&self) -> u64 {
            *self.0
        }

        fn is_in_use(&self) -> bool {
            Arc::strong_count(&self.0) > 1
        }
    }

    fn did(n: u16) -> Did {
        let mut digest = [0; 32];
        digest[..2].copy_from_slice(&n.to_be_bytes());
        Did(ChainId(BlockId::from_digest(digest)))
    }

    fn held(cache: &Cache<Weight>) -> Vec<Did> {
        cache.entries.keys().copied().collect()
    }

    #[test]
    fn what_was_used_longest_ago_goes_when_the_bytes_are_too_many() {
        let mut cache = Cache::default();
        for n in 0..4 {
            drop(cache.keep(&did(n), Weight(Arc::new(BYTES_MAX / 4))));
        }
        assert_eq!(held(&cache), [0, 1, 2, 3].map(did));
        drop(cache.get(&did(0)));
        drop(cache.keep(&did(9), Weight(Arc::new(1))));
        assert_eq!(held(&cache), [0, 2, 3, 9].map(did), "the first was used since");
        // What somebody works with stays; what is too large by itself goes as soon as it is let go.
        let worked_with = cache.keep(&did(5), Weight(Arc::new(2 * BYTES_MAX)));
        assert_eq!(held(&cache), [did(5)]);
        drop(worked_with);
        drop(cache.keep(&did(6), Weight(Arc::new(1))));
        assert_eq!(held(&cache), [did(6)]);
    }

    #[test]
    fn all_work_with_the_same_one_and_the_number_is_bounded() {
        let mut cache = Cache::default();
        let (first, second) = (Weight(Arc::new(1)), Weight(Arc::new(2)));
        drop(cache.keep(&did(1), first));
        assert_eq!(cache.keep(&did(1), second).bytes(), 1);
        for n in 0..u16::try_from(NUMBER_MAX).unwrap() + 9 {
            drop(cache.keep(&did(n), Weight(Arc::new(1))));
        }
        assert_eq!(cache.entries.len(), NUMBER_MAX);
        assert!(cache.remove(&did(263)).is_some() && cache.remove(&did(0)).is_none());
    }
}
