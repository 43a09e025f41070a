//! What the runtime stores under [`Space::Identity`], version 1.
//!
//! | key (behind the space's byte) | value |
//! |---|---|
//! | 0x00, chain | own identity: version, device id, name, device name, card counter |
//! | 0x01, chain, number | signed op; numbers in the order of arrival, parents first |
//! | 0x02, chain, device | device card |
//! | 0x03, chain | genesis block file |
//! | 0x04, chain, op id | empty: own op that stands in no block yet |
//! | 0x05, chain | a join under way: version, device name |

use serde::{Deserialize, Serialize};
use walytis_core::id::{BlockId, ChainId};
use walytis_core::store::keys::Space;
use walytis_core::store::{Direction, KeyRange, KvStore, StoreError};

use crate::id::{DeviceId, OpId};

const VERSION: u8 = 0x01;
const IDENTITY: u8 = 0x00;
const OP: u8 = 0x01;
const CARD: u8 = 0x02;
const GENESIS: u8 = 0x03;
const UNPUBLISHED: u8 = 0x04;
const JOIN: u8 = 0x05;

/// Values read at once.
const PAGE: usize = 256;

/// An identity that this node has a device of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IdentityRecord {
    pub(super) device: DeviceId,
    /// Local name of the identity.
    pub(super) name: String,
    pub(super) device_name: String,
    /// Counter of the card made last.
    pub(super) card_counter: u64,
}

/// A join that may have reached the other side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct JoinRecord {
    pub(super) device_name: String,
}

pub(super) fn identity(chain: &ChainId) -> Vec<u8> {
    Space::Identity.key(&[&[IDENTITY], chain.digest()])
}

pub(super) fn identities() -> Vec<u8> {
    Space::Identity.key(&[&[IDENTITY]])
}

pub(super) fn op(chain: &ChainId, number: u64) -> Vec<u8> {
    Space::Identity.key(&[&[OP], chain.digest(), &number.to_be_bytes()])
}

pub(super) fn ops(chain: &ChainId) -> Vec<u8> {
    Space::Identity.key(&[&[OP], chain.digest()])
}

pub(super) fn card(chain: &ChainId, device: &DeviceId) -> Vec<u8> {
    Space::Identity.key(&[&[CARD], chain.digest(), device.as_bytes()])
}

pub(super) fn cards(chain: &ChainId) -> Vec<u8> {
    Space::Identity.key(&[&[CARD], chain.digest()])
}

pub(super) fn genesis(chain: &ChainId) -> Vec<u8> {
    Space::Identity.key(&[&[GENESIS], chain.digest()])
}

pub(super) fn unpublished(chain: &ChainId, op: &OpId) -> Vec<u8> {
    Space::Identity.key(&[&[UNPUBLISHED], chain.digest(), op.as_bytes()])
}

pub(super) fn all_unpublished(chain: &ChainId) -> Vec<u8> {
    Space::Identity.key(&[&[UNPUBLISHED], chain.digest()])
}

pub(super) fn join(chain: &ChainId) -> Vec<u8> {
    Space::Identity.key(&[&[JOIN], chain.digest()])
}

/// Returns the chain named right behind the kind.
pub(super) fn chain_of(key: &[u8]) -> Option<ChainId> {
    key.get(2..)?.first_chunk::<32>().map(|digest| ChainId(BlockId::from_digest(*digest)))
}

/// Returns the 32 bytes at the end of a key.
pub(super) fn last_id(key: &[u8]) -> Option<[u8; 32]> {
    key.last_chunk::<32>().copied()
}

pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "postcard fails only on types without a stated length, and these have none")]
    postcard::to_extend(value, vec![VERSION]).expect("these types always encode")
}

pub(super) fn decode<'a, T: Deserialize<'a>>(key: &[u8], value: &'a [u8]) -> Result<T, StoreError> {
    match value.split_first() {
        Some((&VERSION, body)) => match postcard::take_from_bytes(body) {
            Ok((value, [])) => Ok(value),
            _ => Err(StoreError::corrupt(key, "it is no record of an identity")),
        },
        Some((&found, _)) if found > VERSION => {
            Err(StoreError::NewerSchema { found: found.into(), known: VERSION.into() })
        }
        _ => Err(StoreError::corrupt(key, "it is no record of an identity")),
    }
}

/// Reads every entry under a prefix, page by page; the caller's prefixes hold bounded amounts.
pub(super) async fn all(store: &dyn KvStore, prefix: &[u8]) -> Result<Vec<(bytes::Bytes, bytes::Bytes)>, StoreError> {
    let mut range = KeyRange::prefix(prefix);
    let mut entries = Vec::new();
    loop {
        let page = store.scan(range.clone(), Direction::Forward, PAGE).await?;
        let last = page.last().filter(|_| page.len() == PAGE).map(|(key, _)| [key.as_ref(), &[0]].concat());
        entries.extend(page);
        match last {
            Some(start) => range.start = start,
            None => return Ok(entries),
        }
    }
}
