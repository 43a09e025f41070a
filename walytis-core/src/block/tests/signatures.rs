//! V-BLOCK-13 and V-BLOCK-14: keys and signatures on the edges of the curve.

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT as BASE, EIGHT_TORSION};
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::{Scalar, clamp_integer};
use sha2::{Digest as _, Sha512};

use super::*;

/// The order of the base point, little-endian (RFC 8032 §5.1).
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

pub(super) fn secret() -> Scalar {
    let hash = Sha512::digest([7; 32]);
    Scalar::from_bytes_mod_order(clamp_integer(hash[..32].try_into().unwrap()))
}

/// A block signed with this key encoding and this R, S = nonce + k·secret.
pub(super) fn forged(creator: [u8; 32], r: [u8; 32], nonce: Scalar) -> UnverifiedBlock {
    let header = Header { creator: PublicKey::Ed25519(creator), ..header() };
    let message = signature::message(&codec_v1::encode_header(&header));
    let hash = Sha512::new().chain_update(r).chain_update(creator).chain_update(message).finalize();
    let k = Scalar::from_bytes_mod_order_wide(&hash.into());
    let s = nonce + k * secret();
    let signature = Signature([r, s.to_bytes()].concat().try_into().unwrap());
    assemble(header, signature, Some(b"hello"))
}

fn outcome(block: UnverifiedBlock) -> Result<(), Rule> {
    receive(block.file().clone()).map(|_| ())
}

pub(super) fn own() -> [u8; 32] {
    *key().public_key().as_bytes()
}

pub(super) fn encode(point: EdwardsPoint) -> [u8; 32] {
    point.compress().to_bytes()
}

#[test]
fn v_block_13_14_ordinary_key_and_signature_pass() {
    assert_eq!(encode(BASE * secret()), own());
    let nonce = Scalar::from(42u8);
    assert_eq!(outcome(forged(own(), encode(BASE * nonce), nonce)), Ok(()));
}

// Under a key of small order one signature fits every message.
#[test]
fn v_block_13_creator_key_of_small_order_breaks() {
    for point in EIGHT_TORSION {
        let header = Header { creator: PublicKey::Ed25519(encode(point)), ..header() };
        let mut signature = [0; 64];
        signature[0] = 1;
        assert_eq!(outcome(assemble(header, Signature(signature), Some(b"hello"))), Err(Rule::CreatorKey));
    }
}

#[test]
fn v_block_13_creator_key_not_canonical_or_no_point_breaks() {
    // y + p for small y: the same points as y, in a second encoding.
    let mut points = 0;
    for low in 0xed..=0xff_u8 {
        for sign in [0x7f, 0xff] {
            let mut bytes = [0xff; 32];
            (bytes[0], bytes[31]) = (low, sign);
            points += usize::from(ed25519_dalek::VerifyingKey::from_bytes(&bytes).is_ok_and(|key| !key.is_weak()));
            let block = forged(bytes, encode(BASE), Scalar::ONE);
            assert_eq!(outcome(block), Err(Rule::CreatorKey), "{low:02x} {sign:02x}");
        }
    }
    assert!(points > 0, "some of them are points of large order that only the encoding gives away");
    let no_point = (2..=255).map(|y| [y; 32]).find(|bytes| ed25519_dalek::VerifyingKey::from_bytes(bytes).is_err());
    assert_eq!(outcome(forged(no_point.unwrap(), encode(BASE), Scalar::ONE)), Err(Rule::CreatorKey));
}

#[test]
fn v_block_14_signature_with_s_above_the_order_breaks() {
    let good = forged(own(), encode(BASE), Scalar::ONE);
    let mut bytes = good.signature.0;
    let mut carry = 0;
    for (byte, add) in bytes[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = (sum & 0xff) as u8;
        carry = sum >> 8;
    }
    assert_eq!(outcome(good.clone()), Ok(()));
    assert_eq!(outcome(assemble(good.header, Signature(bytes), Some(b"hello"))), Err(Rule::Signature));
}

