//! What is shown of messages between identities.

use serde::{Deserialize, Serialize};

/// A message that was put into the outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Its id.
    pub id: String,
    /// As whom.
    pub from: String,
    /// To whom.
    pub to: String,
    /// `waiting`.
    pub state: String,
}

/// A message in the outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    /// Its id.
    pub id: String,
    /// As whom.
    pub from: String,
    /// To whom.
    pub to: String,
    /// When it was sent (RFC 3339).
    pub created_at: String,
    /// How often delivery was tried.
    pub attempts: u32,
    /// When it is tried next (RFC 3339).
    pub next_at: Option<String>,
    /// `waiting`, `accepted`, `opened`, `refused` or `expired`.
    pub state: String,
}

/// A message that was received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its id.
    pub id: String,
    /// Who sent it, verified.
    pub from: String,
    /// The sender's contact card, unproven.
    pub reply_card: String,
    /// By the sender's clock (RFC 3339).
    pub sent_at: String,
    /// By the receiving device's clock (RFC 3339).
    pub received_at: String,
    /// Which controller received it.
    pub received_by: String,
    /// Whether some controller had opened it before.
    pub opened: bool,
    /// The message.
    pub content_base64: String,
}

/// From whom an identity takes messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Senders {
    /// `everybody` or `known`.
    pub policy: String,
    /// From whom never.
    pub blocked: Vec<String>,
    /// From whom also under `known`.
    pub allowed: Vec<String>,
}

/// A change of that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SenderChange {
    /// Take nothing of these any more.
    pub block: Vec<String>,
    /// Take that back.
    pub unblock: Vec<String>,
    /// Take messages of these under `known`.
    pub allow: Vec<String>,
    /// `everybody` or `known`.
    pub policy: Option<String>,
}
