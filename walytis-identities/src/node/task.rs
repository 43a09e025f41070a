//! The task that owns one identity: it alone takes in ops and cards, makes ops, opens epochs and does what falls due.
//!
//! ```text
//!  peers, blocks ──Learn──┐                      ┌─► store
//!  application ───Author──┼─► task ──► Shared ───┼─► changes (sessions, admission, readers)
//!  joiners ───────Honour──┘   │ timers: duties    └─► push to connected controllers
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use walytis_core::chain::{Append, Chain};
use walytis_core::id::PeerId;
use walytis_core::key::Signer;
use walytis_core::ledger::Content;
use walytis_core::store::{Batch, Durability};
use walytis_core::topic::Topic;

use super::author::{self, Authored, Draft};
use super::error::{IdentitiesError, IdentitiesResult};
use super::host::HonourRequest;
use super::nested::{self, Candidates};
use super::records::{self, IdentityRecord};
use super::shared::Shared;
use super::upkeep::Upkeep;
use super::wire_v1::RefusalCode;
use super::{exchange, ring};
use crate::epoch::EpochSecrets;
use crate::id::{DeviceId, EpochId, OpId};
use crate::op::SignedOp;
use crate::state::{Built, Inserted, Refusal};

/// Commands that wait for the task; then the sender waits.
pub(super) const COMMANDS: usize = 64;
/// Pushes to other controllers that run at the same time; the others take their turn.
const PUSHES_MAX: usize = 8;
/// Ops taken in before other tasks get their turn. Chosen: each costs one or two hybrid verifications, some tenths of a
/// millisecond.
pub(super) const OPS_AT_ONCE: usize = 4;
/// Refused ops after which the rest of what a peer sent is not looked at: each costs two signatures to check.
const REFUSALS_MAX: usize = 16;

/// How long until controllers that could not be reached are tried again: at first, and at most. The network itself
/// reconnects to whomever it reached before.
const DIAL_AGAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// How long until what a failing store did not take is stored again.
const STORE_AGAIN: Duration = Duration::from_secs(5);
/// How long one attempt to reach a controller may take.
const DIAL_WITHIN: Duration = Duration::from_secs(20);

/// What the task is asked for.
#[derive(Debug)]
pub(super) enum Command {
    /// Take in what somebody sent.
    Learn {
        /// Genesis blocks of identities below, unchecked.
        genesis: Vec<Bytes>,
        ops: Vec<SignedOp>,
        cards: Vec<Vec<u8>>,
        from: Option<PeerId>,
        reply: Option<oneshot::Sender<()>>,
    },
    /// Make an op.
    Author { draft: Draft, reply: oneshot::Sender<IdentitiesResult<Authored>> },
    /// Admit a joiner that has proved its invitation.
    Honour { request: Box<HonourRequest>, reply: oneshot::Sender<Result<OpId, RefusalCode>> },
    /// Renew the device's own keys.
    RenewKeys { reply: oneshot::Sender<IdentitiesResult<Authored>> },
    /// Keep secrets that another controller sealed once more.
    Resealed { epochs: BTreeMap<EpochId, EpochSecrets> },
    /// Look what falls due now: the identity was put away, or taken up again.
    Look,
    /// The vault was unlocked.
    Unlocked { reply: oneshot::Sender<IdentitiesResult<()>> },
}

/// Owns an identity.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) shared: Arc<Shared>,
    pub(super) chain: Chain,
    pub(super) record: IdentityRecord,
    pub(super) pushes: JoinSet<()>,
    pub(super) upkeep: Upkeep,
    /// Whom something is to be told, as soon as there is room.
    to_tell: BTreeSet<PeerId>,
    /// Who is being told.
    telling: BTreeMap<PeerId, AbortHandle>,
    dial_at: Option<Instant>,
    dial_again: Duration,
    /// When to settle again, because the store failed.
    settle_at: Option<Instant>,
    /// Whether the vault is locked; nothing if it never is.
    locked: Option<watch::Receiver<bool>>,
    /// News of the identity that this device acts for.
    person: Option<watch::Receiver<u64>>,
}

