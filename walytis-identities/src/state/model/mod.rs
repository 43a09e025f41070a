//! Model check of the authority rules on small histories: every set of up to so many ops, built one at a time by
//! authors that keep no rule but those the graph enforces, in every order of delivery that matters. It runs the real
//! evaluation; signatures are taken for granted.
//!
//! All acts together grow too fast, so there are *families*: each is exhaustive in its authors, acts and knowledge.
//! `make model` looks as far as stated, every test run a little less far. `WALYTIS_MODEL_OPS=n` looks n ops far. Laws,
//! bounds and results: `docs/identity-state.md`.

mod cast;
mod explore;
mod families;
mod laws;
mod orders;

use std::time::Instant;

use explore::{Explorer, Family};

/// Runs a family and prints what it saw.
fn check(family: &Family) {
    let usual = if std::env::var_os("WALYTIS_MODEL").is_some() { family.ops.1 } else { family.ops.0 };
    let depth = std::env::var("WALYTIS_MODEL_OPS").ok().and_then(|ops| ops.parse().ok()).unwrap_or(usual);
    let mut explorer = Explorer::new(family, depth);
    let began = Instant::now();
    explorer.run();
    let counts = &explorer.counts;
    let sets: u64 = counts.sets.iter().sum();
    let verdict = if explorer.broken.is_empty() { "holds" } else { "BROKEN" };
    eprintln!(
        "model {:<12} ops {depth}  sets {sets:>9} {:?}  refused {:>9}  {:>6.1} s  {verdict}",
        family.name,
        counts.sets,
        counts.refused,
        began.elapsed().as_secs_f64(),
    );
    for (law, (ops, history)) in &explorer.broken {
        eprintln!("model {}: {law:?} is broken by {ops} ops:\n{history}\n", family.name);
    }
    assert!(explorer.broken.is_empty(), "{} sets break a law", counts.broken);
    assert!(sets > 50, "hardly anything was looked at");
}
