//! Simulation, contract suites and adversaries for every crate of the workspace; nothing ships with it.
//!
//! | module | what |
//! |---|---|
//! | `contract` | what every implementation of a trait must do |
//! | `store` | stores that fail or lose power at a chosen step |
//! | `sim` | network, clocks and chance of one seed, and a hash of what happened |

pub mod contract;
pub mod sim;
pub mod store;
