//! Fetching and serving the blobs of chains.
//!
//! - `plan`, `fetch`: what to fetch next from whom (pure).
//! - `task`: the task of one chain that owns a plan, asks, verifies and stores.
//! - `look`: which blobs are missing, page by page.
//! - `serve`: the task of one channel that answers.
//!
//! The list of leaf digests comes first, verified against the root and stored; then leaves, several in flight from
//! several peers, each verified before it is stored. What was stored stays: a fetch goes on where it was.

mod fetch;
mod jobs;
mod look;
mod plan;
mod serve;
mod task;

pub(crate) use serve::{BlobRequest, BlobServeTask};
pub(crate) use task::{BlobInput, BlobTask};
