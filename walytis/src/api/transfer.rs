//! `/v1/chains/…/export`, `/v1/chains/import`, `/v1/chains/…/repair`: chains as files, and their repair.

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::TryStreamExt as _;
use http::header;
use tokio_util::io::ReaderStream;
use walytis_core::carrier::ExportOptions;

use super::{Shared, stream};
use crate::failure::Failure;
use crate::view;

/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;
/// Headers of an export: blocks, contents in it, contents not in it.
pub(crate) const COUNTS: [&str; 3] = ["x-walytis-blocks", "x-walytis-contents", "x-walytis-missing-contents"];

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/chains/{chain}/export", get(export))
        .route("/chains/{chain}/repair", post(repair))
        .route("/chains/import", post(import).layer(DefaultBodyLimit::disable()))
}

async fn export(
    State(shared): State<Shared>,
    Path(chain): Path<String>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    let mut options = ExportOptions::default();
    for (name, value) in &pairs {
        let value = || value.parse().map_err(|_| Failure::usage(format!("parameter {name} is true or false"), ""));
        match name.as_str() {
            "blobs" => options.blobs = value()?,
            "access" => options.with_access = value()?,
            _ => {}
        }
    }
    let export = shared.app.chain_export(&chain, options).await?;
    let [blocks, contents, missing] = COUNTS;
    let headers = [
        (header::CONTENT_TYPE.as_str(), "application/vnd.ipld.car; version=1".to_owned()),
        (blocks, export.blocks.to_string()),
        (contents, export.blobs.to_string()),
        (missing, export.blobs_missing.to_string()),
    ];
    let bytes = ReaderStream::with_capacity(export.reader, READ_BYTES)
        // The client sees only that the body broke off.
        .inspect_err(move |error| tracing::warn!(chain, %error, "an export broke off"));
    Ok((headers, Body::from_stream(bytes)).into_response())
}

async fn repair(State(shared): State<Shared>, Path(chain): Path<String>) -> Response {
    stream::work(move |progress| async move { shared.app.chain_repair(chain, progress).await })
}

async fn import(
    State(shared): State<Shared>,
    Query(pairs): Query<Vec<(String, String)>>,
    body: Body,
) -> Result<Json<view::Imported>, Failure> {
    let name = pairs.into_iter().find(|(name, _)| name == "name").map(|(_, value)| value);
    shared.app.chain_import(shared.uploads.content(body), name).await.map(Json)
}
