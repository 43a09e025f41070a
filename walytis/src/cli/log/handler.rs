//! `… log --follow --as NAME -- COMMAND`: a command that handles each event.

use std::process::{ExitStatus, Stdio};

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command as Process;

use super::super::client::{ApiRequest, Client, StreamEvent};
use super::super::output::Output;
use super::position;
use crate::failure::Failure;
use crate::view;

/// A command that is called for each event until it succeeds.
pub(super) struct Command<'a> {
    pub(super) program: &'a str,
    pub(super) args: &'a [String],
}

impl Command<'_> {
    /// Calls the command for each event that comes. What it prints is all that is printed.
    pub(super) async fn run(
        &self,
        client: &Client,
        ledger: &[&str],
        query: view::LogQuery,
        output: &Output,
    ) -> Result<(), Failure> {
        let name = query.subscriber.clone().unwrap_or_default();
        let query = view::LogQuery { retry: true, ..query };
        let answer = [ledger, &["subscribers", &name, "ack"]].concat();
        let mut events =
            client.events(ApiRequest::get(&[ledger, &["blocks"]].concat()).query(query.to_pairs())).await?;
        while let Some(event) = events.next().await? {
            let StreamEvent::Item(value) = event else { continue };
            let Ok(event) = serde_json::from_value::<view::LogEvent>(value.clone()) else { continue };
            let Some(position) = position(&event) else { continue };
            let (what, id, attempt) = match &event {
                view::LogEvent::Block(block) => ("block", block.id.as_str(), block.attempt.unwrap_or(1)),
                view::LogEvent::Notice(view::Notice::Retracted { id, .. }) => ("retracted", id.as_str(), 1),
                // Nothing else is handed out.
                view::LogEvent::Notice(_) => continue,
            };
            let status = self.call(client, [what, id, &attempt.to_string()], &value).await?;
            let failed = (!status.success()).then(|| status.to_string());
            if let Some(reason) = &failed {
                output.note(&format!("{id}  attempt {attempt} failed ({reason}); it comes again"));
            }
            let request = view::Acknowledge { position, only: true, failed };
            let _same: view::Acknowledge = client.call(ApiRequest::post(&answer).json(&request)).await?;
        }
        Ok(())
    }

    /// Calls the command for one event.
    async fn call(&self, client: &Client, about: [&str; 3], event: &Value) -> Result<ExitStatus, Failure> {
        let names = ["WALYTIS_EVENT", "WALYTIS_BLOCK", "WALYTIS_ATTEMPT"];
        let child = Process::new(self.program)
            .args(self.args)
            .envs(names.into_iter().zip(about))
            // Commands of its own reach the same node.
            .env("WALYTIS_DATA_DIR", client.data_dir())
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let failure =
            |error: std::io::Error| Failure::local(&error, format!("is {} a program that can be run?", self.program));
        let mut child = child.map_err(failure)?;
        if let Some(mut input) = child.stdin.take() {
            // A command that does not read its input closes it.
            let _unread = input.write_all(format!("{event}\n").as_bytes()).await;
        }
        child.wait().await.map_err(failure)
    }
}
