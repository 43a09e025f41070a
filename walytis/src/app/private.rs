//! Private content: the open private ledgers of this node's identities.
//!
//! The ledger `main` of every identity is open from the start. Other layers, on the identity's chain and on those bound to it,
//! are opened when a record of theirs stands on the chain, so that this node fetches and serves their contents whether or
//! not anybody here looks at them.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use walytis_core::clock::{Clock, Entropy};
use walytis_core::id::{BlockId, ChainId};
use walytis_core::ledger::{BlockInfo, LedgerControl as _, LedgerEvent, LedgerRead as _, Query, SubscribeFrom};
use walytis_core::store::keys::Space;
use walytis_core::store::{Batch, BlobStore, Direction, Durability, KeyRange, KvStore};
use walytis_identities::id::Did;
use walytis_identities::identity::Identity as _;
use walytis_identities::node::{Identities, IdentityHandle};
use walytis_offchain::{LAYER_MAX, OffchainExchange, PrivateLedger, PrivateParts};

use super::log::LogStream;
use super::{App, ByteRange, Opened, bound, changes, convert, log};
use crate::failure::{Failure, Kind, causes};
use crate::view;

/// The layer that every identity has.
pub(super) const MAIN_LAYER: &str = "main";
/// Most private ledgers open at once. Chosen: bounds what a member can make others open by inventing layers.
const LEDGERS_MAX: usize = 1_024;
/// Name of the durable subscriber that looks for layers.
const LAYER_WATCH: &str = "walytis/layers";

/// The open private ledgers.
#[derive(Clone, Debug)]
pub(super) struct Ledgers {
    parts: Arc<LedgerParts>,
    open: Arc<Mutex<BTreeMap<(ChainId, String), PrivateLedger>>>,
    watchers: Arc<Mutex<JoinSet<()>>>,
    /// Chains that are watched for layers, and identities that are watched for bound chains, by their own.
    watched: Arc<Mutex<BTreeSet<(Watch, ChainId)>>>,
    stop: CancellationToken,
}

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Watch {
    Layers,
    Chains,
}

/// What ledgers are opened with.
#[derive(Debug)]
pub(super) struct LedgerParts {
    pub(super) exchange: OffchainExchange,
    pub(super) store: Arc<dyn KvStore>,
    pub(super) blobs: Arc<dyn BlobStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
}

impl Ledgers {
    pub(super) fn new(parts: LedgerParts) -> Self {
        Self {
            parts: Arc::new(parts),
            open: Arc::default(),
            watchers: Arc::default(),
            watched: Arc::default(),
            stop: CancellationToken::new(),
        }
    }

    /// Opens what each identity has, and watches for new layers. One identity's failure does not harm another. May be
    /// called again: what is open stays as it is.
    pub(super) async fn open_all(&self, identities: &Identities) {
        for info in identities.list() {
            if let Err(failure) = self.watch(identities, info.did).await {
                tracing::error!(did = ?info.did, %failure, "the private ledgers of an identity stay closed");
            }
        }
    }

