//! Contract suites: what every implementation of a trait must do.

pub mod blob;
#[cfg(feature = "identities")]
pub mod identity;
pub mod kv;
pub mod ledger;
pub mod network;
pub mod secret;
