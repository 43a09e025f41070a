//! Persons come to a group and go, their devices come, go, change roles, renew keys, write and die, while the network falls
//! apart and comes together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use test_harness::adversary::{Known, OldKeys, opened_by};
use test_harness::sim::{LinkConditions, simulate};
use test_harness::world::{PrivateNode, World};
use walytis_identities::id::{ControllerId, DeviceId, Did, EpochId, OpId, Role};
use walytis_identities::identity::Identity as _;
use walytis_identities::node::IdentityInfo;
use walytis_identities::op::SignedOp;
use walytis_identities::state::IdentityState;

use super::nest::{LATER, Nest, Person, Written};
use super::{controllers, ops_of, until_agreed};

/// Times that the network falls apart.
const ROUNDS: usize = 2;
/// Things that happen in between.
const STEPS: usize = 8;

/// Who controls an identity: with the role, since when, and the devices that act.
type Standing = Vec<(ControllerId, Role, OpId, Vec<DeviceId>)>;

fn shown(info: &IdentityInfo) -> (Standing, Option<EpochId>) {
    let devices = |one: &walytis_identities::node::ControllerInfo| one.devices.iter().map(|device| device.id).collect();
    let all = info.controllers.iter().map(|one| (one.id, one.role, one.since, devices(one)));
    (all.collect(), info.epoch)
}

fn amounts_to(state: &IdentityState) -> (Standing, Option<EpochId>) {
    let all = state.controllers.values();
    let all = all.map(|one| (one.id, one.role, one.since, one.devices().map(|(id, _)| id).collect()));
    (all.collect(), state.sending_epoch)
}

/// What a set of ops amounts to, computed here.
struct Outcome {
    known: Known,
    state: Arc<IdentityState>,
    /// The identities below, by what is named of them.
    below: BTreeMap<Did, Arc<IdentityState>>,
    /// For how many that are gone it was asked what they can open.
    asked: usize,
}

impl Outcome {
    fn of(known: Known) -> Self {
        let mut graph = known.graph();
        let is_in = |op: &SignedOp| graph.op(&op.id()).is_some() || graph.is_below(&op.id());
        assert!(known.ops().iter().all(is_in), "a node holds what the rules refuse");
        let below = known.below().map(|did| (did, known.graph_below(&did).state())).collect();
        Self { state: graph.state(), below, asked: usize::MAX, known }
    }

    /// Says whether somebody is out by what is known here: itself, or the person that it was a device of.
    fn is_out(&self, did: &Did, old: &OldKeys) -> bool {
        if old.did() != *did {
            return self.below.get(&old.did()).is_some_and(|state| is_out(state, &old.controller()));
        }
        let inside = |person| self.below.get(&person);
        let device = ControllerId::Device(old.device());
        is_out(&self.state, &old.controller())
            || matches!(old.controller(), ControllerId::Identity(person)
                if inside(person).is_some_and(|state| is_out(state, &device)))
    }
}

fn is_out(state: &IdentityState, who: &ControllerId) -> bool {
    let went = state.leaving.contains_key(who) || state.removals.iter().any(|removal| removal.target == *who);
    went && state.role(who).is_none()
}

/// What was seen so far.
#[derive(Default)]
struct Watch {
    /// By identity and heads, which say what is held.
    outcomes: BTreeMap<(Did, Vec<OpId>), Outcome>,
    /// What all have agreed on.
    settled: Vec<Written>,
    seen_out: usize,
}

impl Watch {
    /// What must hold at any moment, in the group and in each person: what a node shows is what its ops amount to, computed
    /// here in another order, so that two who hold the same ops agree; and nobody writes under an epoch that somebody can
    /// open who is out by what the writer knows.
    async fn watch(&mut self, world: &World, nest: &Nest) {
        for (at, _) in nest.acting() {
            self.watch_one(world, nest, at, &nest.group).await;
        }
        for Person { did, devices, .. } in &nest.persons {
            for at in devices {
                self.watch_one(world, nest, *at, did).await;
            }
        }
    }

