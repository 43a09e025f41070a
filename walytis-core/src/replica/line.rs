//! One chain's channel to one peer, as the tasks of the chain hold it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::budget::Budget;
use super::codec_v1::{Channel, Frame, Message};
use crate::id::PeerId;

/// Small frames that may wait when a message of some size is offered. Chosen: bounds what a peer that does not read keeps
/// in memory here to some 4 MiB of pushed blocks.
const OFFERED_MAX: usize = 64;

/// What a link is told by the tasks of its chains.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LinkCommand {
    /// Close this channel: the right to it has ended.
    Drop(Channel),
    /// The peer broke a rule: ban it.
    Fault,
}

/// Bytes of one link, or of one chain, in both directions.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) received: AtomicU64,
    pub(crate) sent: AtomicU64,
}

/// The writing half of a link; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    /// Small frames, never waited for: a peer that does not read them is cut off.
    pub(crate) control: mpsc::Sender<Bytes>,
    /// Large frames, one after the other.
    pub(crate) bulk: mpsc::Sender<Bytes>,
    pub(crate) commands: mpsc::Sender<LinkCommand>,
    /// What the peer may still make this node look up.
    pub(crate) budget: Arc<Mutex<Budget>>,
    /// Ends the link.
    pub(crate) token: CancellationToken,
}

impl Wire {
    /// Sends a small frame without waiting; a full queue ends the link.
    pub(crate) fn say(&self, frame: &Frame) {
        if self.control.try_send(frame.encode()).is_err() {
            self.token.cancel();
        }
    }

    pub(crate) fn command(&self, command: LinkCommand) {
        if self.commands.try_send(command).is_err() {
            self.token.cancel();
        }
    }
}

/// Names one channel of one link among all that a replicator ever had. The links to a peer that is lost and comes back number
/// their channels alike, and what is left of the old one may arrive behind the beginning of the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionId(pub(crate) u64);

/// A channel of a link.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) peer: PeerId,
    pub(crate) session: SessionId,
    pub(crate) channel: Channel,
    pub(crate) wire: Wire,
    pub(crate) traffic: Arc<Traffic>,
}

impl Line {
    /// Sends a small message without waiting.
    pub(crate) fn say(&self, message: Message) {
        self.wire.say(&Frame::Chain { channel: self.channel, message });
    }

    /// Sends a large message; waits for room. False when the link is gone.
    pub(crate) async fn stream(&self, message: Message) -> bool {
        let body = Frame::Chain { channel: self.channel, message }.encode();
        self.traffic.sent.fetch_add(body.len() as u64, Ordering::Relaxed);
        self.wire.bulk.send(body).await.is_ok()
    }

    /// Waits for room for one large message, in turn with all others of the link, so that it need not be made before.
    /// Nothing when the link is gone.
    pub(crate) async fn room(&self) -> Option<Room<'_>> {
        let permit = self.wire.bulk.reserve().await.ok()?;
        Some(Room { line: self, permit })
    }

    /// Sends a message of some size if the link is not busy, i.e. [`OFFERED_MAX`] small frames do not wait; false if it
    /// was not sent.
    pub(crate) fn offer(&self, message: Message) -> bool {
        let body = Frame::Chain { channel: self.channel, message }.encode();
        let bytes = body.len() as u64;
        let waiting = self.wire.control.max_capacity().saturating_sub(self.wire.control.capacity());
        let idle = waiting < OFFERED_MAX;
        let sent = idle && self.wire.control.try_send(body).is_ok();
        if sent {
            self.traffic.sent.fetch_add(bytes, Ordering::Relaxed);
        }
        sent
    }

    /// Takes look-ups for this peer into account.
    pub(crate) fn charge(&self, lookups: u64) {
        self.wire.budget.lock().unwrap_or_else(PoisonError::into_inner).charge(lookups, Instant::now());
    }

    /// Returns how long this peer has to wait for its next answer.
    pub(crate) fn wait(&self) -> Duration {
        self.wire.budget.lock().unwrap_or_else(PoisonError::into_inner).wait(Instant::now())
    }

    /// Reports that the peer broke a rule.
    pub(crate) fn fault(&self) {
        self.wire.command(LinkCommand::Fault);
    }
}

/// Room for one large message on a link.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    line: &'a Line,
    permit: mpsc::Permit<'a, Bytes>,
}

impl Room<'_> {
    /// Sends it.
    pub(crate) fn send(self, message: Message) {
        let body = Frame::Chain { channel: self.line.channel, message }.encode();
        self.line.traffic.sent.fetch_add(body.len() as u64, Ordering::Relaxed);
        self.permit.send(body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_offered_little() {
        let (control, mut unread) = mpsc::channel(1_024);
        let wire = Wire {
            control,
            bulk: mpsc::channel(1).0,
            commands: mpsc::channel(1).0,
            budget: Arc::new(Mutex::new(Budget::new(Instant::now()))),
            token: CancellationToken::new(),
        };
        let peer = PeerId::from_bytes(&[1; 38]).unwrap();
        let line = Line { peer, session: SessionId(0), channel: 0, wire, traffic: Arc::default() };
        let push = || Message::Push { files: vec![Bytes::from(vec![0; 1_000])] };
        let sent = std::iter::repeat_with(|| line.offer(push())).take(1_000).filter(|sent| *sent).count();
        assert_eq!(sent, OFFERED_MAX);
        // Small frames still go out: the peer is cut off only when very many wait.
        line.say(Message::Diverged { round: 1 });
        assert!(!line.wire.token.is_cancelled());
        drop(unread.recv().await);
        drop(unread.recv().await);
        assert!(line.offer(push()), "it reads again");
        assert_eq!(line.traffic.sent.load(Ordering::Relaxed) / 1_000, OFFERED_MAX as u64 + 1);
    }
}
