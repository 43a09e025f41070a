//! What is shown of identities.

use serde::{Deserialize, Serialize};

/// One identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `did:walytis:…`.
    pub did: String,
    /// Id of its chain.
    pub id: String,
    /// Local name.
    pub name: String,
    /// This device's role, or `removed`.
    pub role: String,
    /// Epoch that is written under now.
    pub epoch: Option<String>,
    /// The recovery code: only when the identity is created, and never stored by the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery_code: Option<String>,
}

/// `identity show`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityDetail {
    /// `did:walytis:…`.
    pub did: String,
    /// Local name.
    pub name: String,
    /// This device's role, or `removed`.
    pub role: String,
    /// Epoch that is written under now.
    pub epoch: Option<String>,
    /// Epochs whose secret is not here.
    pub locked_epochs: Vec<String>,
    /// Controllers.
    pub controllers: Vec<Controller>,
}

/// One controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Controller {
    /// Device id or DID.
    pub id: String,
    /// `device` or `identity`.
    pub kind: String,
    /// Its name, if known.
    pub name: String,
    /// Role.
    pub role: String,
    /// Its node, if known.
    pub peer_id: Option<String>,
    /// The authority op that made it a controller.
    pub since: String,
}

/// `identity rekey`, `identity remove`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpDone {
    /// The authority op.
    pub op: String,
    /// The epoch it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
}

/// `identity verify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Whether the signature was made by a controller of the identity over this message.
    pub valid: bool,
    /// The identity.
    pub did: String,
    /// The controller.
    pub controller: Option<String>,
    /// The device.
    pub device: Option<String>,
    /// Whether the signer still is a controller.
    pub still_valid: bool,
}

/// `identity sign`, `identity seal`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// The signature or the sealed message.
    pub text: String,
}

/// `identity open`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Authenticated sender, or nothing if it was sealed anonymously.
    pub sender: Option<String>,
    /// The message, base64.
    pub content_base64: String,
}

/// A request to create an identity.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateIdentity {
    /// Local name.
    pub name: String,
    /// Name of this device.
    #[serde(default)]
    pub device: Option<String>,
}
