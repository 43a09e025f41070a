//! From whom to fetch which part next: the pure machine of the exchange, one per ledger.
//!
//! Every envelope stands alone: one that nobody has delays no other. Every request has a deadline, every peer that could
//! not help is asked again after a back-off that doubles.
//!
//! ```text
//!   want ──► ask every peer ──► part 0 from one holder ──► parts 1..=n from all holders ──► done
//!                 ▲   no, late, wrong │
//!                 └──── back-off ◄────┘
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use walytis_core::id::PeerId;

use super::frame_v1::{Body, ITEMS_MAX};
use crate::envelope::EnvelopeId;

/// Parts asked of one peer at the same time. Chosen: 8 MiB fill a fast link and bound memory.
const PARTS_PER_PEER: usize = 8;
/// Parts asked at the same time in all.
const PARTS_MAX: usize = 32;
/// How long an answer may take. Chosen: one chunk at 1 Mbit/s.
const DEADLINE: Duration = Duration::from_secs(15);
/// First back-off. Chosen: holders that are just fetching it have it soon.
const BACK_OFF: Duration = Duration::from_millis(250);
/// Longest back-off.
const BACK_OFF_MAX: Duration = Duration::from_secs(60);

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Send {
    pub(crate) peer: PeerId,
    pub(crate) body: Body,
}

#[derive(Debug, Default)]
pub(crate) struct Fetch {
    wants: BTreeMap<EnvelopeId, Want>,
    peers: BTreeMap<PeerId, usize>,
    outputs: VecDeque<Send>,
}

#[derive(Debug, Default)]
struct Want {
    holders: BTreeMap<PeerId, Holder>,
    /// One flag per chunk once the manifest is here.
    have: Option<Vec<bool>>,
    asked: BTreeMap<u32, (PeerId, Instant)>,
}

#[derive(Debug)]
struct Holder {
    state: HolderState,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HolderState {
    Fresh,
    Asked(Instant),
    Has,
    NotUntil(Instant),
}

impl Holder {
    fn fail(&mut self, now: Instant) {
        let factor = 1_u32.checked_shl(self.failures.min(16)).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        self.state = HolderState::NotUntil(now + BACK_OFF.saturating_mul(factor).min(BACK_OFF_MAX));
    }
}

impl Fetch {
    /// Begins to fetch, or goes on with chunks that are here already. Harmless when repeated.
    pub(crate) fn want(&mut self, id: EnvelopeId, have: Option<Vec<bool>>) {
        let holders = || Holder { state: HolderState::Fresh, failures: 0 };
        self.wants.entry(id).or_insert_with(|| Want {
            holders: self.peers.keys().map(|peer| (peer.clone(), holders())).collect(),
            have,
            asked: BTreeMap::new(),
        });
    }

    /// Ends a want, fulfilled or not.
    pub(crate) fn done(&mut self, id: &EnvelopeId) {
        for (peer, _) in self.wants.remove(id).into_iter().flat_map(|want| want.asked.into_values()) {
            release(&mut self.peers, &peer);
        }
    }

    pub(crate) fn wants(&self, id: &EnvelopeId) -> bool {
        self.wants.contains_key(id)
    }

    /// Says whether every known peer said no, or there is none.
    pub(crate) fn is_unavailable(&self, id: &EnvelopeId) -> bool {
        let gone = |holder: &Holder| matches!(holder.state, HolderState::NotUntil(_));
        self.wants.get(id).is_some_and(|want| want.holders.values().all(gone))
    }

    /// Sets who can be asked: connected peers that have the right.
    pub(crate) fn set_peers(&mut self, peers: &[PeerId]) {
        let gone: Vec<_> = self.peers.keys().filter(|peer| !peers.contains(peer)).cloned().collect();
        gone.iter().for_each(|peer| self.lose(peer, true));
        for peer in peers {
            if self.peers.contains_key(peer) {
                continue;
            }
            self.peers.insert(peer.clone(), 0);
            for want in self.wants.values_mut() {
                want.holders.insert(peer.clone(), Holder { state: HolderState::Fresh, failures: 0 });
            }
        }
    }

    /// The stream to a peer broke: what it was asked is asked again, after a back-off or elsewhere.
    pub(crate) fn handle_break(&mut self, peer: &PeerId, now: Instant) {
        self.lose(peer, false);
        let holders = self.wants.values_mut().filter_map(|want| want.holders.get_mut(peer));
        holders.for_each(|holder| holder.fail(now));
    }

    fn lose(&mut self, peer: &PeerId, forget: bool) {
        for want in self.wants.values_mut() {
            want.asked.retain(|_, (asked, _)| asked != peer);
            if forget {
                want.holders.remove(peer);
            }
        }
        if forget {
            self.peers.remove(peer);
        } else if let Some(load) = self.peers.get_mut(peer) {
            *load = 0;
        }
    }

    pub(crate) fn handle_have(&mut self, peer: &PeerId, items: &[(EnvelopeId, bool)], now: Instant) {
        for (id, has) in items {
            let want = self.wants.get_mut(id);
            let Some(holder) = want.and_then(|want| want.holders.get_mut(peer)) else { continue };
            match holder.state {
                HolderState::Asked(_) if *has => holder.state = HolderState::Has,
                HolderState::Asked(_) => holder.fail(now),
                _ => {}
            }
        }
    }

    /// Says whether this part was asked of this peer; anything else is dropped unread.
    pub(crate) fn expects(&self, peer: &PeerId, id: &EnvelopeId, part: u32) -> bool {
        self.wants.get(id).and_then(|want| want.asked.get(&part)).is_some_and(|(asked, _)| asked == peer)
    }

