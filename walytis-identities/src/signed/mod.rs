//! Signatures in the name of an identity: made by a device, judged by the identity's state.
//!
//! ```text
//! text   = "walytissig1" ‖ base64url( 0x01 ‖ postcard { did, auth_heads, device, ed25519, ml_dsa } )
//! signed = postcard { did, auth_heads, device, context } ‖ message, under the label of identity signatures
//! ```
//!
//! The caller's context stands in what is signed: a signature made for one purpose verifies for no other, and no peer
//! gets bytes of its choice signed raw.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use walytis_core::clock::Entropy;
use walytis_core::fault::Fault;

use crate::crypto::{DeviceKeys, HybridSignature, Label};
use crate::id::{ControllerId, DeviceId, Did, OpId};
use crate::op::AUTH_PARENTS_MAX;
use crate::state::AuthorityGraph;

/// What the text of a signature starts with.
pub const SIGNATURE_PREFIX: &str = "walytissig1";
/// Longest context in bytes. Chosen: a purpose, not a message.
pub const CONTEXT_MAX: usize = 256;
/// Longest text in bytes: 3.4 KB of keys' signatures, up to 64 heads, in base64.
const TEXT_MAX: usize = 12 * 1024;
const VERSION: u8 = 0x01;

/// A signature as an identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentitySignature {
    /// In whose name.
    pub did: Did,
    /// Authority heads that the signer knew: strictly ascending, 1..=64.
    pub auth_heads: Vec<OpId>,
    /// Which device signed.
    pub device: DeviceId,
    /// Its signatures.
    pub signature: HybridSignature,
}

/// What is known of a signature that verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedSignature {
    /// The controller that signed.
    pub controller: ControllerId,
    /// Its device.
    pub device: DeviceId,
    /// Whether the signer stands now.
    pub standing: SignerStanding,
}

/// Whether whoever signed still may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignerStanding {
    /// It is a controller now.
    StillValid,
    /// It was when it signed by its own word, and is not any more: untrusted unless the signature is anchored on a chain
    /// before the removal's cut.
    SignerSinceRemoved,
}

/// A signature does not hold.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum VerifyError {
    /// The text does not start with the prefix.
    #[error("not a signature: it does not start with {SIGNATURE_PREFIX}")]
    Prefix,
    /// Made by a newer program.
    #[error("the signature was made by a newer version")]
    Version,
    /// The text does not decode.
    #[error("the signature is malformed")]
    Malformed,
    /// The context is longer than 256 bytes.
    #[error("the context is longer than {CONTEXT_MAX} bytes")]
    Context,
    /// Made in the name of another identity.
    #[error("the signature is by another identity")]
    OtherIdentity,
    /// It names authority ops that are not known here.
    #[error("the signature names authority ops that are not known here")]
    UnknownHeads(Vec<OpId>),
    /// The device was no writer or admin of the identity when it signed.
    #[error("the signer may not sign for the identity")]
    NotEntitled,
    /// It does not verify under the device's keys, for this context and message.
    #[error("the signature does not verify")]
    Invalid,
}

impl VerifyError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Context => Fault::Caller,
            Self::UnknownHeads(_) => Fault::Local,
            _ => Fault::Peer,
        }
    }
}

impl IdentitySignature {
    /// Signs `message` for `context` (at most 256 bytes) as of the authority heads that the graph holds.
    ///
    /// # Errors
    /// [`VerifyError::Context`].
    pub fn sign(
        graph: &AuthorityGraph,
        keys: &DeviceKeys,
        context: &str,
        message: &[u8],
        entropy: &dyn Entropy,
    ) -> Result<Self, VerifyError> {
        let auth_heads = graph.named_heads();
        let (did, device) = (graph.did(), keys.id());
        let signed = signed_bytes(&did, &auth_heads, &device, context, message)?;
        let signature = keys.sign_hybrid(Label::IdentitySignature, &signed, entropy);
        Ok(Self { did, auth_heads, device, signature })
    }

    /// Checks the signature under the keys that the identity's state gives, never under keys it brings along.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub fn verify(
        &self,
        graph: &mut AuthorityGraph,
        context: &str,
        message: &[u8],
    ) -> Result<VerifiedSignature, VerifyError> {
        if self.did != graph.did() {
            return Err(VerifyError::OtherIdentity);
        }
        let then = graph.state_at(&self.auth_heads).map_err(VerifyError::UnknownHeads)?;
        let signer = then.controller_of(&self.device).filter(|signer| signer.role.writes());
        let controller = signer.ok_or(VerifyError::NotEntitled)?.id;
        let keys = graph.device_keys_at(&self.device, &self.auth_heads).ok_or(VerifyError::NotEntitled)?;
        let signed = signed_bytes(&self.did, &self.auth_heads, &self.device, context, message)?;
        keys.verify(Label::IdentitySignature, &signed, &self.signature).map_err(|_| VerifyError::Invalid)?;
        let stands = graph.state().controller_of(&self.device).is_some_and(|now| now.role.writes());
        let standing = if stands { SignerStanding::StillValid } else { SignerStanding::SignerSinceRemoved };
        Ok(VerifiedSignature { controller, device: self.device, standing })
    }

    /// Encodes it: 0x01 and postcard.
    pub fn encode(&self) -> Vec<u8> {
        let body = crate::crypto::to_bytes(self);
        [&[VERSION][..], &body].concat()
    }

    /// Decodes what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`VerifyError::Version`], [`VerifyError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, VerifyError> {
        let body = match bytes.split_first() {
            Some((&VERSION, body)) => body,
            Some(_) => return Err(VerifyError::Version),
            None => return Err(VerifyError::Malformed),
        };
        let (signature, rest): (Self, _) = postcard::take_from_bytes(body).map_err(|_| VerifyError::Malformed)?;
        let heads = &signature.auth_heads;
        let fits = (1..=AUTH_PARENTS_MAX).contains(&heads.len()) && heads.is_sorted_by(|one, next| one < next);
        if rest.is_empty() && fits && signature.encode() == bytes { Ok(signature) } else { Err(VerifyError::Malformed) }
    }

    /// Returns the text to hand out.
    pub fn to_text(&self) -> String {
        format!("{SIGNATURE_PREFIX}{}", URL_SAFE_NO_PAD.encode(self.encode()))
    }
}

impl FromStr for IdentitySignature {
    type Err = VerifyError;

    fn from_str(text: &str) -> Result<Self, VerifyError> {
        let encoded = text.trim().strip_prefix(SIGNATURE_PREFIX).ok_or(VerifyError::Prefix)?;
        if encoded.len() > TEXT_MAX {
            return Err(VerifyError::Malformed);
        }
        Self::decode(&URL_SAFE_NO_PAD.decode(encoded).map_err(|_| VerifyError::Malformed)?)
    }
}

fn signed_bytes(
    did: &Did,
    auth_heads: &[OpId],
    device: &DeviceId,
    context: &str,
    message: &[u8],
) -> Result<Vec<u8>, VerifyError> {
    if context.len() > CONTEXT_MAX {
        return Err(VerifyError::Context);
    }
    let mut bytes = crate::crypto::to_bytes(&(did, auth_heads, device, context));
    bytes.extend_from_slice(message);
    Ok(bytes)
}
