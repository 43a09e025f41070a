//! Vault format version 1: what stands in the store under [`Space::Vault`]. Frozen at release 0.1.0.
//!
//! ```text
//! 0x00           → 0x01 ‖ vault id (32)
//! 0x01 ‖ method  → 0x01 ‖ postcard(SlotV1)
//! 0x02 ‖ record id (32) → 0x01 ‖ name nonce (24) ‖ secret nonce (24) ‖ postcard(sealed name: bytes, sealed secret: bytes)
//! ```

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use walytis_core::clock::Entropy;
use walytis_core::store::StoreError;
use walytis_core::store::keys::Space;

use super::VaultError;
use super::unlock::{Argon2Settings, UnlockMethod};

/// First byte of every value of this version.
const VERSION: u8 = 0x01;
const HEADER: &[u8] = &[0x00];
const SLOT: &[u8] = &[0x01];
const RECORD: &[u8] = &[0x02];

/// Bytes of an XChaCha20-Poly1305 nonce.
pub(super) const NONCE: usize = 24;
/// Bytes of a wrapped data key: the key and its tag.
const WRAPPED: usize = 32 + 16;

/// How a method's wrapping key is derived, and the nonce of the wrapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Slot {
    pub(super) derivation: Derivation,
    pub(super) nonce: [u8; NONCE],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Derivation {
    KeyFile,
    Passphrase { salt: [u8; 32], settings: Argon2Settings },
    RecoveryCode,
}

/// A slot and the data key sealed under its wrapping key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WrappedKey {
    pub(super) slot: Slot,
    pub(super) sealed: Vec<u8>,
}

/// A sealed secret with its sealed name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) name_nonce: [u8; NONCE],
    pub(super) secret_nonce: [u8; NONCE],
    pub(super) name: Vec<u8>,
    pub(super) secret: Vec<u8>,
}

impl Slot {
    /// Returns a slot with fresh salt and nonce.
    pub(super) fn fresh(
        method: UnlockMethod,
        settings: Argon2Settings,
        entropy: &dyn Entropy,
    ) -> Result<Self, VaultError> {
        let mut nonce = [0; NONCE];
        entropy.fill(&mut nonce);
        let derivation = match method {
            UnlockMethod::KeyFile => Derivation::KeyFile,
            UnlockMethod::RecoveryCode => Derivation::RecoveryCode,
            UnlockMethod::Passphrase => {
                settings.check().map_err(|reason| VaultError::Unusable { reason })?;
                let mut salt = [0; 32];
                entropy.fill(&mut salt);
                Derivation::Passphrase { salt, settings }
            }
        };
        Ok(Self { derivation, nonce })
    }

    /// Returns the slot's bytes, bound into the wrapping.
    pub(super) fn encode(&self) -> Vec<u8> {
        encode(self)
    }
}

pub(super) fn header_key() -> Vec<u8> {
    Space::Vault.key(&[HEADER])
}

pub(super) fn slot_key(method: UnlockMethod) -> Vec<u8> {
    Space::Vault.key(&[SLOT, &[method.tag()]])
}

pub(super) fn slot_prefix() -> Vec<u8> {
    Space::Vault.key(&[SLOT])
}

pub(super) fn record_prefix() -> Vec<u8> {
    Space::Vault.key(&[RECORD])
}

pub(super) fn record_key(id: &[u8; 32]) -> Vec<u8> {
    Space::Vault.key(&[RECORD, id])
}

pub(super) fn record_id(key: &[u8]) -> Option<[u8; 32]> {
    key.strip_prefix(record_prefix().as_slice())?.try_into().ok()
}

pub(super) fn encode_header(id: &[u8; 32]) -> Vec<u8> {
    [&[VERSION][..], id].concat()
}

pub(super) fn decode_header(key: &[u8], value: &[u8]) -> Result<[u8; 32], StoreError> {
    let id = value.strip_prefix(&[VERSION]).and_then(|id| id.try_into().ok());
    id.ok_or_else(|| StoreError::corrupt(key, "it is no vault of version 1"))
}

pub(super) fn encode_slot(wrapped: &WrappedKey) -> Vec<u8> {
    [&[VERSION][..], &encode(wrapped)].concat()
}

pub(super) fn decode_slot(key: &[u8], value: &[u8]) -> Result<WrappedKey, StoreError> {
    let corrupt = || StoreError::corrupt(key, "it is no unlock method of version 1");
    let body = value.strip_prefix(&[VERSION]).ok_or_else(corrupt)?;
    let wrapped: WrappedKey = postcard::from_bytes(body).map_err(|_| corrupt())?;
    // The settings are read before anything proves them: a damaged value must not make Argon2 take all memory.
    let usable = match wrapped.slot.derivation {
        Derivation::KeyFile | Derivation::RecoveryCode => true,
        Derivation::Passphrase { settings, .. } => settings.check().is_ok(),
    };
    let canonical = encode_slot(&wrapped) == value;
    if usable && canonical && wrapped.sealed.len() == WRAPPED { Ok(wrapped) } else { Err(corrupt()) }
}

pub(super) fn encode_record(record: &Record) -> Vec<u8> {
    let body = encode(&(record.name.as_slice(), record.secret.as_slice()));
    [&[VERSION][..], &record.name_nonce, &record.secret_nonce, &body].concat()
}

pub(super) fn decode_record(value: &Bytes) -> Option<Record> {
    let (name_nonce, rest) = value.strip_prefix(&[VERSION])?.split_first_chunk::<NONCE>()?;
    let (secret_nonce, body) = rest.split_first_chunk::<NONCE>()?;
    let (name, secret): (&[u8], &[u8]) = postcard::from_bytes(body).ok()?;
    let record =
        Record { name_nonce: *name_nonce, secret_nonce: *secret_nonce, name: name.to_vec(), secret: secret.to_vec() };
    (encode_record(&record) == *value).then_some(record)
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "postcard fails only on types without a stated length")]
    postcard::to_stdvec(value).expect("a vault value always encodes")
}
