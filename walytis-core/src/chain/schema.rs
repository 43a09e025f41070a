//! Where the data of a chain stands in the store.
//!
//! Every key starts with [`Space::Chain`], the 32-byte digest of the chain id and a tag; integers are big-endian.
//! Values are described in `docs/formats/core.md`.
//!
//! | tag | key | value |
//! |---|---|---|
//! | meta | – | version, count, highest generation |
//! | head | block id | generation, arrival number |
//! | file | block id | block file |
//! | node | block id | arrival number, flags, header |
//! | canonical | generation, block id | arrival number |
//! | arrival | arrival number | block id |
//! | topic, creator | label, generation, block id | arrival number |
//! | topic and creator by arrival | label, arrival number | block id |
//! | wanted | block id | blob id, length |
//! | blob | blob digest, block id | blob id, length |
//! | cursor | subscriber's name | what it acknowledged |
//! | staged | nonce | the blob that no block names yet |
//! | skeleton | block id | nothing |
//! | manifest | blob digest | manifest of the blob |
//! | fetch | – | which blobs are fetched |
//! | damage | – | why the chain is damaged |
//! | sum | 0, page or 1, stretch: u64 | blocks, sum of their ids |

use bytes::Bytes;

use super::core::FetchMode;
use crate::block::Header;
use crate::id::{BlobId, BlockId, ChainId};
use crate::key::PublicKey;
use crate::store::keys::Space;
use crate::store::{KeyRange, StoreError};
use crate::topic::Topic;

/// Version of this layout; stands in the meta record of each chain.
const VERSION: u8 = 1;

/// Flag of a node record: admitted only because an admissible block descends from it.
const FLAG_SKELETON: u8 = 0x01;

/// Makes and reads the keys of one chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys {
    chain: [u8; 32],
}

/// The kind of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Tag {
    Meta = 0x00,
    Head = 0x01,
    File = 0x02,
    Node = 0x03,
    Canonical = 0x04,
    Arrival = 0x05,
    Topic = 0x06,
    TopicArrival = 0x07,
    Creator = 0x08,
    CreatorArrival = 0x09,
    Wanted = 0x0a,
    Blob = 0x0b,
    Cursor = 0x0c,
    Staged = 0x0d,
    Skeleton = 0x0e,
    Manifest = 0x10,
    Fetch = 0x11,
    Damage = 0x1f,
    Sum = 0x20,
}

impl Keys {
    pub(super) const fn new(chain: &ChainId) -> Self {
        Self { chain: *chain.digest() }
    }

    pub(super) fn key(&self, tag: Tag, parts: &[&[u8]]) -> Vec<u8> {
        let mut key = Vec::with_capacity(34 + parts.iter().map(|part| part.len()).sum::<usize>());
        key.push(Space::Chain as u8);
        key.extend_from_slice(&self.chain);
        key.push(tag as u8);
        parts.iter().for_each(|part| key.extend_from_slice(part));
        key
    }

    /// Everything of the chain.
    pub(super) fn everything(&self) -> KeyRange {
        KeyRange::prefix(&Space::Chain.key(&[&self.chain]))
    }

    pub(super) fn all(&self, tag: Tag) -> KeyRange {
        KeyRange::prefix(&self.key(tag, &[]))
    }

    pub(super) fn meta(&self) -> Vec<u8> {
        self.key(Tag::Meta, &[])
    }

    pub(super) fn damage(&self) -> Vec<u8> {
        self.key(Tag::Damage, &[])
    }

    pub(super) fn of_block(&self, tag: Tag, id: &BlockId) -> Vec<u8> {
        self.key(tag, &[id.digest()])
    }

    pub(super) fn canonical(&self, generation: u64, id: &BlockId) -> Vec<u8> {
        self.key(Tag::Canonical, &[&generation.to_be_bytes(), id.digest()])
    }

    pub(super) fn arrival(&self, arrival: u64) -> Vec<u8> {
        self.key(Tag::Arrival, &[&arrival.to_be_bytes()])
    }

