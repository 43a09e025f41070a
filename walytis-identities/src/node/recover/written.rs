//! What of what has been written shall count, from what several controllers say of it. Pure.
//!
//! A controller may lie, for one of them is often the reason for the recovery: it names chains and heads that do not exist,
//! lower than the real ones and as many as fit. So there is no common order by which some go first: whoever stays comes
//! before the others, and then everybody has its turn.

use std::collections::{BTreeMap, BTreeSet};

use walytis_core::id::{BlockId, ChainId};

use crate::op::{CUT_CHAINS_MAX, CUT_HEADS_MAX, ChainCut};

/// What one controller's nodes say.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    /// It is to control the identity after the recovery.
    pub(super) stays: bool,
    /// The answers of its nodes.
    pub(super) answers: Vec<Vec<ChainCut>>,
}

/// What shall count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) cut: Vec<ChainCut>,
    /// Chains and heads for which there was no room.
    pub(super) left_out: usize,
}

/// Heads of each chain that one controller names.
type Named = BTreeMap<ChainId, Vec<BlockId>>;

/// Unites what is said. `own` is the identity's chain; of the others come first those that somebody who stays names, then
/// those that several name.
pub(super) fn unite(own: ChainId, said: &[Said]) -> Written {
    let named: Vec<(bool, Named)> = said.iter().map(|said| (said.stays, by_chain(&said.answers))).collect();
    let mut chains = in_turn(named.iter().map(|(_, named)| named.keys().copied().collect()).collect());
    let rank = |chain: &ChainId| {
        let names_it = |(_, named): &&(bool, Named)| named.contains_key(chain);
        let stays = named.iter().filter(names_it).any(|(stays, _)| *stays);
        (*chain != own, !stays, named.iter().filter(names_it).count() < 2)
    };
    // Stable: among equals everybody has its turn.
    chains.sort_by_key(rank);
    let mut left_out = chains.len().saturating_sub(CUT_CHAINS_MAX);
    chains.truncate(CUT_CHAINS_MAX);
    let cut = chains.into_iter().map(|chain| {
        let of = |which: bool| {
            let lists = named.iter().filter(|(stays, _)| *stays == which).filter_map(|(_, named)| named.get(&chain));
            in_turn(lists.cloned().collect())
        };
        let mut heads = in_turn(vec![of(true).into_iter().chain(of(false)).collect()]);
        left_out += heads.len().saturating_sub(CUT_HEADS_MAX);
        heads.truncate(CUT_HEADS_MAX);
        heads.sort_unstable();
        ChainCut { chain, heads }
    });
    let mut cut: Vec<ChainCut> = cut.collect();
    cut.sort_unstable_by_key(|cut| cut.chain);
    Written { cut, left_out }
}

fn by_chain(answers: &[Vec<ChainCut>]) -> Named {
    let mut lists: BTreeMap<ChainId, Vec<Vec<BlockId>>> = BTreeMap::new();
    for cut in answers.iter().flatten() {
        lists.entry(cut.chain).or_default().push(cut.heads.clone());
    }
    lists.into_iter().map(|(chain, lists)| (chain, in_turn(lists))).collect()
}

/// Takes the first of each list, then the second of each, each value once.
fn in_turn<T: Copy + Ord>(lists: Vec<Vec<T>>) -> Vec<T> {
    let longest = lists.iter().map(Vec::len).max().unwrap_or(0);
    let mut seen = BTreeSet::new();
    let all = (0..longest).flat_map(|at| lists.iter().filter_map(move |list| list.get(at).copied()));
    all.filter(|value| seen.insert(*value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(number: u16) -> BlockId {
        let mut digest = [0; 32];
        digest[..2].copy_from_slice(&number.to_be_bytes());
        BlockId::from_digest(digest)
    }

    fn chain(number: u16) -> ChainId {
        ChainId(block(number))
    }

    fn cut(of: u16, heads: impl IntoIterator<Item = u16>) -> ChainCut {
        ChainCut { chain: chain(of), heads: heads.into_iter().map(block).collect() }
    }

    fn said(stays: bool, cuts: Vec<ChainCut>) -> Said {
        Said { stays, answers: vec![cuts] }
    }

    fn heads(written: &Written, of: u16) -> Vec<BlockId> {
        written.cut.iter().find(|cut| cut.chain == chain(of)).map(|cut| cut.heads.clone()).unwrap_or_default()
    }

    /// Chain 900 is the identity's.
    #[test]
    fn one_who_names_as_much_as_fits_takes_nothing_from_the_others() {
        let honest = vec![cut(900, [501, 502]), cut(901, [503])];
        let mut lies = vec![cut(900, 1..=64)];
        lies.extend((1..64).map(|number| cut(number, 1..=64)));
        for stays in [true, false] {
            let written = unite(chain(900), &[said(false, lies.clone()), said(stays, honest.clone())]);
            assert!(heads(&written, 900).contains(&block(501)) && heads(&written, 900).contains(&block(502)));
            assert_eq!(heads(&written, 901), [block(503)], "it has its turn among the invented ones");
            assert_eq!((written.cut.len(), written.left_out), (64, 1 + 2), "one chain, and two heads of the own one");
            assert!(written.cut.iter().all(|cut| cut.heads.len() <= 64 && cut.heads.is_sorted()));
        }
    }

    #[test]
    fn whoever_stays_goes_first_and_then_what_several_say() {
        let many = |from: u16| (0..63).map(|number| cut(from + number, [1])).collect::<Vec<_>>();
        let stays = said(true, [vec![cut(900, [1])], many(100)[..60].to_vec()].concat());
        let (one, two) = (said(false, [many(200), vec![cut(1_000, [7])]].concat()), said(false, vec![cut(1_000, [8])]));
        let written = unite(chain(900), &[one, two, stays]);
        assert!((100..160).all(|number| heads(&written, number) == [block(1)]));
        assert_eq!(heads(&written, 1_000), [block(7), block(8)]);
        assert_eq!(written.left_out, 61);
        let all = said(true, vec![cut(900, 65..=128)]);
        assert_eq!(heads(&unite(chain(900), &[said(false, vec![cut(900, 1..=64)]), all]), 900)[0], block(65));
    }

    #[test]
    fn what_fits_is_all_there_whoever_says_it() {
        let several =
            [said(false, vec![cut(900, [1, 2]), cut(5, [])]), said(false, vec![cut(900, [2, 3]), cut(6, [4])])];
        let written = unite(chain(900), &several);
        assert_eq!(written, Written { cut: vec![cut(5, []), cut(6, [4]), cut(900, [1, 2, 3])], left_out: 0 });
        let of_one = Said { stays: false, answers: vec![vec![cut(900, 1..=64)], vec![cut(900, [99])]] };
        assert!(heads(&unite(chain(900), &[of_one]), 900).contains(&block(99)), "its nodes have their turns, too");
        assert_eq!(unite(chain(900), &[]), Written { cut: vec![], left_out: 0 });
    }
}
