//! Histories that are longer than all that can be gone through: drawn, each of their beginnings checked by the same laws.

use rand_core::Rng;
use walytis_core::clock::{Entropy as _, SeededEntropy};

use super::cast::Act;
use super::explore::Explorer;
use super::history::History;
use super::laws::{Broken, Law};

/// Ops of a drawn history.
const OPS: (usize, usize) = (5, 10);
/// Draws for one op, until its author has the right. Chosen: most have it within ten.
const TRIES: usize = 60;

/// What is drawn for one op: who acts, how, knowing which steps, and how its id begins.
#[derive(Clone, Copy, Debug)]
struct Choice {
    by: usize,
    act: Act,
    past: u32,
    first_byte: Option<u8>,
}

impl Explorer<'_> {
    /// Draws histories.
    pub(super) fn walk(&mut self, histories: u64, seed: u64) {
        let mut stream = SeededEntropy::new(seed).rng();
        let mut draw = move |below: usize| stream.next_u32() as usize % below;
        let mut history = History::new(&self.cast);
        for _ in 0..histories {
            let ops = OPS.0 + draw(OPS.1 - OPS.0 + 1);
            self.walk_once(&mut history, ops, &mut draw);
            history.reset();
            self.counts.drawn += 1;
        }
    }

    fn walk_once(&mut self, history: &mut History, ops: usize, draw: &mut impl FnMut(usize) -> usize) {
        let mut choices = Vec::new();
        for _ in 0..ops * TRIES {
            if choices.len() >= ops {
                return;
            }
            let choice = self.drawn(history, draw);
            let Some(broken) = self.taken(history, &choice) else { continue };
            choices.push(choice);
            if let Some(broken) = broken.first() {
                let (least, broken) = self.least(&choices, broken);
                self.note(&broken, &least);
                return;
            }
        }
    }

    fn drawn(&self, history: &History, draw: &mut impl FnMut(usize) -> usize) -> Choice {
        let by = self.family.authors[draw(self.family.authors.len())];
        let pasts = history.pasts(self.family.knowledge, by);
        let bytes = self.first_bytes();
        let act = self.family.acts[draw(self.family.acts.len())];
        Choice { by, act, past: pasts[draw(pasts.len())], first_byte: bytes[draw(bytes.len())] }
    }

    /// Adds an op and checks the set with it; nothing if it may not be.
    fn taken(&mut self, history: &mut History, choice: &Choice) -> Option<Vec<Broken>> {
        let Choice { by, act, past, first_byte } = *choice;
        if act.target() == Some(by) {
            return None;
        }
        let heads = history.heads(&self.cast, past);
        let id = self.cast.op_id(by, &heads, act, first_byte);
        if history.graph.op(&id).is_some() {
            return None;
        }
        let before = history.graph.state();
        let after = self.grown(history, by, &heads, (act, past, id))?;
        Some(self.check(history, &before, &after))
    }

    /// Leaves out one op after the other as long as the same law is broken.
    fn least(&mut self, choices: &[Choice], broken: &Broken) -> (History, Broken) {
        let mut least = (choices.to_vec(), broken.clone());
        while let Some(fewer) =
            (0..least.0.len()).find_map(|at| self.still_breaking(&without(&least.0, at), broken.law))
        {
            least = fewer;
        }
        let mut history = History::new(&self.cast);
        for choice in &least.0 {
            self.taken(&mut history, choice);
        }
        (history, least.1)
    }

    fn still_breaking(&mut self, choices: &[Choice], law: Law) -> Option<(Vec<Choice>, Broken)> {
        let mut history = History::new(&self.cast);
        let mut last = Vec::new();
        for choice in choices {
            last = self.taken(&mut history, choice)?;
        }
        let broken = last.into_iter().find(|broken| broken.law == law)?;
        Some((choices.to_vec(), broken))
    }
}

/// Leaves out one op; what it rested on others still know.
fn without(choices: &[Choice], at: usize) -> Vec<Choice> {
    let low = (1u32 << at) - 1;
    let shifted = |past: u32| (past & low) | ((past >> 1) & !low);
    let rest = choices.iter().enumerate().filter(|(other, _)| *other != at);
    rest.map(|(_, choice)| Choice { past: shifted(choice.past), ..*choice }).collect()
}
