//! What falls due by itself: duties towards the identity, keys that have grown old, secrets that are missing.
//!
//! ```text
//!  leave, no fitting epoch ──rank r waits r turns──► Remove, Rekey
//!  own slot of the epoch in force does not open ───► Rekey, at once
//!  epoch in force 30 days old ──rank r waits r turns─► Rekey
//!  receiving key 7 days old ───────────────────────► new one, new card
//!  retired 30 days, newer one has opened a slot ───► private half destroyed
//!  another identity's device here, not shown ──────► Introduce, at once
//!  removal inside it, renewed keys, not shown ──rank r─► Update
//!  secrets missing that are this device's ─────────► one connected controller after the other is asked
//! ```
//!
//! All by the own clocks; nobody is asked for the time, nothing is polled. Whoever is away at its turn is passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info, warn};
use walytis_core::store::keys::Space;
use walytis_core::store::{Batch, Durability, KeyRange};

use super::age::Age;
use super::author::Draft;
use super::error::IdentitiesResult;
use super::records::{self, InForceRecord};
use super::task::{Command, Task};
use super::{reseal, ring};
use crate::crypto::{KeyId, ReceivingKey};
use crate::epoch::EpochSecrets;
use crate::id::{EpochId, Role};
use crate::state::{Duty, DutyKind};

/// Rekeys on account of slots that do not open, per run of the program. Chosen: a dishonest author gets no endless loop.
const REPAIRS_MAX: u32 = 8;
/// How long until the next controller is asked for missing secrets: at first, and at most.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// How often others are asked before a device that cannot open the epoch in force renews it. Chosen: about 20 seconds.
const ASKED_BEFORE_REKEY: u32 = 3;
/// Longest time until it is looked what has grown old: timers stand still while a machine sleeps.
const LOOK_AGAIN: Duration = Duration::from_secs(24 * 3_600);

/// Why something is to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// The state asks for it.
    Due,
    /// The own slot of the epoch in force is of no use.
    Unusable,
    /// The epoch in force is old.
    Old,
}

#[derive(Clone, Debug)]
struct Planned {
    duty: Duty,
    why: Why,
    at: Instant,
}

/// What the task plans.
#[derive(Debug)]
pub(super) struct Upkeep {
    planned: Option<Planned>,
    /// After a failure nothing is tried before.
    not_before: Option<Instant>,
    /// When the task began: whoever was away first hears what happened meanwhile.
    began: Instant,
    repairs: u32,
    /// Epochs whose own slot does not open, or to other secrets than were committed to.
    pub(super) broken: BTreeSet<EpochId>,
    look_at: Option<Instant>,
    ask_at: Option<Instant>,
    ask_again: Duration,
    /// Times that others were asked for `missing`.
    asked: u32,
    missing: Vec<EpochId>,
}

impl Upkeep {
    pub(super) fn new() -> Self {
        Self {
            planned: None,
            not_before: None,
            began: Instant::now(),
            repairs: 0,
            broken: BTreeSet::new(),
            look_at: None,
            ask_at: None,
            ask_again: ASK_AGAIN.0,
            asked: 0,
            missing: Vec::new(),
        }
    }

    pub(super) fn duty_at(&self) -> Option<Instant> {
        self.planned.as_ref().map(|planned| planned.at)
    }

    /// When to settle again because something may have grown old.
    pub(super) const fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    pub(super) const fn ask_at(&self) -> Option<Instant> {
        self.ask_at
    }
}

impl Task {
    /// Renews and destroys what has grown old. Needs keys: without them it is done after unlocking.
    pub(super) async fn renew_what_is_old(&mut self) -> IdentitiesResult<()> {
        self.follow_epoch().await?;
        let (clock, config) = (Arc::clone(&self.shared.tools.clock), self.shared.tools.config);
        // A device that acts for another identity has its keys there.
        let Some(mut keys) = self.shared.keyring().ok().filter(|_| self.shared.person.is_none()) else { return Ok(()) };
        if self.shared.my_role().is_some()
            && keys.until_renewal(config.receiving_age, &*clock).is_some_and(|left| left.is_zero())
        {
            keys = keys.renewed(ReceivingKey::generate(&*self.shared.tools.entropy), &*clock);
            ring::store(&self.shared, &keys).await?;
            self.shared.set_keys(keys.clone());
            info!(did = ?self.shared.did, "receiving key renewed");
        }
        let opened = self.opened_keys();
        if let Some(left) = keys.without_old(config.retired_age, &opened, &*clock) {
            ring::store(&self.shared, &left).await?;
            self.shared.set_keys(left);
            // What was stored before would stay in the files for a while.
            self.shared.tools.store.reclaim(KeyRange::prefix(&Space::Vault.key(&[]))).await?;
            info!(did = ?self.shared.did, "old receiving keys destroyed");
        }
        Ok(())
    }

