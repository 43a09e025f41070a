//! From whom to fetch which part next: the pure machine of the exchange, one per ledger.
//!
//! Time and chance are arguments; everything it wants done comes out of [`Machine::poll_output`]. What an input costs
//! depends on the envelopes it names and the peers there are, never on how many envelopes are wanted; only a peer that
//! comes or goes, and making room, touch them all, and there are at most [`WANTS_MAX`]: the caller keeps the others in
//! its store.
//!
//! ```text
//!   want ──► ask every peer ──► part 0 from one holder ──► parts 1..=n from all holders ──► complete
//!                 ▲   no, late, wrong │                      │ has nothing more that   └──► drop (forgotten)
//!                 ├──── back-off ◄────┘                      │ is missing here
//!                 └──── soon ◄───────────────────────────────┘
//! ```
//!
//! - Whoever has a part gives it. Of those that have all, each member asks from a place of its own on, first for what it
//!   knows nobody else to have: members that fetch the same from one holder soon fetch from each other.
//! - Every envelope stands alone: each peer's envelopes take turns, and one that nobody has asks for nothing.
//! - Every request has a deadline; a peer that could not help with an envelope is asked about it again after a back-off
//!   that doubles.
//! - Nobody keeps a place among the wants by promises: an envelope that only peers claim to have that were late, or of
//!   which nothing has come for long, makes room for others and is wanted again later ([`Machine::make_room`]).
//! - It knows ciphertext only: a keeper without keys runs the same machine.

mod holders;
mod peer;
mod room;
mod want;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand_core::Rng;
use tokio::time::Instant;
use walytis_core::id::PeerId;

use super::frame_v1::{Body, Has, ITEMS_MAX};
use super::limits::Noes;
use crate::envelope::EnvelopeId;
use peer::{DEADLINE, Peer};
use want::{Holder, HolderState, Want};

/// Envelopes wanted at the same time. Chosen: their holders at 32 peers take some 10 MB, and as much again at the most what
/// those have in part.
pub(crate) const WANTS_MAX: usize = 2_048;
/// Parts asked for and being stored at the same time, of all peers. Chosen: 32 MiB of memory.
const PARTS_MAX: usize = 32;

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Send this.
    Send { peer: PeerId, body: Body },
    /// Every peer said no or there is none (true); somebody has it after all, or may have it (false).
    Unavailable { id: EnvelopeId, is: bool },
}

/// The machine. See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    /// Where to begin with each envelope's parts.
    chance: u64,
    /// Peers that have some of an envelope and nothing that is missing here, since the last time was handled.
    drained: BTreeSet<(EnvelopeId, PeerId)>,
    wants: BTreeMap<EnvelopeId, Want>,
    peers: BTreeMap<PeerId, Peer>,
    /// When a peer's word on an envelope is late, or it may be asked again.
    timers: BTreeSet<(Instant, EnvelopeId, PeerId)>,
    /// Envelopes that nobody has.
    unavailable: BTreeSet<EnvelopeId>,
    in_flight: usize,
    /// Before that nothing more makes room than what nobody has: it was looked for in vain.
    no_room_until: Option<Instant>,
    /// No part is asked for before.
    held_until: Option<Instant>,
    outputs: VecDeque<Output>,
}

impl Machine {
    /// Returns a machine without wants and peers. `chance` is drawn at random: members with another one begin at other
    /// parts of the same envelope.
    pub(crate) fn new(chance: u64) -> Self {
        Self { chance, ..Self::default() }
    }

    /// Begins to fetch, or goes on with the chunks that are here: one flag each, if the manifest is here. False if there
    /// is no room. Harmless when repeated.
    pub(crate) fn want(&mut self, id: EnvelopeId, have: Option<&[bool]>, now: Instant) -> bool {
        if self.wants.contains_key(&id) {
            return true;
        }
        if self.wants.len() >= WANTS_MAX {
            return false;
        }
        self.wants.insert(id, Want::new(have, self.chance, now));
        let peers: Vec<PeerId> = self.peers.keys().cloned().collect();
        peers.iter().for_each(|peer| self.introduce(&id, peer));
        self.update_hope(&id);
        true
    }

