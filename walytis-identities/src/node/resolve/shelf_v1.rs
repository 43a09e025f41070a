//! Resolved identities in the store, version 1: under keys of their own, so that nothing learnt of others can ever stand in
//! the way of an identity of this node.
//!
//! | key (behind the space's byte) | value |
//! |---|---|
//! | 0x10, chain | version, bytes of what is stored, last used (ms since the Unix epoch, own clock), whether it was asked for |
//! | 0x11, chain | genesis block file |
//! | 0x12, chain, number | signed op; numbers in the order of arrival, parents first |
//! | 0x13, chain, chain | genesis block file of an identity below |
//!
//! There are two kinds. What the user asked for, or deals with, was named here. Of whom nobody asked for, strangers decide
//! how many there are: they have bounds of their own, and never push out the others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use walytis_core::id::ChainId;
use walytis_core::store::keys::Space;
use walytis_core::store::{Batch, KeyRange};

use super::super::records::Keys;
use crate::id::Did;

const RECORD: u8 = 0x10;
const GENESIS: u8 = 0x11;
const OP: u8 = 0x12;
const NESTED: u8 = 0x13;

/// Identities and bytes stored that were asked for. Chosen: a person's correspondents of a lifetime.
const ASKED_MAX: (usize, u64) = (16_384, 1024 * 1024 * 1024);
/// As much of those nobody asked for: whoever wrote last.
const UNASKED_MAX: (usize, u64) = (1_024, 64 * 1024 * 1024);

/// One resolved identity in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ForeignRecord {
    pub(super) bytes: u64,
    pub(super) used_ms: i64,
    pub(super) asked: bool,
}

pub(super) fn record(chain: &ChainId) -> Vec<u8> {
    Space::Identity.key(&[&[RECORD], chain.digest()])
}

pub(super) fn all_records() -> Vec<u8> {
    Space::Identity.key(&[&[RECORD]])
}

/// Where genesis blocks and ops of a resolved identity stand.
pub(in crate::node) fn keys(chain: &ChainId) -> Keys {
    let key = |kind: u8| Space::Identity.key(&[&[kind], chain.digest()]);
    Keys { genesis: key(GENESIS), ops: key(OP), nested: key(NESTED) }
}

/// Deletes a resolved identity.
pub(in crate::node) fn delete(chain: &ChainId, batch: &mut Batch) {
    let Keys { genesis, ops, nested } = keys(chain);
    batch.delete(record(chain)).delete(genesis);
    batch.delete_range(KeyRange::prefix(&ops)).delete_range(KeyRange::prefix(&nested));
}

/// Returns what has to go: of each kind those used longest ago, never `but`.
pub(super) fn surplus(all: &BTreeMap<Did, ForeignRecord>, but: &Did) -> Vec<Did> {
    let mut gone = Vec::new();
    for (asked, (number_max, bytes_max)) in [(true, ASKED_MAX), (false, UNASKED_MAX)] {
        let mut kind: Vec<_> = all.iter().filter(|(_, one)| one.asked == asked).collect();
        kind.sort_by_key(|(did, one)| (*did != but, std::cmp::Reverse(one.used_ms)));
        let mut bytes = 0_u64;
        for (number, (did, one)) in kind.into_iter().enumerate() {
            bytes = bytes.saturating_add(one.bytes);
            if did != but && (number >= number_max || bytes > bytes_max) {
                gone.push(*did);
            }
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use walytis_core::id::BlockId;

    use super::super::super::records;
    use super::*;

    fn did(n: u16) -> Did {
        let mut digest = [0; 32];
        digest[..2].copy_from_slice(&n.to_be_bytes());
        Did(ChainId(BlockId::from_digest(digest)))
    }

    fn one(bytes: u64, used_ms: i64, asked: bool) -> ForeignRecord {
        ForeignRecord { bytes, used_ms, asked }
    }

    #[test]
    fn strangers_push_out_strangers_only_and_the_one_used_longest_ago_first() {
        let quarter = UNASKED_MAX.1 / 4;
        let mut all: BTreeMap<_, _> = (0..4).map(|n| (did(n), one(quarter, 10 - i64::from(n), false))).collect();
        all.insert(did(7), one(ASKED_MAX.1, 0, true));
        assert_eq!(surplus(&all, &did(0)), []);
        all.insert(did(8), one(1, 99, false));
        assert_eq!(surplus(&all, &did(8)), [did(3)]);
        assert_eq!(surplus(&all, &did(3)), [did(2)], "the one at work stays");
        all.insert(did(9), one(1, 99, true));
        assert_eq!(surplus(&all, &did(9)), [did(7), did(3)]);
        assert_eq!(surplus(&BTreeMap::from([(did(1), one(u64::MAX, 0, false))]), &did(1)), []);
    }

    #[test]
    fn the_number_of_strangers_is_bounded_too() {
        let number = u16::try_from(UNASKED_MAX.0).unwrap();
        let all = (0..number + 3).map(|n| (did(n), one(1, i64::from(n), false))).collect();
        assert_eq!(surplus(&all, &did(0)), [did(3), did(2), did(1)]);
    }

    #[test]
    fn the_records_and_keys_of_version_1_stand_still() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let stored = records::encode(&one(300, 5, true));
        assert_eq!(hex(&stored), "01ac020a01");
        assert_eq!(records::decode::<ForeignRecord>(b"", &stored).unwrap(), one(300, 5, true));
        let chain = ChainId(BlockId::from_digest([0xcc; 32]));
        let (rows, cc) = (keys(&chain), "cc".repeat(32));
        let keys = [record(&chain), rows.genesis.clone(), rows.op(0x0102), rows.nested_genesis(&chain)];
        let expected = ["1010", "1011", "1012", "1013"].map(|kind| format!("{kind}{cc}")).into_iter().zip([
            "",
            "",
            "0000000000000102",
            &cc,
        ]);
        assert_eq!(keys.map(|key| hex(&key)).to_vec(), expected.map(|(key, rest)| key + rest).collect::<Vec<_>>());
    }
}