    /// Returns the keys that opened own slots were sealed to.
    fn opened_keys(&self) -> BTreeSet<KeyId> {
        let me = self.shared.controller();
        let known = self.shared.known();
        let held = |id: &EpochId| known.ring.get(id).is_some_and(|held| held.transport.is_some());
        let opened = known.graph.ops().filter(|op| held(&op.id()));
        opened.filter_map(|op| ring::slot_key(op.core(), &me)).collect()
    }

    /// Notes since when the epoch in force has been known here.
    async fn follow_epoch(&self) -> IdentitiesResult<()> {
        let tools = &self.shared.tools;
        let epoch = self.shared.state().sending_epoch;
        let before = self.shared.known().in_force;
        if before.map(|(id, _)| id) == epoch {
            return Ok(());
        }
        let chain = self.shared.did.chain();
        let Some(epoch) = epoch else {
            self.shared.known().in_force = None;
            return Ok(());
        };
        let age = Age::begin(&*tools.clock);
        let mut batch = Batch::new();
        batch.put(records::in_force(&chain), records::encode(&InForceRecord { epoch, since_ms: age.since_ms() }));
        tools.store.commit(batch, Durability::Buffered).await?;
        self.shared.known().in_force = Some((epoch, age));
        Ok(())
    }

    /// Plans everything anew, from what is known now.
    pub(super) fn plan(&mut self) {
        self.plan_question();
        self.plan_duty();
        self.plan_look();
    }

    fn plan_look(&mut self) {
        let (clock, config) = (&*self.shared.tools.clock, self.shared.tools.config);
        let Some(keys) = self.shared.keyring().ok().filter(|_| self.shared.person.is_none()) else {
            self.upkeep.look_at = None;
            return;
        };
        let renewal = keys.until_renewal(config.receiving_age, clock).filter(|_| self.shared.my_role().is_some());
        // What waits for a slot goes when the slot is opened, which settles.
        let destruction = keys.until_destruction(config.retired_age, clock).filter(|left| !left.is_zero());
        let next = renewal.into_iter().chain(destruction).fold(LOOK_AGAIN, Duration::min);
        self.upkeep.look_at = Some(Instant::now() + next);
    }

    fn plan_duty(&mut self) {
        let wanted = self.wanted_duty();
        let same = |planned: &Planned| {
            wanted.as_ref().is_some_and(|(duty, why, _)| *why == planned.why && duty.about == planned.duty.about)
        };
        // A turn that is being waited for does not begin anew. What is old is old since the same time.
        if self.upkeep.planned.as_ref().is_some_and(|planned| planned.why != Why::Old && same(planned)) {
            return;
        }
        let not_before = self.upkeep.not_before;
        self.upkeep.planned = wanted.map(|(duty, why, at)| Planned {
            duty,
            why,
            at: not_before.map_or(at, |not_before| at.max(not_before)),
        });
    }

    /// Returns what this device has to publish, and when. Without keys nothing; unlocking plans anew.
    fn wanted_duty(&self) -> Option<(Duty, Why, Instant)> {
        self.shared.keys().ok()?;
        let (state, me) = (self.shared.state(), self.shared.controller());
        let (now, turn) = (Instant::now(), self.shared.tools.config.turn);
        let turns = |rank: usize| turn.saturating_mul(u32::try_from(rank).unwrap_or(u32::MAX));
        let archived = self.shared.is_archived();
        // Of what was put away this node sees no new blocks, so that it could not say what of somebody's writing counts.
        let fits = |duty: &Duty| !archived || duty.kind == DutyKind::Rekey;
        if let Some(duty) = self.nested_duty().or_else(|| state.duty_of(&me, &self.shared.me).filter(fits)) {
            let at = now + turns(duty.rank);
            return Some((duty, Why::Due, at));
        }
        let about = state.sending_epoch.filter(|_| !archived)?;
        let writes = self.shared.role_in(&state).is_some_and(Role::writes);
        if writes && self.is_unusable(&about) && self.upkeep.repairs < REPAIRS_MAX {
            return Some((Duty { kind: DutyKind::Rekey, about, rank: 0 }, Why::Unusable, now));
        }
        let rank = state.renewal_rank_of(&about, &me, &self.shared.me)?;
        let age = self.shared.known().in_force.filter(|(id, _)| *id == about)?.1;
        let old = state.renew_after.unwrap_or(self.shared.tools.config.epoch_age);
        let left = age.until(old, &*self.shared.tools.clock);
        let first = (now + left).max(self.upkeep.began + turn);
        Some((Duty { kind: DutyKind::Rekey, about, rank }, Why::Old, first + turns(rank)))
    }

