//! The provider over the crates of the RustCrypto and dalek projects and `hpke`.

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use ed25519_dalek::Signer as _;
use hkdf::Hkdf;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::{Deserializable as _, Kem, OpModeR, OpModeS, Serializable as _};
use ml_dsa::{EncodedVerifyingKey, Keypair as _, MlDsa65, Seed};
use rand_core::CryptoRng;
use sha2::{Digest as _, Sha256};
use walytis_core::secret::Secret;
use zeroize::Zeroizing;

use crate::{
    Argon2Cost, CryptoProvider, ML_DSA_PUBLIC, ML_DSA_SIGNATURE, X_WING_ENCAPSULATED, X_WING_PUBLIC, XCHACHA_NONCE,
};

/// ed25519-dalek, ml-dsa, x-wing within hpke, chacha20poly1305, hkdf, sha2 and argon2.
#[derive(Clone, Copy, Debug)]
pub struct RustCrypto;

impl CryptoProvider for RustCrypto {
    type Ed25519Secret = ed25519_dalek::SigningKey;
    type Ed25519Public = ed25519_dalek::VerifyingKey;
    type MlDsaSecret = Box<ml_dsa::SigningKey<MlDsa65>>;
    type MlDsaPublic = ml_dsa::VerifyingKey<MlDsa65>;

    fn sha256(parts: &[&[u8]]) -> [u8; 32] {
        let mut hasher = Sha256::new();
        parts.iter().for_each(|part| hasher.update(part));
        hasher.finalize().into()
    }

    fn hkdf_sha256(salt: &[u8], secret: &[u8], info: &[&[u8]], out: &mut [u8]) -> bool {
        Hkdf::<Sha256>::new(Some(salt), secret).expand_multi_info(info, out).is_ok()
    }

    fn argon2id(password: &[u8], salt: &[u8], cost: Argon2Cost, out: &mut [u8; 32]) -> bool {
        let Ok(params) = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)) else { return false };
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(password, salt, out).is_ok()
    }

    fn xchacha_seal(key: &Secret<32>, nonce: &[u8; XCHACHA_NONCE], aad: &[u8], message: &[u8]) -> Vec<u8> {
        #[expect(clippy::expect_used, reason = "the cipher fails only beyond 256 GiB")]
        XChaCha20Poly1305::new(key.expose().into())
            .encrypt(&XNonce::from(*nonce), Payload { msg: message, aad })
            .expect("messages are bounded")
    }

    fn xchacha_open(
        key: &Secret<32>,
        nonce: &[u8; XCHACHA_NONCE],
        aad: &[u8],
        sealed: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let payload = Payload { msg: sealed, aad };
        XChaCha20Poly1305::new(key.expose().into()).decrypt(&XNonce::from(*nonce), payload).ok().map(Zeroizing::new)
    }

    fn ed25519_secret(seed: &Secret<32>) -> Self::Ed25519Secret {
        ed25519_dalek::SigningKey::from_bytes(seed.expose())
    }

    fn ed25519_public_of(secret: &Self::Ed25519Secret) -> [u8; 32] {
        secret.verifying_key().to_bytes()
    }

    fn ed25519_sign(secret: &Self::Ed25519Secret, message: &[u8]) -> [u8; 64] {
        secret.sign(message).to_bytes()
    }

    fn ed25519_public(encoded: &[u8; 32]) -> Option<Self::Ed25519Public> {
        ed25519_dalek::VerifyingKey::from_bytes(encoded).ok().filter(|key| !key.is_weak())
    }

    fn ed25519_verify(public: &Self::Ed25519Public, message: &[u8], signature: &[u8; 64]) -> bool {
        public.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
    }

    fn ml_dsa_secret(seed: &Secret<32>) -> Self::MlDsaSecret {
        Box::new(ml_dsa::SigningKey::from_seed(&Seed::from(*seed.expose())))
    }

    fn ml_dsa_public_of(secret: &Self::MlDsaSecret) -> Box<[u8; ML_DSA_PUBLIC]> {
        Box::new(secret.verifying_key().encode().into())
    }

    fn ml_dsa_sign(
        secret: &Self::MlDsaSecret,
        message: &[u8],
        context: &[u8],
        mut rng: &mut dyn CryptoRng,
    ) -> Option<Box<[u8; ML_DSA_SIGNATURE]>> {
        let signature = secret.expanded_key().sign_randomized(message, context, &mut rng).ok()?;
        Some(Box::new(signature.encode().into()))
    }

    fn ml_dsa_public(encoded: &[u8; ML_DSA_PUBLIC]) -> Self::MlDsaPublic {
        ml_dsa::VerifyingKey::decode(&EncodedVerifyingKey::<MlDsa65>::from(*encoded))
    }

    fn ml_dsa_verify(
        public: &Self::MlDsaPublic,
        message: &[u8],
        context: &[u8],
        signature: &[u8; ML_DSA_SIGNATURE],
    ) -> bool {
        ml_dsa::Signature::<MlDsa65>::try_from(&signature[..])
            .is_ok_and(|signature| public.verify_with_context(message, context, &signature))
    }

    fn x_wing_public_of(seed: &Secret<32>) -> Box<[u8; X_WING_PUBLIC]> {
        #[expect(clippy::expect_used, reason = "a seed is any 32 bytes")]
        let secret = <XWing as Kem>::PrivateKey::from_bytes(seed.expose()).expect("a seed has 32 bytes");
        Box::new(XWing::sk_to_pk(&secret).to_bytes().into())
    }

    fn x_wing_is_public(encoded: &[u8]) -> bool {
        <XWing as Kem>::PublicKey::from_bytes(encoded).is_ok()
    }

    fn hpke_seal(
        to: &[u8; X_WING_PUBLIC],
        info: &[u8],
        aad: &[u8],
        message: &[u8],
        mut rng: &mut dyn CryptoRng,
    ) -> Option<(Box<[u8; X_WING_ENCAPSULATED]>, Vec<u8>)> {
        let to = <XWing as Kem>::PublicKey::from_bytes(to).ok()?;
        let (encapsulated, sealed) = hpke::single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, XWing>(
            &OpModeS::Base,
            &to,
            info,
            message,
            aad,
            &mut rng,
        )
        .ok()?;
        Some((Box::new(encapsulated.to_bytes().into()), sealed))
    }

    fn hpke_open(
        seed: &Secret<32>,
        encapsulated: &[u8; X_WING_ENCAPSULATED],
        info: &[u8],
        aad: &[u8],
        sealed: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let encapsulated = <XWing as Kem>::EncappedKey::from_bytes(encapsulated).ok()?;
        let secret = <XWing as Kem>::PrivateKey::from_bytes(seed.expose()).ok()?;
        hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, XWing>(
            &OpModeR::Base,
            &secret,
            &encapsulated,
            info,
            sealed,
            aad,
        )
        .ok()
        .map(Zeroizing::new)
    }
}
