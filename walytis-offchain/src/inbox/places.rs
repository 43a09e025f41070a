//! Who may have how many streams open, and who is delivered to at the same time. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use walytis_core::id::PeerId;
use walytis_identities::id::Did;

/// Streams at the same time.
const STREAMS_MAX: usize = 16;
/// Streams of one node at the same time. Chosen: it delivers for several identities; nobody fills the inbox alone.
const STREAMS_PER_PEER: usize = 2;
/// Receivers that are delivered to at the same time.
const RECEIVERS_MAX: usize = 8;
/// Those of them who only get receipts: who writes to this node decides how many there are.
const RECEIPTS_ONLY_MAX: usize = 2;
/// How long a receiver rests of whom nobody answered, or whoever did wants nothing now. Chosen: as the first pause of a letter.
const REST: Duration = Duration::from_secs(15);

/// The streams that letters come on.
#[derive(Debug, Default)]
pub(super) struct Places {
    next: u64,
    /// By number, the oldest first: whose it is, and whether its letter is being judged.
    held: BTreeMap<u64, (PeerId, bool)>,
}

/// A place that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entered {
    pub(super) place: u64,
    /// Who has to go for it.
    pub(super) instead_of: Option<u64>,
}

impl Places {
    /// Gives a place to a node. If there is none the oldest whose letter has not come, or has been answered, goes.
    pub(super) fn enter(&mut self, peer: &PeerId) -> Option<Entered> {
        if self.held.values().filter(|(holder, _)| holder == peer).count() >= STREAMS_PER_PEER {
            return None;
        }
        let mut instead_of = None;
        if self.held.len() >= STREAMS_MAX {
            let idle = self.held.iter().find(|(_, (_, is_judged))| !is_judged).map(|(place, _)| *place)?;
            self.held.remove(&idle);
            instead_of = Some(idle);
        }
        let place = self.next;
        self.next += 1;
        self.held.insert(place, (peer.clone(), false));
        Some(Entered { place, instead_of })
    }

    /// Notes that a letter is being judged, or is not any more.
    pub(super) fn judged(&mut self, place: u64, is_judged: bool) {
        if let Some((_, now)) = self.held.get_mut(&place) {
            *now = is_judged;
        }
    }

    pub(super) fn leave(&mut self, place: u64) {
        self.held.remove(&place);
    }
}

/// Whom letters are delivered to.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Being delivered to, with whether it only gets receipts.
    busy: BTreeMap<Did, bool>,
    resting: BTreeMap<Did, Instant>,
}

impl Turns {
    /// Returns who is next, given the receivers of letters that are due, in order, and whether each letter is a receipt: those
    /// with messages first.
    pub(super) fn start(&mut self, due: &[(Did, bool)], now: Instant) -> Vec<Did> {
        self.resting.retain(|_, until| *until > now);
        let with_messages: BTreeSet<Did> = due.iter().filter(|(_, receipt)| !receipt).map(|(did, _)| *did).collect();
        let mut started = Vec::new();
        let messages_first =
            due.iter().filter(|(_, receipt)| !receipt).chain(due.iter().filter(|(_, receipt)| *receipt));
        for (did, _) in messages_first {
            let receipts_only = !with_messages.contains(did);
            let of_receipts = self.busy.values().filter(|only| **only).count();
            let is_free = self.busy.len() < RECEIVERS_MAX && (!receipts_only || of_receipts < RECEIPTS_ONLY_MAX);
            if is_free && !self.busy.contains_key(did) && !self.resting.contains_key(did) {
                self.busy.insert(*did, receipts_only);
                started.push(*did);
            }
        }
        started
    }

    /// Notes that nothing more is delivered to a receiver now, and whether somebody took what was.
    pub(super) fn ended(&mut self, did: &Did, taken: bool, now: Instant) {
        self.busy.remove(did);
        if !taken {
            self.resting.insert(*did, now + REST);
        }
    }

    /// Somebody of a receiver is here.
    pub(super) fn wake(&mut self, did: &Did) {
        self.resting.remove(did);
    }

    /// A delivery died: nobody is taken for busy who is not.
    pub(super) fn reset(&mut self) {
        self.busy.clear();
    }
}

#[cfg(test)]
mod tests {
    use walytis_core::id::{BlockId, ChainId};

    use super::*;

    fn peer(number: u8) -> PeerId {
        PeerId::from_bytes(&[number; 2]).unwrap()
    }

    fn did(n: u8) -> Did {
        Did(ChainId(BlockId::from_digest([n; 32])))
    }

    #[test]
    fn a_node_holds_two_places_and_the_oldest_silent_stream_goes_first() {
        let mut places = Places::default();
        for number in 0..8 {
            assert_eq!([0; 3].map(|_| places.enter(&peer(number)).is_some()), [true, true, false]);
        }
        places.judged(0, true);
        let ninth = Entered { place: 16, instead_of: Some(1) };
        assert_eq!(places.enter(&peer(8)), Some(ninth), "the one that is judged stays");
        assert_eq!(places.enter(&peer(0)), Some(Entered { place: 17, instead_of: Some(2) }), "its other place is gone");
        places.leave(5);
        assert_eq!(places.enter(&peer(9)), Some(Entered { place: 18, instead_of: None }));
        for place in 0..19 {
            places.judged(place, true);
        }
        assert_eq!(places.enter(&peer(10)), None, "all are being judged");
        places.judged(7, false);
        assert_eq!(places.enter(&peer(10)), Some(Entered { place: 19, instead_of: Some(7) }), "it was answered");
        assert_eq!(places.held.len(), STREAMS_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn messages_go_before_receipts_and_who_does_not_answer_rests() {
        let (now, mut turns) = (Instant::now(), Turns::default());
        let receipts: Vec<_> = (10..20).map(|n| (did(n), true)).collect();
        assert_eq!(turns.start(&receipts, now), [did(10), did(11)]);
        let due = [&receipts[..], &[(did(1), true), (did(1), false), (did(2), false)]].concat();
        assert_eq!(turns.start(&due, now), [did(1), did(2)]);
        assert_eq!(turns.start(&due, now), []);
        turns.ended(&did(1), true, now);
        turns.ended(&did(2), false, now);
        assert_eq!(turns.start(&due, now), [did(1)]);
        turns.wake(&did(2));
        assert_eq!(turns.start(&due, now), [did(2)]);
        turns.ended(&did(2), false, now);
        assert_eq!(turns.start(&due, now + REST), [did(2)]);
        let many: Vec<_> = (30..60).map(|n| (did(n), false)).collect();
        assert_eq!(turns.start(&many, now).len(), RECEIVERS_MAX - 4);
        turns.reset();
        assert_eq!(turns.start(&many, now).len(), RECEIVERS_MAX);
    }
}
