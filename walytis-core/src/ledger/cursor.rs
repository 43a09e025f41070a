//! Places in the answer of a query, as opaque text.

use std::fmt;
use std::str::FromStr;

use cid::multibase::{self, Base};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::block::BlockInfo;
use super::query::{Order, Query};
use crate::id::{BlockId, ChainId};
use crate::key::PublicKey;

/// Version of the text.
const VERSION: u8 = 1;
/// Bytes of a cursor: version, two checks, number, block id.
const BYTES: usize = 1 + 8 + 8 + 8 + 32;
/// Bound into what a cursor says of its ledger.
const LEDGER_LABEL: &[u8] = b"walytis/core/page-cursor-ledger/v1";
/// Bound into what a cursor says of its query.
const QUERY_LABEL: &[u8] = b"walytis/core/page-cursor-query/v1";

/// A place in the order of a query: before or behind any block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The generation in canonical order, the arrival number in arrival order.
    pub number: u64,
    /// The block at this place.
    pub id: BlockId,
}

impl Place {
    /// Returns the place of a block.
    pub fn of(order: Order, block: &BlockInfo) -> Self {
        let number = match order {
            Order::Canonical => block.generation,
            Order::Arrival => block.cursor.0,
        };
        Self { number, id: block.id }
    }
}

/// Where to read on in the answer of one query on one ledger. The text is opaque and stable: blocks that arrive between
/// two pages move no place. A place of canonical order is good on every replica, one of arrival order only on the
/// replica that made it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PageCursor {
    ledger: [u8; 8],
    query: [u8; 8],
    place: Place,
}

/// A cursor cannot be used.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CursorError {
    /// The text is no cursor.
    #[error("this is not a cursor: {reason}")]
    Malformed {
        /// What is wrong.
        reason: &'static str,
    },
    /// It was made by another ledger.
    #[error("this cursor belongs to another chain or private ledger")]
    OtherLedger,
    /// It was made by another query.
    #[error("this cursor belongs to another query: filters and order must stay the same from page to page")]
    OtherQuery,
    /// It is a place in the arrival order of another replica.
    #[error("this cursor was made by another node: arrival order differs from node to node")]
    OtherReplica,
}

impl PageCursor {
    /// Returns the cursor at a place. `overlay` tells ledgers of one chain apart: empty for the chain itself.
    pub fn new(chain: &ChainId, overlay: &str, query: &Query, place: Place) -> Self {
        Self { ledger: ledger_check(chain, overlay), query: query_check(query), place }
    }

    /// Returns the place, if this cursor is of this ledger and query.
    ///
    /// # Errors
    /// [`CursorError::OtherLedger`], [`CursorError::OtherQuery`].
    pub fn place(&self, chain: &ChainId, overlay: &str, query: &Query) -> Result<Place, CursorError> {
        if self.ledger != ledger_check(chain, overlay) {
            return Err(CursorError::OtherLedger);
        }
        if self.query != query_check(query) {
            return Err(CursorError::OtherQuery);
        }
        Ok(self.place)
    }

    /// Returns the place, if this cursor is of the ledger and query of another one.
    ///
    /// # Errors
    /// [`CursorError::OtherLedger`], [`CursorError::OtherQuery`].
    pub fn place_like(&self, other: &Self) -> Result<Place, CursorError> {
        if self.ledger != other.ledger {
            return Err(CursorError::OtherLedger);
        }
        if self.query != other.query {
            return Err(CursorError::OtherQuery);
        }
        Ok(self.place)
    }

    /// Returns the cursor at another place of the same answer.
    #[must_use]
    pub const fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }
}

fn ledger_check(chain: &ChainId, overlay: &str) -> [u8; 8] {
    short(Sha256::new().chain_update(LEDGER_LABEL).chain_update(chain.digest()).chain_update(overlay))
}

