//! What is shown of private content.

use serde::{Deserialize, Serialize};

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
