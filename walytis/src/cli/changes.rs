//! Changing blocks: the same on chains and on private ledgers. `ledger`: the route of the ledger.

use clap::Args;
use http::Method;

use super::args::{Change, EditArgs, NamesLedger};
use super::client::{ApiRequest, Client};
use super::{input, output::Output};
use crate::failure::Failure;
use crate::view;

fn of_block<'a>(ledger: &[&'a str], block: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [ledger, &["blocks", block], rest].concat()
}

pub(super) async fn run<L: Args + NamesLedger>(
    change: Change<L>,
    client: &Client,
    output: &Output,
) -> Result<(), Failure> {
    match change {
        Change::Edit { ledger, args } => edit(&ledger.route(), args, client, output).await,
        Change::Restore { ledger, block, version } => {
            let request = ApiRequest::post(&of_block(&ledger.route(), &block, &["restore"]));
            output.block(&client.call(request.json(&view::Restore { version })).await?);
            Ok(())
        }
        Change::Versions { ledger, block } => versions(&ledger.route(), &block, "versions", client, output).await,
        Change::Conflicts { ledger, block } => versions(&ledger.route(), &block, "conflicts", client, output).await,
        Change::Erase { ledger, block } => erase(&ledger.route(), &block, client, output).await,
        Change::Rights { ledger, policy } => rights(&ledger.route(), policy, client, output).await,
    }
}

async fn edit(ledger: &[&str], args: EditArgs, client: &Client, output: &Output) -> Result<(), Failure> {
    let request = ApiRequest::post(&of_block(ledger, &args.block, &["versions"]))
        .query(args.topic.into_iter().map(|topic| ("topic".to_owned(), topic)))
        .query(args.no_topics.then(|| ("no_topics".to_owned(), "true".to_owned())))
        .body(input::body(args.file.as_deref()).await?);
    output.block(&client.call(request).await?);
    Ok(())
}

pub(super) async fn delete(ledger: &[&str], block: &str, client: &Client, output: &Output) -> Result<(), Failure> {
    output.block(&client.call(ApiRequest::delete(&of_block(ledger, block, &[]))).await?);
    Ok(())
}

async fn erase(ledger: &[&str], block: &str, client: &Client, output: &Output) -> Result<(), Failure> {
    let request = ApiRequest::delete(&of_block(ledger, block, &[])).query([("erase".to_owned(), "true".to_owned())]);
    let erased: view::Erased = client.call(request).await?;
    output.value(&erased, || match erased.forgetting {
        true => format!("{} is deleted; forgetting {} contents was asked for", erased.block.id, erased.blocks.len()),
        false => format!("{} is deleted; this ledger cannot forget, so its history stays", erased.block.id),
    });
    Ok(())
}

/// Lists versions: all of them (`versions`), or those beside the current one (`conflicts`).
async fn versions(ledger: &[&str], block: &str, which: &str, client: &Client, output: &Output) -> Result<(), Failure> {
    let found: Vec<view::Version> = client.call(ApiRequest::get(&of_block(ledger, block, &[which]))).await?;
    for version in found {
        output.value(&version, || version_line(&version));
    }
    Ok(())
}

async fn rights(ledger: &[&str], policy: Option<String>, client: &Client, output: &Output) -> Result<(), Failure> {
    let route = [ledger, &["rights"]].concat();
    let request = match policy {
        None => ApiRequest::get(&route),
        Some(policy) => ApiRequest::new(Method::PUT, &route).json(&view::Policy { policy }),
    };
    let policy: view::Policy = client.call(request).await?;
    output.value(&policy, || {
        let means = match policy.policy.as_str() {
            "author" => "its author changes a block",
            "anyone" => "whoever may write changes any block",
            _ => "its author changes a block; admins may delete and restore it",
        };
        format!("{}: {means}", policy.policy)
    });
    Ok(())
}

/// Returns the route of a block's content, now or as it was.
pub(super) fn content_route<'a>(ledger: &[&'a str], block: &'a str, at: Option<&'a str>) -> Vec<&'a str> {
    match at {
        None => of_block(ledger, block, &["content"]),
        Some(at) => of_block(ledger, block, &["versions", at, "content"]),
    }
}

fn version_line(version: &view::Version) -> String {
    let mark = match (version.current, version.head) {
        (true, _) => "  current",
        (false, true) => "  beside it",
        (false, false) => "",
    };
    let restores = version.restores.as_ref().map(|id| format!(" of {id}")).unwrap_or_default();
    let (id, at, size) = (&version.id, &version.created_at, version.size);
    let mut line = format!("{id}  {at}  {size:>8} B  {}  {}{restores}{mark}", version.author, version.act);
    if !version.topics.is_empty() {
        line.push_str(&format!("  [{}]", version.topics.join(", ")));
    }
    line
}
