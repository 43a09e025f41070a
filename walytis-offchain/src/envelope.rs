//! The encrypted part of a private block, version 1. Frozen at release 0.1.0.
//!
//! ```text
//! envelope = header ‖ chunks
//! header   = 0x01 ‖ postcard { wrap nonce 24 bytes, wrapped content key 48 bytes, commitment, chunk bytes u32, len u64, root }
//! chunk i  = ChaCha20-Poly1305(chunk key, nonce = 7 zero bytes ‖ i (u32, big-endian) ‖ 1 if last, padded content [i])
//! root     = H(chunk digests),  digest = H(header): what the record names
//! id       = H(binding, digest),  binding = H(context, encoded record): what it is asked for, served and kept by
//! ```
//!
//! Anybody can put the digest of another's envelope into a record; the id that this record stands for is another one all
//! the same. So nothing that becomes of one record (rule, expiry, vote) touches what another keeps.
//!
//! The nonces never repeat: the chunk key is derived from a fresh random content key per record, the counter rises with
//! every chunk, and one chunk alone has the last-flag (STREAM; Hoang, Reyhanitabar, Rogaway, Vizár, CRYPTO 2015).

use bytes::Bytes;
use chacha20poly1305::aead::{Aead as _, AeadInOut as _, KeyInit as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce, XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use walytis_core::clock::Entropy;
use walytis_core::secret::Secret;
use zeroize::Zeroizing;

use crate::context::{Context, Label, derive, digest};
use crate::padding::size_class;
use crate::record::{Record, exactly, versioned};

/// Plain bytes of a chunk; the last may be shorter. *Part of the format.* Chosen: bounds memory, keeps lists short.
pub const CHUNK: u32 = 1024 * 1024;
/// Bytes by which a sealed chunk is longer.
pub const TAG: usize = 16;
/// Largest padded content in bytes. Chosen: the digests of its chunks fit one frame (2 MiB).
pub const PADDED_MAX: u64 = 64 * 1024 * 1024 * 1024;

/// The digest of an envelope's header, which commits to every byte of it: what a record names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnvelopeDigest(pub [u8; 32]);

/// The name by which an envelope is asked for, served and kept: it stands for the envelope and for the one record that
/// names it. Only who signs with the same device key can make the same one again, and only with the same record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnvelopeId(pub [u8; 32]);

/// What ties an envelope to one record. Everybody who has the record can compute it; it travels with the envelope, so that
/// who stores it needs nothing else to check its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding(pub [u8; 32]);

impl Binding {
    /// Binds to a record in its context (which holds the device key that signed it).
    pub fn new(context: &Context, record: &Record) -> Self {
        Self(digest(Label::Binding, &[context.bytes(), &record.encode()]))
    }

    /// Returns the id of the envelope with this digest.
    pub fn id(&self, envelope: &EnvelopeDigest) -> EnvelopeId {
        EnvelopeId(digest(Label::BoundEnvelope, &[&self.0, &envelope.0]))
    }
}

impl EnvelopeId {
    /// Returns the id of the envelope that a record names.
    pub fn of(context: &Context, record: &Record) -> Self {
        Binding::new(context, record).id(&record.envelope)
    }
}

/// Header and chunk digests of an envelope: what the chunks are checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    header: Vec<u8>,
    fields: HeaderV1,
    digests: Vec<[u8; 32]>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct HeaderV1 {
    wrap_nonce: [u8; 24],
    wrapped: ([u8; 32], [u8; 16]),
    commitment: [u8; 32],
    chunk: u32,
    len: u64,
    root: [u8; 32],
}

impl Manifest {
    /// Decodes and checks everything that needs no key; nothing if it is malformed or has another digest.
    /// `digests` is the chunk digests, one after the other.
    pub fn verify(digest: &EnvelopeDigest, header: &[u8], digests: &[u8]) -> Option<Self> {
        let manifest = Self::decode_unnamed(header, digests)?;
        (manifest.digest() == *digest).then_some(manifest)
    }

    /// Decodes what nobody has named: everything is checked but the digest.
    pub fn decode_unnamed(header: &[u8], digests: &[u8]) -> Option<Self> {
        let fields: HeaderV1 = exactly(header)?;
        let fits = fields.chunk == CHUNK && fields.len <= PADDED_MAX && size_class(fields.len) == fields.len;
        let count = fields.len.div_ceil(u64::from(CHUNK));
        if !fits || versioned(&fields) != header || Some(digests.len() as u64) != count.checked_mul(32) {
            return None;
        }
        let digests: Vec<[u8; 32]> = digests.chunks_exact(32).filter_map(|one| one.try_into().ok()).collect();
        (root(&digests) == fields.root).then(|| Self { header: header.to_vec(), fields, digests })
    }

    /// Returns the envelope's digest.
    pub fn digest(&self) -> EnvelopeDigest {
        EnvelopeDigest(digest(Label::Envelope, &[&self.header]))
    }

    /// Returns the encoded header.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Returns the chunk digests, one after the other.
    pub fn digests(&self) -> Vec<u8> {
        self.digests.concat()
    }

    /// Returns how many chunks there are, at least 1.
    pub fn chunks(&self) -> u32 {
        u32::try_from(self.digests.len()).unwrap_or(u32::MAX)
    }

    /// Returns the bytes of padded content.
    pub const fn padded_len(&self) -> u64 {
        self.fields.len
    }

    /// Returns the bytes of all sealed chunks.
    pub fn sealed_len(&self) -> u64 {
        self.fields.len + u64::from(self.chunks()) * TAG as u64
    }

    /// Returns the bytes of sealed chunk `index`, 0 if there is none.
    pub fn chunk_len(&self, index: u32) -> u64 {
        let before = u64::from(index) * u64::from(CHUNK);
        match self.fields.len.saturating_sub(before) {
            0 => 0,
            left => left.min(u64::from(CHUNK)) + TAG as u64,
        }
    }

    /// Says whether `sealed` is chunk `index`.
    pub fn holds(&self, index: u32, sealed: &[u8]) -> bool {
        let expected = usize::try_from(index).ok().and_then(|index| self.digests.get(index));
        sealed.len() as u64 == self.chunk_len(index) && expected == Some(&chunk_digest(sealed))
    }
}

fn chunk_digest(sealed: &[u8]) -> [u8; 32] {
    walytis_core::id::Digest::of(sealed).0
}

fn root(digests: &[[u8; 32]]) -> [u8; 32] {
    digest(Label::ChunkRoot, &[&digests.concat()])
}

fn chunk_nonce(index: u32, last: bool) -> Nonce {
    let mut nonce = [0; 12];
    let (counter, flag) = (index.to_be_bytes(), u8::from(last));
    for (place, byte) in nonce.iter_mut().skip(7).zip(counter.into_iter().chain([flag])) {
        *place = byte;
    }
    Nonce::from(nonce)
}

/// Seals a content chunk by chunk; the caller pads ([`size_class`]) and stores what comes out.
pub struct Sealer {
    content_key: Secret<32>,
    chunks: ChunkSealer,
    digests: Vec<[u8; 32]>,
    len: u64,
}

/// Seals the chunks of one envelope, in any order and on any thread.
#[derive(Clone)]
pub struct ChunkSealer {
    context: Context,
    cipher: ChaCha20Poly1305,
}

/// A sealed chunk on its way into its envelope.
#[derive(Clone, Debug)]
pub struct SealedChunk {
    /// The sealed bytes.
    pub bytes: Bytes,
    digest: [u8; 32],
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealer({} chunks)", self.digests.len())
    }
}

