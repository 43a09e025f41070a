//! Running a scenario under seeds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::timeout;
use walytis_core::block::Visibility;
use walytis_core::chain::Chain;
use walytis_core::id::Digest;
use walytis_core::ledger::{LedgerRead as _, Order, SubscribeFrom};
use walytis_core::topic::Topic;

use super::cast::Cast;
use super::file::{Scenario, ScenarioError, Topology};
use super::script::Script;
use crate::invariant::SubscriberLog;
use crate::sim::{TraceHash, in_virtual_time};
use crate::world::World;

/// What came of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Everything that happened, as one hash.
    pub trace: TraceHash,
    /// Events in it.
    pub events: u64,
    /// Blocks of the chain at the end.
    pub blocks: u64,
    /// Bytes that travelled.
    pub bytes: u64,
    /// Virtual time of the whole run.
    pub took: Duration,
    /// Virtual time from the last step until all were level.
    pub level: Duration,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// Returns the names of all scenario files, in order.
///
/// # Errors
/// [`ScenarioError::Read`].
pub fn all_files() -> Result<Vec<String>, ScenarioError> {
    let failed = |source| ScenarioError::Read { name: folder().display().to_string(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder()).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Reads a scenario by the name of its file, or by a path.
///
/// # Errors
/// [`ScenarioError`].
pub fn load(name: &str) -> Result<Scenario, ScenarioError> {
    let path = if name.ends_with(".toml") { PathBuf::from(name) } else { folder().join(format!("{name}.toml")) };
    let text = std::fs::read_to_string(path).map_err(|source| ScenarioError::Read { name: name.to_owned(), source })?;
    Scenario::parse(name, &text)
}

/// Returns the command that runs one seed of a scenario again.
pub fn rerun_line(name: &str, seed: u64) -> String {
    format!("make sim SCENARIO={name} SEED={seed}")
}

/// Runs a scenario once for every seed and returns what each gave. If one fails, its seed and the command to run it again
/// are printed before the panic goes on.
///
/// # Panics
/// If an invariant is broken.
pub fn run_seeds(name: &str, scenario: &Scenario, seeds: &[u64]) -> Vec<Outcome> {
    let one = |seed: &u64| match in_virtual_time(*seed, async || run(scenario, *seed).await) {
        Ok(outcome) => outcome,
        Err(panic) => {
            eprintln!("\n{name} failed with seed {seed}; run it again with\n  {}\n", rerun_line(name, *seed));
            std::panic::resume_unwind(panic)
        }
    };
    seeds.iter().map(one).collect()
}

/// Runs a scenario under one seed. Must be called within a runtime of one thread, whose time is paused.
///
/// # Panics
/// If an invariant is broken or a bound is not kept.
pub async fn run(scenario: &Scenario, seed: u64) -> Outcome {
    let world = World::new(seed, scenario.links.conditions());
    let cast = assemble(scenario, &world).await;
    let mut script = Script::new(scenario, &world, cast);
    for step in &scenario.steps {
        script.step(step).await;
    }
    let before = world.elapsed();
    world.hub().heal_all();
    script.level(Duration::from_secs(scenario.expect.level_s)).await;
    let level = world.elapsed() - before;
    check_blocks(&script).await;
    check_contents(&script).await;
    check_subscribers(&script).await;
    let chain = script.cast.chain;
    let (summary, events) = (script.cast.members().first().map(|node| node.summary(&chain)), world.hub().events());
    let (blocks, heads) = summary.map_or((0, 0), |summary| (summary.count, summary.heads.len()));
    let bytes = world.hub().carried();
    let expect = scenario.expect;
    assert!(bytes <= expect.kilobytes * 1_000, "{bytes} bytes travelled, more than {} kB", expect.kilobytes);
    assert!(heads >= expect.heads_min, "{heads} heads: there was too little to merge");
    assert!(events >= expect.events_min, "{events} events: the scenario tests too little");
    let Script { cast, attacks, .. } = script;
    attacks.into_iter().for_each(super::attack::Ongoing::end);
    for place in cast.places {
        if let Some(node) = place.node {
            node.stop().await;
        }
    }
    let took = world.elapsed();
    Outcome { trace: world.end().await, events, blocks, bytes, took, level }
}

async fn assemble(scenario: &Scenario, world: &World) -> Cast {
    let visibility = if scenario.public { Visibility::Public } else { Visibility::Invited };
    let first = world.start(Cast::disk(scenario, world.seed(), 0)).await;
    let chain = first.create("chain", visibility).await;
    let mut cast = Cast { places: Vec::new(), peers: Vec::new(), chain, acknowledged: BTreeMap::new(), unsure: 0 };
    cast.seat(first);
    for number in 1..scenario.nodes {
        let node = world.start(Cast::disk(scenario, world.seed(), number)).await;
        let members = cast.members();
        let inviter = if scenario.topology == Topology::Star { members.first() } else { members.last() };
        if let Some(inviter) = inviter {
            node.join(inviter, &chain).await;
        }
        if scenario.topology == Topology::Full {
            for other in members {
                node.meet(other).await;
            }
        }
        cast.seat(node);
    }
    if let (Topology::Ring, [first, .., last]) = (scenario.topology, cast.members().as_slice()) {
        last.meet(first).await;
    }
    cast
}

/// Everything acknowledged is there, and nothing else.
async fn check_blocks(script: &Script<'_>) {
    let cast = &script.cast;
    for node in cast.members() {
        let blocks = node.blocks(&cast.chain, Order::default()).await;
        // Published invitations and their uses are nobody's content.
        let content = blocks.iter().filter(|info| !info.topics.iter().any(Topic::is_reserved));
        let ids: BTreeSet<_> = content.map(|info| info.id).collect();
        let lost: Vec<_> = cast.acknowledged.keys().filter(|id| !ids.contains(id)).collect();
        assert!(lost.is_empty(), "{} lacks acknowledged blocks: {lost:?}", node.name());
        let least = 1 + cast.acknowledged.len() as u64;
        let count = ids.len() as u64;
        assert!((least..=least + cast.unsure).contains(&count), "{count} blocks, {least} were added");
    }
}

/// Every member can read every content, large ones once they have come.
async fn check_contents(script: &Script<'_>) {
    let cast = &script.cast;
    for node in cast.members() {
        for (id, digest) in &cast.acknowledged {
            // A reader is told at once when nobody connected has it; it may come back.
            let read = async || node.read(&cast.chain, id).await.is_ok_and(|bytes| Digest::of(&bytes) == *digest);
            script.world.until(&format!("the content of {id:?} comes to {}", node.name()), read).await;
        }
    }
}

/// Every durable subscriber was told everything.
async fn check_subscribers(script: &Script<'_>) {
    let cast = &script.cast;
    for place in cast.places.iter().filter(|place| place.followed && !place.left) {
        let Some(node) = &place.node else { continue };
        let chain = node.chain(&cast.chain);
        let mut log = place.log.clone();
        log.restarted();
        let told = read_to_end(&chain, &mut log).await;
        assert!(told.is_ok(), "{}: {told:?}", node.name());
        let complete = log.complete(&chain).await;
        assert!(complete.is_ok(), "{}: {complete:?}", node.name());
    }
}

async fn read_to_end(chain: &Chain, log: &mut SubscriberLog) -> Result<(), Box<dyn std::error::Error>> {
    let count = chain.count().await?;
    let mut subscription = chain.subscribe(SubscribeFrom::Name("scenario".into())).await?;
    // What was acknowledged last may have been the last block.
    while let Ok(event) = timeout(Duration::from_secs(5), subscription.next()).await {
        let Some(event) = event? else { break };
        log.handle(&event)?;
        if event.cursor().0 >= count {
            break;
        }
    }
    Ok(())
}