    /// The driver checked and stored a part; with part 0 it says which chunks are here.
    pub(crate) fn handle_stored(&mut self, id: &EnvelopeId, part: u32, chunks: Option<Vec<bool>>) {
        let Some(want) = self.wants.get_mut(id) else { return };
        if let Some((peer, _)) = want.asked.remove(&part) {
            release(&mut self.peers, &peer);
            if let Some(holder) = want.holders.get_mut(&peer) {
                holder.failures = 0;
            }
        }
        if chunks.is_some() {
            want.have = chunks;
        }
        let index = part.checked_sub(1).and_then(|index| usize::try_from(index).ok());
        if let Some(flag) = index.zip(want.have.as_mut()).and_then(|(index, have)| have.get_mut(index)) {
            *flag = true;
        }
    }

    /// Says whether every chunk is here.
    pub(crate) fn is_complete(&self, id: &EnvelopeId) -> bool {
        let have = self.wants.get(id).and_then(|want| want.have.as_ref());
        have.is_some_and(|have| have.iter().all(|flag| *flag))
    }

    /// A peer refused or sent something else than was asked: not it, for a while.
    pub(crate) fn handle_failed(&mut self, peer: &PeerId, id: &EnvelopeId, part: u32, now: Instant) {
        if !self.expects(peer, id, part) {
            return;
        }
        release(&mut self.peers, peer);
        let Some(want) = self.wants.get_mut(id) else { return };
        want.asked.remove(&part);
        if let Some(holder) = want.holders.get_mut(peer) {
            holder.fail(now);
        }
    }

    /// Takes the next request.
    pub(crate) fn poll_send(&mut self) -> Option<Send> {
        self.outputs.pop_front()
    }

    /// Plans everything that can be asked now.
    pub(crate) fn handle_time(&mut self, now: Instant) {
        self.expire(now);
        self.ask(now);
        self.request(now);
    }

    /// Returns when [`Self::handle_time`] has something to do next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let holders = self.wants.values().flat_map(|want| want.holders.values());
        let states = holders.filter_map(|holder| match holder.state {
            HolderState::Asked(until) | HolderState::NotUntil(until) => Some(until),
            HolderState::Fresh | HolderState::Has => None,
        });
        states.chain(self.wants.values().flat_map(|want| want.asked.values().map(|(_, until)| *until))).min()
    }

    fn expire(&mut self, now: Instant) {
        for want in self.wants.values_mut() {
            let late: Vec<_> =
                want.asked.iter().filter(|(_, (_, until))| *until <= now).map(|(part, _)| *part).collect();
            for part in late {
                let Some((peer, _)) = want.asked.remove(&part) else { continue };
                release(&mut self.peers, &peer);
                if let Some(holder) = want.holders.get_mut(&peer).filter(|holder| holder.state == HolderState::Has) {
                    holder.fail(now);
                }
            }
            for holder in want.holders.values_mut() {
                match holder.state {
                    HolderState::Asked(until) if until <= now => holder.fail(now),
                    HolderState::NotUntil(until) if until <= now => holder.state = HolderState::Fresh,
                    _ => {}
                }
            }
        }
    }

    fn ask(&mut self, now: Instant) {
        let mut asks: BTreeMap<PeerId, Vec<EnvelopeId>> = BTreeMap::new();
        for (id, want) in &mut self.wants {
            for (peer, holder) in &mut want.holders {
                if holder.state == HolderState::Fresh {
                    holder.state = HolderState::Asked(now + DEADLINE);
                    asks.entry(peer.clone()).or_default().push(*id);
                }
            }
        }
        for (peer, ids) in asks {
            let parts = ids.chunks(ITEMS_MAX).map(|ids| Send { peer: peer.clone(), body: Body::Want(ids.to_vec()) });
            self.outputs.extend(parts);
        }
    }

    fn request(&mut self, now: Instant) {
        let mut asked: usize = self.peers.values().sum();
        for (id, want) in &mut self.wants {
            for part in missing(want) {
                if asked >= PARTS_MAX {
                    return;
                }
                let holders = want.holders.iter().filter(|(_, holder)| holder.state == HolderState::Has);
                let loads = holders.filter_map(|(peer, _)| self.peers.get(peer).map(|load| (*load, peer.clone())));
                let Some((_, peer)) = loads.min().filter(|(load, _)| *load < PARTS_PER_PEER) else { break };
                self.peers.entry(peer.clone()).and_modify(|load| *load += 1);
                asked += 1;
                want.asked.insert(part, (peer.clone(), now + DEADLINE));
                self.outputs.push_back(Send { peer, body: Body::Get(*id, part) });
            }
        }
    }
}

/// Parts that are neither here nor asked for, at most as many as can be asked.
fn missing(want: &Want) -> Vec<u32> {
    let parts: Vec<u32> = match &want.have {
        None => vec![0],
        Some(have) => {
            let gaps = (1_u32..).zip(have).filter(|(_, flag)| !**flag).map(|(part, _)| part);
            gaps.filter(|part| !want.asked.contains_key(part)).take(PARTS_MAX).collect()
        }
    };
    parts.into_iter().filter(|part| !want.asked.contains_key(part)).collect()
}

fn release(peers: &mut BTreeMap<PeerId, usize>, peer: &PeerId) {
    if let Some(load) = peers.get_mut(peer) {
        *load = load.saturating_sub(1);
    }
}
