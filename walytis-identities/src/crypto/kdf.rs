//! Labelled hashes, derivations and symmetric sealing.

use walytis_core::clock::Entropy;
use walytis_core::secret::Secret;

use super::Label;
use super::provider::{CryptoProvider as _, Provider, XCHACHA_NONCE};

/// Returns SHA-256 over the label and the parts, each part preceded by its length (8 bytes, little-endian).
pub fn digest(label: Label, parts: &[&[u8]]) -> [u8; 32] {
    let lengths: Vec<[u8; 8]> = parts.iter().map(|part| (part.len() as u64).to_le_bytes()).collect();
    let framed = lengths.iter().zip(parts).flat_map(|(length, part)| [&length[..], part]);
    Provider::sha256(&std::iter::once(label.bytes()).chain(framed).collect::<Vec<_>>())
}

/// Derives a secret: HKDF-SHA256 with `salt`, input `secret`, info = label ‖ `context`.
#[expect(clippy::missing_panics_doc, reason = "HKDF-SHA256 gives up to 8160 bytes (RFC 5869 §2.3)")]
pub fn derive(label: Label, secret: &Secret<32>, salt: &[u8; 32], context: &[u8]) -> Secret<32> {
    let mut out = zeroize::Zeroizing::new([0u8; 32]);
    let filled = Provider::hkdf_sha256(salt, secret.expose(), &[label.bytes(), context], &mut out[..]);
    assert!(filled, "32 bytes are in reach");
    Secret::new(*out)
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
    let mut nonce = [0u8; XCHACHA_NONCE];
    entropy.fill(&mut nonce);
    let sealed = Provider::xchacha_seal(key, &nonce, &[label.bytes(), context].concat(), message);
    [&nonce[..], &sealed].concat()
}

/// Opens what [`aead_seal`] sealed; nothing if key, label, context or bytes differ.
pub(crate) fn aead_open(
    label: Label,
    key: &Secret<32>,
    context: &[u8],
    sealed: &[u8],
) -> Option<zeroize::Zeroizing<Vec<u8>>> {
    let (nonce, ciphertext) = sealed.split_first_chunk::<XCHACHA_NONCE>()?;
    Provider::xchacha_open(key, nonce, &[label.bytes(), context].concat(), ciphertext)
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
