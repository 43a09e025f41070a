//! `walytis identity card | resolve`.

use super::client::{ApiRequest, Client};
use super::output::Output;
use crate::failure::Failure;
use crate::view;

pub(super) async fn card(identity: &str, qr: bool, client: &Client, output: &Output) -> Result<(), Failure> {
    if qr && output.is_json() {
        return Err(Failure::usage("a QR code is drawn for people", "leave --json or --qr out"));
    }
    let contact: view::Contact = client.call(ApiRequest::get(&["identities", identity, "card"])).await?;
    output.value(&contact, || contact.card.clone());
    if qr { output.qr(&contact.card) } else { Ok(()) }
}

pub(super) async fn resolve(
    request: view::Resolve,
    document: bool,
    client: &Client,
    output: &Output,
) -> Result<(), Failure> {
    let resolved: view::Resolved = client.call(ApiRequest::post(&["resolve"]).json(&request)).await?;
    for refused in &resolved.refused {
        output.note(&format!("the answer of {} was refused: {}", refused.peer_id, refused.reason));
    }
    if document {
        let text = || serde_json::to_string_pretty(&resolved.resolution).unwrap_or_default();
        output.value(&resolved.resolution, text);
    } else {
        output.value(&resolved, || summary(&resolved));
    }
    Ok(())
}

fn summary(resolved: &view::Resolved) -> String {
    let heard = match (resolved.own, resolved.heard_from, resolved.answers) {
        (true, ..) => "an identity of this node".to_owned(),
        (_, 0, 0) => "heard from nobody now, as it was known before".to_owned(),
        (_, controllers, nodes) => format!("heard from {controllers} controllers, {nodes} nodes in all"),
    };
    let count = |relation: &str| {
        let document = resolved.resolution.get("didDocument");
        let keys = document.and_then(|document| document.get(relation)?.as_array()).map_or(0, Vec::len);
        // Each device has two.
        keys / 2
    };
    format!(
        "{}\nas of {} ({heard})\ndevices that sign {}, of admins {}",
        resolved.did,
        resolved.version_id,
        count("authentication"),
        count("capabilityInvocation"),
    )
}
