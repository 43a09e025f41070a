//! Block signatures: Ed25519 by the cofactored equation (ZIP-215), with canonical A, R, S and A not of small order, so
//! that single and batch verification agree by construction.

use ed25519_zebra::{Signature as ZebraSignature, VerificationKey};

use super::Rule;
use crate::key::{PublicKey, Signature};

/// Label of a block signature.
pub(crate) const BLOCK_LABEL: &[u8] = b"walytis/core/block/v1";

/// Returns what a creator signs: the label and the header's exact bytes.
pub(super) fn message(header: &[u8]) -> Vec<u8> {
    [BLOCK_LABEL, header].concat()
}

/// Verifies a block's signature.
pub(super) fn verify(creator: &PublicKey, header: &[u8], signature: &Signature) -> Result<(), Rule> {
    let PublicKey::Ed25519(key) = creator;
    // Dalek decodes the point, the zebra crate accepts non-canonical ones; both must hold.
    let point = ed25519_dalek::VerifyingKey::from_bytes(key).map_err(|_| Rule::CreatorKey)?;
    if point.is_weak() || !is_canonical_point(key) {
        return Err(Rule::CreatorKey);
    }
    let (r, _) = signature.0.split_at(32);
    let r: [u8; 32] = r.try_into().map_err(|_| Rule::Signature)?;
    if !is_canonical_point(&r) {
        return Err(Rule::Signature);
    }
    let verifier = VerificationKey::try_from(*key).map_err(|_| Rule::CreatorKey)?;
    // Refuses S that is not below the group order (ZIP-215 rule 2).
    verifier.verify(&ZebraSignature::from(signature.0), &message(header)).map_err(|_| Rule::Signature)
}

/// Says whether the y coordinate is below p = 2^255 - 19 and, where x = 0, the sign bit is clear
/// (RFC 8032 §5.1.3, steps 1 and 4).
fn is_canonical_point(encoded: &[u8; 32]) -> bool {
    let mut y = *encoded;
    let sign = y[31] & 0x80 != 0;
    y[31] &= 0x7f;
    // y >= p exactly when all upper bytes are full and the lowest is at least 0xed.
    let full = y[31] == 0x7f && y[1..31].iter().all(|byte| *byte == 0xff);
    if full && y[0] >= 0xed {
        return false;
    }
    // x = 0 only for y = 1 and y = p - 1.
    let one = y[0] == 1 && y[1..].iter().all(|byte| *byte == 0);
    let minus_one = full && y[0] == 0xec;
    !(sign && (one || minus_one))
}
