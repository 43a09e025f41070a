//! Names of blocks, chains, blobs and peers.

use std::fmt;
use std::str::FromStr;

use cid::Cid;
use multihash::Multihash;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Multicodec `raw`.
const CODEC_RAW: u64 = 0x55;
/// Multicodec `dag-pb`.
const CODEC_DAG_PB: u64 = 0x70;
/// Multihash code of SHA-256.
const SHA2_256: u64 = 0x12;
/// Longest peer id in bytes. Chosen: libp2p peer ids have 38 or 34.
pub const PEER_ID_MAX: usize = 64;
/// Longest address text in bytes. Chosen: a relayed multiaddr with two peer ids has under 250.
pub const ADDRESS_MAX: usize = 512;

/// A text that is no id of the wanted kind.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("not a {kind}: {reason}")]
pub struct ParseIdError {
    kind: &'static str,
    reason: &'static str,
}

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Returns the SHA-256 digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(6).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The id of a block: exactly the CIDv1, codec raw, SHA-256, of its block file. Only the digest is stored; the text
/// and the CID have the fixed prefix, so no other form can be expressed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlockId([u8; 32]);

impl BlockId {
    /// Returns the id of the block whose file is `file`.
    pub fn of_file(file: &[u8]) -> Self {
        Self(Sha256::digest(file).into())
    }

    /// Returns the id with this SHA-256 digest.
    pub const fn from_digest(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// Returns the digest, 32 bytes.
    pub const fn digest(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the CID, as any IPFS node names the block file.
    pub fn to_cid(&self) -> Cid {
        sha256_cid(CODEC_RAW, &self.0)
    }

    /// Returns the first characters of the digest part of the text, enough for a log line.
    pub fn short(&self) -> String {
        self.to_string().chars().skip(7).take(8).collect()
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_cid().fmt(f)
    }
}

impl fmt::Debug for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl FromStr for BlockId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let (codec, digest) = parse_sha256_cid("block id", text)?;
        if codec != CODEC_RAW {
            return Err(ParseIdError { kind: "block id", reason: "its codec is not raw" });
        }
        Ok(Self(digest))
    }
}

/// The id of a chain: the id of its genesis block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChainId(pub BlockId);

impl ChainId {
    /// Returns the digest, 32 bytes.
    pub const fn digest(&self) -> &[u8; 32] {
        self.0.digest()
    }

    /// Returns a few characters for a log line.
    pub fn short(&self) -> String {
        self.0.short()
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ChainId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        text.parse().map(Self).map_err(|error: ParseIdError| ParseIdError { kind: "chain id", ..error })
    }
}

/// The id of a blob: the CID of its UnixFS file, dag-pb, or raw when it has a single leaf.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BlobId {
    /// A file of one leaf.
    Raw([u8; 32]),
    /// A file of several leaves.
    DagPb([u8; 32]),
}

impl BlobId {
    /// Returns the digest, 32 bytes.
    pub const fn digest(&self) -> &[u8; 32] {
        match self {
            Self::Raw(digest) | Self::DagPb(digest) => digest,
        }
    }

    /// Returns the CID that `ipfs cat` takes.
    pub fn to_cid(&self) -> Cid {
        match self {
            Self::Raw(digest) => sha256_cid(CODEC_RAW, digest),
            Self::DagPb(digest) => sha256_cid(CODEC_DAG_PB, digest),
        }
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_cid().fmt(f)
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_string();
        f.write_str(text.get(7..15).unwrap_or(&text))
    }
}

impl FromStr for BlobId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        match parse_sha256_cid("blob id", text)? {
            (CODEC_RAW, digest) => Ok(Self::Raw(digest)),
            (CODEC_DAG_PB, digest) => Ok(Self::DagPb(digest)),
            _ => Err(ParseIdError { kind: "blob id", reason: "its codec is neither raw nor dag-pb" }),
        }
    }
}

