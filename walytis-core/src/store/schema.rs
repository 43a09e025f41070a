//! The version of the whole store's layout.

use bytes::Bytes;

use super::keys::Space;
use super::{Batch, Direction, Durability, KeyRange, KvStore, StoreError};

/// The schema version that this crate writes, and the newest that it reads.
pub const SCHEMA_VERSION: u32 = 1;

/// Checks the schema version of an opened store and writes it into an empty one. Whoever opens a store calls this before
/// anything else; [`RocksStore::open`](super::RocksStore) does it itself.
///
/// # Errors
/// [`StoreError::NewerSchema`] for a version above [`SCHEMA_VERSION`]; [`StoreError::Corrupt`] if the version is missing
/// from a store with data, or is no version; otherwise what the store says.
pub async fn open_schema(store: &dyn KvStore) -> Result<(), StoreError> {
    let key = Space::Schema.key(&[]);
    let Some(value) = store.get(&key).await? else {
        return create(store, key).await;
    };
    match decode(&value) {
        Some(SCHEMA_VERSION) => Ok(()),
        Some(found) if found > SCHEMA_VERSION => Err(StoreError::NewerSchema { found, known: SCHEMA_VERSION }),
        _ => Err(StoreError::corrupt(&key, "it is no schema version")),
    }
}

async fn create(store: &dyn KvStore, key: Vec<u8>) -> Result<(), StoreError> {
    let everything = KeyRange { start: Vec::new(), end: None };
    if !store.scan(everything, Direction::Forward, 1).await?.is_empty() {
        return Err(StoreError::corrupt(&key, "the schema version is missing"));
    }
    let mut batch = Batch::new();
    batch.put(key, SCHEMA_VERSION.to_be_bytes().to_vec());
    store.commit(batch, Durability::Flushed).await
}

fn decode(value: &Bytes) -> Option<u32> {
    value.as_ref().try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::super::MemoryStore;
    use super::*;

    async fn store_with(key: &[u8], value: &[u8]) -> MemoryStore {
        let store = MemoryStore::new();
        let mut batch = Batch::new();
        batch.put(key.to_vec(), value.to_vec());
        store.commit(batch, Durability::Flushed).await.unwrap();
        store
    }

    #[tokio::test]
    async fn an_empty_store_gets_the_version_and_keeps_it() {
        let store = MemoryStore::new();
        open_schema(&store).await.unwrap();
        assert_eq!(store.get(&[0]).await.unwrap().unwrap().as_ref(), [0, 0, 0, 1]);
        open_schema(&store).await.unwrap();
    }

    #[tokio::test]
    async fn a_newer_version_is_refused_by_name() {
        let store = store_with(&[0], &[0, 0, 0, 2]).await;
        let error = open_schema(&store).await.unwrap_err();
        assert!(matches!(error, StoreError::NewerSchema { found: 2, known: 1 }), "{error}");
    }

    #[tokio::test]
    async fn a_damaged_or_missing_version_is_refused() {
        for (key, value) in [(&[0], &[0, 0, 0, 0][..]), (&[0], &[1]), (&[0], &[]), (&[1], &[1])] {
            let store = store_with(key, value).await;
            assert!(matches!(open_schema(&store).await, Err(StoreError::Corrupt { .. })), "{key:?} {value:?}");
        }
    }
}
