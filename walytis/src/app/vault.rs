//! How the key vault of a data folder opens.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use walytis_core::clock::Entropy;
use walytis_core::node::Listing;
use walytis_core::secret::SecretBytes;
use walytis_core::store::KvStore;
use walytis_identities::vault::{Argon2Settings, KeyFile, KeyVault, Unlock, UnlockMethod, VaultCode, VaultError};

use super::{App, AppConfig};
use crate::backup::{self, Source, Writing};
use crate::failure::{Failure, Kind, causes};
use crate::view;

/// What to do about a locked vault.
pub(super) const UNLOCK_HINT: &str = "unlock it: walytis unlock, or give --passphrase-file where no daemon runs";

/// The key file of a vault without passphrase.
const KEY_FILE: &str = "vault.key";
/// Longest passphrase file in bytes.
const PASSPHRASE_FILE_MAX: u64 = 4096;

/// Memory from which on Argon2id takes 256 MiB.
const STRONG_FROM_KIB: u64 = 4 * 1024 * 1024;

/// Opens the vault, or makes it at the first start: with the passphrase given, else with a key file. A vault with a
/// passphrase that was not given stays locked.
pub(super) async fn open(
    config: &AppConfig,
    store: &Arc<dyn KvStore>,
    entropy: &Arc<dyn Entropy>,
) -> Result<Arc<KeyVault>, Failure> {
    let vault = KeyVault::new(Arc::clone(store), Arc::clone(entropy));
    let exists = vault.exists().await?;
    if exists && config.fresh {
        return Err(Failure::new(
            Kind::Refused,
            format!("there is a node in {} already", config.data_dir.display()),
            "choose another folder with --data-dir, or change the passphrase: walytis passphrase change",
        ));
    }
    let passphrase = match (&config.passphrase, &config.passphrase_file) {
        (Some(typed), _) => typed.clone(),
        (None, Some(file)) => read_passphrase(file, "--passphrase-file").await?,
        (None, None) => return without_passphrase(config, store, entropy, vault, exists).await,
    };
    let passphrase = Unlock::Passphrase(passphrase);
    if exists {
        if !vault.methods().await?.contains(&UnlockMethod::Passphrase) {
            return Err(Failure::usage(
                "the vault of this data folder has a key file, not a passphrase",
                "leave --passphrase-file out",
            ));
        }
        vault.unlock(passphrase).await?;
    } else {
        vault.create(passphrase, argon2_settings()).await?;
    }
    Ok(Arc::new(vault))
}

/// Returns what a guess of a passphrase shall cost on a machine like this one.
fn argon2_settings() -> Argon2Settings {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse::<u64>().ok());
    if kib.is_some_and(|kib| kib >= STRONG_FROM_KIB) { Argon2Settings::STRONG } else { Argon2Settings::default() }
}

