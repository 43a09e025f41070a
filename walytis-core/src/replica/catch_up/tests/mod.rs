//! Replicas with one machine each on a simulated network: messages are late and doubled, connections break and lose
//! what was under way, some peers never serve. Time is virtual; everything follows from the seed.
//!
//! Rerun one schedule: `WALYTIS_SEED=<seed> cargo test -p walytis-core --lib catch_up::tests`.

mod convergence;
mod serving;
mod simulation;
mod sources;
mod turns;

use super::*;
use simulation::Simulation;

fn peer(index: usize) -> PeerId {
    PeerId::from_bytes(&[u8::try_from(index).unwrap() + 1]).unwrap()
}

fn index_of(peer: &PeerId) -> usize {
    usize::from(peer.as_bytes()[0]) - 1
}

fn genesis() -> BlockId {
    BlockId::from_digest([0; 32])
}

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("WALYTIS_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..count).collect(),
    }
}
