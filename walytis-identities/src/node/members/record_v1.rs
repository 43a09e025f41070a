//! What is noted of memberships on an identity's own chain, version 1.
//!
//! ```text
//! block with topic `walytis.membership`, content in it:  claim ‖ 0x01 ‖ postcard { epoch (32), sealed: bytes }
//! sealed under a key derived from the epoch's secret, associated data = label ‖ identity ‖ epoch:
//!   postcard(Entry), filled up with zeros to a multiple of 512 bytes
//! ```

use serde::{Deserialize, Serialize};
use walytis_core::clock::Entropy;
use walytis_core::secret::Secret;

use crate::crypto::{Label, aead_open, aead_seal, to_bytes};
use crate::id::{Did, EpochId, OpId};
use crate::token::{TOKEN_ADDRESSES_MAX, TOKEN_PEERS_MAX, TokenPeer};

/// Name of the topic: `walytis.membership`.
pub(super) const TOPIC: &str = "membership";
/// Longest local name in an entry, in bytes.
pub(super) const NAME_MAX: usize = 128;
const VERSION: u8 = 0x01;
/// Entries of these lengths look alike. Chosen: a name and the addresses of two nodes.
const PADDED_TO: usize = 512;

/// What a device of an identity notes about another identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Entry {
    /// It was joined, or joined again.
    Joined {
        did: Did,
        /// What it is called.
        name: String,
        /// Where its controllers were reached, at most 8.
        peers: Vec<TokenPeer>,
    },
    /// It was put away, or taken up again.
    Archived { did: Did, archived: bool },
    /// It was left, by this op.
    Left { did: Did, leave: OpId },
}

#[derive(Serialize, Deserialize)]
struct RecordV1<'a> {
    epoch: EpochId,
    #[serde(borrow)]
    sealed: &'a [u8],
}

/// Seals an entry under an epoch's key; the claim goes before it.
pub(super) fn seal(entry: &Entry, of: &Did, epoch: &EpochId, key: &Secret<32>, entropy: &dyn Entropy) -> Vec<u8> {
    let mut plain = to_bytes(entry);
    plain.resize(plain.len().next_multiple_of(PADDED_TO), 0);
    let sealed = aead_seal(Label::Membership, key, &to_bytes(&(of, epoch)), &plain, entropy);
    [vec![VERSION], to_bytes(&RecordV1 { epoch: *epoch, sealed: &sealed })].concat()
}

/// Opens what [`seal`] made; nothing if it is malformed, or its key is not held. `key_of` returns the key of an epoch.
pub(super) fn open(body: &[u8], of: &Did, key_of: impl FnOnce(&EpochId) -> Option<Secret<32>>) -> Option<Entry> {
    let (record, rest): (RecordV1<'_>, _) = postcard::take_from_bytes(body.strip_prefix(&[VERSION])?).ok()?;
    let key = key_of(&record.epoch).filter(|_| rest.is_empty())?;
    let plain = aead_open(Label::Membership, &key, &to_bytes(&(of, record.epoch)), record.sealed)?;
    let (entry, padding): (Entry, _) = postcard::take_from_bytes(&plain).ok()?;
    (padding.iter().all(|byte| *byte == 0) && fits(&entry)).then_some(entry)
}

fn fits(entry: &Entry) -> bool {
    match entry {
        Entry::Joined { name, peers, .. } => {
            name.len() <= NAME_MAX
                && !name.chars().any(char::is_control)
                && peers.len() <= TOKEN_PEERS_MAX
                && peers.iter().all(|peer| peer.addresses.len() <= TOKEN_ADDRESSES_MAX)
        }
        Entry::Archived { .. } | Entry::Left { .. } => true,
    }
}

#[cfg(test)]
mod tests {
    use walytis_core::clock::SeededEntropy;
    use walytis_core::id::{Address, BlockId, ChainId, PeerId};

    use super::*;

    fn did(byte: u8) -> Did {
        Did(ChainId(BlockId::from_digest([byte; 32])))
    }

    fn entries() -> Vec<Entry> {
        let address = Address::new("/ip4/192.0.2.1/udp/4001/quic-v1").unwrap();
        let peer = TokenPeer { peer: PeerId::from_bytes(&[1, 2, 3]).unwrap(), addresses: vec![address] };
        vec![
            Entry::Joined { did: did(2), name: "team".to_owned(), peers: vec![peer] },
            Entry::Archived { did: did(2), archived: true },
            Entry::Left { did: did(2), leave: OpId([4; 32]) },
        ]
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn entries_of_version_1_stand_still() {
        let (two, four) = ("02".repeat(32), "04".repeat(32));
        let address = hex(b"/ip4/192.0.2.1/udp/4001/quic-v1");
        let expected = [
            format!("00{two}047465616d010301020301{:02x}{address}", address.len() / 2),
            format!("01{two}01"),
            format!("02{two}{four}"),
        ];
        assert_eq!(entries().iter().map(|entry| hex(&to_bytes(entry))).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn entries_open_under_their_key_identity_and_epoch_only_and_look_alike() {
        let (entropy, key, epoch) = (SeededEntropy::new(1), Secret::new([9; 32]), OpId([3; 32]));
        let mut lengths = Vec::new();
        for entry in entries() {
            let record = seal(&entry, &did(1), &epoch, &key, &entropy);
            lengths.push(record.len());
            assert_eq!(open(&record, &did(1), |id| (*id == epoch).then(|| key.clone())), Some(entry));
            assert_eq!(open(&record, &did(7), |_| Some(key.clone())), None, "another identity");
            assert_eq!(open(&record, &did(1), |_| Some(Secret::new([8; 32]))), None, "another key");
            assert_eq!(open(&record, &did(1), |_| None), None, "no key");
            let mut moved = record.clone();
            moved[1] ^= 1;
            assert_eq!(open(&moved, &did(1), |_| Some(key.clone())), None, "another epoch");
            assert_eq!(open(&[&record[..], &[0]].concat(), &did(1), |_| Some(key.clone())), None, "a rest");
            assert_eq!(open(&record[1..], &did(1), |_| Some(key.clone())), None, "no version");
        }
        assert!(lengths.iter().all(|length| *length == lengths[0]));
    }

    #[test]
    fn oversized_names_and_lists_are_refused() {
        let (entropy, key, epoch) = (SeededEntropy::new(1), Secret::new([9; 32]), OpId([3; 32]));
        let Entry::Joined { did: team, name, peers } = entries().remove(0) else { unreachable!() };
        let many = vec![peers[0].clone(); TOKEN_PEERS_MAX + 1];
        let bad = [
            Entry::Joined { did: team, name: "x".repeat(NAME_MAX + 1), peers: Vec::new() },
            Entry::Joined { did: team, name: "a\nb".to_owned(), peers: Vec::new() },
            Entry::Joined { did: team, name, peers: many },
        ];
        for entry in bad {
            let record = seal(&entry, &did(1), &epoch, &key, &entropy);
            assert_eq!(open(&record, &did(1), |_| Some(key.clone())), None);
        }
    }
}
