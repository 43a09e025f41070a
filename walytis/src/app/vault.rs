//! How the key vault of a data folder opens.

use std::path::Path;
use std::sync::Arc;

use walytis_core::clock::Entropy;
use walytis_core::secret::SecretBytes;
use walytis_core::store::KvStore;
use walytis_identities::vault::{Argon2Settings, KeyVault, Unlock, UnlockMethod, VaultError};

use super::AppConfig;
use crate::failure::{Failure, Kind, causes};

/// The key file of a vault without passphrase.
const KEY_FILE: &str = "vault.key";
/// Longest passphrase file in bytes.
const PASSPHRASE_FILE_MAX: u64 = 4096;

/// Opens the vault, or makes it at the first start: with the passphrase of `--passphrase-file`, else with a key file. A
/// vault with a passphrase that was not given stays locked.
pub(super) async fn open(
    config: &AppConfig,
    store: &Arc<dyn KvStore>,
    entropy: &Arc<dyn Entropy>,
) -> Result<Arc<KeyVault>, Failure> {
    let vault = KeyVault::new(Arc::clone(store), Arc::clone(entropy));
    let exists = vault.exists().await?;
    let Some(file) = &config.passphrase_file else {
        return without_passphrase(config, store, entropy, vault, exists).await;
    };
    let passphrase = Unlock::Passphrase(read_passphrase(file).await?);
    if exists {
        if !vault.methods().await?.contains(&UnlockMethod::Passphrase) {
            return Err(Failure::usage(
                "the vault of this data folder has a key file, not a passphrase",
                "leave --passphrase-file out",
            ));
        }
        vault.unlock(passphrase).await?;
    } else {
        vault.create(passphrase, Argon2Settings::default()).await?;
    }
    Ok(Arc::new(vault))
}

async fn without_passphrase(
    config: &AppConfig,
    store: &Arc<dyn KvStore>,
    entropy: &Arc<dyn Entropy>,
    vault: KeyVault,
    exists: bool,
) -> Result<Arc<KeyVault>, Failure> {
    if exists && !vault.methods().await?.contains(&UnlockMethod::KeyFile) {
        tracing::warn!("the key vault is locked: it needs the passphrase");
        return Ok(Arc::new(vault));
    }
    let path = config.data_dir.join(KEY_FILE);
    Ok(Arc::new(KeyVault::open_with_key_file(Arc::clone(store), Arc::clone(entropy), &path).await?))
}

/// Returns the first line of the file.
async fn read_passphrase(file: &Path) -> Result<SecretBytes, Failure> {
    let failed = |reason: String| {
        Failure::new(Kind::Failed, format!("cannot use {}: {reason}", file.display()), "check --passphrase-file")
    };
    let size = tokio::fs::metadata(file).await.map_err(|error| failed(error.to_string()))?.len();
    if size > PASSPHRASE_FILE_MAX {
        return Err(failed(format!("it has more than {PASSPHRASE_FILE_MAX} bytes")));
    }
    let bytes = zeroize::Zeroizing::new(tokio::fs::read(file).await.map_err(|error| failed(error.to_string()))?);
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err(failed("its first line is empty".into()));
    }
    Ok(SecretBytes::new(line.to_vec()))
}

impl From<VaultError> for Failure {
    fn from(error: VaultError) -> Self {
        let (kind, hint) = match &error {
            VaultError::WrongKey => (Kind::Locked, "check the passphrase, or the key file"),
            VaultError::TooManyAttempts { .. } => (Kind::Locked, "wait, then try again"),
            VaultError::Locked => (Kind::Locked, "start the daemon with --passphrase-file"),
            VaultError::Unusable { .. } => (Kind::Usage, "choose another passphrase"),
            VaultError::KeyFile(_) => (Kind::Failed, "restore vault.key, or correct its permissions (chmod 600)"),
            _ => (Kind::Failed, "restore the data folder from a backup"),
        };
        if let VaultError::Store(error) = error {
            return error.into();
        }
        Self::new(kind, causes(&error), hint)
    }
}
