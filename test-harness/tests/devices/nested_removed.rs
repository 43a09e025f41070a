//! A person in a group: a removed device of it, and a removed person, that keep all keys and try everything they can, on
//! the person's chain and on the group's.

use std::time::Duration;

use test_harness::adversary::{OldKeys, opened_by};
use test_harness::sim::{LinkConditions, simulate};
use test_harness::world::{Crash, PrivateNode, World};
use walytis_identities::id::{ControllerId, Did, Role};
use walytis_identities::identity::Identity as _;

use super::removed::{Siege, standing};
use super::{admit, controllers, join_as, me, ops_of, until_agreed, until_reads};

fn conditions(seed: u64) -> LinkConditions {
    if seed.is_multiple_of(2) { LinkConditions::ROUGH } else { LinkConditions::CALM }
}

/// A group of the device `h`, in which the person of `a` and `b` (admins) and `c` (member) is an admin, and `q` a member.
struct Cast {
    h: PrivateNode,
    a: PrivateNode,
    b: PrivateNode,
    c: PrivateNode,
    q: PrivateNode,
    /// With an identity of its own, which controls nothing here.
    friend: PrivateNode,
    group: Did,
    person: Did,
    outlaw: Did,
}

impl Cast {
    async fn new(world: &World) -> Self {
        let (h, q) = (world.private_node("h").await, world.private_node("q").await);
        let (a, b, c) = (world.private_node("a").await, world.private_node("b").await, world.private_node("c").await);
        let friend = world.private_node("friend").await;
        let (group, person, outlaw) =
            (h.create("group").await, a.create("person").await, friend.create("outlaw").await);
        admit(world, &a, &b, &person, Role::Admin).await;
        admit(world, &a, &c, &person, Role::Member).await;
        join_as(world, &h, &a, (&group, &person), Role::Admin).await;
        admit(world, &h, &q, &group, Role::Member).await;
        let cast = Self { h, a, b, c, q, friend, group, person, outlaw };
        cast.until_devices(world, &[&cast.h, &cast.a, &cast.b, &cast.c, &cast.q], &[&cast.a, &cast.b, &cast.c]).await;
        until_agreed(world, &[&cast.a, &cast.b, &cast.c], &cast.person).await;
        cast
    }

    /// Waits until all of `nodes` know that just these devices act for the person in the group, and agree on its keys.
    async fn until_devices(&self, world: &World, nodes: &[&PrivateNode], acting: &[&PrivateNode]) {
        let mut devices: Vec<_> = acting.iter().map(|node| node.identity(&self.person).device()).collect();
        devices.sort_unstable();
        let knows = |node: &PrivateNode| {
            let here = node.identities().show(&self.group).is_ok();
            here && standing(node, &self.group)
                .iter()
                .any(|(id, _, shown)| *id == ControllerId::Identity(self.person) && *shown == devices)
        };
        world.until("all know who acts for the person", async || nodes.iter().all(|node| knows(node))).await;
        until_agreed(world, nodes, &self.group).await;
    }

    async fn accomplice(&self, world: &World, old: OldKeys, seed: u64) -> (OldKeys, Vec<Vec<u8>>) {
        let theirs = ops_of(world, self.b.base(), &self.friend, &self.outlaw).await;
        let genesis = theirs.files();
        (old.with_accomplice(&OldKeys::copy(&self.friend, &self.outlaw, seed).await, theirs), genesis)
    }

    async fn end(self, world: World) {
        for node in [self.h, self.a, self.b, self.c, self.q, self.friend] {
            node.stop().await;
        }
        world.end().await;
    }
}

