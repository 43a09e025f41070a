//! Frames of `/walytis/catchup/1` and gossip messages, version 1, as a second implementation writes them.

#![expect(clippy::expect_used, reason = "helpers of tests fail by panicking")]

use bytes::Bytes;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use walytis_core::id::{BlobId, BlockId, ChainId, PeerId};
use walytis_core::net::GossipTopic;
use walytis_core::secret::Secret;

/// First byte of every frame and gossip message.
const VERSION: u8 = 0x01;

/// How a chain is claimed to look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Number of the attempt.
    pub round: u32,
    /// Blocks.
    pub count: u64,
    /// Highest generation.
    pub generation: u64,
    /// Heads.
    pub heads: Vec<BlockId>,
    /// Bytes that may be streamed.
    pub credit: u32,
}

/// A frame.
#[expect(missing_docs, reason = "the fields are those of docs/formats/sync.md")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame {
    Preface { nonce: [u8; 32] },
    Open { channel: u32, tag: [u8; 32] },
    Accept { channel: u32, tag: [u8; 32] },
    Refuse { channel: u32 },
    Close { channel: u32 },
    Chain { channel: u32, message: Message },
}

/// Something about a chain; only what an adversary says or must tell apart.
#[expect(missing_docs, reason = "the fields are those of docs/formats/sync.md")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    Hello(Hello),
    Diverged { round: u32 },
    Walk { round: u32, from: Vec<ShortId>, limit: u32 },
    Ids { round: u32, passed: Vec<ShortId>, frontier: Vec<ShortId> },
    Want { round: u32, have: Vec<ShortId>, target: Vec<BlockId>, span: Option<((u64, BlockId), u64)>, credit: u32 },
    Blocks { round: u32, last: bool, files: Vec<Vec<u8>> },
    Credit { round: u32, bytes: u32 },
    Push { files: Vec<Vec<u8>> },
    ManifestAsk { blob: BlobId, from: u32 },
    Manifest { blob: BlobId, len: u64, from: u32, digests: Vec<[u8; 32]> },
    LeafAsk { blob: BlobId, index: u32 },
    Leaf { blob: BlobId, index: u32, bytes: Vec<u8> },
    NoBlob { blob: BlobId, index: u32 },
    Level { count: u64, digest: [u8; 32] },
    RangeAsk { round: u32, body: Vec<u8> },
    Ranges { round: u32, body: Vec<u8> },
    ListAsk { round: u32, after: (u64, BlockId) },
    List { round: u32, ids: Vec<BlockId>, generation: u64 },
    Fetch { round: u32, ids: Vec<BlockId>, credit: u32 },
}

/// The first bytes of an id.
pub type ShortId = [u8; 6];

/// What is said by gossip.
#[expect(missing_docs, reason = "the fields are those of docs/formats/sync.md")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gossip {
    Block(Vec<u8>),
    Ids(Vec<BlockId>),
    Heads { count: u64, heads: Vec<BlockId> },
}

fn postcard(value: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(value).expect("these types always encode")
}

impl Frame {
    /// Returns the frame with its length in front.
    pub fn encode(&self) -> Vec<u8> {
        framed(&[&[VERSION][..], &postcard(self)].concat())
    }

    /// Reads a body; nothing if it is of a kind that is not known here.
    pub fn decode(body: &[u8]) -> Option<Self> {
        postcard::from_bytes(body.strip_prefix(&[VERSION])?).ok()
    }
}

/// Returns any bytes with their length in front.
pub(super) fn framed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("less than 4 GiB");
    [&length.to_be_bytes()[..], body].concat()
}

fn derive(secret: &Secret<32>, label: &[u8], chain: &ChainId) -> [u8; 32] {
    let mut bytes = [0; 32];
    Hkdf::<Sha256>::new(None, secret.expose())
        .expand_multi_info(&[label, chain.digest()], &mut bytes)
        .expect("32 bytes can be derived");
    bytes
}

/// Returns the proof of whoever opens a channel; first of nonces and peers: whoever opened the stream.
pub(crate) fn opener_tag(
    session: &Secret<32>,
    chain: &ChainId,
    channel: u32,
    nonces: [&[u8; 32]; 2],
    peers: [&PeerId; 2],
) -> [u8; 32] {
    let key = derive(session, b"walytis/core/catchup-session/v1", chain);
    let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&key).expect("any length");
    mac.update(b"opener");
    mac.update(&channel.to_be_bytes());
    nonces.iter().for_each(|nonce| mac.update(*nonce));
    for peer in peers {
        mac.update(&(peer.as_bytes().len() as u64).to_be_bytes());
        mac.update(peer.as_bytes());
    }
    mac.finalize().into_bytes().into()
}

/// Returns the topic of a gossip key and a sealed message.
pub(crate) fn sealed(gossip: &Secret<32>, chain: &ChainId, plain: &[u8], nonce: [u8; 24]) -> (GossipTopic, Bytes) {
    let topic = GossipTopic(derive(gossip, b"walytis/core/gossip-topic/v1", chain));
    let key = derive(gossip, b"walytis/core/gossip-key/v1", chain);
    let cipher = XChaCha20Poly1305::new(&key.into());
    let payload = Payload { msg: plain, aad: &topic.0 };
    let sealed = cipher.encrypt(&XNonce::from(nonce), payload).expect("far below the cipher's limit");
    (topic, [&[VERSION][..], &nonce, &sealed].concat().into())
}

/// Opens a message of a gossip key.
#[cfg(all(feature = "ipfs", feature = "offchain"))]
pub(crate) fn opened(gossip: &Secret<32>, chain: &ChainId, message: &[u8]) -> Option<Gossip> {
    let topic = derive(gossip, b"walytis/core/gossip-topic/v1", chain);
    let key = derive(gossip, b"walytis/core/gossip-key/v1", chain);
    let (nonce, sealed) = message.strip_prefix(&[VERSION])?.split_first_chunk::<24>()?;
    let cipher = XChaCha20Poly1305::new(&key.into());
    let plain = cipher.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: &topic }).ok()?;
    postcard::from_bytes(&plain).ok()
}

impl Gossip {
    pub(crate) fn encode(&self) -> Vec<u8> {
        postcard(self)
    }
}
