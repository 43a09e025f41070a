//! How a crash-point test runs: once without failure to count the steps, then once for each step and each failure.

use std::ops::Range;
use std::time::Duration;

use test_harness::invariant;
use test_harness::sim::simulate;
use test_harness::store::{Failure, Power};
use test_harness::world::{SimNode, World};
use tokio::time::timeout;
use walytis_core::id::ChainId;
use walytis_core::node::Listing;

/// Longest virtual time that a call may take while its store fails: above every deadline of the protocols.
const BOUND: Duration = Duration::from_secs(300);

/// Where a run fails, or that it does not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan(pub(crate) Option<(u64, Failure)>);

impl Plan {
    pub(crate) fn power(self) -> Power {
        self.0.map_or_else(Power::steady, |(step, failure)| Power::failing_at(step, failure))
    }

    /// Waits for a call; one that does not come back is a failure of its own.
    pub(crate) async fn bounded<T>(self, what: &str, call: impl Future<Output = T>) -> T {
        timeout(BOUND, call).await.unwrap_or_else(|_| panic!("{what} hangs: {self:?}"))
    }

    /// Brings a node whose disk failed into a state in which it must work: restarted if it died, else with a disk that
    /// takes writes again, and nothing more.
    pub(crate) async fn come_back(self, world: &World, node: SimNode) -> SimNode {
        let power = node.power().clone();
        power.mend();
        if !power.is_off() {
            return node;
        }
        let node = world.start(self.bounded("the end", node.stop()).await).await;
        self.check(&node).await;
        node
    }

    /// Checks every chain of a node.
    pub(crate) async fn check(self, node: &SimNode) {
        for entry in node.node().chains(Listing::All) {
            let sound = invariant::chain(&node.chain(&entry.id)).await;
            assert!(sound.is_ok(), "{sound:?}: {self:?}");
        }
    }

    /// Waits until the nodes show the same, restarts the first and checks that nothing changes by that.
    pub(crate) async fn level(self, world: &World, node: SimNode, other: &SimNode, chain: &ChainId) -> SimNode {
        world.until_level(&[&node, other], chain).await;
        let before = node.summary(chain);
        let node = world.start(self.bounded("the end", node.stop()).await).await;
        self.check(&node).await;
        assert_eq!(node.summary(chain), before, "{self:?}");
        node
    }
}

/// Runs `scenario`, which returns the steps that belong to it, with no failure, then with each failure at each of these
/// steps, every run in a runtime of its own. There must be `steps_min` steps, or the scenario tests too little.
pub(crate) fn at_every_step(name: &str, steps_min: u64, scenario: impl AsyncFn(u64, Plan) -> Range<u64>) {
    with_failures(name, steps_min, &Failure::ALL, scenario);
}

/// The same for scenarios that take long: with the failures that differ most, unless `WALYTIS_CHAOS` is set.
#[cfg(feature = "offchain")]
pub(crate) fn at_every_step_in_short(name: &str, steps_min: u64, scenario: impl AsyncFn(u64, Plan) -> Range<u64>) {
    let short = [Failure::Full, Failure::PowerCut { applied: true }];
    let all = std::env::var_os("WALYTIS_CHAOS").is_some();
    with_failures(name, steps_min, if all { &Failure::ALL } else { &short }, scenario);
}

fn with_failures(name: &str, steps_min: u64, failures: &[Failure], scenario: impl AsyncFn(u64, Plan) -> Range<u64>) {
    let steps = simulate(name, &[1], async |seed| scenario(seed, Plan(None)).await).remove(0);
    assert!(steps.end - steps.start >= steps_min, "{steps:?}: the scenario tests too little");
    // One point alone, to look into it.
    let only: Option<u64> = std::env::var("WALYTIS_STEP").ok().map(|text| text.parse().unwrap());
    for failure in failures {
        for step in steps.clone().filter(|step| only.is_none_or(|only| only == *step)) {
            eprintln!("{failure:?} at step {step}");
            simulate(name, &[1], async |seed| scenario(seed, Plan(Some((step, *failure)))).await);
        }
    }
}
