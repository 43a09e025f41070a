//! Model check of the authority rules on small histories: every set of up to so many ops, built one at a time by
//! authors that keep no rule but those the graph enforces, in every order of delivery that matters. It runs the real
//! evaluation; signatures are taken for granted.
//!
//! All acts together grow too fast, so there are *families*: each is exhaustive in its authors, acts and knowledge, and
//! then draws histories that are longer. `make model` looks as far as stated, every test run a little less far. Laws,
//! bounds and results: `docs/identity-state.md`.
//!
//! `WALYTIS_MODEL_OPS=n` looks n ops far, `WALYTIS_MODEL_WALKS=n` draws n histories, `WALYTIS_MODEL_DRAW=n` lets other ids
//! fall and draws other histories, `WALYTIS_MODEL_PLAIN=1` delivers sets of any size in all orders.

mod cast;
mod explore;
mod families;
mod history;
mod laws;
mod orders;
mod walks;

use std::time::Instant;

use explore::{Explorer, Family};

/// Histories that are drawn: in every test run, and by `make model`.
const WALKS: (u64, u64) = (5, 5_000);

/// Runs a family and prints what it saw.
fn check(family: &Family) {
    let whole = std::env::var_os("WALYTIS_MODEL").is_some();
    let (ops, walks) = if whole { (family.ops.1, WALKS.1) } else { (family.ops.0, WALKS.0) };
    let depth = number("OPS").map_or(ops, |ops| usize::try_from(ops).unwrap());
    let draw = number("DRAW").unwrap_or_default();
    let mut explorer = Explorer::new(family, depth, draw);
    let began = Instant::now();
    explorer.run();
    let gone_through = began.elapsed().as_secs_f64();
    explorer.walk(number("WALKS").unwrap_or(walks), draw);
    let counts = &explorer.counts;
    let sets: u64 = counts.sets.iter().sum();
    let verdict = if explorer.broken.is_empty() { "holds" } else { "BROKEN" };
    eprintln!(
        "model {:<12} ops {depth}  sets {sets:>9} {:?}  refused {:>9}  {gone_through:>6.1} s  drawn {:>6}  {:>6.1} s  {verdict}",
        family.name,
        counts.sets,
        counts.refused,
        counts.drawn,
        began.elapsed().as_secs_f64() - gone_through,
    );
    for (law, (ops, history)) in &explorer.broken {
        eprintln!("model {}: {law:?} is broken by {ops} ops:\n{history}\n", family.name);
    }
    assert!(explorer.broken.is_empty(), "{} sets break a law", counts.broken);
    assert!(sets > 50, "hardly anything was looked at");
}

/// Returns a number that was asked for.
fn number(name: &str) -> Option<u64> {
    std::env::var(format!("WALYTIS_MODEL_{name}")).ok()?.parse().ok()
}