    /// Opens what comes later, too: a node joins by itself what another device of one of its identities has joined.
    pub(super) async fn follow(&self, identities: &Identities) {
        let (ledgers, identities, stop) = (self.clone(), identities.clone(), self.stop.clone());
        let mut changes = identities.changes();
        self.watchers.lock().await.spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    changed = changes.changed() => if changed.is_err() { return },
                }
                ledgers.open_all(&identities).await;
            }
        });
    }

    /// Opens the main ledger of an identity, and watches its chain and those bound to it for others.
    pub(super) async fn watch(&self, identities: &Identities, did: Did) -> Result<(), Failure> {
        let handle = identities.identity(&did)?;
        self.ledger(&handle, MAIN_LAYER).await?;
        self.watch_layers(handle.clone()).await;
        self.watch_bound(identities, &handle).await;
        let (ledgers, identities) = (self.clone(), identities.clone());
        let follow = Box::pin(async move {
            let mut changes = handle.changes();
            while changes.changed().await.is_ok() {
                ledgers.watch_bound(&identities, &handle).await;
            }
        });
        self.spawn(Watch::Chains, did.chain(), follow).await;
        Ok(())
    }

    async fn watch_bound(&self, identities: &Identities, handle: &IdentityHandle) {
        let did = handle.did();
        for bound in identities.bound_chains(&did).unwrap_or_default() {
            if let Ok(handle) = identities.identity_on(&did, &bound.id) {
                self.watch_layers(handle).await;
            }
        }
    }

    async fn watch_layers(&self, handle: IdentityHandle) {
        let ledgers = self.clone();
        let chain = handle.chain().core().id();
        self.spawn(Watch::Layers, chain, Box::pin(ledgers.open_new_layers(handle))).await;
    }

    /// Runs until the end what looks for something on a chain, unless it runs already.
    async fn spawn(&self, watch: Watch, chain: ChainId, work: BoxFuture<'static, ()>) {
        if !self.watched.lock().await.insert((watch, chain)) {
            return;
        }
        let (watched, stop) = (Arc::clone(&self.watched), self.stop.clone());
        self.watchers.lock().await.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = work => {}
            }
            watched.lock().await.remove(&(watch, chain));
        });
    }

    async fn open_new_layers(self, handle: IdentityHandle) {
        let chain = handle.chain().core().id();
        let subscribed = handle.chain().subscribe(SubscribeFrom::Name(LAYER_WATCH.into())).await;
        let Ok(mut events) = subscribed else { return };
        // Layers seen before the last start: cheap, for the topic index knows them.
        let mut known = BTreeSet::new();
        for layer in self.stored_layers(&chain).await {
            self.open_quietly(&handle, &layer).await;
            known.insert(layer);
        }
        while let Ok(Some(event)) = events.next().await {
            if let LedgerEvent::Block(info) = &event {
                let layers = info.topics.iter().filter_map(|topic| topic.overlay_text("offchain"));
                for layer in layers.filter(|layer| check_layer(layer).is_ok()) {
                    if known.insert(layer.to_owned()) && self.remember(&chain, layer).await {
                        self.open_quietly(&handle, layer).await;
                    }
                }
            }
            if events.ack(event.cursor()).await.is_err() {
                return;
            }
        }
    }

    async fn open_quietly(&self, handle: &IdentityHandle, layer: &str) {
        if let Err(failure) = self.ledger(handle, layer).await {
            tracing::warn!(chain = ?handle.chain().core().id(), %layer, %failure, "a private ledger stays closed");
        }
    }

    /// Returns a ledger on the chain that the handle judges, opened if it was not.
    pub(super) async fn ledger(&self, handle: &IdentityHandle, layer: &str) -> Result<PrivateLedger, Failure> {
        let key = (handle.chain().core().id(), layer.to_owned());
        let mut open = self.open.lock().await;
        if let Some(ledger) = open.get(&key) {
            return Ok(ledger.clone());
        }
        if open.len() >= LEDGERS_MAX {
            return Err(Failure::new(
                Kind::Refused,
                format!("{LEDGERS_MAX} private ledgers are open already"),
                "use one of the layers there are",
            ));
        }
        let ledger = PrivateLedger::open(PrivateParts {
            identity: Arc::new(handle.clone()),
            chain: handle.chain().clone(),
            layer: layer.to_owned(),
            exchange: Some(self.parts.exchange.clone()),
            store: Arc::clone(&self.parts.store),
            blobs: Arc::clone(&self.parts.blobs),
            clock: Arc::clone(&self.parts.clock),
            entropy: Arc::clone(&self.parts.entropy),
        })
        .await?;
        open.insert(key, ledger.clone());
        Ok(ledger)
    }

    async fn stored_layers(&self, chain: &ChainId) -> Vec<String> {
        let prefix = layer_key(chain, "");
        let range = KeyRange::prefix(&prefix);
        let found = self.parts.store.scan(range, Direction::Forward, LEDGERS_MAX).await;
        let names = found.unwrap_or_default();
        let layer = |key: &[u8]| Some(std::str::from_utf8(key.get(prefix.len()..)?).ok()?.to_owned());
        names.iter().filter_map(|(key, _)| layer(key)).collect()
    }

    /// Stores that a chain has a layer; says whether that worked.
    async fn remember(&self, chain: &ChainId, layer: &str) -> bool {
        let mut batch = Batch::new();
        batch.put(layer_key(chain, layer), bytes::Bytes::new());
        let stored = self.parts.store.commit(batch, Durability::Flushed).await;
        if let Err(error) = &stored {
            tracing::warn!(error = %causes(error), "a private layer could not be remembered");
        }
        stored.is_ok()
    }

    /// Ends all ledgers in order.
    pub(super) async fn shutdown(&self) {
        self.stop.cancel();
        self.watchers.lock().await.shutdown().await;
        let open = std::mem::take(&mut *self.open.lock().await);
        for ledger in open.values() {
            ledger.shutdown().await;
        }
    }
}

fn layer_key(chain: &ChainId, name: &str) -> Vec<u8> {
    Space::Program.key(&[b"layer/", chain.digest(), name.as_bytes()])
}

pub(super) fn check_layer(name: &str) -> Result<(), Failure> {
    let usable = |letter: char| !letter.is_control() && letter != bound::ON;
    if (1..=LAYER_MAX).contains(&name.len()) && name.chars().all(usable) {
        return Ok(());
    }
    let hint = format!("1 to {LAYER_MAX} bytes without control characters; behind {} the name of a chain", bound::ON);
    Err(Failure::usage(format!("not a usable layer name: {name:?}"), hint))
}

/// Finds a block of this ledger by id or prefix.
async fn find(ledger: &PrivateLedger, handle: &IdentityHandle, text: &str) -> Result<BlockInfo, Failure> {
    let id: BlockId = handle.chain().find(text).await?;
    let found = ledger.get(&id).await?;
    found.ok_or_else(|| Failure::not_found(format!("no block \"{text}\" in this private ledger"), "list them with log"))
}

