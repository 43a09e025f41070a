//! Logs: the blocks that are there, and with `--follow` those that come.

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _};
use walytis_core::ledger::{BlockInfo, Cursor, LedgerEvent, LedgerRead, Query, SubscribeFrom, Subscription};

use super::convert;
use crate::failure::Failure;
use crate::view;

/// Shows a block.
type Show = fn(&BlockInfo) -> view::Block;

/// Returns the blocks of a ledger that match.
pub(super) async fn blocks<L: LedgerRead + 'static>(
    ledger: Arc<L>,
    log: &view::LogQuery,
    show: Show,
) -> Result<BoxStream<'static, Result<view::Block, Failure>>, Failure> {
    let query = convert::query(log)?;
    if log.follow {
        let subscription = ledger.subscribe(SubscribeFrom::Cursor(Cursor(0))).await?;
        return Ok(follow(subscription, query, show));
    }
    let found = ledger.query(query).await?;
    // The ledger stays open as long as somebody reads from it.
    Ok(found
        .map(move |info| {
            let _open = &ledger;
            info.map(|info| show(&info)).map_err(Failure::from)
        })
        .boxed())
}

fn follow(
    subscription: Box<dyn Subscription>,
    query: Query,
    show: Show,
) -> BoxStream<'static, Result<view::Block, Failure>> {
    stream::unfold((subscription, query), move |(mut subscription, query)| async move {
        loop {
            match subscription.next().await {
                Ok(Some(LedgerEvent::Block(info))) if query.matches(&info) => {
                    return Some((Ok(show(&info)), (subscription, query)));
                }
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => return Some((Err(Failure::from(error)), (subscription, query))),
            }
        }
    })
    .boxed()
}
