//! `walytis offchain send`, `inbox`, `outbox` and `senders`.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::args::Offchain;
use super::client::{ApiRequest, Client, StreamEvent};
use super::{input, output::Output};
use crate::failure::Failure;
use crate::view;

pub(super) async fn run(command: Offchain, client: &Client, output: &Output) -> Result<(), Failure> {
    match command {
        Offchain::Send { to, file, from } => send(client, to, from, file.as_deref(), output).await,
        Offchain::Inbox { identity, follow, peek } => inbox(client, &identity, follow, peek, output).await,
        Offchain::Outbox { discard } => outbox(client, discard.as_deref(), output).await,
        Offchain::Senders { identity, block, unblock, allow, policy } => {
            let change = view::SenderChange { block, unblock, allow, policy };
            senders(client, &identity, &change, output).await
        }
        // The caller handles the others.
        _ => Ok(()),
    }
}

async fn send(
    client: &Client,
    to: String,
    from: Option<String>,
    file: Option<&Path>,
    output: &Output,
) -> Result<(), Failure> {
    let from = from.map(|from| ("as".to_owned(), from));
    let message = input::message(file).await?;
    let request =
        ApiRequest::post(&["messages"]).query([("to".to_owned(), to)].into_iter().chain(from)).body(message.into());
    let sent: view::Sent = client.call(request).await?;
    output.value(&sent, || format!("{}  waits for a controller of {}; see walytis offchain outbox", sent.id, sent.to));
    Ok(())
}

async fn inbox(client: &Client, identity: &str, follow: bool, peek: bool, output: &Output) -> Result<(), Failure> {
    let pairs = [("follow", follow), ("peek", peek)].map(|(name, value)| (name.to_owned(), value.to_string()));
    let mut events = client.events(ApiRequest::get(&["identities", identity, "inbox"]).query(pairs)).await?;
    while let Some(event) = events.next().await? {
        let StreamEvent::Item(value) = event else { continue };
        let Ok(message) = serde_json::from_value::<view::Message>(value) else { continue };
        output.value(&message, || {
            let content = STANDARD.decode(&message.content_base64).unwrap_or_default();
            let new = if message.opened { "" } else { "  new" };
            format!("{}  from {}{new}\n{}", message.received_at, message.from, printable(&content))
        });
    }
    Ok(())
}

/// A message is somebody else's: nothing of it may steer the terminal.
fn printable(content: &[u8]) -> String {
    let text = String::from_utf8_lossy(content);
    let keep = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    text.chars().map(|c| if keep(c) { c } else { '\u{fffd}' }).collect()
}

async fn outbox(client: &Client, discard: Option<&str>, output: &Output) -> Result<(), Failure> {
    if let Some(id) = discard {
        let removed: view::Text = client.call(ApiRequest::delete(&["outbox", id])).await?;
        output.value(&serde_json::json!({ "id": removed.text }), || format!("{} is taken out", removed.text));
        return Ok(());
    }
    let all: Vec<view::Outgoing> = client.call(ApiRequest::get(&["outbox"])).await?;
    for one in all {
        output.value(&one, || {
            let next = one.next_at.as_deref().map(|next| format!(", next {next}")).unwrap_or_default();
            format!("{}  {}  to {}  {} attempts{next}", one.id, one.state, one.to, one.attempts)
        });
    }
    Ok(())
}

async fn senders(client: &Client, identity: &str, change: &view::SenderChange, output: &Output) -> Result<(), Failure> {
    let path = ["identities", identity, "inbox", "senders"];
    let request = if *change == view::SenderChange::default() {
        ApiRequest::get(&path)
    } else {
        ApiRequest::post(&path).json(change)
    };
    let now: view::Senders = client.call(request).await?;
    output.value(&now, || {
        let list = |what: &str, who: &[String]| who.iter().map(|did| format!("\n{what}  {did}")).collect::<String>();
        format!("takes messages of {}{}{}", now.policy, list("blocked", &now.blocked), list("allowed", &now.allowed))
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_cannot_steer_the_terminal() {
        assert_eq!(printable(b"a\x1b[2J\tb\nc\x07"), "a\u{fffd}[2J\tb\nc\u{fffd}");
    }
}
