//! Simulation, contract suites and adversaries for every crate of the workspace; nothing ships with it.
//!
//! | module | what |
//! |---|---|
//! | `contract` | what every implementation of a trait must do |
//! | `store` | stores that fail or lose power at a chosen step |
//! | `sim` | network, clocks and chance of one seed, and a hash of what happened |
//! | `world` | whole nodes in it: started, killed, restarted, compared |
//! | `scenario` | scenarios in files, run under many seeds |
//! | `invariant` | what must hold after every scenario |
//! | `adversary` | peers that speak the wire formats and keep no rule |
//! | `outsider` | a hostile peer over real libp2p, and the program `outsider` around it |

#![allow(clippy::missing_panics_doc, reason = "suites and helpers of tests fail by panicking: it is what they are for")]

pub mod adversary;
pub mod contract;
pub mod invariant;
#[cfg(all(feature = "ipfs", feature = "offchain"))]
pub mod outsider;
pub mod scenario;
pub mod sim;
pub mod store;
pub mod world;
