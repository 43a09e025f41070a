//! Contract suites: what every implementation of a trait must do.

pub mod network;
