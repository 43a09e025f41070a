//! `walytis offchain forget`, `proposals`, `consent` and `refuse`.

use super::args::Offchain;
use super::client::{ApiRequest, Client};
use super::output::Output;
use crate::failure::Failure;
use crate::view;

pub(super) async fn run(command: Offchain, client: &Client, output: &Output) -> Result<(), Failure> {
    match command {
        Offchain::Forget { identity, block, local, reason, layer } => {
            let path = ["identities", &identity, "private", &layer, "blocks", &block, "forget"];
            let request = ApiRequest::post(&path).json(&view::Forget { local, reason });
            let done: view::Forgetting = client.call(request).await?;
            output.value(&done, || match &done {
                view::Forgetting::Proposed { proposal } => format!("proposal {proposal}"),
                view::Forgetting::Local { id, .. } => format!("{id}  is forgotten on this device"),
            });
        }
        Offchain::Proposals { identity, layer } => {
            let path = ["identities", &identity, "private", &layer, "proposals"];
            let found: Vec<view::Proposal> = client.call(ApiRequest::get(&path)).await?;
            found.iter().for_each(|proposal| output.value(proposal, || proposal_text(proposal)));
        }
        Offchain::Consent { identity, proposal, layer } => {
            let path = ["identities", &identity, "private", &layer, "proposals", &proposal, "consent"];
            vote(client, &path, output).await?;
        }
        Offchain::Refuse { identity, proposal, layer } => {
            let path = ["identities", &identity, "private", &layer, "proposals", &proposal, "refuse"];
            vote(client, &path, output).await?;
        }
        command => super::inbox::run(command, client, output).await?,
    }
    Ok(())
}

async fn vote(client: &Client, path: &[&str], output: &Output) -> Result<(), Failure> {
    let now: view::Proposal = client.call(ApiRequest::post(path)).await?;
    output.value(&now, || proposal_text(&now));
    Ok(())
}

fn proposal_text(proposal: &view::Proposal) -> String {
    let counts = [("consent", &proposal.consents), ("refuse", &proposal.refusals), ("silent", &proposal.silent)];
    let counts: Vec<_> = counts.iter().map(|(what, who)| format!("{} {what}", who.len())).collect();
    let reason = proposal.reason.as_deref().filter(|reason| !reason.is_empty());
    let reason = reason.map(|reason| format!("  {reason:?}")).unwrap_or_default();
    let devices = proposal.done.len();
    format!(
        "{}  {}  {} blocks  {}, {devices} devices done  by {}{reason}",
        proposal.id,
        proposal.state,
        proposal.blocks.len(),
        counts.join(", "),
        proposal.by,
    )
}
