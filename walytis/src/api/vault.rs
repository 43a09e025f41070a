//! `/v1/vault`, `/v1/backup`: whether the key vault is locked, how it opens; everything as one sealed stream.

use axum::body::Body;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::header;

use super::Shared;
use crate::failure::Failure;
use crate::view;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/vault", get(state))
        .route("/vault/lock", post(lock))
        .route("/vault/unlock", post(unlock))
        .route("/vault/passphrase", post(passphrase))
        .route("/vault/recovery-code", post(recovery_code))
        .route("/backup", post(backup))
}

async fn state(State(shared): State<Shared>) -> Result<Json<view::Vault>, Failure> {
    shared.app.vault().await.map(Json)
}

async fn lock(State(shared): State<Shared>) -> Result<Json<view::Vault>, Failure> {
    shared.app.lock().await.map(Json)
}

async fn unlock(
    State(shared): State<Shared>,
    body: Result<Json<view::UnlockProof>, JsonRejection>,
) -> Result<Json<view::Vault>, Failure> {
    let Json(proof) = body?;
    shared.app.unlock(proof).await.map(Json)
}

async fn passphrase(
    State(shared): State<Shared>,
    body: Result<Json<view::PassphraseChange>, JsonRejection>,
) -> Result<Json<view::Vault>, Failure> {
    let Json(change) = body?;
    shared.app.change_passphrase(change).await.map(Json)
}

async fn recovery_code(
    State(shared): State<Shared>,
    body: Result<Json<view::UnlockProof>, JsonRejection>,
) -> Result<Json<view::VaultCode>, Failure> {
    let Json(proof) = body?;
    shared.app.new_recovery_code(proof).await.map(Json)
}

async fn backup(
    State(shared): State<Shared>,
    body: Result<Json<view::BackupRequest>, JsonRejection>,
) -> Result<Response, Failure> {
    let Json(request) = body?;
    let writing = shared.app.backup(&request).await?;
    let bytes = futures::stream::unfold(writing, async |mut writing| {
        let next = writing.next().await?;
        if let Err(error) = &next {
            // The client sees only that the body broke off.
            tracing::warn!(%error, "a backup broke off");
        }
        Some((next, writing))
    });
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], Body::from_stream(bytes)).into_response())
}
