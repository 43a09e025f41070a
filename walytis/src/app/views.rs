//! Ledgers as users see them: plain as long as nobody has changed a block on them, otherwise through a mutable ledger.
//!
//! ```text
//!   Source ── nothing was ever changed ──► Plain: the ledger itself, at no cost
//!          └─ a block was changed ───────► Changed: a mutable ledger, opened at first use and kept open
//! ```
//!
//! Cursors of logs are the same in both. Private ledgers are always read through a mutable one, so that their followers
//! have one numbering; chains switch with the first change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::Mutex;
use tokio::time::timeout;
use walytis_core::chain::Chain;
use walytis_core::id::{BlockId, ChainId};
use walytis_core::ledger::{BlockInfo, Ledger, LedgerControl as _, LedgerError, LedgerRead, Query};
use walytis_core::store::KvStore;
use walytis_core::topic::Topic;
use walytis_mutability::op::OVERLAY;
use walytis_mutability::rights::Rights;
use walytis_mutability::{MutableLedger, MutableParts, remove_index};

use crate::failure::{Failure, causes};

/// How long a log waits until everything that is here is taken in. Chosen: a person's patience; then what is shown is as
/// old as that.
const PATIENCE: Duration = Duration::from_secs(10);
/// What follows the overlay's name in the topics of changes.
const CHANGES: [&str; 3] = ["", "rights", "content"];

type Key = (ChainId, String);
type Slot = Arc<Mutex<Option<MutableLedger>>>;

/// The open mutable ledgers of this node. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Views {
    store: Arc<dyn KvStore>,
    open: Arc<Mutex<BTreeMap<Key, Slot>>>,
}

impl Views {
    pub(super) fn new(store: Arc<dyn KvStore>) -> Self {
        Self { store, open: Arc::default() }
    }

    /// Returns the mutable ledger over another, opened if it was not.
    async fn open(&self, source: &Source) -> Result<MutableLedger, LedgerError> {
        let key = (source.ledger.id(), source.name.clone());
        let slot = Arc::clone(self.open.lock().await.entry(key).or_default());
        let mut slot = slot.lock().await;
        if let Some(open) = slot.as_ref() {
            // One that was shut down with its chain, or stopped at damage that has been mended, is opened anew.
            if open.check().is_ok() {
                return Ok(open.clone());
            }
            open.shutdown().await;
        }
        let parts = MutableParts {
            below: Arc::clone(&source.ledger),
            name: source.name.clone(),
            rights: Arc::clone(&source.rights),
            store: Arc::clone(&self.store),
        };
        let opened = MutableLedger::open(parts).await?;
        *slot = Some(opened.clone());
        Ok(opened)
    }

    /// Closes what is open over a chain and removes its index, which follows from the blocks.
    pub(super) async fn remove(&self, chain: &ChainId) -> Result<(), LedgerError> {
        let open: Vec<(Key, Slot)> = self.open.lock().await.extract_if(.., |(id, _), _| id == chain).collect();
        let mut names = vec![String::new()];
        for ((_, name), slot) in open {
            if let Some(ledger) = slot.lock().await.take() {
                ledger.shutdown().await;
            }
            names.push(name);
        }
        for name in names {
            remove_index(Arc::clone(&self.store), chain, &name).await?;
        }
        Ok(())
    }

    /// Ends all of them in order.
    pub(super) async fn shutdown(&self) {
        let open = std::mem::take(&mut *self.open.lock().await);
        for slot in open.into_values() {
            if let Some(ledger) = slot.lock().await.take() {
                ledger.shutdown().await;
            }
        }
    }
}

/// A ledger and how it is read.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) ledger: Arc<dyn Ledger>,
    /// Where ids are looked up.
    pub(super) chain: Chain,
    /// Tells it from others on the same chain.
    pub(super) name: String,
    pub(super) rights: Arc<dyn Rights>,
    pub(super) read: Reading,
    pub(super) views: Views,
}

/// How a ledger is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// As it is: nobody can change blocks on it.
    Plain,
    /// As it is until a block is changed.
    Lazy,
    /// Always through a mutable ledger.
    Changed,
}

/// A ledger as it is read now.
#[derive(Clone, Debug)]
pub(super) enum View {
    Plain(Arc<dyn Ledger>),
    Changed(MutableLedger),
}

impl Source {
    /// Returns the ledger as users see it now.
    pub(super) async fn view(&self) -> Result<View, Failure> {
        let plain = || View::Plain(Arc::clone(&self.ledger));
        let changed = match self.read {
            Reading::Plain => false,
            Reading::Lazy => self.has_changes().await?,
            Reading::Changed => true,
        };
        if !changed {
            return Ok(plain());
        }
        match self.changed().await {
            Ok(view) => Ok(View::Changed(view)),
            // What can be read without the index is worth showing.
            Err(error @ (LedgerError::Locked | LedgerError::Damaged { .. })) => {
                tracing::warn!(ledger = ?self.ledger, error = %causes(&error), "shown without changes");
                Ok(plain())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the mutable ledger, level with what is here.
    pub(super) async fn changed(&self) -> Result<MutableLedger, LedgerError> {
        let changed = self.views.open(self).await?;
        match timeout(PATIENCE, changed.level()).await {
            Ok(level) => level?,
            Err(_) => tracing::warn!(ledger = ?self.ledger, "the newest changes are not taken in yet"),
        }
        Ok(changed)
    }

    async fn has_changes(&self) -> Result<bool, LedgerError> {
        let topics_any = CHANGES.iter().filter_map(|text| Topic::overlay(OVERLAY, text).ok()).collect();
        let any = Query { topics_any, include_void: true, limit: Some(1), ..Query::default() };
        Ok(self.ledger.query(any).await?.next().await.transpose()?.is_some())
    }

    /// Returns the block of this chain that a text names; it may belong to another ledger on it.
    pub(super) async fn find(&self, text: &str) -> Result<BlockId, Failure> {
        find(&self.chain, text).await
    }
}

/// Finds a block: an id, the beginning of one, or `@N`: its place in canonical order, from 0, below 0 from the end.
pub(super) async fn find(chain: &Chain, text: &str) -> Result<BlockId, Failure> {
    let Some(place) = text.strip_prefix('@') else { return Ok(chain.find(text).await?) };
    let place = place.parse().map_err(|_| {
        Failure::usage(format!("not a place: {text}"), "write @0 for the first block, @-1 for the last")
    })?;
    Ok(chain.at(place).await?.id)
}

/// Says whether a block is part of a change: from it on, followers are told of changes.
pub(super) fn is_change(info: &BlockInfo) -> bool {
    info.topics.iter().filter_map(|topic| topic.overlay_text(OVERLAY)).any(|text| CHANGES.contains(&text))
}
