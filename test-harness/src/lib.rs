//! Simulation, contract suites and adversaries for every crate of the workspace; nothing ships with it.

pub mod contract;
pub mod store;
