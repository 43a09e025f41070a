//! Persons with several devices that are controllers of a group beside its founder: who is in, and what may happen to them.

use std::collections::BTreeSet;
use std::time::Duration;

use test_harness::adversary::OldKeys;
use test_harness::world::{Crash, PrivateNode, SimNode, World};
use tokio::time::timeout;
use walytis_core::id::{BlockId, PeerId};
use walytis_identities::id::{ControllerId, DeviceId, Did, Role};
use walytis_identities::identity::Identity as _;

use super::{admit, join_as};

/// Devices and persons by seed, unless `WALYTIS_DEVICES` says how many devices.
const CAST: [(usize, usize); 5] = [(10, 3), (8, 2), (9, 2), (7, 1), (11, 3)];
/// Devices that come later.
pub(super) const LATER: usize = 2;
/// How long anybody waits for new keys before it gives up writing: its half may hold nobody who can make some.
const WRITE: Duration = Duration::from_secs(180);

/// What may happen.
#[derive(Clone, Copy, Debug)]
enum Event {
    LoseDevice,
    LosePerson,
    ChangeDevice,
    ChangePerson,
    Crash,
    Rekey,
    RekeyInside,
    RenewKeys,
    Write,
    WriteInside,
}

/// How often each of them happens.
const EVENTS: [Event; 15] = [
    Event::LoseDevice,
    Event::LoseDevice,
    Event::LosePerson,
    Event::ChangeDevice,
    Event::ChangeDevice,
    Event::ChangePerson,
    Event::Crash,
    Event::Rekey,
    Event::RekeyInside,
    Event::RenewKeys,
    Event::Write,
    Event::Write,
    Event::Write,
    Event::Write,
    Event::WriteInside,
];

/// A person of the group.
pub(super) struct Person {
    pub(super) did: Did,
    /// Its devices, by node. The first two are its admins, and stay.
    pub(super) devices: Vec<usize>,
    /// Whether it is a controller of the group.
    pub(super) stands: bool,
}

/// What somebody wrote and got acknowledged.
#[derive(Clone)]
pub(super) struct Written {
    pub(super) did: Did,
    pub(super) by: DeviceId,
    pub(super) id: BlockId,
    pub(super) text: String,
}

/// The group and its persons. Node 0 founded the group and is an admin in its own right; the first person is an admin, and
/// stays.
pub(super) struct Nest {
    pub(super) group: Did,
    pub(super) seed: u64,
    pub(super) nodes: Vec<Option<PrivateNode>>,
    pub(super) persons: Vec<Person>,
    /// Who was in, in a person or in the group, with everything it had then.
    pub(super) gone: Vec<OldKeys>,
    next: usize,
    /// Somebody who knows the DIDs and nothing else, and reaches everybody.
    pub(super) observer: SimNode,
    /// Since all last agreed.
    pub(super) written: Vec<Written>,
    /// Whose writing since then is not sure to count: its rights changed.
    pub(super) unsure: BTreeSet<DeviceId>,
    said: usize,
    deck: Vec<Event>,
}

/// How many devices and persons a seed has.
fn cast_of(seed: u64) -> (usize, usize) {
    let wanted: Option<usize> = std::env::var("WALYTIS_DEVICES").ok().and_then(|most| most.parse().ok());
    let usual = CAST[usize::try_from(seed).unwrap() % CAST.len()];
    wanted.map_or(usual, |devices| (devices, (devices / 5).clamp(1, 6)))
}

impl Nest {
    pub(super) async fn new(world: &World, seed: u64) -> Self {
        let (devices, count) = cast_of(seed);
        assert!(devices > count + LATER, "too few devices for {count} persons");
        let mut nodes = Vec::new();
        for number in 0..devices {
            nodes.push(Some(world.private_node(&format!("n{number}")).await));
        }
        let group = nodes[0].as_ref().unwrap().create("group").await;
        let observer = world.node("observer").await;
        let (persons, gone, written, deck) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let unsure = BTreeSet::new();
        let mut nest = Self { group, seed, nodes, persons, gone, next: 1, observer, written, unsure, said: 0, deck };
        for _ in 0..count {
            let did = nest.node(nest.next).create("person").await;
            nest.persons.push(Person { did, devices: vec![nest.next], stands: false });
            nest.next += 1;
        }
        while nest.next + LATER < devices {
            let person = nest.next % count;
            let role = [Role::Admin, Role::Member, Role::Member, Role::Reader, Role::Keeper];
            nest.add_device(world, person, role[(nest.persons[person].devices.len() - 1) % role.len()]).await;
        }
        for person in 0..count {
            nest.let_in(world, person, [Role::Admin, Role::Member][person % 2]).await;
        }
        nest
    }

