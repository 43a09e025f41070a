//! Invariants of stored chains.

use std::collections::BTreeMap;

use futures::TryStreamExt as _;
use walytis_core::chain::{Chain, ChainCore};
use walytis_core::id::BlockId;
use walytis_core::ledger::{BlockInfo, LedgerError, LedgerRead, Order, Query};
use walytis_core::limits::PENDING_BLOCKS_MAX;

use super::{Broken, check};

/// Unknown ancestors that a chain may name at once.
const MISSING_MAX: usize = 1_024;

async fn blocks(ledger: &impl LedgerRead, order: Order) -> Result<Vec<BlockInfo>, Broken> {
    let failed = |error: LedgerError| Broken::new("a chain can be read", format!("{error:?}"));
    let found = ledger.query(Query { order, include_overlays: true, ..Query::default() }).await.map_err(failed)?;
    found.try_collect().await.map_err(failed)
}

/// Checks that all replicas show the same heads, the same number of blocks and the same canonical order.
///
/// # Errors
/// [`Broken`].
pub async fn convergence(replicas: &[impl LedgerRead]) -> Result<(), Broken> {
    const INVARIANT: &str = "replicas of the same blocks show the same";
    let failed = |error: LedgerError| Broken::new(INVARIANT, format!("{error:?}"));
    let mut first = None;
    for (number, replica) in replicas.iter().enumerate() {
        let ids: Vec<_> = blocks(replica, Order::Canonical).await?.into_iter().map(|info| info.id).collect();
        let shown = (replica.heads().await.map_err(failed)?, replica.count().await.map_err(failed)?, ids);
        let first = first.get_or_insert_with(|| shown.clone());
        check(shown == *first, INVARIANT, || format!("replica {number} shows {shown:?}, the first one {first:?}"))?;
    }
    Ok(())
}

/// Checks one stored chain: arrival order counts without gaps and has ancestors before descendants, generations follow
/// from parents, canonical order holds the same blocks by generation and id, the heads are the childless blocks.
///
/// # Errors
/// [`Broken`].
pub async fn chain(chain: &Chain) -> Result<(), Broken> {
    let arrival = blocks(chain, Order::Arrival).await?;
    let mut generations: BTreeMap<BlockId, u64> = BTreeMap::new();
    let mut heads = BTreeMap::new();
    for (place, info) in arrival.iter().enumerate() {
        let cursor = info.cursor.0;
        check(cursor == place as u64 + 1, "arrival order has no gaps", || format!("{cursor} at place {place}"))?;
        let mut generation = 0;
        for parent in &info.parents {
            let known = generations.get(parent).copied();
            check(known.is_some(), "ancestors arrive before descendants", || format!("{:?}", info.id))?;
            generation = generation.max(known.unwrap_or(0) + 1);
            heads.remove(parent);
        }
        check(generation == info.generation, "generations follow from parents", || format!("{:?}", info.id))?;
        let again = generations.insert(info.id, generation).is_some();
        check(!again, "a block arrives once", || format!("{:?}", info.id))?;
        heads.insert(info.id, ());
    }
    let canonical: Vec<_> =
        blocks(chain, Order::Canonical).await?.iter().map(|info| (info.generation, info.id)).collect();
    let mut expected: Vec<_> = generations.iter().map(|(id, generation)| (*generation, *id)).collect();
    expected.sort_unstable();
    check(canonical == expected, "canonical order is by generation and id", || format!("{canonical:?}"))?;
    let summary = chain.core().summary();
    let childless: Vec<_> = heads.into_keys().collect();
    check(summary.heads == childless, "heads are the childless blocks", || format!("{:?}", summary.heads))?;
    let counted = summary.count == arrival.len() as u64;
    check(counted, "the count is that of the blocks", || format!("{} and {}", summary.count, arrival.len()))?;
    pending_within_bounds(chain.core())
}

/// Checks that what a chain holds for others is bounded.
///
/// # Errors
/// [`Broken`].
pub fn pending_within_bounds(core: &ChainCore) -> Result<(), Broken> {
    let (pending, missing) = (core.pending(), core.missing().len());
    // Blocks that wait for an ancestor and blocks that wait for the policy have a bound each.
    check(pending <= 2 * PENDING_BLOCKS_MAX, "pending blocks are bounded", || pending.to_string())?;
    check(missing <= MISSING_MAX, "missing ancestors are bounded", || missing.to_string())
}
