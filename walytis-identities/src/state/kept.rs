//! Outcomes of sets that were evaluated, to begin from: most authors build on one of the last few sets, and who was away
//! for long on an older one.

use std::collections::VecDeque;
use std::sync::Arc;

use super::bits::Bits;
use super::evaluate::Evaluation;
use super::nested::Named;
use super::nodes::Nodes;

/// Last outcomes kept. Chosen: authors that act at the same moment, and some more.
const RECENT: usize = 32;
/// Older ones kept, evenly spread: so none is further back than a part of the whole.
const OLDER: usize = 64;
/// Ops from one older one to the next, at first.
const STEP: usize = 64;

/// Outcomes kept.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    recent: VecDeque<Arc<Evaluation>>,
    older: Vec<Arc<Evaluation>>,
    step: usize,
}

impl Default for Kept {
    fn default() -> Self {
        Self { recent: VecDeque::new(), older: Vec::new(), step: STEP }
    }
}

impl Kept {
    /// Returns the outcome for the largest base of `set` that is kept. `named`: all that the set names.
    pub(super) fn base_of(&self, nodes: &Nodes, set: &Bits, named: &Named) -> Option<Arc<Evaluation>> {
        let mut kept: Vec<_> = self.recent.iter().chain(&self.older).map(|kept| (kept.set.len(), kept)).collect();
        kept.sort_by_key(|(len, _)| std::cmp::Reverse(*len));
        kept.into_iter().find(|(_, kept)| kept.is_base_of(nodes, set, named)).map(|(_, kept)| Arc::clone(kept))
    }

    pub(super) fn keep(&mut self, outcome: &Arc<Evaluation>) {
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(Arc::clone(outcome));
        let last = self.older.last().map_or(0, |last| last.set.len());
        if outcome.set.len() < last + self.step {
            return;
        }
        self.older.push(Arc::clone(outcome));
        if self.older.len() >= OLDER {
            let mut even = false;
            self.older.retain(|_| {
                even = !even;
                !even
            });
            self.step *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// However long the history, few are kept: the last ones all, and of the rest none that is further back from the next
    /// than a part of the whole.
    #[test]
    fn what_is_kept_is_bounded_and_evenly_spread() {
        let mut kept = Kept::default();
        for ops in 1..=16_384_usize {
            kept.keep(&Arc::new(Evaluation { set: Bits::below(ops), ..Evaluation::default() }));
            if !ops.is_multiple_of(1_024) {
                continue;
            }
            assert!(kept.recent.len() <= RECENT && kept.older.len() < OLDER, "at {ops} ops");
            let sizes: BTreeSet<usize> = kept.recent.iter().chain(&kept.older).map(|kept| kept.set.len()).collect();
            assert!((ops - RECENT + 1..=ops).all(|last| sizes.contains(&last)), "at {ops} ops: {sizes:?}");
            let mut before = 0;
            for size in sizes {
                assert!(size - before <= (2 * STEP).max(ops / 16), "at {ops} ops nothing from {before} to {size}");
                before = size;
            }
        }
    }
}
