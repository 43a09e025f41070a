//! `walytis chain …`.

use super::args::{Chain, NamesLedger as _};
use super::client::{ApiRequest, Client, StreamEvent};
use super::log::{log, subscribers, unsubscribe};
use super::{changes, input, output::Output, transfer};
use crate::failure::Failure;
use crate::view;

pub(super) async fn run(command: Chain, client: &Client, output: &Output) -> Result<u8, Failure> {
    match command {
        Chain::Create { name, public, fetch } => {
            let request = view::CreateChain { name, public, fetch };
            let chain = client.call(ApiRequest::post(&["chains"]).json(&request)).await?;
            show(&chain, output);
        }
        Chain::List => {
            let chains: Vec<view::Chain> = client.call(ApiRequest::get(&["chains"])).await?;
            chains.iter().for_each(|chain| show(chain, output));
        }
        Chain::Show { chain, block: None } => {
            detail(&client.call(ApiRequest::get(&["chains", &chain])).await?, output);
        }
        Chain::Show { chain, block: Some(block) } => {
            output.block(&client.call(ApiRequest::get(&["chains", &chain, "blocks", &block])).await?);
        }
        Chain::Delete { chain } => delete(&chain, client, output).await?,
        Chain::DeleteBlock { ledger, block } => changes::delete(&ledger.route(), &block, client, output).await?,
        Chain::Change(change) => changes::run(change, client, output).await?,
        Chain::Invite { chain, uses, expires, shareable, qr } => {
            let request = view::CreateInvitation { uses, expires_s: expires.as_secs(), shareable, role: None };
            invite(["chains", &chain, "invitations"], request, qr, client, output).await?;
        }
        Chain::Invites { chain } => {
            let found: Vec<_> = client.call(ApiRequest::get(&["chains", &chain, "invitations"])).await?;
            found.iter().for_each(|found| invitation(found, output));
        }
        Chain::Revoke { chain, invitation: id } => {
            let revoked: view::Invitation =
                client.call(ApiRequest::delete(&["chains", &chain, "invitations", &id])).await?;
            output.value(&revoked, || format!("revoked {}", revoked.id));
        }
        Chain::Join { token, name, fetch } => {
            let token = input::invitation(&token).await?;
            let request = ApiRequest::post(&["chains", "join"]).json(&view::Join { token, name, fetch, person: None });
            show(&work(client, request, output).await?, output);
        }
        Chain::Add { chain, file, topic } => {
            let request = ApiRequest::post(&["chains", &chain, "blocks"])
                .query(topic.into_iter().map(|topic| ("topic".to_owned(), topic)))
                .body(input::body(file.as_deref()).await?);
            output.block(&client.call(request).await?);
        }
        Chain::Log { chain, filter } => log(client, &["chains", &chain], filter, output).await?,
        Chain::Subscribers { chain } => subscribers(client, &["chains", &chain], output).await?,
        Chain::Unsubscribe { chain, name } => unsubscribe(client, &["chains", &chain], &name, output).await?,
        Chain::Cat { chain, block, output: file, range, at } => {
            refuse_json_without_file(output, file.is_some())?;
            let route = changes::content_route(&["chains", &chain], &block, at.as_deref());
            let request = ApiRequest::get(&route).range(range.as_deref())?;
            output.content(client.send(request).await?, file.as_deref()).await?;
        }
        Chain::Blobs { chain, block, missing } => match block {
            Some(block) => super::blobs::follow(&chain, &block, client, output).await?,
            None => super::blobs::list(&chain, missing, client, output).await?,
        },
        Chain::Fetch { chain, mode } => {
            let request = ApiRequest::post(&["chains", &chain, "fetch"]).json(&view::SetFetch { fetch: mode });
            let set: view::ChainFetch = client.call(request).await?;
            output.value(&set, || format!("{}  fetches {}", set.id, set.fetch));
        }
        Chain::Export(args) => transfer::export(args, client, output).await?,
        Chain::Import(args) => transfer::import(args, client, output).await?,
        Chain::Repair { chain } => return repair(&chain, client, output).await,
        Chain::Heads { chain } => heads(&chain, client, output).await?,
    }
    Ok(0)
}

async fn heads(chain: &str, client: &Client, output: &Output) -> Result<(), Failure> {
    let heads: view::Heads = client.call(ApiRequest::get(&["chains", chain, "heads"])).await?;
    output.value(&heads, || heads.heads.join("\n"));
    Ok(())
}

/// Deletes what this node has of a chain.
async fn delete(chain: &str, client: &Client, output: &Output) -> Result<(), Failure> {
    let chain: view::Chain = client.call(ApiRequest::delete(&["chains", chain])).await?;
    output.value(&chain, || format!("deleted {} ({})", chain.name, chain.id));
    Ok(())
}

