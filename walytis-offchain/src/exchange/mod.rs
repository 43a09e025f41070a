//! Moving envelopes between authorised peers, protocol `/walytis/offchain/1`.
//!
//! One [`OffchainExchange`] per node carries all private ledgers: each opens one stream per peer for what it asks and
//! pushes, and answers on the streams that peers open. What a peer may have is decided by the ledger, at every request.

mod bucket;
pub(crate) mod frame_v1;
mod limits;
mod machine;
mod places;
mod runs;
mod service;

pub use limits::ExchangeConfig;
pub(crate) use machine::{Machine, Output};
pub(crate) use runs::Runs;
pub(crate) use service::{Event, Port, Serve, flat_no};
pub use service::{ExchangeStatus, OFFCHAIN, OffchainExchange};
