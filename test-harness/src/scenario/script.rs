//! The steps of a scenario.

use std::time::Duration;

use tokio::time::timeout;
use walytis_core::clock::Clock as _;
use walytis_core::ledger::{LedgerRead as _, SubscribeFrom};
use walytis_core::net::Network as _;
use walytis_core::node::InviteOptions;
use walytis_core::topic::Topic;

use super::attack::{self, Ongoing};
use super::cast::Cast;
use super::file::{End, Scenario, Step, Topology};
use crate::world::{SimNode, World};

/// A scenario that runs.
#[derive(Debug)]
pub(super) struct Script<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) world: &'a World,
    pub(super) cast: Cast,
    pub(super) attacks: Vec<Ongoing>,
    written: u64,
}

impl<'a> Script<'a> {
    pub(super) const fn new(scenario: &'a Scenario, world: &'a World, cast: Cast) -> Self {
        Self { scenario, world, cast, attacks: Vec::new(), written: 0 }
    }

    pub(super) async fn step(&mut self, step: &Step) {
        let (world, chain) = (self.world, self.cast.chain);
        match step {
            Step::Add { each, bytes, topics, pause_ms, by } => self.add(*each, *bytes, *topics, *pause_ms, by).await,
            Step::Beat { rounds, every_ms } => {
                for number in 0..rounds * self.cast.places.len() {
                    let number = number % self.cast.places.len();
                    let content = self.content(number, 0);
                    self.cast.add(world, number, content, vec![]).await;
                    world.pass(Duration::from_millis(*every_ms)).await;
                }
            }
            Step::AddMany { by, count, bytes } => self.add_many(*by, *count, *bytes).await,
            Step::Blob { by, bytes } => {
                let content =
                    (0..*bytes as u64).map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect();
                self.cast.add(world, *by, content, vec![]).await;
            }
            Step::Part { groups } => self.part(groups),
            Step::Heal { pairwise, pause_s } => self.heal(*pairwise, Duration::from_secs(*pause_s)).await,
            Step::Churn { rounds, with, down_s, each } => {
                for _ in 0..*rounds {
                    self.churn(with, Duration::from_secs(*down_s), *each).await;
                }
            }
            Step::Join { count, shareable } => {
                for _ in 0..*count {
                    self.join(*shareable).await;
                }
            }
            Step::Follow { by, seconds } => self.follow(*by, Duration::from_secs(*seconds)).await,
            Step::Links(links) => world.hub().set_conditions(links.conditions()),
            Step::Clock { by, skew_hours } => {
                if let Some(node) = self.cast.up(world, *by).await {
                    node.clock().set_skew_ms(skew_hours * 60 * 60 * 1_000);
                    world.hub().note("clock", &node.clock().now_ms().to_be_bytes());
                }
            }
            Step::FullDisk { by, seconds } => {
                let Some(power) = self.cast.up(world, *by).await.map(|node| node.power().clone()) else { return };
                power.fill();
                self.add(1, 500, 0, 1_000, &[]).await;
                world.pass(Duration::from_secs(*seconds)).await;
                power.mend();
            }
            Step::Delete { by } => {
                let Some(node) = self.cast.up(world, *by).await else { return };
                node.power().fail_never();
                let deleted = node.node().delete_chain(&chain).await;
                assert!(deleted.is_ok(), "{deleted:?}");
                if let Some(place) = self.cast.places.get_mut(*by) {
                    place.left = true;
                }
            }
            Step::Attack { on, how } => {
                if let Some(victim) = self.cast.up(world, *on).await {
                    self.attacks.push(attack::attack(world, victim, &chain, *how).await);
                }
            }
            Step::Pass { seconds } => world.pass(Duration::from_secs(*seconds)).await,
            Step::Level { within_s } => self.level(Duration::from_secs(*within_s)).await,
        }
    }

    /// Everybody comes up and comes level.
    pub(super) async fn level(&mut self, within: Duration) {
        self.cast.all_up(self.world).await;
        // What an attacker left is held for a while.
        let held = if self.attacks.is_empty() { 0 } else { usize::MAX };
        self.world.until_level_within(&self.cast.members(), &self.cast.chain, within, held).await;
    }

    fn content(&mut self, number: usize, bytes: u64) -> Vec<u8> {
        self.written += 1;
        let mut content = format!("{} of n{number} ", self.written).into_bytes();
        let size = self.world.draw(|dice| dice.below(bytes + 1));
        content.resize(content.len() + usize::try_from(size).unwrap_or(0), b'x');
        content
    }

    fn topics(&self, count: u64) -> Vec<Topic> {
        let count = self.world.draw(|dice| dice.below(count + 1));
        (0..count).filter_map(|number| Topic::user(&format!("topic {number} \u{1f98a}")).ok()).collect()
    }

    async fn add(&mut self, each: usize, bytes: u64, topics: u64, pause_ms: u64, by: &[usize]) {
        let who: Vec<_> = if by.is_empty() { (0..self.cast.places.len()).collect() } else { by.to_vec() };
        let mut turns: Vec<_> = who.iter().copied().cycle().take(who.len() * each).collect();
        self.world.draw(|dice| dice.shuffle(&mut turns));
        for number in turns {
            let (content, topics) = (self.content(number, bytes), self.topics(topics));
            self.cast.add(self.world, number, content, topics).await;
            let pause = self.world.draw(|dice| dice.within(Duration::from_millis(pause_ms)));
            if !pause.is_zero() {
                self.world.pass(pause).await;
            }
        }
    }

