//! Block format version 1. Frozen at release 0.1.0.
//!
//! ```text
//! file     = 0x01 ‖ postcard(Envelope)
//! Envelope { header: bytes, signature: 64 bytes, content: option of bytes }
//! ```

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{ContentRef, Header, Rule, RuleViolation, UnverifiedBlock};
use crate::id::{BlobId, BlockId, ChainId, Digest};
use crate::key::{PublicKey, Signature};
use crate::limits::{BLOCK_FILE_MAX, CHAIN_NAME_MAX, GENESIS_OVERLAY_MAX, PARENTS_MAX, TOPICS_MAX};
use crate::topic::Topic;

/// First byte of every block file of this version.
const VERSION: u8 = 0x01;
/// Lists longer than these do not decode (V-BLOCK-02); up to there the rules on counts speak (V-BLOCK-05, V-BLOCK-09).
const PARENTS_DECODED_MAX: usize = 4 * PARENTS_MAX;
const TOPICS_DECODED_MAX: usize = 4 * TOPICS_MAX;

/// As it stands in the file; every byte string is borrowed, so that no stated length is allocated.
#[derive(Serialize, Deserialize)]
struct EnvelopeV1<'a> {
    #[serde(borrow)]
    header: &'a [u8],
    #[serde(with = "signature_bytes")]
    signature: [u8; 64],
    #[serde(borrow)]
    content: Option<&'a [u8]>,
}

#[derive(Serialize, Deserialize)]
struct HeaderV1<'a> {
    chain: Option<BlockId>,
    #[serde(deserialize_with = "bounded::at_most::<_, _, PARENTS_DECODED_MAX>")]
    parents: Vec<BlockId>,
    generation: u64,
    creator: PublicKey,
    created_at_ms: i64,
    #[serde(borrow, deserialize_with = "bounded::at_most::<_, _, TOPICS_DECODED_MAX>")]
    topics: Vec<&'a str>,
    content: ContentRefV1,
}

#[derive(Serialize, Deserialize)]
enum ContentRefV1 {
    Inline { len: u64, digest: [u8; 32] },
    Blob { root: BlobId, len: u64 },
}

/// Serde knows arrays up to 32 only; two halves encode as 64 plain bytes.
mod signature_bytes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 64], serializer: S) -> Result<S::Ok, S::Error> {
        let (left, right) = bytes.split_at(32);
        let halves: ([u8; 32], [u8; 32]) =
            (left.try_into().map_err(serde::ser::Error::custom)?, right.try_into().map_err(serde::ser::Error::custom)?);
        halves.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 64], D::Error> {
        let (left, right) = <([u8; 32], [u8; 32])>::deserialize(deserializer)?;
        let mut bytes = [0; 64];
        let (to_left, to_right) = bytes.split_at_mut(32);
        to_left.copy_from_slice(&left);
        to_right.copy_from_slice(&right);
        Ok(bytes)
    }
}

/// Lists whose length is bounded while they are read: a file of 1 MiB can state a million empty topics, which would take
/// 16 MiB as slices.
mod bounded {
    use std::fmt;
    use std::marker::PhantomData;

    use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

    struct List<T, const MAX: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for List<T, MAX> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX}")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = list.next_element()? {
                if items.len() == MAX {
                    return Err(A::Error::custom("the list is too long"));
                }
                items.push(item);
            }
            Ok(items)
        }
    }

    pub(super) fn at_most<'de, D, T, const MAX: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
    where
        D: Deserializer<'de>,
        T: Deserialize<'de>,
    {
        deserializer.deserialize_seq(List::<T, MAX>(PhantomData))
    }
}

pub(super) fn decode(file: Bytes) -> Result<UnverifiedBlock, RuleViolation> {
    let violation = |rule, id| RuleViolation { rule, block: id };
    // Sizes first: an oversized file is not even hashed.
    if file.len() > BLOCK_FILE_MAX {
        return Err(violation(Rule::FileSize, BlockId::from_digest([0; 32])));
    }
    let id = BlockId::of_file(&file);
    let body = match file.split_first() {
        Some((&VERSION, body)) => body,
        Some(_) => return Err(violation(Rule::Version, id)),
        None => return Err(violation(Rule::Canonical, id)),
    };
    let envelope: EnvelopeV1<'_> = exactly(body).ok_or_else(|| violation(Rule::Canonical, id))?;
    let header = decode_header(envelope.header).map_err(|rule| violation(rule, id))?;
    let header_bytes = file.slice_ref(envelope.header);
    let inline = envelope.content.map(|content| file.slice_ref(content));
    let signature = Signature(envelope.signature);
    // Only lengths have more than one encoding, and every other one is longer: no need to encode again.
    if canonical_len(&header_bytes, inline.as_deref()) != file.len() {
        return Err(violation(Rule::Canonical, id));
    }
    Ok(UnverifiedBlock { id, header, header_bytes, signature, inline, file })
}

