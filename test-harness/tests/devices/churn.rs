//! Devices come, go, change roles, renew keys, write and die while the network falls apart and comes together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use test_harness::adversary::{OldKeys, opened_by};
use test_harness::sim::{LinkConditions, simulate};
use test_harness::world::{Crash, PrivateNode, SimNode, World};
use tokio::time::timeout;
use walytis_core::id::{BlockId, PeerId};
use walytis_identities::id::{ControllerId, Did, OpId, Role};
use walytis_identities::op::SignedOp;
use walytis_identities::state::IdentityState;

use super::{admit, controllers, me, ops_of, until_agreed};

/// Devices by seed, unless `WALYTIS_DEVICES` says how many.
const DEVICES: [usize; 5] = [9, 7, 2, 5, 4];
/// Times that the network falls apart.
const ROUNDS: usize = 3;
/// Things that happen in between.
const STEPS: usize = 6;
/// How long anybody waits for new keys before it gives up writing: its half may hold nobody who can make some.
const WRITE: Duration = Duration::from_secs(180);

/// What somebody wrote and got acknowledged.
#[derive(Clone)]
struct Written {
    by: ControllerId,
    id: BlockId,
    text: String,
}

/// Devices of one identity; some are in, some were, some come later. The first two are its admins.
struct Group {
    did: Did,
    seed: u64,
    nodes: Vec<Option<PrivateNode>>,
    inside: Vec<usize>,
    /// Who was in, with everything it had then.
    gone: Vec<OldKeys>,
    next: usize,
    /// Somebody who knows the DID and nothing else, and reaches everybody.
    observer: SimNode,
    /// Since all last agreed.
    written: Vec<Written>,
    /// Whose writing since then is not sure to count: its rights changed.
    unsure: BTreeSet<ControllerId>,
    /// What all have agreed on.
    settled: Vec<Written>,
    /// What each set of ops that anybody held amounted to.
    states: BTreeMap<BTreeSet<OpId>, IdentityState>,
}

impl Group {
    async fn new(world: &World, seed: u64) -> Self {
        let wanted = std::env::var("WALYTIS_DEVICES").ok().and_then(|most| most.parse().ok());
        let devices: usize = wanted.unwrap_or(DEVICES[usize::try_from(seed).unwrap() % DEVICES.len()]);
        let mut nodes = Vec::new();
        for number in 0..devices {
            nodes.push(Some(world.private_node(&format!("n{number}")).await));
        }
        let did = nodes[0].as_ref().unwrap().create("home").await;
        let observer = world.node("observer").await;
        let (gone, written, settled) = (Vec::new(), Vec::new(), Vec::new());
        let (unsure, states) = (BTreeSet::new(), BTreeMap::new());
        let mut group =
            Self { did, seed, nodes, inside: vec![0], gone, next: 1, observer, written, unsure, settled, states };
        group.admit(world, Role::Admin).await;
        while group.next + ROUNDS < devices {
            let role = [Role::Member, Role::Member, Role::Reader, Role::Keeper][group.next % 4];
            group.admit(world, role).await;
        }
        group
    }

    fn node(&self, at: usize) -> &PrivateNode {
        self.nodes[at].as_ref().unwrap()
    }

    fn members(&self) -> Vec<&PrivateNode> {
        self.inside.iter().map(|at| self.node(*at)).collect()
    }

    async fn admit(&mut self, world: &World, role: Role) {
        if self.next < self.nodes.len() {
            admit(world, self.node(0), self.node(self.next), &self.did, role).await;
            self.inside.push(self.next);
            self.next += 1;
        }
    }

    /// Somebody who is in, from `first` on; nothing if there is nobody.
    fn somebody(&self, world: &World, first: usize) -> Option<usize> {
        let others: Vec<usize> = self.inside.iter().copied().filter(|at| *at >= first).collect();
        let drawn = usize::try_from(world.draw(|dice| dice.below(others.len() as u64))).unwrap();
        others.get(drawn).copied()
    }

    async fn is_gone(&mut self, at: usize) {
        let seed = self.seed * 1_000 + u64::try_from(at).unwrap();
        self.gone.push(OldKeys::copy(self.node(at), &self.did, seed).await);
        self.inside.retain(|inside| *inside != at);
    }

    /// Cuts all links between two halves, drawn anew.
    fn part(&self, world: &World) {
        let mut peers: Vec<PeerId> = self.nodes.iter().flatten().map(|node| node.base().peer()).collect();
        world.draw(|dice| dice.shuffle(&mut peers));
        let (left, right) = peers.split_at(peers.len() / 2);
        world.hub().partition(left, right);
    }

    async fn heal_pairwise(&self, world: &World) {
        for (one, other) in world.hub().cuts() {
            world.hub().heal(&one, &other);
            world.pass(Duration::from_secs(2)).await;
        }
    }