impl Task {
    pub(super) fn new(shared: Arc<Shared>, chain: Chain, record: IdentityRecord) -> Self {
        let locked = shared.locked_changes();
        let person = shared.person.as_ref().map(|person| person.changes());
        Self {
            shared,
            chain,
            record,
            locked,
            person,
            pushes: JoinSet::new(),
            upkeep: Upkeep::new(),
            to_tell: BTreeSet::new(),
            telling: BTreeMap::new(),
            dial_at: Some(Instant::now()),
            dial_again: DIAL_AGAIN.0,
            settle_at: None,
        }
    }

    /// Runs until stopped; a command that was begun is finished.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>, stop: CancellationToken) {
        self.settle(None).await;
        self.follow_person().await;
        if let Err(error) = self.publish_rest().await {
            warn!(did = ?self.shared.did, %error, "own authority ops could not be put into blocks");
        }
        self.tell_all(None);
        loop {
            self.start_telling();
            let (due, look, ask) = (self.upkeep.duty_at(), self.upkeep.look_at(), self.upkeep.ask_at());
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = changed(&mut self.locked) => self.follow_vault().await,
                () = changed(&mut self.person) => self.follow_person().await,
                command = commands.recv() => match command {
                    Some(command) => self.handle(command).await,
                    None => break,
                },
                () = sleep_until(due) => self.do_duty().await,
                () = sleep_until(self.settle_at) => self.settle(None).await,
                () = sleep_until(look) => self.settle(None).await,
                () = sleep_until(ask) => self.ask_for_missing(),
                () = sleep_until(self.dial_at) => self.dial_others(),
                Some(_ended) = self.pushes.join_next(), if !self.pushes.is_empty() => {}
            }
        }
        self.pushes.shutdown().await;
    }

    /// Forgets all secrets when the vault is locked, takes them up again when it is open.
    async fn follow_vault(&mut self) {
        if self.shared.is_locked() {
            self.shared.wipe();
            self.settle(None).await;
            return;
        }
        match ring::load(&self.shared).await {
            Ok(()) => {
                self.settle(None).await;
                if let Err(error) = self.publish_rest().await {
                    warn!(did = ?self.shared.did, %error, "own authority ops could not be put into blocks");
                }
            }
            // Locked again: that is told as well.
            Err(IdentitiesError::Locked) => {}
            Err(error) => warn!(did = ?self.shared.did, %error, "the secrets of an identity cannot be read"),
        }
    }

    async fn handle(&mut self, command: Command) {
        match command {
            Command::Learn { genesis, ops, cards, from, reply } => {
                self.learn(&nested::candidates(genesis), ops, cards, from).await;
                if let Some(reply) = reply {
                    // Whoever asked may be gone.
                    let _gone = reply.send(());
                }
            }
            Command::Author { draft, reply } => drop(reply.send(Box::pin(self.author(draft)).await)),
            Command::Honour { request, reply } => {
                let answer = Box::pin(self.honour(*request)).await;
                let _gone = reply.send(answer);
            }
            Command::RenewKeys { reply } => drop(reply.send(Box::pin(self.renew_keys()).await)),
            Command::Resealed { epochs } => self.take_in_resealed(epochs).await,
            Command::Look => self.settle(None).await,
            Command::Unlocked { reply } => {
                let opened = ring::load(&self.shared).await;
                if opened.is_ok() {
                    self.settle(None).await;
                }
                drop(reply.send(opened));
            }
        }
    }

    /// Takes in ops and cards of others; what is not right is dropped.
    async fn learn(&mut self, candidates: &Candidates, ops: Vec<SignedOp>, cards: Vec<Vec<u8>>, from: Option<PeerId>) {
        let mut batch = Batch::new();
        let entered = self.take_in_ops(ops, candidates, &mut batch).await;
        let fresh_cards = self.take_in_cards(&cards, &mut batch);
        if batch.is_empty() {
            return;
        }
        // Lost in a power cut they come again with the next exchange.
        if let Err(error) = self.shared.tools.store.commit(batch, Durability::Buffered).await {
            warn!(did = ?self.shared.did, %error, "authority ops of others could not be stored");
        }
        debug!(did = ?self.shared.did, ops = entered, cards = fresh_cards, "authority ops taken in");
        if fresh_cards > 0 {
            (self.dial_at, self.dial_again) = (Some(Instant::now()), DIAL_AGAIN.0);
        }
        self.settle(from.as_ref()).await;
        self.tell_all(from.as_ref());
    }

    /// In small steps, so that neither the lock nor the thread is held for long.
    async fn take_in_ops(&self, ops: Vec<SignedOp>, candidates: &Candidates, batch: &mut Batch) -> usize {
        let (mut entered, mut refused) = (0, 0);
        let mut ops = ops.into_iter();
        while !ops.as_slice().is_empty() && refused < REFUSALS_MAX {
            for op in ops.by_ref().take(OPS_AT_ONCE) {
                match self.take_in_op(op, candidates, batch) {
                    Some(count) => entered += count,
                    None => refused += 1,
                }
            }
            tokio::task::yield_now().await;
        }
        entered
    }

    /// Others know ops of this device that it does not know itself: its data folder is an older copy, or another copy of
    /// it is at work.
    fn note_older_copy(&self, batch: &mut Batch) {
        if !std::mem::replace(&mut self.shared.known().older_copy, true) {
            warn!(did = ?self.shared.did, "others know newer things of this device than its own data folder");
            batch.put(records::older_copy(&self.shared.did.chain()), Vec::new());
        }
    }

    /// Returns how many ops entered, or nothing if it is refused.
    fn take_in_op(&self, op: SignedOp, candidates: &Candidates, batch: &mut Batch) -> Option<usize> {
        let (id, own) = (op.id(), op.core().device == self.shared.me);
        let mut known = self.shared.known();
        match nested::offer(&mut known.graph, op, candidates) {
            Ok(taken) => {
                known.store(&taken, batch);
                drop(known);
                if own && taken.own > 0 {
                    self.note_older_copy(batch);
                }
                Some(taken.ops.len())
            }
            Err(refusal) => {
                debug!(did = ?self.shared.did, op = ?id, %refusal, "authority op refused");
                None
            }
        }
    }

    fn take_in_cards(&self, cards: &[Vec<u8>], batch: &mut Batch) -> usize {
        let mut entered = 0;
        for encoded in cards {
            let device = self.shared.known().take_in_card(&*self.shared.tools.network, encoded);
            let Some(device) = device else { continue };
            batch.put(records::card(&self.shared.did.chain(), &device), encoded.clone());
            entered += 1;
            if device == self.shared.me {
                self.note_older_copy(batch);
            }
        }
        entered
    }

    /// Brings everything in line with the ops known now.
    pub(super) async fn settle(&mut self, _from: Option<&PeerId>) {
        self.settle_at = None;
        if let Err(error) = self.open_epochs().await {
            warn!(did = ?self.shared.did, %error, "secrets of an epoch could not be stored");
            // Unlocking settles anew.
            let locked = matches!(error, IdentitiesError::Locked);
            self.settle_at = (!locked).then(|| Instant::now() + STORE_AGAIN);
        }
        if let Err(error) = self.renew_what_is_old().await {
            warn!(did = ?self.shared.did, %error, "old keys could not be renewed");
            let locked = matches!(error, IdentitiesError::Locked);
            self.settle_at = self.settle_at.or_else(|| (!locked).then(|| Instant::now() + STORE_AGAIN));
        }
        if let Err(error) = self.refresh_card().await {
            debug!(did = ?self.shared.did, %error, "the device card could not be renewed");
        }
        self.plan();
        self.shared.bump();
    }

    async fn open_epochs(&mut self) -> IdentitiesResult<()> {
        let opened = ring::open_new(&self.shared, &mut self.upkeep.broken);
        self.keep(opened).await
    }

    /// Makes a new card when anything that stands in it has changed.
    async fn refresh_card(&mut self) -> IdentitiesResult<()> {
        let Some(card) = super::cards::renew(&self.shared, &self.record)? else { return Ok(()) };
        let (encoded, counter) = (card.encode(), card.body().counter);
        let chain = self.shared.did.chain();
        let record = IdentityRecord { card_counter: counter, ..self.record.clone() };
        let mut batch = Batch::new();
        batch.put(records::identity(&chain), records::encode(&record));
        batch.put(records::card(&chain, &self.shared.me), encoded);
        self.shared.tools.store.commit(batch, Durability::Flushed).await?;
        self.record = record;
        self.shared.known().cards.insert(card);
        self.tell_all(None);
        Ok(())
    }

    /// Makes an op: stored (flushed) before it counts here, in a block before anybody is told that it worked.
    pub(super) async fn author(&mut self, draft: Draft) -> IdentitiesResult<Authored> {
        let heads = self.chain.core().summary().heads;
        let (built, seed) = author::build(&self.shared, draft, &heads)?;
        let id = self.admit_own(&built).await?;
        self.settle(None).await;
        self.publish(&built.op).await?;
        self.tell_all(None);
        Ok(Authored { id, seed })
    }

    /// Stores an own op, flushed, and lets it count here.
    pub(super) async fn admit_own(&self, built: &Built) -> IdentitiesResult<OpId> {
        let (op, id) = (&built.op, built.op.id());
        let chain = self.shared.did.chain();
        if let Some(secrets) = &built.secrets {
            // Before the op: an epoch whose author lost its secrets would be of no use to it.
            let name = ring::secret_name(&self.shared.did, &id);
            self.shared.tools.secrets.put(&name, secrets.encode()).await?;
        }
        let number = self.shared.known().rows.next_number();
        let mut batch = Batch::new();
        batch.put(records::op(&chain, number), op.encode());
        batch.put(records::unpublished(&chain, &id), Vec::new());
        self.shared.tools.store.commit(batch, Durability::Flushed).await?;
        let inserted = match self.shared.known().graph.insert(op.clone()) {
            // Its parents are here: it waits for room.
            Ok(Inserted::Pending(_)) => Err(Refusal::Full),
            inserted => inserted,
        };
        if let Err(refusal) = inserted {
            // E.g. the proofs of a dishonest joiner. Nothing of it stays.
            let mut batch = Batch::new();
            batch.delete(records::op(&chain, number)).delete(records::unpublished(&chain, &id));
            self.shared.tools.store.commit(batch, Durability::Flushed).await?;
            self.shared.tools.secrets.delete(&ring::secret_name(&self.shared.did, &id)).await?;
            return Err(IdentitiesError::refused(refusal.to_string()));
        }
        self.shared.known().rows.note(&chain, op, number);
        if let Some(secrets) = &built.secrets {
            self.shared.hold(id, secrets.clone());
        }
        Ok(id)
    }

    /// Puts an own op into a block.
    async fn publish(&self, op: &SignedOp) -> IdentitiesResult<()> {
        self.publish_as(op, self.shared.keys()?).await
    }

    /// Puts an own op into a block that `signer` signs.
    pub(super) async fn publish_as(&self, op: &SignedOp, signer: Arc<dyn Signer>) -> IdentitiesResult<()> {
        let topic = Topic::overlay("identity", "");
        let topic = topic.map_err(|_| IdentitiesError::Internal { reason: "the topic of authority ops" })?;
        // Inline however many slots it has: who judges the block must read the op.
        let append = Append { content: Content::Bytes(op.encode().into()), topics: vec![topic], signer };
        self.chain.append_inline(append).await.map_err(|error| IdentitiesError::Node(error.into()))?;
        let mut batch = Batch::new();
        batch.delete(records::unpublished(&self.shared.did.chain(), &op.id()));
        // Put into a second block after a power cut it is still one op.
        Ok(self.shared.tools.store.commit(batch, Durability::Buffered).await?)
    }

    /// Finishes what a crash interrupted.
    async fn publish_rest(&self) -> IdentitiesResult<()> {
        let rest = records::all(&*self.shared.tools.store, &records::all_unpublished(&self.shared.did.chain())).await?;
        for (key, _) in rest {
            let op = records::last_id(&key).and_then(|id| self.shared.known().graph.op(&OpId(id)).cloned());
            if let Some(op) = op {
                self.publish(&op).await?;
            }
        }
        Ok(())
    }

    /// Notes that every connected controller is to be told, but for the one that told us.
    pub(super) fn tell_all(&mut self, but: Option<&PeerId>) {
        let connected: BTreeSet<PeerId> =
            self.shared.tools.network.peers().into_iter().map(|status| status.peer).collect();
        let known = self.shared.known();
        // Also the removed: they are to learn that they are.
        let theirs = known.cards.peers().filter(|(device, _)| **device != self.shared.me);
        let peers = theirs.map(|(_, peer): (&DeviceId, &PeerId)| peer.clone());
        self.to_tell.extend(peers.filter(|peer| connected.contains(peer) && Some(peer) != but));
    }

    /// Connects to controllers that are not connected, where their cards say they are.
    fn dial_others(&mut self) {
        let network = &self.shared.tools.network;
        let connected: BTreeSet<PeerId> = network.peers().into_iter().map(|status| status.peer).collect();
        let mut apart = self.shared.others();
        apart.retain(|(peer, addresses)| !connected.contains(peer) && !addresses.is_empty());
        self.dial_at = (!apart.is_empty()).then(|| Instant::now() + self.dial_again);
        self.dial_again = (self.dial_again * 2).min(DIAL_AGAIN.1);
        // Whoever finds no room now has its turn next time.
        apart.truncate(PUSHES_MAX.saturating_sub(self.pushes.len()));
        for (peer, addresses) in apart {
            let network = Arc::clone(network);
            self.pushes.spawn(async move {
                // Who is reached is greeted by the server, which sees every new connection.
                let _outcome = tokio::time::timeout(DIAL_WITHIN, network.connect(Some(&peer), &addresses)).await;
            });
        }
    }

    fn start_telling(&mut self) {
        self.telling.retain(|_, push| !push.is_finished());
        while self.pushes.len() < PUSHES_MAX {
            // Whoever is being told waits: one that takes its time does not take the others' places.
            let next = self.to_tell.iter().find(|peer| !self.telling.contains_key(*peer)).cloned();
            let Some(peer) = next else { return };
            self.to_tell.remove(&peer);
            let (shared, told) = (Arc::clone(&self.shared), peer.clone());
            let push = self.pushes.spawn(async move {
                if let Err(error) = exchange::with_peer(&shared, &peer).await {
                    // The next session begins with the same exchange.
                    debug!(did = ?shared.did, ?peer, %error, "a controller could not be told");
                }
            });
            self.telling.insert(told, push);
        }
    }
}

/// Returns when something was changed: the vault locked or unlocked, news of another identity.
async fn changed<T>(locked: &mut Option<watch::Receiver<T>>) {
    let Some(receiver) = locked else { return std::future::pending().await };
    if receiver.changed().await.is_err() {
        // It is gone; all stays as it is.
        *locked = None;
    }
}

/// Sleeps until then, or for ever.
pub(super) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
