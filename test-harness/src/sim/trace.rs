//! What happened, as one hash.

use std::fmt;

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

/// Everything that happened in a simulation, in its order: equal if and only if it was the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TraceHash([u8; 32]);

impl fmt::Debug for TraceHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Collects events. With `WALYTIS_TRACE` in the environment each is also printed, to compare two runs line by line.
#[derive(Debug)]
pub(super) struct Trace {
    start: Instant,
    hash: Sha256,
    events: u64,
    print: bool,
}

impl Trace {
    pub(super) fn new(start: Instant) -> Self {
        Self { start, hash: Sha256::new(), events: 0, print: std::env::var_os("WALYTIS_TRACE").is_some() }
    }

    /// Notes an event: what, between whom, and its bytes.
    pub(super) fn note(&mut self, what: &str, from: u64, to: u64, bytes: &[u8]) {
        let at = self.start.elapsed();
        self.events += 1;
        for part in [what.as_bytes(), bytes] {
            self.hash.update((part.len() as u64).to_be_bytes());
            self.hash.update(part);
        }
        for number in [u64::try_from(at.as_nanos()).unwrap_or(u64::MAX), from, to] {
            self.hash.update(number.to_be_bytes());
        }
        if self.print {
            let digest = Sha256::digest(bytes);
            let digest: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            eprintln!("{:>12.6} {what:<10} {from} -> {to} {:>7} bytes {digest}", at.as_secs_f64(), bytes.len());
        }
    }

    pub(super) const fn events(&self) -> u64 {
        self.events
    }

    pub(super) fn hash(&self) -> TraceHash {
        TraceHash(self.hash.clone().finalize().into())
    }
}
