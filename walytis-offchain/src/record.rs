//! The public part of a private block, version 1. Frozen at release 0.1.0.
//!
//! ```text
//! record = claim (walytis_identities::claim) ‖ 0x01 ‖ postcard(RecordV1)
//! header = 0x01 ‖ postcard(PrivateHeaderV1), sealed with XChaCha20-Poly1305: nonce (24 bytes) ‖ ciphertext
//! ```

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use walytis_core::clock::Entropy;
use walytis_core::limits::TOPICS_MAX;
use walytis_core::secret::Secret;
use walytis_core::topic::Topic;
use walytis_identities::claim::Claim;
use walytis_identities::id::EpochId;

use crate::context::{Context, Label};
use crate::envelope::EnvelopeDigest;
use crate::forget::{Consent, ForgetRule};
use crate::padding::size_class;

const VERSION: u8 = 0x01;
/// Bytes of an XChaCha20-Poly1305 nonce.
const NONCE: usize = 24;
/// Largest sealed header in bytes. Chosen: 16 topics of 128 bytes, a content type and 32 KiB of application fields.
pub const SEALED_HEADER_MAX: usize = 40 * 1024;
/// Longest content type in bytes.
pub const CONTENT_TYPE_MAX: usize = 256;
/// Most bytes of application fields.
pub const FIELDS_MAX: usize = 32 * 1024;

/// What everybody who holds the chain sees of a private block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Author and authority heads.
    pub claim: Claim,
    /// The epoch under whose keys header and content key are sealed.
    pub epoch: EpochId,
    /// The envelope. What it is asked for and kept by follows from it and from this record:
    /// [`EnvelopeId::of`](crate::envelope::EnvelopeId::of).
    pub envelope: EnvelopeDigest,
    /// Bytes to which the content is padded.
    pub size_class: u64,
    /// Random; makes the context of every record its own.
    pub nonce: [u8; 32],
    /// Under which rule the content is forgotten.
    pub forget: ForgetRule,
    /// The sealed [`PrivateHeader`].
    pub sealed_header: Vec<u8>,
}

/// What only the authorised see of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrivateHeader {
    /// Bytes of content, without padding.
    pub len: u64,
    /// Topics.
    pub topics: Vec<Topic>,
    /// Media type, if given; at most 256 bytes.
    pub content_type: Option<String>,
    /// The application's own, at most 32 KiB.
    pub fields: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct RecordV1<'a> {
    epoch: EpochId,
    envelope: [u8; 32],
    size_class: u64,
    nonce: [u8; 32],
    consent: Consent,
    expires_at_ms: Option<i64>,
    #[serde(borrow)]
    sealed_header: &'a [u8],
}

#[derive(Serialize, Deserialize)]
struct PrivateHeaderV1<'a> {
    len: u64,
    #[serde(borrow)]
    topics: Vec<&'a str>,
    #[serde(borrow)]
    content_type: Option<&'a str>,
    #[serde(borrow)]
    fields: &'a [u8],
}

impl Record {
    /// Encodes it: the content of a block.
    pub fn encode(&self) -> Vec<u8> {
        let wire = RecordV1 {
            epoch: self.epoch,
            envelope: self.envelope.0,
            size_class: self.size_class,
            nonce: self.nonce,
            consent: self.forget.consent,
            expires_at_ms: self.forget.expires_at_ms,
            sealed_header: &self.sealed_header,
        };
        [self.claim.encode(), versioned(&wire)].concat()
    }

