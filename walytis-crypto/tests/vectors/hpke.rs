use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem, OpModeR, setup_receiver};
use rand_core::{Infallible, TryCryptoRng, TryRng};
use serde::Deserialize;
use walytis_core::secret::Secret;
use walytis_crypto::{CryptoProvider as _, Provider};

use crate::hex;

#[derive(Deserialize)]
struct Case {
    #[serde(deserialize_with = "hex::bytes")]
    info: Vec<u8>,
    #[serde(rename = "ikmE", deserialize_with = "hex::bytes")]
    randomness: Vec<u8>,
    #[serde(rename = "skRm", deserialize_with = "hex::bytes")]
    secret: Vec<u8>,
    #[serde(rename = "pkRm", deserialize_with = "hex::bytes")]
    public: Vec<u8>,
    #[serde(rename = "enc", deserialize_with = "hex::bytes")]
    encapsulated: Vec<u8>,
    encryptions: Vec<Encryption>,
}

#[derive(Deserialize)]
struct Encryption {
    #[serde(deserialize_with = "hex::bytes")]
    aad: Vec<u8>,
    #[serde(deserialize_with = "hex::bytes")]
    ct: Vec<u8>,
    #[serde(deserialize_with = "hex::bytes")]
    pt: Vec<u8>,
}

/// A generator that gives what a vector says and then ends.
struct Replay(Vec<u8>);

impl TryRng for Replay {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        unreachable!("the KEM fills byte strings")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        unreachable!("the KEM fills byte strings")
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        let rest = self.0.split_off(out.len());
        out.copy_from_slice(&self.0);
        self.0 = rest;
        Ok(())
    }
}

impl TryCryptoRng for Replay {}

/// The provider's own suite, both directions. The single-shot calls are the first message of a context.
#[test]
fn hpke_with_x_wing_gives_the_vectors_of_its_draft() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("data/hpke_x_wing.json")).unwrap();
    assert_eq!(cases.len(), 1);
    for case in cases {
        let seed = Secret::new(case.secret.try_into().unwrap());
        let public = case.public.try_into().unwrap();
        assert_eq!(*Provider::x_wing_public_of(&seed), public);
        let encapsulated = case.encapsulated.try_into().unwrap();
        let first = &case.encryptions[0];
        let opened = Provider::hpke_open(&seed, &encapsulated, &case.info, &first.aad, &first.ct).unwrap();
        assert_eq!(opened[..], first.pt);
        let mut rng = Replay(case.randomness);
        let sealed = Provider::hpke_seal(&public, &case.info, &first.aad, &first.pt, &mut rng).unwrap();
        assert_eq!((*sealed.0, &sealed.1), (encapsulated, &first.ct));
        let mut changed = first.ct.clone();
        changed[0] ^= 1;
        assert!(Provider::hpke_open(&seed, &encapsulated, &case.info, &first.aad, &changed).is_none());
        assert!(Provider::hpke_open(&seed, &encapsulated, b"other", &first.aad, &first.ct).is_none());
    }
}

/// RFC 9180 itself has no post-quantum KEM: its vectors check the crate's key schedule under the KDF and AEAD in use.
#[test]
fn hpke_with_x25519_gives_the_vectors_of_rfc_9180() {
    type X25519 = X25519HkdfSha256;
    let cases: Vec<Case> = serde_json::from_str(include_str!("data/hpke_rfc9180_x25519.json")).unwrap();
    assert_eq!(cases.len(), 1);
    for case in cases {
        let secret = <X25519 as Kem>::PrivateKey::from_bytes(&case.secret).unwrap();
        assert_eq!(<X25519 as Kem>::PublicKey::from_bytes(&case.public).unwrap(), X25519::sk_to_pk(&secret));
        let encapsulated = <X25519 as Kem>::EncappedKey::from_bytes(&case.encapsulated).unwrap();
        let mut context =
            setup_receiver::<ChaCha20Poly1305, HkdfSha256, X25519>(&OpModeR::Base, &secret, &encapsulated, &case.info)
                .unwrap();
        for message in &case.encryptions {
            assert_eq!(context.open(&message.ct, &message.aad).unwrap(), message.pt);
        }
    }
}
