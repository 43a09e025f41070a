//! Catching up with the peers of one chain: the pure state machine. No I/O, no clock: `now` and the generator are
//! arguments, effects are [`Output`]s that the driver takes after every input.
//!
//! Each side tells its heads when a channel opens and again, a little later, when they have changed in a way that
//! the other side may not know. A side that lacks heads of somebody takes the *lane* (one per chain, so nothing is
//! fetched twice) and asks one peer:
//!
//! ```text
//!            unknown heads                  first blocks
//!   free ───────────────────► offered ─────────────────────► receiving ──last──► free
//!     ▲    hello with credit     │ diverged                      ▲
//!     │                          ▼                               │ want { have }
//!     │                       walking ── ids ──► … ──────────────┘
//!     └── deadline passed, peer gone: back-off for that peer, next provider
//! ```
//!
//! Whether ids are known is looked up by the driver before it hands an answer in; known since then is harmless.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rand_core::Rng;
use tokio::time::Instant;

use super::codec_v1::{Hello, Message, WALK_IDS_MAX};
use crate::id::{BlockId, PeerId};

/// Bytes of block files that may be under way to this replica. Chosen: covers 100 ms at 40 MB/s.
pub(crate) const WINDOW: u32 = 4 * 1024 * 1024;
/// How long an answer or the next blocks may take. Chosen: several round trips of the slowest links, and the walk.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// A turn may not last longer than this and the time that its bytes take at the slowest pace. Chosen: a walk over the
/// slowest links.
const TURN_GRACE: Duration = Duration::from_secs(30);
/// Slowest pace of a turn, in bytes a second; a peer that trickles gives way to others and is tried again later, from
/// where it was. Chosen: half of what the slowest mobile links carry.
const PACE_MIN: u64 = 4 * 1024;
/// How long a turn may go on without a block that enters: a peer must not hold it with what is here already.
const BARREN_MAX: Duration = Duration::from_secs(60);
/// Bytes of an id in an answer, with its generation.
const ID_BYTES: u64 = 36;
/// How long a change of heads is held back, so that a burst is told once. Chosen: below what people notice.
const TELL_AFTER: Duration = Duration::from_millis(150);
/// First and longest back-off towards a peer that gave nothing.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LONGEST: Duration = Duration::from_secs(60);
/// Ids in the first step of a walk; doubles with every step.
const WALK_FIRST: u32 = 64;
/// Steps of one walk. Chosen: with the doubling, a quarter of a million ids; then blocks are asked for anyway.
const WALK_STEPS_MAX: u32 = 40;
/// Heads of a peer that are remembered as unknown here. Chosen: what one walk can start from.
const UNKNOWN_MAX: usize = WALK_IDS_MAX;

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Send this.
    Send { peer: PeerId, message: Message },
    /// Stream to the peer whatever it lacks, given that it has `have`; `credit` bytes at once.
    Serve { peer: PeerId, round: u32, have: Vec<BlockId>, credit: u32 },
    /// Look up which of these are still unknown and call [`CatchUp::handle_unknown`].
    Recheck { peer: PeerId, ids: Vec<BlockId> },
}

/// A chain as one side sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) count: u64,
    pub(crate) generation: u64,
    /// Ascending.
    pub(crate) heads: Vec<BlockId>,
}

#[derive(Debug, Default)]
struct Remote {
    /// What it told last.
    view: Option<View>,
    /// Those of its heads (and hints) that are unknown here.
    unknown: BTreeSet<BlockId>,
    /// Those of our heads that it is known to hold.
    holds: BTreeSet<BlockId>,
    /// Our heads as we told it last.
    told: Option<Vec<BlockId>>,
    failures: u32,
    retry_at: Option<Instant>,
}

#[derive(Debug)]
struct Lane {
    peer: PeerId,
    round: u32,
    phase: Phase,
    deadline: Instant,
    admitted: usize,
    have: BTreeSet<BlockId>,
    steps: u32,
    started: Instant,
    /// When a block entered last.
    fruitful: Instant,
    /// What came in this turn.
    bytes: u64,
}

