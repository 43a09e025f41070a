//! Errors as problem details (RFC 9457).

use axum::Json;
use axum::extract::rejection::{BytesRejection, JsonRejection};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Kind};

/// The body of every error answer: RFC 9457 members, and the failure's own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Problem {
    #[serde(rename = "type")]
    type_uri: String,
    title: String,
    status: u16,
    detail: String,
    kind: Kind,
    #[serde(default)]
    hint: String,
}

impl From<&Failure> for Problem {
    fn from(failure: &Failure) -> Self {
        Self {
            type_uri: "about:blank".into(),
            title: StatusCode::from_u16(failure.kind.status())
                .ok()
                .and_then(|status| status.canonical_reason())
                .unwrap_or("Error")
                .into(),
            status: failure.kind.status(),
            detail: failure.message.clone(),
            kind: failure.kind,
            hint: failure.hint.clone(),
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self { kind: problem.kind, message: problem.detail, hint: problem.hint }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = Json(Problem::from(&self));
        (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
    }
}

impl From<JsonRejection> for Failure {
    fn from(rejection: JsonRejection) -> Self {
        Self::usage(rejection.body_text(), "see the list of routes in docs/cli.md")
    }
}

impl From<BytesRejection> for Failure {
    fn from(rejection: BytesRejection) -> Self {
        Self::usage(rejection.body_text(), "large content is added as a block, not as a message")
    }
}

/// Answers a route that does not exist.
pub(crate) async fn no_route() -> Failure {
    Failure::not_found("no such route", "the API lives under /v1; see docs/cli.md")
}
