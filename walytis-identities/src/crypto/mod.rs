//! Every cryptographic primitive of this crate, and the closed list of labels under which it is used.
//!
//! Nothing here is home-made: Ed25519, ML-DSA-65 (FIPS 204), X-Wing inside HPKE (RFC 9180, base mode),
//! ChaCha20-Poly1305 and HKDF-SHA256 come from crates, behind the boundary of [`provider`] (the crate `walytis-crypto`). What is composed here: a *hybrid signature* is valid only if both
//! of its parts verify, each bound to the same label.

mod bytes;
mod device;
mod envelope;

mod hybrid;
mod kdf;
mod label;

pub use bytes::FixedBytes;
pub(crate) use device::random;
pub use device::{DeviceKeys, DeviceKeysError, DevicePublic, KeyId, ReceivingKey, ReceivingPublic, receiving_is_valid};
pub use envelope::{OpenError, hpke_open, hpke_seal};
pub use hybrid::{DecodedKeys, HybridSignature, SignatureInvalid, verify_ed25519};
pub use kdf::{derive, digest};
pub use label::Label;
pub use walytis_crypto as provider;
pub use walytis_crypto::{ML_DSA_PUBLIC, ML_DSA_SIGNATURE, X_WING_ENCAPSULATED, X_WING_PUBLIC};

pub(crate) use kdf::{aead_open, aead_seal, to_bytes};