impl Lane {
    /// The peer answered: it may take its time again, within the bounds of the turn.
    fn prolong(&mut self, bytes: u64, patience: u32, now: Instant) {
        self.bytes = self.bytes.saturating_add(bytes);
        let earned = TURN_GRACE.saturating_mul(patience).saturating_add(Duration::from_secs(self.bytes / PACE_MIN));
        let barren = BARREN_MAX.saturating_mul(patience);
        let ends =
            [now.checked_add(ANSWER_WITHIN), self.started.checked_add(earned), self.fruitful.checked_add(barren)];
        self.deadline = ends.into_iter().flatten().min().unwrap_or(now);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Offered,
    Walking,
    Receiving,
}

/// The machine of one chain.
#[derive(Debug)]
pub(crate) struct CatchUp {
    view: View,
    remotes: BTreeMap<PeerId, Remote>,
    lane: Option<Lane>,
    round: u32,
    tell_at: Option<Instant>,
    outputs: VecDeque<Output>,
}

impl CatchUp {
    /// Returns the machine of a chain that looks like `view` here.
    pub(crate) fn new(view: View) -> Self {
        Self { view, remotes: BTreeMap::new(), lane: None, round: 0, tell_at: None, outputs: VecDeque::new() }
    }

    /// Returns the next thing to do.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when [`Self::handle_timeout`] wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let retry = self.remotes.values().filter(|remote| !remote.unknown.is_empty()).filter_map(|r| r.retry_at);
        let deadline = self.lane.as_ref().map(|lane| lane.deadline);
        // While the lane is taken nobody else is asked; its deadline comes first.
        let retry = if self.lane.is_some() { None } else { retry.min() };
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

    /// A channel to this peer is open.
    pub(crate) fn handle_up(&mut self, peer: PeerId, now: Instant) {
        self.remotes.insert(peer.clone(), Remote::default());
        self.forget_lane(&peer);
        // If nobody streams now, this peer may at once: one round trip when it is ahead.
        if self.lane.is_none() { self.begin(peer, now) } else { self.tell(&peer, 0) }
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
        // A hostile list may be long: searched as a set.
        let theirs: BTreeSet<_> = hello.heads.iter().collect();
        remote.holds = self.view.heads.iter().filter(|head| theirs.contains(head)).copied().collect();
        remote.unknown = unknown.into_iter().take(UNKNOWN_MAX).collect();
        let behind = !remote.unknown.is_empty();
        let view = View { count: hello.count, generation: hello.generation, heads: hello.heads };
        let heads = view.heads.clone();
        remote.view = Some(view);
        if hello.credit > 0 && behind {
            self.send(peer, Message::Diverged { round: hello.round });
        } else if hello.credit > 0 {
            self.serve(peer, hello.round, heads, hello.credit);
        }
        if self.remotes.get(peer).is_some_and(|remote| remote.told.as_ref() != Some(&self.view.heads)) {
            self.tell(peer, 0);
        }
        match self.lane.as_ref().filter(|lane| lane.peer == *peer && lane.phase == Phase::Offered) {
            Some(_) if !behind => {
                self.lane = None;
                self.next(now);
            }
            Some(_) => {}
            None => self.next(now),
        }
    }

    /// The peer lacks some of the heads that this side told it.
    pub(crate) fn handle_diverged(&mut self, peer: &PeerId, round: u32, now: Instant) {
        let Some(remote) = self.remotes.get(peer) else { return };
        let from: Vec<_> = remote.unknown.iter().copied().collect();
        let known = remote.view.iter().flat_map(|view| &view.heads).filter(|head| !remote.unknown.contains(head));
        let have: BTreeSet<_> = known.copied().collect();
        let patience = self.patience(peer);
        let Some(lane) = self.lane_of(peer, round, Phase::Offered) else { return };
        if from.is_empty() {
            // Its own hello is still under way, or it turned out that nothing is lacking.
            return;
        }
        lane.phase = Phase::Walking;
        lane.prolong(0, patience, now);
        lane.have = have;
        self.send(peer, Message::Walk { round, from, limit: WALK_FIRST });
    }