    pub(super) fn topic(&self, topic: &Topic, generation: u64, id: &BlockId) -> Vec<u8> {
        self.key(Tag::Topic, &[&topic_label(topic), &generation.to_be_bytes(), id.digest()])
    }

    pub(super) fn topic_arrival(&self, topic: &Topic, arrival: u64) -> Vec<u8> {
        self.key(Tag::TopicArrival, &[&topic_label(topic), &arrival.to_be_bytes()])
    }

    pub(super) fn creator(&self, creator: &PublicKey, generation: u64, id: &BlockId) -> Vec<u8> {
        self.key(Tag::Creator, &[&creator_label(creator), &generation.to_be_bytes(), id.digest()])
    }

    pub(super) fn creator_arrival(&self, creator: &PublicKey, arrival: u64) -> Vec<u8> {
        self.key(Tag::CreatorArrival, &[&creator_label(creator), &arrival.to_be_bytes()])
    }

    pub(super) fn blob(&self, blob: &BlobId, id: &BlockId) -> Vec<u8> {
        self.key(Tag::Blob, &[blob.digest(), id.digest()])
    }

    pub(super) fn manifest(&self, blob: &BlobId) -> Vec<u8> {
        self.key(Tag::Manifest, &[blob.digest()])
    }

    pub(super) fn fetch(&self) -> Vec<u8> {
        self.key(Tag::Fetch, &[])
    }

    pub(super) fn staged(&self, nonce: &[u8; 16]) -> Vec<u8> {
        self.key(Tag::Staged, &[nonce])
    }
}

/// Length byte and text, so that one topic is never the prefix of another.
pub(super) fn topic_label(topic: &Topic) -> Vec<u8> {
    let text = topic.as_str().as_bytes();
    // A topic has at most 128 bytes.
    let mut label = vec![u8::try_from(text.len()).unwrap_or(u8::MAX)];
    label.extend_from_slice(text);
    label
}

/// Key type and key.
pub(super) fn creator_label(creator: &PublicKey) -> Vec<u8> {
    let PublicKey::Ed25519(bytes) = creator;
    let mut label = vec![0x00];
    label.extend_from_slice(bytes);
    label
}

/// Counters of a chain; the heads stand beside them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Meta {
    /// Admitted blocks; also the arrival number of the youngest.
    pub(super) count: u64,
    /// Highest generation.
    pub(super) generation: u64,
}

impl Meta {
    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.count.to_be_bytes());
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.into()
    }

    pub(super) fn decode(key: &[u8], bytes: &[u8]) -> Result<Self, StoreError> {
        let (&version, rest) = bytes.split_first().ok_or_else(|| StoreError::corrupt(key, "it is empty"))?;
        if version > VERSION {
            return Err(StoreError::NewerSchema { found: version.into(), known: VERSION.into() });
        }
        match pair(rest) {
            Some((count, generation)) if version == VERSION => Ok(Self { count, generation }),
            _ => Err(StoreError::corrupt(key, "not the counters of a chain")),
        }
    }
}

/// What is stored of a block's place in the graph, with its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodeRecord {
    pub(super) arrival: u64,
    pub(super) skeleton: bool,
    pub(super) header: Header,
}

impl NodeRecord {
    pub(super) fn encode(arrival: u64, skeleton: bool, header: &[u8]) -> Bytes {
        let flags = if skeleton { FLAG_SKELETON } else { 0 };
        [&arrival.to_be_bytes(), &[flags][..], header].concat().into()
    }

    pub(super) fn decode(key: &[u8], bytes: &[u8]) -> Result<Self, StoreError> {
        let corrupt = || StoreError::corrupt(key, "not a node of the block graph");
        let (arrival, rest) = bytes.split_first_chunk::<8>().ok_or_else(corrupt)?;
        let (&flags, header) = rest.split_first().ok_or_else(corrupt)?;
        if flags & !FLAG_SKELETON != 0 {
            return Err(corrupt());
        }
        let header = Header::decode(header).map_err(|_| corrupt())?;
        Ok(Self { arrival: u64::from_be_bytes(*arrival), skeleton: flags & FLAG_SKELETON != 0, header })
    }
}