impl App {
    /// Returns a private ledger of an identity; `layer` may name a chain behind `@`.
    pub(super) async fn private(
        &self,
        identity: &str,
        layer: &str,
    ) -> Result<(PrivateLedger, IdentityHandle), Failure> {
        let (layer, chain) = bound::split(layer)?;
        let did = self.identities.find(identity)?;
        let handle = bound::identity_on(&self.identities, &did, chain)?;
        Ok((self.ledgers.ledger(&handle, layer).await?, handle))
    }

    /// Lists private blocks.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn private_log(&self, identity: &str, layer: &str, query: view::LogQuery) -> Result<LogStream, Failure> {
        let source = self.private_source(identity, layer).await?;
        match query.retry {
            true => self.desk.follow(&source, &query, convert::private_block).await,
            false => log::blocks(source, &query, convert::private_block).await,
        }
    }

    /// Returns one page of private blocks.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn private_page(
        &self,
        identity: &str,
        layer: &str,
        query: view::LogQuery,
    ) -> Result<view::Page, Failure> {
        log::page(&self.private_source(identity, layer).await?, &query, convert::private_block).await
    }

    /// Lists durable subscribers.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn private_subscribers(&self, identity: &str, layer: &str) -> Result<Vec<view::Subscriber>, Failure> {
        self.desk.subscribers(&self.private_source(identity, layer).await?).await
    }

    /// Acknowledges for a durable subscriber, or says that an event could not be handled.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn private_acknowledge(
        &self,
        identity: &str,
        layer: &str,
        name: &str,
        ack: view::Acknowledge,
    ) -> Result<(), Failure> {
        self.desk.acknowledge(&self.private_source(identity, layer).await?, name, ack).await
    }

    /// Removes a durable subscriber.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn private_unsubscribe(&self, identity: &str, layer: &str, name: &str) -> Result<(), Failure> {
        log::unsubscribe(&self.private_source(identity, layer).await?, name).await
    }

    /// Opens private content as it stands, or a part of it; `only_of`: a part only if the content is still the one of
    /// this name.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn private_content(
        &self,
        identity: &str,
        layer: &str,
        block: &str,
        part: Option<ByteRange>,
        only_of: Option<&str>,
    ) -> Result<Opened, Failure> {
        changes::content(&self.private_source(identity, layer).await?, block, part, only_of).await
    }

    /// Shows one private block and who stands for it.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn private_show(&self, identity: &str, layer: &str, block: &str) -> Result<view::PrivateBlock, Failure> {
        let (ledger, handle) = self.private(identity, layer).await?;
        let info = find(&ledger, &handle, block).await?;
        let who = ledger.authorship(&info.id).await?;
        let hybrid = who.as_ref().is_some_and(|who| who.hybrid);
        let checkpoint = who.and_then(|who| who.checkpoint).map(|id| id.to_string());
        Ok(view::PrivateBlock { block: convert::private_block(&info), checkpoint, hybrid })
    }

    /// Follows how private contents come nearer: all of a ledger, or one until it has come to its end.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn private_progress(
        &self,
        identity: &str,
        layer: &str,
        block: Option<&str>,
    ) -> Result<BoxStream<'static, Result<view::ContentProgress, Failure>>, Failure> {
        let (ledger, handle) = self.private(identity, layer).await?;
        // Before it is looked at, so that no step is missed in between.
        let steps = ledger.progress();
        let one = match block {
            Some(block) => Some(find(&ledger, &handle, block).await?),
            None => None,
        };
        let missing = ledger.missing();
        let show = |content: view::ContentStatus, (missing_contents, missing_bytes): (u64, u64)| {
            view::ContentProgress { content, missing_contents, missing_bytes }
        };
        let first = one.as_ref().map(|info| Ok(show(convert::content_status(info), missing)));
        let id = one.map(|info| info.id);
        let steps = steps.try_filter(move |step| ready(id.is_none_or(|id| id == step.block.id))).map(move |step| {
            let step = step?;
            let content = view::ContentStatus {
                id: step.block.id.to_string(),
                state: step.block.state.name().to_owned(),
                bytes_done: step.block.bytes_done,
                bytes_total: step.block.bytes_total,
            };
            Ok(show(content, (step.missing_contents, step.missing_bytes)))
        });
        let all = stream::iter(first).chain(steps).boxed();
        // Ends with the step that is the last one, not when another one would follow it.
        let until_the_end = stream::unfold(Some(all), move |rest| async move {
            let mut rest = rest?;
            let step = rest.next().await?;
            let state = step.as_ref().map_or("", |step: &view::ContentProgress| step.content.state.as_str());
            let ends = id.is_some() && matches!(state, "available" | "forgotten");
            Some((step, (!ends).then_some(rest)))
        });
        Ok(until_the_end.boxed())
    }

    /// Shows what is here of private contents.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn private_status(
        &self,
        identity: &str,
        layer: &str,
        block: Option<&str>,
    ) -> Result<Vec<view::ContentStatus>, Failure> {
        let (ledger, handle) = self.private(identity, layer).await?;
        if let Some(block) = block {
            return Ok(vec![convert::content_status(&find(&ledger, &handle, block).await?)]);
        }
        let blocks: Vec<BlockInfo> = ledger.query(Query::default()).await?.try_collect().await?;
        Ok(blocks.iter().map(convert::content_status).collect())
    }
}
