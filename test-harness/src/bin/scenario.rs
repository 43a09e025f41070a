//! Runs scenario files under many seeds: `scenario [NAME…] [--seeds COUNT | --seed SEED]`.
//!
//! Without names every file; without seeds those that the files name. A failure prints the line that runs it again.

#![expect(clippy::print_stdout, reason = "what a program says")]

use std::process::ExitCode;
use std::time::Instant;

use test_harness::scenario::{Outcome, all_files, load, run_seeds};

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scenario: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut args: impl Iterator<Item = String>) -> Result<(), Box<dyn std::error::Error>> {
    let (mut names, mut seeds) = (Vec::new(), None);
    while let Some(arg) = args.next() {
        let mut number = || args.next().ok_or("a number is missing")?.parse::<u64>().map_err(|_| "that is no number");
        match arg.as_str() {
            "--seeds" => seeds = Some((1..=number()?).collect::<Vec<_>>()),
            "--seed" => seeds = Some(vec![number()?]),
            _ => names.push(arg),
        }
    }
    if names.is_empty() {
        names = all_files()?;
    }
    println!(
        "{:<28} {:>6} {:>8} {:>10} {:>12} {:>12} {:>8}",
        "scenario", "seeds", "blocks", "kB most", "level most", "virtual", "real"
    );
    for name in names {
        let scenario = load(&name)?;
        let seeds = seeds.clone().unwrap_or_else(|| scenario.seeds.clone());
        let began = Instant::now();
        let outcomes = run_seeds(&name, &scenario, &seeds);
        let most = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).max().unwrap_or(0);
        let virtual_s: u64 = outcomes.iter().map(|outcome| outcome.took.as_secs()).sum();
        println!(
            "{name:<28} {:>6} {:>8} {:>10} {:>11}s {virtual_s:>11}s {:>7.1}s",
            seeds.len(),
            most(|outcome| outcome.blocks),
            most(|outcome| outcome.bytes / 1_000),
            most(|outcome| outcome.level.as_secs()),
            began.elapsed().as_secs_f64(),
        );
    }
    Ok(())
}
