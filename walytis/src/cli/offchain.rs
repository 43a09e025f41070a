//! `walytis offchain …`.

use super::args::{NamesLedger as _, Offchain};
use super::chain::refuse_json_without_file;
use super::client::{ApiRequest, Client, StreamEvent};
use super::log::{log, subscribers, unsubscribe};
use super::{changes, input, output::Output};
use crate::failure::{Failure, Kind};
use crate::view;

pub(super) async fn run(command: Offchain, client: &Client, output: &Output) -> Result<(), Failure> {
    match command {
        Offchain::Add { identity, file, topic, forget_by, expires, layer } => {
            let expires = expires.map(|time| ("expires_s".to_owned(), time.as_secs().to_string()));
            let pairs = topic.into_iter().map(|topic| ("topic".to_owned(), topic));
            let request = ApiRequest::post(&["identities", &identity, "private", &layer, "blocks"])
                .query(pairs.chain([("forget_by".to_owned(), forget_by)]).chain(expires))
                .body(input::body_with_bar(file.as_deref(), output).await?);
            let added = client.call(request).await;
            output.progress_done();
            output.block(&added?);
        }
        Offchain::Log { identity, filter, layer } => {
            log(client, &["identities", &identity, "private", &layer], filter, output).await?;
        }
        Offchain::Subscribers { identity, layer } => {
            subscribers(client, &["identities", &identity, "private", &layer], output).await?;
        }
        Offchain::Unsubscribe { identity, name, layer } => {
            unsubscribe(client, &["identities", &identity, "private", &layer], &name, output).await?;
        }
        Offchain::Show { identity, block, layer } => {
            let request =
                ApiRequest::get(&["identities", &identity, "private", &layer, "blocks", &block, "authorship"]);
            let shown: view::PrivateBlock = client.call(request).await?;
            output.value(&shown, || show(&shown));
        }
        Offchain::Cat { identity, block, output: file, range, at, layer } => {
            refuse_json_without_file(output, file.is_some())?;
            let route = changes::content_route(&["identities", &identity, "private", &layer], &block, at.as_deref());
            let request = ApiRequest::get(&route).range(range.as_deref())?;
            output.content(client.send(request).await?, file.as_deref()).await?;
        }
        Offchain::Delete { ledger, block } => changes::delete(&ledger.route(), &block, client, output).await?,
        Offchain::Change(change) => changes::run(change, client, output).await?,
        Offchain::Status { identity, block, follow: true, layer } => {
            follow(&identity, &layer, block, client, output).await?;
        }
        Offchain::Status { identity, block, follow: false, layer } => {
            let request = ApiRequest::get(&["identities", &identity, "private", &layer, "status"])
                .query(block.map(|block| ("block".to_owned(), block)));
            let contents: Vec<view::ContentStatus> = client.call(request).await?;
            for content in contents {
                output.value(&content, || content_line(&content));
            }
        }
        command => super::bound::run(command, client, output).await?,
    }
    Ok(())
}

fn show(shown: &view::PrivateBlock) -> String {
    let block = &shown.block;
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    format!(
        "{}\nstate       {}\nadded       {}\nbytes       {}\ntopics      {}\nauthor      {}\ndevice key  {}\ncheckpoint  {}",
        block.id,
        or_none(&block.state),
        block.created_at,
        block.size,
        block.topics.join(", "),
        or_none(&block.author),
        block.creator,
        match (&shown.checkpoint, shown.hybrid) {
            (_, true) => "not needed: the block carries a post-quantum signature of its own",
            (Some(id), false) => id.as_str(),
            (None, false) => "none yet: the block is signed with Ed25519 alone",
        },
    )
}

fn content_line(content: &view::ContentStatus) -> String {
    format!("{}  {}  {}/{} bytes", content.id, content.state, content.bytes_done, content.bytes_total)
}

/// Shows contents as they come nearer; one until it is here or forgotten.
async fn follow(
    identity: &str,
    layer: &str,
    block: Option<String>,
    client: &Client,
    output: &Output,
) -> Result<(), Failure> {
    let one = block.is_some();
    let request = ApiRequest::get(&["identities", identity, "private", layer, "progress"])
        .query(block.map(|block| ("block".to_owned(), block)));
    let embedded = client.is_embedded();
    let mut last: Option<view::ContentStatus> = None;
    let result = client
        .stream(request, &mut |event| {
            let StreamEvent::Item(value) = event else { return Ok(()) };
            let Ok(step) = serde_json::from_value::<view::ContentProgress>(value) else { return Ok(()) };
            if !one {
                output.value(&step, || {
                    let left = indicatif::HumanBytes(step.missing_bytes);
                    format!("{}  {} contents missing, {left}", content_line(&step.content), step.missing_contents)
                });
                return Ok(());
            }
            let content = step.content;
            let (bytes_done, bytes_total) = (content.bytes_done, content.bytes_total);
            output.bytes(&view::ByteProgress { step: "fetching content".into(), bytes_done, bytes_total });
            let waits = !has_ended(&content);
            last = Some(content);
            if waits && embedded {
                let (what, hint) =
                    ("the content is not here, and this node is offline", "start the daemon: walytis daemon");
                return Err(Failure::new(Kind::Failed, what, hint));
            }
            Ok(())
        })
        .await;
    output.progress_done();
    result?;
    match last.filter(has_ended) {
        Some(content) => output.value(&content, || content_line(&content)),
        None if one => return Err(Failure::new(Kind::Failed, "the ledger was closed before the content was here", "")),
        None => {}
    }
    Ok(())
}

fn has_ended(content: &view::ContentStatus) -> bool {
    matches!(content.state.as_str(), "available" | "forgotten")
}
