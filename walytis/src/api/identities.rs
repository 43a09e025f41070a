//! `/v1/identities`, `/v1/verify`, `/v1/seal`.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, JsonRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::response::Response;
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};

use super::{MESSAGE_MAX, Shared, stream};
use crate::failure::Failure;
use crate::view;

pub(super) fn routes() -> Router<Shared> {
    let message = DefaultBodyLimit::max(MESSAGE_MAX);
    Router::new()
        .route("/identities", post(create).get(list))
        .route("/identities/join", post(join))
        .route("/identities/{identity}", get(show))
        .route("/identities/{identity}/invitations", post(invite).get(invitations))
        .route("/identities/{identity}/invitations/{invitation}", delete(revoke))
        .route("/identities/{identity}/controllers", get(controllers))
        .route("/identities/{identity}/memberships", get(memberships))
        .route("/identities/{identity}/archive", post(archive))
        .route("/identities/{identity}/controllers/{controller}", delete(remove).put(set_role))
        .route("/identities/{identity}/services", put(set_services))
        .route("/identities/{identity}/deactivate", post(deactivate))
        .route("/identities/{identity}/renew-keys", post(renew_keys))
        .route("/identities/recover", post(recover))
        .route("/identities/{identity}/epochs", get(epochs))
        .route("/identities/{identity}/rekey", post(rekey))
        .route("/identities/{identity}/leave", post(leave))
        .route("/identities/{identity}/sign", post(sign).layer(message))
        .route("/identities/{identity}/open", post(open).layer(message))
        .route("/verify", post(verify).layer(message))
        .route("/seal", post(seal).layer(message))
}

async fn create(
    State(shared): State<Shared>,
    body: Result<Json<view::CreateIdentity>, JsonRejection>,
) -> Result<Json<view::Identity>, Failure> {
    let Json(request) = body?;
    shared.app.identity_create(&request).await.map(Json)
}

async fn list(State(shared): State<Shared>) -> Result<Json<Vec<view::Identity>>, Failure> {
    shared.app.identity_list().await.map(Json)
}

async fn show(
    State(shared): State<Shared>,
    Path(identity): Path<String>,
) -> Result<Json<view::IdentityDetail>, Failure> {
    shared.app.identity_show(&identity).await.map(Json)
}

async fn invite(
    State(shared): State<Shared>,
    Path(identity): Path<String>,
    body: Result<Json<view::CreateInvitation>, JsonRejection>,
) -> Result<Json<view::Invitation>, Failure> {
    let Json(request) = body?;
    shared.app.identity_invite(&identity, &request).await.map(Json)
}

async fn invitations(
    State(shared): State<Shared>,
    Path(identity): Path<String>,
) -> Result<Json<Vec<view::Invitation>>, Failure> {
    shared.app.identity_invitations(&identity).await.map(Json)
}

async fn revoke(
    State(shared): State<Shared>,
    Path((identity, invitation)): Path<(String, String)>,
) -> Result<Json<view::OpDone>, Failure> {
    shared.app.identity_revoke(&identity, &invitation).await.map(Json)
}

async fn join(
    State(shared): State<Shared>,
    body: Result<Json<view::Join>, JsonRejection>,
) -> Result<Response, Failure> {
    let Json(request) = body?;
    Ok(stream::work(move |progress| async move { shared.app.identity_join(request, progress).await }))
}

async fn controllers(
    State(shared): State<Shared>,
    Path(identity): Path<String>,
) -> Result<Json<Vec<view::Controller>>, Failure> {
    shared.app.identity_show(&identity).await.map(|detail| Json(detail.controllers))
}

async fn memberships(
    State(shared): State<Shared>,
    Path(identity): Path<String>,
) -> Result<Json<Vec<view::Membership>>, Failure> {
    shared.app.identity_memberships(&identity).await.map(Json)
}

async fn archive(
    State(shared): State<Shared>,
    Path(identity): Path<String>,
    body: Result<Json<view::Archive>, JsonRejection>,
) -> Result<Json<view::Membership>, Failure> {
    let Json(request) = body?;
    shared.app.identity_archive(&identity, request.archived).await.map(Json)
}

async fn epochs(State(shared): State<Shared>, Path(identity): Path<String>) -> Result<Json<Vec<view::Epoch>>, Failure> {
    shared.app.identity_epochs(&identity).await.map(Json)
}

async fn remove(
    State(shared): State<Shared>,
    Path((identity, controller)): Path<(String, String)>,
) -> Result<Json<view::OpDone>, Failure> {
    shared.app.identity_remove(&identity, &controller).await.map(Json)
}

async fn set_role(
    State(shared): State<Shared>,
    Path((identity, controller)): Path<(String, String)>,
    body: Result<Json<view::SetRole>, JsonRejection>,
) -> Result<Json<view::OpDone>, Failure> {
    let Json(request) = body?;
    shared.app.identity_role(&identity, &controller, &request.role).await.map(Json)
}

async fn set_services(
    State(shared): State<Shared>,
    Path(identity): Path<String>,
    body: Result<Json<view::SetServices>, JsonRejection>,
) -> Result<Json<view::OpDone>, Failure> {
    let Json(request) = body?;
    shared.app.identity_services(&identity, request.services).await.map(Json)
}

async fn deactivate(State(shared): State<Shared>, Path(identity): Path<String>) -> Result<Json<view::OpDone>, Failure> {
    shared.app.identity_deactivate(&identity).await.map(Json)
}

async fn renew_keys(State(shared): State<Shared>, Path(identity): Path<String>) -> Result<Json<view::OpDone>, Failure> {
    shared.app.identity_renew_keys(&identity).await.map(Json)
}

async fn recover(
    State(shared): State<Shared>,
    body: Result<Json<view::Recover>, JsonRejection>,
) -> Result<Json<view::Recovered>, Failure> {
    let Json(request) = body?;
    shared.app.identity_recover(request).await.map(Json)
}

async fn rekey(State(shared): State<Shared>, Path(identity): Path<String>) -> Result<Json<view::OpDone>, Failure> {
    shared.app.identity_rekey(&identity).await.map(Json)
}

async fn leave(State(shared): State<Shared>, Path(identity): Path<String>) -> Result<Json<view::OpDone>, Failure> {
    shared.app.identity_leave(&identity).await.map(Json)
}

async fn sign(
    State(shared): State<Shared>,
    Path(identity): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<view::Text>, Failure> {
    shared.app.identity_sign(&identity, &body?).await.map(Json)
}

async fn open(
    State(shared): State<Shared>,
    Path(identity): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<view::Opened>, Failure> {
    shared.app.identity_open(&identity, &body?).await.map(Json)
}

async fn verify(
    State(shared): State<Shared>,
    Query(pairs): Query<Vec<(String, String)>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<view::Verified>, Failure> {
    let signature = parameter(&pairs, "signature")?;
    let did = pairs.iter().find(|(name, _)| name == "did").map(|(_, value)| value.as_str());
    shared.app.verify(did, &signature, &body?).await.map(Json)
}

async fn seal(
    State(shared): State<Shared>,
    Query(pairs): Query<Vec<(String, String)>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<view::Text>, Failure> {
    let did = parameter(&pairs, "did")?;
    shared.app.seal(&did, &body?).await.map(Json)
}

fn parameter(pairs: &[(String, String)], name: &str) -> Result<String, Failure> {
    let found = pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    found.ok_or_else(|| Failure::usage(format!("parameter {name} is missing"), "see docs/cli.md"))
}
