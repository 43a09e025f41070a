//! Finding out what a peer has and this side lacks, and sharing the work among several.

use tokio::time::Instant;

use super::lane::{ANSWER_WITHIN, Lane, Phase};
use super::{CatchUp, LANES_MAX, Method, Output, Plan, SHARE_AGAIN, SHARED_FROM, TARGET_MAX, WINDOW};
use super::{Message, ShortId, WALK_IDS_MAX, Want};
use crate::id::{BlockId, PeerId};
use bytes::Bytes;

/// Ids in the first step of a walk; four times as many in each next one. Chosen: a hundred blocks of one writer are found
/// in one step, for less than a kilobyte.
const WALK_FIRST: u32 = 100;
/// Ids that a walk can start from. Chosen: more branches are better compared.
const WALK_FROM_MAX: usize = 256;
/// Steps of one walk; then ranges are compared. Chosen: what comparing costs at least.
const WALK_STEPS_MAX: u32 = 3;
/// Messages of one reconciliation. Chosen: sixteen parts each make 2^64 blocks; what did not fit a message adds some.
const COMPARE_STEPS_MAX: u32 = 64;
/// Ids that are collected before blocks are asked for. Chosen: 5 MB; what is above follows in the next turn.
const NEED_MAX: usize = 131_072;
/// Ids of one fetch. Chosen: 128 KiB.
const FETCH_IDS: usize = 4_096;
/// Bytes of an id in an answer.
const ID_BYTES: u64 = 32;

/// What comparing ranges found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Compared {
    /// What only the peer has, each with a generation that it is below.
    pub(crate) need: Vec<(u64, BlockId)>,
    /// The next message.
    pub(crate) next: Option<Bytes>,
    /// Bytes of the answer.
    pub(crate) bytes: u64,
}

impl CatchUp {
    /// The peer lacks some of the heads that this side named.
    pub(crate) fn handle_diverged(&mut self, peer: &PeerId, round: u32, now: Instant) {
        let Some(lane) = self.lane_of(peer, round, Phase::Offered) else { return };
        if lane.span.is_some() {
            // It has other blocks than those who share the work.
            let since = self.plan.as_ref().map(|plan| plan.since);
            if let Some(remote) = self.remotes.get_mut(peer) {
                remote.unfit = since;
            }
            self.forget_lane(peer);
            return self.next(now);
        }
        let again = lane.diverged;
        let Some(remote) = self.remotes.get_mut(peer).filter(|remote| !remote.unknown.is_empty()) else {
            // Its own hello is still under way, or it turned out that nothing is lacking.
            return;
        };
        if again {
            remote.escalate();
        }
        self.find_out(peer, now);
    }

    pub(super) fn find_out(&mut self, peer: &PeerId, now: Instant) {
        let patience = self.patience(peer);
        let Some(remote) = self.remotes.get(peer) else { return };
        let heads = remote.view.as_ref().map(|view| view.heads.as_slice()).unwrap_or_default();
        let all = remote.unknown.len() * 2 >= heads.len() && remote.unknown.iter().all(|id| heads.contains(id));
        let from: Vec<_> = if all { Vec::new() } else { remote.unknown.iter().map(ShortId::of).collect() };
        // Its walk begins at the others.
        let known = heads.iter().filter(|id| !remote.unknown.contains(id)).take(WALK_IDS_MAX);
        let have = known.map(ShortId::of).collect();
        let walk = remote.method == Method::Walk && remote.unknown.len() <= WALK_FROM_MAX;
        let list = remote.method == Method::List;
        let Some(lane) = self.lanes.get_mut(peer) else { return };
        lane.diverged = true;
        lane.prolong(0, patience, now);
        lane.have = have;
        if walk {
            lane.phase = Phase::Walking;
            let round = lane.round;
            self.send(peer, Message::Walk { round, from, limit: WALK_FIRST });
        } else if list {
            self.list(peer);
        } else {
            self.compare(peer);
        }
    }

    fn compare(&mut self, peer: &PeerId) {
        let Some(lane) = self.lanes.get_mut(peer) else { return };
        (lane.phase, lane.steps) = (Phase::Comparing, 0);
        lane.have.clear();
        let round = lane.round;
        self.outputs.push_back(Output::Compare { peer: peer.clone(), round });
    }

