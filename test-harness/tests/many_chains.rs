//! Two hundred chains on one node: all of them go on at the same time, and after a restart.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::time::Duration;

use test_harness::sim::{LinkConditions, simulate};
use test_harness::world::World;
use walytis_core::block::Visibility;
use walytis_core::node::Listing;

const CHAINS: usize = 200;

#[test]
fn two_hundred_chains_of_one_node_all_come_level_after_a_restart() {
    simulate("many_chains::two_hundred_chains_of_one_node_all_come_level_after_a_restart", &[1], async |seed| {
        let world = World::new(seed, LinkConditions::CALM);
        let (a, b) = (world.node("a").await, world.node("b").await);
        let mut chains = Vec::new();
        for number in 0..CHAINS {
            let visibility = if number.is_multiple_of(2) { Visibility::Invited } else { Visibility::Public };
            let chain = a.create(&format!("chain {number}"), visibility).await;
            b.join(&a, &chain).await;
            chains.push(chain);
        }
        let disk = b.stop().await;
        for chain in &chains {
            a.add(chain, "while the other was away").await;
        }
        let b = world.start(disk).await;
        for chain in &chains {
            b.add(chain, "before the first contact").await;
        }
        assert_eq!(b.node().chains(Listing::All).len(), CHAINS);
        let began = world.elapsed();
        for chain in &chains {
            world.until_level(&[&a, &b], chain).await;
            assert_eq!(a.summary(chain).count, 3);
        }
        let took = world.elapsed() - began;
        assert!(took < Duration::from_secs(30), "{CHAINS} chains needed {took:?}");
        world.stop(vec![a, b]).await;
    });
}
