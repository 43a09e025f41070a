//! What nodes take while nothing happens.

use std::time::{Duration, Instant};

use walytis_core::block::Visibility;
use walytis_core::ledger::{Ledger as _, NewBlock};

use crate::chains::joined;
use crate::stack::Stack;

/// Chains of each node.
const CHAINS: u32 = 100;
/// Peers of the one node that knows all others.
const PEERS: u64 = 10;
/// How long nothing is done before it is measured. Chosen: what follows joins is over, and caches of nodes are dropped.
const SETTLE: Duration = Duration::from_secs(90);
/// How long it is measured.
const MEASURED: Duration = Duration::from_secs(60);

/// All nodes stand in this process: the figures are those of eleven nodes, of which one has ten peers and the others one.
pub(crate) async fn idle() {
    let hub = Stack::start(20).await;
    let mut others = Vec::new();
    for seed in 0..PEERS {
        others.push(Stack::start(21 + seed).await);
    }
    for n in 0..CHAINS {
        let chain = hub.node.create_chain(&format!("idle{n}"), Visibility::Invited).await.unwrap();
        let blocks = (0..10).map(|_| NewBlock { content: vec![7; 256].into(), topics: vec![] }).collect();
        chain.add_many(blocks).await.unwrap();
        for other in &others {
            let mut joined = joined(&hub, other, &chain).await;
            while joined.next().await.unwrap().is_some() {}
        }
    }
    tokio::time::sleep(SETTLE).await;
    let (before, start) = (cpu_s(), Instant::now());
    tokio::time::sleep(MEASURED).await;
    let percent = (cpu_s() - before) / start.elapsed().as_secs_f64() * 100.0;
    let nodes = PEERS + 1;
    println!(
        "{{\"bench\":\"idle\",\"nodes\":{nodes},\"chains\":{CHAINS},\"peers\":{PEERS},\"cpu_percent_of_all\":{percent:.2},\"mb_of_all\":{:.0},\"mb_per_node\":{:.0}}}",
        resident_mb(),
        resident_mb() / nodes as f64
    );
    for other in others {
        other.stop().await;
    }
    hub.stop().await;
}

/// Returns the processor time of this process in seconds; 0 where the system does not say.
fn cpu_s() -> f64 {
    // Fields 14 and 15 of the line, in hundredths of a second; the name before them may contain anything.
    let line = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind = line.rsplit_once(')').map_or("", |(_, behind)| behind);
    behind.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Returns the memory of this process in MB; 0 where the system does not say.
fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse::<f64>().unwrap_or(0.0) / 1e3
}
