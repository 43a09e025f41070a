//! Store doubles that fail or lose power at a chosen point.
//!
//! A crash-point test runs its scenario once with [`Power::steady`] and reads how many [`steps`](Power::steps) it takes.
//! Then, for each of them, it runs the scenario again with [`Power::failing_at`], opens a node on
//! [`FailingStore::what_is_left`] and [`FailingBlobs::what_is_left`], and checks that everything acknowledged is there.
//!
//! [`CountingStore`] says what an operation costs in lookups, scans and writes: growth shows there without a clock.

mod counting;
mod failing;
mod power;

pub use counting::{Cost, CountingStore};
pub use failing::{FailingBlobs, FailingStore};
pub(crate) use power::Step;
pub use power::{Failure, Power};
