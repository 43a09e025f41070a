//! What is to happen later.

use std::collections::BTreeMap;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use walytis_core::id::PeerId;
use walytis_core::net::GossipMessage;

/// Something that happens at a set time.
#[derive(Debug)]
pub(super) enum Event {
    /// A gossip message reaches a neighbour.
    Gossip { to: PeerId, message: GossipMessage },
    /// A peer that was connected once is dialled again.
    Redial { from: PeerId, to: PeerId, failures: u32 },
    /// Streams are reset.
    Reset { token: CancellationToken },
}

/// Events in order of their time; those of the same time in the order in which they were noted.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    events: BTreeMap<(Instant, u64), Event>,
    noted: u64,
}

impl Agenda {
    pub(super) fn note(&mut self, at: Instant, event: Event) {
        self.noted += 1;
        self.events.insert((at, self.noted), event);
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the next event that is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Event> {
        let due = self.events.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(due.remove())
    }
}
