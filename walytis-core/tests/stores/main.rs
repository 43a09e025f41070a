//! Every store runs its contract suite; the persistent ones are also opened again, damaged and killed.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

mod blobs;
mod crash;
mod cut;
mod full;
mod kill;
mod kv;
mod rocks;
mod secrets;
