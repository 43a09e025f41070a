//! The task of one replicated chain: owns its catch-up machine and its gossip, offers what comes to the chain.
//!
//! It never waits for a peer: what it sends is small and queued without waiting, so that two tasks can never wait for
//! each other through the network.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rand_chacha::ChaCha20Rng;
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::blobs::{BlobInput, BlobTask};
use super::catch_up::{CatchUp, Output, View};
use super::codec_v1::Message;
use super::driver::{ChainEntry, ChainPeer, Shared, SyncStatus, sleep_until};
use super::gossip::{GossipLine, Heard};
use super::gossip_v1::{GOSSIP_IDS_MAX, Gossip};
use super::line::{Line, LinkCommand, SessionId, Traffic};
use super::quiet::{Quiet, Said};
use super::serve::ServeInput;
use crate::access::Access;
use crate::block::UnverifiedBlock;
use crate::chain::{Admitted, ChainCore};
use crate::id::{BlockId, PeerId};
use crate::ledger::LedgerError;
use crate::limits::ANNOUNCE_INLINE_MAX;
use crate::net::Verdict;

/// New blocks of one commit that are announced one by one; of more only the heads are told.
const ANNOUNCE_MAX: usize = 16;
/// Peers to whom a new block is sent directly; gossip and heads reach the others.
const PUSH_PEERS_MAX: usize = 16;
/// Bytes that an unasked message may bring.
pub(super) const PUSH_BYTES_MAX: usize = 64 * 1024;

/// What a chain's task is told by links.
#[derive(Debug)]
pub(crate) enum ChainInput {
    /// A session is open.
    Up { line: Line, serve: mpsc::Sender<ServeInput> },
    /// It is gone.
    Down { peer: PeerId, session: SessionId },
    /// The peer said something.
    Message { peer: PeerId, session: SessionId, message: Message },
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) line: Line,
    serve: mpsc::Sender<ServeInput>,
}

#[derive(Debug)]
pub(crate) struct ChainTask {
    shared: Arc<Shared>,
    pub(super) core: ChainCore,
    blobs: mpsc::Sender<BlobInput>,
    pub(super) traffic: Arc<Traffic>,
    status: watch::Sender<SyncStatus>,
    epoch: Arc<AtomicU64>,
    stop: CancellationToken,
    nudge: Arc<Notify>,
    pub(super) machine: CatchUp,
    quiet: Quiet,
    pub(super) slots: BTreeMap<PeerId, Slot>,
    gossip: GossipLine,
    pub(super) rng: ChaCha20Rng,
}

impl ChainTask {
    pub(crate) fn new(shared: Arc<Shared>, entry: &ChainEntry) -> Self {
        let mut rng = shared.entropy.rng();
        Self {
            core: entry.core.clone(),
            blobs: entry.blobs.clone(),
            traffic: Arc::clone(&entry.traffic),
            status: entry.status.clone(),
            epoch: Arc::clone(&entry.epoch),
            stop: entry.stop.clone(),
            nudge: Arc::clone(&entry.nudge),
            machine: CatchUp::new(view(&entry.core)),
            quiet: Quiet::new(Instant::now(), &mut rng),
            slots: BTreeMap::new(),
            gossip: GossipLine::new(Arc::clone(&shared), entry.core.clone()),
            rng,
            shared,
        }
    }