    /// Returns what this device owes because it acts for another identity.
    fn nested_duty(&self) -> Option<Duty> {
        let person = self.shared.person.as_ref()?;
        self.shared.known().graph.nested_duty(&person.did, &self.shared.me)
    }

    /// Says whether the epoch's secret cannot be had: the slot is no good, or nobody who was asked could help.
    fn is_unusable(&self, epoch: &EpochId) -> bool {
        let held = self.shared.known().ring.get(epoch).is_some_and(|held| held.epoch.is_some());
        let asked = self.upkeep.asked >= ASKED_BEFORE_REKEY && self.upkeep.missing.contains(epoch);
        !held && (self.upkeep.broken.contains(epoch) || asked)
    }

    pub(super) async fn do_duty(&mut self) {
        let Some(Planned { duty, why, .. }) = self.upkeep.planned.take() else { return };
        self.upkeep.repairs += u32::from(why == Why::Unusable);
        let draft = match duty.kind {
            DutyKind::RemoveLeft(targets) => Draft::Remove { targets },
            DutyKind::Rekey => Draft::Rekey,
            DutyKind::Introduce => Draft::Introduce,
            DutyKind::Update => Draft::Update,
        };
        info!(did = ?self.shared.did, about = ?duty.about, ?why, "taking over a duty");
        // Somebody else may have done it by the next turn.
        let turn = self.shared.tools.config.turn.max(Duration::from_secs(1));
        match self.author(draft).await {
            Ok(_) => self.upkeep.not_before = None,
            Err(error) => {
                warn!(did = ?self.shared.did, %error, "a duty could not be done");
                self.upkeep.not_before = Some(Instant::now() + turn);
                self.plan_duty();
            }
        }
    }

    fn plan_question(&mut self) {
        let missing = if self.shared.keys().is_ok() { ring::missing(&self.shared) } else { Vec::new() };
        if missing.is_empty() {
            (self.upkeep.ask_at, self.upkeep.missing) = (None, missing);
            return;
        }
        let news = missing.iter().any(|id| !self.upkeep.missing.contains(id));
        if news || self.upkeep.ask_at.is_none() {
            (self.upkeep.asked, self.upkeep.ask_again) = (0, ASK_AGAIN.0);
            // Whoever began the epoch is often about to tell more.
            self.upkeep.ask_at = Some(Instant::now() + ASK_AGAIN.0);
        }
        self.upkeep.missing = missing;
    }

    /// Asks the next connected controller for what is missing.
    pub(super) fn ask_for_missing(&mut self) {
        self.upkeep.ask_at = Some(Instant::now() + self.upkeep.ask_again);
        self.upkeep.ask_again = (self.upkeep.ask_again * 2).min(ASK_AGAIN.1);
        let at = self.upkeep.asked;
        self.upkeep.asked = at.saturating_add(1);
        let connected: BTreeSet<_> = self.shared.tools.network.peers().into_iter().map(|status| status.peer).collect();
        let mut peers = self.shared.peers();
        peers.retain(|peer| connected.contains(peer));
        let turn = usize::try_from(at).unwrap_or(0).checked_rem(peers.len());
        if let Some(peer) = turn.and_then(|turn| peers.get(turn).cloned()) {
            let shared = Arc::clone(&self.shared);
            self.pushes.spawn(async move {
                match reseal::ask(&shared, &peer).await {
                    Ok(epochs) if epochs.is_empty() => {}
                    // The task may be gone.
                    Ok(epochs) => drop(shared.commands.send(Command::Resealed { epochs }).await),
                    Err(error) => debug!(did = ?shared.did, ?peer, %error, "missing secrets were not handed over"),
                }
            });
        }
        self.plan_duty();
    }

    /// Keeps what was resealed; it was checked against what the epochs commit to.
    pub(super) async fn take_in_resealed(&mut self, epochs: BTreeMap<EpochId, EpochSecrets>) {
        debug!(did = ?self.shared.did, epochs = epochs.len(), "missing secrets were handed over");
        if let Err(error) = self.keep(epochs).await {
            warn!(did = ?self.shared.did, %error, "secrets of an epoch could not be stored");
        }
        self.settle(None).await;
    }

    /// Stores secrets of epochs beside what is held of them.
    pub(super) async fn keep(&self, epochs: BTreeMap<EpochId, EpochSecrets>) -> IdentitiesResult<()> {
        for (id, secrets) in epochs {
            let mut merged = self.shared.known().ring.get(&id).cloned().unwrap_or_default();
            merged.merge(&secrets);
            let name = ring::secret_name(&self.shared.did, &id);
            self.shared.tools.secrets.put(&name, merged.encode()).await?;
            self.shared.hold(id, merged);
        }
        Ok(())
    }
}
