//! Rule 10: controllers that are identities.
//!
//! An identity's graph holds the graphs of the identities that control it, as far as its own ops name them. Which of
//! their ops count here follows from the names in the past of its own ops, never from what has arrived: so the state
//! stays a function of the op sets. Every graph in this tree has a place: the identities above it. An edge back to one
//! of them, or one below the eighth level, is ignored.
//!
//! ```text
//!  T  ── Admit(I, as_of i1) ──── Update(as_of i3) by I      below i3 the device that r removes acts no more
//!             │                       │
//!  I  ── i0 ─ i1 ──── r ───────────── i3
//! ```

mod check;
mod intake;
mod travel;
mod view;
mod voids;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use intake::NestedTaken;
pub use travel::{Held, Part, PartBounds, Travelling};
pub(super) use view::NestedView;
pub(super) use view::slots_are_sound;

use super::bits::Bits;
use crate::id::{ControllerId, Did, OpId};
use crate::op::{ControllerRecord, Op, OpCore};

/// Levels of identities in identities, the outermost included. From the design.
pub const LEVELS_MAX: usize = 8;
/// Identities in the tree below one, wherever they stand. Chosen: bounds what one op makes everybody fetch.
pub const NESTED_MAX: usize = 64;

/// For each nested identity the ops of it that are named, with all before them, by index in its graph. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Named(Option<Arc<BTreeMap<Did, Bits>>>);

impl Named {
    pub(super) fn of(&self, did: &Did) -> Option<&Bits> {
        self.0.as_ref()?.get(did)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Did, &Bits)> {
        self.0.iter().flat_map(|named| named.iter())
    }

    pub(super) fn union(&mut self, other: &Self) {
        let Some(theirs) = &other.0 else { return };
        match &self.0 {
            None => self.0 = Some(Arc::clone(theirs)),
            Some(mine) if Arc::ptr_eq(mine, theirs) => {}
            Some(_) => theirs.iter().for_each(|(did, bits)| self.add(*did, bits)),
        }
    }

    pub(super) fn add(&mut self, did: Did, bits: &Bits) {
        if self.of(&did).is_some_and(|mine| mine.holds(bits)) {
            return;
        }
        Arc::make_mut(self.0.get_or_insert_default()).entry(did).or_default().union(bits);
    }
}

/// Returns the identities that an op names, with the heads of each.
pub(super) fn names(core: &OpCore) -> Vec<(Did, &[OpId])> {
    let of_record = |record| match record {
        &ControllerRecord::Identity { did, ref as_of, .. } => Some((did, as_of.as_slice())),
        ControllerRecord::Device(_) => None,
    };
    let own = |as_of| match core.author {
        ControllerId::Identity(did) => Some((did, as_of)),
        ControllerId::Device(_) => None,
    };
    match &core.op {
        Op::Admit(op) => of_record(&op.controller).into_iter().collect(),
        Op::Introduce(op) => own(op.as_of.as_slice()).into_iter().collect(),
        Op::Update(op) if !op.as_of.is_empty() => own(op.as_of.as_slice()).into_iter().collect(),
        Op::Recover(op) => op.controllers.iter().filter_map(|(record, _)| of_record(record)).collect(),
        _ => Vec::new(),
    }
}
