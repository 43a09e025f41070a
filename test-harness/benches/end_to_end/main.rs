//! End-to-end figures, each beside the bound measured in the same run. Prints JSON lines; asserts nothing.
//!
//! ```text
//! make bench            all; or: make bench BENCH="add join"
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a figure is printed, a failure panics"
)]

mod bounds;
mod chains;
mod idle;
mod large;
mod private;
mod receiver;
mod stack;

const NAMES: [&str; 8] = ["add", "add_many", "join", "announce", "private", "large", "public_large", "idle"];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if let [receiver::RECEIVER, kind, invitation] = wanted.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return runtime.block_on(receiver::run(kind, invitation));
    }
    let all = wanted.is_empty();
    let runs = |name: &str| all || wanted.iter().any(|one| one == name);
    if !all && !NAMES.iter().any(|name| runs(name)) {
        return;
    }
    println!("{{\"bench\":\"machine\",\"cores\":{}}}", std::thread::available_parallelism().map_or(0, usize::from));
    runtime.block_on(async {
        if runs("add") {
            chains::durable_add().await;
        }
        if runs("add_many") {
            chains::add_many().await;
        }
        if runs("join") {
            for blocks in chains::JOIN_BLOCKS {
                chains::join_over_libp2p(blocks).await;
            }
        }
        if runs("announce") {
            chains::add_to_subscriber().await;
        }
        if runs("private") {
            private::add_to_readable().await;
        }
        if runs("large") {
            large::private().await;
        }
        if runs("public_large") {
            large::public().await;
        }
        if runs("idle") {
            idle::idle().await;
        }
    });
}
