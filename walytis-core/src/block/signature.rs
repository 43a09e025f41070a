//! Block signatures: Ed25519 by the cofactored equation (ZIP-215), with canonical A, R, S and A not of small order, so
//! that single and batch verification agree by construction.

use std::collections::BTreeMap;

use ed25519_zebra::{Signature as ZebraSignature, VerificationKey, VerificationKeyBytes, batch};
use rand_core::CryptoRng;

use super::Rule;
use crate::key::{PublicKey, Signature};

/// Label of a block signature.
pub(crate) const BLOCK_LABEL: &[u8] = b"walytis/core/block/v1";

/// Returns what a creator signs: the label and the header's exact bytes.
pub(super) fn message(header: &[u8]) -> Vec<u8> {
    [BLOCK_LABEL, header].concat()
}

/// A signature to be verified.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim<'a> {
    pub(super) creator: &'a PublicKey,
    /// The exact bytes that were signed, without the label.
    pub(super) header: &'a [u8],
    pub(super) signature: &'a Signature,
}

/// Verifies a block's signature.
pub(super) fn verify(claim: Claim<'_>) -> Result<(), Rule> {
    let key = check_key(claim.creator)?;
    check_form(claim.signature)?;
    verify_one(&key, claim)
}

/// Verifies signatures together, with the outcome that [`verify`] has for each. The random numbers must be unpredictable
/// for whoever signed: they are what keeps several false signatures from cancelling out.
pub(super) fn verify_all(claims: &[Claim<'_>], rng: impl CryptoRng) -> Vec<Result<(), Rule>> {
    let mut keys: BTreeMap<&PublicKey, Result<VerificationKey, Rule>> = BTreeMap::new();
    let mut batch = batch::Verifier::new();
    let mut outcomes = Vec::with_capacity(claims.len());
    for claim in claims {
        let key = *keys.entry(claim.creator).or_insert_with(|| check_key(claim.creator));
        let checked = key.and_then(|key| check_form(claim.signature).map(|()| key));
        if let Ok(key) = checked {
            let message = message(claim.header);
            batch.queue((VerificationKeyBytes::from(key), ZebraSignature::from(claim.signature.0), &message));
        }
        outcomes.push(checked);
    }
    let all_hold = batch.verify(rng).is_ok();
    let outcome = |(checked, claim): (Result<VerificationKey, Rule>, &Claim<'_>)| match checked {
        Ok(key) if !all_hold => verify_one(&key, *claim),
        Ok(_) => Ok(()),
        Err(rule) => Err(rule),
    };
    outcomes.into_iter().zip(claims).map(outcome).collect()
}

fn check_key(creator: &PublicKey) -> Result<VerificationKey, Rule> {
    let PublicKey::Ed25519(key) = creator;
    // Dalek decodes the point, the zebra crate accepts non-canonical ones; both must hold.
    let point = ed25519_dalek::VerifyingKey::from_bytes(key).map_err(|_| Rule::CreatorKey)?;
    if point.is_weak() || !is_canonical_point(key) {
        return Err(Rule::CreatorKey);
    }
    VerificationKey::try_from(*key).map_err(|_| Rule::CreatorKey)
}

fn check_form(signature: &Signature) -> Result<(), Rule> {
    let r = signature.0.first_chunk::<32>().ok_or(Rule::Signature)?;
    if is_canonical_point(r) { Ok(()) } else { Err(Rule::Signature) }
}

fn verify_one(key: &VerificationKey, claim: Claim<'_>) -> Result<(), Rule> {
    // Refuses S that is not below the group order (ZIP-215 rule 2).
    let signature = ZebraSignature::from(claim.signature.0);
    key.verify(&signature, &message(claim.header)).map_err(|_| Rule::Signature)
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
