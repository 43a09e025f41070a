//! The contract of secrets.

use std::sync::Arc;

use async_trait::async_trait;
use test_harness::contract::secret::{SecretFixture, secret_contract};
use walytis_core::store::{MemorySecrets, SecretStore};

struct Memory;

#[async_trait]
impl SecretFixture for Memory {
    async fn store(&self) -> Arc<dyn SecretStore> {
        Arc::new(MemorySecrets::new())
    }
}

#[tokio::test]
async fn memory_secrets_keep_the_contract() {
    secret_contract(&Memory).await;
}
