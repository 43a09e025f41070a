//! What is shown of changed blocks.

use serde::{Deserialize, Serialize};

use super::Block;

/// How a block stands that was changed; `topics`, `size` and `state` beside it are those of the version shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The version that stands for the block.
    pub version: String,
    /// Versions in all, the first among them.
    pub versions: u64,
    /// Versions beside the current one that no later version took into account.
    pub conflicts: u64,
    /// Whether it is deleted.
    pub deleted: bool,
}

/// One version of a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its id: that of its block.
    pub id: String,
    /// `create`, `edit`, `delete` or `restore`.
    pub act: String,
    /// Of a restore: the version that it shows again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<String>,
    /// Who wrote it: a key on chains, a controller on private ledgers.
    pub author: String,
    /// By the author's clock, RFC 3339.
    pub created_at: String,
    /// 1 + the largest generation of its block's parents.
    pub generation: u64,
    /// Topics of what it shows.
    pub topics: Vec<String>,
    /// Bytes of what it shows; 0 for a deletion.
    pub size: u64,
    /// State of the content it shows.
    pub state: String,
    /// The versions that its author knew to be the newest.
    pub supersedes: Vec<String>,
    /// Whether no later version took it into account.
    pub head: bool,
    /// Whether it stands for the block.
    pub current: bool,
}

/// `erase`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// The deleted block.
    pub block: Block,
    /// Whether the forgetting of the contents was asked for; otherwise the ledger cannot forget, and the history stays.
    pub forgetting: bool,
    /// The blocks that hold what was said.
    pub blocks: Vec<String>,
}

/// Who may change the blocks of a ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// `author`, `anyone` or `admins-may-delete`.
    pub policy: String,
}

/// A request to show an earlier version again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// The version, or an unambiguous prefix.
    pub version: String,
}
