//! The local HTTP API: everything that the command line does goes through it.
//!
//! JSON under `/v1`, a bearer token, streams as Server-Sent Events, content as raw bodies, errors as problem details
//! (RFC 9457). `docs/cli.md` lists the routes.

mod chains;
mod changes;
mod content;
mod forget;
mod guard;
mod identities;
mod inbox;
mod node;
mod offchain;
mod problem;
mod resolve;
mod stream;
mod transfer;
mod upload;
mod vault;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;

pub use guard::{Guard, Token};
pub(crate) use problem::Problem;
pub(crate) use transfer::COUNTS;

use crate::app::App;

/// Most bytes of a JSON request. Chosen: far above any that makes sense.
const JSON_BODY_MAX: usize = 64 * 1024;
/// Most bytes of a message to be signed, sealed, opened or verified, which is held in memory.
pub const MESSAGE_MAX: usize = 16 * 1024 * 1024;

/// What every handler shares.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    app: Arc<App>,
    uploads: upload::Uploads,
}

/// Returns the routes over `app`, behind `guard`.
pub fn router(app: Arc<App>, guard: Guard) -> Router {
    Router::new()
        .nest(
            "/v1",
            node::routes()
                .merge(vault::routes())
                .merge(chains::routes())
                .merge(changes::routes())
                .merge(transfer::routes())
                .merge(identities::routes())
                .merge(resolve::routes())
                .merge(offchain::routes())
                .merge(forget::routes())
                .merge(inbox::routes()),
        )
        .fallback(problem::no_route)
        .layer(DefaultBodyLimit::max(JSON_BODY_MAX))
        .layer(middleware::from_fn_with_state(Arc::new(guard), guard::check))
        .with_state(Shared { app, uploads: upload::Uploads::default() })
}
