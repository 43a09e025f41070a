//! V-BLOCK-13 and V-BLOCK-14 on every edge of Ed25519 that implementations are known to differ on, alone and in batches.
//!
//! The cases are those of "Taming the many EdDSAs" (Chalkias, Garillot, Nikolaenko 2020, table 5) and of the conformance
//! test of ZIP-215 (14 encodings of points of small order), made for our label and keys. What the rule says of each stands
//! beside it: the cofactored equation, canonical A, R and S, A not of small order.

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT as BASE, EIGHT_TORSION};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use rand_core::SeedableRng as _;

use super::signatures::{encode, forged, own, secret};
use super::*;

/// What the rule says of a block.
#[derive(Clone, Debug)]
struct Case {
    what: String,
    block: UnverifiedBlock,
    verdict: Result<(), Rule>,
}

/// The 8 canonical encodings of points of small order, and the 6 others that decoders accept (ZIP-215, test vectors).
fn small_order() -> Vec<([u8; 32], bool)> {
    let canonical = EIGHT_TORSION.map(encode);
    let mut all: Vec<_> = canonical.iter().map(|bytes| (*bytes, true)).collect();
    // y + p where that fits 255 bits, and x = 0 with the sign bit.
    let mut low = [0xff; 32];
    for (first, last) in [(0xed, 0x7f), (0xed, 0xff), (0xee, 0x7f), (0xee, 0xff), (0xec, 0xff)] {
        (low[0], low[31]) = (first, last);
        all.push((low, false));
    }
    let mut one = [0; 32];
    (one[0], one[31]) = (1, 0x80);
    all.push((one, false));
    for (bytes, is_canonical) in &all {
        let point = CompressedEdwardsY(*bytes).decompress().unwrap();
        assert!(point.is_small_order());
        assert_eq!(encode(point) == *bytes, *is_canonical, "{bytes:02x?}");
    }
    all
}

fn case(what: String, block: UnverifiedBlock, verdict: Result<(), Rule>) -> Case {
    Case { what, block, verdict }
}

fn with_signature(block: &UnverifiedBlock, change: impl FnOnce(&mut [u8; 64])) -> UnverifiedBlock {
    let mut signature = block.signature.0;
    change(&mut signature);
    assemble(block.header.clone(), Signature(signature), Some(b"hello"))
}

/// Adds `n` to S as a number of 256 bits.
fn add_to_s(signature: &mut [u8; 64], n: &[u8; 32]) {
    let mut carry = 0;
    for (byte, add) in signature[32..].iter_mut().zip(n) {
        let sum = u16::from(*byte) + u16::from(*add) + carry;
        *byte = (sum & 0xff) as u8;
        carry = sum >> 8;
    }
}