    async fn watch_one(&mut self, world: &World, nest: &Nest, at: usize, did: &Did) {
        let node = nest.node(at);
        if node.identities().show(did).is_err() {
            return;
        }
        let heads = node.identity(did).auth_heads().await;
        let is_new = !self.outcomes.contains_key(&(*did, heads));
        if is_new {
            let outcome = Outcome::of(ops_of(world, &nest.observer, node, did).await);
            nobody_new(nest, did, &outcome.state);
            // By its own heads: something may have come in meanwhile.
            self.outcomes.insert((*did, outcome.state.heads.clone()), outcome);
        }
        let (now, name) = (node.identity(did).auth_heads().await, node.base().name());
        let Some(outcome) = self.outcomes.get_mut(&(*did, now)) else { return };
        let info = node.identities().show(did).unwrap();
        assert_eq!(shown(&info), amounts_to(&outcome.state), "{name} shows something else");
        let Some(epoch) = outcome.state.sending_epoch.filter(|_| outcome.asked != nest.gone.len()) else { return };
        let out: Vec<&OldKeys> = nest.gone.iter().filter(|old| outcome.is_out(did, old)).collect();
        self.seen_out += out.len();
        assert!(!opened_by(&out, &outcome.known).contains(&epoch), "who is out can open what {name} writes");
        outcome.asked = nest.gone.len();
    }

    /// Once all have met: they agree in every identity, whoever is out acts no more, and what was acknowledged is read by all
    /// who may.
    async fn check(&mut self, world: &World, nest: &mut Nest) {
        for person in &nest.persons {
            let nodes: Vec<&PrivateNode> = person.devices.iter().map(|at| nest.node(*at)).collect();
            let mut expected: Vec<ControllerId> =
                person.devices.iter().map(|at| ControllerId::Device(nest.device(*at, &person.did))).collect();
            expected.sort_unstable();
            let ids = |node: &&PrivateNode| controllers(node, &person.did).into_iter().map(|(id, _)| id).collect();
            let all = async || nodes.iter().map(ids).all(|ids: Vec<ControllerId>| ids == expected);
            world.until("the devices of a person are known to it", all).await;
            until_agreed(world, &nodes, &person.did).await;
        }
        let acting = nest.acting();
        let nodes: Vec<&PrivateNode> = acting.iter().map(|(at, _)| nest.node(*at)).collect();
        let expected = expected(nest, &acting);
        let same = |node: &&PrivateNode| node.identities().show(&nest.group).is_ok_and(|info| agrees(&info, &expected));
        world.until("the group knows who acts", async || nodes.iter().all(same)).await;
        let epoch = until_agreed(world, &nodes, &nest.group).await;
        self.watch(world, nest).await;
        let known = ops_of(world, &nest.observer, nodes[0], &nest.group).await;
        let mut shuffled = known.ops().to_vec();
        world.draw(|dice| dice.shuffle(&mut shuffled));
        let state = known.graph_by(&shuffled).state();
        assert_eq!(*state, *known.graph().state(), "the state depends on the order of arrival");
        let gone: Vec<&OldKeys> = nest.gone.iter().collect();
        assert!(!opened_by(&gone, &known).contains(&epoch), "together the gone can open what is written now");
        self.all_read(world, nest, &acting).await;
    }

    async fn all_read(&mut self, world: &World, nest: &mut Nest, acting: &[(usize, Option<usize>)]) {
        let inside: BTreeSet<(Did, DeviceId)> = acting
            .iter()
            .map(|(at, person)| (nest.group, nest.device(*at, &person.map_or(nest.group, |at| nest.persons[at].did))))
            .chain(
                nest.persons.iter().flat_map(|one| one.devices.iter().map(|at| (one.did, nest.device(*at, &one.did)))),
            )
            .collect();
        let counts = |one: &Written| inside.contains(&(one.did, one.by)) && !nest.unsure.contains(&one.by);
        let written = std::mem::take(&mut nest.written);
        self.settled.extend(written.into_iter().filter(counts));
        nest.unsure.clear();
        nest.write(nest.group, 0).await;
        for person in 0..nest.persons.len() {
            nest.write(nest.persons[person].did, nest.persons[person].devices[0]).await;
        }
        self.settled.append(&mut nest.written);
        let in_group = acting.iter().map(|(at, _)| (nest.group, *at));
        let in_persons = nest.persons.iter().flat_map(|one| one.devices.iter().map(|at| (one.did, *at)));
        for (did, at) in in_group.chain(in_persons).collect::<Vec<_>>() {
            let node = nest.node(at);
            if !node.identities().show(&did).is_ok_and(|info| info.role.is_some_and(Role::reads)) {
                continue;
            }
            for one in self.settled.iter().filter(|one| one.did == did) {
                super::until_reads(world, node, &did, &one.id, &one.text).await;
            }
        }
    }
}

