//! The task of a ledger: follows the chain, the identity and the peers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rand_chacha::ChaCha20Rng;
use rand_core::Rng as _;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};
use walytis_core::id::BlockId;
use walytis_core::ledger::{Cursor, LedgerError, LedgerEvent, LedgerRead as _, SubscribeFrom, Subscription};
use walytis_core::store::{Batch, Durability, StoreError};

use super::Inner;
use super::checkpoints::Due;
use super::content_state::Phase;
use super::fetching::Fetching;
use super::forget::{Command, reported};
use super::sweep::Sweep;
use super::table::{Meta, Standing};
use crate::envelope::EnvelopeId;
use crate::exchange::Event;
use crate::exchange::frame_v1::Packed;

/// Pushed envelopes kept for records that are not here yet, 48 KiB each at most; the oldest goes first and is fetched.
const EARLY_MAX: usize = 64;
/// Blocks of others on the chain after which the position is written down.
const POSITION_EVERY: u64 = 256;
/// Longest time without looking whether a content has expired. Chosen: a clock that jumped is noticed within it.
const EXPIRY_EVERY: std::time::Duration = std::time::Duration::from_secs(600);
/// How long a ledger rests after its store failed.
const REST: std::time::Duration = std::time::Duration::from_secs(5);

pub(super) struct Task {
    pub(super) inner: Arc<Inner>,
    pub(super) meta: Meta,
    /// Position that stands in the store.
    pub(super) saved: u64,
    pub(super) fetching: Fetching,
    pub(super) sweep: Sweep,
    pub(super) seal_due: Due,
    pub(super) rng: ChaCha20Rng,
    early: BTreeMap<EnvelopeId, Packed>,
    early_order: VecDeque<EnvelopeId>,
    blocks: Box<dyn Subscription>,
    inbox: mpsc::Receiver<Event>,
    peers: Arc<Notify>,
    pushed: mpsc::Receiver<(EnvelopeId, Packed)>,
    commands: mpsc::Receiver<Command>,
    changes: watch::Receiver<u64>,
    /// Whether judging again has its turn before what peers send.
    sweeps_now: bool,
    /// When the next content expires, in milliseconds of the wall clock.
    pub(super) next_expiry: Option<i64>,
}

/// What reaches the task from outside.
pub(super) struct Inputs {
    pub(super) inbox: mpsc::Receiver<Event>,
    pub(super) peers: Arc<Notify>,
    pub(super) pushed: mpsc::Receiver<(EnvelopeId, Packed)>,
    pub(super) commands: mpsc::Receiver<Command>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Task({:?})", self.inner)
    }
}

impl Task {
    pub(super) async fn new(inner: Arc<Inner>, inputs: Inputs) -> Result<Self, LedgerError> {
        let Inputs { inbox, peers, pushed, commands } = inputs;
        let meta = inner.table.meta().await?;
        let blocks = inner.chain.subscribe(SubscribeFrom::Cursor(Cursor(meta.position))).await?;
        let (changes, mut rng) = (inner.identity.changes(), inner.entropy.rng());
        let (early, early_order) = (BTreeMap::new(), VecDeque::new());
        let (saved, fetching, sweep) = (meta.position, Fetching::new(rng.next_u64()), Sweep::default());
        let seal_due = Due::after_start(meta.unsealed);
        Ok(Self {
            inner,
            meta,
            saved,
            fetching,
            sweep,
            seal_due,
            rng,
            early,
            early_order,
            blocks,
            inbox,
            peers,
            pushed,
            commands,
            changes,
            sweeps_now: false,
            next_expiry: None,
        })
    }

    /// Takes in what the chain has that was not looked at. What was judged before is judged again only if the identity
    /// knows more than then, and while the ledger is open already.
    pub(super) async fn catch_up(&mut self) -> Result<(), LedgerError> {
        self.changes.mark_unchanged();
        self.sweep.begin();
        let end = self.inner.chain.count().await?;
        while self.meta.position < end {
            match self.blocks.next().await? {
                Some(event) => self.handle_block(&event).await?,
                None => return Err(LedgerError::Closed),
            }
        }
        Ok(())
    }

