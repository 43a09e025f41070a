//! Logs: the blocks that are there, page by page, those that come, and who follows them.

mod follow;

use futures::stream::{BoxStream, StreamExt as _};
use walytis_core::ledger::{Ack, BlockInfo, Cursor, Ledger, LedgerError, LedgerRead as _, Query, Subscriber};
use walytis_mutability::{Current, MutableLedger};

use super::convert;
use super::views::{Reading, Source, View};
use crate::failure::{Failure, Kind};
use crate::view;

/// Subscribers of the program itself; they are neither shown nor touched.
const OWN: &str = "walytis/";

/// Shows a block.
pub(super) type Show = fn(&BlockInfo) -> view::Block;

/// Items of a log.
pub(crate) type LogStream = BoxStream<'static, Result<view::LogEvent, Failure>>;

/// Returns the blocks of a ledger that match.
pub(super) async fn blocks(source: Source, log: &view::LogQuery, show: Show) -> Result<LogStream, Failure> {
    let query = convert::query(log)?;
    if log.follow {
        return follow::blocks(source, log, query, show).await;
    }
    match viewed(&source, log).await? {
        View::Plain(ledger) => {
            let found = ledger.query(query.clone()).await?;
            // The ledger stays open as long as somebody reads from it.
            let item = move |info: Result<BlockInfo, LedgerError>| -> Result<_, Failure> {
                Ok(view::LogEvent::Block(Box::new(shown(&*ledger, &query, &info?, show))))
            };
            Ok(found.map(item).boxed())
        }
        View::Changed(ledger) => {
            let (deleted, found) = (log.deleted, ledger.blocks(query.clone(), log.deleted)?);
            let item = move |current: Result<Current, LedgerError>| -> Result<_, Failure> {
                Ok(view::LogEvent::Block(Box::new(shown_now(&ledger, &query, &current?, deleted, show))))
            };
            Ok(found.map(item).boxed())
        }
    }
}

/// Returns the ledger as a log shows it. What lists deleted blocks has cursors of its own, so it is never plain.
async fn viewed(source: &Source, log: &view::LogQuery) -> Result<View, Failure> {
    match log.deleted && source.read != Reading::Plain {
        true => Ok(View::Changed(source.changed().await?)),
        false => source.view().await,
    }
}

/// Returns one page.
pub(super) async fn page(source: &Source, log: &view::LogQuery, show: Show) -> Result<view::Page, Failure> {
    if log.follow {
        return Err(Failure::usage("a page cannot be followed", "ask for blocks to follow them"));
    }
    let query = convert::query(log)?;
    if query.page_size() == 0 {
        return Err(Failure::usage("a page has at least one block", "leave the limit out, or raise it"));
    }
    let (blocks, next) = match viewed(source, log).await? {
        View::Plain(ledger) => {
            let page = ledger.page(query.clone()).await?;
            (page.blocks.iter().map(|info| shown(&*ledger, &query, info, show)).collect(), page.next)
        }
        View::Changed(ledger) => {
            let page = ledger.blocks_page(query.clone(), log.deleted).await?;
            let show = |current: &Current| shown_now(&ledger, &query, current, log.deleted, show);
            (page.blocks.iter().map(show).collect(), page.next)
        }
    };
    Ok(view::Page { blocks, next: next.map(|next| next.to_string()) })
}

fn shown(ledger: &dyn Ledger, query: &Query, info: &BlockInfo, show: Show) -> view::Block {
    view::Block { cursor: Some(ledger.cursor_behind(query, info).to_string()), ..show(info) }
}

fn shown_now(ledger: &MutableLedger, query: &Query, current: &Current, deleted: bool, show: Show) -> view::Block {
    let cursor = ledger.blocks_cursor_behind(query, &current.info, deleted);
    view::Block { cursor: Some(cursor.to_string()), ..convert::current(current, show) }
}

/// Lists durable subscribers: those told of changes, and those from before there were any who have not come back since.
pub(super) async fn subscribers(source: &Source) -> Result<Vec<view::Subscriber>, Failure> {
    let mut found = match source.view().await? {
        View::Plain(_) => Vec::new(),
        View::Changed(ledger) => ledger.subscribers().await?,
    };
    for one in source.ledger.subscribers().await? {
        if !found.iter().any(|other| other.name == one.name) {
            found.push(one);
        }
    }
    found.retain(|one| !one.name.starts_with(OWN));
    found.sort_by(|a, b| a.name.cmp(&b.name));
    let view = |one: Subscriber| view::Subscriber {
        name: one.name,
        acknowledged: one.acknowledged.0,
        ahead: one.ahead,
        left: one.left,
        begun: one.begun,
        attempts: one.attempts,
        failing: Vec::new(),
    };
    Ok(found.into_iter().map(view).collect())
}

/// Acknowledges for a durable subscriber.
pub(super) async fn acknowledge(source: &Source, name: &str, request: &view::Acknowledge) -> Result<(), Failure> {
    let (name, cursor) = (own_name(name)?, Cursor(request.position));
    let ack = if request.only { Ack::One(cursor) } else { Ack::UpTo(cursor) };
    if let View::Changed(ledger) = source.view().await? {
        match ledger.acknowledge(&name, ack).await {
            Err(LedgerError::UnknownSubscriber { .. }) => {}
            done => return Ok(done?),
        }
    }
    Ok(source.ledger.acknowledge(&name, ack).await?)
}

/// Removes a durable subscriber.
pub(super) async fn unsubscribe(source: &Source, name: &str) -> Result<(), Failure> {
    let name = own_name(name)?;
    let changed = match source.view().await? {
        View::Plain(_) => None,
        View::Changed(ledger) => Some(ledger.unsubscribe(&name).await),
    };
    match (source.ledger.unsubscribe(&name).await, changed) {
        (Err(LedgerError::UnknownSubscriber { .. }), Some(removed)) => Ok(removed?),
        (removed, _) => Ok(removed?),
    }
}

pub(super) fn own_name(name: &str) -> Result<String, Failure> {
    if name.starts_with(OWN) {
        let message = format!("subscribers named {OWN}… belong to the program itself");
        return Err(Failure::new(Kind::Refused, message, "choose another name"));
    }
    Ok(name.to_owned())
}
