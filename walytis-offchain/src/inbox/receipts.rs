//! Receipts: telling senders that their messages were opened.
//!
//! Whoever opens a message waits for nobody: where the sender's keys are not known, because another device received the
//! message, they are asked for beside, one sender after the other. What is too much for that is not confirmed.

use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::debug;
use walytis_identities::contact::ContactCard;
use walytis_identities::id::Did;
use walytis_identities::node::IdentitiesError;

use super::message_v1::{MessageId, Says};
use super::{InboxError, Shared};

/// Receipts that wait for keys; more are dropped.
const WAITING_MAX: usize = 64;

/// That a message was opened.
#[derive(Clone, Debug)]
pub(super) struct Receipt {
    /// The receiver of the message.
    pub(super) from: Did,
    /// Its sender.
    pub(super) to: ContactCard,
    pub(super) opened: MessageId,
}

pub(super) type Receipts = mpsc::Sender<Receipt>;

pub(super) fn channel() -> (Receipts, mpsc::Receiver<Receipt>) {
    mpsc::channel(WAITING_MAX)
}

/// Learns the keys that are missing and sends what waited for them.
pub(super) async fn run(shared: Arc<Shared>, mut waiting: mpsc::Receiver<Receipt>) {
    loop {
        let receipt = tokio::select! {
            biased;
            () = shared.stop.cancelled() => return,
            receipt = waiting.recv() => receipt,
        };
        let Some(receipt) = receipt else { return };
        let sent = async {
            shared.parts.identities.reach(&receipt.to).await?;
            shared.queue(&receipt.from, &receipt.to, Says::Opened(receipt.opened)).await
        };
        let sent = tokio::select! {
            biased;
            () = shared.stop.cancelled() => return,
            sent = sent => sent,
        };
        if let Err(error) = sent {
            debug!(to = ?receipt.to.did, %error, "a message is not confirmed");
        }
    }
}

impl Shared {
    /// Tells the sender of a message that it was opened: at once, or as soon as its keys are known.
    pub(super) async fn confirm(&self, receipt: Receipt) -> Result<(), InboxError> {
        match self.queue(&receipt.from, &receipt.to, Says::Opened(receipt.opened)).await {
            Ok(_) => Ok(()),
            Err(InboxError::Identities(IdentitiesError::Unresolved { .. })) => {
                if self.receipts.try_send(receipt).is_err() {
                    debug!("too many receipts wait for keys");
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
