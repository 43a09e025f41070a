//! Calls the API: of the daemon of this data folder over loopback, or of a node embedded in this process.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt as _;

use crate::api::{Guard, Token};
use crate::app::{App, AppConfig};
use crate::daemon::{ApiFile, DataDirLock, LockError};
use crate::failure::{Failure, Kind};

/// How long a command waits for a data folder that somebody else is just opening or closing. From the manual.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two tries. Chosen: short to a person.
const LOCK_RETRY: Duration = Duration::from_millis(100);
/// Largest answer that is not a stream. Chosen: a long list.
const ANSWER_MAX: usize = 64 * 1024 * 1024;
/// What may stand in a path segment as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// One event of a stream.
#[derive(Debug)]
pub(crate) enum StreamEvent {
    /// A value.
    Item(serde_json::Value),
    /// How far the work is.
    Progress(serde_json::Value),
}

#[derive(Debug)]
enum Transport {
    Daemon { file: ApiFile, authority: String },
    Embedded { node: Box<Embedded> },
}

#[derive(Debug)]
struct Embedded {
    router: Router,
    token: Token,
    app: std::sync::Arc<App>,
    _lock: DataDirLock,
}

/// A connection to the API.
#[derive(Debug)]
pub(crate) struct Client {
    transport: Transport,
    data_dir: PathBuf,
}

impl Client {
    /// Finds the daemon of the data folder, or takes the folder's lock and embeds a node without sockets.
    pub(crate) async fn connect(config: AppConfig) -> Result<Self, Failure> {
        let deadline = tokio::time::Instant::now() + LOCK_PATIENCE;
        loop {
            if let Some(client) = Self::daemon(&config.data_dir).await {
                return Ok(client);
            }
            match DataDirLock::take(&config.data_dir) {
                Ok(lock) => return Self::embed(config, lock).await,
                Err(LockError::Held { .. }) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(LOCK_RETRY).await;
                }
                Err(error) => return Err(error.into_failure()),
            }
        }
    }

    /// Finds the daemon of the data folder.
    pub(crate) async fn daemon(data_dir: &Path) -> Option<Self> {
        let file = ApiFile::read(data_dir)?;
        let authority = file.url.strip_prefix("http://")?.trim_end_matches('/').to_owned();
        let address: std::net::SocketAddr = authority.parse().ok()?;
        // The token goes to this machine only, whatever stands in the file.
        if !address.ip().is_loopback() {
            return None;
        }
        TcpStream::connect(address).await.ok()?;
        Some(Self { transport: Transport::Daemon { file, authority }, data_dir: data_dir.to_owned() })
    }

    async fn embed(config: AppConfig, lock: DataDirLock) -> Result<Self, Failure> {
        let data_dir = config.data_dir.clone();
        let app = std::sync::Arc::new(App::open(config.embedded()).await?);
        let token = Token::generate(app.entropy());
        let router = crate::api::router(std::sync::Arc::clone(&app), Guard::new(token.clone(), None));
        let node = Box::new(Embedded { router, token, app, _lock: lock });
        Ok(Self { transport: Transport::Embedded { node }, data_dir })
    }

    /// Returns the data folder of the node.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Says whether the node runs in this process and so has no connection to others.
    pub(crate) const fn is_embedded(&self) -> bool {
        matches!(self.transport, Transport::Embedded { .. })
    }

    /// Shuts an embedded node down in order.
    pub(crate) async fn close(self) {
        if let Transport::Embedded { node } = self.transport {
            drop(node.router);
            node.app.shutdown().await;
        }
    }

    /// Calls and decodes the answer.
    pub(crate) async fn call<T: DeserializeOwned>(&self, request: ApiRequest) -> Result<T, Failure> {
        let response = self.send(request).await?;
        let body = http_body_util::Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        let bytes = body.map_err(|error| broken(&*error))?.to_bytes();
        serde_json::from_slice(&bytes).map_err(|error| broken(&error))
    }

    /// Calls and hands each event of the answer to `each`.
    pub(crate) async fn stream(
        &self,
        request: ApiRequest,
        each: &mut (dyn FnMut(StreamEvent) -> Result<(), Failure> + Send),
    ) -> Result<(), Failure> {
        let mut events = self.events(request).await?;
        while let Some(event) = events.next().await? {
            each(event)?;
        }
        Ok(())
    }

    /// Calls and returns the events of the answer as they come.
    pub(crate) async fn events(&self, request: ApiRequest) -> Result<Events, Failure> {
        let body = self.send(request).await?.into_body().into_data_stream();
        Ok(Events { body, lines: EventLines::default(), ready: VecDeque::new() })
    }

    /// Calls and returns the answer's body as it comes.
    pub(crate) async fn send(&self, request: ApiRequest) -> Result<Response<Body>, Failure> {
        let response = match &self.transport {
            Transport::Daemon { file, authority } => {
                send_http(request.build(&file.token, authority)?, authority).await?
            }
            Transport::Embedded { node } => {
                let request = request.build(&node.token.text(), "embedded")?;
                let response = node.router.clone().oneshot(request).await;
                response.unwrap_or_else(|never| match never {})
            }
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = http_body_util::Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        let bytes = bytes.map_err(|error| broken(&*error))?.to_bytes();
        if status == http::StatusCode::PAYLOAD_TOO_LARGE {
            return Err(Failure::usage(
                "the request is too large",
                "large content is added as a block, not as a message",
            ));
        }
        Err(failure_of(&bytes))
    }
}

