//! Where a content is: a pure table, checked whole.
//!
//! ```text
//!              first chunk          last chunk, key here
//!   wanted ──────────────► partial ─────────────────────► available
//!     │ ▲  nobody has it    │         last chunk │            ▲
//!     ▼ │  ◄── somebody     │            no key  ▼    key     │
//!   unavailable             └───────────────► locked ─────────┘
//!
//!   any of them ──── forget ────► forgotten, for ever
//! ```

use serde::{Deserialize, Serialize};

/// Where the content of a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ContentState {
    /// Asked for, nothing here yet.
    Wanted,
    /// Some of it is here.
    Partial,
    /// It can be read.
    Available,
    /// Nobody who is connected has it; asked for again and again.
    Unavailable,
    /// It is here, the secret of its epoch is not, or the vault is locked.
    Locked,
    /// It was dropped here for ever.
    Forgotten,
}

impl ContentState {
    /// Returns the name as the command line and JSON show it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wanted => "wanted",
            Self::Partial => "partial",
            Self::Available => "available",
            Self::Unavailable => "unavailable",
            Self::Locked => "locked",
            Self::Forgotten => "forgotten",
        }
    }
}

/// What is stored of where a content is; the rest follows from what is known now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    Wanted,
    Locked,
    Available,
    Forgotten,
}

/// How much of an envelope is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Here {
    Nothing,
    Some,
    All,
}

/// What is known of a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Facts {
    pub(crate) here: Here,
    /// The secret of its epoch can be used.
    pub(crate) key: bool,
    /// Every peer that could be asked said no.
    pub(crate) nobody_has: bool,
    pub(crate) forgotten: bool,
}

impl Facts {
    /// Returns where the content is.
    pub(crate) const fn state(self) -> ContentState {
        match (self.forgotten, self.here, self.key, self.nobody_has) {
            (true, ..) => ContentState::Forgotten,
            (false, Here::All, true, _) => ContentState::Available,
            (false, Here::All, false, _) => ContentState::Locked,
            (false, Here::Some, ..) => ContentState::Partial,
            (false, Here::Nothing, _, true) => ContentState::Unavailable,
            (false, Here::Nothing, _, false) => ContentState::Wanted,
        }
    }

    /// Returns what is stored of it.
    pub(crate) const fn phase(self) -> Phase {
        match self.state() {
            ContentState::Wanted | ContentState::Partial | ContentState::Unavailable => Phase::Wanted,
            ContentState::Locked => Phase::Locked,
            ContentState::Available => Phase::Available,
            ContentState::Forgotten => Phase::Forgotten,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::ContentState::{Available, Forgotten, Locked, Partial, Unavailable, Wanted};
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Event {
        Chunk,
        LastChunk,
        KeyComes,
        VaultLocks,
        NobodyHasIt,
        SomebodyHasIt,
        Forget,
    }

    const EVENTS: [Event; 7] = [
        Event::Chunk,
        Event::LastChunk,
        Event::KeyComes,
        Event::VaultLocks,
        Event::NobodyHasIt,
        Event::SomebodyHasIt,
        Event::Forget,
    ];

    /// The rules, written a second time: which state may follow on which.
    fn may_follow(state: ContentState, event: Event) -> &'static [ContentState] {
        match (state, event) {
            (Forgotten, _) | (_, Event::Forget) => &[Forgotten],
            (Wanted | Unavailable | Partial, Event::Chunk) => &[Partial],
            (Wanted | Unavailable | Partial, Event::LastChunk) => &[Available, Locked],
            (Wanted | Unavailable, Event::NobodyHasIt) => &[Unavailable],
            (Wanted | Unavailable, Event::SomebodyHasIt) => &[Wanted],
            (Locked | Available, Event::KeyComes) => &[Available],
            (Locked | Available, Event::VaultLocks) => &[Locked],
            (Wanted, _) => &[Wanted],
            (Unavailable, _) => &[Unavailable],
            (Partial, _) => &[Partial],
            (Available, _) => &[Available],
            (Locked, _) => &[Locked],
        }
    }

    fn after(facts: Facts, event: Event) -> Facts {
        match event {
            _ if facts.forgotten => facts,
            Event::Chunk => Facts { here: facts.here.max(Here::Some), ..facts },
            Event::LastChunk => Facts { here: Here::All, ..facts },
            Event::KeyComes => Facts { key: true, ..facts },
            Event::VaultLocks => Facts { key: false, ..facts },
            Event::NobodyHasIt => Facts { nobody_has: true, ..facts },
            Event::SomebodyHasIt => Facts { nobody_has: false, ..facts },
            Event::Forget => Facts { forgotten: true, ..facts },
        }
    }

    /// Every state that any sequence of events leads to, with every event in each: nothing else happens.
    #[test]
    fn every_reachable_transition_is_one_of_the_table() {
        let start = Facts { here: Here::Nothing, key: false, nobody_has: false, forgotten: false };
        let (mut seen, mut open) = (BTreeSet::from([start]), vec![start]);
        let mut states = BTreeSet::new();
        while let Some(facts) = open.pop() {
            states.insert(facts.state());
            for event in EVENTS {
                let next = after(facts, event);
                let allowed = may_follow(facts.state(), event);
                assert!(allowed.contains(&next.state()), "{facts:?}, {event:?} leads to {:?}", next.state());
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
        assert_eq!((seen.len(), states.len()), (24, 6), "not every combination was looked at");
    }

    /// What is stored says what must hold after a restart: wanted is fetched again, forgotten stays so, and nothing can be
    /// read that is not here whole with its key.
    #[test]
    fn what_is_stored_never_claims_more_than_is_here() {
        for here in [Here::Nothing, Here::Some, Here::All] {
            for bits in 0..8_u8 {
                let (key, nobody_has, forgotten) = (bits & 1 > 0, bits & 2 > 0, bits & 4 > 0);
                let facts = Facts { here, key, nobody_has, forgotten };
                let phase = facts.phase();
                assert_eq!(phase == Phase::Forgotten, forgotten);
                assert_eq!(phase == Phase::Available, !forgotten && key && here == Here::All, "{facts:?}");
                assert_eq!(phase == Phase::Wanted, !forgotten && here != Here::All, "{facts:?}");
            }
        }
    }
}