    /// A step of the walk: `known` are ids of it that are here, `next` the ones to go on from.
    pub(crate) fn handle_ids(
        &mut self,
        peer: &PeerId,
        round: u32,
        known: Vec<BlockId>,
        next: Vec<BlockId>,
        now: Instant,
    ) {
        let patience = self.patience(peer);
        let Some(lane) = self.lane_of(peer, round, Phase::Walking) else { return };
        lane.prolong((known.len() + next.len()) as u64 * ID_BYTES, patience, now);
        let room = WALK_IDS_MAX.saturating_sub(lane.have.len());
        lane.have.extend(known.into_iter().take(room));
        lane.steps += 1;
        let message = if next.is_empty() || lane.steps >= WALK_STEPS_MAX {
            lane.phase = Phase::Receiving;
            Message::Want { round, have: lane.have.iter().copied().collect(), credit: WINDOW }
        } else {
            let limit = WALK_FIRST.saturating_mul(1 << lane.steps.min(7));
            Message::Walk { round, from: next.into_iter().take(WALK_IDS_MAX).collect(), limit }
        };
        self.send(peer, message);
    }

    /// Block files of `bytes` came and `admitted` of them entered; with the last, `unknown` are the peer's heads that
    /// are still not here.
    pub(crate) fn handle_blocks(&mut self, peer: &PeerId, blocks: &Received, now: Instant, rng: &mut impl Rng) {
        let patience = self.patience(peer);
        let Some(lane) = self.lane.as_mut().filter(|lane| lane.peer == *peer && lane.round == blocks.round) else {
            return;
        };
        lane.phase = Phase::Receiving;
        if blocks.admitted > 0 {
            lane.fruitful = now;
        }
        lane.prolong(u64::from(blocks.bytes), patience, now);
        lane.admitted += blocks.admitted;
        if !blocks.last {
            let round = blocks.round;
            return self.send(peer, Message::Credit { round, bytes: blocks.bytes });
        }
        let progress = lane.admitted > 0;
        self.lane = None;
        if let Some(remote) = self.remotes.get_mut(peer) {
            remote.unknown = blocks.unknown.iter().take(UNKNOWN_MAX).copied().collect();
            if progress || remote.unknown.is_empty() { remote.succeeded() } else { remote.failed(now, rng) }
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
        if remote.unknown.is_empty() {
            remote.succeeded();
            self.next(now);
        } else if self.lane.is_none() && remote.is_due(now) {
            self.begin(peer.clone(), now);
        }
    }

    /// Answers [`Output::Recheck`] where the store could not: asked again after a back-off, or a store that fails would be
    /// asked without end.
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
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.tell_at = Some(now);
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant, rng: &mut impl Rng) {
        if let Some(lane) = self.lane.as_ref().filter(|lane| lane.deadline <= now) {
            let peer = lane.peer.clone();
            self.lane = None;
            if let Some(remote) = self.remotes.get_mut(&peer) {
                remote.failed(now, rng);
            }
            self.next(now);
        } else if self.lane.is_none() {
            self.next(now);
        }
        if self.tell_at.is_some_and(|at| at <= now) {
            self.tell_at = None;
            let stale =
                |remote: &Remote| !remote.holds_all(&self.view) && remote.told.as_ref() != Some(&self.view.heads);
            let peers: Vec<_> = self.remotes.iter().filter(|(_, r)| stale(r)).map(|(p, _)| p.clone()).collect();
            peers.iter().for_each(|peer| self.tell(peer, 0));
        }
    }

