//! Messages between identities: inbox, outbox, and who may write.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use walytis_core::ledger::LedgerError;
use walytis_identities::contact::ContactCard;
use walytis_identities::id::Did;
use walytis_identities::node::Identities;
use walytis_offchain::PrivateLedger;
use walytis_offchain::inbox::{INBOX_LAYER, Inbox, InboxError, InboxLedgers, InboxRules, MessageId, Policy, Received};

use super::resolve::Who;
use super::{App, convert, private};
use crate::failure::{Failure, Kind, causes};
use crate::view;

/// Finds the inbox layer of an identity among the open private ledgers.
#[derive(Debug)]
pub(super) struct Layers {
    pub(super) ledgers: private::Ledgers,
    pub(super) identities: Identities,
}

#[async_trait]
impl InboxLedgers for Layers {
    async fn inbox(&self, did: &Did) -> Result<PrivateLedger, LedgerError> {
        let refused = |failure: Failure| LedgerError::Refused { reason: failure.message };
        let handle = self.identities.identity(did).map_err(|error| refused(error.into()))?;
        self.ledgers.ledger(&handle, INBOX_LAYER).await.map_err(refused)
    }
}

/// A list of messages as it comes.
pub(crate) type Messages = BoxStream<'static, Result<view::Message, Failure>>;

impl App {
    /// Sends a message; it is in the outbox when this returns.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn send(&self, to: &str, from: Option<&str>, message: &[u8]) -> Result<view::Sent, Failure> {
        let card = match self.who(to)? {
            Who::Card(card) => card,
            Who::Did(did, _) => ContactCard { did, peers: Vec::new() },
        };
        let from = self.sender(from)?;
        let id = self.inbox.send(&from, &card, message).await?;
        Ok(view::Sent { id: id.to_string(), from: from.to_string(), to: card.did.to_string(), state: "waiting".into() })
    }

    /// Returns the identity to send as: the one named, or the only one there is.
    fn sender(&self, from: Option<&str>) -> Result<Did, Failure> {
        if let Some(from) = from {
            return Ok(self.identities.find(from)?);
        }
        match self.identities.list().as_slice() {
            [only] => Ok(only.did),
            [] => Err(Failure::not_found("there is no identity to send as", "create one: walytis identity create")),
            _ => Err(Failure::usage("there are several identities to send as", "name one with --as")),
        }
    }

    /// Lists what was sent.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn outbox(&self) -> Result<Vec<view::Outgoing>, Failure> {
        let all = self.inbox.outbox().await?;
        let show = |one: &walytis_offchain::inbox::Outgoing| view::Outgoing {
            id: one.id.to_string(),
            from: one.from.to_string(),
            to: one.to.to_string(),
            created_at: convert::rfc3339(one.created_at_ms),
            attempts: one.attempts,
            next_at: one.next_at_ms.map(convert::rfc3339),
            state: one.state.name().to_owned(),
        };
        Ok(all.iter().map(show).collect())
    }

    /// Takes a message out of the outbox.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn discard(&self, text: &str) -> Result<view::Text, Failure> {
        let ids: Vec<MessageId> = self.inbox.outbox().await?.iter().map(|one| one.id).collect();
        let found: Vec<&MessageId> =
            ids.iter().filter(|id| !text.is_empty() && id.to_string().starts_with(text)).collect();
        let id = *super::chains::only(&found, "message", text)?;
        self.inbox.discard(&id).await?;
        Ok(view::Text { text: id.to_string() })
    }

    /// Lists the messages of an identity; unless only `peek`ed at, they are opened by it, and their senders are told.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn messages(&self, identity: &str, follow: bool, peek: bool) -> Result<Messages, Failure> {
        let did = self.identities.find(identity)?;
        let found = if follow { self.inbox.follow(&did).await? } else { self.inbox.messages(&did).await? };
        let inbox = self.inbox.clone();
        let shown = found.map_err(Failure::from).and_then(move |message| {
            let inbox = inbox.clone();
            async move {
                if !peek && !message.opened {
                    open(&inbox, &did, &message).await;
                }
                Ok(shown(&message))
            }
        });
        Ok(shown.boxed())
    }

    /// Returns from whom an identity takes messages, after a change of it if one is given.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn senders(&self, identity: &str, change: Option<&view::SenderChange>) -> Result<view::Senders, Failure> {
        let did = self.identities.find(identity)?;
        if let Some(change) = change {
            self.change_senders(&did, change).await?;
        }
        let InboxRules { policy, blocked, allowed, .. } = self.inbox.rules(&did).await?;
        let texts = |dids: std::collections::BTreeSet<Did>| dids.iter().map(ToString::to_string).collect();
        let policy = match policy {
            Policy::Everybody => "everybody",
            Policy::Known => "known",
        };
        Ok(view::Senders { policy: policy.into(), blocked: texts(blocked), allowed: texts(allowed) })
    }

    async fn change_senders(&self, did: &Did, change: &view::SenderChange) -> Result<(), Failure> {
        for who in &change.block {
            self.inbox.block(did, self.who(who)?.did()).await?;
        }
        for who in &change.unblock {
            self.inbox.unblock(did, self.who(who)?.did()).await?;
        }
        for who in &change.allow {
            self.inbox.allow(did, self.who(who)?.did()).await?;
        }
        match change.policy.as_deref() {
            None => Ok(()),
            Some("everybody") => Ok(self.inbox.set_policy(did, Policy::Everybody).await?),
            Some("known") => Ok(self.inbox.set_policy(did, Policy::Known).await?),
            Some(other) => Err(Failure::usage(format!("no policy {other}"), "policies are everybody and known")),
        }
    }
}

/// That a message was opened may be impossible to note, e.g. by a reader or with a locked vault: it is shown all the same.
async fn open(inbox: &Inbox, did: &Did, message: &Received) {
    if let Err(error) = inbox.mark_opened(did, message).await {
        tracing::debug!(error = %causes(&error), "that a message was opened cannot be noted");
    }
}

fn shown(message: &Received) -> view::Message {
    view::Message {
        id: message.id.to_string(),
        from: message.from.to_string(),
        reply_card: message.reply.to_string(),
        sent_at: convert::rfc3339(message.sent_at_ms),
        received_at: convert::rfc3339(message.received_at_ms),
        received_by: message.by.to_string(),
        opened: message.opened,
        content_base64: STANDARD.encode(&message.message),
    }
}

impl From<InboxError> for Failure {
    fn from(error: InboxError) -> Self {
        match error {
            InboxError::Identities(error) => error.into(),
            InboxError::Ledger(error) => error.into(),
            InboxError::Store(error) => error.into(),
            InboxError::TooLong => Self::usage(&error, "add large content with walytis offchain add"),
            InboxError::Full { .. } => {
                Self::new(Kind::Refused, &error, "take some out with walytis offchain outbox --discard")
            }
            error => Self::not_found(&error, "see walytis offchain outbox"),
        }
    }
}
