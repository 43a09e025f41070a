//! Unlock methods: what wraps the data key.

use serde::{Deserialize, Serialize};
use walytis_core::secret::{Secret, SecretBytes};
use zeroize::Zeroizing;

use super::VaultError;
use super::codec_v1::{Derivation, Slot, WrappedKey};
use super::key_file::KeyFile;
use super::recovery_code::VaultCode;
use super::seal::{self, DataKey};
use crate::crypto::Label;
use crate::crypto::provider::{Argon2Cost, CryptoProvider as _, Provider};

/// Longest passphrase in bytes. Chosen: bounds what a caller makes us hold.
pub const PASSPHRASE_MAX: usize = 1024;

/// A way to unlock the vault, with its secret.
#[derive(Debug)]
pub enum Unlock {
    /// The key in a file of its own.
    KeyFile(KeyFile),
    /// A passphrase, 1..=[`PASSPHRASE_MAX`] bytes, taken as it is.
    Passphrase(SecretBytes),
    /// The recovery code that was handed out.
    RecoveryCode(VaultCode),
}

impl Unlock {
    /// Returns the kind.
    pub const fn method(&self) -> UnlockMethod {
        match self {
            Self::KeyFile(_) => UnlockMethod::KeyFile,
            Self::Passphrase(_) => UnlockMethod::Passphrase,
            Self::RecoveryCode(_) => UnlockMethod::RecoveryCode,
        }
    }
}

/// A kind of unlock method; a vault has at most one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnlockMethod {
    /// The key in a file of its own.
    KeyFile,
    /// A passphrase.
    Passphrase,
    /// A recovery code, kept on paper.
    RecoveryCode,
}

impl UnlockMethod {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::KeyFile, Self::Passphrase, Self::RecoveryCode];

    /// Last byte of the method's key in the store.
    pub(super) const fn tag(self) -> u8 {
        match self {
            Self::KeyFile => 0x01,
            Self::Passphrase => 0x02,
            Self::RecoveryCode => 0x03,
        }
    }
}

/// Cost of Argon2id (RFC 9106).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Argon2Settings {
    /// Memory in KiB: 8..=1,048,576.
    pub memory_kib: u32,
    /// Passes: 1..=16.
    pub passes: u32,
    /// Lanes: 1..=4.
    pub lanes: u32,
}

impl Default for Argon2Settings {
    /// 64 MiB, 3 passes, 1 lane. From RFC 9106 §4 (second recommended option, with one lane).
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, passes: 3, lanes: 1 }
    }
}

impl Argon2Settings {
    /// For machines with memory to spare: 256 MiB, 3 passes, 1 lane.
    pub const STRONG: Self = Self { memory_kib: 256 * 1024, passes: 3, lanes: 1 };

    pub(super) fn check(&self) -> Result<(), &'static str> {
        let memory = (8 * self.lanes.clamp(1, 4)..=1024 * 1024).contains(&self.memory_kib);
        let fits = memory && (1..=16).contains(&self.passes) && (1..=4).contains(&self.lanes);
        if fits { Ok(()) } else { Err("Argon2id settings out of range") }
    }
}

/// Seals the data key for a method.
pub(super) async fn wrap(key: &DataKey, unlock: Unlock, slot: Slot) -> Result<WrappedKey, VaultError> {
    let wrapping = wrapping_key(*key.vault(), unlock, slot.derivation).await?;
    let sealed = seal::seal(&wrapping, &slot.nonce, &aad(key.vault(), &slot), key.data().expose());
    Ok(WrappedKey { slot, sealed })
}

/// Opens the data key.
pub(super) async fn unwrap(vault: [u8; 32], unlock: Unlock, wrapped: WrappedKey) -> Result<Secret<32>, VaultError> {
    let slot = wrapped.slot;
    let wrapping = match wrapping_key(vault, unlock, slot.derivation).await {
        Err(VaultError::Unusable { .. }) => return Err(VaultError::WrongKey),
        other => other?,
    };
    let opened = seal::open(&wrapping, &slot.nonce, &aad(&vault, &slot), &wrapped.sealed);
    opened.and_then(|key| Secret::from_slice(&key)).ok_or(VaultError::WrongKey)
}

/// Vault id ‖ the slot with its parameters ‖ type and version, as their label.
fn aad(vault: &[u8; 32], slot: &Slot) -> Vec<u8> {
    [&vault[..], &slot.encode(), Label::VaultWrap.bytes()].concat()
}

async fn wrapping_key(vault: [u8; 32], unlock: Unlock, derivation: Derivation) -> Result<Secret<32>, VaultError> {
    match (unlock, derivation) {
        (Unlock::KeyFile(file), Derivation::KeyFile) => {
            Ok(seal::derive(file.key().expose(), &vault, Label::VaultKeyFile, &[]))
        }
        (Unlock::Passphrase(passphrase), Derivation::Passphrase { salt, settings }) => {
            if !(1..=PASSPHRASE_MAX).contains(&passphrase.expose().len()) {
                return Err(VaultError::Unusable { reason: "a passphrase has 1 to 1,024 bytes" });
            }
            // Argon2id takes 0.1 s and more: never on a runtime thread.
            let stretched = tokio::task::spawn_blocking(move || stretch(&passphrase, &salt, settings));
            let stretched = stretched.await.map_err(|_| VaultError::Derivation)??;
            Ok(seal::derive(stretched.expose(), &vault, Label::VaultPassphrase, &[]))
        }
        (Unlock::RecoveryCode(code), Derivation::RecoveryCode) => {
            Ok(seal::derive(code.key().expose(), &vault, Label::VaultRecoveryCode, &[]))
        }
        _ => Err(VaultError::WrongKey),
    }
}

pub(super) fn stretch(
    passphrase: &SecretBytes,
    salt: &[u8; 32],
    settings: Argon2Settings,
) -> Result<Secret<32>, VaultError> {
    let cost = Argon2Cost { memory_kib: settings.memory_kib, passes: settings.passes, lanes: settings.lanes };
    let mut out = Zeroizing::new([0; 32]);
    if !Provider::argon2id(passphrase.expose(), salt, cost, &mut out) {
        return Err(VaultError::Unusable { reason: "Argon2id settings out of range" });
    }
    Ok(Secret::new(*out))
}
