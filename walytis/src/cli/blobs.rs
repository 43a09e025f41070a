//! `walytis chain blobs`.

use super::client::{ApiRequest, Client, StreamEvent};
use super::output::Output;
use crate::failure::{Failure, Kind};
use crate::view;

/// Lists large contents.
pub(super) async fn list(chain: &str, missing: bool, client: &Client, output: &Output) -> Result<(), Failure> {
    let query = missing.then(|| ("missing".to_owned(), "true".to_owned()));
    let request = ApiRequest::get(&["chains", chain, "blobs"]).query(query);
    let print = |event| {
        if let StreamEvent::Item(value) = event
            && let Ok(blob) = serde_json::from_value(value)
        {
            show(&blob, output);
        }
        Ok(())
    };
    client.stream(request, &mut { print }).await
}

/// Shows the progress of one content until all of it is here.
pub(super) async fn follow(chain: &str, block: &str, client: &Client, output: &Output) -> Result<(), Failure> {
    let request = ApiRequest::get(&["chains", chain, "blocks", block, "progress"]);
    let mut last: Option<view::Blob> = None;
    let embedded = client.is_embedded();
    let result = client
        .stream(request, &mut |event| {
            if let StreamEvent::Item(value) = event
                && let Ok(blob) = serde_json::from_value::<view::Blob>(value)
            {
                output.bytes(&view::ByteProgress {
                    step: "fetching content".into(),
                    bytes_done: blob.bytes_done,
                    bytes_total: blob.bytes_total,
                });
                let waits = blob.state != "available";
                last = Some(blob);
                if waits && embedded {
                    let hint = "start the daemon: walytis daemon";
                    return Err(Failure::new(
                        Kind::Failed,
                        "not all of the content is here, and this node is offline",
                        hint,
                    ));
                }
            }
            Ok(())
        })
        .await;
    output.progress_done();
    result?;
    match last {
        Some(blob) if blob.state == "available" => show(&blob, output),
        _ => return Err(Failure::new(Kind::Failed, "the chain was closed before the content was here", "")),
    }
    Ok(())
}

fn show(blob: &view::Blob, output: &Output) {
    output.value(blob, || {
        let sources = if blob.sources > 0 { format!("  from {} peers", blob.sources) } else { String::new() };
        let trouble = blob.trouble.as_ref().map(|trouble| format!("  {trouble}")).unwrap_or_default();
        format!(
            "{}  {}  {}/{} bytes{sources}{trouble}  {}",
            blob.id, blob.state, blob.bytes_done, blob.bytes_total, blob.blob
        )
    });
}
