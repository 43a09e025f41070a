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
use walytis_core::ledger::{LedgerControl as _, NewBlock, Query, SubscribeFrom};
use walytis_identities::id::{Did, Role};
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

    async fn change_something(&self, world: &World) {
        let known: Vec<BlockId> = self.shown().await.into_iter().map(|shown| shown.id).collect();
        let (what, which, text) = world.draw(|dice| (dice.below(10), dice.bytes()[0], dice.below(1_000)));
        let (text, which) = (format!("text {text}"), usize::from(which));
        let Some(id) = known.get(which % known.len().max(1)) else { return };
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
            Ok(()) | Err(MutableError::Deleted { .. } | MutableError::NoContent { .. }) => {}
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
        part(&world, &editors);
        for _ in 0..3 {
            for editor in &editors {
                editor.change_something(&world).await;
            }
            world.pass(Duration::from_secs(5)).await;
        }
        if round == 1 {
            editors[0].ledger.set_policy(Policy::AdminsMayDelete).await.unwrap();
        }
        if round == 2 {
            let crash = if seed.is_multiple_of(2) { Crash::Kill } else { Crash::PowerCut };
            let editor = editors.remove(1).crash_and_start(&world, &did, crash).await;
            editors.insert(1, editor);
        }
        for editor in &mut editors {
            editor.hear().await;
        }
        world.hub().heal_all();
        world.pass(Duration::from_secs(30)).await;
    }
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

#[test]
fn editors_apart_come_to_the_same_versions_conflicts_and_histories() {
    simulate("mutable_sim::editors_apart_come_to_the_same_versions_conflicts_and_histories", &[1, 2, 3, 4], story);
}
