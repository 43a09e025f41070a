//! `/v1/identities/{identity}/private/{layer}/…`: forgetting.

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};

use super::Shared;
use crate::failure::Failure;
use crate::view;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/identities/{identity}/private/{layer}/blocks/{block}/forget", post(forget))
        .route("/identities/{identity}/private/{layer}/proposals", get(proposals))
        .route("/identities/{identity}/private/{layer}/proposals/{proposal}/consent", post(consent))
        .route("/identities/{identity}/private/{layer}/proposals/{proposal}/refuse", post(refuse))
}

async fn forget(
    State(shared): State<Shared>,
    Path((identity, layer, block)): Path<(String, String, String)>,
    body: Result<Json<view::Forget>, JsonRejection>,
) -> Result<Json<view::Forgetting>, Failure> {
    let Json(request) = body?;
    shared.app.private_forget(&identity, &layer, &block, &request).await.map(Json)
}

async fn proposals(
    State(shared): State<Shared>,
    Path((identity, layer)): Path<(String, String)>,
) -> Result<Json<Vec<view::Proposal>>, Failure> {
    shared.app.private_proposals(&identity, &layer).await.map(Json)
}

async fn consent(
    State(shared): State<Shared>,
    Path((identity, layer, proposal)): Path<(String, String, String)>,
) -> Result<Json<view::Proposal>, Failure> {
    shared.app.private_vote(&identity, &layer, &proposal, true).await.map(Json)
}

async fn refuse(
    State(shared): State<Shared>,
    Path((identity, layer, proposal)): Path<(String, String, String)>,
) -> Result<Json<view::Proposal>, Failure> {
    shared.app.private_vote(&identity, &layer, &proposal, false).await.map(Json)
}