    fn list(&mut self, peer: &PeerId) {
        let Some(lane) = self.lanes.get_mut(peer) else { return };
        lane.phase = Phase::Listing;
        lane.need.clear();
        let message = Message::ListAsk { round: lane.round, after: (0, BlockId::from_digest([0xff; 32])) };
        self.send(peer, message);
    }

    /// A step of the walk of `bytes`: `have` are ids of it that are here and whose children in it are not, `next` the ones
    /// to go on from.
    pub(crate) fn handle_ids(
        &mut self,
        peer: &PeerId,
        round: u32,
        have: Vec<ShortId>,
        next: Vec<ShortId>,
        now: Instant,
    ) {
        let patience = self.patience(peer);
        let Some(lane) = self.lane_of(peer, round, Phase::Walking) else { return };
        lane.prolong((have.len() + next.len()) as u64 * 6, patience, now);
        lane.have.extend(have);
        lane.steps += 1;
        if lane.have.len() > WALK_IDS_MAX || (!next.is_empty() && lane.steps >= WALK_STEPS_MAX) {
            return self.compare(peer);
        }
        let message = if next.is_empty() {
            lane.phase = Phase::Offered;
            let have = lane.have.clone();
            Message::Want(Want { round, have, target: Vec::new(), span: None, credit: WINDOW })
        } else if next.len() <= WALK_FROM_MAX {
            let limit = WALK_FIRST.saturating_mul(1 << (2 * lane.steps).min(8));
            Message::Walk { round, from: next, limit }
        } else {
            return self.compare(peer);
        };
        self.send(peer, message);
    }

    /// Ranges were compared; nothing if that was not possible.
    pub(crate) fn handle_compared(&mut self, peer: &PeerId, round: u32, compared: Option<Compared>, now: Instant) {
        let patience = self.patience(peer);
        let Some(lane) = self.lane_of(peer, round, Phase::Comparing) else { return };
        let Some(Compared { need, next, bytes }) = compared else { return self.list(peer) };
        lane.prolong(bytes, patience, now);
        lane.steps += 1;
        let room = NEED_MAX.saturating_sub(lane.need.len());
        lane.need.extend(need.into_iter().take(room));
        let more = lane.steps < COMPARE_STEPS_MAX && lane.need.len() < NEED_MAX;
        match next.filter(|_| more) {
            Some(body) => self.send(peer, Message::RangeAsk { round, body }),
            None if lane.need.is_empty() => self.list(peer),
            None => {
                // Parents first, as far as ranges tell them apart; whoever serves sorts each fetch.
                lane.need.sort_unstable();
                lane.need.dedup();
                self.fetch(peer);
            }
        }
    }

    /// Ids came in canonical order: `unknown` of them are not here; `next` is where to go on.
    pub(crate) fn handle_list(
        &mut self,
        peer: &PeerId,
        round: u32,
        unknown: Vec<BlockId>,
        next: Option<(u64, BlockId)>,
        now: Instant,
    ) {
        let patience = self.patience(peer);
        let Some(lane) = self.lane_of(peer, round, Phase::Listing) else { return };
        lane.prolong(unknown.len() as u64 * ID_BYTES, patience, now);
        let room = NEED_MAX.saturating_sub(lane.need.len());
        let order = lane.need.len() as u64;
        lane.need.extend(unknown.into_iter().take(room).zip(order..).map(|(id, order)| (order, id)));
        match next.filter(|_| lane.need.len() < NEED_MAX) {
            Some(after) => self.send(peer, Message::ListAsk { round, after }),
            // With nothing to ask for, the turn ends by its deadline.
            None if lane.need.is_empty() => {}
            None => self.fetch(peer),
        }
    }

    /// Asks for the next of what only the peer has.
    pub(super) fn fetch(&mut self, peer: &PeerId) {
        let Some(lane) = self.lanes.get_mut(peer) else { return };
        lane.phase = Phase::Offered;
        let count = lane.need.len().min(FETCH_IDS);
        let ids = lane.need.drain(..count).map(|(_, id)| id).collect();
        let message = Message::Fetch { round: lane.round, ids, credit: WINDOW };
        self.send(peer, message);
    }