impl std::fmt::Debug for ChunkSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChunkSealer")
    }
}

impl ChunkSealer {
    /// Seals chunk `index`: exactly [`CHUNK`] bytes, or 1..=[`CHUNK`] if it is the last. Each index is sealed once: its
    /// nonce depends on nothing else. The content is sealed in its place, in one buffer with room for the tag.
    ///
    /// # Panics
    /// Never: what the cipher refuses is beyond every bound here.
    pub fn seal(&self, index: u32, mut plain: Vec<u8>, last: bool) -> SealedChunk {
        let aad = self.context.associated(Label::Chunk);
        #[expect(clippy::expect_used, reason = "the cipher fails only beyond 256 GiB")]
        self.cipher.encrypt_in_place(&chunk_nonce(index, last), &aad, &mut plain).expect("chunks are bounded");
        let digest = chunk_digest(&plain);
        SealedChunk { bytes: plain.into(), digest }
    }
}

impl Sealer {
    /// Begins an envelope under a fresh random content key.
    pub fn new(context: Context, entropy: &dyn Entropy) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        entropy.fill(key.as_mut());
        let content_key = Secret::new(*key);
        let cipher = chunk_cipher(&content_key, &context);
        Self { content_key, chunks: ChunkSealer { context, cipher }, digests: Vec::new(), len: 0 }
    }

    /// Returns what seals the chunks.
    pub fn chunks(&self) -> ChunkSealer {
        self.chunks.clone()
    }

    /// Takes the next sealed chunk, in order.
    pub fn push(&mut self, sealed: &SealedChunk) {
        self.digests.push(sealed.digest);
        self.len += (sealed.bytes.len().saturating_sub(TAG)) as u64;
    }

    /// Seals and takes the next chunk.
    pub fn seal(&mut self, plain: &[u8], last: bool) -> Bytes {
        let index = u32::try_from(self.digests.len()).unwrap_or(u32::MAX);
        let mut buffer = Vec::with_capacity(plain.len() + TAG);
        buffer.extend_from_slice(plain);
        let sealed = self.chunks.seal(index, buffer, last);
        self.push(&sealed);
        sealed.bytes
    }

    /// Wraps the content key under the content-wrap key of an epoch and returns the manifest.
    ///
    /// # Panics
    /// Never: what the cipher refuses is beyond every bound here.
    pub fn finish(self, wrap_key: &Secret<32>, entropy: &dyn Entropy) -> Manifest {
        let mut wrap_nonce = [0; 24];
        entropy.fill(&mut wrap_nonce);
        let context = self.chunks.context;
        let aad = context.associated(Label::Wrap);
        #[expect(clippy::expect_used, reason = "32 bytes seal to 48")]
        let wrapped = XChaCha20Poly1305::new(wrap_key.expose().into())
            .encrypt(&XNonce::from(wrap_nonce), Payload { msg: self.content_key.expose(), aad: &aad })
            .ok()
            .and_then(|sealed| Some((*sealed.first_chunk::<32>()?, *sealed.last_chunk::<16>()?)))
            .expect("48 bytes");
        let fields = HeaderV1 {
            wrap_nonce,
            wrapped,
            commitment: *commitment(&self.content_key, &context).expose(),
            chunk: CHUNK,
            len: self.len,
            root: root(&self.digests),
        };
        Manifest { header: versioned(&fields), fields, digests: self.digests }
    }
}

