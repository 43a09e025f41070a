//! How good a link is.

use std::time::Duration;

/// How good a link is, in both directions. Chances are per mille.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkConditions {
    /// Shortest time that anything takes from end to end.
    pub latency: Duration,
    /// At most so much comes on top, drawn for each chunk and message; gossip is reordered by it.
    pub jitter: Duration,
    /// Chance that a gossip message is lost between two neighbours.
    pub gossip_loss: u32,
    /// Chance that it arrives twice, the second time as a message of its own.
    pub gossip_duplication: u32,
    /// Chance that it is late by up to [`Self::stall`], behind others that were sent after it.
    pub gossip_reordering: u32,
    /// Chance that a dial fails.
    pub dial_failure: u32,
    /// Chance that a stream is reset within a minute of being opened.
    pub stream_reset: u32,
    /// Chance that a written chunk, and what follows it on the stream, is late by up to [`Self::stall`].
    pub stream_stall: u32,
    /// Longest stall.
    pub stall: Duration,
}

impl LinkConditions {
    /// Nothing goes wrong; 5 ms from end to end.
    pub const CALM: Self = Self {
        latency: Duration::from_millis(5),
        jitter: Duration::ZERO,
        gossip_loss: 0,
        gossip_duplication: 0,
        gossip_reordering: 0,
        dial_failure: 0,
        stream_reset: 0,
        stream_stall: 0,
        stall: Duration::ZERO,
    };

    /// A bad mobile link: three of ten messages lost, streams that break and stand still.
    pub const ROUGH: Self = Self {
        latency: Duration::from_millis(40),
        jitter: Duration::from_millis(200),
        gossip_loss: 300,
        gossip_duplication: 100,
        gossip_reordering: 200,
        dial_failure: 300,
        stream_reset: 500,
        stream_stall: 20,
        stall: Duration::from_secs(15),
    };
}

impl Default for LinkConditions {
    fn default() -> Self {
        Self::CALM
    }
}
