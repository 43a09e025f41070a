//! What reconciliation asks of a set.

use std::fmt;

use async_trait::async_trait;

use super::sum::Sum;
use crate::graph::CanonicalKey;
use crate::id::BlockId;
use crate::ledger::LedgerError;

/// A place between items: before every item that is not below it. An id may be cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bound {
    pub(crate) key: CanonicalKey,
    /// Bytes of the id that count; the others are 0.
    pub(crate) id_len: u8,
}

impl Bound {
    /// Before everything.
    pub(crate) const START: Self = Self::generation(0);
    /// Behind everything.
    pub(crate) const END: Self = Self::generation(u64::MAX);

    /// Before the first item of a generation.
    pub(crate) const fn generation(generation: u64) -> Self {
        Self { key: CanonicalKey { generation, id: BlockId::from_digest([0; 32]) }, id_len: 0 }
    }

    /// Before this very item.
    pub(crate) const fn item(key: CanonicalKey) -> Self {
        Self { key, id_len: 32 }
    }
}

/// The set cannot be read, or only at too high a price.
#[derive(Debug)]
pub(crate) enum SetError {
    /// The store failed.
    Ledger(LedgerError),
    /// More would have to be read than one message may cost.
    TooCostly,
}

impl From<LedgerError> for SetError {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ledger(error) => error.fmt(f),
            Self::TooCostly => f.write_str("an answer costs too much"),
        }
    }
}

/// A set of items in canonical order that knows the sums of its ranges. Ranks count from 0.
#[async_trait]
pub(crate) trait SummedSet: Send {
    /// Returns how many items there are.
    async fn size(&mut self) -> Result<u64, SetError>;

    /// Returns how many items are below a bound.
    async fn rank(&mut self, bound: &Bound) -> Result<u64, SetError>;

    /// Returns the sum of the first `rank` items.
    async fn prefix(&mut self, rank: u64) -> Result<Sum, SetError>;

    /// Returns the items from one rank to before another, ascending; fewer if the set ends.
    async fn items(&mut self, from: u64, until: u64) -> Result<Vec<CanonicalKey>, SetError>;
}