/// b, an admin of the person that is an admin of the group, is removed inside the person. With every key it had it
/// backdates, says new things, floods, forges, poisons keys, replays, rejoins, asks for secrets and writes, in the person
/// and in its name in the group; after each attempt everything is as before in both.
#[test]
fn a_device_removed_from_its_person_gains_nothing_in_either() {
    simulate("devices::nested_removed::a_device_removed_from_its_person_gains_nothing_in_either", &[1], async |seed| {
        let world = World::new(seed, conditions(seed));
        world.hub().tap();
        let mut cast = Box::pin(Cast::new(&world)).await;
        let (group, person) = (cast.group, cast.person);
        let [in_group, in_person] =
            [cast.b.token(&group, Role::Member).await, cast.b.token(&person, Role::Member).await];
        let early = cast.b.add(&group, "while it was in", &[]).await.unwrap();
        for node in [&cast.h, &cast.c] {
            until_reads(&world, node, &group, &early, "while it was in").await;
        }
        let inside = OldKeys::copy(&cast.b, &person, seed).await;
        let (outside, genesis) = cast.accomplice(&world, OldKeys::copy(&cast.b, &group, seed).await, seed).await;
        let known = [
            ops_of(&world, cast.b.base(), &cast.h, &group).await,
            ops_of(&world, cast.b.base(), &cast.a, &person).await,
        ];
        let heads = [cast.b.identity(&group).auth_heads().await, cast.b.identity(&person).auth_heads().await];
        cast.a.identities().remove(&person, inside.controller()).await.unwrap();
        let standing_nodes = [&cast.h, &cast.a, &cast.c, &cast.q];
        cast.until_devices(&world, &standing_nodes, &[&cast.a, &cast.c]).await;
        until_agreed(&world, &[&cast.a, &cast.c], &person).await;
        world.until("b knows that it is out", async || !cast.b.acts_in(&person) && !cast.b.acts_in(&group)).await;

        let (of_group, of_person) = (standing(&cast.h, &group), standing(&cast.a, &person));
        let outer = Siege::new(&world, (group, [&cast.h, &cast.a]), &cast.b, outside, (of_group, genesis));
        let inner = Siege::new(&world, (person, [&cast.a, &cast.c]), &cast.b, inside, (of_person, Vec::new()));
        let secret: String = world.draw(|dice| dice.bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        outer.still_work(&secret).await;
        inner.still_work("inside").await;
        outer.replay(&secret).await;
        inner.nothing_gained().await;
        // As of different moments, inside first: what it says in the group names that, too.
        for (siege, known) in [(&inner, &known[1]), (&outer, &known[0])] {
            let mine = known.ops().iter().position(|op| op.core().device == siege.old.device()).unwrap();
            siege.say(&siege.old.says(&known.earlier(mine))).await;
            siege.say(&siege.old.says(known)).await;
            siege.say(&siege.old.floods(known)).await;
            siege.say(&siege.old.forges(known)).await;
        }
        let now = ops_of(&world, cast.b.base(), &cast.a, &person).await;
        inner.say(&inner.old.says(&now)).await;
        let later = ops_of(&world, cast.b.base(), &cast.h, &group).await.with(&now);
        outer.say(&outer.old.says(&later)).await;
        outer.say(&outer.old.says(&known[0].with(&now))).await;
        inner.nothing_gained().await;
        outer.rejoin([&in_group, &in_group], &cast.friend).await;
        assert!(cast.b.join_as(&in_group, &person).await.is_err(), "it joins as whom it is no device of");
        inner.rejoin([&in_person, &in_person], &cast.friend).await;
        let [in_group, in_person] = heads;
        outer.write(in_group).await;
        inner.write(in_person).await;
        outer.still_work("after everything").await;
        inner.still_work("after everything, inside").await;
        until_reads(&world, &cast.a, &group, &early, "while it was in").await;
        // What the attack left behind keeps neither from being opened again.
        let (Siege { old: outside, standing: of_group, genesis, .. }, Siege { old: inside, standing: of_person, .. }) =
            (outer, inner);
        cast.a = world.start_private(cast.a.crash(Crash::PowerCut).await).await;
        Siege::new(&world, (group, [&cast.h, &cast.a]), &cast.b, outside, (of_group, genesis)).nothing_gained().await;
        Siege::new(&world, (person, [&cast.a, &cast.c]), &cast.b, inside, (of_person, Vec::new()))
            .nothing_gained()
            .await;
        cast.end(world).await;
    });
}

/// The person, an admin, is removed from the group with all its devices. It lives on, takes in new devices, and with all
/// that it has tries the same in the group as the device above.
#[test]
fn a_removed_person_gains_nothing_with_any_of_its_devices() {
    simulate("devices::nested_removed::a_removed_person_gains_nothing_with_any_of_its_devices", &[1], async |seed| {
        let world = World::new(seed, conditions(seed));
        world.hub().tap();
        let cast = Box::pin(Cast::new(&world)).await;
        let (group, person) = (cast.group, cast.person);
        let made = cast.c.token(&group, Role::Member).await;
        let (old, genesis) = cast.accomplice(&world, OldKeys::copy(&cast.b, &group, seed).await, seed).await;
        let then = ops_of(&world, cast.b.base(), &cast.h, &group).await;
        let heads = cast.b.identity(&group).auth_heads().await;
        cast.h.identities().remove(&group, ControllerId::Identity(person)).await.unwrap();
        let members = [me(&cast.h, &group), me(&cast.q, &group)];
        let knows = |node: &PrivateNode| controllers(node, &group).iter().all(|(id, _)| members.contains(id));
        world.until("the person is out", async || knows(&cast.h) && knows(&cast.q)).await;
        let devices = [&cast.a, &cast.b, &cast.c];
        world.until("its devices know it", async || devices.iter().all(|node| !node.acts_in(&group))).await;
        let of_group = standing(&cast.h, &group);
        let outer = Siege::new(&world, (group, [&cast.h, &cast.q]), &cast.b, old, (of_group, genesis));
        let secret: String = world.draw(|dice| dice.bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        outer.still_work(&secret).await;
        outer.replay(&secret).await;
        outer.say(&outer.old.says(&then)).await;
        outer.say(&outer.old.floods(&then)).await;
        outer.say(&outer.old.forges(&then)).await;
        // It changes inside: new keys, a new device that nobody removed, one less.
        let new = world.private_node("new").await;
        admit(&world, &cast.a, &new, &person, Role::Admin).await;
        cast.a.identities().remove(&person, me(&cast.c, &person)).await.unwrap();
        let inside = ops_of(&world, cast.b.base(), &cast.a, &person).await;
        outer.say(&outer.old.says(&then.with(&inside))).await;
        let now = ops_of(&world, cast.b.base(), &cast.h, &group).await;
        outer.say(&outer.old.says(&now.with(&inside))).await;
        outer.rejoin([&made, &made], &cast.friend).await;
        assert!(cast.b.join_as(&made, &person).await.is_err(), "its own invitation lets it in again");
        world.pass(Duration::from_secs(400)).await;
        assert!(!new.acts_in(&group) && !cast.a.acts_in(&group), "somebody came back by itself");
        outer.write(heads).await;
        outer.still_work("after everything").await;
        drop(outer);
        new.stop().await;
        cast.end(world).await;
    });
}

/// a removes b inside the person and tells the group; b, which does not hear of it, goes on in the person's name with c and
/// q, which do not either: it writes, lets a puppet in, removes the founder. When all meet, nothing of that counts, and
/// what c and q wrote in good faith does.
#[test]
fn what_a_removed_device_did_beside_in_its_persons_name_counts_nowhere() {
    let test = "devices::nested_removed::what_a_removed_device_did_beside_in_its_persons_name_counts_nowhere";
    simulate(test, &[2], async |seed| {
        let world = World::new(seed, conditions(seed));
        let cast = Box::pin(Cast::new(&world)).await;
        let (group, person) = (cast.group, cast.person);
        let d = world.private_node("d").await;
        // Until each knows where the others are.
        world.pass(Duration::from_secs(60)).await;
        let there = [&cast.b, &cast.c, &cast.q, &d].map(|node| node.base().peer());
        world.hub().partition(&[cast.h.base().peer(), cast.a.base().peer()], &there);
        cast.a.identities().remove(&person, me(&cast.b, &person)).await.unwrap();
        cast.until_devices(&world, &[&cast.h, &cast.a], &[&cast.a, &cast.c]).await;
        // Beside: among those who do not know.
        admit(&world, &cast.b, &d, &group, Role::Admin).await;
        let of_b = cast.b.add(&group, "of b, beside", &[]).await.unwrap();
        until_reads(&world, &cast.q, &group, &of_b, "of b, beside").await;
        cast.b.identities().remove(&group, me(&cast.h, &group)).await.unwrap();
        until_agreed(&world, &[&cast.b, &cast.c, &cast.q, &d], &group).await;
        let of_d = d.add(&group, "of d, beside", &[]).await.unwrap();
        until_reads(&world, &cast.c, &group, &of_d, "of d, beside").await;
        let good = [
            (cast.c.add(&group, "of c, beside", &[]).await.unwrap(), "of c, beside"),
            (cast.q.add(&group, "of q, beside", &[]).await.unwrap(), "of q, beside"),
            (cast.h.add(&group, "of h, beside", &[]).await.unwrap(), "of h, beside"),
        ];
        let gone = [OldKeys::copy(&cast.b, &group, seed).await, OldKeys::copy(&d, &group, seed + 1).await];
        world.hub().heal_all();
        let honest = [&cast.h, &cast.a, &cast.c, &cast.q];
        cast.until_devices(&world, &honest, &[&cast.a, &cast.c]).await;
        assert_eq!(standing(&cast.h, &group).len(), 3, "the founder, the person, q");
        for node in [&cast.b, &d] {
            world.until("it hears that it is out", async || !node.acts_in(&group)).await;
        }
        for node in honest {
            for (id, text) in &good {
                until_reads(&world, node, &group, id, text).await;
            }
            for id in [&of_b, &of_d] {
                world.until("it is void", async || node.read(&group, id).await.is_err()).await;
            }
            let known = ops_of(&world, cast.b.base(), node, &group).await;
            let epoch = node.identities().show(&group).unwrap().epoch.unwrap();
            assert!(
                !opened_by(&[&gone[0], &gone[1]], &known).contains(&epoch),
                "the gone can open what is written now"
            );
        }
        d.stop().await;
        cast.end(world).await;
    });
}