    /// Says whether the rest of what this peer streams is long and others have it too.
    pub(super) fn may_share(&self, peer: &PeerId, now: Instant) -> bool {
        let Some(lane) = self.lanes.get(peer).filter(|lane| lane.span.is_none() && lane.reached.is_some()) else {
            return false;
        };
        let Some(view) = self.remotes.get(peer).and_then(|remote| remote.view.as_ref()) else { return false };
        let long = view.count.saturating_sub(self.view.count) >= SHARED_FROM;
        let named = !lane.have.is_empty() && view.heads.len() <= TARGET_MAX;
        let same = |(other, remote): (&PeerId, &super::Remote)| {
            other != peer && remote.is_ready(now) && remote.view.as_ref().is_some_and(|other| other.heads == view.heads)
        };
        self.plan.is_none()
            && self.lanes.len() == 1
            && long
            && named
            && self.share_after.is_none_or(|at| at <= now)
            && self.remotes.iter().any(same)
    }

    /// The peer has sent all that it was allowed: the rest is cut into parts.
    pub(super) fn share(&mut self, peer: &PeerId, now: Instant) {
        let Some(lane) = self.lanes.remove(peer) else { return };
        let view = self.remotes.get(peer).and_then(|remote| remote.view.as_ref());
        if let (Some(view), Some(reached)) = (view, lane.reached) {
            let left = view.count.saturating_sub(self.view.count);
            let mut plan = Plan::new(view.heads.clone(), lane.have, reached, view.generation, left, self.round);
            plan.admitted = lane.admitted;
            self.plan = Some(plan);
        }
        self.next(now);
    }

    /// A part has come whole.
    pub(super) fn part_done(&mut self, peer: &PeerId, now: Instant) {
        let Some(lane) = self.lanes.remove(peer) else { return };
        if let Some(plan) = &mut self.plan {
            plan.admitted += lane.admitted;
        }
        if let Some(remote) = self.remotes.get_mut(peer) {
            remote.succeeded();
            remote.settled = true;
        }
        self.next(now);
    }

    /// Gives parts to everybody who may have them; ends the plan when there are none, or nobody is left.
    pub(super) fn staff(&mut self, now: Instant) {
        while let Some(plan) = &mut self.plan
            && self.lanes.len() < LANES_MAX
        {
            let fits = |(peer, remote): &(&PeerId, &super::Remote)| {
                !self.lanes.contains_key(*peer) && remote.is_ready(now) && remote.unfit != Some(plan.since)
            };
            let candidates = self.remotes.iter().filter(fits).count();
            let best = self.remotes.iter().filter(fits).min_by_key(|(_, remote)| remote.failures);
            let best = best.map(|(peer, _)| peer.clone());
            let alone = candidates == 1 && self.lanes.is_empty();
            let part = best.and_then(|peer| Some((peer, plan.take(&self.lanes, alone)?)));
            let Some((peer, span)) = part else { break };
            self.round = self.round.wrapping_add(1);
            let mut lane = Lane::new(self.round, plan.have.clone(), now);
            lane.span = Some(span);
            let (have, target) = (plan.have.clone(), plan.target.clone());
            let want = Want { round: self.round, have, target, span: Some(span), credit: WINDOW };
            self.lanes.insert(peer.clone(), lane);
            self.send(&peer, Message::Want(want));
        }
        self.release_lowest(now);
        if self.lanes.is_empty()
            && let Some(plan) = self.plan.take()
        {
            let fruitless = plan.admitted == 0 || !plan.is_handed_out();
            self.share_after = fruitless.then(|| now + SHARE_AGAIN);
        }
    }

    /// What the lowest part needs is never held back.
    fn release_lowest(&mut self, now: Instant) {
        let parts = self.lanes.iter_mut().filter_map(|(peer, lane)| Some((lane.span?.after, peer.clone(), lane)));
        let Some((_, peer, lane)) = parts.min_by_key(|(after, ..)| *after) else { return };
        let (bytes, round) = (lane.release(), lane.round);
        if bytes > 0 {
            lane.deadline = now + ANSWER_WITHIN;
            self.send(&peer, Message::Credit { round, bytes });
        }
    }
}