impl App {
    /// Returns whether the vault is locked and how it opens.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn vault(&self) -> Result<view::Vault, Failure> {
        let name = |method: &UnlockMethod| match method {
            UnlockMethod::KeyFile => "key_file".to_owned(),
            UnlockMethod::Passphrase => "passphrase".to_owned(),
            UnlockMethod::RecoveryCode => "recovery_code".to_owned(),
        };
        let methods = self.vault.methods().await?.iter().map(name).collect();
        Ok(view::Vault { locked: self.vault.is_locked(), methods })
    }

    /// Locks the vault: keys are wiped, sync goes on, what needs keys is refused.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn lock(&self) -> Result<view::Vault, Failure> {
        self.vault.lock();
        self.node.locked();
        self.vault().await
    }

    /// Unlocks the vault.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn unlock(&self, proof: view::UnlockProof) -> Result<view::Vault, Failure> {
        let proof = self.proof(proof).await?;
        self.vault.unlock(proof).await?;
        self.node.unlocked().await?;
        self.identities.unlocked().await?;
        self.ledgers.open_all(&self.identities).await;
        self.vault().await
    }

    /// Sets a passphrase in the place of the old one and, unless it is to be kept, of the key file, which is deleted.
    ///
    /// # Errors
    /// [`Failure`]; then everything is as before.
    pub async fn change_passphrase(&self, change: view::PassphraseChange) -> Result<view::Vault, Failure> {
        let proof = self.proof(change.proof).await?;
        let new = Unlock::Passphrase(decode(&change.new)?);
        let remove: &[UnlockMethod] = if change.keep_key_file { &[] } else { &[UnlockMethod::KeyFile] };
        self.vault.change_method(proof, new, remove, argon2_settings()).await?;
        if !change.keep_key_file {
            remove_key_file(&self.data_dir.join(KEY_FILE)).await?;
        }
        self.vault().await
    }

    /// Begins to write everything that this node has as one sealed stream, under a passphrase of its own.
    ///
    /// # Errors
    /// [`Failure`].
    pub(crate) async fn backup(&self, request: &view::BackupRequest) -> Result<Writing, Failure> {
        let source = Source {
            data_dir: self.data_dir.clone(),
            store: Arc::clone(&self.store),
            blobs: Arc::clone(&self.blobs),
            chains: self.node.chains(Listing::All).iter().map(|entry| entry.id).collect(),
        };
        let passphrase = decode(&request.passphrase)?;
        Ok(backup::begin(source, passphrase, argon2_settings(), &*self.entropy).await?)
    }

    /// Makes a recovery code in the place of the one before.
    ///
    /// # Errors
    /// [`Failure`]; then the code before still holds.
    pub async fn new_recovery_code(&self, proof: view::UnlockProof) -> Result<view::VaultCode, Failure> {
        let proof = self.proof(proof).await?;
        let code = VaultCode::generate(&*self.entropy);
        let text = code.text();
        self.vault.change_method(proof, Unlock::RecoveryCode(code), &[], argon2_settings()).await?;
        Ok(view::VaultCode { recovery_code: text.to_string() })
    }

    async fn proof(&self, proof: view::UnlockProof) -> Result<Unlock, Failure> {
        let secret = || decode(proof.secret.as_deref().unwrap_or_default());
        match proof.method.as_str() {
            "passphrase" => Ok(Unlock::Passphrase(secret()?)),
            "recovery_code" => {
                let code = secret()?;
                let code = std::str::from_utf8(code.expose()).ok().and_then(VaultCode::parse);
                let mistyped = || Failure::usage("this is no recovery code of a vault", "it begins with walytisvault1");
                code.map(Unlock::RecoveryCode).ok_or_else(mistyped)
            }
            "key_file" => {
                let key = KeyFile::read(&self.data_dir.join(KEY_FILE)).await.map_err(VaultError::from)?;
                Ok(Unlock::KeyFile(key))
            }
            other => {
                Err(Failure::usage(format!("{other} is no way to unlock"), "use passphrase, recovery_code or key_file"))
            }
        }
    }
}

fn decode(secret: &str) -> Result<SecretBytes, Failure> {
    let bytes = STANDARD.decode(secret).map_err(|_| Failure::usage("the secret is not base64", ""))?;
    Ok(SecretBytes::new(bytes))
}

/// Removes the key file; that it is not there is just as well.
async fn remove_key_file(path: &Path) -> Result<(), Failure> {
    match tokio::fs::remove_file(path).await {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::new(
            Kind::Failed,
            format!("the passphrase is set, but {} could not be deleted: {error}", path.display()),
            "delete it yourself; it opens nothing any more",
        )),
    }
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

/// Returns the first line of the file that `option` names.
///
/// # Errors
/// [`Failure`] if it cannot be read, is empty or too long.
pub(crate) async fn read_passphrase(file: &Path, option: &str) -> Result<SecretBytes, Failure> {
    let failed = |reason: String| {
        Failure::new(Kind::Failed, format!("cannot use {}: {reason}", file.display()), format!("check {option}"))
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
            VaultError::Locked => (Kind::Locked, UNLOCK_HINT),
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
