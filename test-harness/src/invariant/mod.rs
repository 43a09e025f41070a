//! What must hold after every scenario, as functions that say what does not.

mod chain;
mod plaintext;
mod subscriber;

use thiserror::Error;

pub use chain::{chain, convergence, pending_within_bounds};
pub use plaintext::{Places, no_plaintext};
pub use subscriber::SubscriberLog;

/// An invariant does not hold.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{invariant}: {found}")]
pub struct Broken {
    /// Which.
    pub invariant: &'static str,
    /// What was found.
    pub found: String,
}

impl Broken {
    pub(crate) const fn new(invariant: &'static str, found: String) -> Self {
        Self { invariant, found }
    }
}

pub(crate) fn check(holds: bool, invariant: &'static str, found: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken::new(invariant, found())) }
}
