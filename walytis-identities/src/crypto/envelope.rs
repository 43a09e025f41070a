//! HPKE (RFC 9180) in base mode: X-Wing (0x647A), HKDF-SHA256, ChaCha20-Poly1305.
//!
//! The authenticated modes are not used: with a post-quantum KEM they do not exist. A sender signs instead.

use thiserror::Error;
use walytis_core::clock::Entropy;
use walytis_core::fault::Fault;
use zeroize::Zeroizing;

use super::provider::{CryptoProvider as _, Provider};
use super::{Label, ReceivingKey, ReceivingPublic, X_WING_ENCAPSULATED};

/// A sealed message did not open: another key, another context, or changed bytes. Says no more on purpose.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the sealed message does not open")]
pub struct OpenError;

impl OpenError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        Fault::Peer
    }
}

/// Seals to a receiving key: encapsulated key (1120 bytes) ‖ ciphertext (message + 16 bytes). `info` = label ‖ `context`.
///
/// # Errors
/// [`OpenError`] if the receiving key is no valid X-Wing key.
pub fn hpke_seal(
    label: Label,
    to: &ReceivingPublic,
    context: &[u8],
    message: &[u8],
    entropy: &dyn Entropy,
) -> Result<Vec<u8>, OpenError> {
    let info = [label.bytes(), context].concat();
    let sealed = Provider::hpke_seal(to.as_bytes(), &info, &[], message, &mut entropy.rng());
    let (encapsulated, ciphertext) = sealed.ok_or(OpenError)?;
    Ok([&encapsulated[..], &ciphertext].concat())
}

/// Opens what [`hpke_seal`] sealed.
///
/// # Errors
/// [`OpenError`].
pub fn hpke_open(
    label: Label,
    key: &ReceivingKey,
    context: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let (encapsulated, ciphertext) = sealed.split_first_chunk::<X_WING_ENCAPSULATED>().ok_or(OpenError)?;
    let info = [label.bytes(), context].concat();
    Provider::hpke_open(key.seed(), encapsulated, &info, &[], ciphertext).ok_or(OpenError)
}

#[cfg(test)]
mod tests {
    use walytis_core::clock::SeededEntropy;

    use super::*;

    #[test]
    fn message_opens_with_the_right_key_label_and_context_only() {
        let entropy = SeededEntropy::new(3);
        let key = ReceivingKey::generate(&entropy);
        let sealed = hpke_seal(Label::Sealed, key.public(), b"to you", b"hello", &entropy).unwrap();
        assert_eq!(hpke_open(Label::Sealed, &key, b"to you", &sealed).unwrap().as_slice(), b"hello");
        assert_eq!(hpke_open(Label::EpochSlot, &key, b"to you", &sealed), Err(OpenError));
        assert_eq!(hpke_open(Label::Sealed, &key, b"to me", &sealed), Err(OpenError));
        assert_eq!(hpke_open(Label::Sealed, &ReceivingKey::generate(&entropy), b"to you", &sealed), Err(OpenError));
        for end in [0, 10, X_WING_ENCAPSULATED, sealed.len() - 1] {
            assert_eq!(hpke_open(Label::Sealed, &key, b"to you", &sealed[..end]), Err(OpenError));
        }
    }
}
