//! A removed admin that keeps all its keys and tries everything it can.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use test_harness::adversary::authority::{PROTOCOLS, ask_secrets, replay};
use test_harness::adversary::{OldKeys, opened_by};
use test_harness::invariant::{Places, no_plaintext};
use test_harness::sim::{LinkConditions, simulate};
use test_harness::world::{Crash, PrivateNode, World};
use walytis_core::chain::Append;
use walytis_core::id::BlockId;
use walytis_core::ledger::{Content, LedgerRead as _};
use walytis_identities::claim::Claim;
use walytis_identities::id::{ControllerId, DeviceId, Did, OpId, Role};
use walytis_identities::identity::Identity as _;
use walytis_identities::node::ControllerInfo;
use walytis_identities::op::SignedOp;
use walytis_identities::state::IdentityState;
use walytis_identities::token::IdentityToken;

use super::{admit, controllers, me, offer_with, ops_of, sending, until_agreed, until_reads};

/// Pieces of what travelled that are sent again.
const REPLAYED: usize = 40;
/// Longest of them, in bytes.
const REPLAYED_MAX: usize = 64 * 1024;

fn conditions(seed: u64) -> LinkConditions {
    if seed.is_multiple_of(2) { LinkConditions::ROUGH } else { LinkConditions::CALM }
}

/// Who controls an identity, with the devices that act.
pub(super) type Standing = Vec<(ControllerId, Role, Vec<DeviceId>)>;

pub(super) fn standing(node: &PrivateNode, did: &Did) -> Standing {
    let devices = |one: &ControllerInfo| one.devices.iter().map(|device| device.id).collect();
    let info = node.identities().show(did).unwrap();
    info.controllers.iter().map(|one| (one.id, one.role, devices(one))).collect()
}

/// An identity of two honest nodes, and one that acted there and was removed, by itself, inside the person that it acted
/// for, or together with that.
pub(super) struct Siege<'a> {
    pub(super) world: &'a World,
    pub(super) did: Did,
    pub(super) honest: [&'a PrivateNode; 2],
    pub(super) attacker: &'a PrivateNode,
    pub(super) old: OldKeys,
    /// Who controls it, and goes on doing so.
    pub(super) standing: Standing,
    /// Genesis blocks of an accomplice's identity.
    pub(super) genesis: Vec<Vec<u8>>,
    /// What was looked at last.
    pub(super) judged: RefCell<Option<(BTreeSet<OpId>, Arc<IdentityState>)>>,
}

