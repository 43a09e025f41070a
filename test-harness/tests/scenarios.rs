//! Every scenario file under its fixed seeds; the same seed gives the same trace.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use test_harness::scenario::{all_files, load, run_seeds};

#[test]
fn every_scenario_holds_under_its_fixed_seeds() {
    let names = all_files().unwrap();
    assert!(names.len() >= 12, "{names:?}");
    for name in names {
        let scenario = load(&name).unwrap();
        eprintln!("{name}: {}", scenario.what);
        run_seeds(&name, &scenario, &scenario.seeds);
    }
}

#[test]
fn the_same_seed_gives_the_same_trace_of_a_contended_scenario() {
    let scenario = load("contended").unwrap();
    let runs = run_seeds("contended", &scenario, &[1, 1, 1, 2]);
    assert!(runs[0] == runs[1] && runs[0] == runs[2], "{runs:?}");
    assert_ne!(runs[0], runs[3]);
}