    /// Decodes the content of a block; nothing if it is malformed, not canonical or over its limits.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (claim, rest) = Claim::split(bytes)?;
        let wire: RecordV1<'_> = exactly(rest)?;
        let fits = wire.sealed_header.len() <= SEALED_HEADER_MAX && size_class(wire.size_class) == wire.size_class;
        let record = Self {
            claim,
            epoch: wire.epoch,
            envelope: EnvelopeDigest(wire.envelope),
            size_class: wire.size_class,
            nonce: wire.nonce,
            forget: ForgetRule { consent: wire.consent, expires_at_ms: wire.expires_at_ms },
            sealed_header: wire.sealed_header.to_vec(),
        };
        (fits && record.forget.is_sound() && record.encode() == bytes).then_some(record)
    }

    /// Opens the private header; nothing if the key, the context or any byte is another, or if it contradicts the
    /// record.
    pub fn open_header(&self, key: &Secret<32>, context: &Context) -> Option<PrivateHeader> {
        let (nonce, ciphertext) = self.sealed_header.split_first_chunk::<NONCE>()?;
        let aad = header_associated(context, &self.envelope, self.size_class, &self.forget);
        let cipher = XChaCha20Poly1305::new(key.expose().into());
        let payload = Payload { msg: ciphertext, aad: &aad };
        let plain = zeroize::Zeroizing::new(cipher.decrypt(&XNonce::from(*nonce), payload).ok()?);
        PrivateHeader::decode(&plain).filter(|header| size_class(header.len) == self.size_class)
    }
}

impl PrivateHeader {
    /// Seals it under the header key of an epoch, bound to the context, the envelope and the rule.
    ///
    /// # Panics
    /// Never: what the cipher refuses is beyond every bound here.
    pub fn seal(
        &self,
        key: &Secret<32>,
        context: &Context,
        envelope: &EnvelopeDigest,
        rule: &ForgetRule,
        entropy: &dyn Entropy,
    ) -> Vec<u8> {
        let mut nonce = [0; NONCE];
        entropy.fill(&mut nonce);
        let plain = zeroize::Zeroizing::new(self.encode());
        let aad = header_associated(context, envelope, size_class(self.len), rule);
        #[expect(clippy::expect_used, reason = "the cipher fails only beyond 256 GiB")]
        let sealed = XChaCha20Poly1305::new(key.expose().into())
            .encrypt(&XNonce::from(nonce), Payload { msg: &plain, aad: &aad })
            .expect("headers are bounded");
        [&nonce[..], &sealed].concat()
    }

    fn encode(&self) -> Vec<u8> {
        versioned(&PrivateHeaderV1 {
            len: self.len,
            topics: self.topics.iter().map(Topic::as_str).collect(),
            content_type: self.content_type.as_deref(),
            fields: &self.fields,
        })
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let wire: PrivateHeaderV1<'_> = exactly(bytes)?;
        let type_fits = wire.content_type.is_none_or(|text| text.len() <= CONTENT_TYPE_MAX);
        if wire.topics.len() > TOPICS_MAX || !type_fits || wire.fields.len() > FIELDS_MAX {
            return None;
        }
        let topics: Vec<Topic> = wire.topics.iter().map(|text| Topic::parse(text).ok()).collect::<Option<_>>()?;
        let unique: std::collections::BTreeSet<_> = topics.iter().collect();
        if unique.len() != topics.len() {
            return None;
        }
        let header = Self {
            len: wire.len,
            topics,
            content_type: wire.content_type.map(str::to_owned),
            fields: wire.fields.to_vec(),
        };
        (header.encode() == bytes).then_some(header)
    }
}

fn header_associated(context: &Context, envelope: &EnvelopeDigest, class: u64, rule: &ForgetRule) -> Vec<u8> {
    let rule = versioned(&(rule.consent, rule.expires_at_ms));
    [&context.associated(Label::Header)[..], &envelope.0, &class.to_le_bytes(), &rule].concat()
}

/// Version byte and postcard.
pub(crate) fn versioned<T: Serialize>(value: &T) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "postcard fails only on types without a stated length")]
    let body = postcard::to_stdvec(value).expect("these types always encode");
    [&[VERSION][..], &body].concat()
}

/// Decodes all of `bytes`, version byte first, or nothing.
pub(crate) fn exactly<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let body = bytes.strip_prefix(&[VERSION])?;
    postcard::take_from_bytes(body).ok().filter(|(_, rest)| rest.is_empty()).map(|(value, _)| value)
}
