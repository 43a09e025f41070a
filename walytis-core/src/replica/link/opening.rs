//! Opening channels: which chains are tried when, and whether what the other side opens is accepted.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use tokio::time::{Instant, timeout};

use super::super::catch_up::backoff;
use super::super::codec_v1::{Channel, Frame};
use super::super::driver::{ChainEntry, Shared};
use super::super::keys::{Side, same_tag};
use super::super::line::Wire;
use super::{ANSWER_WITHIN, Link};
use crate::access::Access;
use crate::id::{ChainId, PeerId};

/// How long the exchange before a session may take.
const PREPARE_WITHIN: Duration = Duration::from_secs(20);
/// A changed right is acted upon at most this often per chain and peer.
const ATTEMPT_APART: Duration = Duration::from_secs(1);
/// Opens that name no chain of ours, a minute on one stream; more are a flood. Chosen: what a thousand chains try in
/// the first minute of a session.
const UNKNOWN_OPENS_MAX: u32 = 6_000;
const UNKNOWN_OPENS_PER: Duration = Duration::from_secs(60);
/// Failures behind which an open is tried again eight times less often: the other side opens by itself as soon as it
/// has the chain, and so does this one when rights change.
const RARELY_AFTER: u32 = 7;
/// Channels that may wait for judgement of the peer's right at once.
const JUDGING_MAX: usize = 256;

/// A judgement that was waited for.
pub(super) enum Judged {
    /// Whether this side may open a channel for a chain.
    Open { chain: ChainId, granted: bool },
    /// Whether the other side's open is accepted.
    Answer { chain: ChainId, channel: Channel, granted: bool },
}

#[derive(Default)]
pub(super) struct Attempt {
    pub(super) judging: bool,
    /// Our open, and until when its answer is waited for.
    pub(super) asked: Option<(Channel, Instant)>,
    pub(super) failures: u32,
    pub(super) tried_at: Option<Instant>,
    pub(super) retry_at: Option<Instant>,
    pub(super) epoch: u64,
}

impl Link {
    /// Returns when some chain wants to be opened again.
    pub(super) fn next_attempt(&self) -> Option<Instant> {
        let waits =
            self.attempts.iter().filter(|(chain, attempt)| !attempt.judging && !self.by_chain.contains_key(chain));
        waits.filter_map(|(_, attempt)| attempt.asked.map(|(_, until)| until).or(attempt.retry_at)).min()
    }

    /// Opens a channel for every attached chain that has none and is due.
    pub(super) fn open_missing(&mut self, wire: &Wire) {
        let now = Instant::now();
        let entries: Vec<_> = self.shared.chains().values().cloned().collect();
        for entry in entries {
            let chain = entry.core.id();
            if self.by_chain.contains_key(&chain) {
                continue;
            }
            let epoch = entry.epoch.load(Ordering::Relaxed);
            // When a stream begins, its opener opens the channels and the other side fills in what was left out. A
            // chain that comes later is opened at once by whoever got it: it may just have been joined.
            let first = if self.opener || self.begun { now } else { now + ATTEMPT_APART };
            let fresh = || Attempt { retry_at: Some(first), epoch, ..Attempt::default() };
            let attempt = self.attempts.entry(chain).or_insert_with(fresh);
            if attempt.judging {
                continue;
            }
            if let Some((channel, until)) = attempt.asked {
                if until > now {
                    continue;
                }
                attempt.asked = None;
                wire.say(&Frame::Close { channel });
                Self::failed(attempt, now, &mut self.rng);
                continue;
            }
            if attempt.epoch != epoch {
                attempt.epoch = epoch;
                attempt.retry_at = Some(attempt.tried_at.map_or(now, |at| at + ATTEMPT_APART));
            }
            if attempt.retry_at.is_some_and(|at| at > now) {
                continue;
            }
            attempt.judging = true;
            attempt.tried_at = Some(now);
            self.judging.spawn(prepare(Arc::clone(&self.shared), entry, self.peer.clone()));
        }
        self.begun = true;
    }