/// The events of an answer.
#[derive(Debug)]
pub(crate) struct Events {
    body: BodyDataStream,
    lines: EventLines,
    ready: VecDeque<(String, String)>,
}

impl Events {
    /// Returns the next event; nothing at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<StreamEvent>, Failure> {
        loop {
            while let Some((name, data)) = self.ready.pop_front() {
                let value = || serde_json::from_str(&data).map_err(|error| broken(&error));
                match name.as_str() {
                    "item" => return Ok(Some(StreamEvent::Item(value()?))),
                    "progress" => return Ok(Some(StreamEvent::Progress(value()?))),
                    "error" => return Err(failure_of(data.as_bytes())),
                    "end" => return Ok(None),
                    _ => {}
                }
            }
            let Some(chunk) = self.body.next().await else {
                return Err(Failure::new(
                    Kind::Failed,
                    "the node stopped before the answer was complete",
                    "is the daemon still running?",
                ));
            };
            self.ready.extend(self.lines.push(&chunk.map_err(|error| broken(&error))?)?);
        }
    }
}

async fn send_http(request: Request<Body>, authority: &str) -> Result<Response<Body>, Failure> {
    let gone = |error: &dyn std::error::Error| {
        Failure::new(
            Kind::Failed,
            format!("the daemon does not answer: {error}"),
            "is it still running? see walytis status",
        )
    };
    let socket = TcpStream::connect(authority).await.map_err(|error| gone(&error))?;
    socket.set_nodelay(true).map_err(|error| gone(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(|error| gone(&error))?;
    let connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let response = sender.send_request(request).await.map_err(|error| gone(&error))?;
    // The connection must live as long as the body that it feeds.
    Ok(response.map(|body| {
        let frames = body.into_data_stream().map(move |chunk| {
            let _alive = &connection;
            chunk
        });
        Body::from_stream(frames)
    }))
}

fn broken(error: &dyn std::error::Error) -> Failure {
    Failure::new(Kind::Failed, format!("the node's answer broke off: {error}"), "is the daemon of the same version?")
}

fn failure_of(bytes: &[u8]) -> Failure {
    serde_json::from_slice::<crate::api::Problem>(bytes).map_or_else(|error| broken(&error), Failure::from)
}

/// A call of the API.
#[derive(Debug)]
pub(crate) struct ApiRequest {
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    range: Option<String>,
    body: Body,
    json: bool,
    /// Whether something that must have a name has none.
    nameless: bool,
}

impl ApiRequest {
    /// Returns a call of `/v1/<segments…>`.
    pub(crate) fn new(method: Method, segments: &[&str]) -> Self {
        let mut path = String::from("/v1");
        for segment in segments {
            path.push('/');
            path.extend(utf8_percent_encode(segment, SEGMENT));
        }
        let nameless = segments.iter().any(|segment| segment.is_empty());
        Self { method, path, query: Vec::new(), range: None, body: Body::empty(), json: false, nameless }
    }

    /// Returns a `GET`.
    pub(crate) fn get(segments: &[&str]) -> Self {
        Self::new(Method::GET, segments)
    }

    /// Returns a `POST`.
    pub(crate) fn post(segments: &[&str]) -> Self {
        Self::new(Method::POST, segments)
    }

    /// Returns a `DELETE`.
    pub(crate) fn put(segments: &[&str]) -> Self {
        Self::new(Method::PUT, segments)
    }

    pub(crate) fn delete(segments: &[&str]) -> Self {
        Self::new(Method::DELETE, segments)
    }

    /// Adds parameters.
    pub(crate) fn query(mut self, pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        self.query.extend(pairs);
        self
    }

    /// Asks for a part of the answer only, as `--range` says it.
    pub(crate) fn range(mut self, range: Option<&str>) -> Result<Self, Failure> {
        if let Some(text) = range {
            if crate::app::ByteRange::parse(text).is_none() {
                return Err(Failure::usage(format!("no range of bytes: {text:?}"), "write A-B, A- or -N, e.g. 0-1023"));
            }
            self.range = Some(format!("bytes={text}"));
        }
        Ok(self)
    }

    /// Sets a JSON body.
    pub(crate) fn json<T: serde::Serialize>(mut self, value: &T) -> Self {
        self.body = Body::from(serde_json::to_vec(value).unwrap_or_default());
        self.json = true;
        self
    }

    /// Sets a raw body.
    pub(crate) fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    fn build(self, token: &str, host: &str) -> Result<Request<Body>, Failure> {
        if self.nameless {
            // Otherwise it would be the route of something else: without a block, that of all blocks.
            return Err(Failure::usage(
                "a chain, identity, block or other thing is named by an empty text",
                "is a variable of the shell not set?",
            ));
        }
        let mut uri = self.path;
        if !self.query.is_empty() {
            let pairs = form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.query).finish();
            uri = format!("{uri}?{pairs}");
        }
        let content_type = if self.json { "application/json" } else { "application/octet-stream" };
        let bad = |error: &dyn std::error::Error| Failure::usage(format!("the request cannot be sent: {error}"), "");
        let token = HeaderValue::try_from(format!("Bearer {token}")).map_err(|error| bad(&error))?;
        let mut request = Request::builder();
        if let Some(range) = &self.range {
            request = request.header(header::RANGE, range);
        }
        request
            .method(self.method)
            .uri(uri)
            .header(header::HOST, host)
            .header(header::AUTHORIZATION, token)
            .header(header::CONTENT_TYPE, content_type)
            .body(self.body)
            .map_err(|error| bad(&error))
    }
}

/// Takes Server-Sent Events apart (WHATWG HTML §9.2.6), as far as this API uses them.
#[derive(Debug, Default)]
struct EventLines {
    buffer: Vec<u8>,
    name: String,
    data: String,
}

impl EventLines {
    fn push(&mut self, chunk: &Bytes) -> Result<Vec<(String, String)>, Failure> {
        self.buffer.extend_from_slice(chunk);
        if self.buffer.len() > ANSWER_MAX {
            return Err(Failure::new(Kind::Failed, "the node's answer is too large", ""));
        }
        let mut events = Vec::new();
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            if line.is_empty() && !self.name.is_empty() {
                events.push((std::mem::take(&mut self.name), std::mem::take(&mut self.data)));
            } else if let Some(name) = line.strip_prefix("event:") {
                name.trim_start().clone_into(&mut self.name);
            } else if let Some(data) = line.strip_prefix("data:") {
                self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            }
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_apart_wherever_the_chunks_are_cut() {
        let text = "event: item\ndata: {\"a\":1}\n\n: alive\n\nevent: end\ndata: {}\n\n";
        for cut in 0..text.len() {
            let mut lines = EventLines::default();
            let mut events = lines.push(&Bytes::copy_from_slice(&text.as_bytes()[..cut])).unwrap();
            events.extend(lines.push(&Bytes::copy_from_slice(&text.as_bytes()[cut..])).unwrap());
            assert_eq!(events, [("item".into(), "{\"a\":1}".into()), ("end".into(), "{}".into())], "cut {cut}");
        }
    }

    #[test]
    fn names_are_escaped_in_paths() {
        let request = ApiRequest::get(&["chains", "a/b ü?"]).build("t", "h").unwrap();
        assert_eq!(request.uri().path(), "/v1/chains/a%2Fb%20%C3%BC%3F");
    }
}
