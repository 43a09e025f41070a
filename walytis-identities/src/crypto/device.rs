//! The key set of a device.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use walytis_core::clock::Entropy;
use walytis_core::fault::Fault;
use walytis_core::key::{PublicKey, SignError, Signature, Signer};
use walytis_core::secret::{Secret, SecretBytes};

use super::provider::{CryptoProvider, Provider};
use super::{FixedBytes, HybridSignature, Label, ML_DSA_PUBLIC, ML_DSA_SIGNATURE, X_WING_PUBLIC, digest};
use crate::id::DeviceId;

/// Version byte of encoded device keys: a device's first keys.
const KEYS_VERSION: u8 = 0x01;
/// Version byte of renewed keys: the id of their device stands before them.
const RENEWED_VERSION: u8 = 0x02;

/// Public X-Wing key, 1216 bytes, unchecked.
pub type ReceivingPublic = FixedBytes<X_WING_PUBLIC>;

/// The id of a receiving key: a labelled digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeyId(pub [u8; 32]);

impl KeyId {
    /// Returns the id of a receiving key.
    pub fn of(public: &ReceivingPublic) -> Self {
        Self(digest(Label::ReceivingKeyId, &[public.as_bytes()]))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        walytis_core::id::Digest(self.0).fmt(f)
    }
}

/// The public keys of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicePublic {
    /// Ed25519 signing key; also the creator of the device's blocks.
    pub ed25519: [u8; 32],
    /// ML-DSA-65 signing key.
    pub ml_dsa: FixedBytes<ML_DSA_PUBLIC>,
    /// X-Wing receiving key, the first one; a device card may carry a newer one.
    pub receiving: ReceivingPublic,
}

impl DevicePublic {
    /// Returns the device id: SHA-256(label ‖ Ed25519 key ‖ ML-DSA key).
    pub fn device_id(&self) -> DeviceId {
        DeviceId(digest(Label::DeviceId, &[&self.ed25519, self.ml_dsa.as_bytes()]))
    }

    /// Returns the key under which the device's blocks are signed.
    pub const fn block_key(&self) -> PublicKey {
        PublicKey::Ed25519(self.ed25519)
    }

    /// Says whether the receiving key can be sealed to.
    pub fn receiving_is_valid(&self) -> bool {
        receiving_is_valid(&self.receiving)
    }
}

/// Says whether a receiving key can be sealed to.
pub fn receiving_is_valid(key: &ReceivingPublic) -> bool {
    Provider::x_wing_is_public(key.as_bytes())
}

/// An X-Wing key pair.
#[derive(Clone)]
pub struct ReceivingKey {
    seed: Secret<32>,
    public: ReceivingPublic,
    id: KeyId,
}

impl ReceivingKey {
    /// Makes a fresh key pair.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self::from_seed(random(entropy))
    }

    /// Returns the key pair of a seed.
    pub fn from_seed(seed: Secret<32>) -> Self {
        let public = ReceivingPublic::new(*Provider::x_wing_public_of(&seed));
        let id = KeyId::of(&public);
        Self { seed, public, id }
    }

    /// Returns the seed, for the vault.
    pub const fn seed(&self) -> &Secret<32> {
        &self.seed
    }

    /// Returns the public key.
    pub const fn public(&self) -> &ReceivingPublic {
        &self.public
    }

    /// Returns the id.
    pub const fn id(&self) -> KeyId {
        self.id
    }
}

impl fmt::Debug for ReceivingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReceivingKey({:?})", self.id)
    }
}

/// Encoded device keys cannot be read.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceKeysError {
    /// Written by a newer program.
    #[error("device keys of an unknown version")]
    Version,
    /// Neither 97 nor, with a device id, 129 bytes.
    #[error("device keys are damaged")]
    Damaged,
}

impl DeviceKeysError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        Fault::Local
    }
}

/// All secret keys of a device: Ed25519 and ML-DSA-65 for signing, X-Wing for receiving.
#[derive(Clone)]
pub struct DeviceKeys {
    seeds: [Secret<32>; 2],
    ed25519: <Provider as CryptoProvider>::Ed25519Secret,
    ml_dsa: <Provider as CryptoProvider>::MlDsaSecret,
    receiving: ReceivingKey,
    public: DevicePublic,
    id: DeviceId,
}