/// Decodes all of `bytes` or nothing.
fn exactly<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    postcard::take_from_bytes(bytes).ok().filter(|(_, rest)| rest.is_empty()).map(|(value, _)| value)
}

pub(super) fn decode_header(bytes: &[u8]) -> Result<Header, Rule> {
    let wire: HeaderV1<'_> = exactly(bytes).ok_or(Rule::Canonical)?;
    let topics = wire.topics.iter().map(|text| Topic::parse(text)).collect::<Result<_, _>>();
    let header = Header {
        chain: wire.chain.map(ChainId),
        parents: wire.parents,
        generation: wire.generation,
        creator: wire.creator,
        created_at_ms: wire.created_at_ms,
        topics: topics.map_err(|_| Rule::TopicText)?,
        content: match wire.content {
            ContentRefV1::Inline { len, digest } => ContentRef::Inline { len, digest: Digest(digest) },
            ContentRefV1::Blob { root, len } => ContentRef::Blob { root, len },
        },
    };
    if encode_header(&header) == bytes { Ok(header) } else { Err(Rule::Canonical) }
}

pub(super) fn encode_header(header: &Header) -> Vec<u8> {
    let wire = HeaderV1 {
        chain: header.chain.map(|chain| chain.0),
        parents: header.parents.clone(),
        generation: header.generation,
        creator: header.creator,
        created_at_ms: header.created_at_ms,
        topics: header.topics.iter().map(Topic::as_str).collect(),
        content: match &header.content {
            ContentRef::Inline { len, digest } => ContentRefV1::Inline { len: *len, digest: digest.0 },
            ContentRef::Blob { root, len } => ContentRefV1::Blob { root: *root, len: *len },
        },
    };
    to_bytes(&wire)
}

/// Returns the bytes of a file with these parts.
fn canonical_len(header: &[u8], content: Option<&[u8]>) -> usize {
    let bytes = |bytes: &[u8]| varint_len(bytes.len()) + bytes.len();
    1 + bytes(header) + 64 + 1 + content.map_or(0, bytes)
}

/// Returns the bytes of a length as postcard writes it: seven bits each.
fn varint_len(value: usize) -> usize {
    let bits = usize::BITS - value.leading_zeros();
    bits.div_ceil(7).max(1) as usize
}

pub(super) fn encode(header: &[u8], signature: &Signature, content: Option<&[u8]>) -> Vec<u8> {
    let mut file = vec![VERSION];
    file.extend(to_bytes(&EnvelopeV1 { header, signature: signature.0, content }));
    file
}

fn to_bytes<T: Serialize>(value: &T) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "postcard fails only on types without a stated length, and these have none")]
    postcard::to_stdvec(value).expect("these types always encode")
}

/// Who may take part in a chain; fixed at genesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Visibility {
    /// Anybody with the chain id may replicate.
    Public,
    /// A 32-byte chain secret, never on the chain, gates everything.
    Invited,
    /// The overlay named in genesis decides; a node without that overlay refuses to open the chain.
    Governed,
}

/// The content of a genesis block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenesisV1 {
    /// Makes the chain unique.
    pub nonce: [u8; 32],
    /// Who may take part.
    pub visibility: Visibility,
    /// A name for people, at most 256 bytes, without control characters.
    pub name: Option<String>,
    /// What an overlay keeps here, at most 256 KiB; an identity its `Create`.
    pub overlay: Bytes,
}

impl GenesisV1 {
    /// Encodes it: version byte and postcard.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend(to_bytes(self));
        bytes
    }

    /// Decodes it; nothing if it is malformed, not canonical or over its limits.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let body = bytes.strip_prefix(&[VERSION])?;
        let genesis: Self = exactly(body)?;
        // The name is shown on terminals: an escape sequence in it must not reach one.
        let fits = |name: &String| name.len() <= CHAIN_NAME_MAX && !name.chars().any(char::is_control);
        let name_fits = genesis.name.as_ref().is_none_or(fits);
        (name_fits && genesis.overlay.len() <= GENESIS_OVERLAY_MAX && genesis.encode() == bytes).then_some(genesis)
    }
}
