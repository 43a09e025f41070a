//! The nonlinear blockchain: a graph of signed blocks, synced between peers, offline-first.

pub mod access;
pub mod block;
pub mod chain;
pub mod clock;
pub mod fault;
pub mod graph;
pub mod id;
pub mod key;
pub mod ledger;
pub mod limits;
pub mod net;
pub mod node;
pub mod replica;
pub mod secret;
pub mod store;
pub mod topic;
pub mod unixfs;
