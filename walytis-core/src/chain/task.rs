//! The task that owns what changes of a chain.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use tracing::warn;

use super::admit::Admissions;
use super::core::{Admitted, Held, Inner, Offered};
use super::repair::{self, RepairProgress, RepairReport};
use super::skeletons::SkeletonWalk;
use super::stage::{Stage, Tip};
use super::write::{self, Prepared, Written};
use crate::block::Block;
use crate::id::{BlockId, PeerId};
use crate::ledger::LedgerError;
use crate::store::{Batch, Durability};

/// Commands that go into one commit. Chosen: one flush serves many writers, a reply waits for few others.
const GROUP_COMMANDS: usize = 64;
/// How long a peer's blocks may stand unflushed: a power cut then costs asking for them again.
const FLUSH_DELAY: Duration = Duration::from_millis(200);
/// How often blocks that wait too long are looked for, and after how long without work a chain forgets its nodes.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Something for the task to do.
#[derive(Debug)]
pub(super) enum Command {
    /// Write own blocks.
    Append {
        /// What to write.
        append: Prepared,
        /// Gets the blocks once they are flushed.
        reply: oneshot::Sender<Result<Vec<Written>, LedgerError>>,
    },
    /// Take in verified blocks of others.
    Offer {
        /// Blocks.
        blocks: Vec<Block>,
        /// Who sent them.
        from: Option<PeerId>,
        /// Gets what became of them once they are committed.
        reply: oneshot::Sender<Result<Offered, LedgerError>>,
    },
}

/// A command that is staged and waits for the commit.
#[derive(Debug)]
enum Staged {
    Append {
        blocks: Vec<Written>,
        reply: oneshot::Sender<Result<Vec<Written>, LedgerError>>,
    },
    Offer {
        offered: Result<Offered, LedgerError>,
        admitted: Vec<(BlockId, u64)>,
        from: Option<PeerId>,
        reply: oneshot::Sender<Result<Offered, LedgerError>>,
    },
}

/// A wish for a repair.
#[derive(Debug)]
pub(super) struct RepairJob {
    /// Told how far it is.
    pub(super) progress: watch::Sender<RepairProgress>,
    /// Gets what came of it.
    pub(super) reply: oneshot::Sender<Result<RepairReport, LedgerError>>,
}

#[derive(Debug)]
pub(super) struct Task {
    pub(super) core: Arc<Inner>,
    pub(super) tip: Tip,
    pub(super) admissions: Admissions,
    skeletons: SkeletonWalk,
    /// When the last unflushed commit must be flushed.
    flush_at: Option<Instant>,
    /// There was work since the last sweep.
    busy: bool,
}

/// Runs until the chain is shut down.
pub(super) async fn run(
    core: Arc<Inner>,
    tip: Tip,
    mut commands: mpsc::Receiver<Command>,
    mut repairs: mpsc::Receiver<RepairJob>,
) {
    let stop = core.stop.clone();
    let mut changes = core.policy.changes();
    let mut policy_lives = true;
    let mut damage = core.table.damage.watch();
    if core.table.damage.is_set() {
        damage.mark_changed();
    }
    let skeletons = SkeletonWalk::begin(&core);
    let mut task = Task { core, tip, admissions: Admissions::new(), skeletons, flush_at: None, busy: false };
    let mut sweep = interval_at(Instant::now() + SWEEP_INTERVAL, SWEEP_INTERVAL);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let flush_at = task.flush_at;
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(job) = repairs.recv() => task.repair(job, &mut commands).await,
            Ok(()) = damage.changed() => task.core.table.keep_mark().await,
            command = commands.recv() => match command {
                Some(command) => {
                    task.handle_group(command, &mut commands).await;
                    // However busy the chain is.
                    task.judge_skeletons().await;
                }
                None => break,
            },
            () = sleep_until(flush_at.unwrap_or_else(Instant::now)), if flush_at.is_some() => task.flush().await,
            _ = sweep.tick(), if task.admissions.held() > 0 || task.core.table.remembers() => task.sweep(),
            changed = changes.changed(), if policy_lives => match changed {
                Ok(()) => task.judge_again().await,
                Err(_) => policy_lives = false,
            },
            // One page, then whatever else there is to do.
            () = std::future::ready(()), if !task.skeletons.is_done() => task.judge_skeletons().await,
        }
    }
    commands.close();
    while let Some(command) = commands.recv().await {
        task.handle_group(command, &mut commands).await;
    }
    task.flush().await;
    if damage.has_changed().unwrap_or(false) {
        task.core.table.keep_mark().await;
    }
}

