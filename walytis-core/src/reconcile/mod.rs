//! Finding out which items two sets do not share: range-based set reconciliation, protocol negentropy v1.
//!
//! ```text
//! asker                                            answerer
//!   first(): 16 ranges with fingerprints  ───────►  respond(): ranges that differ, split again, or their ids
//!   conclude(): ids it lacks; ranges left ◄───────
//!                  …until no range is left
//! ```
//!
//! Items are blocks, ordered by generation and id. A fingerprint is a hash of how many ids a range has and of their sum, so
//! it follows from sums that are kept while blocks are added ([`SummedSet`]): a session costs what differs, not what is
//! there. Everything a message makes this side do is bounded: ranges and ids when it is decoded, reads while it is answered.
//!
//! The crate `negentropy` is the reference in the tests. Its storage trait returns a type that it does not export, so that
//! kept sums cannot be handed to it: it would add up every id of every range.

mod exchange;
mod message;
mod set;
mod sum;

pub(crate) use exchange::{Conclusion, conclude, first, respond};
pub(crate) use set::{Bound, SetError, SummedSet};
pub(crate) use sum::Sum;

#[cfg(test)]
pub(crate) mod tests;
