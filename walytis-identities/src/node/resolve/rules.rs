//! What an answer must keep to.

use thiserror::Error;

use super::super::error::ExchangeError;
use crate::state::{Refusal, Rule};

/// Why an answer about an identity is refused. The number is the contract; the rules stand in `docs/validation.md`.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnswerFault {
    /// V-RES-01: every frame is well-formed and within its bound.
    #[error("it is malformed: {what} (V-RES-01)")]
    Malformed {
        /// Which frame.
        what: &'static str,
    },
    /// V-RES-02: whoever knows nothing gets the genesis block that the DID names, and it creates an identity.
    #[error("it brings no genesis block of this identity (V-RES-02)")]
    Genesis,
    /// V-RES-03: every op is of this identity.
    #[error("it brings an op of another identity (V-RES-03)")]
    OtherIdentity,
    /// V-RES-04: every op is signed by a device that its past knows.
    #[error("it brings an op that is not signed as it must be (V-RES-04)")]
    Signature,
    /// V-RES-05: every op was authorised in its own past.
    #[error("it brings an op without right: {rule} (V-RES-05)")]
    Unauthorised {
        /// What is missing.
        rule: Rule,
    },
    /// V-RES-06: the parents of an op come before it.
    #[error("it brings an op without what comes before it (V-RES-06)")]
    Order,
    /// V-RES-07: an answer has at most 8,192 ops, 8 MiB and 1,024 cards; one that is not the last brings something new. All
    /// that is known of one identity has at most 256 MiB, of one that nobody asked for at most 2 MiB.
    #[error("it is longer than allowed, or has no end (V-RES-07)")]
    Bounds,
    /// V-RES-08: the heads that it names are among the ops that it and earlier answers brought.
    #[error("it holds back ops that it names (V-RES-08)")]
    Heads,
    /// V-RES-09: every card is signed by its device and by the key of the node that it names.
    #[error("it brings a device card that proves nothing (V-RES-09)")]
    Card,
    /// V-RES-10: an answer says where it ends, and comes in time.
    #[error("it stops before its end (V-RES-10)")]
    Unfinished,
}

impl AnswerFault {
    /// Returns the number, e.g. `V-RES-04`.
    pub const fn number(self) -> &'static str {
        match self {
            Self::Malformed { .. } => "V-RES-01",
            Self::Genesis => "V-RES-02",
            Self::OtherIdentity => "V-RES-03",
            Self::Signature => "V-RES-04",
            Self::Unauthorised { .. } => "V-RES-05",
            Self::Order => "V-RES-06",
            Self::Bounds => "V-RES-07",
            Self::Heads => "V-RES-08",
            Self::Card => "V-RES-09",
            Self::Unfinished => "V-RES-10",
        }
    }

    /// Returns what a refused op amounts to.
    pub(super) const fn of(refusal: Refusal) -> Self {
        match refusal {
            Refusal::OtherChain => Self::OtherIdentity,
            Refusal::Unauthorised { rule } => Self::Unauthorised { rule },
            Refusal::Full => Self::Bounds,
            Refusal::Op(_) => Self::Malformed { what: "op" },
            _ => Self::Signature,
        }
    }
}

/// Why a node told nothing.
#[derive(Debug, Error)]
pub(super) enum NoAnswer {
    #[error("it knows nothing of this identity")]
    Unknown,
    #[error("its answer is refused: {0}")]
    Refused(#[from] AnswerFault),
    #[error("it could not be asked: {0}")]
    Network(#[from] walytis_core::net::NetworkError),
    #[error("the storage failed: {0}")]
    Store(#[from] walytis_core::store::StoreError),
}

impl From<ExchangeError> for NoAnswer {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Network(error) => Self::Network(error),
            ExchangeError::TooLarge => AnswerFault::Malformed { what: "a frame too large" }.into(),
            ExchangeError::Malformed { what } => AnswerFault::Malformed { what }.into(),
            ExchangeError::UnknownIdentity => Self::Unknown,
            ExchangeError::Stream(_) | ExchangeError::TimedOut | ExchangeError::Closed => {
                AnswerFault::Unfinished.into()
            }
        }
    }
}
