//! What is shown of private content.

use serde::{Deserialize, Serialize};

/// A private block, and who stands for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrivateBlock {
    /// The block; `author` is the controller that wrote it, `creator` the key of its device.
    #[serde(flatten)]
    pub block: super::Block,
    /// The block by which the same device vouches for it under its post-quantum key, if there is one yet.
    pub checkpoint: Option<String>,
    /// The block itself carries a signature under both keys of its device.
    pub hybrid: bool,
}

/// A chain of its own for private ledgers, to be created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateBound {
    /// Its name; the other devices see it too.
    pub name: String,
    /// Whether each record on it must carry a signature under both keys of its device.
    #[serde(default)]
    pub hybrid_records: bool,
}

/// A chain on which private ledgers of an identity can stand, beside the identity's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// Chain.
    pub id: String,
    /// Local name.
    pub name: String,
    /// The identity.
    pub did: String,
    /// Whether each record on it carries a signature under both keys of its device.
    pub hybrid_records: bool,
}

/// How one private content came nearer, and what is missing in all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentProgress {
    /// The content, as it is now.
    #[serde(flatten)]
    pub content: ContentStatus,
    /// Contents of this ledger that are not here whole.
    pub missing_contents: u64,
    /// Bytes of those, padded.
    pub missing_bytes: u64,
}

/// What is here of one private content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentStatus {
    /// Block.
    pub id: String,
    /// `wanted`, `partial`, `available`, `unavailable`, `locked` or `forgotten`.
    pub state: String,
    /// Bytes here.
    pub bytes_done: u64,
    /// Bytes in all, as far as known.
    pub bytes_total: u64,
}

/// Under which rule a content is forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgetRule {
    /// Who must consent: `all` (also if not given), `author`, `admins` or a number.
    pub forget_by: Option<String>,
    /// After how many seconds every device destroys it.
    pub expires_s: Option<u64>,
}

/// What is to be forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Forget {
    /// On this device only.
    pub local: bool,
    /// Why; seen by members only.
    pub reason: String,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Forgetting {
    /// Proposed to all.
    Proposed {
        /// The proposal.
        proposal: String,
    },
    /// Gone here.
    Local {
        /// Block.
        id: String,
        /// `forgotten`.
        state: String,
    },
}

/// A proposal to forget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Its block.
    pub id: String,
    /// What is to be forgotten.
    pub blocks: Vec<String>,
    /// Who proposes.
    pub by: String,
    /// Why, if it can be read here.
    pub reason: Option<String>,
    /// Controllers that consented.
    pub consents: Vec<String>,
    /// Controllers that refuse.
    pub refusals: Vec<String>,
    /// Controllers that have said nothing.
    pub silent: Vec<String>,
    /// Controllers of the devices that are done, once for each device.
    pub done: Vec<String>,
    /// `open`, `refused`, `forgotten` or `void`.
    pub state: String,
}
