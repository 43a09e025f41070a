//! Catching up with the peers of one chain: the pure state machine. No I/O, no clock: `now` and the generator are
//! arguments, effects are [`Output`]s that the driver takes after every input.
//!
//! Each side tells its heads when a channel opens and again, a little later, when they have changed in a way that
//! the other side may not know. A side that lacks heads of somebody gives one peer a *lane*:
//!
//! ```text
//!            unknown heads                  first blocks
//!   free ───────────────────► offered ─────────────────────► receiving ──last──► free
//!     ▲    hello with credit     │ diverged                      ▲   │ long, and others have the same heads
//!     │                          ▼                               │   ▼
//!     │                       walking ── few steps ── want ──────┤  plan: several lanes, each with a part of its own
//!     │                          │ too much for a walk           │
//!     │                       comparing ranges ── fetch ─────────┤
//!     │                          │ no result                     │
//!     │                       listing ids ─────── fetch ─────────┘
//!     └── deadline passed, peer gone: back-off for that peer, next provider
//! ```
//!
//! So nothing is fetched twice: one lane at a time, or parts that do not overlap of one difference between sets that
//! both sides name by their heads. Whether ids are known is looked up by the driver before it hands an answer in; known
//! since then is harmless.

mod find;
mod lane;
mod plan;
mod remote;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand_core::Rng;
use tokio::time::Instant;

use super::codec_v1::{HELLO_HEADS_MAX, Hello, Message, ShortId, WALK_IDS_MAX, Want};
use crate::graph::CanonicalKey;
use crate::id::{BlockId, Digest, PeerId};
pub(crate) use find::Compared;
use lane::{BARREN_MAX, Lane, Phase};
use plan::{LANES_MAX, Plan, SHARED_FROM, TARGET_MAX};
pub(crate) use remote::backoff;
use remote::{Method, Remote};

/// Bytes of block files that may be under way to this replica from one peer. Chosen: covers 100 ms at 40 MB/s.
pub(crate) const WINDOW: u32 = 4 * 1024 * 1024;
/// How long a change of heads is held back, so that a burst is told once. Chosen: below what people notice.
const TELL_AFTER: Duration = Duration::from_millis(150);
/// Heads from which on only their digest is told to a peer that probably has the same. Chosen: both cost the same bytes
/// at about two.
const LEVEL_FROM: usize = 8;
/// Heads of a peer that are remembered as unknown here. Chosen: more than a walk can start from.
const UNKNOWN_MAX: usize = 8_192;
/// How long peers are not asked to share the work after that brought nothing.
const SHARE_AGAIN: Duration = Duration::from_secs(60);

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Send this.
    Send { peer: PeerId, message: Message },
    /// Stream to the peer whatever it lacks, given that it has `have`; `credit` bytes at once.
    Serve { peer: PeerId, round: u32, have: Vec<BlockId>, credit: u32 },
    /// Look up which of these are still unknown and call [`CatchUp::handle_unknown`].
    Recheck { peer: PeerId, ids: Vec<BlockId> },
    /// Send the first message of a reconciliation.
    Compare { peer: PeerId, round: u32 },
}

/// A chain as one side sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) count: u64,
    pub(crate) generation: u64,
    /// Ascending.
    pub(crate) heads: Vec<BlockId>,
}

impl View {
    /// Returns the digest of all heads.
    fn digest(&self) -> Digest {
        let bytes: Vec<u8> = self.heads.iter().flat_map(|head| head.digest()).copied().collect();
        Digest::of(&bytes)
    }
}

/// What [`CatchUp::handle_blocks`] is told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received {
    pub(crate) round: u32,
    pub(crate) last: bool,
    /// Bytes of the files.
    pub(crate) bytes: u32,
    /// How many entered.
    pub(crate) admitted: usize,
    /// How many wait for others.
    pub(crate) held: usize,
    /// The last one in canonical order.
    pub(crate) reached: Option<CanonicalKey>,
    /// With the last: heads of the peer that are still unknown here.
    pub(crate) unknown: Vec<BlockId>,
}

/// The machine of one chain.
#[derive(Debug)]
pub(crate) struct CatchUp {
    view: View,
    remotes: BTreeMap<PeerId, Remote>,
    lanes: BTreeMap<PeerId, Lane>,
    plan: Option<Plan>,
    share_after: Option<Instant>,
    round: u32,
    tell_at: Option<Instant>,
    outputs: VecDeque<Output>,
}

impl CatchUp {
    /// Returns the machine of a chain that looks like `view` here.
    pub(crate) const fn new(view: View) -> Self {
        Self {
            view,
            remotes: BTreeMap::new(),
            lanes: BTreeMap::new(),
            plan: None,
            share_after: None,
            round: 0,
            tell_at: None,
            outputs: VecDeque::new(),
        }
    }

