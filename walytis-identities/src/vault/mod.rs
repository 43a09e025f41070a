//! The key vault: secrets of a node, sealed in its store.
//!
//! A random data key, made once, seals every secret; each *unlock method* (a key file, a passphrase, a recovery code) wraps that data
//! key. So adding a secret costs one record, and changing a passphrase re-wraps one key.
//!
//! ```text
//!  key file ────HKDF──► wrapping key ─┐
//!  passphrase ─Argon2id► wrapping key ─┴► data key ─HKDF─┬► record key: XChaCha20-Poly1305 of names and secrets
//!                                                        └► name key: HMAC, names become record ids
//! ```
//!
//! On disk stand: the vault's id, the wrapped keys with their parameters, and per record a keyed digest of its name,
//! the sealed name and the sealed secret: an onlooker learns how many secrets there are, and how long. The byte tables
//! are in `docs/formats/vault.md`.
//!
//! [`KeyVault`] is a [`SecretStore`]; while it is locked every operation returns [`SecretError::Locked`]. It does not
//! protect against whoever can read the memory of the running, unlocked program.

mod attempts;
mod backup;
mod codec_v1;
mod key_file;
mod recovery_code;
mod seal;
mod unlock;

pub use backup::{BACKUP_FRAME_MAX, BACKUP_HEADER, BackupError, BackupOpener, BackupSealer};
pub use key_file::{KeyFile, KeyFileError};
pub use recovery_code::VaultCode;
pub use unlock::{Argon2Settings, PASSPHRASE_MAX, Unlock, UnlockMethod};

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;
use tokio::sync::watch;
use walytis_core::clock::Entropy;
use walytis_core::fault::Fault;
use walytis_core::secret::{Secret, SecretBytes};
use walytis_core::store::{
    Batch, Direction, Durability, KeyRange, KvStore, SecretError, SecretStore, StoreError, check_secret,
    check_secret_name,
};
use zeroize::Zeroizing;

use attempts::Attempts;
use codec_v1::{Slot, WrappedKey};
use seal::DataKey;

/// Records read at once when names are listed. Chosen: a page of some hundred kilobytes.
const LIST_PAGE: usize = 256;

/// The vault could not do what was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The passphrase or the key file does not open this vault. Says nothing more on purpose.
    #[error("this does not unlock the vault")]
    WrongKey,
    /// Too many wrong attempts; the next one is looked at after a while.
    #[error("too many attempts to unlock the vault, try again in {} s", wait.as_secs().max(1))]
    TooManyAttempts {
        /// How long.
        wait: Duration,
    },
    /// The vault is locked.
    #[error("the key vault is locked")]
    Locked,
    /// There is a vault already.
    #[error("the store has a key vault already")]
    Exists,
    /// There is no vault yet.
    #[error("the store has no key vault yet")]
    Missing,
    /// The passphrase or the Argon2id settings are unusable.
    #[error("unusable unlock method: {reason}")]
    Unusable {
        /// What is wrong.
        reason: &'static str,
    },
    /// The key file cannot be used.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// Storage failed, or a stored value is damaged.
    #[error("the storage of the key vault failed")]
    Store(#[from] StoreError),
    /// A task of this vault panicked.
    #[error("deriving the key failed")]
    Derivation,
}

impl VaultError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Store(_) => Fault::Local,
            Self::KeyFile(error) => error.fault(),
            Self::Derivation => Fault::Bug,
            _ => Fault::Caller,
        }
    }
}

/// The vault of one node. Share it as an `Arc`; locking and unlocking take effect for all who hold it.
pub struct KeyVault {
    store: Arc<dyn KvStore>,
    entropy: Arc<dyn Entropy>,
    state: Mutex<State>,
    locked: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    /// Present while unlocked; operations under way keep it until they end.
    key: Option<Arc<DataKey>>,
    attempts: Attempts,
}

impl fmt::Debug for KeyVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyVault").field("locked", &self.is_locked()).finish_non_exhaustive()
    }
}

impl KeyVault {
    /// Returns the vault of a store, locked. Reads nothing yet.
    pub fn new(store: Arc<dyn KvStore>, entropy: Arc<dyn Entropy>) -> Self {
        Self { store, entropy, state: Mutex::default(), locked: watch::Sender::new(true) }
    }

    /// Opens the vault of a store with the key file at `path`; makes both if there is no vault yet. A crash in between
    /// leaves a key file without a vault, which the next call uses.
    ///
    /// # Errors
    /// [`VaultError`]; a missing key file of an existing vault is never replaced.
    pub async fn open_with_key_file(
        store: Arc<dyn KvStore>,
        entropy: Arc<dyn Entropy>,
        path: &Path,
    ) -> Result<Self, VaultError> {
        let vault = Self::new(store, Arc::clone(&entropy));
        if vault.exists().await? {
            let key = KeyFile::read(path).await?;
            vault.unlock(Unlock::KeyFile(key)).await?;
        } else {
            let key = KeyFile::create_or_read(path, &*entropy).await?;
            vault.create(Unlock::KeyFile(key), Argon2Settings::default()).await?;
        }
        Ok(vault)
    }

