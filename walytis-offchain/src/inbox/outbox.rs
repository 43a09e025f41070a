//! What waits to be delivered, in the store.
//!
//! ```text
//!   0x20 ‖ H(outbox) (32) ‖ message id   Row
//! ```

use serde::{Deserialize, Serialize};
use walytis_core::store::keys::Space;
use walytis_core::store::{Batch, Direction, Durability, KeyRange, StoreError};
use walytis_identities::contact::ContactCard;
use walytis_identities::id::Did;

use super::gate::{TRIED_FOR_MS, is_due, pause_ms};
use super::message_v1::{Answer, MessageId};
use super::{InboxError, Shared};
use crate::context::{Label, digest};
use crate::record::{exactly, versioned};

/// Most letters kept, delivered ones included. Chosen: with the longest letters some 300 MB.
const OUTBOX_MAX: usize = 1_024;

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum OutgoingState {
    /// Nobody has taken it yet; it is tried again.
    Waiting,
    /// A device of the receiver has stored it.
    Accepted,
    /// The receiver has opened it.
    Opened,
    /// The receiver does not want it.
    Refused,
    /// Nobody took it in 30 days.
    Expired,
}

impl OutgoingState {
    /// Returns the name as the command line and JSON show it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Accepted => "accepted",
            Self::Opened => "opened",
            Self::Refused => "refused",
            Self::Expired => "expired",
        }
    }
}

/// A message that was sent from this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Its id.
    pub id: MessageId,
    /// As whom it was sent.
    pub from: Did,
    /// To whom.
    pub to: Did,
    /// When, by this node's clock.
    pub created_at_ms: i64,
    /// How often delivery was tried.
    pub attempts: u32,
    /// When it is tried next, if it waits.
    pub next_at_ms: Option<i64>,
    /// Where it is.
    pub state: OutgoingState,
}

/// A letter in the outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) id: MessageId,
    pub(super) from: Did,
    pub(super) to: ContactCard,
    /// Empty once it is delivered.
    pub(super) sealed: Vec<u8>,
    pub(super) created_at_ms: i64,
    pub(super) attempts: u32,
    pub(super) next_at_ms: i64,
    pub(super) state: OutgoingState,
    /// It only says that a message was opened: not shown, and gone when it is delivered.
    pub(super) receipt: bool,
}

impl Row {
    pub(super) const fn new(
        id: MessageId,
        from: Did,
        to: ContactCard,
        sealed: Vec<u8>,
        now_ms: i64,
        receipt: bool,
    ) -> Self {
        let state = OutgoingState::Waiting;
        Self { id, from, to, sealed, created_at_ms: now_ms, attempts: 0, next_at_ms: now_ms, state, receipt }
    }

    pub(super) fn shown(self) -> Option<Outgoing> {
        (!self.receipt).then_some(Outgoing {
            id: self.id,
            from: self.from,
            to: self.to.did,
            created_at_ms: self.created_at_ms,
            attempts: self.attempts,
            next_at_ms: (self.state == OutgoingState::Waiting).then_some(self.next_at_ms),
            state: self.state,
        })
    }

    pub(super) fn is_due(&self, now_ms: i64) -> bool {
        self.state == OutgoingState::Waiting && is_due(self.next_at_ms, now_ms)
    }

    /// What follows from one attempt; nothing: nobody could be asked.
    pub(super) fn tried(&mut self, answer: Option<Answer>, now_ms: i64) {
        self.attempts = self.attempts.saturating_add(1);
        self.state = match answer {
            Some(Answer::Accepted) => OutgoingState::Accepted,
            Some(Answer::Refused) => OutgoingState::Refused,
            _ if now_ms.saturating_sub(self.created_at_ms) >= TRIED_FOR_MS => OutgoingState::Expired,
            _ => OutgoingState::Waiting,
        };
        self.next_at_ms = now_ms.saturating_add(pause_ms(self.attempts));
        if self.state != OutgoingState::Waiting {
            self.sealed = Vec::new();
        }
    }
}

fn prefix() -> Vec<u8> {
    Space::Offchain.key(&[&digest(Label::Outbox, &[])])
}

