//! What work costs on chains of different lengths. Prints JSON lines; asserts nothing.
//!
//! ```text
//! make bench BENCH=growth                  1,000, 100,000 and 1,000,000 blocks: minutes, and 4 GB of disk
//! make bench BENCH="growth 1000 100000"    others
//! ```
//!
//! Every figure is the best of several rounds: what else runs on the machine makes rounds slower, never faster. Beside the
//! writes stands the bound of the same moment, flushed commits of one small record, on a store of its own.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a figure is printed, a failure panics"
)]

/// How long each of so many calls took on average in the best of so many rounds. (The future of an `async` closure is not
/// known to be `Send`.)
macro_rules! best {
    ($rounds:expr, $times:expr, |$n:ident| $work:expr) => {{
        let mut best = std::time::Duration::MAX;
        for round in 0..$rounds {
            let start = std::time::Instant::now();
            for turn in 0..$times {
                let $n: u32 = round * $times + turn;
                $work;
            }
            best = best.min(start.elapsed() / $times);
        }
        best
    }};
}

mod chain;
mod many;
mod memory;
mod reads;
mod writes;

use std::path::Path;
use std::time::Duration;

/// Lengths measured where none is named.
const LENGTHS: [u32; 3] = [1_000, 100_000, 1_000_000];
/// Names the folder that a child process opens.
const CHILD: &str = "WALYTIS_GROWTH_FOLDER";

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if let Some(folder) = std::env::var_os(CHILD) {
        runtime.block_on(memory::child(Path::new(&folder)));
        return;
    }
    if let Some(folder) = std::env::var_os(many::CHILD) {
        runtime.block_on(many::child(Path::new(&folder)));
        return;
    }
    let words: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if !words.is_empty() && !words.iter().any(|word| word == "growth") {
        return;
    }
    let mut lengths: Vec<u32> = words.iter().filter_map(|word| word.parse().ok()).collect();
    if lengths.is_empty() {
        lengths = LENGTHS.into();
    }
    runtime.block_on(many::measure());
    for blocks in lengths {
        // Spawned, so that it runs where the tasks of a program run.
        runtime.block_on(async move { tokio::spawn(one(blocks)).await }).unwrap();
    }
}

async fn one(blocks: u32) {
    let folder = tempfile::tempdir().unwrap();
    chain::fill(folder.path(), blocks).await;
    chain::settle(folder.path()).await;
    memory::measure(folder.path(), blocks);
    let open = chain::open(folder.path()).await;
    reads::measure(&open, blocks).await;
    writes::measure(&open, blocks).await;
    open.close().await;
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
