//! Signatures by Ed25519 and ML-DSA-65 together: valid only if both parts are.

use std::fmt;

use ed25519_dalek::{Signature as EdSignature, VerifyingKey as EdKey};
use ml_dsa::{EncodedVerifyingKey, MlDsa65, Signature as MlSignature, VerifyingKey as MlKey};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use walytis_core::fault::Fault;

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

/// A device's signing keys, decoded: decoding the ML-DSA key costs as much as a verification, so keep it.
#[derive(Clone)]
pub struct DecodedKeys {
    device: DeviceId,
    ed25519: EdKey,
    ml_dsa: MlKey<MlDsa65>,
}

impl DecodedKeys {
    /// Decodes the signing keys of a record.
    ///
    /// # Errors
    /// [`SignatureInvalid`] if the Ed25519 key is no point or one of small order.
    pub fn decode(public: &DevicePublic) -> Result<Self, SignatureInvalid> {
        let ed25519 = EdKey::from_bytes(&public.ed25519).map_err(|_| SignatureInvalid)?;
        if ed25519.is_weak() {
            return Err(SignatureInvalid);
        }
        let encoded =
            EncodedVerifyingKey::<MlDsa65>::try_from(&public.ml_dsa.as_bytes()[..]).map_err(|_| SignatureInvalid)?;
        Ok(Self { device: public.device_id(), ed25519, ml_dsa: MlKey::decode(&encoded) })
    }

    /// Returns the id of the device.
    pub const fn device(&self) -> DeviceId {
        self.device
    }

    /// Checks both signatures.
    ///
    /// # Errors
    /// [`SignatureInvalid`] unless both verify under `label`.
    pub fn verify(&self, label: Label, message: &[u8], signature: &HybridSignature) -> Result<(), SignatureInvalid> {
        let labelled = [label.bytes(), message].concat();
        let ed25519 = EdSignature::from_bytes(signature.ed25519.as_bytes());
        self.ed25519.verify_strict(&labelled, &ed25519).map_err(|_| SignatureInvalid)?;
        let ml_dsa =
            MlSignature::<MlDsa65>::try_from(&signature.ml_dsa.as_bytes()[..]).map_err(|_| SignatureInvalid)?;
        let holds = self.ml_dsa.verify_with_context(message, label.bytes(), &ml_dsa);
        if holds { Ok(()) } else { Err(SignatureInvalid) }
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
    let key = EdKey::from_bytes(key).map_err(|_| SignatureInvalid)?;
    let labelled = [label.bytes(), message].concat();
    key.verify_strict(&labelled, &EdSignature::from_bytes(signature.as_bytes())).map_err(|_| SignatureInvalid)
}
