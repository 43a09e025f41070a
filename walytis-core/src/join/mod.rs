//! Joining a chain by invitation.
//!
//! An [`Invitation`] is a short text; whoever holds it proves the seed in it to a member and gets the chain secret and
//! the genesis block over the same encrypted stream. Then ordinary replication brings the blocks; a join that was
//! interrupted behind that point goes on by itself.
//!
//! ```text
//!   joiner                                   member
//!     hello { nonce }           ───────────►
//!                               ◄───────────  challenge { nonce }
//!     prove { chain, key, signature over     checks the signature, then its record; counts a use, flushed
//!       both nonces, both peer ids } ───────►
//!                               ◄───────────  granted { secret, genesis, … } | denied { why } | refused
//! ```
//!
//! Without the seed there is one answer to everything, `refused`: it does not say whether the chain is known.

mod finish;
mod joiner;
mod member;
mod members;
mod token;
mod wire_v1;

pub use joiner::{JoinError, JoinProgress, Joined, join};
pub use member::{JOIN, JoinService};
pub use members::members;
pub use token::{Invitation, MEMBERS_MAX, TOKEN_BYTES_MAX, TokenError};
