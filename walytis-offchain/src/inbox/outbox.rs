//! What waits to be delivered, in the store.
//!
//! ```text
//!   0x20 ‖ H(outbox) (32) ‖ message id             Row
//!   0x20 ‖ H(outbox, "sealed") (32) ‖ message id   the sealed letter, until it is delivered
//! ```
//!
//! Receipts have a room of their own: whoever writes to this node decides how many there are, and their delivery is a kindness.

use bytes::Bytes;
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
/// Most receipts kept; the oldest goes. Chosen: what somebody opens in a day and would be missed.
const RECEIPTS_MAX: usize = 128;
/// How long a receipt is tried.
const RECEIPT_TRIED_FOR_MS: i64 = 24 * 60 * 60 * 1000;

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
    pub(super) created_at_ms: i64,
    pub(super) attempts: u32,
    pub(super) next_at_ms: i64,
    pub(super) state: OutgoingState,
    /// It only says that a message was opened: not shown, and gone when it is delivered.
    pub(super) receipt: bool,
}

impl Row {
    pub(super) const fn new(id: MessageId, from: Did, to: ContactCard, now_ms: i64, receipt: bool) -> Self {
        let state = OutgoingState::Waiting;
        Self { id, from, to, created_at_ms: now_ms, attempts: 0, next_at_ms: now_ms, state, receipt }
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

    pub(super) fn is_waiting(&self) -> bool {
        self.state == OutgoingState::Waiting
    }

    pub(super) fn is_due(&self, now_ms: i64) -> bool {
        self.is_waiting() && is_due(self.next_at_ms, now_ms)
    }

    /// What follows from one attempt; nothing: nobody could be asked.
    pub(super) fn tried(&mut self, answer: Option<Answer>, now_ms: i64) {
        if !self.is_waiting() {
            // A receipt was quicker than the answer.
            return;
        }
        let tried_for_ms = if self.receipt { RECEIPT_TRIED_FOR_MS } else { TRIED_FOR_MS };
        self.attempts = self.attempts.saturating_add(1);
        self.state = match answer {
            Some(Answer::Accepted) => OutgoingState::Accepted,
            Some(Answer::Refused) => OutgoingState::Refused,
            _ if now_ms.saturating_sub(self.created_at_ms) >= tried_for_ms => OutgoingState::Expired,
            _ => OutgoingState::Waiting,
        };
        self.next_at_ms = now_ms.saturating_add(pause_ms(self.attempts));
    }
}

fn prefix() -> Vec<u8> {
    Space::Offchain.key(&[&digest(Label::Outbox, &[])])
}

fn key(id: &MessageId) -> Vec<u8> {
    [&prefix()[..], &id.0].concat()
}

fn sealed_key(id: &MessageId) -> Vec<u8> {
    Space::Offchain.key(&[&digest(Label::Outbox, &[b"sealed"]), &id.0])
}

fn read(key: &[u8], value: &[u8]) -> Result<Row, StoreError> {
    exactly(value).ok_or_else(|| StoreError::corrupt(key, "it does not decode"))
}

fn delete(id: &MessageId, batch: &mut Batch) {
    batch.delete(key(id)).delete(sealed_key(id));
}

/// Returns which letter has to go so that a new one has room.
fn in_the_way(all: &[Row], new: &Row) -> Result<Option<MessageId>, InboxError> {
    let kind: Vec<&Row> = all.iter().filter(|one| one.receipt == new.receipt).collect();
    let max = if new.receipt { RECEIPTS_MAX } else { OUTBOX_MAX };
    if kind.len() < max {
        return Ok(None);
    }
    let may_go = kind.into_iter().filter(|one| one.receipt || !one.is_waiting());
    let oldest = may_go.min_by_key(|one| (one.created_at_ms, one.id)).ok_or(InboxError::Full { max })?;
    Ok(Some(oldest.id))
}

impl Shared {
    /// Returns all letters, by id, without what they say.
    pub(super) async fn outgoing(&self) -> Result<Vec<Row>, StoreError> {
        let range = KeyRange::prefix(&prefix());
        let rows = self.parts.store.scan(range, Direction::Forward, OUTBOX_MAX + RECEIPTS_MAX).await?;
        rows.iter().map(|(key, value)| read(key, value)).collect()
    }

    pub(super) async fn row(&self, id: &MessageId) -> Result<Option<Row>, StoreError> {
        let key = key(id);
        self.parts.store.get(&key).await?.map(|value| read(&key, &value)).transpose()
    }

