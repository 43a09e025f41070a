//! Counters since the node's start.

use std::sync::atomic::{AtomicU64, Ordering};

/// One counter.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: Counter,)* }

        /// The counters at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Metrics { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            pub(crate) fn snapshot(&self) -> Metrics {
                Metrics { $($name: self.$name.value(),)* }
            }
        }
    };
}

counters! {
    /// Connections that came up, in both directions.
    connections_opened,
    /// Connections that ended.
    connections_closed,
    /// Dials that failed.
    dial_failures,
    /// Incoming connections that failed or were refused.
    incoming_failures,
    /// Gossip messages received.
    gossip_received,
    /// Gossip messages dropped because a subscriber was too slow.
    gossip_dropped,
    /// Gossip messages found good.
    gossip_accepted,
    /// Gossip messages ignored.
    gossip_ignored,
    /// Gossip messages rejected.
    gossip_rejected,
    /// Gossip messages published.
    gossip_published,
    /// Streams opened.
    streams_opened,
}
