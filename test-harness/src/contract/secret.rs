//! What every [`SecretStore`] must do.

#![expect(clippy::expect_used, reason = "a contract suite fails by panicking")]

use std::sync::Arc;

use async_trait::async_trait;
use walytis_core::secret::SecretBytes;
use walytis_core::store::{SECRET_BYTES_MAX, SECRET_NAME_MAX, SecretError, SecretStore};

/// Makes the stores under test.
#[async_trait]
pub trait SecretFixture: Send + Sync {
    /// Opens one more empty, unlocked store.
    async fn store(&self) -> Arc<dyn SecretStore>;
}

/// Runs the whole suite.
pub async fn secret_contract(fixture: &dyn SecretFixture) {
    secrets_are_found_replaced_and_removed(&*fixture.store().await).await;
    names_are_listed_by_prefix_in_order(&*fixture.store().await).await;
    lengths_out_of_bounds_are_refused(&*fixture.store().await).await;
    nothing_secret_is_printed(&*fixture.store().await).await;
}

fn secret(bytes: &[u8]) -> SecretBytes {
    SecretBytes::new(bytes.to_vec())
}

async fn secrets_are_found_replaced_and_removed(store: &dyn SecretStore) {
    assert_eq!(store.get("core/a/1").await.expect("get"), None);
    store.put("core/a/1", secret(b"first")).await.expect("put");
    store.put("core/a/2", secret(b"other")).await.expect("put");
    assert_eq!(store.get("core/a/1").await.expect("get"), Some(secret(b"first")));
    store.put("core/a/1", secret(b"second")).await.expect("put");
    assert_eq!(store.get("core/a/1").await.expect("get"), Some(secret(b"second")), "the same name replaces");
    for _ in 0..2 {
        store.delete("core/a/1").await.expect("deleting is idempotent");
        assert_eq!(store.get("core/a/1").await.expect("get"), None);
    }
    assert_eq!(store.get("core/a/2").await.expect("get"), Some(secret(b"other")), "other names stay");
    store.put("core/a/3", secret(b"")).await.expect("put");
    assert_eq!(store.get("core/a/3").await.expect("get"), Some(secret(b"")), "an empty secret is not an absent one");
}

async fn names_are_listed_by_prefix_in_order(store: &dyn SecretStore) {
    for name in ["b/2", "b/1", "b", "a/9", "b/\u{10ffff}", "b0", "c"] {
        store.put(name, secret(name.as_bytes())).await.expect("put");
    }
    assert_eq!(store.list("b/").await.expect("list"), ["b/1", "b/2", "b/\u{10ffff}"]);
    assert_eq!(store.list("b").await.expect("list"), ["b", "b/1", "b/2", "b/\u{10ffff}", "b0"]);
    assert_eq!(store.list("").await.expect("list").len(), 7, "the empty prefix means all");
    assert!(store.list("x").await.expect("list").is_empty());
    store.delete("b/1").await.expect("delete");
    assert_eq!(store.list("b/").await.expect("list"), ["b/2", "b/\u{10ffff}"]);
}

async fn lengths_out_of_bounds_are_refused(store: &dyn SecretStore) {
    let longest = "n".repeat(SECRET_NAME_MAX);
    let largest = vec![7; SECRET_BYTES_MAX];
    store.put(&longest, secret(&largest)).await.expect("the bounds themselves are fine");
    assert_eq!(store.get(&longest).await.expect("get"), Some(secret(&largest)));
    for name in [String::new(), "n".repeat(SECRET_NAME_MAX + 1)] {
        assert!(matches!(store.put(&name, secret(b"s")).await, Err(SecretError::Refused { .. })));
        assert!(matches!(store.get(&name).await, Err(SecretError::Refused { .. })));
        assert!(matches!(store.delete(&name).await, Err(SecretError::Refused { .. })));
    }
    let too_large = secret(&vec![8; SECRET_BYTES_MAX + 1]);
    assert!(matches!(store.put(&longest, too_large).await, Err(SecretError::Refused { .. })));
    assert_eq!(store.get(&longest).await.expect("get"), Some(secret(&largest)), "the old secret stays");
}

async fn nothing_secret_is_printed(store: &dyn SecretStore) {
    store.put("a", secret(b"open sesame")).await.expect("put");
    let printed = format!("{store:?}");
    assert!(!printed.contains("sesame") && !printed.contains("111, 112, 101, 110"), "{printed}");
}
