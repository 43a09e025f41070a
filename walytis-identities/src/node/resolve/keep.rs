//! What is kept of resolved identities, in memory and in the store.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};
use walytis_core::block::Block;
use walytis_core::store::{Batch, Durability, KvStore, StoreError};

use super::super::error::IdentitiesResult;
use super::super::open;
use super::super::records;
use super::super::rows::Rows;
use super::super::runtime::Identities;
use super::cache::Cache;
use super::foreign::Foreign;
use super::shelf_v1::{self, ForeignRecord};
use crate::id::Did;
use crate::state::AuthorityGraph;

/// Identities that nobody asked for and that are resolved at the same time. Chosen: what each may hold in memory
/// meanwhile is [`bytes_max`](super::Terms) for every node asked.
const UNASKED_AT_ONCE: usize = 4;

/// The resolved identities of a node.
#[derive(Debug)]
pub(in crate::node) struct Foreigners {
    cache: Mutex<Cache<Foreign>>,
    /// One at a time writes or deletes what is stored of them.
    writing: tokio::sync::Mutex<()>,
    unasked: Semaphore,
}

impl Default for Foreigners {
    fn default() -> Self {
        let (cache, writing) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { cache, writing, unasked: Semaphore::new(UNASKED_AT_ONCE) }
    }
}

impl Foreigners {
    fn cache(&self) -> MutexGuard<'_, Cache<Foreign>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, did: &Did) -> Option<Foreign> {
        self.cache().get(did)
    }

    pub(super) fn keep(&self, did: &Did, fresh: Foreign) -> Foreign {
        self.cache().keep(did, fresh)
    }

    /// Lets go of one that is in memory only.
    pub(super) fn drop_unstored(&self, did: &Did) {
        let mut cache = self.cache();
        if cache.get(did).is_some_and(|one| !one.is_stored()) {
            cache.remove(did);
        }
    }

    /// Lets go of what is too much in memory.
    pub(super) fn shrink(&self) {
        self.cache().shrink();
    }

    /// Returns a place to resolve an identity that nobody asked for; nothing if too many are being resolved.
    pub(super) fn unasked(&self) -> Option<SemaphorePermit<'_>> {
        self.unasked.try_acquire().ok()
    }

    /// Ends what is known of one that is an identity of this node from now on: what still arrives of it is not stored.
    pub(in crate::node) fn end(&self, did: &Did, batch: &mut Batch) {
        if let Some(foreign) = self.cache().remove(did) {
            foreign.known().unshelve();
        }
        shelf_v1::delete(&did.chain(), batch);
    }
}

/// Where ops go that arrive of a resolved identity.
pub(super) struct Shelf<'a> {
    pub(super) foreigners: &'a Foreigners,
    pub(super) store: &'a dyn KvStore,
}

impl Shelf<'_> {
    /// Stores what is new of an identity, if that one is stored.
    pub(super) async fn add(&self, foreign: &Foreign, batch: Batch) -> Result<(), StoreError> {
        if batch.is_empty() || !foreign.is_stored() {
            return Ok(());
        }
        let _turn = self.foreigners.writing.lock().await;
        // It may have been pushed out meanwhile.
        if !foreign.is_stored() {
            return Ok(());
        }
        // Lost in a power cut they are asked for again.
        self.store.commit(batch, Durability::Buffered).await
    }
}

/// Reads a resolved identity from the store.
pub(in crate::node) async fn stored(store: &dyn KvStore, did: &Did) -> IdentitiesResult<(AuthorityGraph, Block, Rows)> {
    open::load(store, did, Rows::foreign()).await
}

impl Identities {
    /// Keeps what is known of a resolved identity beyond this run of the program. `asked`: the user names it or deals with
    /// it; such ones are not pushed out by strangers. An identity of this node, or one that is not known, changes nothing.
    ///
    /// # Errors
    /// [`IdentitiesError::Store`](super::super::error::IdentitiesError::Store).
    pub async fn remember(&self, did: &Did, asked: bool) -> IdentitiesResult<()> {
        let Some(foreign) = self.cached(did).await? else { return Ok(()) };
        Ok(self.shelve(did, &foreign, asked).await?)
    }

    /// Stores what is known of an identity and goes on doing so.
    pub(super) async fn shelve(&self, did: &Did, foreign: &Foreign, asked: bool) -> Result<(), StoreError> {
        let (foreigners, store) = (&self.inner.foreign, &*self.inner.tools.store);
        let _turn = foreigners.writing.lock().await;
        if self.entry(did).is_ok() {
            return Ok(());
        }
        let batch = foreign.known().shelve(asked, self.inner.tools.clock.now_ms());
        let Some(batch) = batch else { return Ok(()) };
        if let Err(error) = store.commit(batch, Durability::Buffered).await {
            foreign.known().unshelve();
            return Err(error);
        }
        self.push_out(did).await
    }

    /// Deletes stored identities that are too many or too much.
    async fn push_out(&self, but: &Did) -> Result<(), StoreError> {
        let store = &*self.inner.tools.store;
        let mut all = BTreeMap::new();
        for (key, value) in records::all(store, &shelf_v1::all_records()).await? {
            if let Some(chain) = records::chain_of(&key) {
                all.insert(Did(chain), records::decode::<ForeignRecord>(&key, &value)?);
            }
        }
        let mut batch = Batch::new();
        for did in shelf_v1::surplus(&all, but) {
            self.inner.foreign.end(&did, &mut batch);
        }
        if batch.is_empty() { Ok(()) } else { store.commit(batch, Durability::Buffered).await }
    }

    /// Returns what is known of a foreign identity, read from the store where it must be.
    pub(in crate::node) async fn cached(&self, did: &Did) -> IdentitiesResult<Option<Foreign>> {
        let foreigners = &self.inner.foreign;
        if let Some(known) = foreigners.get(did) {
            return Ok(Some(known));
        }
        let store = &*self.inner.tools.store;
        let key = shelf_v1::record(&did.chain());
        let Some(record) = store.get(&key).await? else { return Ok(None) };
        let record = records::decode::<ForeignRecord>(&key, &record)?;
        let (graph, genesis, rows) = stored(store, did).await?;
        let read = Foreign::stored(graph, genesis.file().clone(), rows, record);
        Ok(Some(foreigners.keep(did, read)))
    }
}