    /// Ends a want: fulfilled, void, or forgotten for ever. Answers that are under way are dropped.
    pub(crate) fn drop_want(&mut self, id: &EnvelopeId) {
        let Some(want) = self.wants.remove(id) else { return };
        self.in_flight -= want.in_flight();
        for (part, peer) in want.asked() {
            if let Some(peer) = self.peers.get_mut(peer) {
                peer.release(*id, part);
            }
        }
        for (name, holder) in want.holders {
            if let Some(due) = holder.state.due() {
                self.timers.remove(&(due, *id, name.clone()));
            }
            let Some(peer) = self.peers.get_mut(&name) else { continue };
            peer.fresh.remove(id);
            peer.ready.remove(id);
            self.drained.remove(&(*id, name.clone()));
        }
        if self.unavailable.remove(id) {
            self.outputs.push_back(Output::Unavailable { id: *id, is: false });
        }
    }

    pub(crate) fn wants(&self, id: &EnvelopeId) -> bool {
        self.wants.contains_key(id)
    }

    /// Sets who can be asked: connected peers that have the right.
    pub(crate) fn set_peers(&mut self, peers: &BTreeSet<PeerId>) {
        let gone: Vec<PeerId> = self.peers.keys().filter(|peer| !peers.contains(*peer)).cloned().collect();
        gone.iter().for_each(|peer| self.remove_peer(peer));
        for peer in peers {
            if self.peers.contains_key(peer) {
                continue;
            }
            self.peers.insert(peer.clone(), Peer::new());
            let ids: Vec<EnvelopeId> = self.wants.keys().copied().collect();
            ids.iter().for_each(|id| {
                self.introduce(id, peer);
                self.update_hope(id);
            });
        }
    }

    /// The stream to a peer broke: what it was asked is asked again, after a back-off or elsewhere.
    pub(crate) fn handle_break(&mut self, peer: &PeerId, now: Instant, rng: &mut impl Rng) {
        self.lose_parts(peer);
        let stands = |want: &Want| want.holders.get(peer).is_some_and(|holder| holder.state.is_hopeful());
        let ids: Vec<EnvelopeId> = self.wants.iter().filter(|(_, want)| stands(want)).map(|(id, _)| *id).collect();
        ids.iter().for_each(|id| self.fail(id, peer, now, rng));
    }

    /// A peer says which of the envelopes it can give, and how much of each.
    pub(crate) fn handle_have(
        &mut self,
        peer: &PeerId,
        items: Vec<(EnvelopeId, Has)>,
        now: Instant,
        (noes, rng): (&mut Noes, &mut impl Rng),
    ) {
        for (id, has) in items {
            let Some(want) = self.wants.get_mut(&id) else { continue };
            let holder = want.holders.get(peer).copied();
            // Only what was asked counts: nobody resets its own back-off.
            let Some(holder) = holder.filter(|holder| matches!(holder.state, HolderState::Asked(_))) else { continue };
            let helps = match has {
                Has::No => {
                    self.fail(&id, peer, now, rng);
                    continue;
                }
                Has::All => {
                    want.tell(peer, None);
                    true
                }
                Has::Some(runs) => {
                    want.tell(peer, Some(runs));
                    want.has_gap_for(peer) || !want.has_gaps()
                }
            };
            noes.give_back(peer, now);
            if helps {
                self.set_holder(&id, peer, Holder { state: HolderState::Has, ..holder });
            } else {
                // It has got nothing new since it was asked before: the longer, the later it is asked again.
                self.fail(&id, peer, now, rng);
            }
        }
    }

