//! What the runtime stores under [`Space::Identity`], version 1.
//!
//! | key (behind the space's byte) | value |
//! |---|---|
//! | 0x00, chain | own identity: version, device id, name, device name, card counter, option DID it is joined as |
//! | 0x01, chain, number | signed op; numbers in the order of arrival, parents first |
//! | 0x02, chain, device | device card |
//! | 0x03, chain | genesis block file |
//! | 0x04, chain, op id | empty: own op that stands in no block yet |
//! | 0x05, chain | a join under way: version, device name |
//! | 0x08, chain | the epoch in force: its id, since when it has been known here |
//! | 0x09, chain | empty: others hold newer things of this device than are here |
//! | 0x0a, chain, chain | genesis block file of an identity below |
//! | 0x0b, chain | empty: put away |
//! | 0x10 … 0x13, chain | resolved identities of others: `resolve/shelf_v1.rs` |
//! | 0x06, chain | the chains bound to it, 32 bytes each: a deletion under way; of the rest only the chains and secrets may be left |

use serde::{Deserialize, Serialize};
use walytis_core::id::{BlockId, ChainId};
use walytis_core::store::keys::Space;
use walytis_core::store::{Batch, Direction, KeyRange, KvStore, StoreError};

use crate::id::{DeviceId, Did, EpochId, OpId};

const VERSION: u8 = 0x01;
const IDENTITY: u8 = 0x00;
const OP: u8 = 0x01;
const CARD: u8 = 0x02;
const GENESIS: u8 = 0x03;
const UNPUBLISHED: u8 = 0x04;
const JOIN: u8 = 0x05;
const FORGETTING: u8 = 0x06;
const IN_FORCE: u8 = 0x08;
const OLDER_COPY: u8 = 0x09;
const NESTED: u8 = 0x0a;
const ARCHIVED: u8 = 0x0b;

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
    /// The identity of this node that the device acts for here; none if the device is a controller itself.
    pub(super) person: Option<Did>,
}

/// A join that may have reached the other side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct JoinRecord {
    pub(super) device_name: String,
}

/// The epoch that is written under, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InForceRecord {
    pub(super) epoch: EpochId,
    /// Since when, in milliseconds since the Unix epoch by the own clock.
    pub(super) since_ms: i64,
}

/// Where genesis blocks and ops of one identity stand: of one of this node, or of a resolved one.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// Key of the genesis block file.
    pub(super) genesis: Vec<u8>,
    /// Prefix of the ops.
    pub(super) ops: Vec<u8>,
    /// Prefix of genesis block files of identities below.
    pub(super) nested: Vec<u8>,
}

impl Keys {
    pub(super) fn op(&self, number: u64) -> Vec<u8> {
        [&self.ops[..], &number.to_be_bytes()].concat()
    }

    pub(super) fn nested_genesis(&self, below: &ChainId) -> Vec<u8> {
        [&self.nested[..], below.digest()].concat()
    }
}