fn commitment(key: &Secret<32>, context: &Context) -> Secret<32> {
    derive(Label::Commitment, key, context.bytes())
}

fn chunk_cipher(key: &Secret<32>, context: &Context) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(derive(Label::Chunk, key, context.bytes()).expose().into())
}

/// Opens the chunks of one envelope.
#[derive(Clone)]
pub struct Opener {
    context: Context,
    cipher: ChaCha20Poly1305,
    chunks: u32,
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opener({} chunks)", self.chunks)
    }
}

impl Opener {
    /// Unwraps the content key and checks the commitment to it; nothing if key or context is another.
    pub fn new(manifest: &Manifest, wrap_key: &Secret<32>, context: Context) -> Option<Self> {
        let aad = context.associated(Label::Wrap);
        let (left, right) = &manifest.fields.wrapped;
        let sealed = [&left[..], right].concat();
        let plain = XChaCha20Poly1305::new(wrap_key.expose().into())
            .decrypt(&XNonce::from(manifest.fields.wrap_nonce), Payload { msg: &sealed, aad: &aad })
            .ok()
            .map(Zeroizing::new)?;
        let key = Secret::from_slice(&plain)?;
        let committed = commitment(&key, &context).expose().ct_eq(&manifest.fields.commitment);
        bool::from(committed).then(|| Self { context, cipher: chunk_cipher(&key, &context), chunks: manifest.chunks() })
    }

    /// Opens chunk `index`, in its place where nobody else holds the bytes; nothing if any byte or its place is another.
    pub fn open(&self, index: u32, sealed: Bytes) -> Option<Bytes> {
        let last = index.checked_add(1)? == self.chunks;
        let aad = self.context.associated(Label::Chunk);
        let mut buffer = Vec::from(sealed);
        self.cipher.decrypt_in_place(&chunk_nonce(index, last), &aad, &mut buffer).ok()?;
        Some(buffer.into())
    }
}
