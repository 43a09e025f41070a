//! Running a scenario under seeds.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Environment variable that replaces a simulation's seeds by one.
const SEED: &str = "WALYTIS_SEED";
/// Environment variable that replaces a simulation's seeds by so many, from 1: for long runs.
const SEEDS: &str = "WALYTIS_SEEDS";

/// Returns the seeds to run: the one in `WALYTIS_SEED`, else as many as `WALYTIS_SEEDS` says, else `usual`.
///
/// # Panics
/// If a variable is set to something that is no number.
pub fn seeds(usual: &[u64]) -> Vec<u64> {
    match (number(SEED), number(SEEDS)) {
        (Some(seed), _) => vec![seed],
        (None, Some(count)) => (1..=count).collect(),
        (None, None) => usual.to_vec(),
    }
}

fn number(name: &str) -> Option<u64> {
    #[expect(clippy::expect_used, reason = "a wrong seed must not silently run another")]
    std::env::var(name).ok().map(|text| text.parse().expect("seeds and their counts are numbers"))
}

/// Returns the command that runs one seed of a test again. `test` is `<test program>::<function>`, of another crate than
/// this one `<crate>/<test program>::<function>`.
pub fn rerun_line(test: &str, seed: u64) -> String {
    let own = env!("CARGO_PKG_NAME");
    let (package, test) = test.split_once('/').unwrap_or((own, test));
    let (program, function) = test.split_once("::").unwrap_or((test, ""));
    // With fewer features the test might not be built.
    let features = if package == own && cfg!(feature = "offchain") { " --features offchain" } else { "" };
    format!("{SEED}={seed} cargo test -p {package}{features} --test {program} {function} -- --nocapture")
}

/// Runs something in a runtime of its own with one thread and paused time, whose own draws follow `seed` (if built with
/// `tokio_unstable`, as this workspace is); returns what it gave, or its panic.
///
/// # Errors
/// What it panicked with.
pub fn in_virtual_time<T>(seed: u64, scenario: impl AsyncFnOnce() -> T) -> std::thread::Result<T> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_be_bytes()));
    #[cfg(not(tokio_unstable))]
    let _ = seed;
    #[expect(clippy::expect_used, reason = "without a runtime there is nothing to test")]
    let runtime = builder.build().expect("a runtime without I/O can always be built");
    catch_unwind(AssertUnwindSafe(|| runtime.block_on(scenario())))
}

/// Runs `scenario` once for every seed, each in a runtime of its own with one thread and paused time, and returns what
/// each gave. If one fails, its seed and the command to run it again are printed before the panic goes on.
///
/// # Panics
/// If the scenario does.
pub fn simulate<T>(test: &str, usual: &[u64], scenario: impl AsyncFn(u64) -> T) -> Vec<T> {
    let run = |seed| {
        eprintln!("{test}: seed {seed}");
        match in_virtual_time(seed, async || scenario(seed).await) {
            Ok(done) => done,
            Err(panic) => {
                eprintln!("\n{test} failed with seed {seed}; run it again with\n  {}\n", rerun_line(test, seed));
                resume_unwind(panic)
            }
        }
    };
    seeds(usual).into_iter().map(run).collect()
}
