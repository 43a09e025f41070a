//! Single parts of a chain, asked for by name: a lost block file, a damaged leaf. For repair only.
//!
//! A part travels as a leaf does. A block file is the raw block that its id names, so a peer that is asked for leaf 0 of
//! that name and knows no such content answers with the block file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::codec_v1::Message;
use super::line::{Line, SessionId};
use crate::id::{BlobId, Digest, PeerId};

/// How long a part may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

type Name = (PeerId, BlobId, u32);

/// Who can be asked, and who is.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    lines: watch::Sender<BTreeMap<PeerId, Line>>,
    asked: Mutex<BTreeMap<Name, oneshot::Sender<Option<Bytes>>>>,
}

impl Desk {
    pub(crate) fn up(&self, line: Line) {
        // An earlier line to this peer leads nowhere any more.
        self.asked().retain(|(asked, ..), _| *asked != line.peer);
        self.lines.send_modify(|lines| drop(lines.insert(line.peer.clone(), line)));
    }

    pub(crate) fn down(&self, peer: &PeerId, session: SessionId) {
        let gone = self.lines.send_if_modified(|lines| {
            let gone = lines.get(peer).is_some_and(|line| line.session == session);
            if gone {
                lines.remove(peer);
            }
            gone
        });
        if gone {
            // Whoever waits for this peer asks another.
            self.asked().retain(|(asked, ..), _| asked != peer);
        }
    }

    /// Takes an answer that somebody here waits for; gives back any other.
    pub(crate) fn take(&self, peer: &PeerId, message: Message) -> Option<Message> {
        let name = match &message {
            Message::Leaf { blob, index, .. } | Message::NoBlob { blob, index } => (peer.clone(), *blob, *index),
            _ => return Some(message),
        };
        let Some(waiting) = self.asked().remove(&name) else { return Some(message) };
        let part = match message {
            Message::Leaf { bytes, .. } => Some(bytes),
            _ => None,
        };
        // It may have given up meanwhile.
        let _gone = waiting.send(part);
        None
    }

    /// Asks one peer after the other for the part with this digest, and waits so long for one that was not asked yet.
    pub(crate) async fn fetch(
        &self,
        blob: BlobId,
        index: u32,
        digest: [u8; 32],
        patience: Duration,
    ) -> Result<Bytes, &'static str> {
        let mut lines = self.lines.subscribe();
        let mut tried: BTreeSet<SessionId> = BTreeSet::new();
        let give_up_at = Instant::now() + patience;
        loop {
            let next = {
                let lines = lines.borrow_and_update();
                lines.values().find(|line| !tried.contains(&line.session)).cloned()
            };
            let Some(line) = next else {
                match timeout_at(give_up_at, lines.changed()).await {
                    Ok(Ok(())) => continue,
                    _ => return Err("nobody connected has it"),
                }
            };
            tried.insert(line.session);
            let part = self.ask(&line, blob, index).await;
            match part {
                Some(part) if Digest::of(&part).0 == digest => return Ok(part),
                Some(_) => line.fault(),
                None => {}
            }
        }
    }

    async fn ask(&self, line: &Line, blob: BlobId, index: u32) -> Option<Bytes> {
        let (answer, answered) = oneshot::channel();
        let name = (line.peer.clone(), blob, index);
        self.asked().insert(name.clone(), answer);
        line.say(Message::LeafAsk { blob, index });
        let part = timeout(ANSWER_WITHIN, answered).await;
        self.asked().remove(&name);
        part.ok()?.ok()?
    }

    fn asked(&self) -> MutexGuard<'_, BTreeMap<Name, oneshot::Sender<Option<Bytes>>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