    /// One thing happens; what the rules refuse does not.
    async fn step(&mut self, world: &World) {
        let did = self.did;
        let admin = usize::from(world.draw(|dice| dice.hits(500)));
        let what = world.draw(|dice| dice.below(9));
        let Some(at) = self.somebody(world, if what < 5 { 2 } else { 0 }) else { return };
        let who = me(self.node(at), &did);
        let identities = self.node(at).identities();
        match what {
            0 => {
                if self.node(admin).identities().remove(&did, who).await.is_ok() {
                    self.is_gone(at).await;
                }
            }
            1 => {
                if identities.leave(&did).await.is_ok() {
                    self.is_gone(at).await;
                }
            }
            2 | 3 => {
                let role = [Role::Member, Role::Reader, Role::Keeper];
                let role = role[usize::try_from(world.draw(|dice| dice.below(3))).unwrap()];
                drop(self.node(admin).identities().set_role(&did, who, role).await);
                self.unsure.insert(who);
            }
            4 => {
                let crash = if world.draw(|dice| dice.hits(500)) { Crash::Kill } else { Crash::PowerCut };
                let disk = self.nodes[at].take().unwrap().crash(crash).await;
                self.nodes[at] = Some(world.start_private(disk).await);
            }
            5 => drop(identities.rekey(&did).await),
            6 => drop(identities.renew_keys(&did).await),
            _ => {
                let written = self.write(at).await;
                self.written.extend(written);
            }
        }
    }

    /// Returns what got acknowledged.
    async fn write(&self, at: usize) -> Option<Written> {
        let text = format!("{} writes {}", self.node(at).base().name(), self.written.len() + self.settled.len());
        let added = timeout(WRITE, self.node(at).add(&self.did, &text, &[])).await;
        added.ok()?.ok().map(|id| Written { by: me(self.node(at), &self.did), id, text })
    }

    /// What must hold at any moment: the same ops give the same state, whoever holds them, and nobody writes under an epoch
    /// that somebody can open who is no reader by what the writer knows.
    async fn watch(&mut self, world: &World) {
        for at in self.inside.clone() {
            let node = self.node(at);
            let ops = ops_of(world, &self.observer, node, &self.did).await;
            let mut graph = ops.graph();
            let state = graph.state();
            assert_eq!(graph.len(), ops.len() + 1, "a node holds what the rules refuse");
            let out: Vec<&OldKeys> = self.gone.iter().filter(|old| state.role(&old.controller()).is_none()).collect();
            if let Some(epoch) = state.sending_epoch {
                assert!(!opened_by(&out, &ops).contains(&epoch), "a removed controller can open what is written now");
            }
            let known: BTreeSet<ControllerId> =
                self.nodes[..self.next].iter().flatten().map(|node| me(node, &self.did)).collect();
            assert!(state.controllers.keys().all(|id| known.contains(id)), "an outsider is in");
            let before = self.states.entry(ops.set()).or_insert_with(|| (*state).clone());
            assert_eq!(*before, *state, "two who hold the same ops disagree");
        }
    }

    /// Once all have met: they agree, whoever is out has no role, and what was acknowledged is read by all who may.
    async fn check(&mut self, world: &World) {
        let members = self.members();
        let mut expected: Vec<ControllerId> = members.iter().map(|node| me(node, &self.did)).collect();
        expected.sort_unstable();
        let ids = |node: &PrivateNode| controllers(node, &self.did).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        world.until("all changes are known", async || members.iter().all(|node| ids(node) == expected)).await;
        let epoch = until_agreed(world, &members, &self.did).await;
        let ops = ops_of(world, &self.observer, members[0], &self.did).await;
        let mut shuffled: Vec<SignedOp> = ops.ops().to_vec();
        world.draw(|dice| dice.shuffle(&mut shuffled));
        let state = ops.graph().state();
        assert_eq!(*ops.graph_by(&shuffled).state(), *state);
        assert_eq!(state.sending_epoch, Some(epoch));
        let gone: Vec<&OldKeys> = self.gone.iter().collect();
        assert!(gone.iter().all(|old| state.role(&old.controller()).is_none()), "a removed controller is back");
        assert!(!opened_by(&gone, &ops).contains(&epoch), "together the removed can open what is written now");
        let counts = |one: &&Written| expected.contains(&one.by) && !self.unsure.contains(&one.by);
        let mut news: Vec<Written> = self.written.iter().filter(counts).cloned().collect();
        news.push(self.write(0).await.unwrap());
        let roles: BTreeMap<ControllerId, Role> = controllers(members[0], &self.did).into_iter().collect();
        for node in members.iter().filter(|node| roles[&me(node, &self.did)].reads()) {
            for one in self.settled.iter().chain(&news) {
                super::until_reads(world, node, &self.did, &one.id, &one.text).await;
            }
        }
        self.written.clear();
        self.unsure.clear();
        self.settled.extend(news);
    }
}

/// Whatever happens in whichever half: in the end all agree, nobody who went is back, nothing acknowledged is lost.
#[test]
fn devices_agree_through_churn_and_partitions() {
    simulate("devices::churn::devices_agree_through_churn_and_partitions", &[1, 2, 3], async |seed| {
        let conditions = if seed.is_multiple_of(3) { LinkConditions::ROUGH } else { LinkConditions::CALM };
        let world = World::new(seed, conditions);
        let mut group = Group::new(&world, seed).await;
        group.check(&world).await;
        for _ in 0..ROUNDS {
            group.part(&world);
            for _ in 0..STEPS {
                group.step(&world).await;
                let pause = world.draw(|dice| dice.within(Duration::from_secs(30)));
                world.pass(pause).await;
                group.watch(&world).await;
            }
            group.heal_pairwise(&world).await;
            group.check(&world).await;
            group.admit(&world, Role::Member).await;
            group.check(&world).await;
        }
        for node in group.nodes.into_iter().flatten() {
            node.stop().await;
        }
        group.observer.stop().await;
        world.end().await;
    });
}
