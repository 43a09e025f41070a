//! `walytis offchain create`, `chains`: chains of their own for private ledgers.

use super::args::Offchain;
use super::client::{ApiRequest, Client};
use super::output::Output;
use crate::failure::Failure;
use crate::view;

pub(super) async fn run(command: Offchain, client: &Client, output: &Output) -> Result<(), Failure> {
    match command {
        Offchain::Create { identity, chain, hybrid_records } => {
            let request = view::CreateBound { name: chain, hybrid_records };
            let request = ApiRequest::post(&["identities", &identity, "chains"]).json(&request);
            show(&client.call(request).await?, output);
        }
        Offchain::Chains { identity } => {
            let request = ApiRequest::get(&["identities", &identity, "chains"]);
            let chains: Vec<view::Bound> = client.call(request).await?;
            chains.iter().for_each(|chain| show(chain, output));
        }
        command => super::forget::run(command, client, output).await?,
    }
    Ok(())
}

fn show(chain: &view::Bound, output: &Output) {
    let records = if chain.hybrid_records { "  hybrid records" } else { "" };
    output.value(chain, || format!("{}  {}{records}", chain.name, chain.id));
}