    /// Returns a sealed letter; nothing if it is delivered or was taken back.
    pub(super) async fn sealed(&self, id: &MessageId) -> Result<Option<Bytes>, StoreError> {
        self.parts.store.get(&sealed_key(id)).await
    }

    /// Adds a letter; the oldest that needs nothing any more makes room.
    pub(super) async fn put_new(&self, row: &Row, sealed: Vec<u8>) -> Result<(), InboxError> {
        let _book = self.book.lock().await;
        let mut batch = Batch::new();
        if let Some(gone) = in_the_way(&self.outgoing().await?, row)? {
            delete(&gone, &mut batch);
        }
        batch.put(key(&row.id), versioned(row)).put(sealed_key(&row.id), sealed);
        Ok(self.parts.store.commit(batch, Durability::Flushed).await?)
    }

    /// Changes what is written of a letter, if it is still there. What is ended needs no sealed letter; a receipt is gone then.
    pub(super) async fn amend(&self, id: &MessageId, change: impl FnOnce(&mut Row)) -> Result<(), StoreError> {
        let _book = self.book.lock().await;
        let Some(before) = self.row(id).await? else { return Ok(()) };
        let mut row = before.clone();
        change(&mut row);
        if row == before {
            return Ok(());
        }
        let mut batch = Batch::new();
        if !row.is_waiting() {
            delete(id, &mut batch);
        }
        if row.is_waiting() || !row.receipt {
            batch.put(key(id), versioned(&row));
        }
        self.parts.store.commit(batch, Durability::Flushed).await
    }

    pub(super) async fn remove(&self, id: &MessageId) -> Result<(), StoreError> {
        let _book = self.book.lock().await;
        let mut batch = Batch::new();
        delete(id, &mut batch);
        self.parts.store.commit(batch, Durability::Flushed).await
    }
}

#[cfg(test)]
mod tests {
    use walytis_core::id::{BlockId, ChainId};

    use super::*;

    fn row() -> Row {
        let did = Did(ChainId(BlockId::from_digest([1; 32])));
        Row::new(MessageId([2; 32]), did, ContactCard { did, peers: vec![] }, 1_000, false)
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
            assert_eq!(ended.state, state);
            assert!(!ended.is_due(i64::MAX));
            let last = ended.clone();
            ended.tried(None, i64::MAX);
            assert_eq!(ended, last, "what has ended stays so");
        }
        waiting.tried(None, 1_000 + TRIED_FOR_MS);
        assert_eq!(waiting.state, OutgoingState::Expired);
        assert_eq!(waiting.shown().and_then(|shown| shown.next_at_ms), None);
    }

    #[test]
    fn receipts_have_a_room_of_their_own_and_are_given_up_after_a_day() {
        let receipt = |n: u64, created_at_ms| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&n.to_be_bytes());
            Row { id: MessageId(id), created_at_ms, receipt: true, ..row() }
        };
        let mut all: Vec<Row> =
            (0..RECEIPTS_MAX as u64).map(|n| receipt(n, 1_000 - i64::try_from(n).unwrap())).collect();
        let new = receipt(9_999, 5_000);
        assert_eq!(in_the_way(&all, &row()).unwrap(), None, "receipts stand in no message's way");
        assert_eq!(in_the_way(&all, &new).unwrap(), all.last().map(|oldest| oldest.id));
        all.extend((0..OUTBOX_MAX as u64).map(|n| Row { receipt: false, ..receipt(20_000 + n, 7) }));
        assert!(matches!(in_the_way(&all, &row()), Err(InboxError::Full { max: OUTBOX_MAX })));
        all[RECEIPTS_MAX + 3].state = OutgoingState::Accepted;
        assert_eq!(in_the_way(&all, &row()).unwrap(), Some(all[RECEIPTS_MAX + 3].id));
        let mut late = receipt(1, 1_000);
        late.tried(None, 1_000 + RECEIPT_TRIED_FOR_MS - 1);
        assert!(late.is_waiting());
        late.tried(None, 1_000 + RECEIPT_TRIED_FOR_MS);
        assert_eq!(late.state, OutgoingState::Expired);
    }

    /// Rows written by one version must be read by the next.
    #[test]
    fn rows_come_back_whole() {
        assert_eq!(exactly(&versioned(&row())), Some(row()));
        assert!(exactly::<Row>(&[versioned(&row()), vec![0]].concat()).is_none());
        assert_eq!(Row { receipt: true, ..row() }.shown(), None);
    }
}
