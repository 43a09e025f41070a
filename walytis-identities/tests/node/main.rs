//! Identities between whole nodes, over a network in memory.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod acting;
mod contract;
mod epochs;
mod forget;
mod founding;
mod hostile;
mod hostile_joiner;
mod join;
mod large;
mod lock;
mod memberships;
mod parts;
mod places;
mod recovery;
mod recovery_lies;
mod recovery_of_groups;
mod remove;
mod renewal_races;
mod reseal;
mod resolve;
mod resolve_lies;
mod resolve_unasked;
mod rig;
mod rights;
mod sealed_to;
mod speak;
mod thrown_out;
mod upkeep;
