//! Whole nodes in a simulated world: core's `Node` with replication and joins over the simulated network, a disk that
//! survives kills and power cuts, and a clock of its own.
//!
//! Helpers of tests: what must not fail fails by panicking.

mod node;
#[cfg(feature = "offchain")]
mod private;
mod secrets;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use walytis_core::id::ChainId;

pub use node::{Crash, Disk, SimNode};
#[cfg(feature = "offchain")]
pub use private::PrivateNode;

use crate::invariant;
use crate::sim::{Dice, LinkConditions, SimHub, TraceHash};
use crate::store::Power;

/// Virtual time after which nodes that should agree have failed to.
pub const PATIENCE: Duration = Duration::from_secs(900);
/// How often virtual time is stopped to look.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A simulated world; everything in it follows from one seed.
#[derive(Debug)]
pub struct World {
    hub: SimHub,
    seed: u64,
    start: Instant,
    dice: Mutex<Dice>,
}

impl World {
    /// Returns an empty world with these links. Must be called within a runtime, whose time is paused.
    pub fn new(seed: u64, conditions: LinkConditions) -> Self {
        let dice = Mutex::new(Dice::new(seed, "scenario"));
        Self { hub: SimHub::new(seed, conditions), seed, start: Instant::now(), dice }
    }

    /// Returns the network between the nodes.
    pub const fn hub(&self) -> &SimHub {
        &self.hub
    }

    /// Returns the seed.
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns the virtual time since the world began.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Draws something for the scenario itself.
    pub fn draw<T>(&self, draw: impl FnOnce(&mut Dice) -> T) -> T {
        draw(&mut self.dice.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Brings up a new node; the name decides its keys.
    pub async fn node(&self, name: &str) -> SimNode {
        self.node_with_skew(name, 0).await
    }

    /// Brings up a new node whose clock is wrong by `skew_ms`.
    pub async fn node_with_skew(&self, name: &str, skew_ms: i64) -> SimNode {
        self.start(Disk::new(self.seed, name, skew_ms)).await
    }

    /// Brings up a node on what an earlier one left.
    pub async fn start(&self, disk: Disk) -> SimNode {
        self.start_with(disk, Power::steady()).await
    }

    /// Brings up a node whose power fails as planned; the plan must not begin before the node is open.
    pub async fn start_with(&self, disk: Disk, power: Power) -> SimNode {
        node::start(&self.hub, self.start, disk, power).await
    }

    /// Brings up a new node with a vault, identities and private ledgers.
    #[cfg(feature = "offchain")]
    pub async fn private_node(&self, name: &str) -> PrivateNode {
        self.start_private(Disk::with_vault(self.seed, name, 0)).await
    }

    /// Brings up such a node on what an earlier one left.
    #[cfg(feature = "offchain")]
    pub async fn start_private(&self, disk: Disk) -> PrivateNode {
        self.start_private_with(disk, Power::steady()).await
    }

    /// Brings up such a node whose power fails as planned; the plan must not begin before the node is open.
    #[cfg(feature = "offchain")]
    pub async fn start_private_with(&self, disk: Disk, power: Power) -> PrivateNode {
        PrivateNode::open(self.start_with(disk, power).await).await
    }

    /// Brings up nodes called `n0`, `n1`, …, of which each knows the next, all members of one chain of the first.
    pub async fn members(&self, count: usize, visibility: walytis_core::block::Visibility) -> (Vec<SimNode>, ChainId) {
        let mut nodes = vec![self.node("n0").await];
        #[expect(clippy::indexing_slicing, reason = "the first was just put in")]
        let chain = nodes[0].create("chain", visibility).await;
        for number in 1..count {
            let node = self.node(&format!("n{number}")).await;
            if let Some(before) = nodes.last() {
                node.join(before, &chain).await;
            }
            nodes.push(node);
        }
        (nodes, chain)
    }

    /// Lets virtual time pass.
    pub async fn pass(&self, time: Duration) {
        sleep(time).await;
    }

    /// Waits until all show the same blocks and hold none as pending, then checks every invariant of the chain.
    ///
    /// # Panics
    /// If that takes longer than [`PATIENCE`] of virtual time, or an invariant is broken.
    pub async fn until_level(&self, nodes: &[&SimNode], chain: &ChainId) {
        self.until_level_within(nodes, chain, PATIENCE, 0).await;
    }

    /// The same within a bound of virtual time, with at most so many blocks held as pending: those of an attacker.
    ///
    /// # Panics
    /// If that takes longer, or an invariant is broken.
    pub async fn until_level_within(&self, nodes: &[&SimNode], chain: &ChainId, within: Duration, held: usize) {
        let level = async {
            loop {
                let mut shown = nodes.iter().map(|node| node.summary(chain));
                let first = shown.next();
                let same = shown.all(|other| Some(other) == first);
                if same && nodes.iter().all(|node| node.pending(chain) <= held) {
                    return;
                }
                sleep(LOOK_EVERY).await;
            }
        };
        if timeout(within, level).await.is_err() {
            let shown: Vec<_> = nodes.iter().map(|node| (node.name(), node.summary(chain), node.sync(chain))).collect();
            panic!("the replicas stay apart for {within:?}: {shown:#?}");
        }
        let chains: Vec<_> = nodes.iter().map(|node| node.chain(chain)).collect();
        let broken = invariant::convergence(&chains).await;
        assert!(broken.is_ok(), "{broken:?}");
        for chain in &chains {
            let broken = invariant::chain(chain).await;
            assert!(broken.is_ok(), "{broken:?}");
        }
    }

    /// Waits until `done` says so.
    ///
    /// # Panics
    /// If that takes longer than [`PATIENCE`] of virtual time.
    pub async fn until(&self, what: &str, done: impl AsyncFn() -> bool) {
        let wait = async {
            while !done().await {
                sleep(LOOK_EVERY).await;
            }
        };
        assert!(timeout(PATIENCE, wait).await.is_ok(), "{what}: not in {PATIENCE:?}");
    }

    /// Ends the nodes in order, then the world; returns the hash of everything that happened.
    ///
    /// # Panics
    /// If a task is left.
    pub async fn stop(self, nodes: Vec<SimNode>) -> TraceHash {
        for node in nodes {
            node.stop().await;
        }
        self.end().await
    }

    /// Ends a world whose nodes have all ended; returns the hash of everything that happened.
    ///
    /// # Panics
    /// If a task is left.
    pub async fn end(self) -> TraceHash {
        self.hub.shutdown().await;
        let alive = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        assert_eq!(alive, 0, "tasks are left");
        self.hub.trace()
    }
}
