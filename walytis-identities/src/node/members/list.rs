//! What the records about memberships amount to, in canonical order.

use std::collections::BTreeMap;

use super::record_v1::Entry;
use crate::id::{Did, OpId};
use crate::token::TokenPeer;

/// Identities that one may be a controller of; later ones are passed over. Chosen: bounds what a node joins by itself.
pub(in crate::node) const MEMBERSHIPS_MAX: usize = 256;

/// What is noted of an identity's memberships, by DID.
pub(in crate::node) type Memberships = BTreeMap<Did, Noted>;

/// What is noted of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::node) struct Noted {
    pub(super) name: String,
    pub(super) archived: bool,
    /// The op by which it was left, unless it was joined again since.
    pub(super) left: Option<OpId>,
    /// Where it was reached when it was joined.
    pub(super) peers: Vec<TokenPeer>,
}

/// Applies one record; those about the same identity in canonical order.
pub(super) fn apply(all: &mut Memberships, entry: Entry) {
    match entry {
        Entry::Joined { did, name, peers } => {
            if all.len() < MEMBERSHIPS_MAX || all.contains_key(&did) {
                all.insert(did, Noted { name, archived: false, left: None, peers });
            }
        }
        Entry::Archived { did, archived } => {
            if let Some(noted) = all.get_mut(&did) {
                noted.archived = archived;
            }
        }
        Entry::Left { did, leave } => {
            if let Some(noted) = all.get_mut(&did) {
                noted.left = Some(leave);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use walytis_core::id::{BlockId, ChainId};

    use super::*;

    fn did(number: u16) -> Did {
        let mut digest = [0; 32];
        digest[..2].copy_from_slice(&number.to_be_bytes());
        Did(ChainId(BlockId::from_digest(digest)))
    }

    fn joined(number: u16, name: &str) -> Entry {
        Entry::Joined { did: did(number), name: name.to_owned(), peers: Vec::new() }
    }

    #[test]
    fn what_comes_later_counts_and_joining_again_undoes_leaving() {
        let mut all = Memberships::new();
        apply(&mut all, Entry::Left { did: did(1), leave: OpId([1; 32]) });
        assert!(all.is_empty(), "nothing was joined");
        apply(&mut all, joined(1, "team"));
        apply(&mut all, Entry::Archived { did: did(1), archived: true });
        assert!(all[&did(1)].archived);
        apply(&mut all, Entry::Left { did: did(1), leave: OpId([1; 32]) });
        assert_eq!(all[&did(1)].left, Some(OpId([1; 32])));
        apply(&mut all, joined(1, "team again"));
        let noted = Noted { name: "team again".to_owned(), archived: false, left: None, peers: Vec::new() };
        assert_eq!(all[&did(1)], noted);
    }

    #[test]
    fn the_list_is_bounded() {
        let mut all = Memberships::new();
        for number in 0..u16::try_from(MEMBERSHIPS_MAX).unwrap() + 8 {
            apply(&mut all, joined(number, "one"));
        }
        assert_eq!(all.len(), MEMBERSHIPS_MAX);
        apply(&mut all, joined(0, "renamed"));
        assert_eq!(all[&did(0)].name, "renamed");
    }
}
