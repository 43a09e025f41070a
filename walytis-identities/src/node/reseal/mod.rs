//! Epoch secrets on request: `/walytis/reseal/1`, for a controller whose slot is missing or opens no more.
//!
//! ```text
//!  asker                         a controller that holds them
//!  exchange of ops and cards ───►                   so that the asker's newest receiving key is known
//!  DID, epochs (1..=64) ───────►
//!        ◄─────────────── for each that is the asker's by the state: its share, sealed to that key
//! ```
//!
//! Missing slots: of epochs that were begun beside an admission, of epochs since an invitation, or sealed to a receiving
//! key that is destroyed. Who asks is known by its authenticated peer id and its card, as in any session.

mod ask;
mod serve;

pub(super) use ask::ask;
pub(super) use serve::answer;

use walytis_core::net::Protocol;

/// The protocol.
pub(super) const RESEAL: Protocol = "/walytis/reseal/1";