/// Makes an invitation and shows it, on request as a picture too.
pub(super) async fn invite(
    path: [&str; 3],
    request: view::CreateInvitation,
    qr: bool,
    client: &Client,
    output: &Output,
) -> Result<(), Failure> {
    if qr && output.is_json() {
        return Err(Failure::usage("a QR code is drawn for people", "leave --json or --qr out"));
    }
    let request = ApiRequest::post(&path).json(&request);
    let made: view::Invitation = client.call(request).await?;
    invitation(&made, output);
    match made.invitation.as_ref().filter(|_| qr) {
        Some(text) => output.qr(text),
        None => Ok(()),
    }
}

/// Repairs a chain; exit code 1 if it is not whole afterwards.
async fn repair(chain: &str, client: &Client, output: &Output) -> Result<u8, Failure> {
    let request = ApiRequest::post(&["chains", chain, "repair"]);
    let done: view::Repaired = work(client, request, output).await?;
    output.value(&done, || {
        let mut text = format!(
            "{} ({}): {} blocks and {} contents verified, {} rows set right, {} blocks and {} parts of contents fetched",
            done.name, done.id, done.blocks, done.contents, done.rows, done.fetched_blocks, done.fetched_leaves
        );
        if done.whole {
            return text + "\nwhole";
        }
        text.push_str(&format!(
            "\nnot whole: {} blocks are missing, {} contents are damaged",
            done.missing_blocks, done.missing_contents
        ));
        if let Some(problem) = &done.problem {
            text.push_str(&format!("\n{problem}"));
        }
        for missing in &done.missing {
            text.push_str(&format!("\n  {missing}"));
        }
        text
    });
    if !done.whole {
        let peers = if client.is_embedded() { "start the daemon, connect" } else { "connect" };
        output.note(&format!(
            "hint: {peers} to a member that has the chain and repair again; if nobody has what is missing, delete the chain and join it anew"
        ));
    }
    Ok(u8::from(!done.whole))
}

fn show(chain: &view::Chain, output: &Output) {
    output.value(chain, || format!("{}  {}  {}  {} blocks", chain.name, chain.id, chain.visibility, chain.blocks));
}

fn detail(found: &view::ChainDetail, output: &Output) {
    output.value(found, || {
        let damaged = found.damaged.as_ref().map(|reason| format!("\ndamaged: {reason}")).unwrap_or_default();
        format!(
            "{}  {}  {}\n{} blocks, {} pending, {} invitations\nfetches {}, {} contents missing\nheads {}{damaged}",
            found.chain.name,
            found.chain.id,
            found.chain.visibility,
            found.chain.blocks,
            found.pending,
            found.invitations,
            found.fetch,
            found.missing_contents,
            found.heads.join(" "),
        )
    });
}

/// Prints an invitation; the secret text stands alone on its line, ready to be copied.
fn invitation(invitation: &view::Invitation, output: &Output) {
    let expires = invitation.expires_at.as_deref().unwrap_or("never");
    let role = invitation.role.as_ref().map(|role| format!(", role {role}")).unwrap_or_default();
    let terms = format!("invitation {}: {} uses left, expires {expires}{role}", invitation.id, invitation.uses);
    match &invitation.invitation {
        Some(text) => {
            output.note(&terms);
            output.value(invitation, || text.clone());
        }
        None => output.value(invitation, || terms),
    }
}

/// Runs a call that reports progress, and returns its result.
pub(super) async fn work<T: serde::de::DeserializeOwned + Send>(
    client: &Client,
    request: ApiRequest,
    output: &Output,
) -> Result<T, Failure> {
    let mut result = None;
    let done = client
        .stream(request, &mut |event| {
            match event {
                StreamEvent::Progress(value) => {
                    if let Ok(progress) = serde_json::from_value(value) {
                        output.progress(&progress);
                    }
                }
                StreamEvent::Item(value) => result = serde_json::from_value(value).ok(),
            }
            Ok(())
        })
        .await;
    output.progress_done();
    done?;
    result.ok_or_else(|| Failure::new(crate::failure::Kind::Failed, "the node gave no result", ""))
}

/// Raw bytes are not JSON: `cat --json` needs a file.
pub(super) fn refuse_json_without_file(output: &Output, has_file: bool) -> Result<(), Failure> {
    if output.is_json() && !has_file {
        return Err(Failure::usage("cat prints raw bytes, which are not JSON", "leave --json out, or add -o FILE"));
    }
    Ok(())
}