impl DeviceKeys {
    /// Makes fresh keys.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self::from_seeds(random(entropy), random(entropy), random(entropy))
    }

    pub(crate) fn from_seeds(ed25519_seed: Secret<32>, ml_dsa_seed: Secret<32>, receiving: Secret<32>) -> Self {
        let ed25519 = Provider::ed25519_secret(&ed25519_seed);
        let ml_dsa = Provider::ml_dsa_secret(&ml_dsa_seed);
        let receiving = ReceivingKey::from_seed(receiving);
        let public = DevicePublic {
            ed25519: Provider::ed25519_public_of(&ed25519),
            ml_dsa: FixedBytes::new(*Provider::ml_dsa_public_of(&ml_dsa)),
            receiving: receiving.public().clone(),
        };
        let id = public.device_id();
        Self { seeds: [ed25519_seed, ml_dsa_seed], ed25519, ml_dsa, receiving, public, id }
    }

    /// Makes fresh keys for the same device, to be put into an `Update`. Keep both until that op is stored.
    #[must_use]
    pub fn renew(&self, entropy: &dyn Entropy) -> Self {
        Self { id: self.id, ..Self::generate(entropy) }
    }

    /// Returns the public keys.
    pub const fn public(&self) -> &DevicePublic {
        &self.public
    }

    /// Returns the device id.
    pub const fn id(&self) -> DeviceId {
        self.id
    }

    /// Returns the receiving key pair.
    pub const fn receiving(&self) -> &ReceivingKey {
        &self.receiving
    }

    /// Returns the same device with another receiving key in force; signing keys and id stay.
    #[must_use]
    pub fn with_receiving(&self, receiving: ReceivingKey) -> Self {
        let public = DevicePublic { receiving: receiving.public().clone(), ..self.public.clone() };
        Self { public, receiving, ..self.clone() }
    }

    /// Signs with both keys. Ed25519 over label ‖ message; ML-DSA-65, hedged, over message with context = label.
    pub fn sign_hybrid(&self, label: Label, message: &[u8], entropy: &dyn Entropy) -> HybridSignature {
        let ed25519 = Provider::ed25519_sign(&self.ed25519, &[label.bytes(), message].concat());
        HybridSignature { ed25519: FixedBytes::new(ed25519), ml_dsa: self.sign_ml_dsa(label, message, entropy) }
    }

    fn sign_ml_dsa(&self, label: Label, message: &[u8], entropy: &dyn Entropy) -> FixedBytes<ML_DSA_SIGNATURE> {
        let signature = Provider::ml_dsa_sign(&self.ml_dsa, message, label.bytes(), &mut entropy.rng());
        #[expect(clippy::expect_used, reason = "a label has under 255 bytes, the generator does not fail")]
        FixedBytes::new(*signature.expect("signing does not fail"))
    }

    /// Encodes the keys for the vault: 0x01 ‖ Ed25519 seed ‖ ML-DSA seed ‖ X-Wing seed, 97 bytes; renewed keys
    /// 0x02 ‖ device id ‖ the same seeds, 129 bytes.
    pub fn encode(&self) -> SecretBytes {
        let mut bytes = Vec::with_capacity(129);
        if self.id == self.public.device_id() {
            bytes.push(KEYS_VERSION);
        } else {
            bytes.push(RENEWED_VERSION);
            bytes.extend_from_slice(self.id.as_bytes());
        }
        self.seeds.iter().for_each(|seed| bytes.extend_from_slice(seed.expose()));
        bytes.extend_from_slice(self.receiving.seed().expose());
        SecretBytes::new(bytes)
    }

    /// Decodes what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`DeviceKeysError`].
    pub fn decode(encoded: &SecretBytes) -> Result<Self, DeviceKeysError> {
        let (version, rest) = encoded.expose().split_first().ok_or(DeviceKeysError::Damaged)?;
        let (id, seeds) = match *version {
            KEYS_VERSION => (None, rest),
            RENEWED_VERSION => {
                let (id, seeds) = rest.split_first_chunk::<32>().ok_or(DeviceKeysError::Damaged)?;
                (Some(DeviceId(*id)), seeds)
            }
            _ => return Err(DeviceKeysError::Version),
        };
        let seeds: &[u8; 96] = seeds.try_into().map_err(|_| DeviceKeysError::Damaged)?;
        let (chunks, _) = seeds.as_chunks::<32>();
        let [ed25519, ml_dsa, receiving] = chunks else { return Err(DeviceKeysError::Damaged) };
        let keys = Self::from_seeds(Secret::new(*ed25519), Secret::new(*ml_dsa), Secret::new(*receiving));
        Ok(Self { id: id.unwrap_or(keys.id), ..keys })
    }
}

