//! The task of one chain's fetches: owns the plan, sends what it asks for, hands leaves to jobs that verify and store.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rand_chacha::ChaCha20Rng;
use tokio::sync::{AcquireError, Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::fetch::What;
use super::jobs::{self, Done};
use super::look::Look;
use super::plan::{Ask, Output, Plan, Stored};
use crate::chain::{BlobFetch, ChainCore, FetchMode, FetchState, WantedBlob};
use crate::id::{BlobId, PeerId};
use crate::ledger::LedgerError;
use crate::limits::BLOB_LEAF;
use crate::replica::codec_v1::Message;
use crate::replica::driver::sleep_until;
use crate::replica::line::{Line, SessionId};
use crate::store::BlobStoreError;

/// Blobs fetched whole at the same time. Chosen: small ones come side by side; large ones share the same few leaves.
const ACTIVE_MAX: usize = 16;
/// Readers that may wait at once.
const READERS_MAX: usize = 256;

/// What the fetches of a chain are told.
#[derive(Debug)]
pub(crate) enum BlobInput {
    /// A session is open.
    Up(Line),
    /// It is gone.
    Down { peer: PeerId, session: SessionId },
    /// An answer.
    Message { peer: PeerId, session: SessionId, message: Message },
    /// Somebody reads this blob, from where `need` says, and looks at `state`.
    Read { wanted: WantedBlob, need: watch::Receiver<Range<u64>>, state: watch::Sender<FetchState> },
    /// Blocks with blobs may have come.
    Scan,
}

#[derive(Debug)]
struct Reader {
    wanted: WantedBlob,
    need: watch::Receiver<Range<u64>>,
    state: watch::Sender<FetchState>,
}

type Waiting = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// The task of one chain.
pub(crate) struct BlobTask {
    core: ChainCore,
    lines: BTreeMap<PeerId, Line>,
    plan: Plan,
    look: Look,
    readers: BTreeMap<u64, Reader>,
    next_reader: u64,
    jobs: JoinSet<Done>,
    /// Leaves that jobs hold.
    storing: usize,
    /// Leaves of this node that may be in flight, all chains together.
    budget: Arc<Semaphore>,
    permits: Vec<OwnedSemaphorePermit>,
    waiting: Option<Waiting>,
    rng: ChaCha20Rng,
    active: watch::Sender<usize>,
    nudge: Arc<Notify>,
}

impl std::fmt::Debug for BlobTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlobTask({:?}, {} blobs)", self.core.id(), self.plan.len())
    }
}

enum Event {
    Mode,
    Done(Option<Done>),
    Permit(Option<OwnedSemaphorePermit>),
    Input(BlobInput),
    Wake,
}

impl BlobTask {
    pub(crate) fn new(
        core: ChainCore,
        rng: ChaCha20Rng,
        active: watch::Sender<usize>,
        budget: Arc<Semaphore>,
        nudge: Arc<Notify>,
    ) -> Self {
        Self {
            core,
            lines: BTreeMap::new(),
            plan: Plan::default(),
            look: Look::new(Instant::now()),
            readers: BTreeMap::new(),
            next_reader: 0,
            jobs: JoinSet::new(),
            storing: 0,
            budget,
            permits: Vec::new(),
            waiting: None,
            rng,
            active,
            nudge,
        }
    }

