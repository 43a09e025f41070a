//! Contents as answers: whole, or the part that a `Range` header names (RFC 9110 §14).

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::TryStreamExt as _;
use tokio_util::io::ReaderStream;

use super::problem::Problem;
use crate::app::{ByteRange, OpenContent, Opened};
use crate::failure::Failure;

/// Bytes read from content at once. Chosen: large enough to make calls cheap, small enough for many readers.
const READ_BYTES: usize = 256 * 1024;

/// Returns the part that a request for the content of `block` wants: its one range, unless it is meant for something else.
pub(super) fn part_of(headers: &HeaderMap) -> Option<ByteRange> {
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    ByteRange::from_header(text(header::RANGE)?)
}

/// Returns the name of the only content of which a part is wanted, if `If-Range` gives one.
pub(super) fn only_of(headers: &HeaderMap) -> Option<&str> {
    let wanted = headers.get(header::IF_RANGE)?;
    // What is no name of ours is never the content's name.
    Some(wanted.to_str().unwrap_or_default().trim_matches('"'))
}

/// Answers with content, streamed.
pub(super) fn content_answer(opened: Opened) -> Response {
    match opened {
        Opened::Content(content) => stream(content),
        Opened::OutOfRange { size } => {
            let failure = Failure::usage(format!("the content has {size} bytes"), "ask for a part that there is");
            let headers = [
                (header::CONTENT_RANGE, format!("bytes */{size}")),
                (header::CONTENT_TYPE, "application/problem+json".to_owned()),
            ];
            (StatusCode::RANGE_NOT_SATISFIABLE, headers, Json(Problem::from(&failure))).into_response()
        }
    }
}

fn stream(content: OpenContent) -> Response {
    let OpenContent { id, size, part, reader } = content;
    let len = part.as_ref().map_or(size, |part| part.end - part.start);
    let mut headers = HeaderMap::new();
    let mut put = |name, value: String| {
        // Numbers and ids are always good header values.
        if let Ok(value) = value.try_into() {
            headers.insert(name, value);
        }
    };
    put(header::CONTENT_TYPE, "application/octet-stream".to_owned());
    put(header::CONTENT_LENGTH, len.to_string());
    put(header::ACCEPT_RANGES, "bytes".to_owned());
    put(header::ETAG, format!("\"{id}\""));
    let status = match part {
        None => StatusCode::OK,
        Some(part) => {
            put(header::CONTENT_RANGE, format!("bytes {}-{}/{size}", part.start, part.end.saturating_sub(1)));
            StatusCode::PARTIAL_CONTENT
        }
    };
    let bytes = ReaderStream::with_capacity(reader, READ_BYTES)
        // The client sees only that the body broke off.
        .inspect_err(move |error| tracing::warn!(block = %id, %error, "content broke off"));
    (status, headers, Body::from_stream(bytes)).into_response()
}