impl Signer for DeviceKeys {
    fn public_key(&self) -> PublicKey {
        self.public.block_key()
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        Ok(Signature(Provider::ed25519_sign(&self.ed25519, message)))
    }
}

impl fmt::Debug for DeviceKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceKeys({:?})", self.id)
    }
}

/// Returns 32 random bytes.
pub(crate) fn random(entropy: &dyn Entropy) -> Secret<32> {
    let mut bytes = zeroize::Zeroizing::new([0u8; 32]);
    entropy.fill(bytes.as_mut());
    Secret::new(*bytes)
}

#[cfg(test)]
mod tests {
    use walytis_core::clock::SeededEntropy;

    use super::*;
    use crate::crypto::{DecodedKeys, SignatureInvalid};

    #[test]
    fn keys_round_trip_and_bad_bytes_are_told_apart() {
        let keys = DeviceKeys::generate(&SeededEntropy::new(1));
        let encoded = keys.encode();
        assert_eq!(DeviceKeys::decode(&encoded).unwrap().public(), keys.public());
        let renewed = keys.renew(&SeededEntropy::new(2));
        let read = DeviceKeys::decode(&renewed.encode()).unwrap();
        assert_eq!((read.id(), read.public()), (keys.id(), renewed.public()));
        assert_ne!(renewed.public().device_id(), keys.id());
        let newer = [&[3][..], &encoded.expose()[1..]].concat();
        assert_eq!(DeviceKeys::decode(&SecretBytes::new(newer)).unwrap_err(), DeviceKeysError::Version);
        let short = SecretBytes::new(encoded.expose()[..96].to_vec());
        assert_eq!(DeviceKeys::decode(&short).unwrap_err(), DeviceKeysError::Damaged);
        assert_eq!(DeviceKeys::decode(&SecretBytes::new(vec![])).unwrap_err(), DeviceKeysError::Damaged);
        assert!(!format!("{keys:?}").contains("seed"));
    }

    #[test]
    fn both_signatures_must_verify_under_the_label() {
        let entropy = SeededEntropy::new(2);
        let (keys, other) = (DeviceKeys::generate(&entropy), DeviceKeys::generate(&entropy));
        let decoded = DecodedKeys::decode(keys.public()).unwrap();
        let signature = keys.sign_hybrid(Label::Card, b"message", &entropy);
        let foreign = other.sign_hybrid(Label::Card, b"message", &entropy);
        assert_eq!(decoded.verify(Label::Card, b"message", &signature), Ok(()));
        assert_eq!(decoded.verify(Label::Op, b"message", &signature), Err(SignatureInvalid));
        assert_eq!(decoded.verify(Label::Card, b"massage", &signature), Err(SignatureInvalid));
        let classical = HybridSignature { ed25519: signature.ed25519.clone(), ml_dsa: foreign.ml_dsa.clone() };
        let quantum = HybridSignature { ed25519: foreign.ed25519, ml_dsa: signature.ml_dsa };
        assert_eq!(decoded.verify(Label::Card, b"message", &classical), Err(SignatureInvalid));
        assert_eq!(decoded.verify(Label::Card, b"message", &quantum), Err(SignatureInvalid));
    }

    #[test]
    fn weak_ed25519_key_is_refused() {
        let keys = DeviceKeys::generate(&SeededEntropy::new(3));
        let mut public = keys.public().clone();
        public.ed25519 = [0; 32];
        assert!(DecodedKeys::decode(&public).is_err());
    }
}
