//! The switch that decides when the doubles of one node fail.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What happens at the chosen step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The step alone fails and changes nothing, as on a full disk; later ones work.
    Error,
    /// This step and every later one fail and change nothing, while what is stored can be read, as on a full disk; until
    /// [`Power::mend`].
    Full,
    /// The process dies: the step does not return, later ones fail. What earlier steps wrote is left, buffered or not.
    Kill {
        /// Whether the step itself reached the operating system.
        applied: bool,
    },
    /// The power goes: as [`Failure::Kill`], but of the commits only those up to the last flushed one are left.
    PowerCut {
        /// Whether the step itself reached the disk.
        applied: bool,
    },
}

impl Failure {
    /// Every failure there is.
    pub const ALL: [Self; 6] = [
        Self::Error,
        Self::Full,
        Self::Kill { applied: false },
        Self::Kill { applied: true },
        Self::PowerCut { applied: false },
        Self::PowerCut { applied: true },
    ];

    /// Says whether anything of the failing step is left.
    pub(crate) const fn applies_step(self) -> bool {
        matches!(self, Self::Kill { applied: true } | Self::PowerCut { applied: true })
    }

    /// Says whether nothing works after it, as the process is dead.
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Kill { .. } | Self::PowerCut { .. })
    }
}

/// The power of one node: counts the writing steps of all its stores and fails at the chosen one. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Power {
    plan: Arc<Mutex<Option<(u64, Failure)>>>,
    steps: Arc<AtomicU64>,
    off: Arc<AtomicBool>,
    lost: Arc<AtomicBool>,
    full: Arc<AtomicBool>,
}

/// What a store is to do with a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Run,
    Fail(Failure),
    Off,
}

impl Power {
    /// Never fails; counts only.
    pub fn steady() -> Self {
        Self {
            plan: Arc::default(),
            steps: Arc::default(),
            off: Arc::default(),
            lost: Arc::default(),
            full: Arc::default(),
        }
    }

    /// Fails at step `step`, counted from 0: that many steps succeed before.
    pub fn failing_at(step: u64, failure: Failure) -> Self {
        Self { plan: Arc::new(Mutex::new(Some((step, failure)))), ..Self::steady() }
    }

    /// Fails after so many steps from now.
    pub fn fail_in(&self, steps: u64, failure: Failure) {
        *self.plan() = Some((self.steps() + steps, failure));
    }

    /// Takes a planned failure back.
    pub fn fail_never(&self) {
        *self.plan() = None;
    }

    fn plan(&self) -> MutexGuard<'_, Option<(u64, Failure)>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many writing steps were taken: commits, calls of `begin`, `write` and `delete` of blobs, and of `put` and
    /// `delete` of secrets.
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::SeqCst)
    }

    /// Says whether the power is gone.
    pub fn is_off(&self) -> bool {
        self.off.load(Ordering::SeqCst)
    }

    /// Lets the process die now: later steps fail, what was written is left, buffered or not.
    pub fn kill(&self) {
        self.off.store(true, Ordering::SeqCst);
    }

    /// Lets the power go now: as [`Self::kill`], but of the commits only those up to the last flushed one are left.
    pub fn cut(&self) {
        self.lost.store(true, Ordering::SeqCst);
        self.kill();
    }

    /// Lets the disk fill up now: later steps fail, as after [`Failure::Full`].
    pub fn fill(&self) {
        self.full.store(true, Ordering::SeqCst);
    }

    /// Says whether the disk is full.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::SeqCst)
    }

    /// Makes a full disk take writes again.
    pub fn mend(&self) {
        self.full.store(false, Ordering::SeqCst);
    }

    /// Takes a step.
    pub(crate) fn step(&self) -> Step {
        if self.is_off() {
            return Step::Off;
        }
        if self.full.load(Ordering::SeqCst) {
            return Step::Fail(Failure::Full);
        }
        let step = self.steps.fetch_add(1, Ordering::SeqCst);
        let plan = *self.plan();
        match plan {
            Some((failing, failure)) if failing == step => {
                self.off.store(failure.is_end(), Ordering::SeqCst);
                self.full.store(failure == Failure::Full, Ordering::SeqCst);
                Step::Fail(failure)
            }
            _ => Step::Run,
        }
    }

    /// Says whether only flushed commits are left.
    pub(super) fn loses_buffered(&self) -> bool {
        let planned = matches!(*self.plan(), Some((_, Failure::PowerCut { .. })));
        self.is_off() && (planned || self.lost.load(Ordering::SeqCst))
    }
}