#[test]
fn v_block_14_signature_with_r_not_canonical_breaks() {
    let mut identity = [0; 32];
    identity[0] = 1;
    // R may have small order; its second encoding, y = p + 1, may not be used.
    assert_eq!(outcome(forged(own(), identity, Scalar::ZERO)), Ok(()));
    let mut second = [0xff; 32];
    (second[0], second[31]) = (0xee, 0x7f);
    assert_eq!(outcome(forged(own(), second, Scalar::ZERO)), Err(Rule::Signature));
    // x = 0 with the sign bit.
    identity[31] = 0x80;
    assert_eq!(outcome(forged(own(), identity, Scalar::ZERO)), Err(Rule::Signature));
}

// What single verification without cofactor refuses and batch verification may accept: the cofactored equation
// accepts it always, so nobody's verdict depends on how he verifies.
#[test]
fn v_block_14_signature_of_mixed_order_passes() {
    let torsion = EIGHT_TORSION[1];
    let nonce = Scalar::from(42u8);
    let mixed_r = forged(own(), encode(BASE * nonce + torsion), nonce);
    let strict = ed25519_dalek::VerifyingKey::from_bytes(&own()).unwrap();
    let message = signature::message(&mixed_r.header_bytes);
    assert!(strict.verify_strict(&message, &ed25519_dalek::Signature::from_bytes(&mixed_r.signature.0)).is_err());
    assert_eq!(outcome(mixed_r), Ok(()));
    assert_eq!(outcome(forged(encode(BASE * secret() + torsion), encode(BASE * nonce), nonce)), Ok(()));
}

#[test]
fn v_block_14_signature_of_another_key_message_or_label_breaks() {
    let good = signed(header(), Some(b"hello"));
    let bytes = codec_v1::encode_header(&header());
    let unlabelled = key().sign(&bytes).unwrap();
    let other = SigningKey::from_seed(&Secret::new([8; 32])).sign(&signature::message(&bytes)).unwrap();
    for signature in [unlabelled, other, Signature([0; 64])] {
        assert_eq!(outcome(assemble(header(), signature, Some(b"hello"))), Err(Rule::Signature));
    }
    let later = Header { created_at_ms: 2, ..header() };
    assert_eq!(outcome(assemble(later, good.signature, Some(b"hello"))), Err(Rule::Signature));
}

/// Blocks of every kind that the tests above judge one by one.
fn mixed() -> Vec<UnverifiedBlock> {
    let nonce = Scalar::from(42u8);
    let good = || forged(own(), encode(BASE * nonce), nonce);
    let mut blocks: Vec<_> = EIGHT_TORSION
        .iter()
        .flat_map(|torsion| {
            // Mixed-order R and A: valid by the cofactored equation, or broken.
            let r = encode(BASE * nonce + torsion);
            [forged(own(), r, nonce), forged(encode(BASE * secret() + torsion), r, nonce)]
        })
        .collect();
    let wrong = |byte: usize| {
        let mut signature = good().signature;
        signature.0[byte] ^= 1;
        assemble(header(), signature, Some(b"hello"))
    };
    blocks.extend([wrong(0), wrong(31), wrong(32), wrong(63), assemble(header(), good().signature, Some(b"other"))]);
    blocks.extend([good(), good()]);
    blocks
}

// Scenario: every subset of the edge cases that leaves some out, so that batches with and without false ones are seen.
#[test]
fn v_block_13_14_blocks_verified_together_fare_like_each_alone() {
    use rand_core::SeedableRng as _;
    let blocks = mixed();
    let chain = header().chain.unwrap();
    let alone = |block: &UnverifiedBlock| block.clone().verify(&chain);
    let sound: Vec<_> = blocks.iter().filter(|block| alone(block).is_ok()).cloned().collect();
    assert!(sound.len() > 2 && sound.len() < blocks.len());
    for step in 1..=blocks.len() {
        for set in
            [blocks.iter().step_by(step).cloned().collect::<Vec<_>>(), sound.iter().step_by(step).cloned().collect()]
        {
            let rng = rand_chacha::ChaCha20Rng::seed_from_u64(step as u64);
            let together = UnverifiedBlock::verify_all(set.clone(), &chain, rng);
            assert_eq!(together, set.iter().map(alone).collect::<Vec<_>>());
        }
    }
}
