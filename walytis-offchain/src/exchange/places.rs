//! Whose streams are answered at the same time.

use std::collections::BTreeMap;

use walytis_core::id::PeerId;

/// Streams of members answered at the same time; more are refused.
const MEMBERS_MAX: usize = 256;
/// The same of one member.
const PER_MEMBER_MAX: usize = 4;
/// Streams of strangers answered at the same time, beside those of members. Chosen: they get nothing but noes; one that is
/// a member and not known as such yet comes again.
const STRANGERS_MAX: usize = 32;
/// The same of one stranger.
const PER_STRANGER_MAX: usize = 2;

/// The places among the streams that are answered. Strangers, of whom anybody can make as many as he likes, take none from
/// members.
#[derive(Debug, Default)]
pub(super) struct Places {
    members: Taken,
    strangers: Taken,
}

#[derive(Debug, Default)]
struct Taken {
    by_peer: BTreeMap<PeerId, usize>,
    all: usize,
}

impl Places {
    /// Takes a place; false if there is none.
    pub(super) fn enter(&mut self, peer: &PeerId, member: bool) -> bool {
        match member {
            true => self.members.enter(peer, PER_MEMBER_MAX, MEMBERS_MAX),
            false => self.strangers.enter(peer, PER_STRANGER_MAX, STRANGERS_MAX),
        }
    }

    /// Gives back a place; `member`: as it was when it was taken.
    pub(super) fn leave(&mut self, peer: &PeerId, member: bool) {
        match member {
            true => self.members.leave(peer),
            false => self.strangers.leave(peer),
        }
    }
}

impl Taken {
    fn enter(&mut self, peer: &PeerId, per_peer: usize, max: usize) -> bool {
        let own = self.by_peer.get(peer).copied().unwrap_or_default();
        let free = own < per_peer && self.all < max;
        if free {
            self.by_peer.insert(peer.clone(), own + 1);
            self.all += 1;
        }
        free
    }

    fn leave(&mut self, peer: &PeerId) {
        let Some(own) = self.by_peer.get_mut(peer) else { return };
        *own -= 1;
        self.all -= 1;
        if *own == 0 {
            self.by_peer.remove(peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u16) -> PeerId {
        PeerId::from_bytes(&number.to_be_bytes()).unwrap()
    }

    #[test]
    fn strangers_take_no_place_of_members_and_what_is_left_is_free_again() {
        let mut places = Places::default();
        let entered = (0..1_000).filter(|n| places.enter(&peer(n / 4), false)).count();
        assert_eq!(entered, STRANGERS_MAX);
        let entered = (0..1_000).filter(|n| places.enter(&peer(1_000 + n / 10), true)).count();
        assert_eq!(entered, MEMBERS_MAX);
        assert!(!places.enter(&peer(5_000), true) && !places.enter(&peer(5_000), false));
        places.leave(&peer(1_000), true);
        places.leave(&peer(0), false);
        assert!(places.enter(&peer(5_000), true) && places.enter(&peer(5_000), false));
        // A stranger that has become a member since.
        places.leave(&peer(5_000), false);
        assert!(places.enter(&peer(5_001), false) && !places.enter(&peer(5_000), true));
        assert!(!places.members.by_peer.is_empty() && places.members.all == MEMBERS_MAX);
    }

    #[test]
    fn one_peer_takes_a_few_places() {
        let mut places = Places::default();
        assert_eq!((0..9).filter(|_| places.enter(&peer(1), true)).count(), PER_MEMBER_MAX);
        assert_eq!((0..9).filter(|_| places.enter(&peer(2), false)).count(), PER_STRANGER_MAX);
    }
}
