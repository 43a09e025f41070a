//! Logs: the blocks that are there, page by page, those that come, and who follows them.

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _};
use walytis_core::ledger::{
    Ack, BlockInfo, Cursor, LedgerError, LedgerEvent, LedgerRead, Query, SubscribeFrom, Subscription,
};

use super::convert;
use crate::failure::{Failure, Kind};
use crate::view;

/// Subscribers of the program itself; they are neither shown nor touched.
const OWN: &str = "walytis/";

/// Shows a block.
type Show = fn(&BlockInfo) -> view::Block;

/// Items of a log.
pub(crate) type LogStream = BoxStream<'static, Result<view::LogEvent, Failure>>;

/// Returns the blocks of a ledger that match.
pub(super) async fn blocks<L: LedgerRead + 'static>(
    ledger: Arc<L>,
    log: &view::LogQuery,
    show: Show,
) -> Result<LogStream, Failure> {
    let query = convert::query(log)?;
    if log.follow {
        let from = match (&log.subscriber, log.from_position) {
            (Some(name), _) => SubscribeFrom::Name(own_name(name)?),
            (None, Some(position)) => SubscribeFrom::Cursor(Cursor(position)),
            (None, None) if log.new => SubscribeFrom::Now,
            (None, None) => SubscribeFrom::Cursor(Cursor(0)),
        };
        let named = log.subscriber.is_some();
        let subscription = ledger.subscribe(from).await?;
        return Ok(Following { subscription, query, show, named }.stream());
    }
    let found = ledger.query(query.clone()).await?;
    // The ledger stays open as long as somebody reads from it.
    Ok(found.map(move |info| Ok(view::LogEvent::Block(Box::new(shown(&*ledger, &query, &info?, show))))).boxed())
}

/// Returns one page.
pub(super) async fn page<L: LedgerRead>(ledger: &L, log: &view::LogQuery, show: Show) -> Result<view::Page, Failure> {
    if log.follow {
        return Err(Failure::usage("a page cannot be followed", "ask for blocks to follow them"));
    }
    let query = convert::query(log)?;
    if query.page_size() == 0 {
        return Err(Failure::usage("a page has at least one block", "leave the limit out, or raise it"));
    }
    let page = ledger.page(query.clone()).await?;
    let blocks = page.blocks.iter().map(|info| shown(ledger, &query, info, show)).collect();
    Ok(view::Page { blocks, next: page.next.map(|next| next.to_string()) })
}

fn shown<L: LedgerRead>(ledger: &L, query: &Query, info: &BlockInfo, show: Show) -> view::Block {
    view::Block { cursor: Some(ledger.cursor_behind(query, info).to_string()), ..show(info) }
}

/// A log that is followed.
struct Following {
    subscription: Box<dyn Subscription>,
    query: Query,
    show: Show,
    named: bool,
}

impl Following {
    fn stream(self) -> LogStream {
        stream::unfold(self, |mut following| async move {
            let item = following.next().await.transpose()?;
            Some((item.map_err(Failure::from), following))
        })
        .boxed()
    }

    async fn next(&mut self) -> Result<Option<view::LogEvent>, LedgerError> {
        while let Some(event) = self.subscription.next().await? {
            let position = event.cursor().0;
            let item = match event {
                LedgerEvent::Block(info) if self.query.matches(&info) => {
                    let attempt = match self.named {
                        true => Some(self.subscription.begin(info.cursor).await?),
                        false => None,
                    };
                    let block = view::Block { position: Some(position), attempt, ..(self.show)(&info) };
                    view::LogEvent::Block(Box::new(block))
                }
                LedgerEvent::Retracted { id, .. } => {
                    view::LogEvent::Notice(view::Notice::Retracted { id: id.to_string(), position })
                }
                LedgerEvent::Lagged { missed, resume, .. } => {
                    view::LogEvent::Notice(view::Notice::Lagged { missed, resume: resume.0, position })
                }
                _ => {
                    // What the subscriber did not ask for is not left for it to acknowledge.
                    self.subscription.ack_one(Cursor(position)).await?;
                    continue;
                }
            };
            return Ok(Some(item));
        }
        Ok(None)
    }
}

/// Lists durable subscribers.
pub(super) async fn subscribers<L: LedgerRead>(ledger: &L) -> Result<Vec<view::Subscriber>, Failure> {
    let found = ledger.subscribers().await?.into_iter().filter(|one| !one.name.starts_with(OWN));
    Ok(found
        .map(|one| view::Subscriber {
            name: one.name,
            acknowledged: one.acknowledged.0,
            ahead: one.ahead,
            left: one.left,
            begun: one.begun,
            attempts: one.attempts,
        })
        .collect())
}

/// Acknowledges for a durable subscriber.
pub(super) async fn acknowledge<L: LedgerRead>(
    ledger: &L,
    name: &str,
    request: view::Acknowledge,
) -> Result<(), Failure> {
    let cursor = Cursor(request.position);
    let ack = if request.only { Ack::One(cursor) } else { Ack::UpTo(cursor) };
    Ok(ledger.acknowledge(&own_name(name)?, ack).await?)
}

/// Removes a durable subscriber.
pub(super) async fn unsubscribe<L: LedgerRead>(ledger: &L, name: &str) -> Result<(), Failure> {
    Ok(ledger.unsubscribe(&own_name(name)?).await?)
}

fn own_name(name: &str) -> Result<String, Failure> {
    if name.starts_with(OWN) {
        let message = format!("subscribers named {OWN}… belong to the program itself");
        return Err(Failure::new(Kind::Refused, message, "choose another name"));
    }
    Ok(name.to_owned())
}