    /// Says whether the store has a vault.
    ///
    /// # Errors
    /// [`VaultError::Store`].
    pub async fn exists(&self) -> Result<bool, VaultError> {
        Ok(self.store.get(&codec_v1::header_key()).await?.is_some())
    }

    /// Says whether the vault is locked.
    pub fn is_locked(&self) -> bool {
        self.lock_state().key.is_none()
    }

    /// Returns a view of whether the vault is locked.
    pub fn watch_locked(&self) -> watch::Receiver<bool> {
        self.locked.subscribe()
    }

    /// Makes the vault under its first unlock method and leaves it unlocked.
    ///
    /// # Errors
    /// [`VaultError::Exists`], [`VaultError::Unusable`], [`VaultError::Store`].
    pub async fn create(&self, unlock: Unlock, settings: Argon2Settings) -> Result<(), VaultError> {
        if self.exists().await? {
            return Err(VaultError::Exists);
        }
        let mut id = [0; 32];
        self.entropy.fill(&mut id);
        let mut key = Zeroizing::new([0; 32]);
        self.entropy.fill(key.as_mut());
        let data_key = Arc::new(DataKey::new(id, &Secret::new(*key)));
        let mut batch = Batch::new();
        batch.put(codec_v1::header_key(), codec_v1::encode_header(&id));
        self.wrap_into(&mut batch, &data_key, unlock, settings).await?;
        self.store.commit(batch, Durability::Flushed).await?;
        self.set_key(Some(data_key));
        Ok(())
    }

    /// Unlocks the vault. Each wrong attempt makes the next one wait longer (up to a minute).
    ///
    /// # Errors
    /// [`VaultError::WrongKey`] for any passphrase or key file that does not fit, also for one of a method that the
    /// vault does not have; [`VaultError::TooManyAttempts`], [`VaultError::Missing`], [`VaultError::Store`].
    pub async fn unlock(&self, unlock: Unlock) -> Result<(), VaultError> {
        let key = self.try_unlock(unlock).await?;
        self.set_key(Some(key));
        Ok(())
    }

    /// Checks that a method opens the vault, which stays as it is, locked or not. Counts as an attempt.
    ///
    /// # Errors
    /// As [`Self::unlock`].
    pub async fn check(&self, unlock: Unlock) -> Result<(), VaultError> {
        self.try_unlock(unlock).await.map(drop)
    }

    async fn try_unlock(&self, unlock: Unlock) -> Result<Arc<DataKey>, VaultError> {
        let id = self.id().await?;
        self.lock_state()
            .attempts
            .begin(tokio::time::Instant::now())
            .map_err(|wait| VaultError::TooManyAttempts { wait })?;
        let slot_key = codec_v1::slot_key(unlock.method());
        let Some(value) = self.store.get(&slot_key).await? else { return Err(VaultError::WrongKey) };
        let slot = codec_v1::decode_slot(&slot_key, &value)?;
        let key = unlock::unwrap(id, unlock, slot).await?;
        self.lock_state().attempts.succeed();
        Ok(Arc::new(DataKey::new(id, &key)))
    }

    /// Locks the vault: the keys are wiped as soon as the last operation under way has ended. Idempotent.
    pub fn lock(&self) {
        self.set_key(None);
    }

    /// Returns the unlock methods of the vault.
    ///
    /// # Errors
    /// [`VaultError::Store`].
    pub async fn methods(&self) -> Result<Vec<UnlockMethod>, VaultError> {
        let mut methods = Vec::new();
        for method in UnlockMethod::ALL {
            if self.store.get(&codec_v1::slot_key(method)).await?.is_some() {
                methods.push(method);
            }
        }
        Ok(methods)
    }

    /// Changes the unlock methods with the proof of one of them, in one write, whether the vault is locked or not, and
    /// leaves it so: puts `new` in the place of the one of its kind, and removes the kinds in `remove`. What these opened is
    /// destroyed as far as the store can: not in copies of the disk that were made before.
    ///
    /// # Errors
    /// As [`Self::unlock`], and [`VaultError::Unusable`]. [`VaultError::Store`] may also say that the change stands and what
    /// was before is not destroyed yet: repeat it.
    pub async fn change_method(
        &self,
        proof: Unlock,
        new: Unlock,
        remove: &[UnlockMethod],
        settings: Argon2Settings,
    ) -> Result<(), VaultError> {
        let key = self.try_unlock(proof).await?;
        let kept = new.method();
        let mut batch = Batch::new();
        self.wrap_into(&mut batch, &key, new, settings).await?;
        for method in remove.iter().filter(|method| **method != kept) {
            batch.delete(codec_v1::slot_key(*method));
        }
        self.commit_methods(batch).await
    }