    /// Looks for somebody to ask, if the lane is free: the driver first checks what is still lacking.
    fn next(&mut self, now: Instant) {
        if self.lane.is_some() {
            return;
        }
        let due = self.remotes.iter().filter(|(_, remote)| !remote.unknown.is_empty() && remote.is_due(now));
        let best = due.min_by_key(|(_, remote)| remote.failures).map(|(peer, _)| peer.clone());
        let Some(peer) = best else { return };
        let ids = self.remotes.get(&peer).map(|remote| remote.unknown.iter().copied().collect()).unwrap_or_default();
        let recheck = Output::Recheck { peer, ids };
        if !self.outputs.contains(&recheck) {
            self.outputs.push_back(recheck);
        }
    }

    fn begin(&mut self, peer: PeerId, now: Instant) {
        self.round = self.round.wrapping_add(1);
        self.lane = Some(Lane {
            peer: peer.clone(),
            round: self.round,
            phase: Phase::Offered,
            deadline: now + ANSWER_WITHIN,
            admitted: 0,
            have: BTreeSet::new(),
            steps: 0,
            started: now,
            fruitful: now,
            bytes: 0,
        });
        self.tell(&peer, WINDOW);
    }

    fn tell(&mut self, peer: &PeerId, credit: u32) {
        let View { count, generation, heads } = self.view.clone();
        let heads: Vec<_> = heads.into_iter().take(super::codec_v1::HELLO_HEADS_MAX).collect();
        if let Some(remote) = self.remotes.get_mut(peer) {
            remote.told = Some(self.view.heads.clone());
        }
        let round = if credit > 0 { self.round } else { 0 };
        self.send(peer, Message::Hello(Hello { round, count, generation, heads, credit }));
    }

    fn serve(&mut self, peer: &PeerId, round: u32, have: Vec<BlockId>, credit: u32) {
        self.outputs.push_back(Output::Serve { peer: peer.clone(), round, have, credit });
    }

    fn send(&mut self, peer: &PeerId, message: Message) {
        self.outputs.push_back(Output::Send { peer: peer.clone(), message });
    }

    fn lane_of(&mut self, peer: &PeerId, round: u32, phase: Phase) -> Option<&mut Lane> {
        self.lane.as_mut().filter(|lane| lane.peer == *peer && lane.round == round && lane.phase == phase)
    }

    /// Returns how many times longer a turn of this peer may be: more after each failure, so that an honest peer with
    /// very much to go through comes to its end; not while one that failed less often waits.
    fn patience(&self, peer: &PeerId) -> u32 {
        let failures = self.remotes.get(peer).map_or(0, |remote| remote.failures);
        let better = |remote: &Remote| !remote.unknown.is_empty() && remote.failures < failures;
        if self.remotes.values().any(better) { 1 } else { 1 << failures.min(6) }
    }

    fn forget_lane(&mut self, peer: &PeerId) -> bool {
        self.lane.take_if(|lane| lane.peer == *peer).is_some()
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
    /// With the last: heads of the peer that are still unknown here.
    pub(crate) unknown: Vec<BlockId>,
}

impl Remote {
    fn is_level(&self, view: &View) -> bool {
        self.holds_all(view) && self.unknown.is_empty() && self.view.is_some()
    }

    fn holds_all(&self, view: &View) -> bool {
        view.heads.iter().all(|head| self.holds.contains(head))
    }

    fn is_due(&self, now: Instant) -> bool {
        self.retry_at.is_none_or(|at| at <= now)
    }

    fn succeeded(&mut self) {
        self.failures = 0;
        self.retry_at = None;
    }

    fn failed(&mut self, now: Instant, rng: &mut impl Rng) {
        self.retry_at = Some(now + backoff(self.failures, rng));
        self.failures = self.failures.saturating_add(1);
    }
}

/// Returns the wait after so many failures before this one: doubling, capped, with up to half of it as jitter.
pub(crate) fn backoff(failures: u32, rng: &mut impl Rng) -> Duration {
    let base = RETRY_FIRST.saturating_mul(1 << failures.min(10)).min(RETRY_LONGEST);
    base + base.mul_f64(f64::from(rng.next_u32()) / f64::from(u32::MAX) / 2.0)
}

#[cfg(test)]
#[path = "catch_up_tests.rs"]
mod tests;