impl<'a> Siege<'a> {
    pub(super) fn new(
        world: &'a World,
        (did, honest): (Did, [&'a PrivateNode; 2]),
        attacker: &'a PrivateNode,
        old: OldKeys,
        (standing, genesis): (Standing, Vec<Vec<u8>>),
    ) -> Self {
        Self { world, did, honest, attacker, old, standing, genesis, judged: RefCell::default() }
    }
}

impl Siege<'_> {
    /// Says these ops to every honest node, each hearing them in another order; then nothing has changed.
    pub(super) async fn say(&self, ops: &[SignedOp]) {
        let (world, from, did) = (self.world, self.attacker.base(), &self.did);
        let reversed: Vec<SignedOp> = ops.iter().rev().cloned().collect();
        offer_with(world, from, self.honest[0], did, (&self.genesis, ops)).await;
        offer_with(world, from, self.honest[1], did, (&self.genesis, &reversed)).await;
        self.nothing_gained().await;
    }

    /// What must hold whatever the removed did: the others agree, it and its puppet have no role, nobody else lost one, and
    /// what is written now is sealed to nothing that its keys open.
    pub(super) async fn nothing_gained(&self) {
        let (world, did) = (self.world, &self.did);
        let epoch = until_agreed(world, &self.honest, did).await;
        for (number, node) in self.honest.into_iter().enumerate() {
            assert_eq!(standing(node, did), self.standing);
            let ops = ops_of(world, self.attacker.base(), node, did).await;
            let reversed: Vec<SignedOp> = ops.ops().iter().rev().cloned().collect();
            // Each node's ops in another order; together the same.
            let state = if number == 0 { ops.graph().state() } else { ops.graph_by(&reversed).state() };
            let judged = self.judged.replace(Some((ops.set(), Arc::clone(&state))));
            if let Some((_, before)) = judged.filter(|(set, _)| *set == ops.set()) {
                assert_eq!(*before, *state, "the state depends on the order of arrival");
            }
            let acts = |device: &DeviceId| state.controller_of(device).is_some();
            assert!(!acts(&self.old.device()) && state.role(&self.old.puppet()).is_none());
            assert_eq!(state.sending_epoch, Some(epoch), "what a node shows follows from its ops");
            assert!(state.deactivated.is_none() && state.controllers.len() == self.standing.len());
            let opened = opened_by(&[&self.old], &ops);
            assert!(!opened.contains(&epoch), "a removed controller can open what is written now");
        }
    }

    /// Two write, each reads the other; the attacker reads nothing, and gets nothing out of the old protocols.
    pub(super) async fn still_work(&self, text: &str) {
        let (world, did) = (self.world, &self.did);
        for (writer, reader) in [(self.honest[0], self.honest[1]), (self.honest[1], self.honest[0])] {
            let id = writer.add(did, text, &[]).await.unwrap();
            until_reads(world, reader, did, &id, text).await;
            assert!(self.attacker.read(did, &id).await.is_err(), "a removed device reads what came after");
        }
        for node in self.honest {
            let epochs: Vec<OpId> = sending(node, did).into_iter().collect();
            self.attacker.base().meet(node.base()).await;
            let shares = ask_secrets(&**self.attacker.base().network(), &node.base().peer(), did, &epochs).await;
            assert_eq!(shares, None, "secrets are handed to a removed device");
        }
    }

    /// Sends what travelled while it was an admin once more, on every protocol; what comes back holds no `marker`.
    pub(super) async fn replay(&self, marker: &str) {
        let mut pieces = self.world.hub().tapped();
        pieces.retain(|piece| (5..REPLAYED_MAX).contains(&piece.len()));
        self.world.draw(|dice| dice.shuffle(&mut pieces));
        pieces.truncate(REPLAYED);
        assert_eq!(pieces.len(), REPLAYED, "little was overheard");
        let (mut answers, base) = (Vec::new(), self.attacker.base());
        for (number, piece) in pieces.iter().enumerate() {
            let victim = self.honest[number % 2].base();
            for protocol in PROTOCOLS {
                base.meet(victim).await;
                answers.push(replay(&**base.network(), &victim.peer(), protocol, piece).await);
            }
        }
        assert!(answers.iter().any(|answer| !answer.is_empty()), "nobody was there");
        no_plaintext(Places { wire: &answers, ..Places::default() }, &[marker.as_bytes()]).await.unwrap();
        self.nothing_gained().await;
    }

    /// Nobody gets in by the invitations that it made or used.
    pub(super) async fn rejoin(&self, tokens: [&str; 2], friend: &PrivateNode) {
        for token in tokens {
            let mut token: IdentityToken = token.parse().unwrap();
            token.peers.truncate(1);
            for member in self.honest {
                token.peers[0].peer = member.base().peer();
                token.peers[0].addresses = walytis_core::net::Network::addresses(&**member.base().network());
                assert!(friend.join(&token.to_text()).await.is_err(), "an invitation of the removed is honoured");
            }
        }
        self.nothing_gained().await;
    }

    /// Writes as of heads under which it could: its own chain takes that, nobody else's does.
    pub(super) async fn write(&self, heads: Vec<OpId>) {
        let (world, did) = (self.world, &self.did);
        assert!(self.attacker.add(did, "still here", &[]).await.is_err(), "it knows that it is out");
        let forged = forge(self.attacker, did, heads, "still here").await;
        world.pass(Duration::from_secs(120)).await;
        for node in self.honest {
            let there = node.identity(did).chain().get(&forged).await.unwrap();
            assert!(there.is_none(), "a removed device is listened to");
        }
        self.nothing_gained().await;
    }
}

/// Puts a record into a node's own chain that names heads of its own choice.
async fn forge(node: &PrivateNode, did: &Did, auth_heads: Vec<OpId>, text: &str) -> BlockId {
    let identity = node.identity(did);
    let claim = Claim { author: identity.controller(), auth_heads };
    let content = Content::Bytes([claim.encode(), text.into()].concat().into());
    let append = Append { content, topics: Vec::new(), signer: identity.device_signer() };
    identity.chain().append(append).await.unwrap().id
}

/// b was an admin. With every key it had it backdates, says new things, floods, forges, poisons keys, replays, rejoins with
/// invitations it knows, asks for secrets and writes; after each attempt everything is as before.
#[test]
fn a_removed_admin_that_keeps_every_key_gains_nothing() {
    simulate("devices::removed::a_removed_admin_that_keeps_every_key_gains_nothing", &[1, 2], async |seed| {
        let world = World::new(seed, conditions(seed));
        world.hub().tap();
        let (a, b, c) = (world.private_node("a").await, world.private_node("b").await, world.private_node("c").await);
        let friend = world.private_node("friend").await;
        let did = a.create("home").await;
        let used = a.token(&did, Role::Admin).await;
        world.until("b is in", async || b.join(&used).await.is_ok()).await;
        admit(&world, &a, &c, &did, Role::Member).await;
        until_agreed(&world, &[&a, &b, &c], &did).await;
        let made = b.token(&did, Role::Member).await;
        let early = b.add(&did, "while it was in", &[]).await.unwrap();
        for node in [&a, &c] {
            until_reads(&world, node, &did, &early, "while it was in").await;
        }
        let old = OldKeys::copy(&b, &did, seed).await;
        let known = ops_of(&world, b.base(), &a, &did).await;
        let heads = b.identity(&did).auth_heads().await;
        let removed = a.identities().remove(&did, old.controller()).await.unwrap();
        assert_eq!(until_agreed(&world, &[&a, &c], &did).await, removed.op);
        world.until("b knows that it is out", async || b.identity(&did).role().is_none()).await;
        let siege = Siege::new(&world, (did, [&a, &c]), &b, old, (standing(&a, &did), Vec::new()));
        siege.nothing_gained().await;
        let secret: String = world.draw(|dice| dice.bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        siege.still_work(&secret).await;
        siege.replay(&secret).await;
        // As of different moments of its time as an admin, and of now, with all that came before.
        let mine = known.ops().iter().position(|op| op.core().author == siege.old.controller()).unwrap();
        for moment in [mine, known.len()] {
            siege.say(&siege.old.says(&known.earlier(moment))).await;
        }
        siege.say(&siege.old.floods(&known)).await;
        siege.say(&siege.old.forges(&known)).await;
        let now = ops_of(&world, b.base(), &a, &did).await;
        siege.say(&[siege.old.says(&now), known.ops().to_vec()].concat()).await;
        siege.rejoin([&made, &used], &friend).await;
        siege.write(heads).await;
        siege.still_work("after everything").await;
        until_reads(&world, &c, &did, &early, "while it was in").await;
        // What the attack left behind does not keep the identity from being opened again.
        let Siege { old, standing, genesis, .. } = siege;
        let c = world.start_private(c.crash(Crash::PowerCut).await).await;
        let siege = Siege::new(&world, (did, [&a, &c]), &b, old, (standing, genesis));
        siege.nothing_gained().await;
        drop(siege);
        for node in [a, b, c, friend] {
            node.stop().await;
        }
        world.end().await;
    });
}

/// a removes b, which does not hear of it, and goes on as an admin with c, which does not either: it writes, lets a puppet
/// in, removes a. When all meet, nothing of that counts, and what c wrote in good faith does.
#[test]
fn what_the_removed_did_beside_its_removal_counts_nowhere() {
    simulate("devices::removed::what_the_removed_did_beside_its_removal_counts_nowhere", &[1, 2, 3], async |seed| {
        let world = World::new(seed, conditions(seed));
        let (a, b, c) = (world.private_node("a").await, world.private_node("b").await, world.private_node("c").await);
        let d = world.private_node("d").await;
        let did = a.create("home").await;
        admit(&world, &a, &b, &did, Role::Admin).await;
        admit(&world, &a, &c, &did, Role::Member).await;
        until_agreed(&world, &[&a, &b, &c], &did).await;
        // Until each knows where the others are.
        world.pass(Duration::from_secs(60)).await;
        world.hub().partition(&[a.base().peer()], &[b.base().peer(), c.base().peer(), d.base().peer()]);
        a.identities().remove(&did, me(&b, &did)).await.unwrap();
        let before = controllers(&a, &did);
        // Beside: among those who do not know.
        admit(&world, &b, &d, &did, Role::Admin).await;
        let of_b = b.add(&did, "of b, beside", &[]).await.unwrap();
        until_reads(&world, &c, &did, &of_b, "of b, beside").await;
        b.identities().remove(&did, me(&a, &did)).await.unwrap();
        until_agreed(&world, &[&b, &c, &d], &did).await;
        let of_d = d.add(&did, "of d, beside", &[]).await.unwrap();
        until_reads(&world, &c, &did, &of_d, "of d, beside").await;
        let of_c = c.add(&did, "of c, beside", &[]).await.unwrap();
        let of_a = a.add(&did, "of a, beside", &[]).await.unwrap();
        let (old, puppet) = (OldKeys::copy(&b, &did, seed).await, OldKeys::copy(&d, &did, seed + 1).await);
        world.hub().heal_all();
        let epoch = until_agreed(&world, &[&a, &c], &did).await;
        assert_eq!(controllers(&a, &did), before);
        for node in [&b, &d] {
            world.until("it hears that it is out", async || node.identity(&did).role().is_none()).await;
        }
        // What honest devices acknowledged is read by all who may.
        until_reads(&world, &a, &did, &of_c, "of c, beside").await;
        until_reads(&world, &c, &did, &of_a, "of a, beside").await;
        for node in [&a, &c] {
            for id in [&of_b, &of_d] {
                world.until("it is void", async || node.read(&did, id).await.is_err()).await;
            }
            let ops = ops_of(&world, b.base(), node, &did).await;
            assert!(!opened_by(&[&old, &puppet], &ops).contains(&epoch), "the removed can open what is written now");
        }
        let siege = Siege::new(&world, (did, [&a, &c]), &b, old, (standing(&a, &did), Vec::new()));
        siege.nothing_gained().await;
        siege.still_work("after all").await;
        drop(siege);
        for node in [a, b, c, d] {
            node.stop().await;
        }
        world.end().await;
    });
}
