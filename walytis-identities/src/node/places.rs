//! Places for streams that others open, and turns for those that this node opens.
//!
//! A place is held until the stream is served, so whoever is slow or silent holds one for as long as it is let. Nobody gets
//! more than a few, each protocol has its own, and some are for nodes of controllers alone: strangers without number leave
//! them free.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use walytis_core::id::PeerId;
use walytis_core::net::Protocol;

use super::error::ExchangeError;
use super::limiter::Limiter;

/// Places of one peer at one protocol. Chosen: a node opens one stream at a time ([`Turns`]); the next may come before this
/// side has put away the one before.
const OF_ONE_PEER: usize = 2;

/// Places at one protocol.
#[derive(Debug)]
pub(super) struct Places {
    /// For everybody.
    open: Arc<Semaphore>,
    /// For nodes of controllers, once the others are taken.
    reserved: Arc<Semaphore>,
    /// Of those who have a place now.
    peers: BTreeMap<PeerId, Arc<Semaphore>>,
    limiter: Limiter,
}

/// A place; whoever drops it gives it back.
#[derive(Debug)]
pub(super) struct Place {
    _one: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
}

impl Places {
    /// So many for everybody and so many more for controllers' nodes; a peer may come `burst` times at once, once more each
    /// `interval`.
    pub(super) fn new((open, reserved): (usize, usize), (burst, interval): (u32, Duration)) -> Self {
        Self {
            open: Arc::new(Semaphore::new(open)),
            reserved: Arc::new(Semaphore::new(reserved)),
            peers: BTreeMap::new(),
            limiter: Limiter::new(burst, interval),
        }
    }

    /// Takes a place; nothing if there is none for this peer now.
    pub(super) fn take(&mut self, peer: &PeerId, is_controller: bool, now: Instant) -> Option<Place> {
        self.peers.retain(|_, own| own.available_permits() < OF_ONE_PEER);
        let own = self.peers.get(peer).map_or_else(|| Arc::new(Semaphore::new(OF_ONE_PEER)), Arc::clone);
        let its_own = Arc::clone(&own).try_acquire_owned().ok()?;
        let one = Arc::clone(&self.open).try_acquire_owned().ok();
        let one = one.or_else(|| Arc::clone(&self.reserved).try_acquire_owned().ok().filter(|_| is_controller))?;
        if !self.limiter.take(peer, now) {
            return None;
        }
        self.peers.insert(peer.clone(), own);
        Some(Place { _one: one, _own: its_own })
    }
}

/// One stream of a protocol at a time to one peer, however many identities have something to say to it: more it would not
/// serve.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<BTreeMap<(PeerId, Protocol), Arc<Semaphore>>>);

impl Turns {
    /// Waits for the turn; whoever drops it gives it back.
    pub(super) async fn take(&self, peer: &PeerId, protocol: Protocol) -> Result<OwnedSemaphorePermit, ExchangeError> {
        let one = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever waits or has the turn has it in hand: the map is no larger than what is under way.
            all.retain(|_, one| Arc::strong_count(one) > 1);
            Arc::clone(all.entry((peer.clone(), protocol)).or_insert_with(|| Arc::new(Semaphore::new(1))))
        };
        one.acquire_owned().await.map_err(|_| ExchangeError::Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFTEN: (u32, Duration) = (1_000, Duration::from_secs(1));

    fn peer(number: u16) -> PeerId {
        PeerId::from_bytes(&number.to_be_bytes()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn no_peer_gets_more_than_its_own_and_a_place_comes_back() {
        let (mut places, now) = (Places::new((5, 0), OFTEN), Instant::now());
        let mut held: Vec<Place> = (0..2).filter_map(|_| places.take(&peer(1), false, now)).collect();
        assert!(places.take(&peer(1), false, now).is_none(), "a third one of the same peer");
        held.extend((2..5).filter_map(|number| places.take(&peer(number), false, now)));
        assert_eq!(held.len(), 5);
        assert!(places.take(&peer(9), false, now).is_none(), "all are taken");
        drop(held.remove(0));
        assert!(places.take(&peer(1), false, now).is_some());
        held.clear();
        assert!(places.take(&peer(9), false, now).is_some());
        assert_eq!(places.peers.len(), 1, "who has none is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_leave_room_for_controllers() {
        let (mut places, now) = (Places::new((2, 1), OFTEN), Instant::now());
        let strangers: Vec<Place> = (1..9).filter_map(|number| places.take(&peer(number), false, now)).collect();
        assert_eq!(strangers.len(), 2);
        let controller = places.take(&peer(9), true, now);
        assert!(controller.is_some() && places.take(&peer(10), true, now).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn one_after_the_other_with_one_peer_at_one_protocol() {
        let turns = Turns::default();
        let first = turns.take(&peer(1), "/one/1").await.unwrap();
        drop((turns.take(&peer(2), "/one/1").await.unwrap(), turns.take(&peer(1), "/two/1").await.unwrap()));
        let second = tokio::time::timeout(Duration::from_secs(1), turns.take(&peer(1), "/one/1")).await;
        assert!(second.is_err(), "it waits");
        drop(first);
        drop(turns.take(&peer(1), "/one/1").await.unwrap());
        drop(turns.take(&peer(3), "/one/1").await.unwrap());
        assert!(turns.0.lock().unwrap().len() <= 1, "who is done is forgotten");
    }
}
