//! Who may call the API: holders of the token, from programs on this machine; never a web page.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;
use walytis_core::clock::Entropy;
use walytis_core::secret::Secret;

use crate::failure::{Failure, Kind};

/// Requests answered at once; further ones wait. Chosen: far above what one user does.
const REQUESTS_MAX: usize = 128;

/// The bearer token of one run of the daemon: 32 random bytes.
#[derive(Clone)]
pub struct Token(Secret<32>);

impl Token {
    /// Returns a new token.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0; 32];
        entropy.fill(&mut bytes);
        Self(Secret::new(bytes))
    }

    /// Returns the text that goes behind `Bearer`.
    pub fn text(&self) -> String {
        self.0.expose().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn matches(&self, presented: &str) -> bool {
        self.text().as_bytes().ct_eq(presented.as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Checks every request.
#[derive(Debug)]
pub struct Guard {
    token: Token,
    /// Where the API listens; nothing for calls within the process.
    address: Option<SocketAddr>,
    requests: Arc<Semaphore>,
}

impl Guard {
    /// Returns a guard for an API that listens at `address`, or, without one, is called within the process.
    pub fn new(token: Token, address: Option<SocketAddr>) -> Self {
        Self { token, address, requests: Arc::new(Semaphore::new(REQUESTS_MAX)) }
    }

    fn judge(&self, request: &Request) -> Result<(), Failure> {
        let refused = |message: &str, hint: &str| Failure::new(Kind::Refused, message, hint);
        let text = |name| request.headers().get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
        // A page in a browser sends its origin; none has business here, and DNS rebinding shows in the host.
        if request.headers().contains_key(header::ORIGIN) {
            return Err(refused("requests from web pages are refused", "call the API from a program"));
        }
        if let Some(address) = self.address {
            let port = address.port();
            let own = [address.to_string(), format!("localhost:{port}"), format!("127.0.0.1:{port}")];
            if !text(header::HOST).is_some_and(|host| own.iter().any(|name| name == host)) {
                return Err(refused("the Host header is not this API's address", "use the URL in api.json"));
            }
        }
        let presented = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        if !presented.is_some_and(|presented| self.token.matches(presented)) {
            return Err(refused("the bearer token is missing or wrong", "use the token in the data folder's api.json"));
        }
        Ok(())
    }
}

/// Lets a request pass, or answers it.
pub(crate) async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Result<Response, Failure> {
    guard.judge(&request)?;
    let closed = |_| Failure::new(Kind::Failed, "the API is shutting down", "");
    // Held until the head of the answer; bodies stream on their own.
    let _permit = Arc::clone(&guard.requests).acquire_owned().await.map_err(closed)?;
    Ok(next.run(request).await)
}
