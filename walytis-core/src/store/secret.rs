//! Secrets of the node.

use std::fmt;

use async_trait::async_trait;
use thiserror::Error;

use crate::fault::Fault;
use crate::secret::SecretBytes;

/// A secret store could not answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The vault is locked.
    #[error("the key vault is locked")]
    Locked,
    /// A stored secret cannot be opened: damaged, or of another vault.
    #[error("a stored secret is damaged")]
    Damaged,
    /// The name or the secret is too long.
    #[error("the secret store refuses this: {reason}")]
    Refused {
        /// What is wrong.
        reason: &'static str,
    },
    /// The storage beneath failed.
    #[error("the storage of secrets failed")]
    Store(#[from] super::StoreError),
}

impl SecretError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Locked | Self::Refused { .. } => Fault::Caller,
            Self::Damaged | Self::Store(_) => Fault::Local,
        }
    }
}

/// Longest name of a secret in bytes of UTF-8.
pub const SECRET_NAME_MAX: usize = 128;
/// Longest secret in bytes. Chosen: far above any key; keeps one record within one store value.
pub const SECRET_BYTES_MAX: usize = 1024 * 1024;

/// Checks a name: 1..=[`SECRET_NAME_MAX`] bytes. Every implementation calls it first in `get`, `put` and `delete`.
///
/// # Errors
/// [`SecretError::Refused`].
pub fn check_secret_name(name: &str) -> Result<(), SecretError> {
    if (1..=SECRET_NAME_MAX).contains(&name.len()) {
        return Ok(());
    }
    Err(SecretError::Refused { reason: "a name has 1 to 128 bytes" })
}

/// Checks the length of a secret: at most [`SECRET_BYTES_MAX`].
///
/// # Errors
/// [`SecretError::Refused`].
pub fn check_secret(secret: &SecretBytes) -> Result<(), SecretError> {
    if secret.expose().len() <= SECRET_BYTES_MAX {
        return Ok(());
    }
    Err(SecretError::Refused { reason: "a secret has at most 1 MiB" })
}

/// A map of names to secrets, never readable from disk without the key. Names are not secret, at most 128 bytes, and
/// by convention `<layer>/<kind>/<id>`.
#[async_trait]
pub trait SecretStore: Send + Sync + fmt::Debug {
    /// Returns the secret of this name, or nothing.
    ///
    /// # Errors
    /// [`SecretError`].
    async fn get(&self, name: &str) -> Result<Option<SecretBytes>, SecretError>;

    /// Stores a secret (at most 1 MiB), replacing the one of the same name; flushed when it returns.
    ///
    /// # Errors
    /// [`SecretError`].
    async fn put(&self, name: &str, secret: SecretBytes) -> Result<(), SecretError>;

    /// Removes the secret of this name; idempotent.
    ///
    /// # Errors
    /// [`SecretError`].
    async fn delete(&self, name: &str) -> Result<(), SecretError>;

    /// Returns the names that start with `prefix`, sorted.
    ///
    /// # Errors
    /// [`SecretError`].
    async fn list(&self, prefix: &str) -> Result<Vec<String>, SecretError>;

    /// Returns a view of whether the store is locked; nothing if it never is. Whoever holds secrets in memory forgets
    /// them when it becomes true.
    fn locked_changes(&self) -> Option<tokio::sync::watch::Receiver<bool>> {
        None
    }
}
