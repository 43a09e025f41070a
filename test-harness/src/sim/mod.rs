//! A simulated world without real time: networks that delay, lose, double, reorder, reset, stall and part; clocks that
//! disagree. Every choice is drawn from one seed, and everything that happens goes into one hash.
//!
//! ```text
//!  simulate(name, seeds, scenario)
//!     └─ World (module `world`) ── nodes
//!            └─ SimHub ── agenda (what arrives when) ── dice per directed link ── trace
//!                 └─ SimNetwork per node: core's `Network`
//! ```
//!
//! Randomness is drawn per directed link, each from a generator of its own that derives from the seed: what happens on
//! one link does not shift the dice of another. Time is tokio's paused clock, so a simulated hour takes as long as its
//! work.

mod agenda;
mod clock;
mod conditions;
mod dice;
mod hub;
mod network;
mod pipe;
mod run;
mod state;
mod trace;

pub use clock::SimClock;
pub use conditions::LinkConditions;
pub use dice::Dice;
pub use hub::SimHub;
pub use network::SimNetwork;
pub use run::{in_virtual_time, rerun_line, seeds, simulate};
pub use trace::TraceHash;