/// Who must be in the group: its founder's device, and the persons, each with the devices that act.
fn expected(nest: &Nest, acting: &[(usize, Option<usize>)]) -> BTreeMap<ControllerId, BTreeSet<DeviceId>> {
    let mut expected: BTreeMap<ControllerId, BTreeSet<DeviceId>> = BTreeMap::new();
    for (at, person) in acting {
        let did = person.map(|person| nest.persons[person].did);
        let device = nest.device(*at, &did.unwrap_or(nest.group));
        let controller = did.map_or(ControllerId::Device(device), ControllerId::Identity);
        expected.entry(controller).or_default().insert(device);
    }
    expected
}

fn agrees(info: &IdentityInfo, expected: &BTreeMap<ControllerId, BTreeSet<DeviceId>>) -> bool {
    let devices = |devices: &[walytis_identities::node::DeviceInfo]| devices.iter().map(|device| device.id).collect();
    let shown: BTreeMap<ControllerId, BTreeSet<DeviceId>> =
        info.controllers.iter().map(|one| (one.id, devices(&one.devices))).collect();
    shown == *expected
}

/// Nobody is in who was never let in, and nobody acts for a person who was never its device.
fn nobody_new(nest: &Nest, did: &Did, state: &IdentityState) {
    let ever = |person: &Did| -> BTreeSet<DeviceId> {
        let of = nest.nodes.iter().flatten().filter(|node| node.identities().show(person).is_ok());
        of.map(|node| node.identity(person).device()).collect()
    };
    for controller in state.controllers.values() {
        let known = match controller.id {
            ControllerId::Device(_) => ever(did),
            ControllerId::Identity(person) => {
                assert!(nest.persons.iter().any(|one| one.did == person), "a person is in whom nobody let in");
                ever(&person)
            }
        };
        assert!(controller.devices().all(|(device, _)| known.contains(&device)), "an outsider acts");
    }
}

/// Whatever happens in whichever half, inside a person or to it: in the end all agree, nobody who went acts, and nothing
/// acknowledged is lost.
#[test]
fn persons_agree_through_churn_and_partitions() {
    simulate("devices::nested_churn::persons_agree_through_churn_and_partitions", &[1], async |seed| {
        let conditions = if seed.is_multiple_of(3) { LinkConditions::ROUGH } else { LinkConditions::CALM };
        let world = World::new(seed, conditions);
        let mut nest = Nest::new(&world, seed).await;
        let mut watch = Watch::default();
        watch.check(&world, &mut nest).await;
        for round in 0..ROUNDS {
            nest.part(&world);
            for _ in 0..STEPS {
                nest.step(&world).await;
                let pause = world.draw(|dice| dice.within(Duration::from_secs(30)));
                world.pass(pause).await;
                watch.watch(&world, &nest).await;
            }
            nest.heal_pairwise(&world).await;
            watch.check(&world, &mut nest).await;
            if round < LATER {
                let person = (round + usize::try_from(seed).unwrap()) % nest.persons.len();
                nest.add_device(&world, person, Role::Member).await;
            }
            for person in 0..nest.persons.len() {
                if !nest.persons[person].stands && world.draw(|dice| dice.hits(500)) {
                    nest.let_in(&world, person, Role::Member).await;
                }
            }
            watch.check(&world, &mut nest).await;
        }
        assert!(watch.seen_out > 0 || nest.gone.is_empty(), "nobody who went was asked what it can open");
        for node in nest.nodes.into_iter().flatten() {
            node.stop().await;
        }
        nest.observer.stop().await;
        world.end().await;
    });
}
