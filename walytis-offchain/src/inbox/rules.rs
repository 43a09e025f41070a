//! From whom an identity takes messages: what its controllers decided, read from the layer `inbox`.

use std::collections::BTreeSet;

use futures::stream::StreamExt as _;
use tokio::io::AsyncReadExt as _;
use walytis_core::id::BlockId;
use walytis_core::ledger::{BlockState, Ledger as _, LedgerError, LedgerRead as _, NewBlock, Query};
use walytis_core::topic::Topic;
use walytis_identities::id::Did;

use super::message_v1::{Control, MessageId, Policy, copy_name};
use super::{Inbox, InboxError};
use crate::PrivateLedger;

/// Name of the overlay in topics.
pub(super) const OVERLAY: &str = "inbox";
/// Most bytes of one decision.
const CONTROL_MAX: u64 = 1024;

/// Who may write to an identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InboxRules {
    /// From whom it takes messages.
    pub policy: Policy,
    /// From whom it never does, ascending.
    pub blocked: BTreeSet<Did>,
    /// From whom it does under [`Policy::Known`], ascending.
    pub allowed: BTreeSet<Did>,
}

impl InboxRules {
    /// Takes in the next decision, in canonical order.
    pub(super) fn apply(&mut self, control: Control) {
        match control {
            Control::Block(did) => {
                self.blocked.insert(did);
                self.allowed.remove(&did);
            }
            Control::Unblock(did) => drop(self.blocked.remove(&did)),
            Control::Allow(did) => {
                self.allowed.insert(did);
                self.blocked.remove(&did);
            }
            Control::Policy(policy) => self.policy = policy,
            // Stands under a topic of its own.
            Control::Opened(..) => {}
        }
    }

    pub(super) fn takes(&self, from: &Did) -> bool {
        !self.blocked.contains(from) && (self.policy == Policy::Everybody || self.allowed.contains(from))
    }
}

pub(super) fn control_topic() -> Result<Topic, LedgerError> {
    Ok(Topic::overlay(OVERLAY, "control")?)
}

/// Returns the topic of the note that a message was opened: each has its own, so that reading the rules costs what people
/// decided, and not one read for every message that ever came.
fn opened_topic(from: &Did, id: &MessageId) -> Result<Topic, LedgerError> {
    Ok(Topic::overlay(OVERLAY, &format!("opened/{}", copy_name(from, id)))?)
}

/// Says whether a controller has opened a message: one look at the index, however many there are.
pub(super) async fn is_opened(ledger: &PrivateLedger, from: &Did, id: &MessageId) -> Result<bool, LedgerError> {
    let query = Query { topics_all: vec![opened_topic(from, id)?], limit: Some(1), ..Query::default() };
    Ok(ledger.query(query).await?.next().await.transpose()?.is_some())
}

/// Reads what has been decided, in canonical order: the same on every device.
pub(super) async fn rules_of(ledger: &PrivateLedger) -> Result<InboxRules, LedgerError> {
    let mut rules = InboxRules::default();
    let query = Query { topics_all: vec![control_topic()?], ..Query::default() };
    let mut blocks = ledger.query(query).await?;
    while let Some(info) = blocks.next().await.transpose()? {
        if info.state != BlockState::Available || info.size > CONTROL_MAX {
            continue;
        }
        if let Some(control) = Control::decode(&read(ledger, &info.id, CONTROL_MAX).await?) {
            rules.apply(control);
        }
    }
    Ok(rules)
}

/// Reads at most `max` bytes of a content.
pub(super) async fn read(ledger: &PrivateLedger, id: &BlockId, max: u64) -> Result<Vec<u8>, LedgerError> {
    let mut bytes = Vec::new();
    ledger.content(id).await?.take(max).read_to_end(&mut bytes).await.map_err(LedgerError::Read)?;
    Ok(bytes)
}

pub(super) async fn decide(ledger: &PrivateLedger, control: Control) -> Result<(), LedgerError> {
    let topic = match &control {
        Control::Opened(from, id) => opened_topic(from, id)?,
        _ => control_topic()?,
    };
    let block = NewBlock { content: control.encode().into(), topics: vec![topic] };
    ledger.add_overlay(vec![block]).await.map(drop)
}

impl Inbox {
    /// Returns from whom an identity of this node takes messages.
    ///
    /// # Errors
    /// [`InboxError`].
    pub async fn rules(&self, did: &Did) -> Result<InboxRules, InboxError> {
        Ok(rules_of(&self.0.parts.ledgers.inbox(did).await?).await?)
    }

    /// Never takes a message of this sender again, on any device.
    ///
    /// # Errors
    /// [`InboxError`].
    pub async fn block(&self, did: &Did, sender: Did) -> Result<(), InboxError> {
        self.decide(did, Control::Block(sender)).await
    }

    /// Takes back a block.
    ///
    /// # Errors
    /// [`InboxError`].
    pub async fn unblock(&self, did: &Did, sender: Did) -> Result<(), InboxError> {
        self.decide(did, Control::Unblock(sender)).await
    }

    /// Takes messages of this sender also under [`Policy::Known`]; takes back a block.
    ///
    /// # Errors
    /// [`InboxError`].
    pub async fn allow(&self, did: &Did, sender: Did) -> Result<(), InboxError> {
        self.decide(did, Control::Allow(sender)).await
    }

    /// Sets from whom messages are taken.
    ///
    /// # Errors
    /// [`InboxError`].
    pub async fn set_policy(&self, did: &Did, policy: Policy) -> Result<(), InboxError> {
        self.decide(did, Control::Policy(policy)).await
    }

    async fn decide(&self, did: &Did, control: Control) -> Result<(), InboxError> {
        let ledger = self.0.parts.ledgers.inbox(did).await?;
        let before = rules_of(&ledger).await?;
        let mut after = before.clone();
        after.apply(control);
        if after == before { Ok(()) } else { Ok(decide(&ledger, control).await?) }
    }
}

#[cfg(test)]
mod tests {
    use walytis_core::id::ChainId;

    use super::*;

    #[test]
    fn blocked_senders_are_never_taken_and_unknown_ones_only_if_the_policy_says_so() {
        let [friend, stranger] = [1, 2].map(|n| Did(ChainId(BlockId::from_digest([n; 32]))));
        let mut rules = InboxRules::default();
        assert!(rules.takes(&stranger));
        rules.apply(Control::Block(stranger));
        assert!(!rules.takes(&stranger) && rules.takes(&friend));
        rules.apply(Control::Unblock(stranger));
        rules.apply(Control::Allow(friend));
        rules.apply(Control::Policy(Policy::Known));
        assert!(rules.takes(&friend) && !rules.takes(&stranger));
        rules.apply(Control::Block(friend));
        assert!(!rules.takes(&friend));
        rules.apply(Control::Allow(friend));
        assert!(rules.takes(&friend));
    }
}
