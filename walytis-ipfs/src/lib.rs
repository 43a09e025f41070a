#![doc = include_str!("../README.md")]

mod behaviour;
mod book;
mod config;
mod dial;
mod driver;
mod error;
mod key;
mod life;
mod metrics;
mod node;
mod start;
mod streams;
mod view;

pub use config::{ConnectionLimits, NodeConfig};
pub use error::{KeyFileError, StartError};
pub use key::{NodeKey, verify_peer};
pub use metrics::Metrics;
pub use node::Libp2pNode;
