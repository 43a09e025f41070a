//! Editors on several devices over bad simulated links, parted and killed while they edit: all of them come to the same
//! current versions, conflicts and histories, and durable subscribers hear of each change once.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, TryStreamExt as _};
use test_harness::sim::{LinkConditions, TraceHash, simulate};
use test_harness::world::{Crash, PrivateNode, World};
use walytis::app::IdentityGroup;
use walytis_core::id::BlockId;
use walytis_core::ledger::{LedgerControl as _, LedgerError, NewBlock, Query, SubscribeFrom};
use walytis_identities::id::{Did, Role};
use walytis_identities::identity::Identity as _;
use walytis_mutability::event::Change;
use walytis_mutability::rights::{Policy, PolicyRights};
use walytis_mutability::{MutableError, MutableLedger, MutableParts, Version};
use walytis_offchain::PrivateLedger;

/// One device and what its durable subscriber was told.
struct Editor {
    node: PrivateNode,
    ledger: MutableLedger<PrivateLedger>,
    /// By position.
    told: BTreeMap<u64, (Change, BlockId, BlockId)>,
    /// A power cut takes acknowledgements back that were not flushed.
    again: bool,
}

async fn open(node: &PrivateNode, did: &Did) -> MutableLedger<PrivateLedger> {
    let rights = PolicyRights::new(Arc::new(IdentityGroup::new(node.identity(did))));
    MutableLedger::open(MutableParts {
        below: Arc::new(node.ledger(did).await),
        name: "main".into(),
        rights: Arc::new(rights),
        store: node.base().store(),
    })
    .await
    .unwrap()
}

impl Editor {
    async fn new(node: PrivateNode, did: &Did) -> Self {
        Self { ledger: open(&node, did).await, node, told: BTreeMap::new(), again: false }
    }

    /// Reads and acknowledges what is there; what was acknowledged comes no second time, after a power cut as it was.
    async fn hear(&mut self) {
        let mut events = self.ledger.events(SubscribeFrom::Name("reader".into())).await.unwrap();
        while let Some(Ok(Some(event))) = events.next().now_or_never() {
            let told = (event.change, event.id, event.version);
            if let Some(before) = self.told.insert(event.cursor.0, told) {
                assert!(self.again && before == told, "event {} was told twice: {before:?}", event.cursor.0);
            }
            events.ack(event.cursor).await.unwrap();
        }
    }

    async fn crash_and_start(mut self, world: &World, did: &Did, crash: Crash) -> Self {
        self.hear().await;
        self.again = crash == Crash::PowerCut;
        let disk = self.node.crash(crash).await;
        self.ledger.shutdown().await;
        self.node = world.start_private(disk).await;
        self.ledger = open(&self.node, did).await;
        self
    }

    /// Says whether it may. Who may not is one of several authors.
    async fn change_something(&self, world: &World) -> bool {
        let known: Vec<BlockId> = self.shown().await.into_iter().map(|shown| shown.id).collect();
        let (what, which, text) = world.draw(|dice| (dice.below(10), dice.bytes()[0], dice.below(1_000)));
        let (text, which) = (format!("text {text}"), usize::from(which));
        let Some(id) = known.get(which % known.len().max(1)) else { return true };
        let done = match what {
            0 => {
                let block = NewBlock { content: text.into(), topics: vec![] };
                walytis_core::ledger::Ledger::add(&self.ledger, block).await.map(drop).map_err(MutableError::from)
            }
            1 | 2 => self.ledger.delete_block(id).await.map(drop),
            3 | 4 => {
                let versions = self.ledger.versions(id).await.unwrap();
                let version = versions[which % versions.len()].id;
                self.ledger.restore(id, &version).await.map(drop)
            }
            _ => self.ledger.edit(id, text.into(), None).await.map(drop),
        };
        match done {
            Ok(()) | Err(MutableError::Deleted { .. } | MutableError::NoContent { .. }) => true,
            // It is shown before its content is here.
            Err(MutableError::Ledger(LedgerError::Unavailable { .. })) => true,
            Err(MutableError::NotAllowed { .. }) => false,
            Err(error) => panic!("{}: {error}", self.node.base().name()),
        }
    }

