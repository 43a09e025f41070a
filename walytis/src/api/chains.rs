//! `/v1/chains`: plain chains, and reading those of identities.

use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{delete, get, post};
use axum::{Json, Router};

use super::Shared;
use super::content::{content_answer, only_of, part_of};
use super::offchain::topics_of;
use super::stream;
use crate::failure::Failure;
use crate::view;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/chains", post(create).get(list))
        .route("/chains/join", post(join))
        .route("/chains/{chain}", get(show).delete(remove))
        .route("/chains/{chain}/invitations", post(invite).get(invitations))
        .route("/chains/{chain}/invitations/{invitation}", delete(revoke))
        .route("/chains/{chain}/heads", get(heads))
        .route("/chains/{chain}/pages", get(page))
        .route("/chains/{chain}/subscribers", get(subscribers))
        .route("/chains/{chain}/subscribers/{name}", delete(unsubscribe))
        .route("/chains/{chain}/subscribers/{name}/ack", post(acknowledge))
        .route("/chains/{chain}/blocks", get(log).post(add).layer(DefaultBodyLimit::disable()))
        .route("/chains/{chain}/blocks/{block}/content", get(content))
        .route("/chains/{chain}/blocks/{block}/progress", get(progress))
        .route("/chains/{chain}/blobs", get(blobs))
        .route("/chains/{chain}/fetch", post(fetch))
}

async fn create(
    State(shared): State<Shared>,
    body: Result<Json<view::CreateChain>, JsonRejection>,
) -> Result<Json<view::Chain>, Failure> {
    let Json(request) = body?;
    shared.app.chain_create(&request.name, request.public, request.fetch.as_deref()).await.map(Json)
}

async fn list(State(shared): State<Shared>) -> Result<Json<Vec<view::Chain>>, Failure> {
    shared.app.chain_list().await.map(Json)
}

async fn show(State(shared): State<Shared>, Path(chain): Path<String>) -> Result<Json<view::ChainDetail>, Failure> {
    shared.app.chain_show(&chain).await.map(Json)
}

async fn remove(State(shared): State<Shared>, Path(chain): Path<String>) -> Result<Json<view::Chain>, Failure> {
    shared.app.chain_delete(&chain).await.map(Json)
}

async fn invite(
    State(shared): State<Shared>,
    Path(chain): Path<String>,
    body: Result<Json<view::CreateInvitation>, JsonRejection>,
) -> Result<Json<view::Invitation>, Failure> {
    let Json(request) = body?;
    shared.app.chain_invite(&chain, &request).await.map(Json)
}

async fn invitations(
    State(shared): State<Shared>,
    Path(chain): Path<String>,
) -> Result<Json<Vec<view::Invitation>>, Failure> {
    shared.app.chain_invitations(&chain).await.map(Json)
}

async fn revoke(
    State(shared): State<Shared>,
    Path((chain, invitation)): Path<(String, String)>,
) -> Result<Json<view::Invitation>, Failure> {
    shared.app.chain_revoke(&chain, &invitation).await.map(Json)
}

async fn join(
    State(shared): State<Shared>,
    body: Result<Json<view::Join>, JsonRejection>,
) -> Result<Response, Failure> {
    let Json(request) = body?;
    Ok(stream::work(move |progress| async move { shared.app.chain_join(request, progress).await }))
}

async fn heads(State(shared): State<Shared>, Path(chain): Path<String>) -> Result<Json<view::Heads>, Failure> {
    shared.app.chain_heads(&chain).await.map(Json)
}

async fn log(
    State(shared): State<Shared>,
    Path(chain): Path<String>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    let query = view::LogQuery::from_pairs(&pairs).map_err(|error| Failure::usage(error, ""))?;
    shared.app.chain_log(&chain, query).await.map(stream::items)
}

async fn page(
    State(shared): State<Shared>,
    Path(chain): Path<String>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<view::Page>, Failure> {
    let query = view::LogQuery::from_pairs(&pairs).map_err(|error| Failure::usage(error, ""))?;
    shared.app.chain_page(&chain, query).await.map(Json)
}

async fn subscribers(
    State(shared): State<Shared>,
    Path(chain): Path<String>,
) -> Result<Json<Vec<view::Subscriber>>, Failure> {
    shared.app.chain_subscribers(&chain).await.map(Json)
}

async fn unsubscribe(
    State(shared): State<Shared>,
    Path((chain, name)): Path<(String, String)>,
) -> Result<Json<view::Text>, Failure> {
    shared.app.chain_unsubscribe(&chain, &name).await?;
    Ok(Json(view::Text { text: name }))
}

async fn acknowledge(
    State(shared): State<Shared>,
    Path((chain, name)): Path<(String, String)>,
    body: Result<Json<view::Acknowledge>, JsonRejection>,
) -> Result<Json<view::Acknowledge>, Failure> {
    let Json(request) = body?;
    shared.app.chain_acknowledge(&chain, &name, request.clone()).await?;
    Ok(Json(request))
}

async fn add(
    State(shared): State<Shared>,
    Path(chain): Path<String>,
    Query(pairs): Query<Vec<(String, String)>>,
    body: Body,
) -> Result<Json<view::Block>, Failure> {
    shared.app.chain_add(&chain, topics_of(&pairs), shared.uploads.content(body)).await.map(Json)
}

async fn content(
    State(shared): State<Shared>,
    Path((chain, block)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    shared.app.chain_content(&chain, &block, part_of(&headers), only_of(&headers)).await.map(content_answer)
}

async fn progress(
    State(shared): State<Shared>,
    Path((chain, block)): Path<(String, String)>,
) -> Result<Response, Failure> {
    shared.app.chain_progress(&chain, &block).await.map(stream::items)
}

async fn blobs(
    State(shared): State<Shared>,
    Path(chain): Path<String>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    let missing = pairs.iter().any(|(name, value)| name == "missing" && value == "true");
    shared.app.chain_blobs(&chain, missing).map(stream::items)
}

async fn fetch(
    State(shared): State<Shared>,
    Path(chain): Path<String>,
    body: Result<Json<view::SetFetch>, JsonRejection>,
) -> Result<Json<view::ChainFetch>, Failure> {
    let Json(request) = body?;
    shared.app.chain_fetch(&chain, &request.fetch).await.map(Json)
}