    /// Runs until the chain is detached.
    pub(crate) async fn run(mut self, mut inputs: mpsc::Receiver<ChainInput>, blobs: mpsc::Receiver<BlobInput>) {
        let stop = self.stop.clone();
        let (active, mut blobs_active) = watch::channel(0);
        let mut tasks = JoinSet::new();
        let budget = Arc::clone(&self.shared.leaves);
        let rng = self.shared.entropy.rng();
        let fetches = BlobTask::new(self.core.clone(), rng, active, budget, Arc::clone(&self.nudge));
        tasks.spawn(fetches.run(blobs, stop.clone()));
        let mut admissions = self.core.admissions();
        let mut changes = self.core.access().changes();
        // What was admitted between the creation of the machine and the subscription.
        self.admitted_here(&[], None);
        self.gossip.refresh().await;
        loop {
            let wake = [self.machine.poll_timeout(), Some(self.quiet.poll_timeout())].into_iter().flatten().min();
            let work = async {
                tokio::select! {
                    biased;
                    admitted = admissions.recv() => Work::Admitted(admitted),
                    Ok(()) = changes.changed() => Work::Rights,
                    Ok(()) = blobs_active.changed() => Work::Blobs,
                    () = sleep_until(wake) => Work::Timeout,
                    Some(input) = inputs.recv() => Work::Input(input),
                    Some(heard) = self.gossip.recv() => Work::Heard(heard),
                }
            };
            let work = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                work = work => work,
            };
            let done = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                done = self.step(work) => done,
            };
            if let Err(error) = done {
                if matches!(error, LedgerError::Closed) {
                    break;
                }
                warn!(chain = ?self.core.id(), %error, "replication failed");
            }
            self.publish_status(*blobs_active.borrow());
        }
        stop.cancelled().await;
        // It ends by itself, after what it is storing.
        while tasks.join_next().await.is_some() {}
        self.gossip.close().await;
    }

    async fn step(&mut self, work: Work) -> Result<(), LedgerError> {
        let now = Instant::now();
        match work {
            Work::Admitted(admitted) => self.handle_admitted(admitted).await?,
            Work::Rights => self.handle_rights().await,
            Work::Blobs => {}
            Work::Timeout => {
                self.machine.handle_timeout(now, &mut self.rng);
                if self.quiet.handle_timeout(now, self.slots.len(), &mut self.rng) {
                    self.say_heads().await;
                }
            }
            Work::Input(input) => self.handle_input(input, now).await?,
            Work::Heard(heard) => self.handle_heard(heard).await?,
        }
        self.drain().await
    }

    async fn handle_input(&mut self, input: ChainInput, now: Instant) -> Result<(), LedgerError> {
        match input {
            ChainInput::Up { line, serve } => {
                let peer = line.peer.clone();
                self.slots.insert(peer.clone(), Slot { line, serve });
                self.machine.handle_up(peer, now);
            }
            ChainInput::Down { peer, session } => {
                if self.slots.get(&peer).is_some_and(|slot| slot.line.session == session) {
                    self.slots.remove(&peer);
                    self.machine.handle_down(&peer, now);
                }
            }
            ChainInput::Message { peer, session, message } => {
                if self.slots.get(&peer).is_some_and(|slot| slot.line.session == session) {
                    self.handle_message(&peer, message).await?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn blame(&self, peer: &PeerId) {
        if let Some(slot) = self.slots.get(peer) {
            slot.line.fault();
        }
    }

    /// Tells the machine what entered.
    pub(super) fn admitted_here(&mut self, ids: &[BlockId], origin: Option<&PeerId>) {
        self.machine.handle_local(view(&self.core), ids, origin, Instant::now());
        // When it is full other inputs come, and each makes it look for what is new.
        let _full = self.blobs.try_send(BlobInput::Scan);
    }

    async fn handle_admitted(
        &mut self,
        admitted: Result<Admitted, broadcast::error::RecvError>,
    ) -> Result<(), LedgerError> {
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(broadcast::error::RecvError::Lagged(_)) => {
                self.admitted_here(&[], None);
                self.machine.hurry(Instant::now());
                return Ok(());
            }
            Err(broadcast::error::RecvError::Closed) => return Err(LedgerError::Closed),
        };
        let ids: Vec<_> = admitted.ids.iter().map(|(id, _)| *id).collect();
        self.admitted_here(&ids, admitted.origin.as_ref());
        if admitted.origin.is_none() { self.announce(&ids).await } else { Ok(()) }
    }

    /// Announces new blocks of this node: to connected peers directly, to all others by gossip.
    async fn announce(&mut self, ids: &[BlockId]) -> Result<(), LedgerError> {
        let ids = ids.get(..ids.len().min(ANNOUNCE_MAX + 1)).unwrap_or_default();
        if ids.len() > ANNOUNCE_MAX {
            self.machine.hurry(Instant::now());
            self.say_heads().await;
            return Ok(());
        }
        let files = self.core.files(ids).await?;
        let (mut small, mut large) = (Vec::new(), Vec::new());
        for (id, file) in ids.iter().zip(files) {
            match file {
                Some(file) if file.len() <= ANNOUNCE_INLINE_MAX => small.push(file),
                Some(_) => large.push(*id),
                None => {}
            }
        }
        let fits = small.iter().map(Bytes::len).sum::<usize>() <= PUSH_BYTES_MAX;
        if fits && !small.is_empty() {
            for slot in self.slots.values().take(PUSH_PEERS_MAX) {
                // A busy peer is told the heads a little later.
                let _busy = slot.line.offer(Message::Push { files: small.clone() });
            }
        }
        if !fits || !large.is_empty() {
            self.machine.hurry(Instant::now());
        }
        for file in small {
            self.gossip.publish(&Gossip::Block(file)).await;
        }
        if !large.is_empty() {
            self.gossip.publish(&Gossip::Ids(large)).await;
        }
        Ok(())
    }

    async fn say_heads(&mut self) {
        let summary = self.core.summary();
        let heads = summary.heads.into_iter().take(GOSSIP_IDS_MAX).collect();
        self.gossip.publish(&Gossip::Heads { count: summary.count, heads }).await;
    }

    async fn handle_heard(&mut self, heard: Heard) -> Result<(), LedgerError> {
        let Some(gossip) = self.gossip.open(&heard) else {
            // Whoever is on the topic knows the key; what does not open is nobody's honest message.
            self.shared.network.report(&heard.message, Verdict::Reject);
            return Ok(());
        };
        let from = heard.message.from.clone();
        let verdict = match gossip {
            Gossip::Block(file) => self.hear_block(&from, file).await?,
            Gossip::Ids(ids) => self.hear_ids(&from, &ids).await?,
            Gossip::Heads { heads, .. } => {
                let verdict = self.hear_ids(&from, &heads).await?;
                let ours = self.core.summary().heads;
                let said = match verdict {
                    _ if heads == ours => Said::Same,
                    Verdict::Accept => Said::Older,
                    _ => Said::Other,
                };
                self.quiet.handle_heads(said, Instant::now(), self.slots.len(), &mut self.rng);
                // Heads are hints of members; they may travel on whatever they say.
                Verdict::Accept
            }
        };
        self.shared.network.report(&heard.message, verdict);
        Ok(())
    }

    async fn hear_block(&mut self, from: &PeerId, file: Bytes) -> Result<Verdict, LedgerError> {
        self.traffic.received.fetch_add(file.len() as u64, Ordering::Relaxed);
        let Ok(block) = UnverifiedBlock::decode(file) else { return Ok(Verdict::Reject) };
        let offered = self.core.offer(vec![block], Some(from.clone())).await?;
        if !offered.rejected.is_empty() {
            return Ok(Verdict::Reject);
        }
        if !offered.admitted.is_empty() {
            self.admitted_here(&offered.admitted, Some(from));
        }
        if !offered.pending.is_empty() && !offered.missing.is_empty() {
            self.machine.handle_hint(from, &offered.missing, Instant::now());
        }
        let valid = !offered.admitted.is_empty() || !offered.known.is_empty();
        Ok(if valid { Verdict::Accept } else { Verdict::Ignore })
    }

    async fn hear_ids(&mut self, from: &PeerId, ids: &[BlockId]) -> Result<Verdict, LedgerError> {
        let unknown = self.unknown(ids).await?;
        if unknown.is_empty() {
            return Ok(Verdict::Accept);
        }
        self.machine.handle_hint(from, &unknown, Instant::now());
        Ok(Verdict::Ignore)
    }

    /// Rights or keys may have changed: sessions whose right ended are closed, others may now be opened.
    async fn handle_rights(&mut self) {
        let access = self.core.access();
        for (peer, slot) in &self.slots {
            if access.may_sync(peer).await == Access::Refused {
                slot.line.wire.command(LinkCommand::Drop(slot.line.channel));
            }
        }
        self.gossip.refresh().await;
        self.epoch.fetch_add(1, Ordering::Relaxed);
        self.shared.bump();
    }

    /// Does what the machine says.
    async fn drain(&mut self) -> Result<(), LedgerError> {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Send { peer, message } => {
                    if let Some(slot) = self.slots.get(&peer) {
                        slot.line.say(message);
                    }
                }
                Output::Serve { peer, round, have, credit } => {
                    let Some(slot) = self.slots.get(&peer) else { continue };
                    if slot.serve.try_send(ServeInput::Stream { round, have, credit }).is_err() {
                        slot.line.wire.token.cancel();
                    }
                }
                Output::Compare { peer, round } => self.compare(&peer, round).await?,
                Output::Recheck { peer, ids } => match self.unknown(&ids).await {
                    Ok(unknown) => self.machine.handle_unknown(&peer, unknown, Instant::now()),
                    Err(error) => {
                        self.machine.handle_unreadable(&peer, Instant::now(), &mut self.rng);
                        return Err(error);
                    }
                },
            }
        }
        Ok(())
    }

    fn publish_status(&self, blobs: usize) {
        let peer = |peer: &PeerId| ChainPeer {
            peer: peer.clone(),
            in_sync: self.machine.is_level(peer),
            ahead: self.machine.is_ahead(peer),
        };
        let new = SyncStatus { peers: self.slots.keys().map(peer).collect(), blobs, ..SyncStatus::default() };
        self.status.send_if_modified(|status| {
            let changed = *status != new;
            *status = new;
            changed
        });
    }
}

enum Work {
    Admitted(Result<Admitted, broadcast::error::RecvError>),
    Rights,
    Blobs,
    Timeout,
    Input(ChainInput),
    Heard(Heard),
}

fn view(core: &ChainCore) -> View {
    let summary = core.summary();
    View { count: summary.count, generation: summary.generation, heads: summary.heads }
}
