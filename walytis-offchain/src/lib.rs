//! Private blocks: metadata on the chain, content encrypted at each authorised peer.

pub mod context;
pub mod envelope;
mod exchange;
mod ledger;
pub mod padding;
pub mod record;

pub use exchange::{ExchangeStatus, OFFCHAIN, OffchainExchange};
pub use ledger::{BlockStatus, ContentState, LAYER_MAX, PrivateLedger, PrivateParts};