impl Task {
    /// Repairs the chain; nothing else is done with it meanwhile.
    async fn repair(&mut self, job: RepairJob, commands: &mut mpsc::Receiver<Command>) {
        self.flush().await;
        let core = Arc::clone(&self.core);
        core.table.mark("a repair of it was begun".to_owned());
        // Stored before anything is changed: a crash leaves a chain that is read-only until the next repair.
        core.table.keep_mark().await;
        let fetcher = core.fetcher.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let parts = repair::Parts {
            chain: core.id,
            table: &core.table,
            blobs: &*core.blobs,
            fetcher,
            entropy: &core.entropy,
            progress: &job.progress,
            stop: &core.stop,
        };
        let mut work = Box::pin(repair::run(parts));
        let done = loop {
            tokio::select! {
                biased;
                done = &mut work => break done,
                // The mark refuses what comes now; this came in the same moment.
                Some(command) = commands.recv() => refuse(command),
            }
        };
        drop(work);
        let done = match done {
            Ok((report, tip)) => {
                self.take_over(tip);
                self.settle(&report).await;
                Ok(report)
            }
            Err(error) => Err(error),
        };
        // Whoever asked may have gone.
        let _gone = job.reply.send(done);
    }

    /// Works on with what the repair found.
    fn take_over(&mut self, tip: Option<Tip>) {
        self.core.table.forget();
        self.core.fresh.many();
        if let Some(tip) = tip {
            self.tip = tip;
            self.core.arrivals.send_replace(self.tip.arrival);
            self.core.summary.send_replace(self.tip.summary());
        }
    }

    /// Removes the mark of a whole chain, or says what it lacks.
    async fn settle(&self, report: &RepairReport) {
        let damage = &self.core.table.damage;
        if report.whole {
            damage.clear();
        } else if let Some(problem) = &report.problem {
            damage.replace(problem.clone());
        } else {
            let (blocks, contents) = (report.missing_blocks, report.missing_contents);
            damage.replace(format!("{blocks} blocks are missing and {contents} contents are damaged"));
        }
        self.core.table.keep_mark().await;
    }

    /// Stages this command and those that wait behind it, commits once, answers all.
    async fn handle_group(&mut self, first: Command, commands: &mut mpsc::Receiver<Command>) {
        self.busy = true;
        let mut next = Some(first);
        while let Some(first) = next.take() {
            let mut stage = Stage::new(&self.tip);
            let mut staged = Vec::new();
            next = self.gather(first, commands, &mut stage, &mut staged).await;
            let own = staged.iter().any(|one| matches!(one, Staged::Append { .. }));
            let result = self.commit(stage, if own { Durability::Flushed } else { Durability::Buffered }).await;
            for one in staged {
                self.answer(one, &result);
            }
        }
    }

    /// Stages a group of commands; returns the one that must not be part of it.
    async fn gather(
        &mut self,
        first: Command,
        commands: &mut mpsc::Receiver<Command>,
        stage: &mut Stage,
        staged: &mut Vec<Staged>,
    ) -> Option<Command> {
        let mut next = Some(first);
        while let Some(command) = next.take() {
            // A long series is staged while it is signed, and taken back with its whole group if that fails.
            let alone = matches!(&command, Command::Append { append, .. } if append.is_long());
            if alone && !(stage.is_empty() && staged.is_empty()) {
                return Some(command);
            }
            self.stage(command, stage, staged).await;
            if !alone && staged.len() < GROUP_COMMANDS {
                next = commands.try_recv().ok();
            }
        }
        None
    }

    async fn stage(&mut self, command: Command, stage: &mut Stage, staged: &mut Vec<Staged>) {
        match command {
            Command::Append { append, reply } => {
                let alone = append.is_long();
                match write::stage(self, stage, append).await {
                    Ok(blocks) => staged.push(Staged::Append { blocks, reply }),
                    Err(error) => {
                        if alone {
                            stage.take_back(&mut self.tip);
                        }
                        // Nobody waits any more: nothing to tell.
                        drop(reply.send(Err(error)));
                    }
                }
            }
            Command::Offer { blocks, from, reply } => {
                let Self { core, tip, admissions, .. } = self;
                let mut offered = Offered::default();
                let decided = admissions.offer(core, tip, stage, (blocks, from.as_ref()), &mut offered).await;
                // What entered before a failure is committed with the others, and announced.
                let admitted = stage.generations(&offered.admitted);
                staged.push(Staged::Offer { offered: decided.map(|()| offered), admitted, from, reply });
            }
        }
    }