    /// Everything that a user can see of every block, deleted or not.
    async fn shown(&self) -> Vec<Shown> {
        let blocks: Vec<_> = self.ledger.blocks(Query::default(), true).unwrap().try_collect().await.unwrap();
        let mut shown = Vec::new();
        for block in blocks {
            let id = block.info.id;
            let conflicts = self.ledger.conflicts(&id).await.unwrap();
            shown.push(Shown {
                id,
                current: block.version,
                deleted: block.deleted,
                size: block.info.size,
                conflicts: conflicts.iter().map(|version| version.id).collect(),
                history: self.ledger.versions(&id).await.unwrap(),
            });
        }
        shown
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Shown {
    id: BlockId,
    current: BlockId,
    deleted: bool,
    size: u64,
    conflicts: Vec<BlockId>,
    history: Vec<Version>,
}

async fn admit(world: &World, by: &PrivateNode, other: &PrivateNode, did: &Did, role: Role) {
    let token = by.token(did, role).await;
    world.until("the joiner is in", async || other.join(&token).await.is_ok()).await;
}

async fn until_same(world: &World, editors: &[Editor]) {
    let same = async || {
        let first = editors[0].shown().await;
        for other in &editors[1..] {
            if other.shown().await != first {
                return false;
            }
        }
        !first.is_empty()
    };
    world.until("all show the same versions, conflicts and histories", same).await;
}

/// What was told of versions, less what was taken back, is what counts now.
fn check_told(editor: &Editor, shown: &[Shown]) {
    let mut counts: BTreeMap<BlockId, i32> = BTreeMap::new();
    for (change, _, version) in editor.told.values() {
        match change {
            Change::Conflicted => {}
            Change::Retracted => *counts.entry(*version).or_default() -= 1,
            _ => *counts.entry(*version).or_default() += 1,
        }
    }
    counts.retain(|_, count| *count != 0);
    let expected: BTreeMap<BlockId, i32> =
        shown.iter().flat_map(|block| &block.history).map(|version| (version.id, 1)).collect();
    assert_eq!(counts, expected, "{}: each version that counts is told once", editor.node.base().name());
    let positions: Vec<u64> = editor.told.keys().copied().collect();
    assert!(positions.iter().zip(1..).all(|(at, number)| *at == number), "positions have no gaps: {positions:?}");
}

fn part(world: &World, editors: &[Editor]) {
    let split = world.draw(|dice| dice.below(editors.len() as u64));
    let peers: Vec<_> = editors.iter().map(|editor| editor.node.base().peer()).collect();
    for (peer, at) in peers.iter().zip(0..) {
        // One alone, or everybody alone.
        let alone = split == 0 || at == split;
        for other in peers.iter().filter(|other| *other != peer) {
            if alone {
                world.hub().cut(peer, other);
            }
        }
    }
}

async fn story(seed: u64) -> TraceHash {
    let world = World::new(seed, LinkConditions::ROUGH);
    let mut editors = Vec::new();
    let (a, b, c) = (world.private_node("a").await, world.private_node("b").await, world.private_node("c").await);
    let did = a.create("home").await;
    for (other, role) in [(&b, Role::Member), (&c, Role::Admin)] {
        admit(&world, &a, other, &did, role).await;
    }
    for node in [a, b, c] {
        editors.push(Editor::new(node, &did).await);
    }
    for n in 0..3 {
        editors[0].node.add(&did, &format!("block {n}"), &[]).await.unwrap();
    }
    world.until("everybody has the blocks", async || editors[2].shown().await.len() == 3).await;
    until_same(&world, &editors).await;
    for round in 0..4 {
        assert_eq!(edit_apart(&world, &editors).await, 0, "devices of one identity are one author");
        if round == 1 {
            editors[0].ledger.set_policy(Policy::AdminsMayDelete).await.unwrap();
        }
        if round == 2 {
            crash_one(&world, &mut editors, &did, seed).await;
        }
        meet(&world, &mut editors).await;
    }
    end(world, editors).await
}

/// Everybody changes something while some cannot hear others; returns how often somebody might not.
async fn edit_apart(world: &World, editors: &[Editor]) -> usize {
    part(world, editors);
    let mut refused = 0;
    for _ in 0..3 {
        for editor in editors {
            refused += usize::from(!editor.change_something(world).await);
        }
        world.pass(Duration::from_secs(5)).await;
    }
    refused
}

async fn crash_one(world: &World, editors: &mut Vec<Editor>, did: &Did, seed: u64) {
    let crash = if seed.is_multiple_of(2) { Crash::Kill } else { Crash::PowerCut };
    let editor = editors.remove(1).crash_and_start(world, did, crash).await;
    editors.insert(1, editor);
}

async fn meet(world: &World, editors: &mut [Editor]) {
    for editor in editors {
        editor.hear().await;
    }
    world.hub().heal_all();
    world.pass(Duration::from_secs(30)).await;
}

/// All come to the same, and heard of it once.
async fn end(world: World, editors: Vec<Editor>) -> TraceHash {
    until_same(&world, &editors).await;
    let shown = editors[0].shown().await;
    assert!(shown.iter().any(|block| block.history.len() > 3), "nothing much was changed");
    for mut editor in editors {
        editor.hear().await;
        check_told(&editor, &shown);
        editor.ledger.shutdown().await;
        editor.node.stop().await;
    }
    world.end().await
}

async fn join_as(world: &World, by: &PrivateNode, other: &PrivateNode, team: &Did, person: &Did) {
    let token = by.token(team, Role::Member).await;
    let joined = async || other.join_as(&token, person).await.is_ok() || other.acts_in(team);
    world.until("the person is in", joined).await;
}

/// A team of t and two persons, one of them with two devices, of which one is removed while it edits.
async fn nested_story(seed: u64) -> TraceHash {
    let world = World::new(seed, LinkConditions::ROUGH);
    let (t, a) = (world.private_node("t").await, world.private_node("a").await);
    let (b, c) = (world.private_node("b").await, world.private_node("c").await);
    let (team, alice, carol) = (t.create("team").await, a.create("alice").await, c.create("carol").await);
    admit(&world, &a, &b, &alice, Role::Member).await;
    join_as(&world, &t, &a, &team, &alice).await;
    join_as(&world, &t, &c, &team, &carol).await;
    world.until("the other device joins by itself", async || b.acts_in(&team)).await;
    let mut editors = Vec::new();
    for node in [t, a, c, b] {
        editors.push(Editor::new(node, &team).await);
    }
    for (n, editor) in editors.iter().enumerate() {
        world.until("it can write", async || editor.node.add(&team, &format!("block {n}"), &[]).await.is_ok()).await;
    }
    world
        .until("everybody has the blocks", async || {
            for editor in &editors {
                if editor.shown().await.len() < 4 {
                    return false;
                }
            }
            true
        })
        .await;
    until_same(&world, &editors).await;
    let mut refused = 0;
    for round in 0..4 {
        refused += edit_apart(&world, &editors).await;
        if round == 0 {
            editors[0].ledger.set_policy(Policy::Anyone).await.unwrap();
        }
        if round == 1 {
            crash_one(&world, &mut editors, &team, seed).await;
        }
        if round == 2 {
            // What it wrote apart and nobody had admitted is void everywhere.
            let gone = editors.remove(3);
            let device = gone.node.identity(&alice).controller();
            editors[1].node.identities().remove(&alice, device).await.unwrap();
            world.hub().heal_all();
            world.until("the removed device has lost the team", async || !gone.node.acts_in(&team)).await;
            gone.ledger.shutdown().await;
            gone.node.stop().await;
        }
        meet(&world, &mut editors).await;
    }
    assert!(refused > 0, "persons are authors of their own until anyone may");
    end(world, editors).await
}

#[test]
fn editors_in_nested_identities_come_to_the_same_also_when_a_device_is_removed() {
    simulate(
        "walytis/mutable_sim::editors_in_nested_identities_come_to_the_same_also_when_a_device_is_removed",
        &[1, 2, 3],
        nested_story,
    );
}

#[test]
fn editors_apart_come_to_the_same_versions_conflicts_and_histories() {
    simulate(
        "walytis/mutable_sim::editors_apart_come_to_the_same_versions_conflicts_and_histories",
        &[1, 2, 3, 4],
        story,
    );
}

/// Unlike those of chains, nodes with identities have several tasks that wait for the same thing.
#[test]
#[cfg_attr(not(tokio_unstable), ignore = "tokio draws by itself in which order waiting tasks wake")]
fn the_same_seed_gives_the_same_trace_of_editors_on_several_devices() {
    const NAME: &str = "walytis/mutable_sim::the_same_seed_gives_the_same_trace_of_editors_on_several_devices";
    let traces = simulate(NAME, &[1; 4], story);
    // Other seeds may have been asked for.
    let same = test_harness::sim::seeds(&[1; 4]) == [1; 4];
    assert!(!same || traces.iter().all(|trace| *trace == traces[0]), "{traces:?}");
}
