//! The inbox: messages to all controllers of an identity, from whoever has its contact card.
//!
//! ```text
//!   send ─► sealed to the receiver, signed by the sender ─► outbox (flushed) ─► any reachable controller, again and again
//!   a controller: opened, sender verified, rules, limits ─► block of the private layer `inbox` ─► every controller, once
//!   opened there ─► a letter back: the outbox shows it
//! ```
//!
//! The sending node keeps a letter sealed: it cannot read it again. The receiving device vouches for the sender towards the
//! other controllers, whose ledger it writes to. Everything is bounded: letters in size, senders in rate, the outbox in
//! number and time, receipts apart from messages, streams in number, in all and of each node. A sender is only what a letter
//! claims until its own identity says so: the rules are asked, and turns are spent, before anybody else is.

mod deliver;
mod frame;
mod gate;
mod message_v1;
mod outbox;
mod places;
mod receipts;
mod receive;
mod rules;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use thiserror::Error;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use walytis_core::clock::{Clock, Entropy};
use walytis_core::fault::Fault;
use walytis_core::id::PeerId;
use walytis_core::ledger::LedgerError;
use walytis_core::net::{Network, NetworkError};
use walytis_core::store::{KvStore, StoreError};
use walytis_identities::contact::ContactCard;
use walytis_identities::id::Did;
use walytis_identities::node::{Identities, IdentitiesError};

pub use message_v1::{MESSAGE_MAX, MessageId, Policy};
pub use outbox::{Outgoing, OutgoingState};
pub use receive::{INBOX, Received};
pub use rules::InboxRules;

use crate::PrivateLedger;
use gate::Buckets;
use message_v1::{CONTEXT, Letter, Says};
use places::Places;
use receipts::Receipts;

/// The private layer that messages stand in.
pub const INBOX_LAYER: &str = "inbox";

/// Where the inbox finds the private ledger of an identity of this node.
#[async_trait]
pub trait InboxLedgers: Send + Sync + fmt::Debug {
    /// Returns the open ledger of the layer [`INBOX_LAYER`] of an identity.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn inbox(&self, did: &Did) -> Result<PrivateLedger, LedgerError>;
}

/// What an inbox is started with.
#[derive(Clone, Debug)]
pub struct InboxParts {
    /// The node's identities.
    pub identities: Identities,
    /// Their private ledgers.
    pub ledgers: Arc<dyn InboxLedgers>,
    /// The node's network.
    pub network: Arc<dyn Network>,
    /// The node's store; the outbox stands there.
    pub store: Arc<dyn KvStore>,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// For names of messages.
    pub entropy: Arc<dyn Entropy>,
}

/// An inbox could not do what was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InboxError {
    /// The message is too long.
    #[error("a message has at most {MESSAGE_MAX} bytes")]
    TooLong,
    /// Too many messages wait.
    #[error("{max} messages wait in the outbox already")]
    Full {
        /// The bound.
        max: usize,
    },
    /// There is no message of this id.
    #[error("no such message")]
    Unknown,
    /// The sender's or receiver's identity refuses or is not known.
    #[error(transparent)]
    Identities(#[from] IdentitiesError),
    /// The private layer failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Storage failed.
    #[error("storage failed")]
    Store(#[from] StoreError),
}

impl InboxError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::TooLong | Self::Full { .. } | Self::Unknown => Fault::Caller,
            Self::Identities(error) => error.fault(),
            Self::Ledger(error) => error.fault(),
            Self::Store(error) => error.fault(),
        }
    }
}

/// The inboxes of a node's identities, and its outbox. Cheap to clone.
#[derive(Clone)]
pub struct Inbox(Arc<Shared>);

struct Shared {
    parts: InboxParts,
    /// Wakes delivery.
    wake: Notify,
    /// Accepting one letter at a time: it looks for a copy, then writes.
    turn: Semaphore,
    limits: Mutex<Limits>,
    places: Mutex<Places>,
    /// One at a time reads and writes the outbox.
    book: tokio::sync::Mutex<()>,
    /// What could not be sealed at once.
    receipts: Receipts,
    tasks: Mutex<JoinSet<()>>,
    stop: CancellationToken,
}