/// Covers everything that says which blocks come in which order; not where they begin and how many.
fn query_check(query: &Query) -> [u8; 8] {
    let mut hash = Sha256::new().chain_update(QUERY_LABEL);
    for topics in [&query.topics_any, &query.topics_all] {
        let unique: std::collections::BTreeSet<_> = topics.iter().collect();
        hash.update((unique.len() as u64).to_be_bytes());
        for topic in unique {
            hash.update((topic.as_str().len() as u64).to_be_bytes());
            hash.update(topic.as_str());
        }
    }
    let mut add = |bytes: Option<&[u8]>| {
        hash.update([u8::from(bytes.is_some())]);
        hash.update(bytes.unwrap_or_default());
    };
    add(query.creator.as_ref().map(|PublicKey::Ed25519(bytes)| bytes.as_slice()));
    add(query.since_ms.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
    add(query.until_ms.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
    add(query.generation_from.map(u64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
    add(query.generation_to.map(u64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
    add(query.arrived_after.map(|cursor| cursor.0.to_be_bytes()).as_ref().map(<[u8; 8]>::as_slice));
    let arrival = query.order == Order::Arrival;
    hash.update([arrival, query.reverse, query.include_void, query.include_overlays].map(u8::from));
    short(hash)
}

fn short(hash: Sha256) -> [u8; 8] {
    let digest: [u8; 32] = hash.finalize().into();
    digest.first_chunk().copied().unwrap_or_default()
}

impl fmt::Display for PageCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.ledger);
        bytes.extend_from_slice(&self.query);
        bytes.extend_from_slice(&self.place.number.to_be_bytes());
        bytes.extend_from_slice(self.place.id.digest());
        f.write_str(&multibase::encode(Base::Base64Url, bytes))
    }
}

impl fmt::Debug for PageCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageCursor({:?})", self.place)
    }
}

impl FromStr for PageCursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let malformed = |reason| CursorError::Malformed { reason };
        if text.len() > 2 * BYTES {
            return Err(malformed("it is too long"));
        }
        let decoded = multibase::decode(text).ok().filter(|(base, _)| *base == Base::Base64Url);
        let (_, bytes) = decoded.ok_or(malformed("copy it as it was printed"))?;
        let bytes: [u8; BYTES] = bytes.try_into().map_err(|_| malformed("it is not complete"))?;
        let mut rest = bytes.as_slice();
        if take::<1>(&mut rest)? != [VERSION] {
            return Err(malformed("it was made by another version of walytis"));
        }
        let (ledger, query) = (take(&mut rest)?, take(&mut rest)?);
        let number = u64::from_be_bytes(take(&mut rest)?);
        let place = Place { number, id: BlockId::from_digest(take(&mut rest)?) };
        let cursor = Self { ledger, query, place };
        if cursor.to_string() != text {
            return Err(malformed("copy it as it was printed"));
        }
        Ok(cursor)
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], CursorError> {
    let (first, rest) =
        bytes.split_first_chunk::<N>().ok_or(CursorError::Malformed { reason: "it is not complete" })?;
    *bytes = rest;
    Ok(*first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Cursor;
    use crate::topic::Topic;

    fn chain(n: u8) -> ChainId {
        ChainId(BlockId::from_digest([n; 32]))
    }

    fn topics(texts: &[&str]) -> Vec<Topic> {
        texts.iter().map(|text| Topic::user(text).unwrap()).collect()
    }

    const PLACE: Place = Place { number: 7, id: BlockId::from_digest([9; 32]) };

    #[test]
    fn a_cursor_survives_its_text_and_no_other_text_is_one() {
        let cursor = PageCursor::new(&chain(1), "", &Query::default(), PLACE);
        let text = cursor.to_string();
        assert_eq!(text.parse(), Ok(cursor));
        assert_eq!(cursor.place(&chain(1), "", &Query::default()), Ok(PLACE));
        let shorter = &text[..text.len() - 1];
        let long = "u".repeat(5_000);
        let mut newer = multibase::decode(&text).unwrap().1;
        newer[0] = 2;
        let newer = multibase::encode(Base::Base64Url, newer);
        for bad in ["", "u", "x", shorter, &format!("{text}A"), &text.to_uppercase(), &long, &newer, "ü"] {
            assert!(matches!(bad.parse::<PageCursor>(), Err(CursorError::Malformed { .. })), "{bad}");
        }
    }

    #[test]
    fn a_cursor_is_refused_by_every_other_ledger_and_query() {
        let query = Query { topics_any: topics(&["a", "b"]), ..Query::default() };
        let cursor = PageCursor::new(&chain(1), "", &query, PLACE);
        assert_eq!(cursor.place(&chain(2), "", &query), Err(CursorError::OtherLedger));
        assert_eq!(cursor.place(&chain(1), "offchain/main", &query), Err(CursorError::OtherLedger));
        let like = |overlay, query| cursor.place_like(&PageCursor::new(&chain(1), overlay, query, PLACE));
        assert_eq!(like("", &query), Ok(PLACE));
        assert_eq!(like("offchain/main", &query), Err(CursorError::OtherLedger));
        assert_eq!(like("", &Query::default()), Err(CursorError::OtherQuery));
        let further = Place { number: 8, ..PLACE };
        assert_eq!(cursor.at(further).place(&chain(1), "", &query), Ok(further));
        let base = || query.clone();
        let others = [
            Query { topics_any: topics(&["a"]), ..base() },
            Query { topics_any: topics(&["ab"]), ..base() },
            Query { topics_any: Vec::new(), topics_all: topics(&["a", "b"]), ..base() },
            Query { creator: Some(PublicKey::Ed25519([1; 32])), ..base() },
            Query { since_ms: Some(0), ..base() },
            Query { until_ms: Some(0), ..base() },
            Query { generation_from: Some(0), ..base() },
            Query { generation_to: Some(0), ..base() },
            Query { arrived_after: Some(Cursor(0)), ..base() },
            Query { order: Order::Arrival, ..base() },
            Query { reverse: true, ..base() },
            Query { include_void: true, ..base() },
            Query { include_overlays: true, ..base() },
        ];
        let mut checks = vec![query_check(&query)];
        for other in others {
            assert_eq!(cursor.place(&chain(1), "", &other), Err(CursorError::OtherQuery), "{other:?}");
            checks.push(query_check(&other));
        }
        let count = checks.len();
        checks.sort_unstable();
        checks.dedup();
        assert_eq!(checks.len(), count, "two of these queries have the same check");
    }

    #[test]
    fn limits_starts_and_the_order_of_topics_make_no_other_query() {
        let query = Query { topics_any: topics(&["a", "b"]), ..Query::default() };
        let cursor = PageCursor::new(&chain(1), "", &query, PLACE);
        let same = Query { topics_any: topics(&["b", "a", "b"]), limit: Some(3), after: Some(cursor), ..query };
        assert_eq!(cursor.place(&chain(1), "", &same), Ok(PLACE));
    }
}
