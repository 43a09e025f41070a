//! What a node stores of its chains, version 1.
//!
//! | key (behind [`Space::Node`]) | value |
//! |---|---|
//! | 0x00, chain id | version, state, name, visibility |
//! | 0x01, chain id, invitation key | invitation |

use serde::{Deserialize, Serialize};

use super::invitation::InvitationRecord;
use crate::block::Visibility;
use crate::id::{BlockId, ChainId};
use crate::key::PublicKey;
use crate::store::keys::Space;
use crate::store::{KeyRange, StoreError};

const VERSION: u8 = 1;
const CHAIN: u8 = 0x00;
const INVITATION: u8 = 0x01;

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

impl InvitationRecord {
    pub(super) fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    pub(super) fn decode(key: &[u8], bytes: &[u8]) -> Result<Self, StoreError> {
        decode(key, bytes, "not an invitation")
    }
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "postcard fails only on types without a stated length, and these have none")]
    let body = postcard::to_stdvec(value).expect("these types always encode");
    let mut bytes = vec![VERSION];
    bytes.extend(body);
    bytes
}

fn decode<'a, T: Deserialize<'a>>(key: &[u8], bytes: &'a [u8], otherwise: &str) -> Result<T, StoreError> {
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
