//! The task of a ledger: follows the chain, the identity and the peers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};
use walytis_core::id::{BlockId, PeerId};
use walytis_core::ledger::{Cursor, LedgerError, LedgerEvent, LedgerRead as _, SubscribeFrom, Subscription};
use walytis_core::store::{Batch, Durability, KeyRange, StoreError};

use super::Inner;
use super::settle::Settled;
use super::table::{Meta, Phase, Standing, Stored};
use crate::envelope::EnvelopeId;
use crate::exchange::frame_v1::{Body, Message, Packed};
use crate::exchange::{Event, Fetch};

/// Pushed envelopes kept for records that are not here yet, 48 KiB each at most; the oldest goes first and is fetched.
const EARLY_MAX: usize = 64;
/// Blocks of others on the chain after which the position is written down.
const POSITION_EVERY: u64 = 256;
/// How long a ledger rests after its store failed.
const REST: std::time::Duration = std::time::Duration::from_secs(5);

pub(super) struct Task {
    inner: Arc<Inner>,
    meta: Meta,
    /// Position that stands in the store.
    saved: u64,
    fetch: Fetch,
    /// Records that wait for each envelope.
    waiting: BTreeMap<EnvelopeId, BTreeSet<BlockId>>,
    early: BTreeMap<EnvelopeId, Packed>,
    early_order: VecDeque<EnvelopeId>,
    blocks: Box<dyn Subscription>,
    inbox: mpsc::Receiver<Event>,
    pushed: mpsc::Receiver<(EnvelopeId, Packed)>,
    changes: watch::Receiver<u64>,
}

/// What became of a part.
enum Part {
    /// Checked and stored.
    Stored,
    /// Its envelope has been removed here meanwhile.
    Late,
    /// Not the bytes that its name stands for: the peer lies.
    Wrong,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Task({:?})", self.inner)
    }
}

impl Task {
    pub(super) async fn new(
        inner: Arc<Inner>,
        inbox: mpsc::Receiver<Event>,
        pushed: mpsc::Receiver<(EnvelopeId, Packed)>,
    ) -> Result<Self, LedgerError> {
        let meta = inner.table.meta().await?;
        let blocks = inner.chain.subscribe(SubscribeFrom::Cursor(Cursor(meta.position))).await?;
        let changes = inner.identity.changes();
        let (waiting, early) = (BTreeMap::new(), BTreeMap::new());
        let (fetch, early_order) = (Fetch::default(), VecDeque::new());
        let saved = meta.position;
        Ok(Self { inner, meta, saved, fetch, waiting, early, early_order, blocks, inbox, pushed, changes })
    }

    /// Takes in what the chain has, and judges everything again: the identity may know more than at the last end.
    pub(super) async fn catch_up(&mut self) -> Result<(), LedgerError> {
        self.changes.mark_unchanged();
        self.judge_all().await?;
        let end = self.inner.chain.count().await?;
        while self.meta.position < end {
            match self.blocks.next().await? {
                Some(event) => self.handle_block(&event).await?,
                None => return Err(LedgerError::Closed),
            }
        }
        Ok(())
    }

    pub(super) async fn remove_orphans(&mut self) -> Result<(), LedgerError> {
        let table = &self.inner.table;
        for nonce in table.ids(table.all(b's')).await? {
            table.remove_orphan(nonce.digest()).await?;
        }
        Ok(())
    }

    pub(super) async fn run(mut self) {
        // Where a turn failed that is not done again yet.
        let mut failed: Option<u64> = None;
        loop {
            match self.turn().await {
                Ok(true) => {
                    if failed.take_if(|position| *position <= self.meta.position).is_some() {
                        self.tell_failing(None);
                    }
                }
                Ok(false) => return,
                Err(error @ (LedgerError::Store(_) | LedgerError::Blob(_))) => {
                    warn!(ledger = ?self.inner, %error, "the ledger rests");
                    if failed.replace(self.meta.position).is_some() {
                        self.tell_failing(Some(error));
                    }
                    if !self.recover().await {
                        return;
                    }
                }
                Err(error) => {
                    warn!(ledger = ?self.inner, %error, "the ledger stops");
                    let reason = error.to_string();
                    self.inner.state.send_modify(|state| state.damaged = Some(reason));
                    return;
                }
            }
        }
    }

