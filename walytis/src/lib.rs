#![doc = include_str!("../README.md")]

pub mod api;
pub mod app;
mod backup;
pub mod cli;
pub mod daemon;
pub mod failure;
pub mod view;

pub use walytis_core as core;
pub use walytis_identities as identities;
pub use walytis_ipfs as ipfs;
pub use walytis_mutability as mutability;
pub use walytis_offchain as offchain;