fn sha256_cid(codec: u64, digest: &[u8; 32]) -> Cid {
    #[expect(clippy::expect_used, reason = "a 32-byte digest always fits the 64 bytes of a multihash")]
    Cid::new_v1(codec, Multihash::wrap(SHA2_256, digest).expect("32 bytes fit"))
}

fn parse_sha256_cid(kind: &'static str, text: &str) -> Result<(u64, [u8; 32]), ParseIdError> {
    let error = |reason| ParseIdError { kind, reason };
    // A CID text is bounded before it is decoded.
    if text.len() > 128 {
        return Err(error("it is too long"));
    }
    let cid: Cid = text.parse().map_err(|_| error("it is not a CID"))?;
    if cid.version() != cid::Version::V1 {
        return Err(error("it is not a CIDv1"));
    }
    if cid.hash().code() != SHA2_256 {
        return Err(error("its hash is not SHA-256"));
    }
    let digest = cid.hash().digest().try_into().map_err(|_| error("its digest does not have 32 bytes"))?;
    Ok((cid.codec(), digest))
}

/// A node's name in the network: the bytes of its libp2p peer id, opaque here. 1..=[`PEER_ID_MAX`] bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(Box<[u8]>);

impl PeerId {
    /// Returns the peer id with these bytes, or nothing if they are empty or more than [`PEER_ID_MAX`].
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (1..=PEER_ID_MAX).contains(&bytes.len()).then(|| Self(bytes.into()))
    }

    /// Returns the bytes.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bs58::encode(&self.0).into_string())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_string();
        f.write_str(text.get(text.len().saturating_sub(6)..).unwrap_or(&text))
    }
}

impl FromStr for PeerId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let error = |reason| ParseIdError { kind: "peer id", reason };
        if text.len() > 2 * PEER_ID_MAX {
            return Err(error("it is too long"));
        }
        let bytes = bs58::decode(text).into_vec().map_err(|_| error("it is not base58"))?;
        Self::from_bytes(&bytes).ok_or_else(|| error("it has the wrong length"))
    }
}

impl Serialize for PeerId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for PeerId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Borrowed: a hostile length is checked against the input before anything is allocated.
        let bytes: &[u8] = Deserialize::deserialize(deserializer)?;
        Self::from_bytes(bytes).ok_or_else(|| serde::de::Error::custom("peer id has the wrong length"))
    }
}

/// The text of an address where a node can be reached (a multiaddr). 1..=[`ADDRESS_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(Box<str>);

impl Address {
    /// Returns the address, or nothing if the text is empty, longer than [`ADDRESS_MAX`] bytes or has control
    /// characters.
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=ADDRESS_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
        fits.then(|| Self(text.into()))
    }

    /// Returns the text.
    pub const fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text: &str = Deserialize::deserialize(deserializer)?;
        Self::new(text).ok_or_else(|| serde::de::Error::custom("malformed address"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_id_text_round_trips_and_is_a_raw_cid() {
        let id = BlockId::of_file(b"hello");
        let text = id.to_string();
        assert!(text.starts_with("bafkrei"), "{text}");
        assert_eq!(text.parse::<BlockId>(), Ok(id));
    }

    #[test]
    fn dag_pb_cid_is_no_block_id() {
        let text = BlobId::DagPb([3; 32]).to_string();
        assert!(text.parse::<BlockId>().is_err());
        assert_eq!(text.parse::<BlobId>(), Ok(BlobId::DagPb([3; 32])));
    }

    #[test]
    fn oversized_peer_id_and_address_are_refused() {
        assert!(PeerId::from_bytes(&[1; PEER_ID_MAX]).is_some());
        assert!(PeerId::from_bytes(&[1; PEER_ID_MAX + 1]).is_none());
        assert!(PeerId::from_bytes(&[]).is_none());
        assert!(Address::new("/ip4/127.0.0.1/tcp/1\n").is_none());
    }
}