    /// Rests until what failed half-way is done again from what stands in the store; false at the end. Never goes on
    /// before: the position in memory may be behind a block that was not written down.
    async fn recover(&mut self) -> bool {
        loop {
            tokio::select! {
                biased;
                () = self.inner.stop.cancelled() => return false,
                () = tokio::time::sleep(REST) => {}
            }
            match self.begin_again().await {
                Ok(()) => return true,
                Err(error) => {
                    debug!(ledger = ?self.inner, %error, "the store still fails");
                    self.tell_failing(Some(error));
                }
            }
        }
    }

    /// Tells whoever waits for this task that it may take long, or no longer does.
    fn tell_failing(&self, error: Option<LedgerError>) {
        let failing = error.map(|error| match error {
            LedgerError::Store(error) => error,
            other => StoreError::Io { reason: other.to_string() },
        });
        self.inner.state.send_modify(|state| state.failing = failing);
    }

    async fn begin_again(&mut self) -> Result<(), LedgerError> {
        let meta = self.inner.table.meta().await?;
        self.blocks = self.inner.chain.subscribe(SubscribeFrom::Cursor(Cursor(meta.position))).await?;
        (self.meta, self.saved) = (meta, meta.position);
        self.judge_all().await
    }

    /// Waits for one thing to happen and handles it; false at the end.
    async fn turn(&mut self) -> Result<bool, LedgerError> {
        self.send_requests().await;
        let timeout = self.fetch.poll_timeout();
        let inner = Arc::clone(&self.inner);
        tokio::select! {
            biased;
            () = inner.stop.cancelled() => return Ok(false),
            event = self.blocks.next() => match event? {
                Some(event) => self.handle_block(&event).await?,
                None => return Ok(false),
            },
            Ok(()) = self.changes.changed() => {
                self.judge_all().await?;
            }
            Some((id, packed)) = self.pushed.recv() => self.handle_pushed(id, packed).await?,
            () = sleep_until(timeout.unwrap_or_else(Instant::now)), if timeout.is_some() => {}
            Some(event) = self.inbox.recv() => self.handle_event(event).await?,
        }
        Ok(true)
    }

    async fn send_requests(&mut self) {
        let Some(exchange) = self.inner.exchange.clone() else { return };
        let connected = exchange.connected();
        let peers: Vec<PeerId> =
            self.inner.identity.peers().await.into_iter().filter(|peer| connected.contains(peer)).collect();
        self.fetch.set_peers(&peers);
        self.fetch.handle_time(Instant::now());
        while let Some(send) = self.fetch.poll_send() {
            exchange.send(&send.peer, &Message { ledger: self.inner.table.tag, body: send.body });
        }
        let unavailable: BTreeSet<_> =
            self.waiting.keys().filter(|id| self.fetch.is_unavailable(id)).copied().collect();
        self.inner.state.send_if_modified(|state| {
            let changed = state.unavailable != unavailable;
            state.unavailable = unavailable;
            changed
        });
    }

    async fn handle_block(&mut self, event: &LedgerEvent) -> Result<(), LedgerError> {
        let LedgerEvent::Block(info) = event else { return Ok(()) };
        self.meta.position = info.cursor.0;
        if info.topics == std::slice::from_ref(&self.inner.topic) {
            self.settle(&info.id, true).await?;
        } else if self.meta.position >= self.saved + POSITION_EVERY {
            let mut batch = Batch::new();
            self.inner.table.put_meta(&mut batch, &self.meta);
            self.inner.table.store.commit(batch, Durability::Buffered).await?;
            self.saved = self.meta.position;
        }
        self.publish();
        Ok(())
    }

    fn publish(&self) {
        self.inner.state.send_modify(|state| {
            state.meta = self.meta;
            state.version = state.version.wrapping_add(1);
        });
    }

    /// Settles one record and wants its envelope if that is missing. `first`: the record has just arrived.
    async fn settle(&mut self, id: &BlockId, first: bool) -> Result<(), LedgerError> {
        let Some(placed) = self.inner.placed(id).await? else { return Ok(()) };
        let envelope = placed.record.envelope;
        let own = first && placed.block.header().creator == self.inner.identity.device_signer().public_key();
        let mut settled = self.inner.settle(&placed, &mut self.meta, own).await?;
        if is_wanted(&settled)
            && let Some(packed) = self.early.remove(&envelope)
        {
            self.early_order.retain(|early| *early != envelope);
            self.inner.store_small(&envelope, packed).await?;
            settled = self.inner.settle(&placed, &mut self.meta, false).await?;
        }
        if settled.changed {
            self.saved = self.meta.position;
        }
        if is_wanted(&settled) {
            self.waiting.entry(envelope).or_default().insert(*id);
            if !self.fetch.wants(&envelope) {
                let have = match self.inner.table.stored(&envelope).await? {
                    Some(stored) => Some(self.inner.table.chunks_here(&stored).await?),
                    None => None,
                };
                self.fetch.want(envelope, have);
            }
        } else if let Some(ids) = self.waiting.get_mut(&envelope) {
            ids.remove(id);
            if ids.is_empty() {
                self.waiting.remove(&envelope);
                self.fetch.done(&envelope);
            }
        }
        Ok(())
    }

