//! The recovery code: the final word about an identity, handed out once and never stored.
//!
//! ```text
//! text   = "walytisrecovery1" ‖ base58check( 32 random bytes )
//! keys   = Ed25519 and ML-DSA-65 from the 32 bytes by labelled HKDF
//! digest = SHA-256( label ‖ both public keys ), stands in `Create`
//! ```

use walytis_core::clock::Entropy;
use walytis_core::secret::{Secret, SecretBytes};
use zeroize::Zeroizing;

use crate::crypto::{DeviceKeys, Label, derive, digest};

/// What a recovery code starts with.
const PREFIX: &str = "walytisrecovery1";

/// A recovery code that nobody has stored.
pub struct RecoveryCode(Zeroizing<String>);

impl std::fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl RecoveryCode {
    /// Returns the text, to be written down by a person.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Makes a code and the digest that stands in `Create`; nothing if the keys cannot be made of it.
    pub(super) fn generate(entropy: &dyn Entropy) -> Option<(Self, [u8; 32])> {
        let mut bytes = Zeroizing::new([0; 32]);
        entropy.fill(bytes.as_mut());
        let code = Secret::new(*bytes);
        let text = Zeroizing::new(bs58::encode(code.expose()).with_check().into_string());
        let digest = recovery_digest(&code)?;
        Some((Self(Zeroizing::new(format!("{PREFIX}{}", *text))), digest))
    }
}

/// Returns the digest of a code's public keys.
fn recovery_digest(code: &Secret<32>) -> Option<[u8; 32]> {
    let seed = |part: &[u8]| derive(Label::RecoveryKey, code, &[0; 32], part);
    let (ed25519, ml_dsa) = (seed(b"ed25519"), seed(b"ml-dsa"));
    // The form of device keys; the receiving part is not used.
    let mut encoded = vec![0x01];
    [ed25519.expose(), ml_dsa.expose(), &[0; 32]].iter().for_each(|part| encoded.extend_from_slice(*part));
    let keys = DeviceKeys::decode(&SecretBytes::new(encoded)).ok()?;
    Some(digest(Label::RecoveryDigest, &[&keys.public().ed25519, keys.public().ml_dsa.as_bytes()]))
}

#[cfg(test)]
mod tests {
    use walytis_core::clock::SeededEntropy;

    use super::*;

    #[test]
    fn the_code_determines_the_digest_and_is_not_printed() {
        let (code, digest) = RecoveryCode::generate(&SeededEntropy::new(1)).unwrap();
        let encoded = code.text().strip_prefix(PREFIX).unwrap();
        let bytes = bs58::decode(encoded).with_check(None).into_vec().unwrap();
        assert_eq!(recovery_digest(&Secret::from_slice(&bytes).unwrap()), Some(digest));
        let (_, other) = RecoveryCode::generate(&SeededEntropy::new(2)).unwrap();
        assert_ne!(digest, other);
        assert_eq!(format!("{code:?}"), "***");
    }
}
