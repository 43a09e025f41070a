//! Plain chains.

use std::time::{Duration, Instant};

use walytis_core::block::Visibility;
use walytis_core::chain::Chain;
use walytis_core::join::{Invitation, Joined, join};
use walytis_core::ledger::{Ledger as _, LedgerEvent, LedgerRead as _, NewBlock, SubscribeFrom};
use walytis_core::node::InviteOptions;

use crate::bounds;
use crate::stack::Stack;

/// Blocks that a joiner has to fetch.
pub(crate) const JOIN_BLOCKS: [u32; 2] = [10_000, 100_000];
/// Blocks of one `add_many`.
const MANY: u32 = 20_000;
/// Durable adds one after another.
const ADDS: u32 = 2_000;
/// Adds whose way to another node is timed.
const TIMED: usize = 500;

fn block(n: u32) -> NewBlock {
    let mut content = vec![7; 256];
    content[..4].copy_from_slice(&n.to_be_bytes());
    NewBlock { content: content.into(), topics: vec![] }
}

pub(crate) async fn durable_add() {
    let bound = bounds::flushed_commits_per_s(ADDS).await;
    let stack = Stack::start(1).await;
    let chain = stack.node.create_chain("bench", Visibility::Invited).await.unwrap();
    let start = Instant::now();
    for n in 0..ADDS {
        chain.add(block(n)).await.unwrap();
    }
    let rate = f64::from(ADDS) / start.elapsed().as_secs_f64();
    println!(
        "{{\"bench\":\"add\",\"adds_per_s\":{rate:.0},\"bound\":\"flushed commits per s\",\"bound_per_s\":{bound:.0},\"ratio\":{:.2}}}",
        rate / bound
    );
    stack.stop().await;
}

pub(crate) async fn add_many() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let bound = bounds::sign_and_put_per_s(MANY, cores).await;
    // Each block names the one before: its signature can be made only after that.
    let in_a_row = bounds::sign_and_put_per_s(MANY, 1).await;
    let stack = Stack::start(2).await;
    let chain = stack.node.create_chain("bench", Visibility::Invited).await.unwrap();
    let rate = fill(&chain, MANY).await;
    println!(
        "{{\"bench\":\"add_many\",\"blocks_per_s\":{rate:.0},\"bound\":\"sign, hash and put on all cores\",\"bound_per_s\":{bound:.0},\"ratio\":{:.2},\"on_one_core_per_s\":{in_a_row:.0},\"ratio_to_that\":{:.2}}}",
        rate / bound,
        rate / in_a_row
    );
    stack.stop().await;
}

async fn fill(chain: &Chain, blocks: u32) -> f64 {
    let start = Instant::now();
    chain.add_many((0..blocks).map(block).collect()).await.unwrap();
    f64::from(blocks) / start.elapsed().as_secs_f64()
}

/// An invitation to a chain of a stack.
pub(crate) async fn invitation(from: &Stack, chain: &Chain) -> Invitation {
    let made = from.node.invite(&chain.id(), InviteOptions::default()).await.unwrap();
    let own = from.network.local_peer();
    let members = from.network.addresses().into_iter().map(|address| (own.clone(), address)).collect();
    Invitation { chain: chain.id(), seed: made.seed, expires_at_ms: None, members }
}

/// Joins by an invitation.
pub(crate) async fn join_by(to: &Stack, token: &Invitation) -> Joined {
    let name = format!("joined-{}", token.chain.short());
    join(&to.node, &to.network, &*to.entropy, token, &name).await.unwrap()
}

/// Returns the chain of `from`, joined by `to`.
pub(crate) async fn joined(from: &Stack, to: &Stack, chain: &Chain) -> Joined {
    join_by(to, &invitation(from, chain).await).await
}

pub(crate) async fn join_over_libp2p(blocks: u32) {
    let bound = bounds::verify_per_s(blocks.min(20_000)).await;
    let batched = bounds::verify_together_per_s(blocks.min(20_000)).await;
    let (a, b) = (Stack::start(3).await, Stack::start(4).await);
    let chain = a.node.create_chain("bench", Visibility::Invited).await.unwrap();
    fill(&chain, blocks).await;
    let start = Instant::now();
    let mut joined = joined(&a, &b, &chain).await;
    while joined.next().await.unwrap().is_some() {}
    let elapsed = start.elapsed();
    let rate = f64::from(blocks) / elapsed.as_secs_f64();
    println!(
        "{{\"bench\":\"join\",\"blocks\":{blocks},\"seconds\":{:.3},\"blocks_per_s\":{rate:.0},\"bound\":\"verify on all cores\",\"bound_per_s\":{bound:.0},\"ratio\":{:.2},\"batch_bound_per_s\":{batched:.0},\"batch_ratio\":{:.2}}}",
        elapsed.as_secs_f64(),
        rate / bound,
        rate / batched
    );
    b.stop().await;
    a.stop().await;
}

pub(crate) async fn add_to_subscriber() {
    let round_trip = bounds::loopback_round_trip().await;
    let flush = Duration::from_secs_f64(1.0 / bounds::flushed_commits_per_s(500).await);
    let (a, b) = (Stack::start(5).await, Stack::start(6).await);
    let chain = a.node.create_chain("bench", Visibility::Invited).await.unwrap();
    let mut joined = joined(&a, &b, &chain).await;
    while joined.next().await.unwrap().is_some() {}
    let mut events = joined.chain.subscribe(SubscribeFrom::Name("bench".into())).await.unwrap();
    let mut times = Vec::new();
    for n in 0..TIMED {
        let start = Instant::now();
        let added = chain.add(block(u32::try_from(n).unwrap())).await.unwrap();
        loop {
            let event = events.next().await.unwrap().unwrap();
            events.ack(event.cursor()).await.unwrap();
            if matches!(&event, LedgerEvent::Block(info) if info.id == added.id) {
                break;
            }
        }
        times.push(start.elapsed());
    }
    report("announce", &mut times, round_trip + flush, "loopback and one flush");
    b.stop().await;
    a.stop().await;
}

/// Prints a latency.
pub(crate) fn report(name: &str, times: &mut [Duration], bound: Duration, bound_name: &str) {
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    println!(
        "{{\"bench\":\"{name}\",\"p50_ms\":{:.2},\"p99_ms\":{:.2},\"bound\":\"{bound_name}\",\"bound_ms\":{:.2}}}",
        ms(bounds::percentile(times, 50)),
        ms(bounds::percentile(times, 99)),
        ms(bound)
    );
}
