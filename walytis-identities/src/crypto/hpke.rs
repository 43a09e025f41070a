//! HPKE (RFC 9180) in base mode: X-Wing (0x647A), HKDF-SHA256, ChaCha20-Poly1305.
//!
//! The authenticated modes are not used: with a post-quantum KEM they do not exist. A sender signs instead.

use ::hpke::aead::ChaCha20Poly1305;
use ::hpke::kdf::HkdfSha256;
use ::hpke::kem::XWing;
use ::hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use thiserror::Error;
use walytis_core::clock::Entropy;
use walytis_core::fault::Fault;
use zeroize::Zeroizing;

use super::{Label, ReceivingKey, ReceivingPublic, X_WING_ENCAPSULATED};

type XWingKem = XWing;

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
    let key = <XWingKem as Kem>::PublicKey::from_bytes(to.as_bytes()).map_err(|_| OpenError)?;
    let info = [label.bytes(), context].concat();
    let (encapsulated, ciphertext) = ::hpke::single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, XWingKem>(
        &OpModeS::Base,
        &key,
        &info,
        message,
        &[],
        &mut entropy.rng(),
    )
    .map_err(|_| OpenError)?;
    Ok([&encapsulated.to_bytes()[..], &ciphertext].concat())
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
    let (encapsulated, ciphertext) = sealed.split_at_checked(X_WING_ENCAPSULATED).ok_or(OpenError)?;
    let encapsulated = <XWingKem as Kem>::EncappedKey::from_bytes(encapsulated).map_err(|_| OpenError)?;
    let secret = <XWingKem as Kem>::PrivateKey::from_bytes(key.seed().expose()).map_err(|_| OpenError)?;
    let info = [label.bytes(), context].concat();
    ::hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, XWingKem>(
        &OpModeR::Base,
        &secret,
        &encapsulated,
        &info,
        ciphertext,
        &[],
    )
    .map(Zeroizing::new)
    .map_err(|_| OpenError)
}

/// Returns the public key of an X-Wing seed.
pub(super) fn public_of(seed: &walytis_core::secret::Secret<32>) -> ReceivingPublic {
    #[expect(clippy::expect_used, reason = "a seed is any 32 bytes, a public key always 1216")]
    let secret = <XWingKem as Kem>::PrivateKey::from_bytes(seed.expose()).expect("a seed has 32 bytes");
    #[expect(clippy::expect_used, reason = "X-Wing public keys have 1216 bytes")]
    ReceivingPublic::from_slice(&XWingKem::sk_to_pk(&secret).to_bytes()).expect("1216 bytes")
}

/// Says whether the bytes are an X-Wing public key that can be sealed to.
pub(super) fn is_valid(public: &[u8]) -> bool {
    <XWingKem as Kem>::PublicKey::from_bytes(public).is_ok()
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