/// Where those of an identity of this node stand.
pub(super) fn keys(chain: &ChainId) -> Keys {
    Keys { genesis: genesis(chain), ops: ops(chain), nested: nested(chain) }
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

pub(super) fn forgetting(chain: &ChainId) -> Vec<u8> {
    Space::Identity.key(&[&[FORGETTING], chain.digest()])
}

pub(super) fn in_force(chain: &ChainId) -> Vec<u8> {
    Space::Identity.key(&[&[IN_FORCE], chain.digest()])
}

pub(super) fn older_copy(chain: &ChainId) -> Vec<u8> {
    Space::Identity.key(&[&[OLDER_COPY], chain.digest()])
}

pub(super) fn archived(chain: &ChainId) -> Vec<u8> {
    Space::Identity.key(&[&[ARCHIVED], chain.digest()])
}

pub(super) fn nested_genesis(chain: &ChainId, below: &ChainId) -> Vec<u8> {
    Space::Identity.key(&[&[NESTED], chain.digest(), below.digest()])
}

pub(super) fn nested(chain: &ChainId) -> Vec<u8> {
    Space::Identity.key(&[&[NESTED], chain.digest()])
}

/// Returns the identity below whose genesis block stands under a key.
pub(super) fn below_of(chain: &ChainId, key: &[u8]) -> Option<ChainId> {
    key.starts_with(&nested(chain)).then(|| last_id(key)).flatten().map(|digest| ChainId(BlockId::from_digest(digest)))
}

pub(super) fn all_forgetting() -> Vec<u8> {
    Space::Identity.key(&[&[FORGETTING]])
}

/// Returns the batch that ends an identity on this node, but for its chain, those bound to it, and secrets.
pub(super) fn forget(chain: &ChainId, bound: &[ChainId]) -> Batch {
    let mut batch = Batch::new();
    batch.put(forgetting(chain), bound.iter().flat_map(|bound| *bound.digest()).collect::<Vec<u8>>());
    batch.delete(identity(chain)).delete(genesis(chain)).delete(join(chain));
    batch.delete(in_force(chain)).delete(older_copy(chain)).delete(archived(chain));
    for prefix in [ops(chain), cards(chain), all_unpublished(chain), nested(chain)] {
        batch.delete_range(KeyRange::prefix(&prefix));
    }
    batch
}

/// Returns the chain named right behind the kind.
pub(super) fn chain_of(key: &[u8]) -> Option<ChainId> {
    key.get(2..)?.first_chunk::<32>().map(|digest| ChainId(BlockId::from_digest(*digest)))
}

/// Returns the chains that the mark of a deletion names.
pub(super) fn chains_in(value: &[u8]) -> Vec<ChainId> {
    value.chunks_exact(32).filter_map(last_id).map(|digest| ChainId(BlockId::from_digest(digest))).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn identity_record() -> IdentityRecord {
        IdentityRecord {
            device: DeviceId([1; 32]),
            name: "home".to_owned(),
            device_name: "laptop".to_owned(),
            card_counter: 300,
            person: None,
        }
    }

    /// Short enough to stand here.
    #[test]
    fn the_records_of_version_1_stand_still() {
        let ones = "01".repeat(32);
        let identity = format!("01{ones}04686f6d65066c6170746f70ac02");
        assert_eq!(hex(&encode(&identity_record())), format!("{identity}00"));
        let acting = IdentityRecord { person: Some(Did(ChainId(BlockId::from_digest([2; 32])))), ..identity_record() };
        assert_eq!(hex(&encode(&acting)), format!("{identity}01{}", "02".repeat(32)));
        assert_eq!(decode::<IdentityRecord>(b"", &encode(&acting)).unwrap(), acting);
        assert_eq!(decode::<IdentityRecord>(b"", &encode(&identity_record())).unwrap(), identity_record());
        let join = JoinRecord { device_name: "laptop".to_owned() };
        assert_eq!(hex(&encode(&join)), "01066c6170746f70");
        assert_eq!(decode::<JoinRecord>(b"", &encode(&join)).unwrap(), join);
        let in_force = InForceRecord { epoch: OpId([1; 32]), since_ms: 300 };
        assert_eq!(hex(&encode(&in_force)), format!("01{ones}d804"));
        assert_eq!(decode::<InForceRecord>(b"", &encode(&in_force)).unwrap(), in_force);
    }

    #[test]
    fn the_keys_of_version_1_stand_still() {
        let chain = ChainId(BlockId::from_digest([0xcc; 32]));
        let (cc, device) = ("cc".repeat(32), DeviceId([2; 32]));
        let keys = [
            (identity(&chain), format!("1000{cc}")),
            (op(&chain, 0x0102), format!("1001{cc}0000000000000102")),
            (card(&chain, &device), format!("1002{cc}{}", "02".repeat(32))),
            (genesis(&chain), format!("1003{cc}")),
            (unpublished(&chain, &OpId([3; 32])), format!("1004{cc}{}", "03".repeat(32))),
            (join(&chain), format!("1005{cc}")),
            (forgetting(&chain), format!("1006{cc}")),
            (in_force(&chain), format!("1008{cc}")),
            (older_copy(&chain), format!("1009{cc}")),
            (archived(&chain), format!("100b{cc}")),
        ];
        for (key, expected) in keys {
            assert_eq!(hex(&key), expected);
            assert_eq!(chain_of(&key), Some(chain));
        }
    }

    #[test]
    fn other_versions_and_rests_are_refused() {
        let good = encode(&identity_record());
        let newer = [&[0x02][..], &good[1..]].concat();
        assert!(matches!(decode::<IdentityRecord>(b"k", &newer), Err(StoreError::NewerSchema { found: 2, .. })));
        for bad in [[&good[..], &[0]].concat(), good[..good.len() - 1].to_vec(), vec![0x00], Vec::new()] {
            assert!(decode::<IdentityRecord>(b"k", &bad).is_err());
        }
    }
}
