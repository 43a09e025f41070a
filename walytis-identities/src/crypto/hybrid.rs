//! Signatures by Ed25519 and ML-DSA-65 together: valid only if both parts are.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use walytis_core::fault::Fault;

use super::provider::{CryptoProvider, Provider};
use super::{DevicePublic, FixedBytes, Label, ML_DSA_SIGNATURE};
use crate::id::DeviceId;

/// A signature does not verify. Says no more on purpose.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the signature does not verify")]
pub struct SignatureInvalid;

impl SignatureInvalid {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        Fault::Peer
    }
}

/// Both signatures of one device over label ‖ message (Ed25519) and message with context string = label (ML-DSA-65).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HybridSignature {
    /// Ed25519 (RFC 8032), 64 bytes.
    pub ed25519: FixedBytes<64>,
    /// ML-DSA-65 (FIPS 204), 3309 bytes.
    pub ml_dsa: FixedBytes<ML_DSA_SIGNATURE>,
}

impl HybridSignature {
    /// Zeros, in the place of a signature that does not cover itself.
    pub(crate) fn zero() -> Self {
        Self { ed25519: FixedBytes::new([0; 64]), ml_dsa: FixedBytes::new([0; ML_DSA_SIGNATURE]) }
    }
}

/// A device's signing keys, decoded: decoding the ML-DSA key costs as much as a verification, so keep it. After a
/// renewal several, of which any verifies. Cheap to clone.
#[derive(Clone)]
pub struct DecodedKeys {
    device: DeviceId,
    /// Newest last; never empty.
    lineage: Vec<Arc<DecodedPair>>,
}

struct DecodedPair {
    ed25519: <Provider as CryptoProvider>::Ed25519Public,
    ml_dsa: <Provider as CryptoProvider>::MlDsaPublic,
}

impl DecodedKeys {
    /// Decodes the signing keys of a record.
    ///
    /// # Errors
    /// [`SignatureInvalid`] if the Ed25519 key is no point or one of small order.
    pub fn decode(public: &DevicePublic) -> Result<Self, SignatureInvalid> {
        Self::decode_renewed(public.device_id(), public)
    }

    /// Decodes keys by which a device replaced its first ones.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn decode_renewed(device: DeviceId, public: &DevicePublic) -> Result<Self, SignatureInvalid> {
        let ed25519 = Provider::ed25519_public(&public.ed25519).ok_or(SignatureInvalid)?;
        let ml_dsa = Provider::ml_dsa_public(public.ml_dsa.as_bytes());
        Ok(Self { device, lineage: vec![Arc::new(DecodedPair { ed25519, ml_dsa })] })
    }

    /// Takes in later keys of the same device.
    pub(crate) fn extend(&mut self, later: &Self) {
        self.lineage.extend(later.lineage.iter().cloned());
    }

    /// Returns the id of the device.
    pub const fn device(&self) -> DeviceId {
        self.device
    }

    /// Checks both signatures: by one key pair of the device, the newest first.
    ///
    /// # Errors
    /// [`SignatureInvalid`] unless both verify under `label`.
    pub fn verify(&self, label: Label, message: &[u8], signature: &HybridSignature) -> Result<(), SignatureInvalid> {
        let labelled = [label.bytes(), message].concat();
        let holds = |keys: &Arc<DecodedPair>| {
            Provider::ed25519_verify(&keys.ed25519, &labelled, signature.ed25519.as_bytes())
                && Provider::ml_dsa_verify(&keys.ml_dsa, message, label.bytes(), signature.ml_dsa.as_bytes())
        };
        if self.lineage.iter().rev().any(holds) { Ok(()) } else { Err(SignatureInvalid) }
    }
}

impl fmt::Debug for DecodedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DecodedKeys({:?})", self.device)
    }
}

/// Checks an Ed25519 signature over label ‖ message (invitation keys have no second part: they live for days).
///
/// # Errors
/// [`SignatureInvalid`].
pub fn verify_ed25519(
    key: &[u8; 32],
    label: Label,
    message: &[u8],
    signature: &FixedBytes<64>,
) -> Result<(), SignatureInvalid> {
    let key = Provider::ed25519_public(key).ok_or(SignatureInvalid)?;
    let labelled = [label.bytes(), message].concat();
    let holds = Provider::ed25519_verify(&key, &labelled, signature.as_bytes());
    if holds { Ok(()) } else { Err(SignatureInvalid) }
}