    /// Commits what is staged, if anything, and publishes it.
    async fn commit(&mut self, stage: Stage, durability: Durability) -> Result<(), LedgerError> {
        if !stage.is_empty() {
            stage.commit(&self.core, &mut self.tip, durability).await?;
            self.flush_at = match durability {
                Durability::Flushed => None,
                Durability::Buffered => self.flush_at.or_else(|| Some(Instant::now() + FLUSH_DELAY)),
            };
            self.core.summary.send_replace(self.tip.summary());
            self.core.arrivals.send_replace(self.tip.arrival);
        }
        self.publish_held();
        Ok(())
    }

    fn answer(&self, staged: Staged, result: &Result<(), LedgerError>) {
        let failure = result.as_ref().err().map(repeat);
        match staged {
            Staged::Append { blocks, reply } => {
                if failure.is_none() {
                    self.announce(
                        blocks.iter().map(|Written { block, .. }| (block.id(), block.header().generation)).collect(),
                        None,
                    );
                }
                drop(reply.send(failure.map_or(Ok(blocks), Err)));
            }
            Staged::Offer { offered, admitted, from, reply } => {
                if failure.is_none() {
                    self.announce(admitted, from);
                }
                drop(reply.send(failure.map_or(offered, Err)));
            }
        }
    }

    fn announce(&self, ids: Vec<(BlockId, u64)>, origin: Option<PeerId>) {
        if !ids.is_empty() {
            // Nobody listens: nobody needs to know.
            let _listeners = self.core.admissions.send(Admitted { ids, origin, cursor: self.tip.arrival });
        }
    }

    /// The policy has changed: judges what waits, and begins to judge the skeletons.
    async fn judge_again(&mut self) {
        self.skeletons.request(&self.core);
        let mut stage = Stage::new(&self.tip);
        let Self { core, tip, admissions, .. } = self;
        let judged = admissions.judge_again(core, tip, &mut stage).await.map(|offered| offered.admitted);
        self.admit_judged(judged, stage).await;
    }

    async fn judge_skeletons(&mut self) {
        if self.skeletons.is_done() {
            return;
        }
        let mut stage = Stage::new(&self.tip);
        let Self { core, tip, skeletons, .. } = self;
        let judged = skeletons.step(core, tip, &mut stage).await;
        self.admit_judged(judged, stage).await;
    }

    async fn admit_judged(&mut self, judged: Result<Vec<BlockId>, LedgerError>, stage: Stage) {
        let admitted = match judged {
            Ok(ids) => stage.generations(&ids),
            Err(error) => {
                warn!(chain = ?self.core.id, %error, "waiting blocks could not be judged");
                return stage.undo(&mut self.tip);
            }
        };
        match self.commit(stage, Durability::Buffered).await {
            Ok(()) => self.announce(admitted, None),
            Err(error) => warn!(chain = ?self.core.id, %error, "waiting blocks could not be committed"),
        }
    }

    fn sweep(&mut self) {
        if self.admissions.expire() {
            self.publish_held();
        }
        if !std::mem::take(&mut self.busy) {
            // A node may have many chains that rest: what they remember is read again when they wake.
            self.core.table.forget_nodes();
        }
    }

    fn publish_held(&self) {
        self.core.held.send_replace(Held { blocks: self.admissions.held(), missing: self.admissions.missing() });
    }

    async fn flush(&mut self) {
        if self.flush_at.take().is_none() {
            return;
        }
        let mut batch = Batch::new();
        batch.put(self.core.table.keys.meta(), self.tip.meta.encode());
        if let Err(error) = self.core.table.commit(batch, Durability::Flushed).await {
            warn!(chain = ?self.core.id, %error, "flush failed");
        }
    }
}

/// Answers a command that came while the chain is being repaired.
fn refuse(command: Command) {
    let error = || LedgerError::Damaged { reason: "it is being repaired".to_owned() };
    match command {
        Command::Append { reply, .. } => drop(reply.send(Err(error()))),
        Command::Offer { reply, .. } => drop(reply.send(Err(error()))),
    }
}

/// Returns the same failure for another waiter.
fn repeat(error: &LedgerError) -> LedgerError {
    match error {
        LedgerError::Store(error) => LedgerError::Store(error.clone()),
        LedgerError::Damaged { reason } => LedgerError::Damaged { reason: reason.clone() },
        other => LedgerError::Refused { reason: other.to_string() },
    }
}
