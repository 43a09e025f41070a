//! A node fails at every single write of a scenario, in every way there is; opened again it is in one piece, has what it
//! acknowledged, and goes on. No call waits for ever on a store that fails for good.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests fail by panicking"
)]

mod blobs;
#[cfg(feature = "offchain")]
mod envelopes;
#[cfg(feature = "offchain")]
mod forget;
mod join;
mod own;
mod plan;
#[cfg(feature = "offchain")]
mod private;
mod receive;
