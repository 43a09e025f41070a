//! `walytis offchain …`.

use super::args::Offchain;
use super::chain::refuse_json_without_file;
use super::client::{ApiRequest, Client};
use super::log::{log, subscribers, unsubscribe};
use super::{input, output::Output};
use crate::failure::Failure;
use crate::view;

pub(super) async fn run(command: Offchain, client: &Client, output: &Output) -> Result<(), Failure> {
    match command {
        Offchain::Add { identity, file, topic, layer } => {
            let request = ApiRequest::post(&["identities", &identity, "private", &layer, "blocks"])
                .query(topic.into_iter().map(|topic| ("topic".to_owned(), topic)))
                .body(input::body(file.as_deref()).await?);
            output.block(&client.call(request).await?);
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
        Offchain::Cat { identity, block, output: file, range, layer } => {
            refuse_json_without_file(output, file.is_some())?;
            let request = ApiRequest::get(&["identities", &identity, "private", &layer, "blocks", &block, "content"]);
            let request = request.range(range.as_deref())?;
            output.content(client.send(request).await?, file.as_deref()).await?;
        }
        Offchain::Status { identity, block, layer } => {
            let request = ApiRequest::get(&["identities", &identity, "private", &layer, "status"])
                .query(block.map(|block| ("block".to_owned(), block)));
            let contents: Vec<view::ContentStatus> = client.call(request).await?;
            for content in contents {
                output.value(&content, || {
                    format!("{}  {}  {}/{} bytes", content.id, content.state, content.bytes_done, content.bytes_total)
                });
            }
        }
    }
    Ok(())
}