/// Encodes one number.
pub(super) fn number(value: u64) -> Bytes {
    Bytes::copy_from_slice(&value.to_be_bytes())
}

/// Decodes one number.
pub(super) fn read_number(key: &[u8], bytes: &[u8]) -> Result<u64, StoreError> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| StoreError::corrupt(key, "not a number of 8 bytes"))
}

/// Encodes the generation and the arrival number of a head.
pub(super) fn head(generation: u64, arrival: u64) -> Bytes {
    [generation.to_be_bytes(), arrival.to_be_bytes()].concat().into()
}

/// Decodes what [`head`] encodes.
pub(super) fn read_head(key: &[u8], bytes: &[u8]) -> Result<(u64, u64), StoreError> {
    pair(bytes).ok_or_else(|| StoreError::corrupt(key, "not a head"))
}

/// Encodes a blob's id and length.
pub(super) fn blob(id: &BlobId, len: u64) -> Bytes {
    let kind = match id {
        BlobId::Raw(_) => 0,
        BlobId::DagPb(_) => 1,
    };
    let mut bytes = vec![kind];
    bytes.extend_from_slice(id.digest());
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.into()
}

/// Decodes what [`blob`] encodes.
pub(super) fn read_blob(key: &[u8], bytes: &[u8]) -> Result<(BlobId, u64), StoreError> {
    let corrupt = || StoreError::corrupt(key, "not a blob's id and length");
    let (&kind, rest) = bytes.split_first().ok_or_else(corrupt)?;
    let (digest, len) = rest.split_first_chunk::<32>().ok_or_else(corrupt)?;
    let len = len.try_into().map(u64::from_be_bytes).map_err(|_| corrupt())?;
    match kind {
        0 => Ok((BlobId::Raw(*digest), len)),
        1 => Ok((BlobId::DagPb(*digest), len)),
        _ => Err(corrupt()),
    }
}

/// Encodes which blobs are fetched.
pub(super) fn fetch_mode(mode: FetchMode) -> Bytes {
    Bytes::from_static(match mode {
        FetchMode::All => &[0],
        FetchMode::OnDemand => &[1],
    })
}

/// Decodes what [`fetch_mode`] encodes.
pub(super) fn read_fetch_mode(key: &[u8], bytes: &[u8]) -> Result<FetchMode, StoreError> {
    match bytes {
        [0] => Ok(FetchMode::All),
        [1] => Ok(FetchMode::OnDemand),
        _ => Err(StoreError::corrupt(key, "not a way to fetch blobs")),
    }
}

/// Decodes the block id that stands at the end of a key.
pub(super) fn id_at_end(key: &[u8]) -> Result<BlockId, StoreError> {
    key.last_chunk::<32>().map(|id| BlockId::from_digest(*id)).ok_or_else(|| StoreError::corrupt(key, "a short key"))
}

/// Decodes the number that stands at the end of a key.
pub(super) fn number_at_end(key: &[u8]) -> Result<u64, StoreError> {
    key.last_chunk::<8>()
        .map(|number| u64::from_be_bytes(*number))
        .ok_or_else(|| StoreError::corrupt(key, "a short key"))
}

/// Decodes a value that is a block id.
pub(super) fn read_id(key: &[u8], bytes: &[u8]) -> Result<BlockId, StoreError> {
    bytes.try_into().map(BlockId::from_digest).map_err(|_| StoreError::corrupt(key, "not a block id"))
}

fn pair(bytes: &[u8]) -> Option<(u64, u64)> {
    let (first, rest) = bytes.split_first_chunk::<8>()?;
    let second: [u8; 8] = rest.try_into().ok()?;
    Some((u64::from_be_bytes(*first), u64::from_be_bytes(second)))
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