    /// Adds an unlock method, or replaces the one of the same kind (a change of passphrase). The vault must be
    /// unlocked. No record is touched.
    ///
    /// # Errors
    /// [`VaultError::Locked`], [`VaultError::Unusable`], [`VaultError::Store`].
    pub async fn set_method(&self, unlock: Unlock, settings: Argon2Settings) -> Result<(), VaultError> {
        let key = self.key().ok_or(VaultError::Locked)?;
        let mut batch = Batch::new();
        self.wrap_into(&mut batch, &key, unlock, settings).await?;
        self.commit_methods(batch).await
    }

    /// Removes an unlock method; the last one stays.
    ///
    /// # Errors
    /// [`VaultError::Locked`], [`VaultError::Unusable`] for the last one, [`VaultError::Store`].
    pub async fn remove_method(&self, method: UnlockMethod) -> Result<(), VaultError> {
        self.key().ok_or(VaultError::Locked)?;
        if self.methods().await? == [method] {
            return Err(VaultError::Unusable { reason: "the last unlock method cannot be removed" });
        }
        let mut batch = Batch::new();
        batch.delete(codec_v1::slot_key(method));
        self.commit_methods(batch).await
    }

    /// Commits, and destroys what stood there before: the secret that opened it may be in others' hands. If that fails the
    /// change stands all the same.
    async fn commit_methods(&self, batch: Batch) -> Result<(), VaultError> {
        self.store.commit(batch, Durability::Flushed).await?;
        Ok(self.store.reclaim(KeyRange::prefix(&codec_v1::slot_prefix())).await?)
    }

    async fn wrap_into(
        &self,
        batch: &mut Batch,
        key: &DataKey,
        unlock: Unlock,
        settings: Argon2Settings,
    ) -> Result<(), VaultError> {
        let slot_key = codec_v1::slot_key(unlock.method());
        let slot = Slot::fresh(unlock.method(), settings, &*self.entropy)?;
        let wrapped: WrappedKey = unlock::wrap(key, unlock, slot).await?;
        batch.put(slot_key, codec_v1::encode_slot(&wrapped));
        Ok(())
    }

    async fn id(&self) -> Result<[u8; 32], VaultError> {
        let key = codec_v1::header_key();
        let value = self.store.get(&key).await?.ok_or(VaultError::Missing)?;
        Ok(codec_v1::decode_header(&key, &value)?)
    }

    fn key(&self) -> Option<Arc<DataKey>> {
        self.lock_state().key.clone()
    }

    fn set_key(&self, key: Option<Arc<DataKey>>) {
        let locked = key.is_none();
        self.lock_state().key = key;
        self.locked.send_if_modified(|before| std::mem::replace(before, locked) != locked);
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        // A poisoned state is still whole: nothing under the lock panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unlocked(&self) -> Result<Arc<DataKey>, SecretError> {
        self.key().ok_or(SecretError::Locked)
    }
}

#[async_trait]
impl SecretStore for KeyVault {
    async fn get(&self, name: &str) -> Result<Option<SecretBytes>, SecretError> {
        check_secret_name(name)?;
        let key = self.unlocked()?;
        let id = key.record_id(name);
        let Some(value) = self.store.get(&codec_v1::record_key(&id)).await? else { return Ok(None) };
        let record = codec_v1::decode_record(&value).ok_or(SecretError::Damaged)?;
        key.open_secret(&id, &record).map(Some).ok_or(SecretError::Damaged)
    }

    async fn put(&self, name: &str, secret: SecretBytes) -> Result<(), SecretError> {
        check_secret_name(name)?;
        check_secret(&secret)?;
        let key = self.unlocked()?;
        let id = key.record_id(name);
        let record = key.seal(&id, name, &secret, &*self.entropy);
        let mut batch = Batch::new();
        batch.put(codec_v1::record_key(&id), codec_v1::encode_record(&record));
        Ok(self.store.commit(batch, Durability::Flushed).await?)
    }

    async fn delete(&self, name: &str) -> Result<(), SecretError> {
        check_secret_name(name)?;
        let key = self.unlocked()?;
        let mut batch = Batch::new();
        batch.delete(codec_v1::record_key(&key.record_id(name)));
        Ok(self.store.commit(batch, Durability::Flushed).await?)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, SecretError> {
        let key = self.unlocked()?;
        let mut names = Vec::new();
        let mut range = KeyRange::prefix(&codec_v1::record_prefix());
        loop {
            let page = self.store.scan(range.clone(), Direction::Forward, LIST_PAGE).await?;
            for (record_key, value) in &page {
                let id = codec_v1::record_id(record_key).ok_or(SecretError::Damaged)?;
                let record = codec_v1::decode_record(value).ok_or(SecretError::Damaged)?;
                let name = key.open_name(&id, &record).ok_or(SecretError::Damaged)?;
                if name.starts_with(prefix) {
                    names.push(name);
                }
            }
            let Some((last, _)) = page.last().filter(|_| page.len() == LIST_PAGE) else { break };
            range.start = [last.as_ref(), &[0]].concat();
        }
        names.sort_unstable();
        Ok(names)
    }

    fn locked_changes(&self) -> Option<watch::Receiver<bool>> {
        Some(self.watch_locked())
    }
}
