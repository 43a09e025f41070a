//! What each peer said of each envelope, and everything that follows from it, kept up to date.

use std::time::Duration;

use rand_core::Rng;
use tokio::time::Instant;
use walytis_core::id::PeerId;

use super::want::{Holder, HolderState};
use super::{Machine, Output, set_member};
use crate::envelope::EnvelopeId;

/// First back-off. Chosen: holders that are just fetching it have it soon.
const BACK_OFF: Duration = Duration::from_millis(250);
/// Longest back-off.
const BACK_OFF_MAX: Duration = Duration::from_secs(60);

impl Machine {
    pub(super) fn introduce(&mut self, id: &EnvelopeId, peer: &PeerId) {
        let Some(want) = self.wants.get_mut(id) else { return };
        want.holders.insert(peer.clone(), Holder { state: HolderState::Fresh, failures: 0 });
        want.hopeful += 1;
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.fresh.insert(*id);
        }
    }

    /// What a peer sent was right.
    pub(super) fn vindicate(&mut self, peer: &PeerId, id: &EnvelopeId) {
        let Some(want) = self.wants.get(id) else { return };
        let Some(holder) = want.holders.get(peer).copied() else { return };
        // Who has some of it is being asked, or will be soon, how much it has by now.
        let asks = matches!(holder.state, HolderState::Fresh | HolderState::Asked(_) | HolderState::Drained(_));
        let state = if asks && want.is_partial(peer) { holder.state } else { HolderState::Has };
        self.set_holder(id, peer, Holder { state, failures: 0 });
    }

    /// Sees to it that peers that have no more of what is missing here are asked again.
    pub(super) fn put_off_drained(&mut self, now: Instant) {
        for (id, peer) in std::mem::take(&mut self.drained) {
            let Some(want) = self.wants.get(&id).filter(|want| want.has_gaps() && !want.has_gap_for(&peer)) else {
                continue;
            };
            let Some(holder) = want.holders.get(&peer).copied() else { continue };
            if holder.state == HolderState::Has {
                self.set_holder(&id, &peer, Holder { state: HolderState::Drained(now + BACK_OFF), ..holder });
            }
        }
    }

    pub(super) fn fail(&mut self, id: &EnvelopeId, peer: &PeerId, now: Instant, rng: &mut impl Rng) {
        let Some(holder) = self.wants.get(id).and_then(|want| want.holders.get(peer)).copied() else { return };
        let until = now + back_off(holder.failures, rng);
        let failures = holder.failures.saturating_add(1);
        self.set_holder(id, peer, Holder { state: HolderState::NotUntil(until), failures });
    }

    /// Sets what a peer said, and keeps everything that follows from it up to date.
    pub(super) fn set_holder(&mut self, id: &EnvelopeId, peer: &PeerId, new: Holder) {
        let Some(want) = self.wants.get_mut(id) else { return };
        let Some(old) = want.holders.insert(peer.clone(), new) else { return };
        want.hopeful += usize::from(new.state.is_hopeful());
        want.hopeful -= usize::from(old.state.is_hopeful());
        if let Some(due) = old.state.due() {
            self.timers.remove(&(due, *id, peer.clone()));
        }
        if let Some(due) = new.state.due() {
            self.timers.insert((due, *id, peer.clone()));
        }
        let has = new.state == HolderState::Has;
        let ready = has && want.has_gap_for(peer);
        if has && !ready && want.has_gaps() {
            self.drained.insert((*id, peer.clone()));
        }
        if let Some(peer) = self.peers.get_mut(peer) {
            set_member(&mut peer.fresh, *id, new.state == HolderState::Fresh);
            set_member(&mut peer.ready, *id, ready);
        }
        if has || want.hopeful == 0 {
            self.update_hope(id);
        }
    }

    /// After gaps came or went: which holders can be asked for a part.
    pub(super) fn update_ready(&mut self, id: &EnvelopeId) {
        let Some(want) = self.wants.get(id) else { return };
        for (name, _) in want.holders.iter().filter(|(_, holder)| holder.state == HolderState::Has) {
            let ready = want.has_gap_for(name);
            if !ready && want.has_gaps() {
                self.drained.insert((*id, name.clone()));
            }
            if let Some(peer) = self.peers.get_mut(name) {
                set_member(&mut peer.ready, *id, ready);
            }
        }
    }

    /// Tells when nobody is left who may have it, and when somebody is again. A peer that said no before and is asked
    /// again raises no hope until it says yes.
    pub(super) fn update_hope(&mut self, id: &EnvelopeId) {
        let Some(want) = self.wants.get_mut(id) else { return };
        let raises = |holder: &Holder| holder.state == HolderState::Has || holder.failures == 0;
        let is = if want.hopeful == 0 {
            true
        } else {
            want.unavailable && !want.holders.values().any(|holder| holder.state.is_hopeful() && raises(holder))
        };
        if want.unavailable != is {
            want.unavailable = is;
            set_member(&mut self.unavailable, *id, is);
            self.outputs.push_back(Output::Unavailable { id: *id, is });
        }
    }
}

/// Doubles from [`BACK_OFF`] to [`BACK_OFF_MAX`], less up to a quarter by chance: many envelopes are not asked for again
/// at the same moment.
fn back_off(failures: u32, rng: &mut impl Rng) -> Duration {
    let factor = 1_u32.checked_shl(failures.min(16)).unwrap_or(u32::MAX);
    let full = BACK_OFF.saturating_mul(factor).min(BACK_OFF_MAX);
    full - full * (rng.next_u32() % 256) / 1_024
}
