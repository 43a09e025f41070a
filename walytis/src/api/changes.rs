//! `…/blocks/{block}`, `…/rights`: changing blocks, the same below chains and below private ledgers.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Query, State};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};

use super::Shared;
use super::content::{content_answer, part_of};
use super::offchain::topics_of;
use crate::app::LedgerName;
use crate::failure::Failure;
use crate::view;

pub(super) fn routes() -> Router<Shared> {
    let mut router = Router::new();
    for ledger in ["/chains/{chain}", "/identities/{identity}/private/{layer}"] {
        let route = |rest: &str| format!("{ledger}{rest}");
        router = router
            .route(&route("/rights"), get(policy).put(set_policy))
            .route(&route("/blocks/{block}"), get(show).delete(delete))
            .route(&route("/blocks/{block}/restore"), post(restore))
            .route(&route("/blocks/{block}/conflicts"), get(conflicts))
            .route(&route("/blocks/{block}/versions"), get(versions).post(edit).layer(DefaultBodyLimit::disable()))
            .route(&route("/blocks/{block}/versions/{version}/content"), get(content));
    }
    router
}

/// What the path of a route names.
struct Named {
    ledger: LedgerName,
    path: BTreeMap<String, String>,
}

impl Named {
    fn text(&self, name: &str) -> &str {
        self.path.get(name).map_or("", String::as_str)
    }

    fn block(&self) -> &str {
        self.text("block")
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = Path::<BTreeMap<String, String>>::from_request_parts(parts, state).await;
        let Path(mut path) = path.map_err(|error| Failure::usage(error.body_text(), ""))?;
        let mut take = |name: &str| path.remove(name);
        let ledger = match (take("chain"), take("identity"), take("layer")) {
            (Some(chain), _, _) => LedgerName::Chain(chain),
            (None, identity, layer) => {
                LedgerName::Private { identity: identity.unwrap_or_default(), layer: layer.unwrap_or_default() }
            }
        };
        Ok(Self { ledger, path })
    }
}

type Pairs = Query<Vec<(String, String)>>;

fn is_set(pairs: &[(String, String)], name: &str) -> bool {
    pairs.iter().any(|(found, value)| found == name && value == "true")
}

async fn show(State(shared): State<Shared>, named: Named) -> Result<Json<view::Block>, Failure> {
    shared.app.block_show(&named.ledger, named.block()).await.map(Json)
}

async fn edit(
    State(shared): State<Shared>,
    named: Named,
    Query(pairs): Pairs,
    body: Body,
) -> Result<Json<view::Block>, Failure> {
    let topics = topics_of(&pairs);
    let topics = (!topics.is_empty() || is_set(&pairs, "no_topics")).then_some(topics);
    shared.app.block_edit(&named.ledger, named.block(), topics, shared.uploads.content(body)).await.map(Json)
}

async fn delete(State(shared): State<Shared>, named: Named, Query(pairs): Pairs) -> Result<Response, Failure> {
    if is_set(&pairs, "erase") {
        let erased = shared.app.block_erase(&named.ledger, named.block()).await?;
        return Ok(Json(erased).into_response());
    }
    Ok(Json(shared.app.block_delete(&named.ledger, named.block()).await?).into_response())
}

async fn restore(
    State(shared): State<Shared>,
    named: Named,
    body: Result<Json<view::Restore>, JsonRejection>,
) -> Result<Json<view::Block>, Failure> {
    let Json(request) = body?;
    shared.app.block_restore(&named.ledger, named.block(), &request.version).await.map(Json)
}

async fn versions(State(shared): State<Shared>, named: Named) -> Result<Json<Vec<view::Version>>, Failure> {
    shared.app.block_versions(&named.ledger, named.block()).await.map(Json)
}

async fn conflicts(State(shared): State<Shared>, named: Named) -> Result<Json<Vec<view::Version>>, Failure> {
    shared.app.block_conflicts(&named.ledger, named.block()).await.map(Json)
}

async fn content(State(shared): State<Shared>, named: Named, headers: HeaderMap) -> Result<Response, Failure> {
    // A version never changes, so whatever `If-Range` names is still the same.
    let opened =
        shared.app.block_content_at(&named.ledger, named.block(), named.text("version"), part_of(&headers)).await?;
    Ok(content_answer(opened))
}

async fn policy(State(shared): State<Shared>, named: Named) -> Result<Json<view::Policy>, Failure> {
    shared.app.policy(&named.ledger).await.map(Json)
}

async fn set_policy(
    State(shared): State<Shared>,
    named: Named,
    body: Result<Json<view::Policy>, JsonRejection>,
) -> Result<Json<view::Policy>, Failure> {
    let Json(request) = body?;
    shared.app.set_policy(&named.ledger, &request).await.map(Json)
}
