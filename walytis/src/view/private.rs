//! What is shown of private content.

use serde::{Deserialize, Serialize};

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
