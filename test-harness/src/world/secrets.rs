//! The secrets of a simulated node: they fail with its power.

use std::sync::Arc;

use async_trait::async_trait;
use walytis_core::secret::SecretBytes;
use walytis_core::store::{MemorySecrets, SecretError, SecretStore, StoreError};

use crate::store::{Power, Step};

/// A [`SecretStore`] that a dead process can no longer change. What was acknowledged is flushed by contract.
#[derive(Debug)]
pub(super) struct PoweredSecrets {
    pub(super) power: Power,
    pub(super) secrets: Arc<MemorySecrets>,
}

impl PoweredSecrets {
    fn check(&self) -> Result<(), SecretError> {
        if self.power.is_off() { Err(failed()) } else { Ok(()) }
    }

    async fn change(&self, change: impl Future<Output = Result<(), SecretError>>) -> Result<(), SecretError> {
        match self.power.step() {
            Step::Run => change.await,
            Step::Fail(failure) => {
                if failure.applies_step() {
                    change.await?;
                }
                Err(failed())
            }
            Step::Off => Err(failed()),
        }
    }
}

fn failed() -> SecretError {
    SecretError::Store(StoreError::Io { reason: "the simulated disk failed".into() })
}

#[async_trait]
impl SecretStore for PoweredSecrets {
    async fn get(&self, name: &str) -> Result<Option<SecretBytes>, SecretError> {
        self.check()?;
        self.secrets.get(name).await
    }

    async fn put(&self, name: &str, secret: SecretBytes) -> Result<(), SecretError> {
        self.change(self.secrets.put(name, secret)).await
    }

    async fn delete(&self, name: &str) -> Result<(), SecretError> {
        self.change(self.secrets.delete(name)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, SecretError> {
        self.check()?;
        self.secrets.list(prefix).await
    }
}
