//! Which layers of a chain are opened by themselves, and remembered.
//!
//! Whoever may write on a chain can invent layers, and each that is opened costs everybody memory and a task. So only a
//! share of a chain's layers is opened by itself, and of one author's; what the owner of this node opened counts for
//! neither. Each stands in the store, `layer/` ‖ chain ‖ name, with `0x01` ‖ why: 0 the owner wants it, 1 and the
//! controller that wrote there.

use std::collections::BTreeMap;
use std::sync::Arc;

use walytis_core::id::ChainId;
use walytis_core::store::keys::Space;
use walytis_core::store::{Batch, Direction, Durability, KeyRange, KvStore, StoreError};
use walytis_identities::id::ControllerId;

const VERSION: u8 = 0x01;
/// Rows read at once.
const PAGE: usize = 256;

/// How many layers are opened by themselves.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayerBounds {
    /// Of one chain.
    pub(super) of_chain: usize,
    /// Of one chain because of one author.
    pub(super) of_author: usize,
}

impl Default for LayerBounds {
    /// Chosen: some megabytes a chain, and one author leaves as many to all others.
    fn default() -> Self {
        Self { of_chain: 128, of_author: 64 }
    }
}

/// Why a layer is opened by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The owner of this node opened it, or every identity has it.
    Wanted,
    /// A record of this author counts.
    Found(ControllerId),
}

impl Why {
    fn encode(self) -> Vec<u8> {
        match self {
            Self::Wanted => vec![VERSION, 0],
            Self::Found(author) => [&[VERSION, 1], author.to_string().as_bytes()].concat(),
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [VERSION, 0] => Some(Self::Wanted),
            [VERSION, 1, author @ ..] => Some(Self::Found(std::str::from_utf8(author).ok()?.parse().ok()?)),
            _ => None,
        }
    }
}

/// The layers of one chain that are opened by themselves.
#[derive(Debug)]
pub(super) struct Layers {
    store: Arc<dyn KvStore>,
    chain: ChainId,
    bounds: LayerBounds,
    known: BTreeMap<String, Why>,
}

impl Layers {
    /// Reads those of a chain.
    pub(super) async fn load(store: Arc<dyn KvStore>, chain: ChainId, bounds: LayerBounds) -> Result<Self, StoreError> {
        let prefix = key(&chain, "");
        let (mut range, mut known) = (KeyRange::prefix(&prefix), BTreeMap::new());
        loop {
            let page = store.scan(range.clone(), Direction::Forward, PAGE).await?;
            for (key, value) in &page {
                let name = key.get(prefix.len()..).and_then(|name| std::str::from_utf8(name).ok());
                let row = name.zip(Why::decode(value)).ok_or_else(|| StoreError::corrupt(key, "it does not decode"))?;
                known.insert(row.0.to_owned(), row.1);
            }
            match page.last() {
                Some((key, _)) if page.len() == PAGE => range.start = [key, &[0][..]].concat(),
                _ => return Ok(Self { store, chain, bounds, known }),
            }
        }
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.known.keys().cloned().collect()
    }

    pub(super) fn knows(&self, layer: &str) -> bool {
        self.known.contains_key(layer)
    }

    /// Says whether one more can be opened for this reason.
    pub(super) fn admits(&self, why: Why) -> bool {
        let Why::Found(_) = why else { return true };
        let found = self.known.values().filter(|known| **known != Why::Wanted).count();
        let of_author = self.known.values().filter(|known| **known == why).count();
        found < self.bounds.of_chain && of_author < self.bounds.of_author
    }

    /// Remembers one more.
    pub(super) async fn remember(&mut self, layer: &str, why: Why) -> Result<(), StoreError> {
        remember(&*self.store, &self.chain, layer, why).await?;
        self.known.insert(layer.to_owned(), why);
        Ok(())
    }
}

/// Stores that a layer is opened by itself from the next start on.
pub(super) async fn remember(store: &dyn KvStore, chain: &ChainId, layer: &str, why: Why) -> Result<(), StoreError> {
    let mut batch = Batch::new();
    batch.put(key(chain, layer), why.encode());
    store.commit(batch, Durability::Flushed).await.map(drop)
}

fn key(chain: &ChainId, layer: &str) -> Vec<u8> {
    Space::Program.key(&[b"layer/", chain.digest(), layer.as_bytes()])
}

#[cfg(test)]
mod tests {
    use walytis_core::id::BlockId;
    use walytis_core::store::MemoryStore;
    use walytis_identities::id::{DeviceId, Did};

    use super::*;

    #[tokio::test]
    async fn shares_bound_what_is_found_not_what_is_wanted_and_outlive_a_restart() {
        let chain = ChainId(BlockId::of_file(b"chain"));
        let (a, b) = (ControllerId::Device(DeviceId([1; 32])), ControllerId::Identity(Did(chain)));
        let bounds = LayerBounds { of_chain: 3, of_author: 2 };
        let store: Arc<dyn KvStore> = Arc::new(MemoryStore::new());
        let mut layers = Layers::load(Arc::clone(&store), chain, bounds).await.unwrap();
        for (layer, why) in [("1", Why::Found(a)), ("2", Why::Found(a)), ("3", Why::Wanted)] {
            assert!(layers.admits(why));
            layers.remember(layer, why).await.unwrap();
        }
        assert!(!layers.admits(Why::Found(a)) && layers.admits(Why::Found(b)));
        layers.remember("4", Why::Found(b)).await.unwrap();
        let mut again = Layers::load(store, chain, bounds).await.unwrap();
        assert_eq!(again.known, layers.known);
        assert!(!again.admits(Why::Found(b)) && again.admits(Why::Wanted));
        // What its owner wants takes no place any more.
        again.remember("1", Why::Wanted).await.unwrap();
        assert!(again.admits(Why::Found(b)) && again.knows("1") && again.names() == ["1", "2", "3", "4"]);
    }
}
