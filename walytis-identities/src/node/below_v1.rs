//! What somebody holds of identities below, as a list; version 1, part of frames of [`super::wire_v1`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::wire_v1::heads_fit;
use crate::id::{Did, OpId};
use crate::state::{Held, LEVELS_MAX, NESTED_MAX};

/// Identities below that are named at once. Chosen: twice as many as may stand there.
pub(super) const BELOW_MAX: usize = 2 * NESTED_MAX;

/// What is held of an identity below: its genesis block, and these heads with all before them. Each is followed by those below
/// it; those below the same one are ascending.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Below {
    /// How far below: 1..=7, at most one more than that of the one before.
    pub(super) level: u8,
    /// The identity.
    pub(super) did: Did,
    /// Heads of its authority graph in this place: 1..=64, ascending.
    pub(super) heads: Vec<OpId>,
}

/// Says whether a list is one that [`listed`] gives.
pub(super) fn fits(below: &[Below]) -> bool {
    let mut path: Vec<Did> = Vec::new();
    let mut fits = |one: &Below| {
        let level = usize::from(one.level);
        if !(1..LEVELS_MAX).contains(&level) || level > path.len() + 1 {
            return false;
        }
        let ascends = path.get(level - 1).is_none_or(|before| *before < one.did);
        path.truncate(level - 1);
        path.push(one.did);
        ascends && !one.heads.is_empty() && heads_fit(&one.heads)
    };
    below.len() <= BELOW_MAX && below.iter().all(&mut fits)
}

/// Lists what is held of identities below; of more than fit the last are left out, as if nothing were held of them.
pub(super) fn listed(held: &Held) -> Vec<Below> {
    let mut out = Vec::new();
    let mut open: Vec<(u8, Did, &Held)> = held.below.iter().rev().map(|(did, held)| (1, *did, held)).collect();
    while let Some((level, did, held)) = open.pop().filter(|_| out.len() < BELOW_MAX) {
        out.push(Below { level, did, heads: held.heads.clone() });
        open.extend(held.below.iter().rev().map(|(did, held)| (level.saturating_add(1), *did, held)));
    }
    out
}

/// The inverse of [`listed`]. At most as deep as levels are checked to be.
pub(super) fn tree(below: &[Below]) -> BTreeMap<Did, Held> {
    let mut out = BTreeMap::new();
    let mut rest = below;
    while let Some((first, later)) = rest.split_first() {
        let inside = later.iter().take_while(|one| one.level > first.level).count();
        let (inside, after) = later.split_at(inside);
        out.insert(first.did, Held { heads: first.heads.clone(), below: tree(inside) });
        rest = after;
    }
    out
}

#[cfg(test)]
mod tests {
    use walytis_core::id::{BlockId, ChainId};

    use super::*;

    fn did(number: u8) -> Did {
        Did(ChainId(BlockId::from_digest([number; 32])))
    }

    fn held(number: u8, below: impl IntoIterator<Item = (u8, Held)>) -> Held {
        let below = below.into_iter().map(|(number, held)| (did(number), held)).collect();
        Held { heads: vec![OpId([number; 32])], below }
    }

    #[test]
    fn a_tree_comes_back_from_its_list() {
        let inner = held(4, [(7, held(7, [])), (9, held(9, []))]);
        let whole = held(1, [(2, held(2, [])), (3, held(3, [(4, inner)])), (5, held(5, []))]);
        let list = listed(&whole);
        assert_eq!(list.iter().map(|one| one.level).collect::<Vec<_>>(), [1, 1, 2, 3, 3, 1]);
        assert!(fits(&list));
        assert_eq!(tree(&list), whole.below);
        assert!(listed(&held(1, [])).is_empty() && tree(&[]).is_empty());
    }

    #[test]
    fn lists_that_are_no_tree_or_too_large_are_refused() {
        let one = |level: u8, number: u8| Below { level, did: did(number), heads: vec![OpId([number; 32])] };
        assert!(fits(&[one(1, 5), one(2, 3), one(1, 6)]));
        for bad in [
            vec![one(0, 1)],
            vec![one(2, 1)],
            vec![one(1, 1), one(3, 2)],
            vec![one(1, 5), one(1, 5)],
            vec![one(1, 5), one(2, 9), one(1, 4)],
            vec![Below { heads: Vec::new(), ..one(1, 1) }],
            vec![Below { heads: vec![OpId([2; 32]), OpId([1; 32])], ..one(1, 1) }],
            (1..=8).map(|level| one(level, level)).collect(),
            (0..=u8::try_from(BELOW_MAX).unwrap()).map(|number| one(1, number)).collect(),
        ] {
            assert!(!fits(&bad), "{bad:?}");
        }
        assert!(fits(&(1..=7).map(|level| one(level, level)).collect::<Vec<_>>()));
        let many = held(0, (0..=u8::try_from(BELOW_MAX).unwrap()).map(|number| (number, held(number, []))));
        assert_eq!(listed(&many).len(), BELOW_MAX, "of more than fit the last are left out");
    }
}
