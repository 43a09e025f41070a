//! Contract suites: what every implementation of a trait must do.

pub mod kv;
pub mod network;