/// How much is taken.
#[derive(Debug)]
struct Limits {
    peers: Buckets<PeerId>,
    /// By receiving and sending identity.
    senders: Buckets<(Did, Did)>,
    /// By receiving identity, of all senders together: identities cost nothing.
    receivers: Buckets<Did>,
    /// By receiving identity and delivering node: letters of which nobody can say yet who sent them.
    unproven: Buckets<(Did, Option<PeerId>)>,
    /// As many of all nodes together.
    all_unproven: Buckets<Did>,
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbox")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inbox {
    /// Starts to receive and to deliver; once per node.
    ///
    /// # Errors
    /// [`NetworkError`] if the protocol is taken already.
    pub fn start(parts: InboxParts) -> Result<Self, NetworkError> {
        let incoming = parts.network.accept(INBOX)?;
        let (receipts, waiting) = receipts::channel();
        let shared = Arc::new(Shared {
            parts,
            wake: Notify::new(),
            turn: Semaphore::new(1),
            limits: Mutex::new(receive::limits()),
            places: Mutex::default(),
            book: tokio::sync::Mutex::default(),
            receipts,
            tasks: Mutex::default(),
            stop: CancellationToken::new(),
        });
        lock(&shared.tasks).spawn(receive::accept(Arc::clone(&shared), incoming));
        lock(&shared.tasks).spawn(deliver::run(Arc::clone(&shared)));
        lock(&shared.tasks).spawn(receipts::run(Arc::clone(&shared), waiting));
        Ok(Self(shared))
    }

    /// Sends a message of at most [`MESSAGE_MAX`] bytes as an identity of this node. It is in the outbox, flushed, when this
    /// returns, and is delivered as soon as a controller of the receiver can be reached. The receiver's keys must be known or
    /// resolvable now.
    ///
    /// # Errors
    /// [`InboxError`]; then nothing is sent.
    pub async fn send(&self, from: &Did, to: &ContactCard, message: &[u8]) -> Result<MessageId, InboxError> {
        if message.len() > MESSAGE_MAX {
            return Err(InboxError::TooLong);
        }
        self.0.parts.identities.resolve_card(to).await?;
        self.0.queue(from, to, Says::Message(message.to_vec())).await
    }

    /// Returns what was sent from this node and where it is, oldest first.
    ///
    /// # Errors
    /// [`InboxError::Store`].
    pub async fn outbox(&self) -> Result<Vec<Outgoing>, InboxError> {
        let mut all: Vec<Outgoing> = self.0.outgoing().await?.into_iter().filter_map(outbox::Row::shown).collect();
        all.sort_by_key(|one| (one.created_at_ms, one.id));
        Ok(all)
    }

    /// Takes a message out of the outbox: if it was not delivered it never is.
    ///
    /// # Errors
    /// [`InboxError::Unknown`]; [`InboxError::Store`].
    pub async fn discard(&self, id: &MessageId) -> Result<(), InboxError> {
        self.0.row(id).await?.and_then(outbox::Row::shown).ok_or(InboxError::Unknown)?;
        Ok(self.0.remove(id).await?)
    }

    /// Ends all tasks. Idempotent.
    pub async fn shutdown(&self) {
        self.0.stop.cancel();
        let mut tasks = std::mem::take(&mut *lock(&self.0.tasks));
        while tasks.join_next().await.is_some() {}
    }
}

impl Shared {
    /// Seals a letter and puts it into the outbox.
    async fn queue(&self, from: &Did, to: &ContactCard, says: Says) -> Result<MessageId, InboxError> {
        let parts = &self.parts;
        let mut id = [0; 32];
        parts.entropy.fill(&mut id);
        let (id, now_ms) = (MessageId(id), parts.clock.now_ms());
        let mut reply = parts.identities.contact_card(from)?;
        reply.peers.retain(|peer| !peer.addresses.is_empty());
        let receipt = matches!(says, Says::Opened(_));
        let letter = Letter { id, sent_at_ms: now_ms, reply, says };
        let sealed = parts.identities.seal_known(&to.did, CONTEXT, &letter.encode(), Some(from)).await?;
        let row = outbox::Row::new(id, *from, to.clone(), now_ms, receipt);
        self.put_new(&row, sealed.encode()).await?;
        self.wake.notify_one();
        Ok(id)
    }
}