    pub(super) fn node(&self, at: usize) -> &PrivateNode {
        self.nodes[at].as_ref().unwrap()
    }

    /// Adds the next device to a person, if there is one left.
    pub(super) async fn add_device(&mut self, world: &World, person: usize, role: Role) {
        if self.next < self.nodes.len() {
            let Person { did, devices, .. } = &self.persons[person];
            admit(world, self.node(devices[0]), self.node(self.next), did, role).await;
            self.persons[person].devices.push(self.next);
            self.next += 1;
        }
    }

    /// Lets a person into the group, by its first device.
    pub(super) async fn let_in(&mut self, world: &World, person: usize, role: Role) {
        let Person { did, devices, .. } = &self.persons[person];
        let group = self.group;
        join_as(world, self.node(0), self.node(devices[0]), (&group, did), role).await;
        let back: BTreeSet<DeviceId> = devices.iter().map(|at| self.device(*at, did)).collect();
        self.persons[person].stands = true;
        self.gone.retain(|old| old.did() != group || !back.contains(&old.device()));
    }

    pub(super) fn device(&self, at: usize, person: &Did) -> DeviceId {
        self.node(at).identity(person).device()
    }

    /// The devices that act in the group once all know everything: with the person, none for the founder's own.
    pub(super) fn acting(&self) -> Vec<(usize, Option<usize>)> {
        let mut acting = vec![(0, None)];
        for (number, person) in self.persons.iter().enumerate().filter(|(_, person)| person.stands) {
            let roles = super::controllers(self.node(person.devices[0]), &person.did);
            let writes = |at: &usize| {
                let me = ControllerId::Device(self.device(*at, &person.did));
                roles.iter().any(|(id, role)| *id == me && role.writes())
            };
            acting.extend(person.devices.iter().copied().filter(writes).map(|at| (at, Some(number))));
        }
        acting
    }

    fn drawn<T: Copy>(world: &World, from: &[T]) -> Option<T> {
        let drawn = usize::try_from(world.draw(|dice| dice.below(from.len() as u64))).unwrap();
        from.get(drawn).copied()
    }

    /// Cuts all links between two halves, drawn anew.
    pub(super) fn part(&self, world: &World) {
        let mut peers: Vec<PeerId> = self.nodes.iter().flatten().map(|node| node.base().peer()).collect();
        world.draw(|dice| dice.shuffle(&mut peers));
        let (left, right) = peers.split_at(peers.len() / 2);
        world.hub().partition(left, right);
    }

    pub(super) async fn heal_pairwise(&self, world: &World) {
        for (one, other) in world.hub().cuts() {
            world.hub().heal(&one, &other);
            world.pass(Duration::from_secs(2)).await;
        }
    }

    /// Draws what happens next: everything once, in an order drawn anew, before anything comes again.
    fn next_event(&mut self, world: &World) -> Event {
        if self.deck.is_empty() {
            self.deck = EVENTS.to_vec();
            world.draw(|dice| dice.shuffle(&mut self.deck));
        }
        self.deck.pop().unwrap()
    }

    /// One thing happens; what the rules refuse does not.
    pub(super) async fn step(&mut self, world: &World) {
        let event = self.next_event(world);
        let persons: Vec<usize> = match event {
            // To whom such a thing can happen.
            Event::LosePerson | Event::ChangePerson => (1..self.persons.len()).collect(),
            Event::LoseDevice | Event::ChangeDevice => {
                (0..self.persons.len()).filter(|one| self.persons[*one].devices.len() > 2).collect()
            }
            _ => (0..self.persons.len()).collect(),
        };
        let Some(person) = Self::drawn(world, &persons) else { return };
        let minor = Self::drawn(world, self.persons[person].devices.get(2..).unwrap_or_default());
        let everybody: Vec<usize> = (0..self.next).collect();
        let anybody = Self::drawn(world, &everybody).unwrap();
        if std::env::var_os("WALYTIS_TRACE").is_some() {
            eprintln!("  {event:?}: person {person}, n{minor:?}, n{anybody}");
        }
        match event {
            Event::LoseDevice => self.lose_device(world, person, minor).await,
            Event::LosePerson => self.lose_person(world, person).await,
            Event::ChangeDevice => self.change_device(world, person, minor).await,
            Event::ChangePerson => self.change_person(world, person).await,
            Event::Crash => {
                let crash = if world.draw(|dice| dice.hits(500)) { Crash::Kill } else { Crash::PowerCut };
                let disk = self.nodes[anybody].take().unwrap().crash(crash).await;
                self.nodes[anybody] = Some(world.start_private(disk).await);
            }
            Event::Rekey => drop(self.node(anybody).identities().rekey(&self.group).await),
            Event::RekeyInside => {
                drop(self.node(self.persons[person].devices[0]).identities().rekey(&self.persons[person].did).await)
            }
            Event::RenewKeys => {
                // And writes at once: what is acknowledged must count, though the group has not heard of the keys.
                let at = minor.unwrap_or(self.persons[person].devices[0]);
                drop(self.node(at).identities().renew_keys(&self.persons[person].did).await);
                self.write(self.group, at).await;
            }
            Event::WriteInside => {
                let at = Self::drawn(world, &self.persons[person].devices).unwrap();
                self.write(self.persons[person].did, at).await;
            }
            Event::Write => self.write(self.group, anybody).await,
        }
    }