    /// Returns the next thing to do.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when [`Self::handle_timeout`] wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let retry = self.remotes.values().filter(|remote| !remote.unknown.is_empty()).filter_map(|r| r.retry_at);
        let deadline = self.lanes.values().map(|lane| lane.deadline).min();
        // While a lane is taken nobody else is asked; its deadline comes first.
        let retry = if self.lanes.is_empty() { retry.min() } else { None };
        [retry, deadline, self.tell_at].into_iter().flatten().min()
    }

    /// Says whether this peer shows the same heads.
    pub(crate) fn is_level(&self, peer: &PeerId) -> bool {
        self.remotes.get(peer).is_some_and(|remote| remote.is_level(&self.view))
    }

    /// Says whether the peer showed blocks that are not here.
    pub(crate) fn is_ahead(&self, peer: &PeerId) -> bool {
        self.remotes.get(peer).is_some_and(|remote| !remote.unknown.is_empty())
    }

    /// Returns the blocks that the peer showed and that are not here as far as is known.
    pub(crate) fn unknown_of(&self, peer: &PeerId) -> Vec<BlockId> {
        self.remotes.get(peer).map(|remote| remote.unknown.iter().copied().collect()).unwrap_or_default()
    }

    /// Says whether this peer has its turn, and answers in this round are waited for.
    pub(crate) fn awaits(&self, peer: &PeerId, round: u32) -> bool {
        self.lanes.get(peer).is_some_and(|lane| lane.round == round)
    }

    /// A channel to this peer is open.
    pub(crate) fn handle_up(&mut self, peer: PeerId, now: Instant) {
        self.remotes.insert(peer.clone(), Remote::default());
        self.forget_lane(&peer);
        // If nobody streams now, this peer may at once: one round trip when it is ahead.
        if self.is_idle() { self.begin(peer, now) } else { self.tell(&peer, 0) }
    }

    /// The channel is gone.
    pub(crate) fn handle_down(&mut self, peer: &PeerId, now: Instant) {
        self.remotes.remove(peer);
        if self.forget_lane(peer) {
            self.next(now);
        }
    }

    /// The peer told its heads; `unknown` are those that are not here.
    pub(crate) fn handle_hello(&mut self, peer: &PeerId, hello: Hello, unknown: Vec<BlockId>, now: Instant) {
        let Some(remote) = self.remotes.get_mut(peer) else { return };
        // Both ascend, or the peer only hurts itself.
        remote.holds = self.view.heads.iter().filter(|id| hello.heads.binary_search(id).is_ok()).copied().collect();
        remote.unknown = unknown.into_iter().take(UNKNOWN_MAX).collect();
        let behind = !remote.unknown.is_empty();
        let view = View { count: hello.count, generation: hello.generation, heads: hello.heads };
        let heads = view.heads.clone();
        remote.view = Some(view);
        let (same, told) = (heads == self.view.heads, remote.told.as_ref() == Some(&self.view.heads));
        let known = remote.was_told(&self.view);
        if hello.credit > 0 && behind {
            self.send(peer, Message::Diverged { round: hello.round });
        } else if hello.credit > 0 {
            let output = Output::Serve { peer: peer.clone(), round: hello.round, have: heads, credit: hello.credit };
            self.outputs.push_back(output);
        }
        match (same, told) {
            (true, _) if !known => self.hint(peer),
            (false, false) => self.tell(peer, 0),
            _ => {}
        }
        match self.lanes.get(peer).filter(|lane| lane.phase == Phase::Offered && lane.span.is_none()) {
            Some(_) if !behind => {
                self.lanes.remove(peer);
                self.next(now);
            }
            Some(_) => {}
            None => self.next(now),
        }
    }

    /// The peer told the digest of its heads.
    pub(crate) fn handle_same(&mut self, peer: &PeerId, digest: Digest, now: Instant) {
        let same = digest == self.view.digest();
        let Some(remote) = self.remotes.get_mut(peer) else { return };
        if same {
            remote.holds = self.view.heads.iter().copied().collect();
            remote.unknown.clear();
            remote.view = Some(self.view.clone());
            if !remote.was_told(&self.view) {
                self.hint(peer);
            }
        } else {
            // Told with the next burst, so that this cannot be asked for without end.
            remote.owed = true;
            self.tell_at = self.tell_at.or(Some(now + TELL_AFTER));
        }
    }

    /// Block files of `bytes` came and `admitted` of them entered; with the last, `unknown` are the peer's heads that
    /// are still not here.
    pub(crate) fn handle_blocks(&mut self, peer: &PeerId, blocks: &Received, now: Instant, rng: &mut impl Rng) {
        let patience = self.patience(peer);
        let Some(lane) = self.lanes.get_mut(peer).filter(|lane| lane.round == blocks.round) else { return };
        lane.phase = Phase::Receiving;
        if blocks.admitted > 0 || (lane.span.is_some() && blocks.held > 0) {
            lane.fruitful = now;
        }
        lane.prolong(u64::from(blocks.bytes), patience, now);
        lane.admitted += blocks.admitted;
        lane.received(blocks.bytes);
        lane.reached = lane.reached.max(blocks.reached);
        match (blocks.last, lane.span.is_some()) {
            (false, _) => self.go_on(peer, blocks.bytes, now),
            (true, true) => self.part_done(peer, now),
            (true, false) if !lane.need.is_empty() => self.fetch(peer),
            (true, false) => self.finish(peer, blocks, now, rng),
        }
    }

    /// Allows more, unless others are to help or much waits for a lower part.
    fn go_on(&mut self, peer: &PeerId, bytes: u32, now: Instant) {
        let share = self.may_share(peer, now);
        let lowest = self.lanes.values().filter_map(|lane| lane.span).map(|span| span.after).min();
        let Some(lane) = self.lanes.get_mut(peer) else { return };
        lane.draining |= share;
        if lane.is_drained() {
            return self.share(peer, now);
        }
        if lane.draining {
            return;
        }
        if lane.span.is_some_and(|span| Some(span.after) != lowest) && lane.is_ahead_of_itself() {
            lane.withhold(bytes);
            lane.deadline = now + BARREN_MAX;
            return;
        }
        lane.grant(bytes);
        let message = Message::Credit { round: lane.round, bytes };
        self.send(peer, message);
    }

    /// The turn of a peer is over.
    fn finish(&mut self, peer: &PeerId, blocks: &Received, now: Instant, rng: &mut impl Rng) {
        let Some(lane) = self.lanes.remove(peer) else { return };
        if let Some(remote) = self.remotes.get_mut(peer) {
            remote.unknown = blocks.unknown.iter().take(UNKNOWN_MAX).copied().collect();
            if lane.admitted > 0 || remote.unknown.is_empty() {
                remote.succeeded();
                remote.settled = true;
                self.tell_at = self.tell_at.or(Some(now + TELL_AFTER));
            } else {
                remote.failed(now, rng);
                if lane.diverged {
                    remote.escalate();
                }
            }
        }
        self.next(now);
    }

    /// A peer named blocks that are not here, outside of a hello.
    pub(crate) fn handle_hint(&mut self, peer: &PeerId, ids: &[BlockId], now: Instant) {
        let Some(remote) = self.remotes.get_mut(peer) else { return };
        let room = UNKNOWN_MAX.saturating_sub(remote.unknown.len());
        remote.unknown.extend(ids.iter().take(room));
        self.next(now);
    }

    /// Answers [`Output::Recheck`].
    pub(crate) fn handle_unknown(&mut self, peer: &PeerId, unknown: Vec<BlockId>, now: Instant) {
        let Some(remote) = self.remotes.get_mut(peer) else { return };
        remote.unknown = unknown.into_iter().collect();
        let ready = remote.is_ready(now);
        if remote.unknown.is_empty() {
            remote.succeeded();
            self.next(now);
        } else if ready && self.is_idle() {
            self.begin(peer.clone(), now);
        }
    }

    /// What [`Output::Recheck`] asks for cannot be looked up now: later again, or a store that fails would be asked
    /// without a pause.
    pub(crate) fn handle_unreadable(&mut self, peer: &PeerId, now: Instant, rng: &mut impl Rng) {
        if let Some(remote) = self.remotes.get_mut(peer) {
            remote.failed(now, rng);
        }
    }

    /// Blocks were admitted here: `origin` sent them, or nobody.
    pub(crate) fn handle_local(&mut self, view: View, ids: &[BlockId], origin: Option<&PeerId>, now: Instant) {
        self.view = view;
        for (peer, remote) in &mut self.remotes {
            if Some(peer) == origin {
                remote.holds.extend(ids);
            }
            // Whoever holds all heads holds everything; only heads need remembering.
            remote.holds.retain(|id| self.view.heads.binary_search(id).is_ok());
        }
        if self.tell_at.is_none() && self.remotes.values().any(|remote| !remote.holds_all(&self.view)) {
            self.tell_at = Some(now + TELL_AFTER);
        }
    }

    /// Tells the heads without holding them back.
    pub(crate) const fn hurry(&mut self, now: Instant) {
        self.tell_at = Some(now);
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant, rng: &mut impl Rng) {
        let late: Vec<_> = self.lanes.iter().filter(|(_, lane)| lane.deadline <= now).map(|(p, _)| p.clone()).collect();
        for peer in &late {
            let silent = self.lanes.get(peer).is_some_and(|lane| lane.phase != Phase::Receiving);
            self.forget_lane(peer);
            if let Some(remote) = self.remotes.get_mut(peer) {
                remote.failed(now, rng);
                // The way taken may be too long for it.
                if silent {
                    remote.escalate();
                }
            }
        }
        if !late.is_empty() || self.lanes.is_empty() {
            self.next(now);
        }
        if self.tell_at.is_some_and(|at| at <= now) {
            self.tell_at = None;
            self.tell_all();
        }
    }

    /// Tells the heads to everybody who may not know them.
    fn tell_all(&mut self) {
        let news = |remote: &Remote| remote.settled || !remote.holds_all(&self.view);
        let stale = |remote: &Remote| remote.owed || (news(remote) && !remote.was_told(&self.view));
        let peers: Vec<_> = self.remotes.iter().filter(|(_, r)| stale(r)).map(|(p, _)| p.clone()).collect();
        for peer in peers {
            let Some(remote) = self.remotes.get_mut(&peer) else { continue };
            let owed = std::mem::take(&mut remote.owed);
            let settled = std::mem::take(&mut remote.settled) && remote.holds_all(&self.view);
            if owed || !remote.unknown.is_empty() || (self.view.heads.len() < LEVEL_FROM && !settled) {
                self.tell(&peer, 0);
            } else {
                self.hint(&peer);
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.lanes.is_empty() && self.plan.is_none()
    }

    /// Looks for somebody to ask, if nobody is: the driver first checks what is still lacking.
    fn next(&mut self, now: Instant) {
        self.staff(now);
        if !self.is_idle() {
            return;
        }
        let ready = self.remotes.iter().filter(|(_, remote)| remote.is_ready(now));
        let best = ready.min_by_key(|(_, remote)| remote.failures).map(|(peer, _)| peer.clone());
        let Some(peer) = best else { return };
        let recheck = Output::Recheck { ids: self.unknown_of(&peer), peer };
        if !self.outputs.contains(&recheck) {
            self.outputs.push_back(recheck);
        }
    }

    fn begin(&mut self, peer: PeerId, now: Instant) {
        self.round = self.round.wrapping_add(1);
        let have = self.view.heads.iter().take(WALK_IDS_MAX).map(ShortId::of).collect();
        self.lanes.insert(peer.clone(), Lane::new(self.round, have, now));
        let other_way = |remote: &Remote| remote.method != Method::Walk && remote.view.is_some();
        if self.remotes.get(&peer).is_some_and(other_way) {
            self.find_out(&peer, now);
        } else {
            self.tell(&peer, WINDOW);
        }
    }

    fn tell(&mut self, peer: &PeerId, credit: u32) {
        let View { count, generation, heads } = self.view.clone();
        let heads: Vec<_> = heads.into_iter().take(HELLO_HEADS_MAX).collect();
        if let Some(remote) = self.remotes.get_mut(peer) {
            remote.told = Some(self.view.heads.clone());
        }
        let round = if credit > 0 { self.round } else { 0 };
        self.send(peer, Message::Hello(Hello { round, count, generation, heads, credit }));
    }

    /// Tells the digest of the heads.
    fn hint(&mut self, peer: &PeerId) {
        if let Some(remote) = self.remotes.get_mut(peer) {
            remote.hinted = Some(self.view.heads.clone());
        }
        let message = Message::Level { count: self.view.count, digest: self.view.digest() };
        self.send(peer, message);
    }

    fn send(&mut self, peer: &PeerId, message: Message) {
        self.outputs.push_back(Output::Send { peer: peer.clone(), message });
    }

    fn lane_of(&mut self, peer: &PeerId, round: u32, phase: Phase) -> Option<&mut Lane> {
        self.lanes.get_mut(peer).filter(|lane| lane.round == round && lane.phase == phase)
    }

    /// Returns how many times longer a turn of this peer may be: more after each failure, so that an honest peer with
    /// very much to go through comes to its end; not while one that failed less often waits.
    fn patience(&self, peer: &PeerId) -> u32 {
        let failures = self.remotes.get(peer).map_or(0, |remote| remote.failures);
        let better = |remote: &Remote| !remote.unknown.is_empty() && remote.failures < failures;
        if self.remotes.values().any(better) { 1 } else { 1 << failures.min(6) }
    }

    fn forget_lane(&mut self, peer: &PeerId) -> bool {
        let Some(lane) = self.lanes.remove(peer) else { return false };
        if let (Some(plan), Some(rest)) = (&mut self.plan, lane.rest()) {
            plan.admitted += lane.admitted;
            plan.give_back(rest);
        }
        true
    }
}

#[cfg(test)]
mod tests;
