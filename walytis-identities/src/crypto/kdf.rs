//! Labelled hashes, derivations and symmetric sealing.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use walytis_core::clock::Entropy;
use walytis_core::secret::Secret;

use super::Label;

/// Bytes of an XChaCha20-Poly1305 nonce.
const NONCE: usize = 24;

/// Returns SHA-256 over the label and the parts, each part preceded by its length (8 bytes, little-endian).
pub fn digest(label: Label, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(label.bytes());
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// Derives a secret: HKDF-SHA256 with `salt`, input `secret`, info = label ‖ `context`.
pub fn derive(label: Label, secret: &Secret<32>, salt: &[u8; 32], context: &[u8]) -> Secret<32> {
    let mut out = zeroize::Zeroizing::new([0u8; 32]);
    expand(label, secret, salt, context, &mut out);
    Secret::new(*out)
}

fn expand(label: Label, secret: &Secret<32>, salt: &[u8; 32], context: &[u8], out: &mut [u8; 32]) {
    #[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8160 bytes (RFC 5869 §2.3)")]
    Hkdf::<Sha256>::new(Some(salt), secret.expose())
        .expand_multi_info(&[label.bytes(), context], out)
        .expect("32 bytes are in reach");
}

/// Encodes in postcard.
pub(crate) fn to_bytes<T: serde::Serialize + ?Sized>(value: &T) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "postcard fails only on types without a stated length, and these have none")]
    postcard::to_stdvec(value).expect("these types always encode")
}

/// Seals under a key that `label` names: random nonce (24 bytes) ‖ XChaCha20-Poly1305 ciphertext, associated data =
/// label ‖ `context`. Random nonces of 192 bits do not repeat (NIST bound 2^80 messages per key).
pub(crate) fn aead_seal(
    label: Label,
    key: &Secret<32>,
    context: &[u8],
    message: &[u8],
    entropy: &dyn Entropy,
) -> Vec<u8> {
    let mut nonce = [0u8; NONCE];
    entropy.fill(&mut nonce);
    let aad = [label.bytes(), context].concat();
    #[expect(clippy::expect_used, reason = "the cipher fails only beyond 256 GiB")]
    let sealed = XChaCha20Poly1305::new(key.expose().into())
        .encrypt(&XNonce::from(nonce), Payload { msg: message, aad: &aad })
        .expect("messages are bounded");
    [&nonce[..], &sealed].concat()
}

/// Opens what [`aead_seal`] sealed; nothing if key, label, context or bytes differ.
pub(crate) fn aead_open(
    label: Label,
    key: &Secret<32>,
    context: &[u8],
    sealed: &[u8],
) -> Option<zeroize::Zeroizing<Vec<u8>>> {
    let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE>()?;
    let aad = [label.bytes(), context].concat();
    XChaCha20Poly1305::new(key.expose().into())
        .decrypt(&XNonce::from(*nonce), Payload { msg: ciphertext, aad: &aad })
        .ok()
        .map(zeroize::Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use walytis_core::clock::SeededEntropy;

    use super::*;

    #[test]
    fn parts_are_told_apart() {
        assert_ne!(digest(Label::Rank, &[b"ab", b"c"]), digest(Label::Rank, &[b"a", b"bc"]));
        assert_ne!(digest(Label::Rank, &[b"a"]), digest(Label::Op, &[b"a"]));
    }

    #[test]
    fn sealed_bytes_open_under_the_same_label_key_and_context_only() {
        let entropy = SeededEntropy::new(1);
        let key = Secret::new([1; 32]);
        let sealed = aead_seal(Label::CardPrivate, &key, b"context", b"message", &entropy);
        assert_eq!(aead_open(Label::CardPrivate, &key, b"context", &sealed).unwrap().as_slice(), b"message");
        assert!(aead_open(Label::EpochHistory, &key, b"context", &sealed).is_none());
        assert!(aead_open(Label::CardPrivate, &Secret::new([2; 32]), b"context", &sealed).is_none());
        assert!(aead_open(Label::CardPrivate, &key, b"other", &sealed).is_none());
        assert!(aead_open(Label::CardPrivate, &key, b"context", &sealed[..10]).is_none());
    }
}
