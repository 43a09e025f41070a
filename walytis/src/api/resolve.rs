//! `/v1/resolve`, `/v1/identities/ID/card`.

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};

use super::Shared;
use crate::failure::Failure;
use crate::view;

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/identities/{identity}/card", get(card)).route("/resolve", post(resolve))
}

async fn card(State(shared): State<Shared>, Path(identity): Path<String>) -> Result<Json<view::Contact>, Failure> {
    shared.app.identity_card(&identity).await.map(Json)
}

async fn resolve(
    State(shared): State<Shared>,
    body: Result<Json<view::Resolve>, JsonRejection>,
) -> Result<Json<view::Resolved>, Failure> {
    let Json(request) = body?;
    shared.app.resolve(&request).await.map(Json)
}
