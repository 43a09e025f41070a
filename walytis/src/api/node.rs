//! `/v1/status`, `/v1/doctor`, `/v1/peers`.

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::routing::{get, post};
use axum::{Json, Router};

use super::Shared;
use crate::failure::Failure;
use crate::view;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/status", get(status))
        .route("/peers", get(peers))
        .route("/peers/connect", post(connect))
        .route("/doctor", get(doctor))
}

async fn status(State(shared): State<Shared>) -> Result<Json<view::Status>, Failure> {
    shared.app.status().await.map(Json)
}

async fn doctor(State(shared): State<Shared>) -> Result<Json<Vec<view::Check>>, Failure> {
    shared.app.doctor().await.map(Json)
}

async fn peers(State(shared): State<Shared>) -> Result<Json<Vec<view::Peer>>, Failure> {
    shared.app.peers().await.map(Json)
}

async fn connect(
    State(shared): State<Shared>,
    body: Result<Json<view::Connect>, JsonRejection>,
) -> Result<Json<view::Text>, Failure> {
    let Json(request) = body?;
    shared.app.connect(&request.address).await.map(|peer| Json(view::Text { text: peer }))
}