fn key(id: &MessageId) -> Vec<u8> {
    [&prefix()[..], &id.0].concat()
}

fn read(key: &[u8], value: &[u8]) -> Result<Row, StoreError> {
    exactly(value).ok_or_else(|| StoreError::corrupt(key, "it does not decode"))
}

impl Shared {
    /// Returns all letters, by id.
    pub(super) async fn outgoing(&self) -> Result<Vec<Row>, StoreError> {
        let range = KeyRange::prefix(&prefix());
        let rows = self.parts.store.scan(range, Direction::Forward, OUTBOX_MAX).await?;
        rows.iter().map(|(key, value)| read(key, value)).collect()
    }

    pub(super) async fn row(&self, id: &MessageId) -> Result<Option<Row>, StoreError> {
        let key = key(id);
        self.parts.store.get(&key).await?.map(|value| read(&key, &value)).transpose()
    }

    /// Adds a letter; the oldest that needs nothing any more makes room.
    pub(super) async fn put_new(&self, row: &Row) -> Result<(), InboxError> {
        let all = self.outgoing().await?;
        let mut batch = Batch::new();
        if all.len() >= OUTBOX_MAX {
            let ended = all.iter().filter(|one| one.state != OutgoingState::Waiting);
            let oldest = ended.min_by_key(|one| one.created_at_ms).ok_or(InboxError::Full { max: OUTBOX_MAX })?;
            batch.delete(key(&oldest.id));
        }
        batch.put(key(&row.id), versioned(row));
        Ok(self.parts.store.commit(batch, Durability::Flushed).await?)
    }

    /// Writes down what became of a letter, if it is still there.
    pub(super) async fn update(&self, row: &Row) -> Result<(), StoreError> {
        let Some(now) = self.row(&row.id).await? else { return Ok(()) };
        if now.state == OutgoingState::Opened {
            return Ok(());
        }
        if row.receipt && row.state != OutgoingState::Waiting {
            return self.remove(&row.id).await;
        }
        let mut batch = Batch::new();
        batch.put(key(&row.id), versioned(row));
        self.parts.store.commit(batch, Durability::Flushed).await
    }

    pub(super) async fn remove(&self, id: &MessageId) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.delete(key(id));
        self.parts.store.commit(batch, Durability::Flushed).await
    }
}

#[cfg(test)]
mod tests {
    use walytis_core::id::{BlockId, ChainId};

    use super::*;

    fn row() -> Row {
        let did = Did(ChainId(BlockId::from_digest([1; 32])));
        Row::new(MessageId([2; 32]), did, ContactCard { did, peers: vec![] }, vec![3; 9], 1_000, false)
    }

    #[test]
    fn a_letter_is_tried_until_somebody_answers_for_good_or_30_days_are_over() {
        let mut waiting = row();
        assert!(waiting.is_due(1_000));
        for answer in [None, Some(Answer::Later), Some(Answer::NotHere)] {
            waiting.tried(answer, 1_000);
            assert!(!waiting.is_due(1_000) && waiting.is_due(waiting.next_at_ms));
        }
        assert_eq!((waiting.attempts, waiting.next_at_ms), (3, 61_000));
        for (answer, state) in [(Answer::Accepted, OutgoingState::Accepted), (Answer::Refused, OutgoingState::Refused)]
        {
            let mut ended = waiting.clone();
            ended.tried(Some(answer), 2_000);
            assert_eq!((ended.state, ended.sealed.len()), (state, 0));
            assert!(!ended.is_due(i64::MAX));
        }
        waiting.tried(None, 1_000 + TRIED_FOR_MS);
        assert_eq!(waiting.state, OutgoingState::Expired);
        assert_eq!(waiting.shown().and_then(|shown| shown.next_at_ms), None);
    }

    /// Rows written by one version must be read by the next.
    #[test]
    fn rows_come_back_whole() {
        assert_eq!(exactly(&versioned(&row())), Some(row()));
        assert!(exactly::<Row>(&[versioned(&row()), vec![0]].concat()).is_none());
        assert_eq!(Row { receipt: true, ..row() }.shown(), None);
    }
}