    /// A device of a person is removed from it, or leaves it.
    async fn lose_device(&mut self, world: &World, person: usize, minor: Option<usize>) {
        let (Some(at), Person { did, devices, .. }) = (minor, &self.persons[person]) else { return };
        let (did, who) = (*did, ControllerId::Device(self.device(at, did)));
        let admin = devices[usize::from(world.draw(|dice| dice.hits(500)))];
        let goes = world.draw(|dice| dice.hits(300));
        let gone = if goes {
            self.node(at).identities().leave(&did).await
        } else {
            self.node(admin).identities().remove(&did, who).await
        };
        if gone.is_ok() {
            self.copy_keys(at, &did).await;
            self.copy_keys(at, &self.group.clone()).await;
            self.persons[person].devices.retain(|one| *one != at);
        }
    }

    /// A person is removed from the group, or leaves it.
    async fn lose_person(&mut self, world: &World, person: usize) {
        let Person { did, devices, .. } = &self.persons[person];
        if person == 0 || !self.persons[person].stands {
            return;
        }
        let by = if world.draw(|dice| dice.hits(500)) { 0 } else { self.persons[0].devices[0] };
        let at = Self::drawn(world, devices).unwrap();
        let gone = if world.draw(|dice| dice.hits(300)) {
            self.node(at).identities().leave(&self.group).await
        } else {
            self.node(by).identities().remove(&self.group, ControllerId::Identity(*did)).await
        };
        if gone.is_ok() {
            for at in devices.clone() {
                self.copy_keys(at, &self.group.clone()).await;
            }
            self.persons[person].stands = false;
        }
    }

    async fn copy_keys(&mut self, at: usize, did: &Did) {
        if self.node(at).identities().show(did).is_ok() {
            let seed = self.seed * 1_000 + u64::try_from(self.gone.len()).unwrap();
            self.gone.push(OldKeys::copy(self.node(at), did, seed).await);
        }
    }

    async fn change_device(&mut self, world: &World, person: usize, minor: Option<usize>) {
        let (Some(at), Person { did, devices, .. }) = (minor, &self.persons[person]) else { return };
        let device = self.device(at, did);
        let role = Self::drawn(world, &[Role::Member, Role::Reader, Role::Keeper]).unwrap();
        let admin = self.node(devices[usize::from(world.draw(|dice| dice.hits(500)))]);
        drop(admin.identities().set_role(did, ControllerId::Device(device), role).await);
        self.unsure.insert(device);
    }

    async fn change_person(&mut self, world: &World, person: usize) {
        if person == 0 {
            return;
        }
        let Person { did, devices, .. } = &self.persons[person];
        let role = Self::drawn(world, &[Role::Admin, Role::Member, Role::Reader, Role::Keeper]).unwrap();
        drop(self.node(0).identities().set_role(&self.group, ControllerId::Identity(*did), role).await);
        let theirs: Vec<DeviceId> = devices.iter().map(|at| self.device(*at, did)).collect();
        self.unsure.extend(theirs);
    }

    /// Keeps what got acknowledged.
    pub(super) async fn write(&mut self, did: Did, at: usize) {
        let node = self.node(at);
        if !node.acts_in(&did) {
            return;
        }
        let text = format!("{} writes {}", node.base().name(), self.said);
        let added = timeout(WRITE, node.add(&did, &text, &[])).await;
        let by = node.identity(&did).device();
        if let Ok(Ok(id)) = added {
            self.written.push(Written { did, by, id, text });
        }
        self.said += 1;
    }
}
