//! Streams of values as Server-Sent Events: `item` (and `progress`) events, then one `end` or `error`.

use std::convert::Infallible;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{Stream, StreamExt as _};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::problem::Problem;
use crate::failure::Failure;

/// Progress reports that may wait for a slow reader; more are dropped, the last state counts.
pub(crate) const PROGRESS_QUEUE: usize = 16;

fn event<T: Serialize>(name: &str, value: &T) -> Event {
    let plain = Event::default().event(name);
    plain.json_data(value).unwrap_or_else(|_| Event::default().event("error").data("{}"))
}

fn item_or_error<T: Serialize>(item: Result<T, Failure>) -> Event {
    match item {
        Ok(value) => event("item", &value),
        Err(failure) => event("error", &Problem::from(&failure)),
    }
}

/// Answers with the items of a stream; the first error ends it.
pub(crate) fn items<T: Serialize + Send + 'static>(
    stream: impl Stream<Item = Result<T, Failure>> + Send + 'static,
) -> Response {
    let mut failed = false;
    let events = stream
        .take_while(move |item| {
            let before = failed;
            failed |= item.is_err();
            futures::future::ready(!before)
        })
        .map(item_or_error)
        .chain(futures::stream::once(futures::future::ready(Event::default().event("end").data("{}"))))
        .map(Ok::<_, Infallible>);
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}

/// Answers with the progress of some work and then its result. The work ends with the connection.
pub(crate) fn work<P, T, F, W>(start: F) -> Response
where
    P: Serialize + Send + 'static,
    T: Serialize + Send + 'static,
    F: FnOnce(mpsc::Sender<P>) -> W,
    W: Future<Output = Result<T, Failure>> + Send + 'static,
{
    let (progress, reports) = mpsc::channel(PROGRESS_QUEUE);
    let work = AbortOnDropHandle::new(tokio::spawn(start(progress)));
    let reports = futures::stream::unfold(reports, |mut reports| async move {
        reports.recv().await.map(|report| (event("progress", &report), reports))
    });
    let result = futures::stream::once(async move {
        match work.await {
            Ok(result) => item_or_error(result),
            Err(_) => event("error", &Problem::from(&Failure::new(crate::failure::Kind::Failed, "the work ended", ""))),
        }
    });
    let end = futures::stream::once(futures::future::ready(Event::default().event("end").data("{}")));
    Sse::new(reports.chain(result).chain(end).map(Ok::<_, Infallible>)).keep_alive(KeepAlive::default()).into_response()
}
