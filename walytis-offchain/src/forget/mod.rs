//! Forgetting by consent: what is said about it on the chain, and what it amounts to.
//!
//! A record of this kind stands in the clear, so that a keeper, who opens nothing, drops what all have given up, and so that
//! whoever is admitted later inherits the decision. Only the reason is sealed.
//!
//! ```text
//!   propose ──► consent, consent, … ──► met (rule of each block) ──► destroyed on every device ──► done, done, …
//!      └──────► refuse ──► blocks until its author consents
//! ```
//!
//! What counts only grows: a consent is final, a voter who is removed is not asked any more. So whether a rule is met does
//! not depend on the order in which a replica hears of it ([`Tally`]), and destruction, once it followed, is final.

mod record_v1;
mod rule;
mod tally;

pub(crate) use record_v1::{Act, ForgetRecord, open_reason, seal_reason};
pub use record_v1::{FORGET_BLOCKS_MAX, REASON_MAX};
pub use rule::{Consent, ForgetRule};
pub(crate) use tally::{Claimed, Tally, Voters};

/// Name of the overlay in topics of forget records.
pub(crate) const OVERLAY: &str = "forget";
