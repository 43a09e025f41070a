//! Scenarios in files: who is there, how bad the network is, what happens, what must hold after.
//!
//! ```text
//! scenarios/NAME.toml ──► Scenario (strict: what is not known is an error)
//!      seeds ───────────► run ──► World of this seed ──► steps ──► invariants and bounds ──► Outcome
//! ```
//!
//! A scenario knows what every node acknowledged. After its steps all members must show exactly that, in the same order,
//! with its content, within the virtual time and the bytes that the file allows.

mod attack;
mod cast;
mod file;
mod run;
mod script;

pub use file::{Clocks, End, Expect, Links, Scenario, ScenarioError, Step, Topology};
pub use run::{Outcome, all_files, load, rerun_line, run, run_seeds};