    /// Judges every record again; cheap for those that nothing changed for.
    async fn judge_all(&mut self) -> Result<(), LedgerError> {
        let range: KeyRange = self.inner.table.all(b'c');
        for id in self.inner.table.ids(range).await? {
            self.settle(&id, false).await?;
        }
        self.publish();
        Ok(())
    }

    async fn handle_pushed(&mut self, id: EnvelopeId, packed: Packed) -> Result<(), LedgerError> {
        if self.waiting.contains_key(&id) {
            self.inner.store_small(&id, packed).await?;
            return self.arrived(&id).await;
        }
        if self.early.insert(id, packed).is_none() {
            self.early_order.push_back(id);
        }
        if self.early_order.len() > EARLY_MAX
            && let Some(oldest) = self.early_order.pop_front()
        {
            self.early.remove(&oldest);
        }
        Ok(())
    }

    /// Everything of an envelope is here: settles what waits for it.
    async fn arrived(&mut self, id: &EnvelopeId) -> Result<(), LedgerError> {
        self.fetch.done(id);
        for block in self.waiting.remove(id).unwrap_or_default() {
            self.settle(&block, false).await?;
        }
        self.publish();
        Ok(())
    }

    async fn handle_event(&mut self, event: Event) -> Result<(), LedgerError> {
        let now = Instant::now();
        match event {
            // Peers are read before every request.
            Event::Peers => {}
            Event::Broken(peer) => self.fetch.handle_break(&peer, now),
            Event::Answer(peer, Body::Have(items)) => self.fetch.handle_have(&peer, &items, now),
            Event::Answer(peer, Body::No(id, part)) => self.fetch.handle_failed(&peer, &id, part, now),
            Event::Answer(peer, Body::Part(id, part, bytes)) if self.fetch.expects(&peer, &id, part) => {
                match self.take_part(&id, part, bytes).await? {
                    Part::Stored if self.fetch.is_complete(&id) => self.arrived(&id).await?,
                    Part::Stored => {}
                    Part::Late => self.fetch.handle_failed(&peer, &id, part, now),
                    Part::Wrong => {
                        self.fetch.handle_failed(&peer, &id, part, now);
                        if let Some(exchange) = &self.inner.exchange {
                            exchange.punish(&peer, "a part is not what it is called");
                        }
                    }
                }
            }
            Event::Answer(..) => {}
        }
        Ok(())
    }

    /// Checks and stores a part that was asked for.
    async fn take_part(&mut self, id: &EnvelopeId, part: u32, bytes: bytes::Bytes) -> Result<Part, LedgerError> {
        let table = &self.inner.table;
        let Some(index) = part.checked_sub(1) else {
            let Some(packed) = Packed::verify(id, &bytes) else { return Ok(Part::Wrong) };
            self.inner.store_small(id, packed.clone()).await?;
            let have = table.chunks_here(&Stored { packed, place: id.0 }).await?;
            self.fetch.handle_stored(id, 0, Some(have));
            return Ok(Part::Stored);
        };
        let Some(stored) = table.stored(id).await? else { return Ok(Part::Late) };
        if !stored.packed.manifest.holds(index, &bytes) {
            return Ok(Part::Wrong);
        }
        table.write_chunk(&stored.place, index, bytes).await?;
        self.fetch.handle_stored(id, part, None);
        self.inner.state.send_modify(|state| state.version = state.version.wrapping_add(1));
        Ok(Part::Stored)
    }
}

impl Inner {
    async fn store_small(&self, id: &EnvelopeId, packed: Packed) -> Result<(), LedgerError> {
        let mut batch = Batch::new();
        self.table.put_stored(&mut batch, &Stored { packed, place: id.0 });
        self.table.store.commit(batch, Durability::Buffered).await?;
        Ok(())
    }
}

fn is_wanted(settled: &Settled) -> bool {
    settled.local.standing == Standing::Valid && settled.local.phase == Phase::Wanted
}