    pub(crate) async fn run(mut self, mut inputs: mpsc::Receiver<BlobInput>, stop: CancellationToken) {
        let mut mode = self.core.watch_fetch_mode();
        let nudge = Arc::clone(&self.nudge);
        loop {
            let wake = self.next_timeout(*mode.borrow());
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Ok(()) = mode.changed() => Event::Mode,
                Some(done) = self.jobs.join_next(), if !self.jobs.is_empty() => Event::Done(done.ok()),
                () = nudge.notified() => Event::Wake,
                permit = wait_for(&mut self.waiting) => Event::Permit(permit),
                () = sleep_until(wake) => Event::Wake,
                input = inputs.recv() => match input {
                    Some(input) => Event::Input(input),
                    None => break,
                },
            };
            let now = Instant::now();
            let fetches = *mode.borrow_and_update();
            self.handle(event, now, fetches);
            self.follow_readers();
            self.plan.handle_timeout(now, &mut self.rng);
            self.look.note(self.core.take_newly_wanted(), now);
            if let Err(error) = self.look(now, fetches).await {
                warn!(chain = ?self.core.id(), %error, "looking for missing blobs failed");
            }
            self.start_jobs();
            self.pump(now);
            self.report();
        }
        // What is being stored is stored, so that nothing is fetched twice.
        while self.jobs.join_next().await.is_some() {}
    }

    fn next_timeout(&self, mode: FetchMode) -> Option<Instant> {
        let looks = mode == FetchMode::All && self.plan.has_peers() && self.plan.background() < ACTIVE_MAX;
        let look = looks.then(|| self.look.due());
        [self.plan.poll_timeout(Instant::now()), look].into_iter().flatten().min()
    }

    fn handle(&mut self, event: Event, now: Instant, mode: FetchMode) {
        match event {
            Event::Wake => {}
            Event::Mode => {
                if mode == FetchMode::OnDemand {
                    self.plan.drop_background();
                }
                self.look.hurry(now);
            }
            Event::Permit(permit) => {
                self.waiting = None;
                self.permits.extend(permit);
            }
            Event::Done(done) => {
                if let Some(done) = done {
                    self.handle_done(done, now);
                }
            }
            Event::Input(input) => self.handle_input(input, now),
        }
    }

    fn handle_input(&mut self, input: BlobInput, now: Instant) {
        match input {
            BlobInput::Up(line) => {
                self.plan.handle_up(&line.peer);
                self.lines.insert(line.peer.clone(), line);
                self.look.hurry(now);
            }
            BlobInput::Down { peer, session } => {
                if self.lines.get(&peer).is_some_and(|line| line.session == session) {
                    self.lines.remove(&peer);
                    self.plan.handle_down(&peer);
                }
            }
            BlobInput::Message { peer, session, message } => {
                if self.lines.get(&peer).is_some_and(|line| line.session == session) {
                    self.handle_message(&peer, message, now);
                }
            }
            BlobInput::Read { wanted, need, state } => {
                if self.readers.len() >= READERS_MAX {
                    state.send_replace(FetchState::Failed("too many blobs are being read"));
                    return;
                }
                let reader = self.next_reader;
                self.next_reader += 1;
                self.plan.handle_reader(wanted.blob, wanted.len, reader, leaves_of(&need.borrow()));
                self.readers.insert(reader, Reader { wanted, need, state });
            }
            // What they want is taken up in every turn.
            BlobInput::Scan => {}
        }
    }

    fn handle_message(&mut self, peer: &PeerId, message: Message, now: Instant) {
        match message {
            Message::Manifest { blob, len, from, digests } => {
                self.count_received(peer, digests.len() * 32);
                if !self.plan.handle_manifest(peer, blob, (len, from), digests, now) {
                    self.blame(peer, "a false list of leaves");
                }
            }
            Message::Leaf { blob, index, bytes } => {
                self.count_received(peer, bytes.len());
                if let Some(digest) = self.plan.handle_leaf(peer, &blob, index, now) {
                    self.storing += 1;
                    self.jobs.spawn(jobs::store(self.core.clone(), blob, index, bytes, digest, peer.clone()));
                }
            }
            Message::NoBlob { blob, index } => self.plan.handle_none(peer, &blob, index, now, &mut self.rng),
            _ => {}
        }
    }

    fn count_received(&self, peer: &PeerId, bytes: usize) {
        if let Some(line) = self.lines.get(peer) {
            line.traffic.received.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    fn handle_done(&mut self, done: Done, now: Instant) {
        match done {
            Done::Prepared { blob, prepared } => match prepared {
                Ok(prepared) => {
                    let complete = matches!(prepared, super::plan::Prepared::Complete);
                    self.plan.handle_prepared(&blob, prepared);
                    if complete {
                        self.complete(&blob, now);
                    }
                }
                Err(error) => self.trouble(&blob, &error, now),
            },
            Done::Checked { blob, peer, prepared } => match prepared {
                Ok(Some(prepared)) => self.plan.handle_prepared(&blob, prepared),
                Ok(None) => {
                    self.plan.handle_false_manifest(&blob, &peer, now);
                    self.blame(&peer, "a false list of leaves");
                }
                Err(error) => self.trouble(&blob, &error, now),
            },
            Done::Stored { blob, peer, index, stored } => {
                self.storing = self.storing.saturating_sub(1);
                match stored {
                    Ok(stored) => {
                        self.plan.handle_stored(&peer, &blob, index, stored, now);
                        match stored {
                            Stored::Complete => self.complete(&blob, now),
                            Stored::False => self.blame(&peer, "a false leaf"),
                            Stored::Partial | Stored::Gone => {}
                        }
                    }
                    Err(error) => self.trouble(&blob, &error, now),
                }
            }
        }
    }

    fn complete(&mut self, blob: &BlobId, now: Instant) {
        debug!(chain = ?self.core.id(), ?blob, "blob complete");
        self.end_readers(blob, FetchState::Complete);
        self.look.soon(now);
    }

    fn trouble(&mut self, blob: &BlobId, error: &LedgerError, now: Instant) {
        warn!(chain = ?self.core.id(), ?blob, %error, "a blob cannot be stored");
        let reason = match error {
            LedgerError::Blob(BlobStoreError::Full { .. }) => "the disk is full",
            LedgerError::Closed => "the chain is closed",
            _ => "the disk failed",
        };
        self.plan.handle_trouble(blob, reason, now, &mut self.rng);
    }

    fn end_readers(&mut self, blob: &BlobId, state: FetchState) {
        self.readers.retain(|_, reader| {
            let ends = reader.wanted.blob == *blob;
            if ends {
                reader.state.send_replace(state);
            }
            !ends
        });
    }

    /// Takes over how far readers are, and that they are gone.
    fn follow_readers(&mut self) {
        let plan = &mut self.plan;
        self.readers.retain(|id, reader| match reader.need.has_changed() {
            Ok(false) => true,
            Ok(true) => {
                let WantedBlob { blob, len, .. } = reader.wanted;
                plan.handle_reader(blob, len, *id, leaves_of(&reader.need.borrow_and_update()));
                true
            }
            Err(_) => {
                plan.handle_reader_gone(&reader.wanted.blob, *id);
                false
            }
        });
    }

    /// Takes up missing blobs while there is room.
    async fn look(&mut self, now: Instant, mode: FetchMode) -> Result<(), LedgerError> {
        while mode == FetchMode::All && self.plan.has_peers() && self.plan.background() < ACTIVE_MAX {
            let Some(wanted) = self.look.next(&self.core, now).await? else { break };
            self.plan.want(wanted.blob, wanted.len);
        }
        Ok(())
    }

    fn start_jobs(&mut self) {
        while let Some(output) = self.plan.poll_output() {
            let core = self.core.clone();
            match output {
                Output::Prepare { blob, len, whole } => {
                    self.jobs.spawn(jobs::prepare(core, blob, len, whole));
                }
                Output::Check { blob, len, digests, peer, whole } => {
                    self.jobs.spawn(jobs::check(core, blob, len, digests, peer, whole));
                }
                Output::Fail { blob, reason } => self.end_readers(&blob, FetchState::Failed(reason)),
            }
        }
    }

    /// Asks for whatever may be asked for, as far as the budget of the node goes.
    fn pump(&mut self, now: Instant) {
        while let Some(ask) = self.plan.find(now) {
            if self.permits.len() <= self.held() {
                match Arc::clone(&self.budget).try_acquire_owned() {
                    Ok(permit) => self.permits.push(permit),
                    Err(_) => {
                        let budget = Arc::clone(&self.budget);
                        self.waiting.get_or_insert_with(|| Box::pin(budget.acquire_owned()));
                        return;
                    }
                }
            }
            self.plan.handle_asked(&ask, now);
            self.send(&ask);
        }
        self.waiting = None;
        self.permits.truncate(self.held());
    }

    fn held(&self) -> usize {
        self.plan.in_flight().max(self.storing)
    }

    fn send(&self, ask: &Ask) {
        let Some(line) = self.lines.get(&ask.peer) else { return };
        line.say(match ask.what {
            What::Manifest { from } => Message::ManifestAsk { blob: ask.blob, from },
            What::Leaf { index } => Message::LeafAsk { blob: ask.blob, index },
        });
    }

    fn report(&self) {
        let count = self.plan.len();
        self.active.send_if_modified(|active| std::mem::replace(active, count) != count);
        let report = self.plan.report();
        self.core.set_fetches(report.map(|(blob, sources, trouble)| (blob, BlobFetch { sources, trouble })).collect());
    }

    fn blame(&self, peer: &PeerId, reason: &'static str) {
        debug!(chain = ?self.core.id(), ?peer, reason, "peer blamed");
        if let Some(line) = self.lines.get(peer) {
            line.fault();
        }
    }
}

/// Returns the leaves that hold these bytes.
fn leaves_of(need: &Range<u64>) -> Range<u32> {
    let leaf = BLOB_LEAF as u64;
    let index = |at: u64| u32::try_from(at).unwrap_or(u32::MAX);
    if need.start >= need.end { 0..0 } else { index(need.start / leaf)..index(need.end.div_ceil(leaf)) }
}

/// Waits for a permit if one is asked for; the place in the queue is kept from call to call.
async fn wait_for(waiting: &mut Option<Waiting>) -> Option<OwnedSemaphorePermit> {
    match waiting {
        Some(waiting) => waiting.await.ok(),
        None => std::future::pending().await,
    }
}
