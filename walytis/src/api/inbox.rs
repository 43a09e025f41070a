//! `/v1/messages`, `/v1/outbox`, `/v1/identities/{identity}/inbox`.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, JsonRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::response::Response;
use axum::routing::{delete, get, post};
use axum::{Json, Router};

use super::{MESSAGE_MAX, Shared, stream};
use crate::failure::Failure;
use crate::view;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/messages", post(send).layer(DefaultBodyLimit::max(MESSAGE_MAX)))
        .route("/outbox", get(outbox))
        .route("/outbox/{message}", delete(discard))
        .route("/identities/{identity}/inbox", get(messages))
        .route("/identities/{identity}/inbox/senders", get(senders).post(change_senders))
}

fn value<'a>(pairs: &'a [(String, String)], wanted: &str) -> Option<&'a str> {
    pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
}

async fn send(
    State(shared): State<Shared>,
    Query(pairs): Query<Vec<(String, String)>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<view::Sent>, Failure> {
    let message = body?;
    let to = value(&pairs, "to").ok_or_else(|| Failure::usage("to whom?", "give to=DID or a contact card"))?;
    shared.app.send(to, value(&pairs, "as"), &message).await.map(Json)
}

async fn outbox(State(shared): State<Shared>) -> Result<Json<Vec<view::Outgoing>>, Failure> {
    shared.app.outbox().await.map(Json)
}

async fn discard(State(shared): State<Shared>, Path(message): Path<String>) -> Result<Json<view::Text>, Failure> {
    shared.app.discard(&message).await.map(Json)
}

async fn messages(
    State(shared): State<Shared>,
    Path(identity): Path<String>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    let set = |name: &str| value(&pairs, name).is_some_and(|value| value != "false");
    shared.app.messages(&identity, set("follow"), set("peek")).await.map(stream::items)
}

async fn senders(State(shared): State<Shared>, Path(identity): Path<String>) -> Result<Json<view::Senders>, Failure> {
    shared.app.senders(&identity, None).await.map(Json)
}

async fn change_senders(
    State(shared): State<Shared>,
    Path(identity): Path<String>,
    body: Result<Json<view::SenderChange>, JsonRejection>,
) -> Result<Json<view::Senders>, Failure> {
    let Json(change) = body?;
    shared.app.senders(&identity, Some(&change)).await.map(Json)
}
