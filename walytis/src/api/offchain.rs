//! `/v1/identities/{identity}/private/{layer}`: private content.

use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{delete, get, post};
use axum::{Json, Router};

use super::Shared;
use super::content::{content_answer, only_of, part_of};
use super::stream;
use crate::failure::Failure;
use crate::view;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/identities/{identity}/chains", get(bound).post(bind))
        .route("/identities/{identity}/private/{layer}/pages", get(page))
        .route("/identities/{identity}/private/{layer}/subscribers", get(subscribers))
        .route("/identities/{identity}/private/{layer}/subscribers/{name}", delete(unsubscribe))
        .route("/identities/{identity}/private/{layer}/subscribers/{name}/ack", post(acknowledge))
        .route("/identities/{identity}/private/{layer}/blocks", get(log).post(add).layer(DefaultBodyLimit::disable()))
        .route("/identities/{identity}/private/{layer}/blocks/{block}/content", get(content))
        .route("/identities/{identity}/private/{layer}/blocks/{block}/authorship", get(show))
        .route("/identities/{identity}/private/{layer}/status", get(status))
        .route("/identities/{identity}/private/{layer}/progress", get(progress))
}

async fn bound(State(shared): State<Shared>, Path(identity): Path<String>) -> Result<Json<Vec<view::Bound>>, Failure> {
    shared.app.bound_list(&identity).await.map(Json)
}

async fn bind(
    State(shared): State<Shared>,
    Path(identity): Path<String>,
    body: Result<Json<view::CreateBound>, JsonRejection>,
) -> Result<Json<view::Bound>, Failure> {
    let Json(request) = body?;
    shared.app.bound_create(&identity, &request).await.map(Json)
}

async fn log(
    State(shared): State<Shared>,
    Path((identity, layer)): Path<(String, String)>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    let query = view::LogQuery::from_pairs(&pairs).map_err(|error| Failure::usage(error, ""))?;
    shared.app.private_log(&identity, &layer, query).await.map(stream::items)
}

async fn page(
    State(shared): State<Shared>,
    Path((identity, layer)): Path<(String, String)>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<view::Page>, Failure> {
    let query = view::LogQuery::from_pairs(&pairs).map_err(|error| Failure::usage(error, ""))?;
    shared.app.private_page(&identity, &layer, query).await.map(Json)
}

async fn subscribers(
    State(shared): State<Shared>,
    Path((identity, layer)): Path<(String, String)>,
) -> Result<Json<Vec<view::Subscriber>>, Failure> {
    shared.app.private_subscribers(&identity, &layer).await.map(Json)
}

async fn unsubscribe(
    State(shared): State<Shared>,
    Path((identity, layer, name)): Path<(String, String, String)>,
) -> Result<Json<view::Text>, Failure> {
    shared.app.private_unsubscribe(&identity, &layer, &name).await?;
    Ok(Json(view::Text { text: name }))
}

async fn acknowledge(
    State(shared): State<Shared>,
    Path((identity, layer, name)): Path<(String, String, String)>,
    body: Result<Json<view::Acknowledge>, JsonRejection>,
) -> Result<Json<view::Acknowledge>, Failure> {
    let Json(request) = body?;
    shared.app.private_acknowledge(&identity, &layer, &name, request.clone()).await?;
    Ok(Json(request))
}

async fn add(
    State(shared): State<Shared>,
    Path((identity, layer)): Path<(String, String)>,
    Query(pairs): Query<Vec<(String, String)>>,
    body: Body,
) -> Result<Json<view::Block>, Failure> {
    let rule = rule_of(&pairs)?;
    let content = shared.uploads.content(body);
    shared.app.private_add_under(&identity, &layer, topics_of(&pairs), &rule, content).await.map(Json)
}

async fn content(
    State(shared): State<Shared>,
    Path((identity, layer, block)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    shared
        .app
        .private_content(&identity, &layer, &block, part_of(&headers), only_of(&headers))
        .await
        .map(content_answer)
}

async fn show(
    State(shared): State<Shared>,
    Path((identity, layer, block)): Path<(String, String, String)>,
) -> Result<Json<view::PrivateBlock>, Failure> {
    shared.app.private_show(&identity, &layer, &block).await.map(Json)
}

async fn status(
    State(shared): State<Shared>,
    Path((identity, layer)): Path<(String, String)>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Vec<view::ContentStatus>>, Failure> {
    let block = pairs.iter().find(|(name, _)| name == "block").map(|(_, value)| value.as_str());
    shared.app.private_status(&identity, &layer, block).await.map(Json)
}

async fn progress(
    State(shared): State<Shared>,
    Path((identity, layer)): Path<(String, String)>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    let block = pairs.iter().find(|(name, _)| name == "block").map(|(_, value)| value.as_str());
    shared.app.private_progress(&identity, &layer, block).await.map(stream::items)
}

/// Returns the rule about forgetting in an URL query.
fn rule_of(pairs: &[(String, String)]) -> Result<view::ForgetRule, Failure> {
    let value = |wanted: &str| pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let expires_s = value("expires_s").map(|text| text.parse());
    let expires_s = expires_s.transpose().map_err(|error| Failure::usage(error, "expires_s is a number of seconds"))?;
    Ok(view::ForgetRule { forget_by: value("forget_by"), expires_s })
}

/// Returns the topics in an URL query.
pub(super) fn topics_of(pairs: &[(String, String)]) -> Vec<String> {
    pairs.iter().filter(|(name, _)| name == "topic").map(|(_, value)| value.clone()).collect()
}
