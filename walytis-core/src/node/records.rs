//! What a node stores of its chains, version 1.
//!
//! | key (behind [`Space::Node`]) | value |
//! |---|---|
//! | 0x00, chain id | version, state, name, visibility |
//! | 0x01, chain id, invitation key | invitation |
//! | 0x02, chain id | a join that is not finished |

use serde::{Deserialize, Serialize};

use super::invitation::InvitationRecord;
use crate::block::Visibility;
use crate::id::{BlockId, ChainId, PeerId};
use crate::key::PublicKey;
use crate::store::keys::Space;
use crate::store::{KeyRange, StoreError};

const VERSION: u8 = 1;
const CHAIN: u8 = 0x00;
const INVITATION: u8 = 0x01;
const JOIN: u8 = 0x02;

/// A chain of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ChainRecord {
    /// Being removed: finished at the next start.
    pub(super) deleting: bool,
    /// Local name.
    pub(super) name: String,
    /// As the genesis block says.
    pub(super) visibility: Visibility,
}

pub(super) fn chains() -> KeyRange {
    KeyRange::prefix(&Space::Node.key(&[&[CHAIN]]))
}

pub(super) fn chain(id: &ChainId) -> Vec<u8> {
    Space::Node.key(&[&[CHAIN], id.digest()])
}

pub(super) fn invitations(id: &ChainId) -> KeyRange {
    KeyRange::prefix(&Space::Node.key(&[&[INVITATION], id.digest()]))
}

pub(super) fn invitation(id: &ChainId, key: &PublicKey) -> Vec<u8> {
    Space::Node.key(&[&[INVITATION], id.digest(), key.as_bytes()])
}

pub(super) fn joins() -> KeyRange {
    KeyRange::prefix(&Space::Node.key(&[&[JOIN]]))
}

pub(super) fn join(id: &ChainId) -> Vec<u8> {
    Space::Node.key(&[&[JOIN], id.digest()])
}

/// Returns the chain that a key names at its end.
pub(super) fn chain_of(key: &[u8]) -> Option<ChainId> {
    key.last_chunk::<32>().map(|id| ChainId(BlockId::from_digest(*id)))
}

impl ChainRecord {
    pub(super) fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    pub(super) fn decode(key: &[u8], bytes: &[u8]) -> Result<Self, StoreError> {
        decode(key, bytes, "not a chain's record")
    }
}

/// An invitation that this node alone honours; shareable ones stand on the chain.
#[derive(Serialize, Deserialize)]
struct InvitationV1 {
    key: PublicKey,
    uses_left: u32,
    expires_at_ms: Option<i64>,
    revoked: bool,
    created_at_ms: i64,
    joined: Vec<PeerId>,
}

impl InvitationRecord {
    pub(super) fn encode(&self) -> Vec<u8> {
        let Self { key, uses_left, expires_at_ms, revoked, created_at_ms, .. } = *self;
        let joined = self.joined.clone();
        encode(&InvitationV1 { key, uses_left, expires_at_ms, revoked, created_at_ms, joined })
    }

    pub(super) fn decode(place: &[u8], bytes: &[u8]) -> Result<Self, StoreError> {
        let stored: InvitationV1 = decode(place, bytes, "not an invitation")?;
        let InvitationV1 { key, uses_left, expires_at_ms, revoked, created_at_ms, joined } = stored;
        let (shareable, issuer) = (false, None);
        Ok(Self { key, uses_left, expires_at_ms, shareable, issuer, revoked, created_at_ms, joined })
    }
}

pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "postcard fails only on types without a stated length, and these have none")]
    let body = postcard::to_stdvec(value).expect("these types always encode");
    let mut bytes = vec![VERSION];
    bytes.extend(body);
    bytes
}

pub(super) fn decode<'a, T: Deserialize<'a>>(key: &[u8], bytes: &'a [u8], otherwise: &str) -> Result<T, StoreError> {
    match bytes.split_first() {
        Some((&VERSION, body)) => match postcard::take_from_bytes(body) {
            Ok((value, [])) => Ok(value),
            _ => Err(StoreError::corrupt(key, otherwise)),
        },
        Some((&found, _)) if found > VERSION => {
            Err(StoreError::NewerSchema { found: found.into(), known: VERSION.into() })
        }
        _ => Err(StoreError::corrupt(key, otherwise)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hex_lines;

    const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/node_records_v1.hex");

    fn chain_record(visibility: Visibility) -> ChainRecord {
        ChainRecord { deleting: visibility == Visibility::Governed, name: "notes".to_owned(), visibility }
    }

    fn invitation_record() -> InvitationRecord {
        InvitationRecord {
            key: PublicKey::Ed25519([1; 32]),
            uses_left: 300,
            expires_at_ms: Some(1_700_000_000_000),
            shareable: false,
            issuer: None,
            revoked: true,
            created_at_ms: 1_600_000_000_000,
            joined: vec![PeerId::from_bytes(&[2; 38]).unwrap()],
        }
    }

    /// Keys and values in turn.
    fn samples() -> Vec<Vec<u8>> {
        let id = ChainId(BlockId::from_digest([3; 32]));
        let visibilities = [Visibility::Public, Visibility::Invited, Visibility::Governed];
        let mut all: Vec<_> = visibilities.into_iter().map(|one| chain_record(one).encode()).collect();
        all.insert(0, chain(&id));
        all.extend([invitation(&id, &PublicKey::Ed25519([1; 32])), invitation_record().encode()]);
        all
    }

    #[test]
    fn node_records_are_the_golden_ones_and_read_back() {
        assert_eq!(hex_lines(&samples()), std::fs::read_to_string(GOLDEN).unwrap());
        let record = chain_record(Visibility::Governed);
        assert_eq!(ChainRecord::decode(&[], &record.encode()).unwrap(), record);
        assert_eq!(InvitationRecord::decode(&[], &invitation_record().encode()).unwrap(), invitation_record());
    }

    #[test]
    #[ignore = "generator: writes the golden file"]
    fn generate_golden_node_records() {
        std::fs::write(GOLDEN, hex_lines(&samples())).unwrap();
    }

    #[test]
    fn damaged_and_newer_records_are_told_apart() {
        let bytes = invitation_record().encode();
        for end in 0..bytes.len() {
            assert!(matches!(InvitationRecord::decode(&[], &bytes[..end]), Err(StoreError::Corrupt { .. })), "{end}");
        }
        let newer = [&[2], &bytes[1..]].concat();
        assert!(matches!(ChainRecord::decode(&[], &newer), Err(StoreError::NewerSchema { found: 2, .. })));
    }
}