    pub(super) fn failed(attempt: &mut Attempt, now: Instant, rng: &mut ChaCha20Rng) {
        let wait = backoff(attempt.failures + 1, rng);
        attempt.retry_at = Some(now + if attempt.failures > RARELY_AFTER { wait * 8 } else { wait });
        attempt.failures = attempt.failures.saturating_add(1);
    }

    pub(super) fn handle_judged(&mut self, judged: Judged, wire: &Wire) {
        match judged {
            Judged::Open { chain, granted } => {
                let now = Instant::now();
                let Some(attempt) = self.attempts.get_mut(&chain) else { return };
                attempt.judging = false;
                if self.by_chain.contains_key(&chain) {
                    return;
                }
                let Some(entry) = self.shared.entry(&chain).filter(|_| granted) else {
                    Self::failed(attempt, now, &mut self.rng);
                    return;
                };
                let channel = self.next_channel;
                self.next_channel = self.next_channel.wrapping_add(2);
                attempt.asked = Some((channel, now + ANSWER_WITHIN));
                let tag = self.tag(&entry, channel, Side::Opener);
                wire.say(&Frame::Open { channel, tag });
            }
            Judged::Answer { chain, channel, granted } => match self.shared.entry(&chain).filter(|_| granted) {
                Some(entry) => {
                    let tag = self.tag(&entry, channel, Side::Answerer);
                    wire.say(&Frame::Accept { channel, tag });
                    self.establish(channel, entry, wire);
                }
                None => wire.say(&Frame::Refuse { channel }),
            },
        }
    }

    pub(super) fn handle_open(&mut self, channel: Channel, tag: [u8; 32], wire: &Wire) -> Result<(), &'static str> {
        // Even numbers are the opener's.
        if channel.is_multiple_of(2) == self.opener || self.channels.contains_key(&channel) {
            return Err("a channel number of the wrong side");
        }
        if self.judging.len() >= JUDGING_MAX {
            wire.say(&Frame::Refuse { channel });
            return Ok(());
        }
        let entries: Vec<_> = self.shared.chains().values().cloned().collect();
        let found = entries.into_iter().find(|entry| same_tag(&tag, &self.tag(entry, channel, Side::Opener)));
        let Some(entry) = found else {
            wire.say(&Frame::Refuse { channel });
            return self.count_unknown_open();
        };
        let chain = entry.core.id();
        let asked = self.attempts.get_mut(&chain).and_then(|attempt| attempt.asked.as_mut());
        if let Some((ours, _)) = asked {
            // Both opened at once: the stream opener's channel counts.
            if self.opener {
                wire.say(&Frame::Refuse { channel });
                return Ok(());
            }
            let ours = *ours;
            wire.say(&Frame::Close { channel: ours });
            if let Some(attempt) = self.attempts.get_mut(&chain) {
                attempt.asked = None;
            }
        }
        let peer = self.peer.clone();
        self.judging.spawn(async move {
            let granted = entry.core.access().may_sync(&peer).await == Access::Granted;
            Judged::Answer { chain, channel, granted }
        });
        Ok(())
    }

    fn count_unknown_open(&mut self) -> Result<(), &'static str> {
        let (count, since) = &mut self.unknown_opens;
        if since.elapsed() > UNKNOWN_OPENS_PER {
            (*count, *since) = (0, Instant::now());
        }
        *count += 1;
        if *count > UNKNOWN_OPENS_MAX { Err("a flood of opens") } else { Ok(()) }
    }
}

async fn prepare(shared: Arc<Shared>, entry: ChainEntry, peer: PeerId) -> Judged {
    let chain = entry.core.id();
    let access = entry.core.access();
    // The semaphore is never closed; if it were, the session would just not be opened.
    let Ok(_permit) = shared.preparing.acquire().await else { return Judged::Open { chain, granted: false } };
    let granted = match timeout(PREPARE_WITHIN, access.prepare(&peer)).await {
        Ok(Ok(())) => access.may_sync(&peer).await == Access::Granted,
        Ok(Err(_)) | Err(_) => false,
    };
    Judged::Open { chain, granted }
}
