//! Secrets in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{SecretError, SecretStore, check_secret, check_secret_name};
use crate::secret::SecretBytes;

/// A [`SecretStore`] in memory, never locked. Secrets are wiped when they are replaced, removed or dropped with it.
#[derive(Default)]
pub struct MemorySecrets {
    secrets: Mutex<BTreeMap<String, SecretBytes>>,
}

impl MemorySecrets {
    /// Returns an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, SecretBytes>> {
        // A poisoned map is still whole.
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemorySecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySecrets").field("secrets", &self.lock().len()).finish()
    }
}

#[async_trait]
impl SecretStore for MemorySecrets {
    async fn get(&self, name: &str) -> Result<Option<SecretBytes>, SecretError> {
        check_secret_name(name)?;
        Ok(self.lock().get(name).cloned())
    }

    async fn put(&self, name: &str, secret: SecretBytes) -> Result<(), SecretError> {
        check_secret_name(name)?;
        check_secret(&secret)?;
        self.lock().insert(name.to_owned(), secret);
        Ok(())
    }

    async fn delete(&self, name: &str) -> Result<(), SecretError> {
        check_secret_name(name)?;
        self.lock().remove(name);
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, SecretError> {
        let secrets = self.lock();
        let from_prefix = secrets.range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded));
        Ok(from_prefix.map(|(name, _)| name).take_while(|name| name.starts_with(prefix)).cloned().collect())
    }
}
