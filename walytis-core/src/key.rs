//! Signing keys and signatures of blocks.

use std::fmt;

use ed25519_dalek::Signer as _;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::secret::Secret;

/// A public key that can sign blocks: a type tag and 32 bytes. Unchecked: whether it is a point of large order is
/// decided at verification.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PublicKey {
    /// Ed25519 (RFC 8032), compressed point.
    Ed25519([u8; 32]),
}

impl PublicKey {
    /// Returns the 32 bytes of the compressed point.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        match self {
            Self::Ed25519(bytes) => bytes,
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Multikey form (W3C): base58btc of the multicodec ed25519-pub (0xed 0x01) and the key.
        let mut bytes = vec![0xed, 0x01];
        bytes.extend_from_slice(self.as_bytes());
        write!(f, "z{}", bs58::encode(bytes).into_string())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_string();
        f.write_str(text.get(text.len().saturating_sub(8)..).unwrap_or(&text))
    }
}

impl std::str::FromStr for PublicKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        let encoded = text.strip_prefix('z').filter(|rest| rest.len() <= 64).ok_or(ParseKeyError)?;
        let bytes = bs58::decode(encoded).into_vec().map_err(|_| ParseKeyError)?;
        let key = bytes.strip_prefix(&[0xed, 0x01]).ok_or(ParseKeyError)?;
        key.try_into().map(Self::Ed25519).map_err(|_| ParseKeyError)
    }
}

/// A text that is no public key.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not an Ed25519 public key in Multikey form (z6Mk…)")]
pub struct ParseKeyError;

/// An Ed25519 signature, 64 bytes, unchecked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(6).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A signer could not sign.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignError {
    /// The vault that holds the key is locked.
    #[error("the key vault is locked")]
    Locked,
}

/// Something that signs blocks: the node's author key, or a device of an identity.
pub trait Signer: Send + Sync + fmt::Debug {
    /// Returns the key that signatures verify under.
    fn public_key(&self) -> PublicKey;

    /// Signs `message`, which starts with a label that names its purpose.
    ///
    /// # Errors
    /// [`SignError::Locked`] when the key is not at hand.
    fn sign(&self, message: &[u8]) -> Result<Signature, SignError>;
}

/// An Ed25519 key pair in memory.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// Returns the key pair of this 32-byte seed (RFC 8032 §5.1.5).
    pub fn from_seed(seed: &Secret<32>) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed.expose()))
    }

    /// Returns the seed, to be stored in a [`crate::store::SecretStore`].
    pub fn seed(&self) -> Secret<32> {
        Secret::new(self.0.to_bytes())
    }
}

impl Signer for SigningKey {
    fn public_key(&self) -> PublicKey {
        PublicKey::Ed25519(self.0.verifying_key().to_bytes())
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        Ok(Signature(self.0.sign(message).to_bytes()))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({:?})", self.public_key())
    }
}