    /// A part has come. True if it was asked of this peer: then the driver checks and stores it and says what became of
    /// it; anything else is dropped unread.
    pub(crate) fn handle_part(&mut self, peer: &PeerId, id: &EnvelopeId, part: u32, now: Instant) -> bool {
        let Some(want) = self.wants.get_mut(id).filter(|want| want.expects(peer, part)) else { return false };
        want.store(part);
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.handle_part(*id, part, now);
        }
        true
    }

    /// A chunk is stored. True if everything of the envelope is here.
    pub(crate) fn handle_stored(&mut self, peer: &PeerId, id: &EnvelopeId, part: u32, now: Instant) -> bool {
        self.in_flight -= self.settle_part(id, |want| want.stored(part, now));
        self.vindicate(peer, id);
        self.wants.get(id).is_some_and(Want::is_complete)
    }

    /// The manifest is stored, with these chunks here. True if everything of the envelope is here.
    pub(crate) fn handle_manifest(&mut self, peer: &PeerId, id: &EnvelopeId, have: &[bool], now: Instant) -> bool {
        let chance = self.chance;
        self.in_flight -= self.settle_part(id, |want| want.learn(have, chance, now));
        self.vindicate(peer, id);
        self.update_ready(id);
        self.wants.get(id).is_some_and(Want::is_complete)
    }

    /// A peer refused a part, or what it sent is not that part: not it, for a while.
    pub(crate) fn handle_failed(
        &mut self,
        peer: &PeerId,
        id: &EnvelopeId,
        part: u32,
        now: Instant,
        rng: &mut impl Rng,
    ) {
        self.in_flight -= self.settle_part(id, |want| want.miss(part));
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.release(*id, part);
        }
        self.fail(id, peer, now, rng);
        self.update_ready(id);
    }

    /// A peer says that it has not got a part that it was asked for.
    pub(crate) fn handle_no(
        &mut self,
        peer: &PeerId,
        id: &EnvelopeId,
        part: u32,
        now: Instant,
        (noes, rng): (&mut Noes, &mut impl Rng),
    ) {
        if self.wants.get(id).is_some_and(|want| want.expects(peer, part)) {
            noes.charge(peer, now);
            self.handle_failed(peer, id, part, now, rng);
        }
    }

    /// What came cannot be stored here: the envelope waits for a back-off, the others go on.
    pub(crate) fn handle_trouble(&mut self, id: &EnvelopeId, part: u32, now: Instant, rng: &mut impl Rng) {
        self.in_flight -= self.settle_part(id, |want| want.miss(part));
        let holders = self.wants.get(id).map(|want| want.holders.keys().cloned().collect::<Vec<_>>());
        holders.unwrap_or_default().iter().for_each(|peer| self.fail(id, peer, now, rng));
    }

    /// Asks for no further part before `until`: what has been asked for fills the bandwidth.
    pub(crate) fn hold(&mut self, until: Instant) {
        self.held_until = Some(until);
    }

    /// Does everything that is due. `noes`: how often each peer may still be made to say no; shared by all machines of a
    /// node.
    pub(crate) fn handle_time(&mut self, now: Instant, noes: &mut Noes, rng: &mut impl Rng) {
        self.held_until.take_if(|until| *until <= now);
        self.expire_parts(now, rng);
        self.put_off_drained(now);
        while let Some((due, id, peer)) = self.timers.first().cloned().filter(|(due, ..)| *due <= now) {
            self.timers.remove(&(due, id, peer.clone()));
            let Some(holder) = self.wants.get(&id).and_then(|want| want.holders.get(&peer)).copied() else { continue };
            match holder.state {
                HolderState::Asked(_) => self.fail(&id, &peer, now, rng),
                _ => self.set_holder(&id, &peer, Holder { state: HolderState::Fresh, ..holder }),
            }
        }
        self.ask(now, noes);
    }

    /// Returns the next thing to do: questions first, then parts, one at a time.
    pub(crate) fn poll_output(&mut self, now: Instant) -> Option<Output> {
        self.outputs.pop_front().or_else(|| self.request(now))
    }

    /// Returns when [`Self::handle_time`] has something to do next.
    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let timer = self.timers.first().map(|(due, ..)| *due);
        let peers = self.peers.values().filter_map(|peer| peer.due(now));
        let drained = (!self.drained.is_empty()).then_some(now);
        timer.into_iter().chain(peers).chain(self.held_until).chain(drained).min()
    }

    fn remove_peer(&mut self, peer: &PeerId) {
        self.lose_parts(peer);
        self.peers.remove(peer);
        let ids: Vec<EnvelopeId> = self.wants.keys().copied().collect();
        for id in ids {
            let Some(want) = self.wants.get_mut(&id) else { continue };
            let Some(holder) = want.remove_holder(peer) else { continue };
            self.drained.remove(&(id, peer.clone()));
            if holder.state.is_hopeful() {
                want.hopeful -= 1;
            }
            if let Some(due) = holder.state.due() {
                self.timers.remove(&(due, id, peer.clone()));
            }
            self.update_hope(&id);
        }
    }

    fn lose_parts(&mut self, peer: &PeerId) {
        let lost = self.peers.get_mut(peer).map(Peer::reset).unwrap_or_default();
        for (id, part) in lost {
            self.in_flight -= self.settle_part(&id, |want| want.miss(part));
            self.update_ready(&id);
        }
    }

    /// Changes a want and returns how many parts fewer are under way.
    fn settle_part(&mut self, id: &EnvelopeId, change: impl FnOnce(&mut Want)) -> usize {
        let Some(want) = self.wants.get_mut(id) else { return 0 };
        let before = want.in_flight();
        change(want);
        before.saturating_sub(want.in_flight())
    }

    fn expire_parts(&mut self, now: Instant, rng: &mut impl Rng) {
        let late: Vec<(PeerId, Vec<(EnvelopeId, u32)>)> =
            self.peers.iter().map(|(name, peer)| (name.clone(), peer.overdue(now))).collect();
        for (name, parts) in late.into_iter().filter(|(_, parts)| !parts.is_empty()) {
            for (id, part) in parts {
                self.handle_failed(&name, &id, part, now, rng);
            }
            if let Some(peer) = self.peers.get_mut(&name) {
                peer.handle_late();
            }
        }
    }

    fn ask(&mut self, now: Instant, noes: &mut Noes) {
        let mut asks = Vec::new();
        for (name, peer) in self.peers.iter_mut().filter(|(_, peer)| !peer.fresh.is_empty()) {
            let ids = peer.take_fresh(noes.take(name, peer.fresh.len() as u64, now));
            if !ids.is_empty() {
                asks.push((name.clone(), ids));
            }
        }
        for (peer, ids) in asks {
            for id in &ids {
                let Some(holder) = self.wants.get(id).and_then(|want| want.holders.get(&peer)).copied() else {
                    continue;
                };
                self.set_holder(id, &peer, Holder { state: HolderState::Asked(now + DEADLINE), ..holder });
            }
            let sends =
                ids.chunks(ITEMS_MAX).map(|ids| Output::Send { peer: peer.clone(), body: Body::Want(ids.to_vec()) });
            self.outputs.extend(sends);
        }
    }

    /// Asks the least busy peer for a part of the envelope whose turn it is there.
    fn request(&mut self, now: Instant) -> Option<Output> {
        if self.in_flight >= PARTS_MAX || self.held_until.is_some_and(|until| until > now) {
            return None;
        }
        let free = self.peers.iter().filter(|(_, peer)| peer.is_free());
        let name = free.min_by_key(|(_, peer)| peer.load()).map(|(name, _)| name.clone())?;
        let peer = self.peers.get_mut(&name)?;
        let id = peer.next()?;
        let part = self.wants.get_mut(&id).and_then(|want| want.ask(&name))?;
        peer.ask(id, part, now);
        self.in_flight += 1;
        self.update_ready(&id);
        Some(Output::Send { peer: name, body: Body::Get(id, part) })
    }
}

fn set_member<T: Ord>(set: &mut BTreeSet<T>, value: T, is: bool) {
    if is {
        set.insert(value);
    } else {
        set.remove(&value);
    }
}
