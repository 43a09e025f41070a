//! The recovery code: the final word about an identity, handed out once and never stored.
//!
//! ```text
//! text   = "walytisrecovery1" ‖ base58check( 32 random bytes )
//! keys   = Ed25519 and ML-DSA-65 from the 32 bytes by labelled HKDF
//! digest = SHA-256( label ‖ both public keys ), stands in `Create`, later in `Recover`
//! ```

use thiserror::Error;
use walytis_core::clock::Entropy;
use walytis_core::fault::Fault;
use walytis_core::id::{ChainId, PeerId};
use walytis_core::secret::Secret;
use zeroize::Zeroizing;

use crate::crypto::{
    DecodedKeys, DeviceKeys, DevicePublic, FixedBytes, HybridSignature, Label, SignatureInvalid, derive, digest, random,
};
use crate::op::{OpCore, Recover, RecoveryPublic};

/// What a recovery code starts with.
const PREFIX: &str = "walytisrecovery1";
/// Longest text that is looked at, in bytes.
const TEXT_MAX: usize = 128;

/// A text that is no recovery code. Says no more on purpose.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not a recovery code: it starts with {PREFIX} and has a checksum, so some of it is missing or mistyped")]
pub struct RecoveryCodeError;

impl RecoveryCodeError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        Fault::Caller
    }
}

/// A recovery code that nobody has stored.
pub struct RecoveryCode {
    text: Zeroizing<String>,
    bytes: Secret<32>,
}

impl std::fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl RecoveryCode {
    /// Returns the text, to be written down by a person.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Makes a code.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let bytes = random(entropy);
        let encoded = Zeroizing::new(bs58::encode(bytes.expose()).with_check().into_string());
        Self { text: Zeroizing::new(format!("{PREFIX}{}", *encoded)), bytes }
    }

    /// Reads what a person typed in; blanks around it are passed over.
    ///
    /// # Errors
    /// [`RecoveryCodeError`].
    pub fn parse(text: &str) -> Result<Self, RecoveryCodeError> {
        let text = text.trim();
        let encoded = text.strip_prefix(PREFIX).filter(|_| text.len() <= TEXT_MAX).ok_or(RecoveryCodeError)?;
        let bytes = bs58::decode(encoded).with_check(None).into_vec().map(Zeroizing::new);
        let bytes = bytes.map_err(|_| RecoveryCodeError)?;
        let bytes = Secret::from_slice(&bytes).ok_or(RecoveryCodeError)?;
        Ok(Self { text: Zeroizing::new(text.to_owned()), bytes })
    }

    /// Returns the keys of the code.
    pub fn key(&self) -> RecoveryKey {
        let seed = |part: &[u8]| derive(Label::RecoveryKey, &self.bytes, &[0; 32], part);
        // The receiving part is not used.
        RecoveryKey(DeviceKeys::from_seeds(seed(b"ed25519"), seed(b"ml-dsa"), Secret::new([0; 32])))
    }
}

/// The key pair of a recovery code.
#[derive(Debug)]
pub struct RecoveryKey(DeviceKeys);

impl RecoveryKey {
    /// Returns the public keys.
    pub fn public(&self) -> RecoveryPublic {
        (self.0.public().ed25519, self.0.public().ml_dsa.clone())
    }

    /// Returns the digest that stands in `Create`, or in the `Recover` before.
    pub fn digest(&self) -> [u8; 32] {
        recovery_digest(&self.public())
    }

    /// Proves to `server` that `asker` holds this key of the identity with this chain; of no use to anybody else.
    pub(crate) fn prove(
        &self,
        chain: &ChainId,
        asker: &PeerId,
        server: &PeerId,
        entropy: &dyn Entropy,
    ) -> HybridSignature {
        self.0.sign_hybrid(Label::RecoveryProof, &proof_message(chain, asker, server), entropy)
    }

    /// Puts the recovery key and its signature into a `Recover`; everything else but the slots must stand already.
    pub(crate) fn sign(&self, core: &mut OpCore, entropy: &dyn Entropy) {
        if let Some(op) = core.op.recover_mut() {
            op.recovery_key = self.public();
        }
        let signature = self.0.sign_hybrid(Label::Recovery, &core.recovery_message(), entropy);
        if let Some(op) = core.op.recover_mut() {
            op.recovery_signature = signature;
        }
    }
}

/// Checks the proof of a recovery key. Whether it is the right key, its digest says.
pub(crate) fn verify_proof(
    key: &RecoveryPublic,
    chain: &ChainId,
    asker: &PeerId,
    server: &PeerId,
    proof: &HybridSignature,
) -> Result<(), SignatureInvalid> {
    decoded(key)?.verify(Label::RecoveryProof, &proof_message(chain, asker, server), proof)
}

fn proof_message(chain: &ChainId, asker: &PeerId, server: &PeerId) -> Vec<u8> {
    crate::crypto::to_bytes(&(chain, asker, server))
}

fn decoded(key: &RecoveryPublic) -> Result<DecodedKeys, SignatureInvalid> {
    let (ed25519, ml_dsa) = key.clone();
    let receiving = FixedBytes::new([0; crate::crypto::X_WING_PUBLIC]);
    DecodedKeys::decode(&DevicePublic { ed25519, ml_dsa, receiving })
}

/// Returns the digest of a recovery key.
pub(crate) fn recovery_digest(key: &RecoveryPublic) -> [u8; 32] {
    digest(Label::RecoveryDigest, &[&key.0, key.1.as_bytes()])
}

/// Checks the recovery key's signature of a `Recover`. Whether it is the right key, its digest says.
pub(crate) fn verify_recovery(core: &OpCore, op: &Recover) -> Result<(), SignatureInvalid> {
    decoded(&op.recovery_key)?.verify(Label::Recovery, &core.recovery_message(), &op.recovery_signature)
}

#[cfg(test)]
mod tests {
    use walytis_core::clock::SeededEntropy;

    use super::*;

    #[test]
    fn the_code_determines_the_key_and_is_not_printed() {
        let code = RecoveryCode::generate(&SeededEntropy::new(1));
        let typed = RecoveryCode::parse(&format!(" {}\n", code.text())).unwrap();
        assert_eq!(typed.key().digest(), code.key().digest());
        let other = RecoveryCode::generate(&SeededEntropy::new(2));
        assert_ne!(code.key().digest(), other.key().digest());
        assert_eq!(format!("{code:?}"), "***");
    }

    #[test]
    fn mistyped_code_is_refused() {
        let code = RecoveryCode::generate(&SeededEntropy::new(1));
        let mut swapped: Vec<char> = code.text().chars().collect();
        let last = swapped.len() - 1;
        swapped[last] = if swapped[last] == 'a' { 'b' } else { 'a' };
        let swapped: String = swapped.into_iter().collect();
        let short = &code.text()[..code.text().len() - 1];
        let long = format!("{}{}", code.text(), "1".repeat(200));
        for bad in ["", PREFIX, "walytisvault1abc", &swapped, short, &long] {
            assert!(RecoveryCode::parse(bad).is_err(), "{bad}");
        }
    }
}
