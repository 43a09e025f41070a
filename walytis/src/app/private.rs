//! Private content: the open private ledgers of this node's identities.
//!
//! The ledger `main` of every identity is open from the start, `inbox` with its first record. Other layers, on the identity's
//! chain and on those bound to it, are opened when a record of theirs that counts stands on the chain, so that this node
//! fetches and serves their contents whether or not anybody here looks at them: a share of them, see [`layers`]. What is
//! opened by name opens in any case, and again from then on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use walytis_core::clock::{Clock, Entropy};
use walytis_core::id::{BlockId, ChainId};
use walytis_core::ledger::{
    BlockInfo, Cursor, LedgerControl as _, LedgerError, LedgerEvent, LedgerRead as _, Query, SubscribeFrom,
};
use walytis_core::store::{BlobStore, KvStore};
use walytis_identities::id::Did;
use walytis_identities::identity::{Identity as _, Judgement};
use walytis_identities::node::{Identities, IdentityHandle};
use walytis_offchain::inbox::INBOX_LAYER;
use walytis_offchain::{LAYER_MAX, OffchainExchange, PrivateLedger, PrivateParts, UnopenedRecord};

use super::layers::{self, LayerBounds, Layers, Why};
use super::log::LogStream;
use super::{App, ByteRange, Opened, bound, changes, convert, log};
use crate::failure::{Failure, causes};
use crate::view;

/// The layer that every identity has.
pub(super) const MAIN_LAYER: &str = "main";
/// Records of one chain that are looked at again when more of the identity is known. Chosen: far fewer than a subscriber
/// may leave unacknowledged; of a layer whose record was given up the next record is looked at.
const WAITING_MAX: usize = 64;
/// How long looking for layers rests after the store failed.
const REST: Duration = Duration::from_secs(5);
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
    pub(super) bounds: LayerBounds,
}

/// What became of looking at a record.
enum Looked {
    Done,
    /// What its author was allowed to do is not known yet.
    Waits,
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
        while let Err(error) = self.look_for_layers(&handle).await {
            if !matches!(error, LedgerError::Store(_) | LedgerError::Blob(_)) {
                tracing::debug!(?chain, error = %causes(&error), "no private layers are looked for any more");
                return;
            }
            tracing::warn!(?chain, error = %causes(&error), "private layers are looked for again in a while");
            tokio::time::sleep(REST).await;
        }
    }

    async fn look_for_layers(&self, handle: &IdentityHandle) -> Result<(), LedgerError> {
        let chain = handle.chain().core().id();
        let mut events = handle.chain().subscribe(SubscribeFrom::Name(LAYER_WATCH.into())).await?;
        let mut layers = Layers::load(Arc::clone(&self.parts.store), chain, self.parts.bounds).await?;
        for layer in layers.names() {
            self.open_quietly(handle, &layer).await;
        }
        let mut changes = handle.changes();
        // Not acknowledged, so that they come again after a restart.
        let mut waiting: VecDeque<(Cursor, BlockInfo)> = VecDeque::new();
        loop {
            tokio::select! {
                biased;
                changed = changes.changed(), if !waiting.is_empty() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    for (cursor, info) in std::mem::take(&mut waiting) {
                        match self.look(handle, &mut layers, &info).await? {
                            Looked::Done => events.ack_one(cursor).await?,
                            Looked::Waits => waiting.push_back((cursor, info)),
                        }
                    }
                }
                event = events.next() => {
                    let Some(event) = event? else { return Ok(()) };
                    let cursor = event.cursor();
                    match event {
                        LedgerEvent::Block(info) if matches!(self.look(handle, &mut layers, &info).await?, Looked::Waits) => {
                            waiting.push_back((cursor, info));
                        }
                        _ => events.ack_one(cursor).await?,
                    }
                    if waiting.len() > WAITING_MAX && let Some((given_up, _)) = waiting.pop_front() {
                        events.ack_one(given_up).await?;
                    }
                }
            }
        }
    }

    /// Opens the layer of a block, if it is a record that counts and there is a place for it.
    async fn look(
        &self,
        handle: &IdentityHandle,
        layers: &mut Layers,
        info: &BlockInfo,
    ) -> Result<Looked, LedgerError> {
        let [topic] = info.topics.as_slice() else { return Ok(Looked::Done) };
        let layer = topic.overlay_text("offchain").filter(|layer| check_layer(layer).is_ok() && !layers.knows(layer));
        let Some(layer) = layer else { return Ok(Looked::Done) };
        let why = if self.is_open(&handle.chain().core().id(), layer).await {
            Why::Wanted
        } else {
            let record = UnopenedRecord::read(handle, handle.chain(), &info.id).await?;
            let Some(record) = record else { return Ok(Looked::Done) };
            let why = if layer == INBOX_LAYER { Why::Wanted } else { Why::Found(record.author()) };
            // Before it is judged, and nothing is logged: how often this happens others decide.
            if !layers.admits(why) {
                return Ok(Looked::Done);
            }
            match record.judge(handle).await {
                Judgement::Valid => why,
                Judgement::Wait => return Ok(Looked::Waits),
                Judgement::Void(_) => return Ok(Looked::Done),
            }
        };
        layers.remember(layer, why).await?;
        self.open_quietly(handle, layer).await;
        Ok(Looked::Done)
    }

    async fn is_open(&self, chain: &ChainId, layer: &str) -> bool {
        self.open.lock().await.contains_key(&(*chain, layer.to_owned()))
    }

    async fn open_quietly(&self, handle: &IdentityHandle, layer: &str) {
        if let Err(failure) = self.ledger(handle, layer).await {
            tracing::warn!(chain = ?handle.chain().core().id(), %layer, %failure, "a private ledger stays closed");
        }
    }

    /// Returns a ledger that the owner of this node names, opened if it was not. One in which something stands is opened by
    /// itself from then on, whatever others have used up.
    pub(super) async fn wanted(&self, handle: &IdentityHandle, layer: &str) -> Result<PrivateLedger, Failure> {
        let chain = handle.chain().core().id();
        let was_open = self.is_open(&chain, layer).await;
        let ledger = self.ledger(handle, layer).await?;
        if !was_open && ledger.count().await? > 0 {
            layers::remember(&*self.parts.store, &chain, layer, Why::Wanted).await?;
        }
        Ok(ledger)
    }

    /// Returns a ledger on the chain that the handle judges, opened if it was not.
    pub(super) async fn ledger(&self, handle: &IdentityHandle, layer: &str) -> Result<PrivateLedger, Failure> {
        let key = (handle.chain().core().id(), layer.to_owned());
        let mut open = self.open.lock().await;
        if let Some(ledger) = open.get(&key) {
            return Ok(ledger.clone());
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
        Ok((self.ledgers.wanted(&handle, layer).await?, handle))
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

#[cfg(test)]
mod tests;
