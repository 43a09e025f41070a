//! The nodes of a scenario, up or down, and what they acknowledged.

use std::collections::BTreeMap;
use std::time::Duration;

use walytis_core::id::{BlockId, ChainId, Digest, PeerId};
use walytis_core::ledger::{Ledger as _, NewBlock};
use walytis_core::topic::Topic;

use super::file::{End, Scenario};
use crate::invariant::SubscriberLog;
use crate::store::Failure;
use crate::world::{Crash, Disk, SimNode, World};

/// Writes after which power that is to fail in the middle of one does, at most.
const MID_WRITE_WITHIN: u64 = 30;

/// A place for a node.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) node: Option<SimNode>,
    disk: Option<Disk>,
    /// It removed the chain.
    pub(super) left: bool,
    pub(super) log: SubscriberLog,
    pub(super) followed: bool,
}

/// All nodes of a scenario.
#[derive(Debug)]
pub(super) struct Cast {
    pub(super) places: Vec<Place>,
    pub(super) peers: Vec<PeerId>,
    pub(super) chain: ChainId,
    /// Blocks that a node said it has added, with the digest of their content.
    pub(super) acknowledged: BTreeMap<BlockId, Digest>,
    /// Blocks whose addition failed while the power went: they may be there.
    pub(super) unsure: u64,
}

impl Cast {
    pub(super) fn disk(scenario: &Scenario, seed: u64, number: usize) -> Disk {
        let of = |list: &[i64]| list.get(number % list.len().max(1)).copied().unwrap_or(0);
        let skew_ms = of(&scenario.clocks.skew_hours) * 60 * 60 * 1_000;
        let slow = &scenario.clocks.disk_ms;
        let slow = slow.get(number % slow.len().max(1)).copied().unwrap_or(0);
        Disk::new(seed, &format!("n{number}"), skew_ms).slow(Duration::from_millis(slow))
    }

    pub(super) fn seat(&mut self, node: SimNode) {
        self.peers.push(node.peer());
        self.places.push(Place {
            node: Some(node),
            disk: None,
            left: false,
            log: SubscriberLog::default(),
            followed: false,
        });
    }

    /// Returns a node that is up and a member; brings it back if its power went.
    pub(super) async fn up(&mut self, world: &World, number: usize) -> Option<&SimNode> {
        let place = self.places.get_mut(number)?;
        if place.left {
            return None;
        }
        if let Some(node) = place.node.take_if(|node| node.power().is_off()) {
            place.disk = Some(node.crash_as_it_is().await);
        }
        if let Some(disk) = place.disk.take() {
            place.node = Some(world.start(disk).await);
            place.log.restarted();
        }
        place.node.as_ref()
    }

    /// Returns all members that are up.
    pub(super) fn members(&self) -> Vec<&SimNode> {
        self.places.iter().filter(|place| !place.left).filter_map(|place| place.node.as_ref()).collect()
    }

    /// Brings everybody back.
    pub(super) async fn all_up(&mut self, world: &World) {
        for number in 0..self.places.len() {
            self.up(world, number).await;
        }
    }

    /// Ends a node; what is left of it waits on its disk.
    pub(super) async fn end(&mut self, world: &World, number: usize, how: End) {
        self.up(world, number).await;
        let Some(place) = self.places.get_mut(number).filter(|place| !place.left) else { return };
        let Some(node) = place.node.take() else { return };
        world.hub().note(&format!("{how:?}"), &number.to_be_bytes());
        place.log.restarted();
        match how {
            End::Stop => place.disk = Some(node.stop().await),
            End::Kill => place.disk = Some(node.crash(Crash::Kill).await),
            End::PowerCut => place.disk = Some(node.crash(Crash::PowerCut).await),
            End::MidWrite => {
                let disk = node.stop().await;
                let step = world.draw(|dice| dice.below(MID_WRITE_WITHIN));
                let applied = world.draw(|dice| dice.hits(500));
                let failure = match world.draw(|dice| dice.hits(500)) {
                    true => Failure::Kill { applied },
                    false => Failure::PowerCut { applied },
                };
                let node = world.start(disk).await;
                node.power().fail_in(step, failure);
                place.node = Some(node);
            }
        }
    }

    /// Lets a node add a block; one whose power goes meanwhile, or whose disk is full, may fail to.
    pub(super) async fn add(&mut self, world: &World, number: usize, content: Vec<u8>, topics: Vec<Topic>) {
        let chain = self.chain;
        let digest = Digest::of(&content);
        let Some(node) = self.up(world, number).await else { return };
        let (power, name) = (node.power().clone(), node.name().to_owned());
        match node.chain(&chain).add(NewBlock { content: content.into(), topics }).await {
            Ok(info) => {
                self.acknowledged.insert(info.id, digest);
            }
            Err(error) => {
                assert!(power.is_off() || power.is_full(), "{name} cannot add: {error:?}");
                self.unsure += u64::from(power.is_off());
            }
        }
    }
}