fn cases() -> Vec<Case> {
    let nonce = Scalar::from(42u8);
    let r = encode(BASE * nonce);
    let good = forged(own(), r, nonce);
    let mut cases = vec![case("ordinary".into(), good.clone(), Ok(()))];
    // Cases 0 to 2 of the paper and all of ZIP-215: A of small order fits many messages, whatever R is.
    for (a, _) in small_order() {
        for (small, _) in small_order() {
            let block = forged(a, small, Scalar::ZERO);
            cases.push(case(format!("A {a:02x?} R {small:02x?}"), block, Err(Rule::CreatorKey)));
        }
        cases.push(case(format!("A {a:02x?}"), forged(a, r, nonce), Err(Rule::CreatorKey)));
    }
    // R of small order under an ordinary key: S = k·a. Only the encoding matters.
    for (small, canonical) in small_order() {
        let verdict = if canonical { Ok(()) } else { Err(Rule::Signature) };
        cases.push(case(format!("R {small:02x?}"), forged(own(), small, Scalar::ZERO), verdict));
    }
    // Cases 3 to 5: A and R of mixed order; the cofactor makes their parts of small order vanish, together or not.
    for (i, a_part) in EIGHT_TORSION.iter().enumerate() {
        for (j, r_part) in EIGHT_TORSION.iter().enumerate() {
            let (a, r) = (encode(BASE * secret() + a_part), encode(BASE * nonce + r_part));
            cases.push(case(format!("A + T{i}, R + T{j}"), forged(a, r, nonce), Ok(())));
            let wrong = forged(a, r, nonce + Scalar::ONE);
            cases.push(case(format!("A + T{i}, R + T{j}, wrong S"), wrong, Err(Rule::Signature)));
        }
    }
    // Cases 6 and 7: S + L, and S so large that its upper bits are set.
    let order = (-Scalar::ONE).to_bytes();
    let mut order_and_one = order;
    order_and_one[0] += 1;
    let plus_order = |bytes: &mut [u8; 64]| add_to_s(bytes, &order_and_one);
    cases.push(case("S + L".into(), with_signature(&good, plus_order), Err(Rule::Signature)));
    for bit in [0x10, 0x20, 0x40, 0x80] {
        let high = with_signature(&good, |bytes| bytes[63] |= bit);
        cases.push(case(format!("S with bit {bit:02x}"), high, Err(Rule::Signature)));
    }
    // Cases 8 to 11: encodings that are not canonical, hashed as they stand or reduced first.
    let negative_zero = CompressedEdwardsY({
        let mut bytes = encode(EdwardsPoint::default());
        bytes[31] |= 0x80;
        bytes
    });
    cases.push(case("R -0".into(), forged(own(), negative_zero.0, Scalar::ZERO), Err(Rule::Signature)));
    // R is no point at all.
    let no_point =
        (2..=255u8).map(|y| [y; 32]).find(|bytes| CompressedEdwardsY(*bytes).decompress().is_none()).unwrap();
    cases.push(case("R no point".into(), forged(own(), no_point, nonce), Err(Rule::Signature)));
    cases.push(case("A no point".into(), forged(no_point, r, nonce), Err(Rule::CreatorKey)));
    // Defects that cancel out when equations are just added up.
    for (what, delta) in [("S + 1", Scalar::ONE), ("S - 1", -Scalar::ONE)] {
        cases.push(case(what.into(), forged(own(), r, nonce + delta), Err(Rule::Signature)));
    }
    cases
}

fn outcome(result: &Result<Block, RuleViolation>) -> Result<(), Rule> {
    result.as_ref().map(|_| ()).map_err(|violation| violation.rule)
}

#[test]
fn v_block_13_14_every_edge_has_the_verdict_of_the_rule() {
    let chain = header().chain.unwrap();
    for Case { what, block, verdict } in cases() {
        assert_eq!(outcome(&block.verify(&chain)), verdict, "{what}");
    }
}

fn assert_together(cases: &[Case], seed: u64) {
    let chain = header().chain.unwrap();
    let rng = rand_chacha::ChaCha20Rng::seed_from_u64(seed);
    let together = UnverifiedBlock::verify_all(cases.iter().map(|case| case.block.clone()).collect(), &chain, rng);
    for (case, result) in cases.iter().zip(&together) {
        assert_eq!(outcome(result), case.verdict, "{} in a batch of {}, seed {seed}", case.what, cases.len());
    }
}

// In pairs with an ordinary one, all of one verdict together, and all at once: batches that hold and such that do not.
#[test]
fn v_block_13_14_every_edge_fares_in_batches_as_it_does_alone() {
    let cases = cases();
    let ordinary = cases[0].clone();
    for (seed, case) in cases.iter().enumerate() {
        assert_together(&[ordinary.clone(), case.clone()], seed as u64);
    }
    let sound: Vec<_> = cases.iter().filter(|case| case.verdict.is_ok()).cloned().collect();
    assert_eq!(sound.len(), 1 + 8 + 64);
    assert_together(&sound, 1);
    assert_together(&cases, 2);
    // The two whose defects cancel out.
    assert_together(&cases[cases.len() - 2..], 3);
}