    async fn add_many(&mut self, by: usize, count: usize, bytes: u64) {
        let contents: Vec<_> = (0..count).map(|_| self.content(by, bytes)).collect();
        let digests: Vec<_> = contents.iter().map(|content| walytis_core::id::Digest::of(content)).collect();
        let chain = self.cast.chain;
        let Some(node) = self.cast.up(self.world, by).await else { return };
        let texts = contents.into_iter().map(|content| String::from_utf8_lossy(&content).into_owned());
        let ids = node.add_many(&chain, texts).await;
        self.cast.acknowledged.extend(ids.into_iter().zip(digests));
    }

    fn part(&self, groups: &[Vec<usize>]) {
        let alone: Vec<Vec<usize>> = (0..self.cast.peers.len()).map(|number| vec![number]).collect();
        let groups = if groups.is_empty() { &alone } else { groups };
        let peers = |group: &Vec<usize>| -> Vec<_> {
            group.iter().filter_map(|number| self.cast.peers.get(*number).cloned()).collect()
        };
        for (place, left) in groups.iter().enumerate() {
            for right in groups.iter().skip(place + 1) {
                self.world.hub().partition(&peers(left), &peers(right));
            }
        }
    }

    async fn heal(&mut self, pairwise: bool, pause: Duration) {
        if !pairwise {
            return self.world.hub().heal_all();
        }
        let mut pairs = self.world.hub().cuts();
        self.world.draw(|dice| dice.shuffle(&mut pairs));
        for (a, b) in pairs {
            self.world.hub().heal(&a, &b);
            let pause = self.world.draw(|dice| dice.within(pause));
            self.world.pass(pause).await;
            if let Some(number) = self.cast.peers.iter().position(|peer| *peer == a) {
                let content = self.content(number, 100);
                self.cast.add(self.world, number, content, vec![]).await;
            }
        }
    }

    async fn churn(&mut self, with: &[End], down: Duration, each: usize) {
        let count = self.cast.places.len();
        let victim = self.pick(count);
        let how = with.get(self.pick(with.len())).copied().unwrap_or(End::Stop);
        self.cast.end(self.world, victim, how).await;
        let others: Vec<_> = (0..count).filter(|number| *number != victim || how == End::MidWrite).collect();
        self.add(each, 500, 2, 1_000, &others).await;
        let down = self.world.draw(|dice| dice.within(down));
        self.world.pass(down).await;
        self.cast.up(self.world, victim).await;
    }

    fn pick(&self, end: usize) -> usize {
        usize::try_from(self.world.draw(|dice| dice.below(end as u64))).unwrap_or(0)
    }

    async fn join(&mut self, shareable: bool) {
        let (number, chain) = (self.cast.places.len(), self.cast.chain);
        let members: Vec<_> =
            (0..number).filter(|number| self.cast.places.get(*number).is_some_and(|place| !place.left)).collect();
        let Some(issuer) = members.get(self.pick(members.len())).copied() else { return };
        let options = InviteOptions { shareable, ..InviteOptions::default() };
        let node = self.world.start(Cast::disk(self.scenario, self.world.seed(), number)).await;
        let Some(member) = self.cast.up(self.world, issuer).await else { return };
        // What a node that fails just now makes of an invitation is shown elsewhere.
        member.power().fail_never();
        if !shareable {
            node.join(member, &chain).await;
            return self.seat(node).await;
        }
        #[expect(clippy::expect_used, reason = "helpers of tests fail by panicking")]
        let mut invitation = member.invite(&chain, options).await.expect("a member can invite");
        // Let in by somebody else, who has heard of it by then.
        self.level(Duration::from_secs(600)).await;
        self.cast.end(self.world, issuer, End::Stop).await;
        invitation.members = self
            .cast
            .members()
            .iter()
            .flat_map(|node| node.network().addresses().into_iter().map(|address| (node.peer(), address)))
            .collect();
        node.join_with(&invitation).await;
        self.seat(node).await;
        self.cast.up(self.world, issuer).await;
    }

    /// Where each knows each, a newcomer comes to know all, too.
    async fn seat(&mut self, node: SimNode) {
        if self.scenario.topology == Topology::Full {
            for other in self.cast.members() {
                node.meet(other).await;
            }
        }
        self.cast.seat(node);
    }

    /// Reads on for a while, acknowledging now and then, and notes everything.
    async fn follow(&mut self, by: usize, time: Duration) {
        let (world, chain) = (self.world, self.cast.chain);
        self.cast.up(world, by).await;
        let Some(place) = self.cast.places.get_mut(by).filter(|place| !place.left) else { return };
        let Some(node) = &place.node else { return };
        let subscribed = node.chain(&chain).subscribe(SubscribeFrom::Name("scenario".into())).await;
        // A node whose power goes just now.
        let Ok(mut subscription) = subscribed else { return };
        if std::mem::replace(&mut place.followed, true) {
            place.log.restarted();
        }
        let log = &mut place.log;
        let reading = async {
            while let Ok(Some(event)) = subscription.next().await {
                let broken = log.handle(&event);
                assert!(broken.is_ok(), "n{by}: {broken:?}");
                if world.draw(|dice| dice.hits(300)) {
                    // One that fails may have reached the disk.
                    log.acknowledged(event.cursor());
                    let _acknowledged = subscription.ack(event.cursor()).await;
                }
            }
        };
        // Ends by the time.
        let _ended = timeout(time, reading).await;
    }
}
