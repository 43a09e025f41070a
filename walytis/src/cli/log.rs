//! `walytis chain log`, `walytis offchain log` and those who follow them.

mod handler;

use walytis_core::clock::{Clock as _, SystemClock};

use super::args::Filter;
use super::client::{ApiRequest, Client, StreamEvent};
use super::{input, output::Output};
use crate::failure::Failure;
use crate::view;

/// Prints the blocks of a log as they come. `ledger`: the route of the ledger.
pub(super) async fn log(client: &Client, ledger: &[&str], mut filter: Filter, output: &Output) -> Result<(), Failure> {
    let command = std::mem::take(&mut filter.command);
    let query = query_of(filter)?;
    if let Some((program, args)) = command.split_first() {
        let handler = handler::Command { program, args };
        return handler.run(client, ledger, query, output).await;
    }
    let route = |parts: &[&str]| ApiRequest::get(&[ledger, parts].concat());
    let mut events = client.events(route(&["blocks"]).query(query.to_pairs())).await?;
    while let Some(event) = events.next().await? {
        let StreamEvent::Item(value) = event else { continue };
        let Ok(item) = serde_json::from_value(value) else { continue };
        // Nobody reads on: what was not printed is not acknowledged.
        if !output.log_event(&item) {
            return Ok(());
        }
        if let (Some(name), Some(position)) = (&query.subscriber, position(&item)) {
            acknowledge(client, ledger, name, position).await?;
        }
    }
    Ok(())
}

fn position(item: &view::LogEvent) -> Option<u64> {
    match item {
        view::LogEvent::Block(block) => block.position,
        view::LogEvent::Notice(notice) => Some(notice.position()),
    }
}

async fn acknowledge(client: &Client, ledger: &[&str], name: &str, position: u64) -> Result<(), Failure> {
    let path = [ledger, &["subscribers", name, "ack"]].concat();
    let request = view::Acknowledge { position, ..view::Acknowledge::default() };
    client.call::<view::Acknowledge>(ApiRequest::post(&path).json(&request)).await.map(drop)
}

/// Lists durable subscribers.
pub(super) async fn subscribers(client: &Client, ledger: &[&str], output: &Output) -> Result<(), Failure> {
    let found: Vec<view::Subscriber> = client.call(ApiRequest::get(&[ledger, &["subscribers"]].concat())).await?;
    for one in found {
        output.value(&one, || {
            let again = if one.attempts > 1 { format!(", {} attempts", one.attempts) } else { String::new() };
            let mut text = format!("{}  acknowledged up to {}, {} left{again}", one.name, one.acknowledged, one.left);
            for failing in &one.failing {
                text.push_str(&format!("\n  {} fails, {} attempts: {}", failing.id, failing.attempts, failing.reason));
            }
            text
        });
    }
    Ok(())
}

/// Removes a durable subscriber.
pub(super) async fn unsubscribe(client: &Client, ledger: &[&str], name: &str, output: &Output) -> Result<(), Failure> {
    let path = [ledger, &["subscribers", name]].concat();
    let removed: view::Text = client.call(ApiRequest::delete(&path)).await?;
    output.value(&serde_json::json!({ "name": removed.text }), || format!("{} is forgotten", removed.text));
    Ok(())
}

fn query_of(filter: Filter) -> Result<view::LogQuery, Failure> {
    let now_ms = SystemClock.now_ms();
    let time = |text: Option<String>| text.map(|text| input::since_ms(&text, now_ms)).transpose();
    Ok(view::LogQuery {
        topics_all: filter.topic,
        topics_any: filter.any_topic,
        creator: filter.creator,
        since_ms: time(filter.since)?,
        until_ms: time(filter.until)?,
        from_generation: filter.from_generation,
        to_generation: filter.to_generation,
        after: filter.after,
        limit: filter.limit,
        reverse: filter.reverse,
        arrival: filter.arrival,
        all: filter.all,
        overlays: filter.overlays,
        deleted: filter.deleted,
        follow: filter.follow,
        new: filter.new,
        from_position: filter.from_position,
        subscriber: filter.subscriber,
        retry: false,
    })
}
