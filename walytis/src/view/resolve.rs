//! Contact cards and resolutions.

use serde::{Deserialize, Serialize};

/// A contact card.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Contact {
    /// Its text.
    pub card: String,
    /// The identity.
    pub did: String,
    /// How many nodes it names.
    pub peers: usize,
}

/// What to resolve.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Resolve {
    /// A DID, a DID URL, a contact card, or an identity of this node.
    pub who: String,
    /// As of this version; now if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
}

/// What a resolution found.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Resolved {
    /// The identity.
    pub did: String,
    /// The version that is shown.
    pub version_id: String,
    /// Authority heads of all that is known now.
    pub heads: Vec<String>,
    /// Controllers that answered now.
    pub heard_from: usize,
    /// Nodes that answered now, and were right.
    pub answers: usize,
    /// Nodes whose answers were refused.
    pub refused: Vec<RefusedAnswer>,
    /// Whether this node has a device of it; then nobody was asked.
    pub own: bool,
    /// The resolution in the form of DID Core.
    pub resolution: serde_json::Value,
}

/// An answer that was refused.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct RefusedAnswer {
    /// Whose.
    pub peer_id: String,
    /// Which rule it broke.
    pub rule: String,
    /// What was wrong.
    pub reason: String,
}
