//! Checking blocks of others, on all cores where they are many.

use std::sync::Arc;

use crate::block::{Block, Rule, RuleViolation, UnverifiedBlock};
use crate::clock::Entropy;
use crate::id::ChainId;

/// Blocks verified in one go on one thread. Chosen: about 4 ms of work; larger batches gain little.
const VERIFY_CHUNK: usize = 256;
/// Blocks from which on signatures are verified together. Chosen: below it there is little to gain.
const BATCH_FROM: usize = 32;
/// Blocks that stay on the thread of the caller. Chosen: a millisecond of work.
const VERIFY_HERE: usize = 16;

/// Checks every rule that needs no other block; in the order of `blocks`.
pub(super) async fn verify(
    chain: ChainId,
    blocks: Vec<UnverifiedBlock>,
    entropy: &Arc<dyn Entropy>,
) -> (Vec<Block>, Vec<RuleViolation>) {
    let runtime = tokio::runtime::Handle::current();
    // One thread only: nothing to win by leaving it, and simulations stay in step.
    let alone = runtime.runtime_flavor() == tokio::runtime::RuntimeFlavor::CurrentThread;
    let entropy = Arc::clone(entropy);
    let check = move |blocks: Vec<UnverifiedBlock>| -> Vec<Result<Block, RuleViolation>> {
        if blocks.len() >= BATCH_FROM {
            return UnverifiedBlock::verify_all(blocks, &chain, entropy.rng());
        }
        blocks.into_iter().map(|block| block.verify(&chain)).collect()
    };
    if alone || blocks.len() <= VERIFY_HERE {
        return sort(check(blocks));
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let chunk = blocks.len().div_ceil(cores).clamp(1, VERIFY_CHUNK);
    let mut blocks = blocks.into_iter();
    let mut checks = Vec::new();
    loop {
        let part: Vec<_> = blocks.by_ref().take(chunk).collect();
        if part.is_empty() {
            break;
        }
        let ids: Vec<_> = part.iter().map(UnverifiedBlock::id).collect();
        let check = check.clone();
        checks.push((ids, runtime.spawn_blocking(move || check(part))));
    }
    let mut results = Vec::new();
    for (ids, check) in checks {
        match check.await {
            Ok(part) => results.extend(part),
            // Verification must not panic; if it does, the blocks count as unverifiable.
            Err(_) => results.extend(ids.into_iter().map(|block| Err(RuleViolation { rule: Rule::Signature, block }))),
        }
    }
    sort(results)
}

fn sort(results: Vec<Result<Block, RuleViolation>>) -> (Vec<Block>, Vec<RuleViolation>) {
    let mut blocks = Vec::with_capacity(results.len());
    let mut rejected = Vec::new();
    for result in results {
        match result {
            Ok(block) => blocks.push(block),
            Err(violation) => rejected.push(violation),
        }
    }
    (blocks, rejected)
}
