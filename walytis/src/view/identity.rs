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
    /// The identity of this node as which it acts here, if it does.
    #[serde(default)]
    pub acts_as: Option<String>,
    /// Whether it was put away.
    #[serde(default)]
    pub archived: bool,
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
    /// The identity of this node as which it acts here, if it does.
    #[serde(default)]
    pub acts_as: Option<String>,
    /// Whether it was put away.
    #[serde(default)]
    pub archived: bool,
    /// Epoch that is written under now.
    pub epoch: Option<String>,
    /// Epochs whose secret is not here.
    pub locked_epochs: Vec<String>,
    /// Controllers.
    pub controllers: Vec<Controller>,
    /// Whether a removal in force can still be contested by the removed.
    pub provisional_removal: bool,
    /// Whether others hold newer things of this device than its own data folder held.
    pub older_copy: bool,
    /// Whether the identity was ended.
    pub deactivated: bool,
}

/// A change of role.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetRole {
    /// `admin`, `member`, `reader` or `keeper`.
    pub role: String,
}

/// What the DID document names beside keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetServices {
    /// Services, in order; they replace the ones before.
    pub services: Vec<Service>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Name: the fragment of its id.
    pub id: String,
    /// Type.
    #[serde(rename = "type")]
    pub kind: String,
    /// URL.
    pub endpoint: String,
}

/// A recovery.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recover {
    /// An identity of this node, a contact card or a DID.
    pub who: String,
    /// The recovery code.
    pub code: String,
    /// The next one, made by whoever asks: it is known there before it is in force, whatever becomes of the answer. Else the
    /// node makes one, and it is lost if the answer is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_code: Option<String>,
    /// Who stays.
    #[serde(default)]
    pub keep: Vec<String>,
    /// Local name, for an identity that is new to this node.
    #[serde(default)]
    pub name: Option<String>,
    /// Name of the new device.
    #[serde(default)]
    pub device: Option<String>,
    /// The identity of this node as which it is recovered, for an identity that is new to this node.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// Go on even if nobody can say what has been written.
    #[serde(default)]
    pub discard_content: bool,
}

impl std::fmt::Debug for Recover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recover({}, ***)", self.who)
    }
}

/// `identity recover`.
#[derive(Clone, Serialize, Deserialize)]
pub struct Recovered {
    /// `did:walytis:…`.
    pub did: String,
    /// Local name.
    pub name: String,
    /// This device's role.
    pub role: String,
    /// The op that recovered it.
    pub op: String,
    /// Epoch that is written under now.
    pub epoch: Option<String>,
    /// The next recovery code, shown once and never stored by the node; the one before is worth nothing any more.
    pub recovery_code: String,
}

impl std::fmt::Debug for Recovered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recovered({}, ***)", self.did)
    }
}

/// One generation of an identity's keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// The authority op that began it.
    pub id: String,
    /// What that op does, e.g. `rekey`.
    pub begun_by: String,
    /// Who published it.
    pub author: String,
    /// Controllers that have a share of it.
    pub recipients: Vec<String>,
    /// Whether it may be written under.
    pub counts: bool,
    /// Whether it is written under now.
    pub in_force: bool,
    /// Whether what is sealed under it can be read here.
    pub readable: bool,
    /// Of the one in force: for how many seconds this node has known that it is.
    pub age_s: Option<u64>,
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
    /// Of an identity: its devices that act here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<ActingDevice>,
}

/// A device that acts for an identity that is a controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActingDevice {
    /// Device id.
    pub id: String,
    /// Its name, if known.
    pub name: String,
    /// Its node, if known.
    pub peer_id: Option<String>,
}

/// `identity memberships`, one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The identity that is controlled.
    pub did: String,
    /// What it is called.
    pub name: String,
    /// `active`, `archived`, `left` or `removed`.
    pub state: String,
    /// Whether this node takes part in it already.
    pub here: bool,
}

/// `identity archive`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// Whether it is put away, or taken up again.
    pub archived: bool,
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
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateIdentity {
    /// Local name.
    pub name: String,
    /// Name of this device.
    #[serde(default)]
    pub device: Option<String>,
    /// What newcomers may read of the time before them: `none`, `from_invite` or `all` (the default).
    #[serde(default)]
    pub history: Option<String>,
    /// Age in seconds at which its keys are renewed by themselves; 30 days by default.
    #[serde(default)]
    pub renew_after_s: Option<u64>,
    /// The identity of this node that shall control it; by default a new device does.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
}
