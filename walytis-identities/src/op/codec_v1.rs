//! Authority op format version 1. Frozen at release 0.1.0.
//!
//! ```text
//! core     = postcard { label "walytis/identities/op/v1", chain, author, device, auth_parents, op }
//! op id    = SHA-256(core)
//! signed   = 0x01 ‖ postcard { core: bytes, ed25519: bytes, ml_dsa: bytes }     content of a block `walytis.identity`; both over the op id
//! ```

use serde::{Deserialize, Serialize};
use walytis_core::clock::Entropy;

use super::{OpCore, OpError, SIGNED_OP_MAX, SignedOp, limits};
use crate::crypto::provider::{CryptoProvider as _, Provider};
use crate::crypto::{DecodedKeys, DeviceKeys, HybridSignature, Label, ML_DSA_SIGNATURE, SignatureInvalid, digest};
use crate::id::OpId;

/// What every core begins with.
pub const OP_LABEL: &str = Label::Op.text();
/// First byte of a signed op.
const VERSION: u8 = 0x01;
/// Bytes of both signatures with their lengths.
const SIGNATURES: usize = 1 + 64 + 2 + ML_DSA_SIGNATURE;

#[derive(Serialize, Deserialize)]
struct CoreV1<'a> {
    #[serde(borrow)]
    label: &'a str,
    core: OpCore,
}

#[derive(Serialize)]
struct CoreRefV1<'a> {
    label: &'a str,
    core: &'a OpCore,
}

#[derive(Serialize, Deserialize)]
struct SignedV1<'a> {
    #[serde(borrow)]
    core: &'a [u8],
    signature: HybridSignature,
}

/// Returns the id of the op with these core bytes.
pub fn op_id(core_bytes: &[u8]) -> OpId {
    OpId(Provider::sha256(&[core_bytes]))
}

impl OpCore {
    /// Returns the bytes that the author signs.
    pub fn encode(&self) -> Vec<u8> {
        to_bytes(&CoreRefV1 { label: OP_LABEL, core: self })
    }

    /// Decodes and checks every bound.
    ///
    /// # Errors
    /// [`OpError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, OpError> {
        // The label first, so that another signed structure is told apart from a broken one.
        let (label, _): (&str, _) = postcard::take_from_bytes(bytes).map_err(|_| OpError::Malformed)?;
        if label != OP_LABEL {
            return Err(OpError::Label);
        }
        let (CoreV1 { core, .. }, rest) = postcard::take_from_bytes(bytes).map_err(|_| OpError::Malformed)?;
        limits::check(&core)?;
        if !rest.is_empty() || core.encode() != bytes {
            return Err(OpError::Malformed);
        }
        Ok(core)
    }

    /// Returns the digest that slots are bound to: the core with all slots left out.
    pub fn digest_without_slots(&self) -> [u8; 32] {
        let mut bare = self.clone();
        if let Some(epoch) = bare.op.epoch_mut() {
            epoch.slots = Vec::new();
        }
        digest(Label::OpWithoutSlots, &[&bare.encode()])
    }

    /// Returns what the recovery key of a `Recover` signs: the core without slots, and zeros for that signature itself.
    pub fn recovery_message(&self) -> Vec<u8> {
        let mut bare = self.clone();
        if let Some(op) = bare.op.recover_mut() {
            op.epoch.slots = Vec::new();
            op.recovery_signature = HybridSignature::zero();
        }
        bare.encode()
    }

    /// Signs with both keys of the author's device: the id, so that a signature costs the same whatever the size of the op.
    ///
    /// # Errors
    /// [`OpError::Limit`] or [`OpError::Size`] if the op breaks a bound.
    pub fn sign(self, keys: &DeviceKeys, entropy: &dyn Entropy) -> Result<SignedOp, OpError> {
        limits::check(&self)?;
        let core_bytes = self.encode();
        let id = op_id(&core_bytes);
        let signature = keys.sign_hybrid(Label::Op, id.as_bytes(), entropy);
        let op = SignedOp { id, core: self, core_bytes, signature };
        if op.encode().len() > SIGNED_OP_MAX { Err(OpError::Size) } else { Ok(op) }
    }
}

#[cfg(test)]
impl SignedOp {
    /// An op with somebody's signature, for tests that take signatures for granted.
    pub(crate) fn unsigned(core: OpCore, signature: HybridSignature) -> Self {
        let core_bytes = core.encode();
        Self { id: op_id(&core_bytes), core, core_bytes, signature }
    }

    /// As [`Self::unsigned`], without bytes, and with an id that the model gives it.
    pub(crate) const fn modelled(core: OpCore, signature: HybridSignature, id: OpId) -> Self {
        Self { id, core, core_bytes: Vec::new(), signature }
    }
}

impl SignedOp {
    /// Checks both signatures, which are over the id.
    ///
    /// # Errors
    /// [`SignatureInvalid`] unless both are by one key pair of `keys`.
    pub fn verify(&self, keys: &DecodedKeys) -> Result<(), SignatureInvalid> {
        keys.verify(Label::Op, self.id.as_bytes(), &self.signature)
    }

    /// Encodes the op as content of a block or of an exchange.
    pub fn encode(&self) -> Vec<u8> {
        let wire = SignedV1 { core: &self.core_bytes, signature: self.signature.clone() };
        [&[VERSION][..], &to_bytes(&wire)].concat()
    }

    /// Returns how many bytes [`Self::encode`] gives.
    pub const fn encoded_len(&self) -> usize {
        let core = self.core_bytes.len();
        let length_of_core = match core {
            0..=0x7f => 1,
            0x80..=0x3fff => 2,
            0x4000..=0x1f_ffff => 3,
            _ => 4,
        };
        1 + length_of_core + core + SIGNATURES
    }

    /// Decodes an op and checks every bound; its signatures are checked when it enters a graph.
    ///
    /// # Errors
    /// [`OpError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, OpError> {
        if bytes.len() > SIGNED_OP_MAX {
            return Err(OpError::Size);
        }
        let body = match bytes.split_first() {
            Some((&VERSION, body)) => body,
            Some(_) => return Err(OpError::Version),
            None => return Err(OpError::Malformed),
        };
        let (wire, rest): (SignedV1<'_>, _) = postcard::take_from_bytes(body).map_err(|_| OpError::Malformed)?;
        let core = OpCore::decode(wire.core)?;
        let op = Self { id: op_id(wire.core), core, core_bytes: wire.core.to_vec(), signature: wire.signature.clone() };
        if rest.is_empty() && op.encode() == bytes { Ok(op) } else { Err(OpError::Malformed) }
    }
}

fn to_bytes<T: Serialize>(value: &T) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "postcard fails only on types without a stated length, and these have none")]
    postcard::to_stdvec(value).expect("these types always encode")
}