    /// Removes what a crash has left: own envelopes without a record, bytes of dropped ones.
    pub(super) async fn clear_away(&mut self) -> Result<(), LedgerError> {
        let table = &self.inner.table;
        for nonce in table.ids(table.all(b's')).await? {
            table.remove_orphan(nonce.digest()).await?;
        }
        self.inner.remove_remains().await
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
                Ok(false) => break,
                Err(error @ (LedgerError::Store(_) | LedgerError::Blob(_))) => {
                    warn!(ledger = ?self.inner, %error, "the ledger rests");
                    if failed.replace(self.meta.position).is_some() {
                        self.tell_failing(Some(error));
                    }
                    if !self.recover().await {
                        break;
                    }
                }
                Err(error) => {
                    warn!(ledger = ?self.inner, %error, "the ledger stops");
                    let reason = error.to_string();
                    self.inner.state.send_modify(|state| state.damaged = Some(reason));
                    break;
                }
            }
        }
        self.fetching.end().await;
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
        self.fetching.end().await;
        self.fetching = Fetching::new(self.rng.next_u64());
        self.sweep.begin();
        self.publish();
        Ok(())
    }

    /// Waits for one thing to happen and handles it; false at the end.
    async fn turn(&mut self) -> Result<bool, LedgerError> {
        self.refill().await?;
        self.send_requests().await;
        self.seal_if_due().await?;
        self.note_judged().await?;
        let timers = [
            self.fetching.poll_timeout(),
            self.expiry_timeout(),
            self.sweep.poll_timeout(),
            self.seal_due.poll_timeout(),
        ];
        let timeout = timers.into_iter().flatten().min();
        let inner = Arc::clone(&self.inner);
        // Judging again and what peers send take turns: neither holds up the other.
        self.sweeps_now = !self.sweeps_now;
        let (sweep, sweep_now) = (self.sweep.is_due(), self.sweep.is_due() && self.sweeps_now);
        let (storing, room) = (!self.fetching.storing.is_empty(), self.fetching.has_room_to_store());
        tokio::select! {
            biased;
            () = inner.stop.cancelled() => return Ok(false),
            event = self.blocks.next() => match event? {
                Some(event) => self.handle_block(&event).await?,
                None => return Ok(false),
            },
            Ok(()) = self.changes.changed() => {
                self.fetching.look_for_peers();
                self.sweep.begin();
            }
            () = self.peers.notified() => self.fetching.look_for_peers(),
            Some(command) = self.commands.recv() => self.handle_command(command).await?,
            Some(stored) = self.fetching.storing.join_next(), if storing => self.handle_stored(stored).await?,
            () = std::future::ready(()), if sweep_now => self.sweep_on().await?,
            Some((id, packed)) = self.pushed.recv() => self.handle_pushed(id, packed).await?,
            () = sleep_until(timeout.unwrap_or_else(Instant::now)), if timeout.is_some() => {
                if self.next_expiry.is_some_and(|at| at <= inner.clock.now_ms()) {
                    self.expire().await?;
                }
            }
            Some(event) = self.inbox.recv(), if room => self.handle_event(event),
            () = std::future::ready(()), if sweep => self.sweep_on().await?,
        }
        Ok(true)
    }

    async fn handle_block(&mut self, event: &LedgerEvent) -> Result<(), LedgerError> {
        let LedgerEvent::Block(info) = event else { return Ok(()) };
        self.meta.position = info.cursor.0;
        if info.topics == std::slice::from_ref(&self.inner.topic) {
            self.settle(&info.id, true).await?;
            self.decide_naming(&info.id).await?;
        } else if info.topics == std::slice::from_ref(&self.inner.forget_topic) {
            self.handle_forget(&info.id).await?;
        } else if info.topics == std::slice::from_ref(&self.inner.checkpoint_topic) {
            self.handle_checkpoint(&info.id).await?;
        } else if self.meta.position >= self.saved + POSITION_EVERY {
            let mut batch = Batch::new();
            self.inner.table.put_meta(&mut batch, &self.meta);
            self.inner.table.store.commit(batch, Durability::Buffered).await?;
            self.saved = self.meta.position;
        }
        if self.meta.waiting > 0 {
            // It may be what they wait for.
            self.sweep.look_at_waiting();
        }
        self.publish();
        Ok(())
    }

    pub(super) fn publish(&self) {
        self.inner.state.send_modify(|state| {
            state.meta = self.meta;
            state.version = state.version.wrapping_add(1);
        });
    }

    /// Settles one record and wants its envelope if that is missing. `first`: the record has just arrived.
    pub(super) async fn settle(&mut self, id: &BlockId, first: bool) -> Result<(), LedgerError> {
        let Some(placed) = self.inner.placed(id).await? else { return Ok(()) };
        let envelope = placed.envelope;
        let own = first && self.inner.is_own(&placed).await?;
        let mut settled = self.inner.settle(&placed, &mut self.meta, own).await?;
        let mut changed = settled.changed;
        if settled.local.is_wanted()
            && let Some(packed) = self.early.remove(&envelope)
        {
            self.early_order.retain(|early| *early != envelope);
            self.inner.store_packed(&packed).await?;
            settled = self.inner.settle(&placed, &mut self.meta, false).await?;
            changed = true;
        }
        if settled.refused {
            self.inner.remove_remains().await?;
        }
        if changed {
            self.saved = self.meta.position;
            self.inner.moved(*id);
        }
        if settled.local.is_wanted() {
            self.want(envelope).await?;
        } else if self.inner.table.wanting(&envelope, 1).await?.is_empty() {
            self.fetching.machine.drop_want(&envelope);
        }
        if let Some(at) = placed.record.forget.expires_at_ms
            && settled.local.standing == Standing::Valid
            && settled.local.phase != Phase::Forgotten
        {
            self.next_expiry = Some(self.next_expiry.map_or(at, |next| next.min(at)));
        }
        Ok(())
    }

    async fn handle_command(&mut self, command: Command) -> Result<(), LedgerError> {
        let Command::ForgetLocal { id, reply } = command;
        let done = self.forget_local(&id).await;
        // Whoever asked may have stopped waiting.
        match done {
            Ok(known) => drop(reply.send(Ok(known))),
            Err(error) => {
                drop(reply.send(Err(reported(&error))));
                return Err(error);
            }
        }
        Ok(())
    }

    /// A content is gone: nothing of it is wanted or kept for later.
    pub(super) fn drop_want(&mut self, id: &BlockId, envelope: &EnvelopeId) {
        self.fetching.machine.drop_want(envelope);
        self.early.remove(envelope);
        self.early_order.retain(|early| early != envelope);
        self.inner.moved(*id);
    }

    /// When to look for expired contents next; the wall clock may jump, so now and then in any case.
    fn expiry_timeout(&self) -> Option<Instant> {
        let left = self.next_expiry?.saturating_sub(self.inner.clock.now_ms());
        let left = std::time::Duration::from_millis(u64::try_from(left).unwrap_or_default());
        Some(Instant::now() + left.min(EXPIRY_EVERY))
    }

    async fn handle_pushed(&mut self, id: EnvelopeId, packed: Packed) -> Result<(), LedgerError> {
        if !self.inner.table.wanting(&id, 1).await?.is_empty() {
            self.inner.store_packed(&packed).await?;
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
}

impl Inner {
    pub(super) async fn store_packed(&self, packed: &Packed) -> Result<(), LedgerError> {
        let mut batch = Batch::new();
        self.table.put_stored(&mut batch, packed);
        self.table.store.commit(batch, Durability::Buffered).await?;
        Ok(())
    }
}
