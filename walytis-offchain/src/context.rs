//! Labels, derivations and the context that binds every part of a private block to its place.

use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use walytis_core::id::ChainId;
use walytis_core::key::PublicKey;
use walytis_core::secret::Secret;
use walytis_identities::claim::Claim;
use walytis_identities::id::EpochId;

/// What a hash, derivation or sealing is for. Closed: no two uses share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    /// The context of a record.
    Context,
    /// Sealing of the private header.
    Header,
    /// Wrapping of the content key.
    Wrap,
    /// Commitment to the content key.
    Commitment,
    /// Key and associated data of chunks.
    Chunk,
    /// Digest over the chunk digests.
    ChunkRoot,
    /// Digest of an envelope.
    Envelope,
    /// What ties an envelope to one record.
    Binding,
    /// Name of an envelope for one record.
    BoundEnvelope,
    /// Name of a ledger on the wire and in the store.
    Ledger,
    /// Name of a stored envelope.
    StoredEnvelope,
    /// Topics in the local index.
    TopicIndex,
    /// Sealing of the key of the local index.
    IndexKey,
    /// What a checkpoint signs.
    Checkpoint,
    /// What the hybrid signature of a record signs.
    RecordSignature,
    /// Authority heads under which records were judged.
    JudgedHeads,
    /// What is one message, in the inbox.
    InboxMessage,
    /// Where the outbox stands in the store.
    Outbox,
    /// Key and associated data of the reason of a proposal to forget.
    ForgetReason,
}

impl Label {
    pub(crate) const fn bytes(self) -> &'static [u8] {
        match self {
            Self::Context => b"walytis/offchain/context/v1",
            Self::Header => b"walytis/offchain/record-header/v1",
            Self::Wrap => b"walytis/offchain/content-key-wrap/v1",
            Self::Commitment => b"walytis/offchain/key-commitment/v1",
            Self::Chunk => b"walytis/offchain/chunk/v1",
            Self::ChunkRoot => b"walytis/offchain/chunk-root/v1",
            Self::Envelope => b"walytis/offchain/envelope/v1",
            Self::Binding => b"walytis/offchain/envelope-binding/v1",
            Self::BoundEnvelope => b"walytis/offchain/bound-envelope/v1",
            Self::Ledger => b"walytis/offchain/ledger/v1",
            Self::StoredEnvelope => b"walytis/offchain/stored-envelope/v1",
            Self::TopicIndex => b"walytis/offchain/topic-index/v1",
            Self::IndexKey => b"walytis/offchain/index-key/v1",
            Self::Checkpoint => b"walytis/offchain/checkpoint/v1",
            Self::RecordSignature => b"walytis/offchain/record-signature/v1",
            Self::JudgedHeads => b"walytis/offchain/judged-heads/v1",
            Self::InboxMessage => b"walytis/offchain/inbox-message/v1",
            Self::Outbox => b"walytis/offchain/outbox/v1",
            Self::ForgetReason => b"walytis/offchain/forget-reason/v1",
        }
    }
}

/// SHA-256 over the label and the parts, each part preceded by its length (8 bytes, little-endian).
pub(crate) fn digest(label: Label, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new().chain_update(label.bytes());
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// HKDF-SHA256 without salt; info = label ‖ `context`.
pub(crate) fn derive(label: Label, secret: &Secret<32>, context: &[u8]) -> Secret<32> {
    let mut out = zeroize::Zeroizing::new([0u8; 32]);
    #[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8160 bytes (RFC 5869 §2.3)")]
    Hkdf::<Sha256>::new(None, secret.expose())
        .expand_multi_info(&[label.bytes(), context], out.as_mut())
        .expect("32 bytes are in reach");
    Secret::new(*out)
}

/// The place of one record: what an envelope is bound to, so that nobody can claim it elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context([u8; 32]);

impl Context {
    /// Returns the context of a record with these public parts.
    pub fn new(
        chain: &ChainId,
        layer: &str,
        claim: &Claim,
        device_key: &PublicKey,
        epoch: &EpochId,
        nonce: &[u8; 32],
    ) -> Self {
        // The encoded claim holds author and authority heads, in the one encoding that they have.
        let claim = claim.encode();
        let parts = [chain.digest(), layer.as_bytes(), &claim, device_key.as_bytes(), epoch.as_bytes(), nonce];
        Self(digest(Label::Context, &parts))
    }

    pub(crate) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Associated data for one use.
    pub(crate) fn associated(&self, label: Label) -> Vec<u8> {
        [label.bytes(), &self.0].concat()
    }
}

/// Names a private ledger on the wire and in the store: chain and layer in one digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LedgerTag(pub(crate) [u8; 32]);

impl LedgerTag {
    pub(crate) fn new(chain: &ChainId, layer: &str) -> Self {
        Self(digest(Label::Ledger, &[chain.digest(), layer.as_bytes()]))
    }
}
