//! The boundary to other people's cryptography.
//!
//! Every primitive of identities stands behind [`CryptoProvider`]; only an implementation of it names a crate that
//! computes one. The post-quantum crates are young and unaudited: whoever has better ones writes another provider, runs
//! the vectors of `tests/vectors` against it, and changes the one line [`Provider`]. `walytis-identities` speaks of
//! labels, and never of primitives.
//!
//! A crate of its own, because lattices are generic over their parameters and compiled where they are used: here they
//! are compiled once, optimised in every profile, and none of the methods is generic.
//!
//! ```
//! use walytis_core::clock::{Entropy as _, SeededEntropy};
//! use walytis_core::secret::Secret;
//! use walytis_crypto::{CryptoProvider as _, Provider};
//!
//! let secret = Provider::ml_dsa_secret(&Secret::new([7; 32]));
//! let public = Provider::ml_dsa_public(&Provider::ml_dsa_public_of(&secret));
//! let signature = Provider::ml_dsa_sign(&secret, b"message", b"label", &mut SeededEntropy::new(1).rng()).unwrap();
//! assert!(Provider::ml_dsa_verify(&public, b"message", b"label", &signature));
//! assert!(!Provider::ml_dsa_verify(&public, b"message", b"other label", &signature));
//! ```

mod rust_crypto;

use rand_core::CryptoRng;
use walytis_core::secret::Secret;
use zeroize::Zeroizing;

pub use rust_crypto::RustCrypto;

/// Bytes of an ML-DSA-65 public key (FIPS 204, table 2).
pub const ML_DSA_PUBLIC: usize = 1952;
/// Bytes of an ML-DSA-65 signature (FIPS 204, table 2).
pub const ML_DSA_SIGNATURE: usize = 3309;
/// Bytes of an X-Wing public key (draft-connolly-cfrg-xwing-kem).
pub const X_WING_PUBLIC: usize = 1216;
/// Bytes of an X-Wing encapsulated key.
pub const X_WING_ENCAPSULATED: usize = 1120;

/// The provider in force.
pub type Provider = RustCrypto;

/// Bytes of an XChaCha20-Poly1305 nonce (draft-irtf-cfrg-xchacha §2).
pub const XCHACHA_NONCE: usize = 24;

/// Memory, passes and lanes of Argon2id (RFC 9106 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argon2Cost {
    /// Memory in KiB, at least 8 for each lane.
    pub memory_kib: u32,
    /// Passes, at least 1.
    pub passes: u32,
    /// Lanes, at least 1.
    pub lanes: u32,
}

/// The primitives, byte strings in and out. Verification and opening say yes or no, never why.
pub trait CryptoProvider: 'static {
    /// A secret Ed25519 key, ready to sign; wiped on drop.
    type Ed25519Secret: Clone + Send + Sync;
    /// A public Ed25519 key, decoded.
    type Ed25519Public: Clone + Send + Sync;
    /// A secret ML-DSA-65 key, ready to sign; wiped on drop.
    type MlDsaSecret: Clone + Send + Sync;
    /// A public ML-DSA-65 key, decoded: that costs as much as a verification.
    type MlDsaPublic: Clone + Send + Sync;

    /// SHA-256 (FIPS 180-4) over the parts one after the other.
    fn sha256(parts: &[&[u8]]) -> [u8; 32];

    /// HKDF-SHA256 (RFC 5869), `info` being the parts one after the other. False, and `out` is not to be used, if `out`
    /// is longer than 8160 bytes.
    #[must_use]
    fn hkdf_sha256(salt: &[u8], secret: &[u8], info: &[&[u8]], out: &mut [u8]) -> bool;

    /// Argon2id version 0x13 (RFC 9106). False if the cost is out of range.
    #[must_use]
    fn argon2id(password: &[u8], salt: &[u8], cost: Argon2Cost, out: &mut [u8; 32]) -> bool;

    /// Seals by XChaCha20-Poly1305: ciphertext ‖ tag (16 bytes). Messages are at most 256 GiB.
    fn xchacha_seal(key: &Secret<32>, nonce: &[u8; XCHACHA_NONCE], aad: &[u8], message: &[u8]) -> Vec<u8>;

    /// Opens what [`Self::xchacha_seal`] sealed.
    fn xchacha_open(
        key: &Secret<32>,
        nonce: &[u8; XCHACHA_NONCE],
        aad: &[u8],
        sealed: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>>;

    /// Returns the Ed25519 key of a seed (RFC 8032 §5.1.5).
    fn ed25519_secret(seed: &Secret<32>) -> Self::Ed25519Secret;

    /// Returns the encoded public key.
    fn ed25519_public_of(secret: &Self::Ed25519Secret) -> [u8; 32];

    /// Signs (RFC 8032 §5.1.6).
    fn ed25519_sign(secret: &Self::Ed25519Secret, message: &[u8]) -> [u8; 64];

    /// Decodes a public key; nothing if it is no point, or one of small order.
    fn ed25519_public(encoded: &[u8; 32]) -> Option<Self::Ed25519Public>;

    /// Verifies strictly: canonical encodings, no point of small order, equation without cofactor.
    fn ed25519_verify(public: &Self::Ed25519Public, message: &[u8], signature: &[u8; 64]) -> bool;

    /// Returns the ML-DSA-65 key of a seed ξ (FIPS 204, algorithm 6).
    fn ml_dsa_secret(seed: &Secret<32>) -> Self::MlDsaSecret;

    /// Returns the encoded public key.
    fn ml_dsa_public_of(secret: &Self::MlDsaSecret) -> Box<[u8; ML_DSA_PUBLIC]>;

    /// Signs, hedged (FIPS 204, algorithm 2); nothing if `context` has more than 255 bytes.
    fn ml_dsa_sign(
        secret: &Self::MlDsaSecret,
        message: &[u8],
        context: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Option<Box<[u8; ML_DSA_SIGNATURE]>>;

    /// Decodes a public key: every string of that length is one.
    fn ml_dsa_public(encoded: &[u8; ML_DSA_PUBLIC]) -> Self::MlDsaPublic;

    /// Verifies (FIPS 204, algorithm 3).
    fn ml_dsa_verify(
        public: &Self::MlDsaPublic,
        message: &[u8],
        context: &[u8],
        signature: &[u8; ML_DSA_SIGNATURE],
    ) -> bool;

    /// Returns the X-Wing public key of a seed (draft-connolly-cfrg-xwing-kem §5.2).
    fn x_wing_public_of(seed: &Secret<32>) -> Box<[u8; X_WING_PUBLIC]>;

    /// Says whether the bytes are an X-Wing public key that can be sealed to.
    fn x_wing_is_public(encoded: &[u8]) -> bool;

    /// Seals by HPKE (RFC 9180 §6.1, base mode; X-Wing 0x647A, HKDF-SHA256, ChaCha20-Poly1305): encapsulated key and
    /// ciphertext ‖ tag. Nothing if `to` is no X-Wing public key.
    fn hpke_seal(
        to: &[u8; X_WING_PUBLIC],
        info: &[u8],
        aad: &[u8],
        message: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Option<(Box<[u8; X_WING_ENCAPSULATED]>, Vec<u8>)>;

    /// Opens what [`Self::hpke_seal`] sealed.
    fn hpke_open(
        seed: &Secret<32>,
        encapsulated: &[u8; X_WING_ENCAPSULATED],
        info: &[u8],
        aad: &[u8],
        sealed: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>>;
}
